#include "frame/metrics.h"

#include <inttypes.h>

#include "base/clock.h"

void metrics_begin(struct metrics *metrics, int64_t samples, double sample_flops)
{
    int64_t now = clock_now_ns();
    *metrics = (struct metrics){
        .sample_flops = sample_flops, .samples = samples, .line_ns = now, .idle_ns = now};
}

void metrics_see_idle(struct metrics *metrics)
{
    if (metrics->idle_ns == 0)
        metrics->idle_ns = clock_now_ns();
}

void metrics_end_wait(struct metrics *metrics)
{
    if (metrics->idle_ns != 0)
        metrics->wait_ns += clock_now_ns() - metrics->idle_ns;
    metrics->idle_ns = 0;
}

enum status metrics_print(struct metrics *metrics, const struct trainer *trainer,
                          const struct trainer_step *step, FILE *out, struct error *error)
{
    int64_t now = clock_now_ns(), samples = trainer->progress.samples;
    double seconds = (double)(now - metrics->line_ns) * 1e-9;
    fprintf(out,
            "{\"step\":%" PRId64 ",\"samples\":%" PRId64 ",\"loss\":%.6g,\"logit_scale\":%.6g,"
            "\"lr\":%.6g,\"grad_norm\":%.6g,\"flops\":%.6g,\"samples_per_second\":%.6g,"
            "\"data_wait\":%.4f}\n",
            trainer->optimizer.step, samples, (double)step->loss,
            (double)clip_logit_scale(trainer->clip), step->lr, step->norm,
            (double)samples * metrics->sample_flops,
            (double)(samples - metrics->samples) / seconds,
            (double)metrics->wait_ns * 1e-9 / seconds);
    metrics->line_ns = now;
    metrics->wait_ns = 0;
    metrics->samples = samples;
    if (fflush(out) != 0)
        return error_set_errno(error, STATUS_IO, "standard output");
    return STATUS_OK;
}
