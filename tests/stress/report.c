/* SPDX-License-Identifier: MIT */
/*
 * report.c - the log of operations, and what is printed when the test fails.
 *
 * The log is one ring for all threads, in order of the operations' beginnings. Only the thread that began an
 * entry writes to it; the report reads entries of threads that still run, which is as good as a failing
 * test needs. Printing happens once: the first thread that fails ends the process.
 */
#include "stress.h"

#include "base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_SIZE (1u << 15)
#define SHOWN_PER_BYTE 24
#define SYNCS_PER_BYTE 8

static struct stress_entry log_ring[LOG_SIZE];
static _Atomic uint64_t log_next = 1;
static _Atomic uint64_t log_digest;
static pthread_mutex_t fail_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stress_world *the_world;
static const char *the_program;

static const char *const op_names[OP_NR] = {
    [OP_STORE] = "store",       [OP_GUARDED] = "guarded",     [OP_LOAD] = "load",
    [OP_PREAD] = "pread",       [OP_PWRITE] = "pwrite",       [OP_COPY] = "pwrite-from-map",
    [OP_TRUNCATE] = "truncate", [OP_ALLOCATE] = "fallocate",  [OP_ALLOCATE_KEEP] = "fallocate-keep",
    [OP_ZERO] = "zero-range",   [OP_ZERO_KEEP] = "zero-keep", [OP_PUNCH] = "punch",
    [OP_FSYNC] = "fsync",       [OP_MSYNC] = "msync",         [OP_SYNC] = "volume-sync",
    [OP_FILL] = "fill",         [OP_UNFILL] = "unfill",       [OP_RESERVE] = "reserve",
    [OP_FAULT_IN] = "fault-in", [OP_REMAP] = "remap",         [OP_REOPEN] = "reopen",
};

const char *stress_op_name(unsigned op)
{
    return op < OP_NR ? op_names[op] : "idle";
}

static void print_entry(const struct stress_entry *e, const char *note)
{
    printf("  #%-8" PRIu64 " t%-2u %-15s", e->id, e->thread, stress_op_name(e->op));
    if (e->op <= OP_LOAD || e->op == OP_MSYNC)
        printf(" map %c", 'A' + e->map);
    printf(" [%" PRId64 ", %" PRId64 ")%s size %" PRId64, e->start, e->end, e->zero ? " zeros" : "", e->size);
    if (e->finished)
        printf(" -> %" PRId64 ", %" PRId64 " bytes%s\n", e->result, e->done, note);
    else
        printf(" -> still running%s\n", note);
}

struct stress_entry *stress_log(unsigned thread, enum stress_op op, unsigned map, hf_off_t start,
                                hf_off_t end, hf_off_t size)
{
    uint64_t id = atomic_fetch_add(&log_next, 1);
    struct stress_entry *entry = &log_ring[id % LOG_SIZE];

    *entry = (struct stress_entry){.id = id,
                                   .op = (uint8_t)op,
                                   .thread = (uint8_t)thread,
                                   .map = (uint8_t)map,
                                   .start = start,
                                   .end = end,
                                   .size = size};
    return entry;
}

void stress_log_end(struct stress_entry *entry, int64_t result, int64_t done)
{
    uint64_t digest;

    entry->result = result;
    entry->done = done;
    entry->finished = true;
    if (the_world->opt.trace)
        print_entry(entry, "");
    digest = stress_mix(entry->id ^ (uint64_t)entry->op << 56);
    digest = stress_mix(digest ^ (uint64_t)entry->start) + stress_mix(digest + (uint64_t)entry->end);
    digest ^= stress_mix((uint64_t)result << 32 ^ (uint64_t)done);
    atomic_fetch_xor(&log_digest, stress_mix(digest));
}

uint64_t stress_log_digest(void)
{
    return log_digest;
}

void stress_report_init(struct stress_world *world, const char *program)
{
    the_world = world;
    the_program = program;
}

static const char *isize_name(enum hf_isize_sync sync)
{
    return sync == HF_ISIZE_HOLE_LOCK ? "hole-lock" : sync == HF_ISIZE_NONE ? "none" : "page-lock";
}

void stress_print_replay(void)
{
    const struct stress_options *o = &the_world->opt;

    printf("replay: %s --seed %" PRIu64 " --ops %" PRIu64 " --seconds %u --threads %u --page-size %u "
           "--block-size %u --isize-sync %s",
           the_program, o->seed, o->ops, o->seconds, o->threads, o->page_size, o->block_size,
           isize_name(o->isize_sync));
    printf(" --volume-size %" PRIu64 " --file-pages %u --space %u --cache-bytes %" PRIu64
           " --dirty-bytes %" PRIu64 " --writeback-ms %u",
           o->volume_size, o->file_pages, o->space_percent, o->cache_bytes, o->dirty_bytes, o->writeback_ms);
    if (o->engine)
        printf(" --engine %s", o->engine);
    printf("%s%s%s%s%s%s\n", o->racy ? " --racy" : "", o->inside ? " --inside" : "",
           o->syscall_b ? " --map-b syscalls" : "", o->memfs ? " --driver memfs" : "",
           o->break_what == BREAK_MKCLEAN ? " --break mkclean" : "", o->must_fail ? " --must-fail" : "");
    fflush(stdout);
}

static bool is_sync(const struct stress_entry *e)
{
    return e->op == OP_FSYNC || e->op == OP_SYNC || e->op == OP_MSYNC || e->op == OP_REOPEN;
}

static bool names_byte(const struct stress_entry *e, hf_off_t off)
{
    return e->op != OP_LOAD && e->op != OP_PREAD && e->start <= off && off < e->end;
}

/* The last operations that named this byte; `got` > 0: say which of them wrote that value. */
static void print_history(hf_off_t off, int got)
{
    const struct stress_entry *shown[SHOWN_PER_BYTE];
    uint64_t end = log_next, begin = end > LOG_SIZE ? end - LOG_SIZE + 1 : 1;
    unsigned nr = 0, nr_syncs = 0;

    for (uint64_t id = end; id-- > begin && nr < SHOWN_PER_BYTE;) {
        const struct stress_entry *e = &log_ring[id % LOG_SIZE];

        if (e->id == id && names_byte(e, off) && (!is_sync(e) || nr_syncs++ < SYNCS_PER_BYTE))
            shown[nr++] = e;
    }
    printf("last operations on byte %" PRId64
           " (oldest first; [start, end), file size before -> result, bytes "
           "accepted):\n",
           off);
    while (nr-- > 0) {
        bool same = got > 0 && shown[nr]->op <= OP_COPY && stress_pattern(shown[nr]->id, off) == got;

        print_entry(shown[nr], same ? "   <- wrote what was found" : "");
    }
}

static void print_page(hf_off_t off)
{
    static const char states[] = {'.', 'r', 'w', 'u', '-'};
    struct hf_page_info info;
    uint64_t index = (uint64_t)off / the_world->opt.page_size;

    if (!the_world->file || hf_page_map(the_world->file, index, 1, &info) < 1)
        return;
    printf("page %" PRIu64 " now: %s%s%s, blocks (. hole, r reserved, w written, u unwritten, - beyond; "
           "! dirty): ",
           index, info.state ? info.state : "?", info.straddling ? ", straddling" : "",
           info.writable ? ", writable" : "");
    for (unsigned b = 0; b < info.nr_blocks && b < HF_BLOCKS_PER_PAGE_MAX; b++)
        printf("%c%s", info.block_state[b] < sizeof(states) ? states[info.block_state[b]] : '?',
               info.block_dirty[b] ? "!" : "");
    printf("\n");
}

static void give_up(int signo)
{
    (void)signo;
    _exit(1);
}

static _Noreturn void end_process(enum stress_failure what)
{
    if (the_world->opt.must_fail && what == FAIL_BYTES) {
        printf("negative control: failed as it must\n");
        fflush(stdout);
        unlink(the_world->path);
        _exit(0);
    }
    if (!the_world->opt.keep)
        unlink(the_world->path);
    fflush(stdout);
    /* abort() leaves a core, and a debugger stops, for what is not a plain mismatch of bytes. */
    if (what == FAIL_HANG)
        abort();
    _exit(1);
}

static void begin_report(void)
{
    pthread_mutex_lock(&fail_lock); /* never given back */
    signal(SIGALRM, give_up);
    alarm(10); /* looking at the page may hang in a library that is broken */
}

static void finish_report(hf_off_t off, int got)
{
    printf("seed %" PRIu64 "\n", the_world->opt.seed);
    stress_print_replay();
    fflush(stdout);
    if (hf_trace_on) /* HF_TRACE=1 in the environment */
        hf_trace_dump(STDERR_FILENO);
    if (off < 0)
        return;
    print_history(off, got);
    fflush(stdout);
    print_page(off);
}

_Noreturn void stress_skip(const char *why)
{
    printf("SKIP: %s\n", why);
    fflush(stdout);
    unlink(the_world->path);
    _exit(77);
}

_Noreturn void stress_fail(enum stress_failure what, hf_off_t off, const char *format, ...)
{
    static const char *const names[] = {"BYTES", "CALL", "SPACE", "HANG"};
    va_list ap;

    begin_report();
    printf("\nFAIL %s: ", names[what]);
    va_start(ap, format);
    vprintf(format, ap);
    va_end(ap);
    printf("\n");
    finish_report(off, -1);
    end_process(what);
}

_Noreturn void stress_fail_byte(const char *via, hf_off_t off, unsigned expected, unsigned flags,
                                unsigned got, const uint8_t *expected_from_off, const uint8_t *got_from_off,
                                size_t len)
{
    const struct stress_options *o = &the_world->opt;
    size_t differ = 0;

    begin_report();
    while (differ < len && expected_from_off[differ] != got_from_off[differ])
        differ++;
    printf("\nFAIL BYTES: %s: offset %" PRId64 " (page %" PRId64 " + %" PRId64 ", block %" PRId64
           " + %" PRId64 "), expected %02x%s, got %02x; %zu bytes in a row differ; the file has %" PRId64
           " bytes\n",
           via, off, off / o->page_size, off % o->page_size, off / o->block_size, off % o->block_size,
           expected, flags & BYTE_MAYBE_ZERO ? " or 00" : "", got, differ, (hf_off_t)the_world->model.size);
    printf("%s\n", got == 0        ? "an accepted byte is lost"
                   : expected == 0 ? "there is garbage where zeros must be"
                                   : "there is some other value");
    finish_report(off, (int)got);
    end_process(FAIL_BYTES);
}
