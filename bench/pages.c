/* SPDX-License-Identifier: MIT */
/*
 * pages.c - one byte a page into a sparse file, through a mapping: first stores, a flush, stores again.
 * Holdfast with both size protocols, and the kernel's filesystems in directories that the caller names
 * (bench/run.sh mounts loop images; _ in a label stands for a space). One round of samples visits every
 * target, so pairs see the same machine.
 */
#include "bench.h"

#include <holdfast/holdfast.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define TARGETS_MAX 8

static const char first_seq[] = "first, in order", flush_col[] = "flush", again[] = "again after it";
static const char first_random[] = "first, random";

static uint32_t nr_pages = (64u << 20) / PAGE;
static uint32_t *order;
static struct bench_table table;

/* A Holdfast volume (dir NULL) or a directory of the host's. */
struct target {
    char label[64];
    const char *dir;
    uint32_t block_size;
    enum hf_isize_sync sync;
};

static double time_stores(uint8_t *map, const uint32_t *in_order, uint8_t value)
{
    double start = bench_now_us();

    for (uint32_t i = 0; i < nr_pages; i++)
        *(volatile uint8_t *)(map + (size_t)PAGE * (in_order ? in_order[i] : i)) = value;
    return (bench_now_us() - start) / nr_pages;
}

/* ------------------------------------------------------------------ Holdfast */

static uint8_t *hf_new_file(struct hf_volume *volume, struct hf_file **ret_file)
{
    void *addr = NULL;

    bench_must(hf_open(volume, "/file", O_RDWR | O_CREAT | O_TRUNC, 0644, ret_file), "hf_open");
    bench_must(hf_ftruncate(*ret_file, (hf_off_t)nr_pages * PAGE), "hf_ftruncate");
    bench_must(
        hf_mmap(*ret_file, NULL, (size_t)nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &addr),
        "hf_mmap");
    return addr;
}

static void hf_end_file(struct hf_volume *volume, struct hf_file *file, uint8_t *map)
{
    bench_must(hf_munmap(map, (size_t)nr_pages * PAGE), "hf_munmap");
    bench_must(hf_close(file), "hf_close");
    bench_must(hf_unlink(volume, "/file"), "hf_unlink");
}

static void run_holdfast(const struct target *target)
{
    uint64_t len = (uint64_t)nr_pages * PAGE;
    struct hf_mkfs_options mo = {
        .size_bytes = 2 * len + (128u << 20), .block_size = target->block_size, .force = true};
    struct hf_open_options oo = {.page_size = PAGE,
                                 .cache_bytes = 4 * len,
                                 .dirty_bytes = 4 * len,
                                 .isize_sync = target->sync,
                                 .writeback_ms = 3600 * 1000};
    struct hf_volume *volume;
    struct hf_file *file;
    char path[512];
    uint8_t *map;
    double start;

    snprintf(path, sizeof(path), "%s/holdfast-bench.%d", bench_dir(), (int)getpid());
    bench_must(hf_mkfs(path, &mo), "hf_mkfs");
    bench_must(hf_volume_open(path, &oo, &volume), "hf_volume_open");
    unlink(path);
    map = hf_new_file(volume, &file);
    bench_put(&table, target->label, first_seq, time_stores(map, NULL, 1));
    start = bench_now_us();
    bench_must(hf_fsync(file), "hf_fsync");
    bench_put(&table, target->label, flush_col, (bench_now_us() - start) / nr_pages);
    bench_put(&table, target->label, again, time_stores(map, NULL, 2));
    hf_end_file(volume, file, map);
    map = hf_new_file(volume, &file);
    bench_put(&table, target->label, first_random, time_stores(map, order, 1));
    hf_end_file(volume, file, map);
    bench_must(hf_volume_close(volume), "hf_volume_close");
}

/* ------------------------------------------------------------------ the host */

static uint8_t *host_new_file(const char *path, int *ret_fd)
{
    uint8_t *map;

    *ret_fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    bench_must(*ret_fd < 0 ? -errno : 0, path);
    bench_must(ftruncate(*ret_fd, (off_t)nr_pages * PAGE) ? -errno : 0, "ftruncate");
    map = mmap(NULL, (size_t)nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
    bench_must(map == MAP_FAILED ? -errno : 0, "mmap");
    return map;
}

static void host_end_file(const char *path, int fd, uint8_t *map)
{
    munmap(map, (size_t)nr_pages * PAGE);
    close(fd);
    unlink(path);
}

static void run_host(const struct target *target)
{
    char path[512];
    uint8_t *map;
    double start;
    int fd;

    snprintf(path, sizeof(path), "%s/holdfast-bench-file", target->dir);
    map = host_new_file(path, &fd);
    bench_put(&table, target->label, first_seq, time_stores(map, NULL, 1));
    start = bench_now_us();
    bench_must(fsync(fd) ? -errno : 0, "fsync");
    bench_put(&table, target->label, flush_col, (bench_now_us() - start) / nr_pages);
    bench_put(&table, target->label, again, time_stores(map, NULL, 2));
    host_end_file(path, fd, map);
    map = host_new_file(path, &fd);
    bench_put(&table, target->label, first_random, time_stores(map, order, 1));
    bench_must(fsync(fd) ? -errno : 0, "fsync");
    host_end_file(path, fd, map);
}

/* ------------------------------------------------------------------ frame */

static const char usage[] = "usage: pages [--mib N] [--runs N] [--host LABEL=DIR]... [--json]\n";

struct arguments {
    struct target target[TARGETS_MAX];
    unsigned nr_targets, runs;
    bool json;
};

static void add_target(struct arguments *args, const char *label, const char *dir, uint32_t block_size,
                       enum hf_isize_sync sync)
{
    struct target *target = &args->target[args->nr_targets];

    if (args->nr_targets == TARGETS_MAX) {
        fputs("too many targets\n", stderr);
        exit(2);
    }
    snprintf(target->label, sizeof(target->label), "%s", label);
    target->dir = dir;
    target->block_size = block_size;
    target->sync = sync;
    args->nr_targets++;
}

static void add_host(struct arguments *args, char *text)
{
    char *equals = strchr(text, '=');

    if (!equals) {
        fputs(usage, stderr);
        exit(2);
    }
    *equals = '\0';
    for (char *c = text; *c; c++)
        if (*c == '_')
            *c = ' ';
    add_target(args, text, equals + 1, 0, HF_ISIZE_DEFAULT);
}

static void parse(struct arguments *args, int argc, char **argv)
{
    static const struct option options[] = {
        {"mib", required_argument, NULL, 'm'},  {"runs", required_argument, NULL, 'r'},
        {"host", required_argument, NULL, 'H'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'm':
            nr_pages = (uint32_t)bench_number("size", optarg, 4096) * (uint32_t)((1u << 20) / PAGE);
            break;
        case 'r':
            args->runs = (unsigned)bench_number("runs", optarg, BENCH_SAMPLES_MAX);
            break;
        case 'H':
            add_host(args, optarg);
            break;
        case 'j':
            args->json = true;
            break;
        default:
            fputs(usage, c == 'h' ? stdout : stderr);
            exit(c == 'h' ? 0 : 2);
        }
    }
}

int main(int argc, char **argv)
{
    struct arguments args = {.runs = 3};

    add_target(&args, "Holdfast, 1 KiB blocks, page-lock", NULL, 1024, HF_ISIZE_PAGE_LOCK);
    add_target(&args, "Holdfast, 1 KiB blocks, hole-lock", NULL, 1024, HF_ISIZE_HOLE_LOCK);
    add_target(&args, "Holdfast, 4 KiB blocks, page-lock", NULL, 4096, HF_ISIZE_PAGE_LOCK);
    parse(&args, argc, argv);
    order = malloc(nr_pages * sizeof(*order));
    bench_must(order ? 0 : -ENOMEM, "memory");
    bench_shuffle(order, nr_pages);
    bench_table_init(&table, "Stores of one byte a page into a sparse file", "us per 4 KiB page");
    for (unsigned run = 0; run < args.runs; run++) {
        for (unsigned i = 0; i < args.nr_targets; i++) {
            if (args.target[i].dir)
                run_host(&args.target[i]);
            else
                run_holdfast(&args.target[i]);
        }
    }
    bench_print(&table, args.json);
    free(order);
    return 0;
}
