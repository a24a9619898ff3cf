/* A data set that is computed: for tests of training. */
#ifndef TESTS_SUPPORT_MADE_UP_H
#define TESTS_SUPPORT_MADE_UP_H

#include <gimbal/data.h>

/* count grey images of side x side to train and as many to test with, in four classes that a model
 * can tell apart. The caller destroys it. */
gb_dataset *gb_test_dataset(int side, int64_t count);

#endif
