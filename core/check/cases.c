/* All cases of the operator suite. */
#include "core/check/check.h"

bool gb_check_cases(gb_check_list *l)
{
    gb_check_pointwise(l);
    gb_check_contract(l);
    gb_check_structure(l);
    gb_check_graphs(l);
    if (l->failed) gb_check_list_free(l);
    return !l->failed;
}
