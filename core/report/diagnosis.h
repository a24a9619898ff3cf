/* Over- and underfitting in words, from the curves of a run by rules that the text states. */
#ifndef GB_CORE_REPORT_DIAGNOSIS_H
#define GB_CORE_REPORT_DIAGNOSIS_H

#include "core/report/log.h"
#include "core/report/page.h"

typedef struct gb_diagnosis {
    gb_mood mood;
    const char *headline;
    char text[1024];
} gb_diagnosis;

gb_diagnosis gb_diagnose_curves(const gb_log *log);

#endif
