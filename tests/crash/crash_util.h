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
 * and the volume must open, let files grow over zeros, and close.
 *
 * Files belong to one thread at a time; names are the main thread's.
 */
#ifndef TESTS_CRASH_CRASH_UTIL_H
#define TESTS_CRASH_CRASH_UTIL_H

#include "check.h"

#include <holdfast/device.h>

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

struct crash {
    struct crash_config config;
    struct hf_volume *volume;
    struct hf_powercut *record;
    struct crash_file files[CRASH_FILES];
    unsigned nr_files;
    uint64_t random;
    pthread_mutex_t lock; /* guards what follows */
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
void crash_sync_dir(struct crash *crash);
void crash_sync(struct crash *crash);

/* Cuts at nr_points events, spread evenly, several images for each. */
void crash_check(struct crash *crash, unsigned nr_points);
/* How many points are enough here: fewer in builds that are slow. */
unsigned crash_points(unsigned wanted);

#endif
