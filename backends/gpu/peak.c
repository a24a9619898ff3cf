/* What a device can do at best: multiply-adds from registers, and a copy between two buffers. */
#include "backends/gpu/manifest.h"
#include "backends/gpu/shaders.h"

#define ELEMENTS (INT64_C(8) << 20)

/* The multiply-adds of all items; step 0 of the program. */
static gb_status lower_arithmetic(gb_gpu_builder *b, double *flops)
{
    const bool wide = gb_gpu_wide_items(b->caps);
    const int64_t local = wide ? 1 : gb_min(64, b->caps->max_local);
    const int64_t groups = wide ? 64 : b->caps->cpu_hosted ? 64 : 8192;
    const int chains = wide && b->caps->vector_width < 16 ? 6 : wide ? 12 : 8;
    const int64_t rounds = 4096;
    gb_gk k;
    gb_gk_begin(&k, b);
    gb_gk_local(&k, (uint32_t)local, 1, 1);
    gb_gk_operand(&k, "x", &b->step->in[0], GB_READ);
    gb_gk_operand(&k, "y", &b->step->out[0], GB_WRITE);
    gb_gk_define(&k, "CHAINS", "%d", chains);
    gb_gk_param(&k, "ROUNDS", rounds);
    gb_gk_define(&k, "VALUE", "%s", wide ? "GB_VEC" : "float");
    gb_gk_define(&k, "START(v)", "%s", wide ? "((GB_VEC)(v))" : "(v)");
    gb_gk_define(&k, "STEP(v)", "%s", wide ? "GB_VEC_FMA(x, v, v)" : "fma(x, v, v)");
    gb_gk_define(&k, "FIRST(v)", "%s", wide ? "(v).s0" : "(v)");
    *flops = 2.0 * (double)(groups * local) * (double)rounds * chains * (wide ? 16 : 1);
    return gb_gk_finish(&k, "peak", gb_shader_peak, (const int64_t[3]){groups, 1, 1});
}

static const gb_expr *copy(gb_arena *arena)
{
    gb_xb b = {0};
    gb_x x = gb_x_input(&b, 0, 'f');
    const gb_expr *e = gb_xb_finish(&b, 1, &x, 1, gb_arena_alloc_hook, arena);
    gb_xb_free(&b);
    return e;
}

gb_status gb_gpu_peak_create(const gb_gpu_caps *caps, gb_gpu_peak_work *work,
                             gb_gpu_program **program, gb_error *err)
{
    gb_operand o = {.storage = GB_S_F32, .rank = 1, .dim = {ELEMENTS}, .stride = {1}};
    gb_step step[2] = {{.kind = GB_STEP_POINTWISE,
                        .path = "peak",
                        .phase = "forward",
                        .n_in = 1,
                        .n_out = 1,
                        .in = {o},
                        .out = {o},
                        .rank = 1,
                        .dim = {ELEMENTS},
                        .scratch = {.buffer = -1}}};
    gb_plan plan = {.step = step, .n_steps = 2, .n_buffers = 2, .scalars_buffer = -1};
    gb_arena *arena = gb_arena_create();
    gb_gpu_program *p = arena ? gb_arena_alloc(arena, sizeof *p) : NULL;
    step[0].out[0].buffer = 1;
    step[0].expr = p ? copy(arena) : NULL;
    step[1] = step[0];
    if (!step[0].expr) {
        gb_arena_destroy(arena);
        return gb_fail(err, GB_OUT_OF_MEMORY, NULL, NULL, "no memory for a program");
    }
    p->memory = arena;
    gb_gpu_builder b = {
        .caps = caps, .plan = &plan, .step = &step[0], .arena = arena, .program = p, .err = err};
    *work = (gb_gpu_peak_work){.buffer_bytes = ELEMENTS * 4, .bytes = 8.0 * ELEMENTS};
    gb_status s = lower_arithmetic(&b, &work->flops);
    b.step_index = 1;
    if (s == GB_OK) s = gb_gpu_lower(&b, gb_gpu_pick(caps, &step[1]));
    if (s == GB_OK)
        *program = p;
    else
        gb_gpu_program_destroy(&p);
    return s;
}
