/* Additions without a search for the same name, for readers that know names to be distinct. */
#ifndef GB_CORE_IO_TENSORS_H
#define GB_CORE_IO_TENSORS_H

#include <gimbal/io.h>

/* *item stays valid until the next addition; its tensor is empty. */
gb_status gb_tensors_append(gb_tensors *list, const char *name, gb_named_tensor **item,
                            gb_error *err);
gb_status gb_tensors_append_metadata(gb_tensors *list, const char *key, const char *value,
                                     gb_error *err);

#endif
