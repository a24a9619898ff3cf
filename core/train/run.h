/* The run folder from inside. */
#ifndef GB_CORE_TRAIN_RUN_H
#define GB_CORE_TRAIN_RUN_H

#include <gimbal/io.h>
#include <gimbal/train.h>

/* Where a run stands: the next batch to train on, and the sums of the epoch so far. */
typedef struct gb_run_state {
    int64_t step, epoch, batch;
    double loss_sum, hit_sum, seconds;
    int64_t examples;
    int64_t micro_batch; /* how the batch was cut; 0: a run of an older version */
    char device[32];
} gb_run_state;

/* Adds every state of the store to the list. */
gb_status gb_store_collect(gb_store *store, gb_tensors *list, gb_error *err);
/* Writes dir/model.onnx. */
gb_status gb_run_export(gb_trainer *t, const char *dir, gb_error *err);
gb_status gb_checkpoint_write(const char *run, gb_device *dev, gb_store *store, const gb_run_state *state,
                              gb_error *err);
/* Lets dev take the choices of the last checkpoint, and tells how it cut the batch: before programs
 * are made. */
gb_status gb_checkpoint_replay(const char *run, gb_device *dev, int64_t *micro_batch, gb_error *err);
/* list: {0}; free it with gb_tensors_free. */
gb_status gb_checkpoint_read(const char *run, gb_tensors *list, gb_run_state *state, gb_error *err);
/* Sets every state of the store from the list; parameters_only: moments may be missing. */
gb_status gb_store_load(gb_store *store, const gb_tensors *list, const char *source, bool parameters_only,
                        gb_error *err);

#endif
