/* SPDX-License-Identifier: MIT */
/*
 * growth.c - what it costs to grow a file, with the straddling page held by the page lock (Piggin) or by a
 * lock of its own (Kara). The cost of that second lock was the objection to it.
 *
 * "after a store": the straddling page is writable in a mapping before each step, so growing has to
 * write-protect it, and the next store faults. "against stores": another thread keeps storing to that page.
 */
#include "bench.h"

#include <holdfast/holdfast.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define START 100u /* the size before the first step: never 0, so that there is a straddling page */

static uint32_t steps = 20000;
static struct bench_table table;

struct target {
    struct hf_volume *volume;
    struct hf_file *file;
    uint8_t *map;
    hf_off_t size;
    _Atomic bool stop;
    _Atomic hf_off_t seen; /* the size, for the storing thread */
    uint64_t stores;
};

static void append_byte(struct target *t)
{
    bench_must(hf_pwrite(t->file, "x", 1, t->size), "hf_pwrite");
    t->size++;
}

static void truncate_byte(struct target *t)
{
    t->size++;
    bench_must(hf_ftruncate(t->file, t->size), "hf_ftruncate");
}

static void truncate_page(struct target *t)
{
    t->size += PAGE;
    bench_must(hf_ftruncate(t->file, t->size), "hf_ftruncate");
}

static void begin(struct target *t, uint64_t max_size)
{
    void *addr = NULL;

    bench_must(hf_open(t->volume, "/file", O_RDWR | O_CREAT | O_TRUNC, 0644, &t->file), "hf_open");
    t->size = START;
    bench_must(hf_ftruncate(t->file, t->size), "hf_ftruncate");
    bench_must(hf_mmap(t->file, NULL, max_size, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &addr), "hf_mmap");
    t->map = addr;
}

static void end(struct target *t, uint64_t max_size)
{
    bench_must(hf_munmap(t->map, max_size), "hf_munmap");
    bench_must(hf_close(t->file), "hf_close");
    bench_must(hf_unlink(t->volume, "/file"), "hf_unlink");
}

static double time_steps(struct target *t, void (*step)(struct target *t), bool store_first)
{
    uint64_t max_size = ((uint64_t)steps + 2) * PAGE;
    double start;

    begin(t, max_size);
    start = bench_now_us();
    for (uint32_t i = 0; i < steps; i++) {
        if (store_first)
            *(volatile uint8_t *)(t->map + t->size - 1) = 1;
        step(t);
    }
    start = bench_now_us() - start;
    end(t, max_size);
    return start / steps;
}

/* Stores to the last byte there is, as fast as it goes. The file only grows, so this is never beyond EOF. */
static void *keep_storing(void *arg)
{
    struct target *t = arg;

    while (!t->stop) {
        *(volatile uint8_t *)(t->map + t->seen - 1) = 1;
        t->stores++;
    }
    return NULL;
}

static double time_against_stores(struct target *t)
{
    uint64_t max_size = ((uint64_t)steps + 2) * PAGE;
    pthread_t thread;
    double start;

    begin(t, max_size);
    t->stop = false;
    t->seen = t->size;
    bench_must(-pthread_create(&thread, NULL, keep_storing, t), "pthread_create");
    start = bench_now_us();
    for (uint32_t i = 0; i < steps; i++) {
        truncate_byte(t);
        t->seen = t->size;
    }
    start = bench_now_us() - start;
    t->stop = true;
    pthread_join(thread, NULL);
    end(t, max_size);
    return start / steps;
}

static void run(enum hf_isize_sync sync, const char *col)
{
    struct hf_mkfs_options mo = {.size_bytes = 256u << 20, .block_size = 1024, .force = true};
    struct hf_open_options oo = {.page_size = PAGE, .isize_sync = sync, .writeback_ms = 3600 * 1000};
    struct target t = {.stop = false};
    char path[512];

    snprintf(path, sizeof(path), "%s/holdfast-bench.%d", bench_dir(), (int)getpid());
    bench_must(hf_mkfs(path, &mo), "hf_mkfs");
    bench_must(hf_volume_open(path, &oo, &t.volume), "hf_volume_open");
    unlink(path);
    bench_put(&table, "append a byte", col, time_steps(&t, append_byte, false));
    bench_put(&table, "append a byte, after a store", col, time_steps(&t, append_byte, true));
    bench_put(&table, "ftruncate by a byte", col, time_steps(&t, truncate_byte, false));
    bench_put(&table, "ftruncate by a byte, after a store", col, time_steps(&t, truncate_byte, true));
    bench_put(&table, "ftruncate by a byte, against stores", col, time_against_stores(&t));
    bench_put(&table, "ftruncate by a page", col, time_steps(&t, truncate_page, false));
    bench_must(hf_volume_close(t.volume), "hf_volume_close");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"steps", required_argument, NULL, 's'},
        {"runs", required_argument, NULL, 'r'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    unsigned runs = 5;
    bool json = false;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 's') {
            steps = (uint32_t)bench_number("steps", optarg, 1u << 24);
        } else if (c == 'r') {
            runs = (unsigned)bench_number("runs", optarg, BENCH_SAMPLES_MAX);
        } else if (c == 'j') {
            json = true;
        } else {
            fputs("usage: growth [--steps N] [--runs N] [--json]\n", c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    bench_table_init(&table, "Growing a file, B = 1 KiB, P = 4 KiB", "us/step");
    for (unsigned i = 0; i < runs; i++) {
        run(HF_ISIZE_PAGE_LOCK, "page-lock");
        run(HF_ISIZE_HOLE_LOCK, "hole-lock");
    }
    bench_ratio(&table, "hole-lock", "page-lock");
    bench_print(&table, json);
    return 0;
}
