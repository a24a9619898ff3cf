/* Tuning, as `tune` and `train --tune` share it. */
#ifndef GB_TOOLS_CMD_TUNE_H
#define GB_TOOLS_CMD_TUNE_H

#include <gimbal/train.h>

#include "tools/cli.h"
#include "tools/progress.h"

/* Runs the tuner with a progress bar; a signal stops it (INTERRUPTED). */
gb_status cli_tune(gb_tuner *tuner, bool again, progress *line, const gb_tune_result **result,
                   gb_error *err);
/* Says on standard error why the tuning file is left aside, if it is. */
void cli_warn_tuning(const cli_args *args, const gb_device *dev);

#endif
