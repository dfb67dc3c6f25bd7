/* SPDX-License-Identifier: MIT */
/*
 * stress.h - what the parts of the stress test share.
 *
 *   stress.c   options, epochs of threads, watchdog
 *   ops.c      one function per operation a thread may choose
 *   world.c    open, close and reopen the volume; the checks made while nobody runs
 *   model.c    the shadow model: every byte's expected value, and the range lock that keeps it exact
 *   report.c   the log of operations and the failure report with its replay command
 *
 * Lock order: world.map_b_lock and model.size_lock are never held together; model.size_lock ->
 * a model range -> world.map_b_lock -> (calls into Holdfast); model.lock and the filler's lock are leaves.
 */
#ifndef STRESS_H
#define STRESS_H

#include "stress_rng.h"

#include <holdfast/holdfast.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* ------------------------------------------------------------------ options */

enum stress_break { BREAK_NOTHING = 0, BREAK_MKCLEAN };

struct stress_options {
    uint64_t seed;
    uint64_t ops;     /* in all; 0: until seconds are over */
    unsigned seconds; /* 0: until ops are done */
    unsigned threads;
    uint32_t page_size, block_size;
    enum hf_isize_sync isize_sync;
    const char *engine; /* NULL: the library's choice */
    uint64_t volume_size;
    unsigned file_pages;    /* the file's capacity, in pages of P; 0: chosen by page size */
    unsigned space_percent; /* data space, percent of the capacity */
    uint64_t cache_bytes, dirty_bytes;
    uint32_t writeback_ms;
    enum stress_break break_what;
    bool racy;      /* size changes race with stores to the very bytes they remove */
    bool inside;    /* no stores beyond EOF */
    bool syscall_b; /* the second mapping is one for system calls */
    bool memfs;     /* driver memfs instead of blockfs: nothing to reopen */
    bool must_fail; /* a negative control: success is to see lost or invented bytes */
    bool verbose, trace, keep;
    const char *dir;
};

/* ------------------------------------------------------------------ the shadow model (model.c) */

/*
 * What may overlap what:   READ  STORE WRITE RACE
 *                 READ      yes   -     -     yes
 *                 STORE     -     -     -     yes
 *                 WRITE     -     -     -     -
 *                 RACE      yes   yes   -     -
 * RACE is a size change or punch in racy mode, WRITE everything that must be alone with its bytes.
 */
enum stress_lock_mode { RANGE_READ, RANGE_STORE, RANGE_WRITE, RANGE_RACE };

/* One held or awaited range [start, end); lives on the stack of its thread. Guarded by model.lock. */
struct stress_range {
    hf_off_t start, end;
    enum stress_lock_mode mode;
    bool granted;
    bool raced; /* READ, STORE: a RACE overlapped at some time since the grant */
    struct stress_range *next;
};

#define BYTE_MAYBE_ZERO 0x1u /* either val or zero: a store raced with a truncate or punch */
#define BYTE_RACED 0x2u      /* stored while a RACE over it was still under way */

struct stress_model {
    hf_off_t capacity; /* set at init: no operation goes beyond */
    uint8_t *val;      /* guarded by the range lock; with RACE about also by lock */
    uint8_t *flags;    /* likewise: BYTE_* */
    _Atomic hf_off_t size;
    pthread_mutex_t size_lock; /* whoever may change the size holds it */
    pthread_mutex_t lock;      /* guards the list, granted, raced */
    pthread_cond_t granted;
    struct stress_range *head; /* in order of arrival */
};

int stress_model_init(struct stress_model *model, hf_off_t capacity);
void stress_model_done(struct stress_model *model);
void stress_model_lock(struct stress_model *model, struct stress_range *range, hf_off_t start, hf_off_t end,
                       enum stress_lock_mode mode);
bool stress_model_trylock(struct stress_model *model, struct stress_range *range, hf_off_t start,
                          hf_off_t end, enum stress_lock_mode mode);
void stress_model_unlock(struct stress_model *model, struct stress_range *range);
bool stress_model_raced(struct stress_model *model, struct stress_range *range);
/* A store under `range` had [off, off+len) accepted. */
void stress_model_stored(struct stress_model *model, struct stress_range *range, hf_off_t off,
                         const uint8_t *data, size_t len);
/* A write had [off, off+len) accepted; grows the size (the gap is zero) if it ends beyond. */
void stress_model_written(struct stress_model *model, hf_off_t off, const uint8_t *data, size_t len);
/* [start, end) reads as zero from now on, and the size is new_size (-1: as it was). */
void stress_model_zeroed(struct stress_model *model, hf_off_t start, hf_off_t end, hf_off_t new_size);
/* The same operation was refused: nothing changed, or (maybe) some bytes were zeroed. */
void stress_model_refused(struct stress_model *model, hf_off_t start, hf_off_t end, bool maybe);
/* Values and flags of [off, off+len) now, and the size now. */
hf_off_t stress_model_snapshot(struct stress_model *model, hf_off_t off, size_t len, uint8_t *ret_val,
                               uint8_t *ret_flags);

/* ------------------------------------------------------------------ the log and the report (report.c) */

enum stress_op {
    OP_STORE,
    OP_GUARDED,
    OP_LOAD,
    OP_PREAD,
    OP_PWRITE,
    OP_COPY,
    OP_TRUNCATE,
    OP_ALLOCATE,
    OP_ALLOCATE_KEEP,
    OP_ZERO,
    OP_ZERO_KEEP,
    OP_PUNCH,
    OP_FSYNC,
    OP_MSYNC,
    OP_SYNC,
    OP_FILL,
    OP_UNFILL,
    OP_RESERVE,
    OP_FAULT_IN,
    OP_REMAP,
    OP_REOPEN,
    OP_NR,
};

/* One operation, as logged. result: the call's; done: bytes accepted. */
struct stress_entry {
    uint64_t id;
    hf_off_t start, end;
    hf_off_t size; /* the model's, when the operation began */
    int64_t result, done;
    uint8_t op, thread, map;
    bool zero, finished;
};

/* What a failure is about. Negative controls must produce BYTES. */
enum stress_failure { FAIL_BYTES, FAIL_CALL, FAIL_SPACE, FAIL_HANG };

struct stress_world;

const char *stress_op_name(unsigned op);
/* Begins an operation in the log. The entry stays valid for some ten thousand operations. */
struct stress_entry *stress_log(unsigned thread, enum stress_op op, unsigned map, hf_off_t start,
                                hf_off_t end, hf_off_t size);
void stress_log_end(struct stress_entry *entry, int64_t result, int64_t done);
/* Of all that was asked and answered so far: equal for runs that did the same. */
uint64_t stress_log_digest(void);
/* Prints the failure, the seed and the replay command, and ends the process. off < 0: no byte is meant. */
_Noreturn void stress_fail(enum stress_failure what, hf_off_t off, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* As FAIL_BYTES, with what was found where something else was to be found. */
_Noreturn void stress_fail_byte(const char *via, hf_off_t off, unsigned expected, unsigned flags,
                                unsigned got, const uint8_t *expected_from_off, const uint8_t *got_from_off,
                                size_t len);
/* Not possible here: ends the process with the status that test harnesses take for "skipped". */
_Noreturn void stress_skip(const char *why);
void stress_report_init(struct stress_world *world, const char *program);
void stress_print_replay(void);

/* ------------------------------------------------------------------ the world (world.c) */

/* A second file that comes and goes, to vary the free space. Its bytes are stress_pattern(id, off). */
struct stress_filler {
    pthread_mutex_t lock;
    bool exists;
    hf_off_t size;
    uint64_t id;
};

struct stress_world {
    struct stress_options opt;
    char path[512];
    struct hf_volume *volume;
    struct hf_file *file;
    uint8_t *map[2];             /* capacity bytes each */
    pthread_rwlock_t map_b_lock; /* exclusive: map[1] is being replaced */
    ino_t ino;
    struct stress_model model;
    struct stress_filler filler;
    uint64_t free_blocks_at_start;
    hf_off_t ballast_bytes;
    _Atomic bool kept_beyond; /* fallocate(KEEP_SIZE) may have left blocks beyond EOF */
    /* counters for the summary */
    _Atomic uint64_t nr_op[OP_NR], nr_refused[OP_NR], nr_raced, nr_early;
    uint64_t nr_checks, nr_reopens;
    struct hf_volume_stats stats; /* summed over reopens */
};

void stress_world_create(struct stress_world *world);
void stress_world_destroy(struct stress_world *world);
void stress_world_map(struct stress_world *world, unsigned which);
/* Nobody runs: every byte, by pread and both mappings; sizes, holes, blocks against the model. */
void stress_world_check(struct stress_world *world, const char *when);
/* Nobody runs: close everything (leaks?), open it again. look: check every byte, which leaves nothing
 * uncached. */
void stress_world_reopen(struct stress_world *world, struct stress_rng *rng, bool look);
/* Nobody runs: grow to the capacity: only zeros may appear; shrink back. */
void stress_world_regrow(struct stress_world *world);

/* ------------------------------------------------------------------ threads (ops.c) */

struct stress_thread {
    struct stress_world *world;
    unsigned index;
    struct stress_rng rng;
    uint64_t ops; /* to do in this epoch */
    pthread_t pthread;
    _Atomic uint64_t progress;
    _Atomic int current; /* enum stress_op */
    /* scratch, capacity of STRESS_LEN_PAGES pages each */
    uint8_t *data, *got, *val, *flags;
};

#define STRESS_LEN_PAGES 3 /* longest operation on bytes, in pages */

void stress_thread_step(struct stress_thread *thread);

#endif
