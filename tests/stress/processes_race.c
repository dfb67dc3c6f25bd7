/* SPDX-License-Identifier: MIT */
/*
 * processes_race.c - at once: the workers run by themselves (processes_worker.c), while here files grow and
 * shrink, are punched, written back and read, the volume fills, and workers are killed at any instruction.
 *
 * A cell below base that a dead worker was storing to holds the old value or the new one; which of them is
 * found after its death stays. At the end the volume is opened again, and every cell is compared.
 */
#include "processes.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANG_SECONDS 120u

static struct stress_rng rng;
static uint64_t content[MP_FILES][MP_CELLS];
static unsigned starts;

static uint64_t below(uint64_t n)
{
    return stress_rng_below(&rng, n);
}

static void check_workers(void)
{
    if (atomic_load(&mp_shared->failed)) {
        poll(NULL, 0, 100); /* the message is being written */
        mp_fail(true, "%s", mp_shared->failure);
    }
}

static void judge(unsigned file, uint64_t i, uint64_t value, uint64_t acked, uint64_t most, const char *when)
{
    uint64_t seq = mp_cell_seq(file, i, value);

    if ((value != 0 && seq == 0) || seq < acked || seq > most)
        mp_fail(true,
                "%s: cell %llu of file %u, offset %lld, is %016llx (number %llu); accepted are %llu to %llu",
                when, (unsigned long long)i, file, (long long)(i * MP_CELL), (unsigned long long)value,
                (unsigned long long)seq, (unsigned long long)acked, (unsigned long long)most);
}

/* ------------------------------------------------------------------ reading */

static void read_cells(unsigned file, uint64_t first, uint64_t nr, uint64_t *ret_cells)
{
    int64_t want = (int64_t)(nr * MP_CELL),
            n = mp_back_pread(file, ret_cells, nr * MP_CELL, (int64_t)(first * MP_CELL));

    if (n < 0 || (n < want && (int64_t)(first * MP_CELL) + n < mp_shared->base))
        mp_fail(false, "pread of file %u at %lld: %lld", file, (long long)(first * MP_CELL), (long long)n);
    memset((uint8_t *)ret_cells + n, 0, (size_t)(want - n));
}

static void look(void)
{
    static uint64_t acked[256], cells[256];
    unsigned file = (unsigned)below(MP_FILES);
    uint64_t nr = 1 + below(256), first = below((uint64_t)mp_shared->cap / MP_CELL - nr);

    for (uint64_t i = 0; i < nr; i++)
        acked[i] = atomic_load(&mp_shared->cells[file][first + i].acked);
    read_cells(file, first, nr, cells);
    for (uint64_t i = 0; i < nr; i++) {
        bool logged = (int64_t)((first + i) * MP_CELL) < mp_shared->base;
        uint64_t most = logged ? atomic_load(&mp_shared->cells[file][first + i].trying)
                               : atomic_load(&mp_shared->next_seq[mp_cell_owner(first + i)]);
        judge(file, first + i, cells[i], acked[i], most, "pread");
    }
    mp_counts.checks++;
}

/* Nobody stores. before: that every cell is as it was then. */
static void look_at_all(const char *when, bool before)
{
    static uint64_t cells[MP_CELLS];

    for (unsigned file = 0; file < MP_FILES; file++) {
        read_cells(file, 0, (uint64_t)mp_shared->cap / MP_CELL, cells);
        for (uint64_t i = 0; i < (uint64_t)mp_shared->cap / MP_CELL; i++) {
            if ((int64_t)(i * MP_CELL) < mp_shared->base)
                judge(file, i, cells[i], atomic_load(&mp_shared->cells[file][i].acked),
                      atomic_load(&mp_shared->cells[file][i].acked), when);
            else
                judge(file, i, cells[i], 0, atomic_load(&mp_shared->next_seq[mp_cell_owner(i)]), when);
            if (before && cells[i] != content[file][i])
                mp_fail(true, "%s: cell %llu of file %u is %016llx, and was %016llx", when,
                        (unsigned long long)i, file, (unsigned long long)cells[i],
                        (unsigned long long)content[file][i]);
        }
        memcpy(content[file], cells, sizeof(cells));
    }
    mp_counts.checks++;
}

/* ------------------------------------------------------------------ workers */

static void start(unsigned who)
{
    mp_worker_start(who);
    mp_worker_send(who, &(struct mp_order){
                            .op = MP_RACE, .file = who, .len = stress_mix(mp_options.seed + who) + starts++});
}

/* A store that was under way has happened, or not: from now on that is known. */
static void settle(unsigned who)
{
    static uint64_t cells[MP_CELLS];

    for (unsigned file = 0; file < MP_FILES; file++) {
        bool read = false;
        for (uint64_t i = who; (int64_t)(i * MP_CELL) < mp_shared->base; i += MP_WORKERS) {
            struct mp_cell *c = &mp_shared->cells[file][i];
            uint64_t acked = atomic_load(&c->acked), trying = atomic_load(&c->trying);

            if (acked == trying)
                continue;
            if (!read)
                read_cells(file, 0, (uint64_t)mp_shared->base / MP_CELL, cells);
            read = true;
            judge(file, i, cells[i], acked, trying, "after a kill");
            if (mp_cell_seq(file, i, cells[i]) != trying) /* it has not happened, and never will */
                atomic_store(&c->trying, acked);
            else
                atomic_store(&c->acked, trying);
        }
    }
}

/* A forked child of a dead worker dies with it (PR_SET_PDEATHSIG) and is ours by now: not another store comes
 * of it once it is reaped. */
static void reap_child(unsigned who)
{
    pid_t pid = atomic_exchange(&mp_shared->child[who], 0);

    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void kill_one(void)
{
    unsigned who = (unsigned)below(MP_WORKERS);

    mp_worker_kill(who);
    reap_child(who);
    if (mp_options.break_dead)
        mp_back_punch((unsigned)below(MP_FILES), 0, mp_shared->base & -4096);
    settle(who);
    start(who);
}

/* ------------------------------------------------------------------ the files */

static void must(int64_t rc, const char *what)
{
    if (rc < 0)
        mp_fail(false, "%s: %d", what, (int)rc);
}

static int64_t pick_beyond_base(void)
{
    return mp_shared->base +
           (int64_t)(below((uint64_t)(mp_shared->cap - mp_shared->base) / MP_CELL) * MP_CELL);
}

static void punch(void)
{
    int64_t from = pick_beyond_base(), to = pick_beyond_base();

    if (from < to)
        must(mp_back_punch((unsigned)below(MP_FILES), from, to - from), "punch");
}

static void step(void)
{
    uint64_t r = below(100);

    mp_counts.ops++;
    if (r < 40)
        must(mp_back_truncate((unsigned)below(MP_FILES), pick_beyond_base()), "truncate");
    else if (r < 50)
        punch();
    else if (r < 60)
        must(mp_back_fsync((unsigned)below(MP_FILES)), "fsync");
    else if (r < 62)
        must(mp_back_sync(), "sync");
    else if (r < 64)
        mp_back_fill((int64_t)below(MP_FILES * (uint64_t)mp_shared->cap * mp_options.space_percent / 100));
    else if (r < 68)
        kill_one();
    else
        look();
}

/* ------------------------------------------------------------------ running */

/* True: no worker has done anything for very long. */
static bool hangs(void)
{
    static uint64_t last;
    static struct timespec since;
    uint64_t progress = atomic_load(&mp_shared->progress);
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (progress != last || since.tv_sec == 0) {
        last = progress;
        since = now;
    }
    return now.tv_sec - since.tv_sec > HANG_SECONDS;
}

static void stop_all(void)
{
    atomic_store(&mp_shared->stop, true);
    for (unsigned i = 0; i < MP_WORKERS; i++) {
        struct mp_answer answer = mp_worker_answer(i);
        if (answer.result != 0)
            mp_fail(false, "worker %u: %lld", i, (long long)answer.result);
    }
    check_workers();
}

void mp_race_run(void)
{
    rng.state = mp_options.seed;
    for (unsigned i = 0; i < MP_FILES; i++)
        must(mp_back_truncate(i, mp_shared->base), "truncate");
    for (unsigned i = 0; i < MP_WORKERS; i++)
        start(i);
    while ((mp_options.ops == 0 || mp_counts.ops < mp_options.ops) && !mp_time_is_up()) {
        step();
        poll(NULL, 0, 1); /* the workers are many, and this is one */
        check_workers();
        if (hangs())
            mp_fail(false, "no worker has done anything for %u s", HANG_SECONDS);
    }
    stop_all();
    mp_counts.stores = atomic_load(&mp_shared->accepted);
    mp_counts.refused = atomic_load(&mp_shared->refused);
    look_at_all("at the end", false);
    for (unsigned i = 0; i < MP_WORKERS; i++)
        mp_worker_end(i);
    mp_back_reopen();
    mp_counts.reopens++;
    look_at_all("after reopening", true);
}
