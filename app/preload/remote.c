/* SPDX-License-Identifier: MIT */
/*
 * remote.c - mappings of another process's files: made, cut, moved, taken over by a forked child. See
 * remote.h.
 *
 * No store may go untracked, whatever other threads touch meanwhile: a range is mapped PROT_NONE, the server
 * registers it, and then it gets its protection. It goes the other way round: inaccessible memory takes its
 * place, the server is told, and then the addresses are free. A forked child inherits no mapping
 * (MADV_DONTFORK): it makes its own.
 */
#include "remote_conn.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* One FAULT_IN at most, bytes. */
#define FAULT_IN_MAX ((size_t)256 * 1024)
#define WAIT_NS 10000000

static _Thread_local struct hf_fault last_fault __attribute__((tls_model("initial-exec")));

static uintptr_t page_up(uintptr_t n)
{
    uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;

    return (n + mask) & ~mask;
}

static uintptr_t page_down(uintptr_t n)
{
    return n & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
}

/* A copy of the first range that ends above addr, if it begins below end. Any lock or none. */
static bool range_in(uintptr_t addr, uintptr_t end, struct hf_remote_range *ret_range)
{
    size_t i;
    bool found;

    if (hf_remote_nr_ranges == 0)
        return false;
    hf_remote_table_lock();
    i = hf_remote_range_first(addr);
    found = i < hf_remote_nr_ranges && hf_remote_ranges[i].start < end;
    if (found)
        *ret_range = hf_remote_ranges[i];
    hf_remote_table_unlock();
    return found;
}

bool hf_remote_owns(const void *addr, size_t len)
{
    struct hf_remote_range range;
    uintptr_t start = (uintptr_t)addr;
    sigset_t all, old;
    bool owns;

    if (hf_remote_nr_ranges == 0 || len == 0)
        return false;
    hf_remote_renew();
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    sigprocmask(SIG_BLOCK, &all, &old);
    owns = range_in(start, start + len < start ? UINTPTR_MAX : start + len, &range);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return owns;
}

/* ------------------------------------------------------------------ going. rpc lock held */

static int release_one(const struct hf_remote_range *r)
{
    struct hf_serve_request unmap = {.op = HF_SERVE_UNMAP, .addr = r->start, .len = r->end - r->start};
    struct hf_serve_reply reply;
    long p = hf_sys_mmap(r->start, r->end - r->start, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

    if (p < 0)
        return (int)p;
    hf_remote_call(&hf_remote_conns[r->conn], &unmap, &reply, NULL); /* a server that is gone need not know */
    return 0;
}

static int release_locked(uintptr_t start, uintptr_t end)
{
    struct hf_remote_range r;
    size_t i;
    int err;

    if (!range_in(start, end, &r))
        return 0;
    hf_remote_table_lock();
    err = hf_remote_table_reserve(2);
    if (!err)
        hf_remote_range_cut(start, end);
    hf_remote_table_unlock();
    while (!err && range_in(start, end, &r)) {
        err = release_one(&r);
        if (err)
            break;
        hf_remote_table_lock();
        i = hf_remote_range_first(r.start);
        if (i < hf_remote_nr_ranges && hf_remote_ranges[i].start == r.start)
            hf_remote_range_remove(i);
        hf_remote_table_unlock();
    }
    return err;
}

int hf_remote_release(void *addr, size_t len)
{
    uintptr_t start = page_down((uintptr_t)addr), end = page_up((uintptr_t)addr + len);
    sigset_t mask;
    int err;

    if (hf_remote_nr_ranges == 0 || end <= start)
        return 0;
    hf_remote_lock(&mask);
    err = release_locked(start, end);
    hf_remote_unlock(&mask);
    return err;
}

/* ------------------------------------------------------------------ coming. rpc lock held */

/* Maps what was opened last on r->conn at r->start (0:
 * anywhere), for r->end - r->start bytes. Closes memfd. */
static int map_opened(struct hf_remote_range *r, int memfd, int fixed)
{
    struct hf_remote_conn *c = &hf_remote_conns[r->conn];
    size_t len = r->end - r->start;
    struct hf_serve_request map = {.op = HF_SERVE_MAP,
                                   .len = len,
                                   .off = r->off,
                                   .prot = (uint32_t)r->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)};
    struct hf_serve_reply reply;
    long p = hf_sys_mmap(r->start, len, PROT_NONE, MAP_SHARED | fixed, memfd, r->off);
    int err = p < 0 && p > -4096 ? (int)p : 0;

    syscall(SYS_close, memfd);
    if (err)
        return err;
    map.addr = (uint64_t)p;
    hf_sys_madvise((uintptr_t)p, len, MADV_NOHUGEPAGE); /* -EINVAL where there are none */
    err = (int)hf_sys_madvise((uintptr_t)p, len, MADV_DONTFORK);
    if (!err)
        err = hf_remote_call(c, &map, &reply, NULL);
    if (!err) {
        r->start = (uintptr_t)p;
        r->end = (uintptr_t)p + len;
        hf_remote_table_lock();
        err = hf_remote_table_reserve(4);
        if (!err)
            hf_remote_range_insert(r);
        hf_remote_table_unlock();
        if (!err && r->prot != PROT_NONE)
            err = (int)hf_sys_mprotect(r->start, len, r->prot);
        if (err)
            release_locked(r->start, r->end);
    }
    if (err)
        hf_sys_munmap((uintptr_t)p, len);
    return err;
}

static int map_locked(const struct hf_serve_ticket *ticket, const char *name, struct hf_remote_range *r,
                      int flags)
{
    struct hf_serve_request open = {.op = HF_SERVE_OPEN};
    struct hf_serve_reply reply;
    int memfd, err, slot = hf_remote_connect(ticket->socket);

    if (slot < 0)
        return slot == -ECONNREFUSED || slot == -ENOENT ? -EIO : slot;
    r->conn = slot;
    memcpy(open.token, ticket->token, sizeof(open.token));
    strncpy(open.name, name, sizeof(open.name) - 1);
    err = hf_remote_call(&hf_remote_conns[slot], &open, &reply, &memfd);
    if (!err && memfd < 0)
        err = -EIO;
    if (err)
        return err;
    r->ino = reply.value;
    if (flags & MAP_FIXED)
        err = release_locked(r->start, r->end);
    if (err) {
        syscall(SYS_close, memfd);
        return err;
    }
    return map_opened(r, memfd, flags & (MAP_FIXED | MAP_FIXED_NOREPLACE));
}

int hf_remote_map(const struct hf_serve_ticket *ticket, const char *name, void *addr, size_t len, int prot,
                  int flags, int64_t off, void **ret_addr)
{
    struct hf_remote_range r = {.off = off, .prot = prot, .inherit = true};
    sigset_t mask;
    int err;

    r.start = (uintptr_t)addr;
    if (len == 0 || off < 0 || page_down((uintptr_t)off) != (uintptr_t)off)
        return -EINVAL;
    if (!(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
        r.start = page_down(r.start);
    else if (page_down(r.start) != r.start)
        return -EINVAL;
    if (page_up(len) < len || r.start + page_up(len) < r.start)
        return -ENOMEM;
    if (page_up(len) > (uint64_t)(INT64_MAX - off))
        return -EOVERFLOW;
    r.end = r.start + page_up(len);
    hf_remote_lock(&mask);
    err = map_locked(ticket, name, &r, flags);
    hf_remote_unlock(&mask);
    if (!err)
        *ret_addr = (void *)r.start;
    return err;
}

/* ------------------------------------------------------------------ what is mapped */

/* One request for each of our ranges in [start, end). rpc lock held. */
static int each_range(uint32_t op, uintptr_t start, uintptr_t end, int prot)
{
    struct hf_remote_range r;
    int err = 0;

    while (!err && start < end && range_in(start, end, &r)) {
        uintptr_t from = r.start > start ? r.start : start, to = r.end < end ? r.end : end;
        struct hf_serve_request request = {.op = op, .addr = from, .len = to - from, .prot = (uint32_t)prot};
        struct hf_serve_reply reply;

        err = hf_remote_call(&hf_remote_conns[r.conn], &request, &reply, NULL);
        start = to;
    }
    return err;
}

int hf_remote_sync(void *addr, size_t len)
{
    sigset_t mask;
    int err;

    hf_remote_lock(&mask);
    err = each_range(HF_SERVE_SYNC, page_down((uintptr_t)addr), page_up((uintptr_t)addr + len), 0);
    hf_remote_unlock(&mask);
    return err;
}

int hf_remote_protect(void *addr, size_t len, int prot)
{
    uintptr_t start = page_down((uintptr_t)addr), end = page_up((uintptr_t)addr + len);
    sigset_t mask;
    int err;

    hf_remote_lock(&mask);
    err = each_range(HF_SERVE_PROTECT, start, end, prot & (PROT_READ | PROT_WRITE | PROT_EXEC));
    hf_remote_table_lock();
    if (!err)
        err = hf_remote_table_reserve(2);
    if (!err) {
        hf_remote_range_cut(start, end);
        for (size_t i = hf_remote_range_first(start);
             i < hf_remote_nr_ranges && hf_remote_ranges[i].start < end; i++)
            hf_remote_ranges[i].prot = prot;
    }
    hf_remote_table_unlock();
    hf_remote_unlock(&mask);
    return err;
}

void hf_remote_inherit(void *addr, size_t len, bool inherit)
{
    uintptr_t start = page_down((uintptr_t)addr), end = page_up((uintptr_t)addr + len);
    sigset_t mask;

    hf_remote_lock(&mask);
    hf_remote_table_lock();
    if (hf_remote_table_reserve(2) == 0) {
        hf_remote_range_cut(start, end);
        for (size_t i = hf_remote_range_first(start);
             i < hf_remote_nr_ranges && hf_remote_ranges[i].start < end; i++)
            hf_remote_ranges[i].inherit = inherit;
    }
    hf_remote_table_unlock();
    hf_remote_unlock(&mask);
}

/* ------------------------------------------------------------------ faults */

static pid_t own_tid(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* rpc lock held. *ret_wait: there is no space; the server would have us wait for it. */
static int fault_in_once(const struct hf_remote_range *r, uintptr_t at, size_t len, bool write,
                         struct hf_fault *ret_fault, bool *ret_wait)
{
    struct hf_serve_request request = {
        .op = HF_SERVE_FAULT_IN, .addr = at, .len = len, .prot = write ? PROT_WRITE : 0, .off = own_tid()};
    struct hf_serve_reply reply = {.error = 0};
    int err = hf_remote_call(&hf_remote_conns[r->conn], &request, &reply, NULL);

    *ret_wait = err != 0 && (reply.flags & 1);
    if (err)
        *ret_fault = (struct hf_fault){.error = -err,
                                       .write = write,
                                       .addr = (void *)at,
                                       .offset = (hf_off_t)reply.value,
                                       .ino = r->ino,
                                       .tid = (pid_t)request.off};
    return err;
}

static int fault_in_piece(uintptr_t at, size_t len, bool write, struct hf_fault *ret_fault)
{
    const struct timespec pause = {.tv_nsec = WAIT_NS};
    struct hf_remote_range r;
    sigset_t mask;
    bool wait;
    int err;

    for (;;) {
        hf_remote_lock(&mask);
        err = range_in(at, at + 1, &r) ? fault_in_once(&r, at, len, write, ret_fault, &wait)
                                       : (wait = false, 0);
        hf_remote_unlock(&mask);
        if (!wait)
            return err;
        nanosleep(&pause, NULL);
    }
}

int hf_remote_fault_in(const void *addr, size_t len, bool write)
{
    uintptr_t at = (uintptr_t)addr, end = at + len;
    struct hf_remote_range r;
    struct hf_fault fault;
    int err = 0;

    while (!err && at < end && range_in(at, end, &r)) {
        uintptr_t from = r.start > at ? r.start : at, to = r.end < end ? r.end : end;

        if (to - from > FAULT_IN_MAX)
            to = from + FAULT_IN_MAX;
        /* Poison of an earlier refusal would outlast a refusal that is none any more. */
        hf_sys_madvise(page_down(from), page_up(to) - page_down(from), MADV_DONTNEED);
        err = fault_in_piece(from, to - from, write, &fault);
        at = to;
    }
    return err;
}

int hf_remote_sigbus(void *addr, bool write, struct hf_fault *ret_fault)
{
    uintptr_t page = page_down((uintptr_t)addr);
    struct hf_fault fault = {.error = 0};
    struct hf_remote_range r;
    int err;

    if (!range_in(page, page + 1, &r))
        return 1;
    hf_sys_madvise(page, page_up(page + 1) - page, MADV_DONTNEED); /* the poison */
    err = fault_in_piece(page, 1, write, &fault);
    if (!err)
        return 0;
    fault.offset += (hf_off_t)((uintptr_t)addr - page);
    fault.addr = addr;
    last_fault = fault;
    if (ret_fault != NULL)
        *ret_fault = fault;
    return err;
}

void hf_remote_last_fault(struct hf_fault *ret_fault)
{
    *ret_fault = last_fault;
}

/* ------------------------------------------------------------------ remap */

/* [start, end) is ours without gaps, one file, in order. */
static bool is_one_mapping(uintptr_t start, uintptr_t end, struct hf_remote_range *ret_first)
{
    struct hf_remote_range r, before;

    if (!range_in(start, end, &r) || r.start > start)
        return false;
    *ret_first = before = r;
    while (r.end < end) {
        if (!range_in(before.end, end, &r) || r.start != before.end || r.conn != before.conn ||
            r.ino != before.ino || r.off != before.off + (int64_t)(before.end - before.start))
            return false;
        before = r;
    }
    return true;
}

/* A new mapping of the file that is mapped at like, from r->off. */
static int map_like(uintptr_t like, struct hf_remote_range *r, int fixed)
{
    struct hf_serve_request open = {.op = HF_SERVE_OPEN_AT, .addr = like};
    struct hf_serve_reply reply;
    int memfd, err = hf_remote_call(&hf_remote_conns[r->conn], &open, &reply, &memfd);

    if (!err && memfd < 0)
        err = -EIO;
    return err ? err : map_opened(r, memfd, fixed);
}

static int remap_locked(uintptr_t start, size_t old_len, size_t new_len, int flags, uintptr_t to,
                        uintptr_t *ret_addr)
{
    struct hf_remote_range r, more;
    int err;

    if (!is_one_mapping(start, start + (old_len > 0 ? old_len : 1), &r))
        return -EFAULT;
    r.off += (int64_t)(start - r.start);
    *ret_addr = start;
    if (!(flags & MREMAP_FIXED) && old_len > 0) {
        if (new_len <= old_len) {
            err = release_locked(start + new_len, start + old_len);
            if (!err && new_len < old_len)
                hf_sys_munmap(start + new_len, old_len - new_len);
            return err;
        }
        more = r;
        more.start = start + old_len;
        more.end = start + new_len;
        more.off = r.off + (int64_t)old_len;
        err = more.end < more.start ? -ENOMEM : map_like(start, &more, MAP_FIXED_NOREPLACE);
        if (err != -EEXIST)
            return err;
    }
    if (!(flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    if (flags & MREMAP_FIXED) {
        err = release_locked(to, to + new_len);
        if (err)
            return err;
    }
    r.start = flags & MREMAP_FIXED ? to : 0;
    r.end = r.start + new_len;
    err = map_like(start, &r, flags & MREMAP_FIXED ? MAP_FIXED : 0);
    if (err)
        return err;
    *ret_addr = r.start;
    if (old_len == 0)
        return 0; /* a second mapping of the same pages */
    err = release_locked(start, start + old_len);
    if (!err)
        hf_sys_munmap(start, old_len);
    return err;
}

int hf_remote_remap(void *old_addr, size_t old_len, size_t new_len, int flags, void *new_addr,
                    void **ret_addr)
{
    uintptr_t start = (uintptr_t)old_addr, to = (uintptr_t)new_addr, moved = 0;
    sigset_t mask;
    int err;

    if (page_down(start) != start || new_len == 0 || (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)))
        return -EINVAL;
    if ((flags & MREMAP_FIXED) && (page_down(to) != to || !(flags & MREMAP_MAYMOVE)))
        return -EINVAL;
    old_len = page_up(old_len);
    new_len = page_up(new_len);
    if ((flags & MREMAP_FIXED) && to < start + old_len && start < to + new_len)
        return -EINVAL;
    hf_remote_lock(&mask);
    err = remap_locked(start, old_len, new_len, flags, to, &moved);
    hf_remote_unlock(&mask);
    if (!err)
        *ret_addr = (void *)moved;
    return err;
}

/* ------------------------------------------------------------------ fork */

static sigset_t fork_mask;

void hf_remote_fork_prepare(void)
{
    sigset_t mask;

    hf_remote_lock(&mask);
    fork_mask = mask;
    for (int i = 0; i < HF_REMOTE_CONNS_MAX; i++) {
        struct hf_remote_conn *c = &hf_remote_conns[i];
        struct hf_serve_request fork_request = {.op = HF_SERVE_FORK};
        struct hf_serve_reply reply;

        c->child_sock = -1;
        if (c->state == HF_REMOTE_LIVE && hf_remote_nr_ranges > 0)
            hf_remote_call(c, &fork_request, &reply, &c->child_sock);
    }
    hf_remote_table_lock();
    hf_remote_table_reserve(
        8); /* in the child it must not move: new memory could lie where a mapping has to be */
}

void hf_remote_fork_parent(void)
{
    hf_remote_table_unlock();
    for (int i = 0; i < HF_REMOTE_CONNS_MAX; i++)
        if (hf_remote_conns[i].state == HF_REMOTE_LIVE && hf_remote_conns[i].child_sock >= 0) {
            syscall(SYS_close, hf_remote_conns[i].child_sock);
            hf_remote_conns[i].child_sock = -1;
        }
    hf_remote_unlock(&fork_mask);
}

/* The parent's connection is not ours; the one that it made for us is. */
static void child_connect(struct hf_remote_conn *c)
{
    int sock = hf_remote_raise_fd(c->child_sock);

    syscall(SYS_close, c->sock);
    syscall(SYS_close, c->uffd);
    syscall(SYS_close, c->helper);
    c->state = HF_REMOTE_FREE;
    c->sock = c->uffd = c->helper = c->child_sock = -1;
    if (sock < 0)
        return;
    c->sock = sock;
    if (hf_remote_hello(c) != 0) {
        syscall(SYS_close, sock);
        c->sock = -1;
    }
}

/* At the same place, before anybody can look. What cannot be had is SIGBUS. */
static void child_map(struct hf_remote_range r)
{
    uintptr_t start = r.start, end = r.end;

    if (!r.inherit)
        return;
    if (hf_remote_conns[r.conn].state != HF_REMOTE_LIVE || map_like(start, &r, MAP_FIXED_NOREPLACE) != 0)
        hf_remote_map_bus(start, end);
}

void hf_remote_fork_child(void)
{
    size_t nr = hf_remote_nr_ranges;
    struct hf_serve_request forked = {.op = HF_SERVE_FORKED};
    struct hf_serve_reply reply;

    hf_remote_lock_reset();
    for (int i = 0; i < HF_REMOTE_CONNS_MAX; i++)
        if (hf_remote_conns[i].state == HF_REMOTE_LIVE)
            child_connect(&hf_remote_conns[i]);
    /* In order, and each into the same place of the table or one before it. */
    hf_remote_nr_ranges = 0;
    for (size_t i = 0; i < nr; i++)
        child_map(hf_remote_ranges[i]);
    for (int i = 0; i < HF_REMOTE_CONNS_MAX; i++)
        if (hf_remote_conns[i].state == HF_REMOTE_LIVE) {
            hf_remote_call(&hf_remote_conns[i], &forked, &reply, NULL);
            /* Without a helper nobody would notice that the server is gone, but everything else works. */
            hf_remote_helper_start(i);
        }
    hf_remote_unlock(&fork_mask);
}
