/* CLBlast as one more way to multiply matrices. It is never taken by default: its parameters may be
 * far off a device, and its first call can take long to build. `gimbal tune` finds out. */
#include "backends/opencl/opencl.h"

#include <clblast_c.h>
#include <string.h>

static const char name[] = "clblast";

typedef struct matrix {
    int64_t rows, cols, row, col; /* sizes and strides */
} matrix;

static matrix matrix_of(const gb_operand *o)
{
    int r = o->rank;
    return (matrix){o->dim[r - 2], o->dim[r - 1], o->stride[r - 2], o->stride[r - 1]};
}

/* Strides between elements of a line, and between lines; false: lines are not contiguous. */
static bool lines_of(const matrix *m, bool row_major, int64_t *pitch)
{
    int64_t length = row_major ? m->cols : m->rows, lines = row_major ? m->rows : m->cols;
    int64_t step = row_major ? m->col : m->row;
    *pitch = lines == 1 ? length : row_major ? m->row : m->col;
    return (length == 1 || step == 1) && *pitch >= length;
}

static bool place(const matrix *m, bool row_major, bool *transposed, size_t *pitch)
{
    int64_t p;
    *transposed = !lines_of(m, row_major, &p);
    if (*transposed && !lines_of(m, !row_major, &p)) return false;
    *pitch = (size_t)p;
    return true;
}

static bool describe(const gb_step *s, gb_cl_blast *x)
{
    const gb_operand *c = &s->out[0];
    if (s->kind != GB_STEP_MATMUL || s->expr) return false;
    if (s->in[0].storage != GB_S_F32 || s->in[1].storage != GB_S_F32 || c->storage != GB_S_F32)
        return false;
    for (int i = 0; i < c->rank - 2; i++)
        if (c->dim[i] != 1) return false;
    matrix m[3] = {matrix_of(&s->in[0]), matrix_of(&s->in[1]), matrix_of(c)};
    bool turned;
    *x = (gb_cl_blast){.m = (size_t)m[2].rows, .n = (size_t)m[2].cols, .k = (size_t)m[0].cols};
    if (!x->m || !x->n || !x->k || !place(&m[2], true, &turned, &x->pitch[2])) return false;
    x->row_major = !turned;
    for (int i = 0; i < 2; i++)
        if (!place(&m[i], x->row_major, &x->transposed[i], &x->pitch[i])) return false;
    const gb_operand *o[3] = {&s->in[0], &s->in[1], c};
    for (int i = 0; i < 3; i++) {
        x->buffer[i] = o[i]->buffer;
        x->offset[i] = (size_t)(o[i]->offset / sizeof(float));
    }
    return true;
}

bool gb_cl_blast_wanted(const gb_step *step)
{
    return strcmp(step->variant, name) == 0;
}

const char *gb_cl_blast_offer(const gb_step *step)
{
    gb_cl_blast x;
    return describe(step, &x) ? name : NULL;
}

void gb_cl_blast_make(const gb_step *step, int index, gb_cl_blast *x)
{
    describe(step, x);
    x->step = index;
}

cl_int gb_cl_blast_enqueue(const gb_cl_blast *x, cl_command_queue queue)
{
    CLBlastTranspose t[2];
    for (int i = 0; i < 2; i++) t[i] = x->transposed[i] ? CLBlastTransposeYes : CLBlastTransposeNo;
    CLBlastStatusCode code =
        CLBlastSgemm(x->row_major ? CLBlastLayoutRowMajor : CLBlastLayoutColMajor, t[0], t[1], x->m,
                     x->n, x->k, 1, x->mem[0], x->offset[0], x->pitch[0], x->mem[1], x->offset[1],
                     x->pitch[1], 0, x->mem[2], x->offset[2], x->pitch[2], &queue, NULL);
    return (cl_int)code;
}

/* CLBlast keeps kernels by context, beyond its end. */
void gb_cl_blast_forget(void)
{
    CLBlastClearCache();
}
