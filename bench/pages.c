/* SPDX-License-Identifier: MIT */
/*
 * pages.c - one byte a page into a sparse file, through a mapping: first stores, a flush, stores again; and
 * on a disk that gets full, how many stores were accepted, and how many of them are there afterwards.
 *
 * Holdfast with both size protocols, a floor (tmpfs: no device, no promise, nothing to flush), and the
 * kernel's filesystems in directories that the caller names (bench/run.sh mounts loop images; _ in a label
 * stands for a space). One round of samples visits every target, so pairs see the same machine.
 */
#include "bench.h"

#include <holdfast/holdfast.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PAGE 4096u
#define TARGETS_MAX 8

static const char first_seq[] = "first, in order", first_random[] = "first, random", flush_col[] = "flush";
static const char again_seq[] = "again, in order", again_random[] = "again, random";
static const char accepted_col[] = "accepted", kept_col[] = "on disk";
static const char floor_label[] = "floor: tmpfs";

#define FULL_BYTES (16u << 20)      /* free where a disk gets full */
#define FULL_FILE_BYTES (64u << 20) /* the sparse file that does not fit */

static uint32_t nr_pages = (64u << 20) / PAGE;
static uint32_t *order;
static struct bench_table table, full_table;

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
    for (int random = 0; random < 2; random++) {
        const uint32_t *in_order = random ? order : NULL;

        map = hf_new_file(volume, &file);
        bench_put(&table, target->label, random ? first_random : first_seq, time_stores(map, in_order, 1));
        start = bench_now_us();
        bench_must(hf_fsync(file), "hf_fsync");
        if (!random)
            bench_put(&table, target->label, flush_col, (bench_now_us() - start) / nr_pages);
        bench_put(&table, target->label, random ? again_random : again_seq, time_stores(map, in_order, 2));
        hf_end_file(volume, file, map);
    }
    bench_must(hf_volume_close(volume), "hf_volume_close");
}

/* ------------------------------------------------------------------ the host */

static uint8_t *host_new_file(const char *path, int *ret_fd, uint32_t pages)
{
    uint8_t *map;

    *ret_fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    bench_must(*ret_fd < 0 ? -errno : 0, path);
    bench_must(ftruncate(*ret_fd, (off_t)pages * PAGE) ? -errno : 0, "ftruncate");
    map = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
    bench_must(map == MAP_FAILED ? -errno : 0, "mmap");
    return map;
}

static void host_end_file(const char *path, int fd, uint8_t *map, uint32_t pages)
{
    munmap(map, (size_t)pages * PAGE);
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
    for (int random = 0; random < 2; random++) {
        const uint32_t *in_order = random ? order : NULL;

        map = host_new_file(path, &fd, nr_pages);
        bench_put(&table, target->label, random ? first_random : first_seq, time_stores(map, in_order, 1));
        start = bench_now_us();
        bench_must(fsync(fd) ? -errno : 0, "fsync");
        if (!random)
            bench_put(&table, target->label, flush_col, (bench_now_us() - start) / nr_pages);
        bench_put(&table, target->label, random ? again_random : again_seq, time_stores(map, in_order, 2));
        host_end_file(path, fd, map, nr_pages);
    }
}

/* ------------------------------------------------------------------ a disk that gets full */

static void full_holdfast(const struct target *target)
{
    struct hf_mkfs_options mo = {
        .size_bytes = FULL_BYTES + (FULL_BYTES >> 2), .block_size = target->block_size, .force = true};
    struct hf_open_options oo = {.page_size = PAGE, .isize_sync = target->sync};
    uint32_t pages = FULL_FILE_BYTES / PAGE, accepted = 0, kept = 0;
    struct hf_volume *volume;
    struct hf_file *file;
    char path[512], byte = 1;
    void *map = NULL;

    snprintf(path, sizeof(path), "%s/holdfast-bench.%d", bench_dir(), (int)getpid());
    bench_must(hf_mkfs(path, &mo), "hf_mkfs");
    bench_must(hf_volume_open(path, &oo, &volume), "hf_volume_open");
    bench_must(hf_open(volume, "/file", O_RDWR | O_CREAT, 0644, &file), "hf_open");
    bench_must(hf_ftruncate(file, FULL_FILE_BYTES), "hf_ftruncate");
    bench_must(hf_mmap(file, NULL, FULL_FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map), "hf_mmap");
    while (accepted < pages && hf_store((uint8_t *)map + (size_t)PAGE * accepted, &byte, 1, NULL) == 0)
        accepted++;
    bench_must(hf_munmap(map, FULL_FILE_BYTES), "hf_munmap");
    bench_must(hf_close(file), "hf_close");
    bench_must(hf_volume_close(volume), "hf_volume_close");
    bench_must(hf_volume_open(path, &oo, &volume), "hf_volume_open");
    unlink(path);
    bench_must(hf_open(volume, "/file", O_RDONLY, 0, &file), "hf_open");
    for (uint32_t i = 0; i < pages; i++)
        if (hf_pread(file, &byte, 1, (hf_off_t)PAGE * i) == 1 && byte == 1)
            kept++;
    hf_close(file);
    bench_must(hf_volume_close(volume), "hf_volume_close");
    bench_put(&full_table, target->label, accepted_col, accepted);
    bench_put(&full_table, target->label, kept_col, kept);
}

static sigjmp_buf refused;

static void on_sigbus(int signo)
{
    (void)signo;
    siglongjmp(refused, 1);
}

static uint32_t host_store_until_refused(uint8_t *map, uint32_t pages)
{
    struct sigaction ours = {.sa_handler = on_sigbus}, before;
    volatile uint32_t accepted = 0;

    sigaction(SIGBUS, &ours, &before);
    if (sigsetjmp(refused, 1) == 0)
        while (accepted < pages) {
            *(volatile uint8_t *)(map + (size_t)PAGE * accepted) = 1;
            accepted++;
        }
    sigaction(SIGBUS, &before, NULL);
    return accepted;
}

/* Leaves about FULL_BYTES free. */
static void host_fill(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    struct statvfs fs;
    off_t room;

    bench_must(fd < 0 || fstatvfs(fd, &fs) ? -errno : 0, path);
    room = (off_t)(fs.f_bavail * fs.f_frsize) - (off_t)FULL_BYTES;
    bench_must(room > 0 && fallocate(fd, 0, 0, room) ? -errno : 0, "fallocate");
    bench_must(fsync(fd) ? -errno : 0, "fsync");
    close(fd);
}

/* What the file holds on its device: the cache is passed by. */
static uint32_t host_count(const char *path, uint32_t pages)
{
    int fd = open(path, O_RDONLY | O_DIRECT);
    void *page = NULL;
    uint32_t kept = 0;

    bench_must(fd < 0 ? -errno : -posix_memalign(&page, PAGE, PAGE), path);
    for (uint32_t i = 0; i < pages; i++)
        if (pread(fd, page, PAGE, (off_t)PAGE * i) > 0 && *(uint8_t *)page == 1)
            kept++;
    close(fd);
    free(page);
    return kept;
}

static void full_host(const struct target *target)
{
    uint32_t pages = FULL_FILE_BYTES / PAGE, accepted;
    char path[512], ballast[512];
    uint8_t *map;
    int fd;

    snprintf(path, sizeof(path), "%s/holdfast-bench-file", target->dir);
    snprintf(ballast, sizeof(ballast), "%s/holdfast-bench-ballast", target->dir);
    host_fill(ballast);
    map = host_new_file(path, &fd, pages);
    accepted = host_store_until_refused(map, pages);
    fsync(fd);
    bench_put(&full_table, target->label, accepted_col, accepted);
    bench_put(&full_table, target->label, kept_col, host_count(path, pages));
    host_end_file(path, fd, map, pages);
    unlink(ballast);
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

    add_target(&args, floor_label, bench_dir(), 0, HF_ISIZE_DEFAULT);
    add_target(&args, "Holdfast, 1 KiB blocks, page-lock", NULL, 1024, HF_ISIZE_PAGE_LOCK);
    add_target(&args, "Holdfast, 1 KiB blocks, hole-lock", NULL, 1024, HF_ISIZE_HOLE_LOCK);
    add_target(&args, "Holdfast, 4 KiB blocks, page-lock", NULL, 4096, HF_ISIZE_PAGE_LOCK);
    parse(&args, argc, argv);
    order = malloc(nr_pages * sizeof(*order));
    bench_must(order ? 0 : -ENOMEM, "memory");
    bench_shuffle(order, nr_pages);
    bench_table_init(&table,
                     "Stores of one byte a page into a sparse file; ratios: to a first store in tmpfs",
                     "us per 4 KiB page");
    bench_table_init(&full_table, "The same on a disk with 16 MiB left, until a store is refused", "pages");
    for (unsigned run = 0; run < args.runs; run++) {
        for (unsigned i = 0; i < args.nr_targets; i++) {
            if (args.target[i].dir)
                run_host(&args.target[i]);
            else
                run_holdfast(&args.target[i]);
        }
    }
    bench_floor(&table, first_seq, floor_label, first_seq);
    bench_floor(&table, again_seq, floor_label, first_seq);
    bench_floor(&table, first_random, floor_label, first_random);
    bench_floor(&table, again_random, floor_label, first_random);
    for (unsigned i = 0; i < args.nr_targets; i++) {
        if (!args.target[i].dir)
            full_holdfast(&args.target[i]);
        else if (strcmp(args.target[i].label, floor_label) != 0)
            full_host(&args.target[i]);
    }
    bench_print(&table, args.json);
    bench_print(&full_table, args.json);
    free(order);
    return 0;
}
