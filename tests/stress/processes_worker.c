/* SPDX-License-Identifier: MIT */
/*
 * processes_worker.c - a process that maps files and stores: on order, or by itself.
 *
 * By itself it owns every fourth cell of each file. Below base a cell is never truncated or punched: before a
 * store its log says what is tried, afterwards what was accepted; whoever reads it meanwhile, by whatever
 * way, must find one of these. From base on the size moves about: there a cell is zero or a value that its
 * owner has stored at some time, never anything else.
 */
#include "processes.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define RUN_CELLS 1500u

static struct slot {
    uint8_t *map;
    size_t len;
    unsigned file;
    int64_t off;
} slots[MP_SLOTS];

static sigjmp_buf refused;
static volatile sig_atomic_t armed;
static char **own_args;

static void on_fault(int sig, siginfo_t *info, void *context)
{
    int err = -EFAULT;
    bool write = true;

#ifdef __x86_64__
    write = (((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context;
#endif
    if (sig == SIGBUS)
        err = mp_map_fault(info->si_addr, write);
    if (err == 0)
        return;
    if (!armed)
        _exit(97);
    armed = 0;
    siglongjmp(refused, -err);
}

/* ------------------------------------------------------------------ on order */

/* Bytes accepted so far are told to who waits, even if this process does not live to the end of it. */
static int store(const struct mp_order *o)
{
    volatile uint8_t *at = slots[o->slot].map + o->at;
    int err = sigsetjmp(refused, 1);

    if (err != 0)
        return -err;
    armed = 1;
    while ((uint64_t)atomic_load(&mp_shared->child_done) < o->len) {
        int64_t i = atomic_load(&mp_shared->child_done);
        at[i] = mp_shared->bytes[i];
        atomic_store(&mp_shared->child_done, i + 1);
    }
    armed = 0;
    return 0;
}

static int store_by_child(const struct mp_order *o)
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        return -errno;
    if (pid == 0) {
        atomic_store(&mp_shared->child_error, store(o));
        if (o->by == MP_CHILD_KILLED)
            kill(getpid(), SIGKILL);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (o->by == MP_CHILD_KILLED ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL : status != 0)
        return -ECHILD;
    return (int)atomic_load(&mp_shared->child_error);
}

static struct mp_answer order_store(const struct mp_order *o)
{
    struct mp_answer answer = {.result = 0};

    atomic_store(&mp_shared->child_done, 0);
    answer.result = o->by == MP_SELF ? store(o) : store_by_child(o);
    answer.done = atomic_load(&mp_shared->child_done);
    return answer;
}

static struct mp_answer order_look(const struct mp_order *o)
{
    volatile uint8_t *at = slots[o->slot].map + o->at;
    volatile uint64_t i = 0;
    int err = sigsetjmp(refused, 1);

    if (err != 0)
        return (struct mp_answer){.result = -1000 - err, .done = (int64_t)i};
    armed = 1;
    for (; i < o->len; i++) {
        uint8_t got = at[i];
        if (got != mp_shared->bytes[i]) {
            armed = 0;
            return (struct mp_answer){.result = (int64_t)i, .done = got};
        }
    }
    armed = 0;
    return (struct mp_answer){.result = -1};
}

static int64_t map_slot(unsigned slot, unsigned file, int64_t off, size_t len, int prot)
{
    void *map = NULL;
    int err = mp_map(file, off, len, prot, &map);

    if (!err)
        slots[slot] = (struct slot){.map = map, .len = len, .file = file, .off = off};
    return err;
}

static int64_t remap_slot(struct slot *s, size_t len)
{
    void *map = NULL;
    int err = mp_remap(s->map, s->len, len, &map);

    if (!err) {
        s->map = map;
        s->len = len;
    }
    return err;
}

static int64_t unmap_slot(struct slot *s)
{
    int err = mp_unmap(s->map, s->len);

    s->map = NULL;
    return err;
}

/* The child goes on; its parent ends. */
static int64_t become_heir(void)
{
    pid_t pid = fork();

    if (pid < 0)
        return -errno;
    if (pid != 0)
        _exit(0);
    return 0;
}

static int64_t race(unsigned who, uint64_t seed);

static struct mp_answer obey(const struct mp_order *o)
{
    struct slot *s = &slots[o->slot % MP_SLOTS];
    struct mp_answer answer = {.result = 0};

    switch (o->op) {
    case MP_STORE:
        return order_store(o);
    case MP_LOOK:
        return order_look(o);
    case MP_MAP:
        answer.result = map_slot(o->slot, o->file, o->off, o->len, o->prot);
        break;
    case MP_UNMAP:
        answer.result = unmap_slot(s);
        break;
    case MP_REMAP:
        answer.result = remap_slot(s, o->len);
        break;
    case MP_PROTECT:
        answer.result = mp_protect(s->map, s->len, o->prot);
        break;
    case MP_SYNC:
        answer.result = mp_msync(s->map + o->at, o->len);
        break;
    case MP_HEIR:
        answer.result = become_heir();
        break;
    case MP_EXEC:
        execv("/proc/self/exe", own_args);
        _exit(96);
    case MP_RACE:
        answer.result = race(o->file, o->len);
        break;
    case MP_END:
        break;
    }
    return answer;
}

static bool answer_with(int sock, struct mp_answer answer)
{
    answer.pid = getpid();
    return send(sock, &answer, sizeof(answer), MSG_NOSIGNAL) == (ssize_t)sizeof(answer);
}

/* argv: program, --worker, the socket's number, the shared memory's, the directory. */
int mp_worker_main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int sock = argc > 3 ? atoi(argv[2]) : -1, memory = argc > 3 ? atoi(argv[3]) : -1;
    struct mp_order order;

    own_args = argv;
    mp_shared = mmap(NULL, sizeof(*mp_shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (mp_shared == MAP_FAILED)
        return 95;
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    mp_map_init(argc > 4 ? argv[4] : ".");
    if (!answer_with(sock, (struct mp_answer){.result = 0}))
        return 1;
    while (recv(sock, &order, sizeof(order), 0) == (ssize_t)sizeof(order)) {
        if (!answer_with(sock, obey(&order)))
            return 1;
        if (order.op == MP_END)
            return 0;
    }
    return 0; /* the master has ended */
}

/* ------------------------------------------------------------------ by itself */

static struct racer {
    struct stress_rng rng;
    unsigned who;
} me;

static uint64_t below(uint64_t n)
{
    return stress_rng_below(&me.rng, n);
}

static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
    va_list args;

    if (atomic_exchange(&mp_shared->failed, true))
        _exit(94);
    va_start(args, format);
    vsnprintf(mp_shared->failure, sizeof(mp_shared->failure), format, args);
    va_end(args);
    _exit(94);
}

static volatile uint64_t *cell_in(const struct slot *s, uint64_t index)
{
    return (volatile uint64_t *)(void *)(s->map + (int64_t)(index * MP_CELL) - s->off);
}

/* The cells of a slot that lie in [from, to) of the file. */
static bool pick_cells(const struct slot *s, int64_t from, int64_t to, uint64_t *ret_first, uint64_t *ret_end)
{
    int64_t start = s->off > from ? s->off : from, end = s->off + (int64_t)s->len;
    uint64_t nr;

    if (end > to)
        end = to;
    if (s->map == NULL || end - start < (int64_t)(MP_WORKERS * MP_CELL))
        return false;
    nr = (uint64_t)(end - start) / MP_CELL;
    *ret_first = (uint64_t)start / MP_CELL + below(nr);
    *ret_end = *ret_first + 1 + below(below(4) == 0 ? RUN_CELLS : 40);
    if (*ret_end > (uint64_t)end / MP_CELL)
        *ret_end = (uint64_t)end / MP_CELL;
    return *ret_first < *ret_end;
}

/* Own cells from first on, until one is refused. logged: they lie below base. */
static void store_cells(const struct slot *s, uint64_t first, uint64_t end, bool logged)
{
    struct mp_cell *cells = mp_shared->cells[s->file];
    volatile uint64_t i = first + (me.who + MP_WORKERS - mp_cell_owner(first)) % MP_WORKERS;
    int err = sigsetjmp(refused, 1);

    if (err != 0) {
        atomic_fetch_add(&mp_shared->refused, 1);
        if (err != ENOSPC && !(err == ENXIO && !logged))
            complain("worker %u: a store to cell %llu of file %u was refused with %d", me.who,
                     (unsigned long long)i, s->file, err);
        if (logged)
            atomic_store(&cells[i].trying, atomic_load(&cells[i].acked));
        return;
    }
    for (; i < end; i += MP_WORKERS) {
        uint64_t seq = atomic_fetch_add(&mp_shared->next_seq[me.who], 1) + 1;

        if (logged)
            atomic_store(&cells[i].trying, seq);
        armed = 1;
        *cell_in(s, i) = mp_cell_value(s->file, i, seq);
        armed = 0;
        if (logged)
            atomic_store(&cells[i].acked, seq);
        atomic_fetch_add_explicit(&mp_shared->accepted, 1, memory_order_relaxed);
    }
}

static void judge_cell(const struct slot *s, uint64_t i, uint64_t acked, uint64_t value)
{
    uint64_t seq = mp_cell_seq(s->file, i, value), most;

    if ((int64_t)(i * MP_CELL) >= mp_shared->base) {
        most = atomic_load(&mp_shared->next_seq[mp_cell_owner(i)]);
        acked = 0;
    } else {
        most = atomic_load(&mp_shared->cells[s->file][i].trying);
    }
    if ((value != 0 && seq == 0) || seq < acked || seq > most)
        complain("worker %u reads %016llx (number %llu) from cell %llu of file %u, offset %lld; accepted are "
                 "%llu to %llu",
                 me.who, (unsigned long long)value, (unsigned long long)seq, (unsigned long long)i, s->file,
                 (long long)(i * MP_CELL), (unsigned long long)acked, (unsigned long long)most);
}

static void look_at_cells(const struct slot *s, uint64_t first, uint64_t end)
{
    volatile uint64_t i = first;
    int err = sigsetjmp(refused, 1);

    if (err != 0) {
        if ((int64_t)(i * MP_CELL) < mp_shared->base)
            complain("worker %u: a load of cell %llu of file %u was refused with %d", me.who,
                     (unsigned long long)i, s->file, err);
        return;
    }
    for (; i < end; i++) {
        uint64_t acked = atomic_load(&mp_shared->cells[s->file][i].acked), value;

        armed = 1;
        value = *cell_in(s, i);
        armed = 0;
        judge_cell(s, i, acked, value);
    }
}

/* Its parent waits, so the cells still have one owner. Their supervisor knows of it: it must not outlive
 * both. */
static void store_in_child(const struct slot *s, uint64_t first, uint64_t end, bool logged)
{
    bool dies = below(3) == 0;
    pid_t parent = getpid(), pid = fork();
    int status;

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        atomic_store(&mp_shared->child[me.who], getpid());
        if (getppid() != parent)
            _exit(0);
        store_cells(s, first, end, logged);
        if (dies)
            kill(getpid(), SIGKILL);
        _exit(0);
    }
    if (pid < 0)
        return;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    atomic_store(&mp_shared->child[me.who], 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0 && !atomic_load(&mp_shared->failed))
        complain("worker %u: its child left with %d", me.who, WEXITSTATUS(status));
}

static void must(int64_t err, const char *what)
{
    if (err < 0)
        complain("worker %u: %s: %d", me.who, what, (int)err);
}

/* Another piece of another file, or all of one. */
static void map_anew(unsigned slot)
{
    int64_t hw = sysconf(_SC_PAGESIZE), pages = mp_shared->cap / hw, first;
    unsigned file = (unsigned)below(MP_FILES);

    if (slots[slot].map != NULL)
        must(unmap_slot(&slots[slot]), "munmap");
    if (below(2)) {
        must(map_slot(slot, file, 0, (size_t)mp_shared->cap, PROT_READ | PROT_WRITE), "mmap");
        return;
    }
    first = (int64_t)below((uint64_t)pages - 1);
    must(map_slot(slot, file, first * hw, (size_t)(hw * (1 + (int64_t)below((uint64_t)(pages - first)))),
                  PROT_READ | PROT_WRITE),
         "mmap");
}

static void remap(unsigned slot)
{
    int64_t hw = sysconf(_SC_PAGESIZE), pages = (mp_shared->cap - slots[slot].off) / hw;

    must(remap_slot(&slots[slot], (size_t)(hw * (1 + (int64_t)below((uint64_t)pages)))), "mremap");
}

static void race_step(void)
{
    unsigned slot = (unsigned)below(MP_SLOTS), choice = (unsigned)below(100);
    const struct slot *s = &slots[slot];
    bool logged = below(4) != 0;
    uint64_t first, end;

    if (choice < 4) {
        map_anew(slot);
    } else if (choice < 6) {
        remap(slot);
    } else if (choice < 8) {
        must(mp_protect(s->map, s->len, PROT_READ), "mprotect to reading");
        must(mp_protect(s->map, s->len, PROT_READ | PROT_WRITE), "mprotect to writing");
    } else if (choice < 10) {
        must(mp_msync(s->map, s->len), "msync");
    } else if (pick_cells(s, logged ? 0 : mp_shared->base, logged ? mp_shared->base : mp_shared->cap, &first,
                          &end)) {
        if (choice < 14)
            store_in_child(s, first, end, logged);
        else if (choice < 70)
            store_cells(s, first, end, logged);
        else
            look_at_cells(s, first, end);
    }
    atomic_fetch_add_explicit(&mp_shared->progress, 1, memory_order_relaxed);
}

static int64_t race(unsigned who, uint64_t seed)
{
    me = (struct racer){.rng = {seed}, .who = who};
    for (unsigned i = 0; i < MP_SLOTS; i++)
        map_anew(i);
    while (!atomic_load(&mp_shared->stop))
        race_step();
    for (unsigned i = 0; i < MP_SLOTS; i++)
        must(unmap_slot(&slots[i]), "munmap");
    return 0;
}
