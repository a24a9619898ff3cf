#include <string.h>

#include "backends/cpu/kernels/impl.h"

/* In order of preference: the first that can do a problem, and wins there, is taken. */
static const gb_contraction_impl *const *impls_of(gb_isa isa)
{
#if defined(__x86_64__)
    if (isa == GB_ISA_AVX512) return gb_contraction_impls_avx512;
    if (isa == GB_ISA_AVX2) return gb_contraction_impls_avx2;
#else
    (void)isa;
#endif
    return gb_contraction_impls_baseline;
}

static bool has_rows_and_columns(const gb_contraction *p)
{
    gb_contraction_extent e = gb_contraction_extent_of(p);
    return e.rows > 0 && e.cols > 0;
}

static gb_status prepare(const gb_contraction_impl *impl, gb_contraction_plan *plan, gb_error *err)
{
    gb_contraction *p = &plan->problem;
    plan->impl = impl;
    if (!(impl->small & GB_SMALL_FACTORS) || p->a_type != p->b_type)
        p->a_type = p->b_type = GB_REAL_F32;
    if (!(impl->small & GB_SMALL_RESULT) || p->accumulate) p->c_type = GB_REAL_F32;
    return has_rows_and_columns(&plan->problem) ? impl->prepare(plan, err) : GB_OK;
}

gb_status gb_contraction_plan_make(const gb_cpu *cpu, const gb_contraction *problem,
                                   const char *name, gb_contraction_plan *plan, gb_error *err)
{
    *plan = (gb_contraction_plan){.problem = *problem, .cpu = *cpu};
    bool known = !name;
    for (const gb_contraction_impl *const *impl = impls_of(cpu->isa); *impl; impl++) {
        if (name && strcmp(name, (*impl)->name)) continue;
        known = true;
        bool wins = name || !(*impl)->wins || (*impl)->wins(problem);
        if (wins && (*impl)->can(cpu, problem)) return prepare(*impl, plan, err);
    }
    if (!known)
        return gb_fail(err, GB_NOT_FOUND, name, NULL, "no such implementation of contractions");
    return gb_fail(err, GB_UNSUPPORTED, name, "leave the choice to gimbal",
                   "this implementation cannot do this contraction");
}

const char *gb_contraction_candidate(const gb_cpu *cpu, const gb_contraction *problem, size_t index)
{
    for (const gb_contraction_impl *const *impl = impls_of(cpu->isa); *impl; impl++)
        if (*impl != &gb_contraction_plain && (*impl)->can(cpu, problem) && !index--)
            return (*impl)->name;
    return NULL;
}

void gb_contraction_plan_free(gb_contraction_plan *plan)
{
    if (plan->impl && plan->impl->release && plan->state) plan->impl->release(plan);
    *plan = (gb_contraction_plan){0};
}

void gb_contraction_run(const gb_contraction_plan *plan, const gb_contraction_args *args)
{
    if (has_rows_and_columns(&plan->problem)) plan->impl->run(plan, args);
}

const char *gb_contraction_impl_name(size_t index)
{
    const gb_contraction_impl *const *list =
        impls_of(GB_ISA_BASELINE); /* all levels have the same */
    for (size_t i = 0; list[i]; i++) {
        bool again = false; /* a method may have one entry a kind */
        for (size_t j = 0; j < i; j++) again |= !strcmp(list[j]->name, list[i]->name);
        if (!again && !index--) return list[i]->name;
    }
    return NULL;
}

const char *gb_contraction_plan_name(const gb_contraction_plan *plan)
{
    return plan->impl->name;
}
