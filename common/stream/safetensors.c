#include "stream/safetensors.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/io.h"

enum { HEADER_LIMIT = 100000000, LARGEST_ELEMENT = 8 };

static enum status map_file(struct safetensors *file, const char *path, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, STATUS_NO_INPUT, "cannot open %s", path);
    struct stat about;
    enum status status = STATUS_OK;
    if (fstat(fd, &about) != 0) {
        status = error_set_errno(error, STATUS_NO_INPUT, "cannot look at %s", path);
    } else if (!S_ISREG(about.st_mode)) {
        status = error_set(error, STATUS_NO_INPUT, "%s is not a regular file", path);
    } else if (about.st_size < HEADER_LENGTH_SIZE) {
        status = error_set(error, STATUS_DATA, "%s: %lld bytes, too short for safetensors", path,
                           (long long)about.st_size);
    } else {
        file->map_size = (size_t)about.st_size;
        file->map = mmap(NULL, file->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file->map == MAP_FAILED) {
            file->map = NULL;
            status = error_set_errno(error, STATUS_SYSTEM, "cannot map %s", path);
        }
    }
    close(fd);
    return status;
}

static enum status parse_file(struct safetensors *file, const char *path, struct error *error)
{
    const uint8_t *bytes = file->map;
    uint64_t length = header_load_length(bytes);
    if (length > HEADER_LIMIT)
        return error_set(error, STATUS_DATA, "%s: header of %llu bytes, at most %d allowed", path,
                         (unsigned long long)length, HEADER_LIMIT);
    size_t data_start = HEADER_LENGTH_SIZE + (size_t)length;
    if (data_start > file->map_size)
        return error_set(error, STATUS_DATA, "%s: ends after %zu of %zu header bytes", path,
                         file->map_size - HEADER_LENGTH_SIZE, (size_t)length);

    if (header_parse(&file->header, (const char *)bytes + HEADER_LENGTH_SIZE, (size_t)length,
                     error) != STATUS_OK)
        return error_prefix(error, "%s", path);
    if (file->map_size - data_start != file->header.data_size)
        return error_set(error, STATUS_DATA, "%s: %zu bytes of data, expected %zu", path,
                         file->map_size - data_start, file->header.data_size);

    uint8_t *data = (uint8_t *)file->map + data_start;
    if (data_start % LARGEST_ELEMENT != 0 && file->header.data_size > 0) {
        file->copy = malloc(file->header.data_size);
        if (file->copy == NULL)
            return error_memory(error, file->header.data_size, path);
        data = memcpy(file->copy, data, file->header.data_size);
    }
    for (size_t i = 0; i < file->header.count; i++)
        file->header.tensors[i].data = data + file->header.offsets[i];
    return STATUS_OK;
}

enum status safetensors_open(struct safetensors *file, const char *path, struct error *error)
{
    *file = (struct safetensors){.map = NULL};
    enum status status = map_file(file, path, error);
    if (status == STATUS_OK)
        status = parse_file(file, path, error);
    if (status != STATUS_OK)
        safetensors_close(file);
    return status;
}

const struct tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->header.count; i++)
        if (strcmp(file->header.tensors[i].name, name) == 0)
            return &file->header.tensors[i];
    return NULL;
}

void safetensors_close(struct safetensors *file)
{
    if (file->map != NULL)
        munmap(file->map, file->map_size);
    free(file->copy);
    header_free(&file->header);
    *file = (struct safetensors){.map = NULL};
}

static enum status write_tensors(int fd, const struct buffer *header,
                                 const struct tensor *tensors, size_t count, uint32_t *crc)
{
    if (io_write_all(fd, header->data, header->size) != 0)
        return STATUS_IO;
    *crc = crc32c(0, header->data, header->size);
    for (size_t i = 0; i < count; i++) {
        if (io_write_all(fd, tensors[i].data, tensors[i].size) != 0)
            return STATUS_IO;
        *crc = crc32c(*crc, tensors[i].data, tensors[i].size);
    }
    return fsync(fd) == 0 ? STATUS_OK : STATUS_IO;
}

enum status safetensors_write(const char *path, struct tensor *tensors, size_t count,
                              const struct metadata *metadata, uint32_t *crc,
                              struct error *error)
{
    struct buffer header = {0};
    uint32_t sum = 0;
    header_sort_tensors(tensors, count);
    enum status status = header_format(&header, tensors, count, metadata, error);
    if (status == STATUS_OK && header.size - HEADER_LENGTH_SIZE > HEADER_LIMIT)
        status = error_set(error, STATUS_DATA, "%s: header larger than %d bytes", path,
                           HEADER_LIMIT);
    if (status != STATUS_OK)
        goto out_header;

    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        status = error_set_errno(error, STATUS_IO, "cannot create %s", path);
        goto out_header;
    }
    if (write_tensors(fd, &header, tensors, count, &sum) != STATUS_OK)
        status = error_set_errno(error, STATUS_IO, "cannot write %s", path);
    if (close(fd) != 0 && status == STATUS_OK)
        status = error_set_errno(error, STATUS_IO, "cannot close %s", path);
    if (crc != NULL)
        *crc = sum;

out_header:
    buffer_free(&header);
    return status;
}
