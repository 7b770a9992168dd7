#include "model/run_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/checkpoint.h"

/* Two runs that save into one directory would remove each other's checkpoints. */
static enum status lock_directory(const char *path, int *lock, struct error *error)
{
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0)
        return error_set_errno(error, STATUS_IO, "cannot open %s", path);
    if (flock(*lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return error_set(error, STATUS_RETRY, "another train-step is saving into %s", path);
    return STATUS_OK;
}

/* Better now than at the first checkpoint. */
static enum status try_writing(const char *path, struct error *error)
{
    char probe[STEP_PATH_MAX];
    snprintf(probe, sizeof probe, "%s/.clipipe-probe", path);
    if ((mkdir(probe, 0777) != 0 && errno != EEXIST) || rmdir(probe) != 0)
        return error_set_errno(error, STATUS_IO, "cannot write in %s", path);
    return STATUS_OK;
}

static enum status refuse_old_checkpoints(const char *path, struct error *error)
{
    struct error warning;
    struct checkpoint old;
    enum status status = checkpoint_open_latest(&old, path, &warning, error);
    checkpoint_close(&old);
    if (status == STATUS_NO_INPUT)
        return STATUS_OK;
    error_set(error, STATUS_USAGE, "%s already holds checkpoints", path);
    return error_hint(error, "go on with --resume, or choose another --out");
}

enum status run_directory_claim(const char *path, bool resume, int *lock, struct error *error)
{
    *lock = -1;
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return error_set_errno(error, STATUS_IO, "cannot create %s", path);
    enum status status = lock_directory(path, lock, error);
    if (status == STATUS_OK)
        status = try_writing(path, error);
    if (status == STATUS_OK)
        status = checkpoint_remove_leftovers(path, error);
    if (status == STATUS_OK && !resume)
        status = refuse_old_checkpoints(path, error);
    if (status != STATUS_OK && *lock >= 0) {
        close(*lock);
        *lock = -1;
    }
    return status;
}

bool run_directory_has_step(const char *path, int64_t step)
{
    struct error error, warning;
    struct checkpoint newest;
    bool has = checkpoint_open_latest(&newest, path, &warning, &error) == STATUS_OK &&
               newest.step >= step;
    checkpoint_close(&newest);
    return has;
}
