#include "frame/statistics.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

static double percent(int64_t part, int64_t total)
{
    return total > 0 ? 100.0 * (double)part / (double)total : 0.0;
}

void statistics_print(const struct statistics *s, FILE *out)
{
    double in = percent(s->input_ns, s->total_ns), done = percent(s->output_ns, s->total_ns);
    char dropped[40] = "";
    if (s->dropped > 0)
        snprintf(dropped, sizeof dropped, " (%" PRIu64 " dropped)", s->dropped);
    if (s->records == 0 && s->bytes == 0) { /* a program that has nothing to do with records */
        fprintf(out, "%s: %" PRIu64 " samples, %.2f s\n", s->name, s->samples,
                (double)s->total_ns * 1e-9);
        return;
    }
    fprintf(out,
            "%s: %" PRIu64 " records, %" PRIu64 " samples%s, %.1f MB, %.2f s; "
            "waiting for input %.1f%%, working %.1f%%, waiting for output %.1f%%\n",
            s->name, s->records, s->samples, dropped, (double)s->bytes * 1e-6,
            (double)s->total_ns * 1e-9, in, 100.0 - in - done, done);
}

enum status statistics_append(const struct statistics *s, const char *path,
                              struct error *error)
{
    char line[512];
    int length = snprintf(line, sizeof line,
                          "{\"stage\":\"%s\",\"records\":%" PRIu64 ",\"samples\":%" PRIu64
                          ",\"dropped\":%" PRIu64 ",\"bytes\":%" PRIu64
                          ",\"seconds\":%.3f,\"input\":%.4f,\"work\":%.4f,\"output\":%.4f}\n",
                          s->name, s->records, s->samples, s->dropped, s->bytes,
                          (double)s->total_ns * 1e-9, percent(s->input_ns, s->total_ns) / 100,
                          1 - percent(s->input_ns + s->output_ns, s->total_ns) / 100,
                          percent(s->output_ns, s->total_ns) / 100);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set_errno(error, STATUS_IO, "cannot open %s", path);
    enum status status = STATUS_OK;
    if (io_write_all(fd, line, (size_t)length) != 0)
        status = error_set_errno(error, STATUS_IO, "cannot write %s", path);
    if (close(fd) != 0 && status == STATUS_OK)
        status = error_set_errno(error, STATUS_IO, "cannot close %s", path);
    return status;
}
