/* What the test programs share. */
#ifndef GB_TESTS_SUPPORT_H
#define GB_TESTS_SUPPORT_H

#include <stddef.h>
#include <stdint.h>

/* The project's "shared" folder beside the checkout, or NULL where there is none. A test that
 * needs it skips then, and says so. */
const char *gb_test_shared_dir(void);
/* Where shared/data is unpacked (done on the first call): a folder with cifar-10-batches-bin, text,
 * … ; NULL, with a line on standard error, where there is no shared folder. Fails the test where
 * there is one that cannot be unpacked. */
const char *gb_test_data_dir(void);

/* A new empty directory that gb_test_remove_dir deletes with all its files. */
char *gb_test_make_dir(void);
void gb_test_remove_dir(char *dir);
/* dir/name, valid until the fourth call after this one. */
const char *gb_test_path(const char *dir, const char *name);
void gb_test_write(const char *path, const void *data, size_t size);
/* Entries of a directory, to see that no temporary file is left. */
int gb_test_count_files(const char *dir);

/* From here on files are limited to size bytes: writing beyond fails as on a full disk. */
void gb_test_limit_files(size_t size);
void gb_test_unlimit_files(void);

#endif
