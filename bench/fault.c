/* SPDX-License-Identifier: MIT */
/*
 * fault.c - what a fault costs in Holdfast, next to a handler that does the same ioctls and nothing else.
 *
 * Three variants of the same accesses, one byte a page: "bare" (bare.c), "one page" (Holdfast, windows
 * switched off by HF_MKWRITE_AROUND=0), "windows" (Holdfast as it is). The library reads its environment
 * once, so each sample of each variant is a process of its own; variants take turns, so that they see the
 * same machine.
 */
#include "bare.h"
#include "bench.h"

#include <holdfast/holdfast.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u

static uint32_t nr_pages = 8192;
static uint32_t *order; /* NULL: sequential */
static volatile uint8_t sink;

/* ------------------------------------------------------------------ the accesses */

static double time_loads(const uint8_t *map)
{
    double start = bench_now_us();

    for (uint32_t i = 0; i < nr_pages; i++)
        sink = *(const volatile uint8_t *)(map + (size_t)PAGE * (order ? order[i] : i));
    return (bench_now_us() - start) / nr_pages;
}

static double time_stores(uint8_t *map)
{
    double start = bench_now_us();

    for (uint32_t i = 0; i < nr_pages; i++)
        *(volatile uint8_t *)(map + (size_t)PAGE * (order ? order[i] : i)) = 1;
    return (bench_now_us() - start) / nr_pages;
}

/* The child's output: one line a figure; the parent reads it back. */
static void figure(const char *name, double us)
{
    printf("%s%s=%f\n", name, order ? ", random" : "", us);
}

static void run_bare(void)
{
    size_t len = (size_t)nr_pages * PAGE;
    struct bare bare;

    bench_must(bare_init(&bare), "userfaultfd");
    bench_must(bare_map(&bare, len), "mapping");
    figure("first load of a hole", time_loads(bare.map[0]));
    bare_unmap(&bare);
    bench_must(bare_map(&bare, len), "mapping");
    figure("first store to a hole", time_stores(bare.map[0]));
    bench_must(bare_clean(&bare), "write-protecting");
    figure("store again after a flush", time_stores(bare.map[0]));
    figure("second mapping: load", time_loads(bare.map[1]));
    bare_unmap(&bare);
    bench_must(bare_map(&bare, len), "mapping");
    time_stores(bare.map[0]);
    figure("second mapping: store to a dirty page", time_stores(bare.map[1]));
    bare_unmap(&bare);
    bare_done(&bare);
}

struct target {
    struct hf_volume *volume;
    struct hf_file *file;
    uint8_t *map[2];
};

/* Each step starts with a file of holes that nobody has touched. */
static void new_file(struct target *t)
{
    size_t len = (size_t)nr_pages * PAGE;

    bench_must(hf_open(t->volume, "/file", O_RDWR | O_CREAT | O_TRUNC, 0644, &t->file), "hf_open");
    bench_must(hf_ftruncate(t->file, (hf_off_t)len), "hf_ftruncate");
    for (unsigned i = 0; i < 2; i++) {
        void *addr = NULL;

        bench_must(hf_mmap(t->file, NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &addr), "hf_mmap");
        t->map[i] = addr;
    }
}

static void end_file(struct target *t)
{
    for (unsigned i = 0; i < 2; i++)
        bench_must(hf_munmap(t->map[i], (size_t)nr_pages * PAGE), "hf_munmap");
    bench_must(hf_close(t->file), "hf_close");
    bench_must(hf_unlink(t->volume, "/file"), "hf_unlink");
}

static void run_holdfast(uint32_t block_size)
{
    size_t len = (size_t)nr_pages * PAGE;
    struct hf_mkfs_options mo = {
        .size_bytes = 4 * len + (64u << 20), .block_size = block_size, .force = true};
    struct hf_open_options oo = {
        .page_size = PAGE, .cache_bytes = 8 * len, .dirty_bytes = 8 * len, .writeback_ms = 3600 * 1000};
    struct target t;
    char path[512];

    snprintf(path, sizeof(path), "%s/holdfast-bench.%d", bench_dir(), (int)getpid());
    bench_must(hf_mkfs(path, &mo), "hf_mkfs");
    bench_must(hf_volume_open(path, &oo, &t.volume), "hf_volume_open");
    unlink(path);
    new_file(&t);
    figure("first load of a hole", time_loads(t.map[0]));
    end_file(&t);
    new_file(&t);
    figure("first store to a hole", time_stores(t.map[0]));
    bench_must(hf_fsync(t.file), "hf_fsync");
    figure("store again after a flush", time_stores(t.map[0]));
    figure("second mapping: load", time_loads(t.map[1]));
    end_file(&t);
    new_file(&t);
    time_stores(t.map[0]);
    figure("second mapping: store to a dirty page", time_stores(t.map[1]));
    end_file(&t);
    bench_must(hf_volume_close(t.volume), "hf_volume_close");
}

/* ------------------------------------------------------------------ variants as processes */

struct variant {
    const char *name; /* column */
    bool holdfast;
    const char *around; /* HF_MKWRITE_AROUND; NULL: unset */
};

static const struct variant variants[] = {
    {"bare handler", false, NULL},
    {"Holdfast one page", true, "0"},
    {"Holdfast windows", true, NULL},
};

static _Noreturn void run_child(const struct variant *variant, bool random, uint32_t block_size, int out)
{
    char pages[16], block[16];
    char *argv[] = {"fault",
                    "--child",
                    variant->holdfast ? "holdfast" : "bare",
                    "--pages",
                    pages,
                    "--block-size",
                    block,
                    random ? "--random" : NULL,
                    NULL};

    snprintf(pages, sizeof(pages), "%u", nr_pages);
    snprintf(block, sizeof(block), "%u", block_size);
    if (variant->around)
        setenv("HF_MKWRITE_AROUND", variant->around, 1);
    else
        unsetenv("HF_MKWRITE_AROUND");
    setenv("HF_ENGINE", "inline", 1);
    dup2(out, STDOUT_FILENO);
    execv("/proc/self/exe", argv);
    _exit(127);
}

/* Returns false if the child could not do it (its message is on stderr). */
static bool sample(struct bench_table *table, const struct variant *variant, bool random, uint32_t block_size)
{
    char line[128], *equals;
    int pipe_fd[2], status;
    FILE *in;
    pid_t pid;

    bench_must(pipe(pipe_fd) ? -errno : 0, "pipe");
    pid = fork();
    bench_must(pid < 0 ? -errno : 0, "fork");
    if (pid == 0)
        run_child(variant, random, block_size, pipe_fd[1]);
    close(pipe_fd[1]);
    in = fdopen(pipe_fd[0], "r");
    while (in && fgets(line, sizeof(line), in)) {
        equals = strchr(line, '=');
        if (!equals)
            continue;
        *equals = '\0';
        bench_put(table, line, variant->name, strtod(equals + 1, NULL));
    }
    if (in)
        fclose(in);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static const char usage[] = "usage: fault [--pages N] [--block-size B] [--runs N] [--json]\n";

struct arguments {
    const char *child;
    uint32_t block_size;
    unsigned runs;
    bool random, json;
};

static void parse(struct arguments *args, int argc, char **argv)
{
    static const struct option options[] = {
        {"pages", required_argument, NULL, 'p'}, {"block-size", required_argument, NULL, 'b'},
        {"runs", required_argument, NULL, 'r'},  {"json", no_argument, NULL, 'j'},
        {"child", required_argument, NULL, 'c'}, {"random", no_argument, NULL, 'R'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'p':
            nr_pages = (uint32_t)bench_number("pages", optarg, 1u << 20);
            break;
        case 'b':
            args->block_size = (uint32_t)bench_number("block size", optarg, PAGE);
            break;
        case 'r':
            args->runs = (unsigned)bench_number("runs", optarg, BENCH_SAMPLES_MAX);
            break;
        case 'j':
            args->json = true;
            break;
        case 'c':
            args->child = optarg;
            break;
        case 'R':
            args->random = true;
            break;
        default:
            fputs(usage, c == 'h' ? stdout : stderr);
            exit(c == 'h' ? 0 : 2);
        }
    }
}

static int be_child(const struct arguments *args)
{
    if (args->random) {
        order = malloc(nr_pages * sizeof(*order));
        bench_must(order ? 0 : -ENOMEM, "memory");
        bench_shuffle(order, nr_pages);
    }
    if (strcmp(args->child, "bare") == 0)
        run_bare();
    else
        run_holdfast(args->block_size);
    free(order);
    return 0;
}

int main(int argc, char **argv)
{
    static struct bench_table table;
    struct arguments args = {.block_size = 1024, .runs = 5};
    bool failed[sizeof(variants) / sizeof(variants[0])] = {false};

    parse(&args, argc, argv);
    if (args.child)
        return be_child(&args);
    bench_table_init(&table, "A fault in the faulting thread, one byte a page", "us/page");
    for (unsigned run = 0; run < args.runs; run++)
        for (unsigned v = 0; v < 2 * sizeof(variants) / sizeof(variants[0]); v++)
            failed[v / 2] = failed[v / 2] || !sample(&table, &variants[v / 2], v % 2, args.block_size);
    bench_ratio(&table, variants[1].name, variants[0].name);
    bench_ratio(&table, variants[2].name, variants[0].name);
    bench_print(&table, args.json);
    return failed[0] && failed[1] && failed[2];
}
