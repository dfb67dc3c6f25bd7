/* SPDX-License-Identifier: MIT */
/*
 * scale.c - many files beside the host's filesystems, volumes of two sizes opened and closed, and the memory
 * of many extents.
 *
 * SCALE_FILES (100000) is the number of files, SCALE_EXTENTS (1000000) that of extents, BENCH_DISK (/var/tmp)
 * a directory on a disk.
 */
#include "bench.h"

#include <holdfast/holdfast.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u

static unsigned long nr_files;

static unsigned long env_number(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);

    return text ? bench_number(name, text, 1u << 30) : otherwise;
}

/* ---- files of a host directory and of a volume, by the same steps */

struct place {
    const char *col;
    struct hf_volume *volume; /* NULL: the host's, below dir */
    char dir[256];
};

static long host_result(long ret)
{
    return ret < 0 ? -errno : ret;
}

static void path_of(const struct place *p, char path[320], unsigned long i)
{
    snprintf(path, 320, "%s/entry-%lu", p->dir, i);
}

static void make_one(struct place *p, const char *path)
{
    if (p->volume) {
        struct hf_file *file;

        bench_must(hf_open(p->volume, path, O_RDWR | O_CREAT | O_EXCL, 0600, &file), "hf_open");
        bench_must(hf_close(file), "hf_close");
    } else {
        int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        bench_must(host_result(fd), path);
        close(fd);
    }
}

static void stat_one(struct place *p, const char *path)
{
    struct stat st;

    bench_must(p->volume ? hf_stat(p->volume, path, &st) : host_result(stat(path, &st)), path);
}

static void unlink_one(struct place *p, const char *path)
{
    bench_must(p->volume ? hf_unlink(p->volume, path) : host_result(unlink(path)), path);
}

static void read_volume_dir(struct place *p)
{
    struct hf_dirent entry;
    struct hf_dir *dir;

    bench_must(hf_opendir(p->volume, p->dir, &dir), "hf_opendir");
    while (hf_readdir(dir, &entry) == 1)
        ;
    bench_must(hf_closedir(dir), "hf_closedir");
}

static void read_host_dir(struct place *p)
{
    DIR *dir = opendir(p->dir);

    bench_must(dir ? 0 : -errno, p->dir);
    while (readdir(dir))
        ;
    closedir(dir);
}

static void each_file(struct place *p, void (*step)(struct place *p, const char *path))
{
    char path[320];

    for (unsigned long i = 0; i < nr_files; i++) {
        path_of(p, path, i);
        step(p, path);
    }
}

static void measure_files(struct bench_table *table, struct place *p)
{
    double start = bench_now_us(), each = (double)nr_files;

    each_file(p, make_one);
    bench_put(table, "create", p->col, (bench_now_us() - start) / each);
    start = bench_now_us();
    each_file(p, stat_one);
    bench_put(table, "stat", p->col, (bench_now_us() - start) / each);
    start = bench_now_us();
    if (p->volume)
        read_volume_dir(p);
    else
        read_host_dir(p);
    bench_put(table, "readdir", p->col, (bench_now_us() - start) / each);
    start = bench_now_us();
    each_file(p, unlink_one);
    bench_put(table, "unlink", p->col, (bench_now_us() - start) / each);
}

static void measure_host(struct bench_table *table, const char *col, const char *below)
{
    struct place p = {.col = col};

    snprintf(p.dir, sizeof(p.dir), "%s/holdfast-scale.%d", below, (int)getpid());
    bench_must(host_result(mkdir(p.dir, 0700)), p.dir);
    measure_files(table, &p);
    bench_must(host_result(rmdir(p.dir)), p.dir);
}

/* ---- volumes; the caller unlinks path */

static struct hf_volume *volume_new(char path[320], const char *below, uint64_t bytes, uint64_t metadata,
                                    uint32_t block_size)
{
    const struct hf_mkfs_options mo = {.size_bytes = bytes,
                                       .metadata_bytes = metadata,
                                       .block_size = block_size,
                                       .thin = true,
                                       .force = true};
    struct hf_volume *volume;

    snprintf(path, 320, "%s/holdfast-scale.volume.%d", below, (int)getpid());
    bench_must(hf_mkfs(path, &mo), "hf_mkfs");
    bench_must(hf_volume_open(path, NULL, &volume), "hf_volume_open");
    return volume;
}

static void measure_volume(struct bench_table *table)
{
    struct place p = {.col = "blockfs", .dir = "/d"};
    uint64_t metadata = (uint64_t)nr_files * 1024 + (16u << 20);
    char path[320];

    p.volume = volume_new(path, bench_dir(), 2 * metadata + (64u << 20), metadata, BLOCK);
    unlink(path);
    bench_must(hf_mkdir(p.volume, p.dir, 0755), "hf_mkdir");
    measure_files(table, &p);
    bench_must(hf_volume_close(p.volume), "hf_volume_close");
}

static void open_and_close(struct bench_table *table, const char *col, const char *path)
{
    struct hf_volume *volume;
    double start = bench_now_us(), opened;

    bench_must(hf_volume_open(path, NULL, &volume), "hf_volume_open");
    opened = bench_now_us();
    bench_must(hf_volume_close(volume), "hf_volume_close");
    bench_put(table, "open", col, opened - start);
    bench_put(table, "close", col, bench_now_us() - opened);
}

/* In turns, so that what else the machine does meets all of them. */
static void measure_opens(struct bench_table *table, const char *below)
{
    static const struct {
        const char *col;
        uint64_t bytes;
    } sizes[] = {{"16 MiB", 16ull << 20},
                 {"16 TiB", (16ull << 40) - 4096}}; /* a page less: ext4 has no larger files */
    char paths[sizeof(sizes) / sizeof(sizes[0])][340], made[320];

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        bench_must(hf_volume_close(volume_new(made, below, sizes[i].bytes, 0, BLOCK)), "hf_volume_close");
        snprintf(paths[i], sizeof(paths[i]), "%s.%zu", made, i);
        bench_must(host_result(rename(made, paths[i])), paths[i]);
    }
    for (int turn = 0; turn < 31; turn++)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            open_and_close(table, sizes[i].col, paths[i]);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        unlink(paths[i]);
}

/* ---- memory: a file of which every second block is there */

static double resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file || fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void measure_extents(struct bench_table *table, const char *disk, unsigned long nr)
{
    struct hf_open_options opts = {.cache_bytes = 16u << 20};
    struct hf_volume *volume;
    struct hf_file *file;
    char path[320], byte;
    double before;

    bench_must(hf_volume_close(volume_new(path, disk, 2 * (uint64_t)nr * BLOCK + (1u << 30), 0, BLOCK)),
               "close");
    bench_must(hf_volume_open(path, &opts, &volume), "hf_volume_open");
    bench_must(hf_open(volume, "/f", O_RDWR | O_CREAT, 0600, &file), "hf_open");
    for (unsigned long i = 0; i < nr; i++)
        bench_must(hf_fallocate(file, 0, (hf_off_t)i * 2 * BLOCK, BLOCK), "hf_fallocate");
    bench_must(hf_close(file), "hf_close");
    bench_must(hf_volume_close(volume), "hf_volume_close");
    bench_must(hf_volume_open(path, &opts, &volume), "hf_volume_open");
    malloc_trim(0); /* what the first open has freed would be used again, unseen */
    before = resident_bytes();
    bench_must(hf_open(volume, "/f", O_RDWR, 0, &file), "hf_open");
    bench_must(hf_pread(file, &byte, 1, 0), "hf_pread");
    bench_put(table, "memory for each extent of an open file", "bytes",
              (resident_bytes() - before) / (double)nr);
    bench_must(hf_close(file), "hf_close");
    bench_must(hf_volume_close(volume), "hf_volume_close");
    unlink(path);
}

int main(int argc, char **argv)
{
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    const char *disk = getenv("BENCH_DISK");
    struct bench_table files, opens, extents;

    if (!disk)
        disk = "/var/tmp";
    nr_files = env_number("SCALE_FILES", 100000);
    bench_table_init(&files, "Many files in one directory", "us/file");
    measure_host(&files, "tmpfs", bench_dir());
    measure_host(&files, "disk", disk);
    measure_volume(&files);
    bench_ratio(&files, "blockfs", "tmpfs");
    bench_print(&files, json);
    bench_table_init(&opens, "Opening and closing a volume", "us");
    measure_opens(&opens, disk);
    bench_ratio(&opens, "16 TiB", "16 MiB");
    bench_print(&opens, json);
    bench_table_init(&extents, "Memory", "bytes");
    measure_extents(&extents, disk, env_number("SCALE_EXTENTS", 1000000));
    bench_print(&extents, json);
    return 0;
}
