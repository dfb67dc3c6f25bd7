/* SPDX-License-Identifier: MIT */
/* A mapping four times as large as its volume: the store that finds no room says so. README.md shows this
 * file. */
#include <fcntl.h>
#include <holdfast/holdfast.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "example.hf";
    const size_t size = 16 << 20;
    struct hf_volume *volume;
    struct hf_file *file;
    struct hf_fault fault;
    char bytes[4096];
    size_t at;
    void *map;

    if (hf_mkfs(path, &(struct hf_mkfs_options){.size_bytes = 4 << 20, .force = true}) < 0 ||
        hf_volume_open(path, NULL, &volume) < 0)
        return fprintf(stderr, "%s\n", hf_volume_error_text()), 1;
    if (hf_open(volume, "table", O_RDWR | O_CREAT, 0644, &file) < 0 ||
        hf_ftruncate(file, (hf_off_t)size) < 0 ||
        hf_mmap(file, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map) < 0)
        return 1;
    memset(bytes, 'x', sizeof(bytes));
    for (at = 0; hf_store((char *)map + at, bytes, sizeof(bytes), NULL) == 0; at += sizeof(bytes))
        ; /* memcpy that can say no */
    hf_last_fault(&fault);
    printf("%zu bytes stored, then: %s at %lld\n", at, strerror(fault.error), (long long)fault.offset);
    if (hf_fsync(file) < 0) /* what was accepted is durable now */
        return 1;
    hf_munmap(map, size);
    hf_close(file);
    return hf_volume_close(volume) < 0;
}
