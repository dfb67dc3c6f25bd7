/* SPDX-License-Identifier: MIT */
/*
 * processes.h - what the parts of the stress test of several processes share.
 *
 *   processes.c         options, the two ways to run, replay
 *   processes_model.c   in turn: one operation at a time, each result compared with a model of every byte
 *   processes_race.c    at once: all processes run, are killed and come back; each store is self-checking
 *   processes_worker.c  a process that maps: it obeys one order at a time, or runs by itself
 *   processes_serve.c   where the files are: a volume in this process, served to the others; or
 *   processes_posix.c   files of a directory, by system calls only: for `holdfast run`, and for the host
 *
 * The workers are this program, executed again. What both sides look at lies in one shared memory.
 */
#ifndef PROCESSES_H
#define PROCESSES_H

#include "stress_rng.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MP_WORKERS 4u
#define MP_SLOTS 2u
#define MP_FILES 3u
#define MP_CAP_MAX ((size_t)256 << 10) /* of a file, bytes */
#define MP_CELL 8u                     /* a self-checking value, bytes; one instruction stores it */
#define MP_CELLS (MP_CAP_MAX / MP_CELL)
#define MP_TICKET_LEN 256
#define MP_ANSWER_MS 120000

/* ------------------------------------------------------------------ shared memory */

/* What the owner of a cell has stored: acked <= what anybody reads <= trying. Both only grow. */
struct mp_cell {
    _Atomic uint64_t acked, trying;
};

struct mp_shared {
    int64_t cap, base;                            /* set at init; see processes_race.c */
    uint8_t tickets[MP_FILES][MP_TICKET_LEN];     /* how to map the files; written while no worker runs */
    uint8_t bytes[MP_CAP_MAX];                    /* to store, or to compare with */
    _Atomic int64_t child_done, child_error;      /* of a forked child's store */
    _Atomic bool stop;                            /* workers that run by themselves come back */
    _Atomic uint64_t progress, accepted, refused; /* sums */
    _Atomic uint64_t next_seq[MP_WORKERS];
    _Atomic int child[MP_WORKERS]; /* a forked child that stores for its parent; 0: none */
    _Atomic bool failed;           /* by a worker, which then stops */
    char failure[256];             /* written by the one that set failed */
    struct mp_cell cells[MP_FILES][MP_CELLS];
};
extern struct mp_shared *mp_shared;

/* The value of a cell; never 0. seq is told by mp_cell_seq(), or 0 if it is none of that cell's. */
static inline uint64_t mp_cell_value(unsigned file, uint64_t index, uint64_t seq)
{
    return seq << 32 | (uint32_t)(stress_mix(index * 3 + file + (seq << 40)) | 1);
}

static inline uint64_t mp_cell_seq(unsigned file, uint64_t index, uint64_t value)
{
    return value != 0 && mp_cell_value(file, index, value >> 32) == value ? value >> 32 : 0;
}

static inline unsigned mp_cell_owner(uint64_t index)
{
    return (unsigned)(index % MP_WORKERS);
}

/* ------------------------------------------------------------------ orders */

enum mp_op {
    MP_MAP, /* slot, file, off, len, prot */
    MP_UNMAP,
    MP_REMAP,   /* slot, len: the new one */
    MP_PROTECT, /* slot, prot */
    MP_STORE,   /* slot, at, len: shared bytes, one at a time; by: who does it */
    MP_LOOK,    /* slot, at, len: compares with the shared bytes; result: the first that differs, or -1 */
    MP_SYNC,    /* slot, at, len */
    MP_HEIR,    /* a forked child takes the worker's place */
    MP_EXEC,    /* executes itself: the mappings are gone */
    MP_RACE,    /* runs by itself until shared stop; seed in len, number in file */
    MP_END,
};

enum mp_by { MP_SELF, MP_CHILD_EXITS, MP_CHILD_KILLED };

struct mp_order {
    enum mp_op op;
    enum mp_by by;
    unsigned slot, file;
    int prot;
    int64_t off;
    uint64_t len, at;
};

struct mp_answer {
    int64_t result; /* >= 0 or -errno; of MP_STORE: 0 or the refusal */
    int64_t done;   /* MP_STORE: bytes; MP_LOOK: the byte that differs */
    pid_t pid;
};

int mp_worker_main(int argc, char **argv);

/* ------------------------------------------------------------------ where the files are */

/* Space of the volume, in blocks. */
struct mp_space {
    uint64_t free, reserved;
};

struct mp_options {
    uint64_t seed, ops;
    unsigned seconds;
    bool race, must_fail, trace, keep;
    bool break_mkclean, break_dead;
    uint32_t page_size, block_size;
    unsigned space_percent;
    const char *dir;    /* processes_posix.c: of the files; else of the volume */
    const char *expect; /* a file for what the files hold at the end; or, with verify, of an earlier run */
    bool verify;
};
extern struct mp_options mp_options;

/* The side of the master. Each fails by itself what must not fail. */
void mp_back_create(void);
/* Only what is on the device remains. No worker has a mapping. */
void mp_back_reopen(void);
void mp_back_destroy(void);
/* What is left of it on disk goes, while it is still in use: for a test that has failed. */
void mp_back_remove(void);
/* Mappings of workers die; mp_back_serve_again() makes new tickets. False: there is no such thing here. */
bool mp_back_serve_no_more(void);
void mp_back_serve_again(void);
int64_t mp_back_pread(unsigned file, void *buf, size_t len, int64_t off);
int64_t mp_back_pwrite(unsigned file, const void *buf, size_t len, int64_t off);
int mp_back_truncate(unsigned file, int64_t size);
int mp_back_punch(unsigned file, int64_t off, int64_t len);
int mp_back_allocate(unsigned file, int64_t off, int64_t len);
int mp_back_fsync(unsigned file);
int mp_back_sync(void);
int64_t mp_back_size(unsigned file);
/* Makes the filler so large, or as large as there is space. */
void mp_back_fill(int64_t size);
/* False: not to be known here. */
bool mp_back_space(struct mp_space *ret_space);
/* Blocks that a first store to each of the pages (pages: as a mapping sees them; else: a write of just these
 * bytes) of [off, end) would take. */
uint64_t mp_back_need(unsigned file, int64_t off, int64_t end, bool pages);

/* The side of a worker. 0 or -errno. */
void mp_map_init(const char *dir);
int mp_map(unsigned file, int64_t off, size_t len, int prot, void **ret_addr);
int mp_unmap(void *addr, size_t len);
int mp_remap(void *addr, size_t old_len, size_t new_len, void **ret_addr);
int mp_protect(void *addr, size_t len, int prot);
int mp_msync(void *addr, size_t len);
/* In the handler of SIGBUS: 0: again; else the refusal, negative. */
int mp_map_fault(void *addr, bool write);

/* ------------------------------------------------------------------ the master */

struct mp_slot {
    bool mapped;
    unsigned file;
    int prot;
    int64_t off;
    uint64_t len;
};

struct mp_worker {
    pid_t pid;
    int sock;
    struct mp_slot slots[MP_SLOTS];
};
extern struct mp_worker mp_workers[MP_WORKERS];

struct mp_counts {
    uint64_t ops, stores, refused, kills, forks, reopens, servers, checks;
};
extern struct mp_counts mp_counts;

void mp_worker_start(unsigned who);
void mp_worker_send(unsigned who, const struct mp_order *order);
struct mp_answer mp_worker_answer(unsigned who);
struct mp_answer mp_worker_do(unsigned who, const struct mp_order *order);
/* SIGKILL, reaped. */
void mp_worker_kill(unsigned who);
void mp_worker_end(unsigned who);

bool mp_time_is_up(void);
/* Choices and results, for the digest and for the report of a failure. */
void mp_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* bytes: a byte was lost or invented, as a negative control wants it. */
_Noreturn void mp_fail(bool bytes, const char *format, ...) __attribute__((format(printf, 2, 3)));

void mp_model_run(void);
/* Compares with what an earlier run has left in mp_options.expect. */
void mp_model_verify(void);
void mp_race_run(void);

#endif
