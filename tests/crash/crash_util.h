/* SPDX-License-Identifier: MIT */
/*
 * crash_util.h - a volume on a device that records, a model of what it has promised, and power cuts.
 *
 * A test works on files through the functions below. Each calls the library and notes what it did, and
 * between which events of the device. crash_check() then makes images of cuts, opens each, and holds what it
 * finds against the notes:
 *   bytes  Each byte is what the last sync that had returned before the cut confirmed, or what was written
 *          since. Every file has byte values of its own, and the free blocks of the new volume are soiled: so
 *          whatever else shows is foreign.
 *   names  The whole directory is as it was at one moment, not before the last sync that confirmed it.
 *   space  Nothing is reserved; the blocks in use are those that files have.
 * and the volume must be clean for hf_check_device(), open, let files grow over zeros, and close.
 *
 * crash_check() samples cuts; crash_check_all() cuts after every event, and between two flushes takes every
 * subset of the writes, as long as there are few.
 *
 * Files belong to one thread at a time; names are the main thread's.
 */
#ifndef TESTS_CRASH_CRASH_UTIL_H
#define TESTS_CRASH_CRASH_UTIL_H

#include "check.h"

#include <holdfast/device.h>
#include <holdfast/maintain.h>

#include <pthread.h>

#define CRASH_FILES 32
#define CRASH_NAMES 6 /* "n0" ... */
#define CRASH_FILE_MAX 32768
#define CRASH_VALUES 7 /* of one file, one after the other */
#define CRASH_SOIL 0xee

struct crash_config {
    uint32_t block_size, page_size;
    enum hf_isize_sync isize_sync;
    uint32_t writeback_ms; /* 0: no writeback but what is asked for */
    unsigned flush_us;     /* how long a flush takes at least */
    bool threads;          /* several threads work on it: sizes may be seen on their way */
    uint32_t device_bytes; /* 0: 2 MiB */
    bool discard;          /* a thin volume, opened with HF_OPEN_DISCARD */
};

struct crash_file {
    struct hf_file *file; /* NULL: closed */
    uint8_t *map;         /* NULL: not mapped */
    uint64_t ino;
    hf_off_t size;
    unsigned written; /* how often: chooses the value */
    bool dsync;       /* opened with O_DSYNC */
};

struct crash_op;
struct crash;

/* What a workload looks at besides, on the volume as a cut after so many events left it. Files of its own
 * have names that do not begin with n. Returns the sectors (of 512 bytes) that they take. */
typedef uint64_t crash_extra_fn(struct crash *crash, struct hf_volume *volume, uint64_t events);

struct crash {
    struct crash_config config;
    struct hf_volume *volume;
    struct hf_powercut *record;
    struct crash_file files[CRASH_FILES];
    unsigned nr_files;
    uint64_t random;
    crash_extra_fn *extra; /* may be NULL */
    void *arg;             /* the workload's */
    pthread_mutex_t lock;  /* guards what follows */
    struct crash_op *ops;
    size_t nr_ops, max_ops;
    uint8_t (*dirs)[CRASH_NAMES]; /* the directory after each change: number of the file + 1, or 0 */
    size_t nr_dirs;
};

/* A new volume, mounted. CRASH_SEED in the environment adds to the seed. */
void crash_init(struct crash *crash, const struct crash_config *config, uint64_t seed);
/* Closes all files and the volume, which is recorded as well. */
void crash_close(struct crash *crash);
void crash_done(struct crash *crash);

/* 0 ... n - 1 */
uint64_t crash_random(struct crash *crash, uint64_t n);

/* A new file under that name, which is free. flags: 0 or O_DSYNC. Returns its number. */
unsigned crash_create(struct crash *crash, unsigned name, int flags);
void crash_close_file(struct crash *crash, unsigned nr);
void crash_write(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len);
void crash_append(struct crash *crash, unsigned nr, hf_off_t len);
/* By the mapping, which is made at the first call. Inside the size. */
void crash_store(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len);
void crash_truncate(struct crash *crash, unsigned nr, hf_off_t size);
void crash_punch(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len);
void crash_preallocate(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len);
void crash_rename(struct crash *crash, unsigned from, unsigned to);
void crash_unlink(struct crash *crash, unsigned name);
void crash_fsync(struct crash *crash, unsigned nr);
void crash_fdatasync(struct crash *crash, unsigned nr);
void crash_msync(struct crash *crash, unsigned nr, hf_off_t off, hf_off_t len);
/* Begins to write what was stored to the mapping; confirms nothing. */
void crash_msync_async(struct crash *crash, unsigned nr);
void crash_sync_dir(struct crash *crash);
void crash_sync(struct crash *crash);
void crash_trim(struct crash *crash);

/* Events of the device so far. */
uint64_t crash_events(struct crash *crash);

/* Cuts at nr_points events, spread evenly, several images for each. */
void crash_check(struct crash *crash, unsigned nr_points);
/* Cuts after every event: all, none and some of the writes since the last flush, and, where these are few,
 * every subset of them. Images that are the same are looked at once. */
void crash_check_all(struct crash *crash);
/* As assert_that(), in crash_extra_fn: says which cut it was. */
#define crash_that(cond, ...) ((cond) ? (void)0 : crash_fail(__FILE__, __LINE__, #cond, __VA_ARGS__))
void crash_fail(const char *file, int line, const char *cond, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* How many points are enough here: fewer in builds that are slow. */
unsigned crash_points(unsigned wanted);

/*
 * main() of a workload: a cmocka case for each configuration, seed after seed. With CRASH_BREAK=NAME in the
 * environment that rule of the write order is broken (src/fs/blockfs/testing.h), and the program succeeds
 * only if a case fails.
 */
struct crash_case {
    const char *name;
    const struct crash_config *config;
    void (*workload)(const struct crash_config *config, uint64_t seed);
    unsigned nr_seeds;
};
int crash_main(const struct crash_case *cases, size_t nr);
/* The usual three: 1 KiB blocks in 4 KiB pages, blocks as large as pages, large pages and the hole lock. */
int crash_main_usual(void (*workload)(const struct crash_config *config, uint64_t seed), unsigned nr_seeds);

#endif
