/* Reports: what a run did, as one self-contained HTML page.
 *
 * Pages need no network and no scripts, follow the reader's light or dark scheme, print, and fit a
 * phone. The page that compares devices is gb_comparison_html of gimbal/compare.h.
 * Thread safety: functions may run at the same time, on different run folders. */
#ifndef GIMBAL_REPORT_H
#define GIMBAL_REPORT_H

#include <gimbal/train.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes report.html into a run folder, from recipe.yaml, metrics.jsonl and, where it exists,
 * checkpoints/state.json. result adds step times, memory and the last evaluation; NULL: the page
 * goes without. A run that was interrupted gives a page too, and a last line of metrics.jsonl that
 * was cut off in writing is left out.
 * Errors: NOT_FOUND (no recipe or metrics there), FORMAT (a damaged file, naming the line), IO,
 * OUT_OF_MEMORY, and those of reading the recipe. */
GB_API gb_status gb_report_write(const char *run_dir, const gb_train_result *result, gb_error *err);

#ifdef __cplusplus
}
#endif
#endif
