#include <math.h>

#include <gimbal/train.h>

static double between(double from, double to, double t, bool linear)
{
    if (t < 0) t = 0;
    if (t > 1) t = 1;
    if (!linear) t = (1 - cos(3.14159265358979323846 * t)) / 2;
    return from + (to - from) * t;
}

double gb_learning_rate(const gb_recipe *recipe, int64_t step, int64_t steps, int64_t epoch_steps)
{
    const gb_schedule *s = &recipe->schedule;
    double total = steps > 0 ? (double)steps : 1, now = (double)step;
    double warm = s->warmup_steps > 0 ? (double)s->warmup_steps : s->warmup * total;
    double epochs = now / (epoch_steps > 0 ? (double)epoch_steps : 1);
    double rest = total - warm > 1 ? (now - warm) / (total - warm) : 1, factor = 1;
    if (s->kind == GB_ONE_CYCLE) {
        factor = now < warm ? between(s->start, 1, now / warm, s->linear)
                            : between(1, s->end, rest, s->linear);
        return recipe->optimizer.lr * factor;
    }
    if (now < warm) return recipe->optimizer.lr * (now + 1) / (warm + 1);
    switch (s->kind) {
    case GB_COSINE: factor = between(1, s->end, rest, false); break;
    case GB_LINEAR: factor = between(1, s->end, rest, true); break;
    case GB_STEP: factor = pow(s->gamma, floor(epochs / (s->every > 0 ? s->every : 1))); break;
    case GB_EXPONENTIAL: factor = pow(s->gamma, floor(epochs)); break;
    default: break;
    }
    return recipe->optimizer.lr * factor;
}
