/* SPDX-License-Identifier: MIT */
/*
 * client_faults.c - faults of another process: events of its userfaultfd, decided like our own, and refusals.
 *
 * A refusal is UFFDIO_POISON on the page: the thread that sleeps in the fault wakes with SIGBUS (in a system
 * call: EFAULT). Poison needs an empty page table entry. Where the page stood there, write-protected, the
 * process's helper is asked to take it out (ops->drop), and the mark of the protection that stays behind is
 * lifted here. That happens with client.lock held exclusively, when none of our threads can install a page
 * for this client: so the lifted protection never meets a page. Poison is meant for one access; the process
 * takes it away in its SIGBUS handler, and we have it taken away after a while for those who came by a system
 * call.
 */
#include "mm/client_space.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* A sleeper that has not run by then is refused again. */
#define POISON_NS 20000000
#define POISON_TRIES 8
/* Parked accesses are decided again this often, milliseconds. */
#define PARKED_MS 20
#define EVENTS_AT_ONCE 64

static int64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void wake(struct hf_client *c, uintptr_t page)
{
    struct uffdio_range range = {.start = page, .len = hf_hw_page_size()};

    while (ioctl(c->uffd, UFFDIO_WAKE, &range) < 0 && errno == EAGAIN)
        ;
}

/* ------------------------------------------------------------------ poison. lock held, exclusive */

static struct hf_client_poison *poison_entry(struct hf_client *c)
{
    struct hf_client_poison *oldest = &c->poisoned[0];

    for (int i = 0; i < HF_CLIENT_POISONED; i++) {
        if (c->poisoned[i].page == 0)
            return &c->poisoned[i];
        if (c->poisoned[i].until_ns < oldest->until_ns)
            oldest = &c->poisoned[i];
    }
    if (hf_vma_find(&c->tree, oldest->page) != NULL)
        c->ops->drop(c->arg, oldest->page);
    oldest->page = 0;
    atomic_fetch_sub(&c->nr_poisoned, 1);
    return oldest;
}

static int poison_once(struct hf_client *c, uintptr_t page)
{
    struct uffdio_poison arg = {.range = {.start = page, .len = hf_hw_page_size()}};

    return ioctl(c->uffd, UFFDIO_POISON, &arg) < 0 ? -errno : 0;
}

/* First the page goes, then the mark of its protection. */
static int entry_clear(struct hf_client *c, uintptr_t page)
{
    int err = c->ops->drop(c->arg, page);

    if (err)
        return err;
    return hf_uffd_write_protect(c->uffd, page, page + hf_hw_page_size(), UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
}

/* False: it could not be done. Wakes the sleeper otherwise. A page that has left the memfd meanwhile
 * (-EFAULT) takes no poison and needs none: the next touch is the kernel's SIGBUS. */
static bool refuse(struct hf_client *c, uintptr_t page)
{
    int err = -EEXIST;
    bool mapped;

    hf_rwlock_wrlock(&c->lock);
    mapped = hf_vma_find(&c->tree, page) != NULL;
    if (mapped) {
        for (int i = 0; i < POISON_TRIES && (err == -EEXIST || err == -EAGAIN); i++) {
            err = poison_once(c, page);
            if (err == -EEXIST && entry_clear(c, page) != 0)
                break;
        }
        if (!err) {
            struct hf_client_poison *p = poison_entry(c);
            *p = (struct hf_client_poison){.page = page, .until_ns = monotonic_ns() + POISON_NS};
            atomic_fetch_add(&c->nr_poisoned, 1);
        }
    }
    hf_rwlock_wrunlock(&c->lock);
    if (err && err != -EFAULT && mapped)
        return false;
    wake(c, page);
    return true;
}

/* Has what is due taken away; returns the milliseconds until more is, or -1. */
static int poison_expire(struct hf_client *c)
{
    int64_t next = -1, now;

    if (atomic_load(&c->nr_poisoned) == 0)
        return -1;
    now = monotonic_ns();
    hf_rwlock_wrlock(&c->lock);
    for (int i = 0; i < HF_CLIENT_POISONED; i++) {
        struct hf_client_poison *p = &c->poisoned[i];
        if (p->page != 0 && p->until_ns <= now) {
            if (hf_vma_find(&c->tree, p->page) != NULL)
                c->ops->drop(c->arg, p->page);
            p->page = 0;
            atomic_fetch_sub(&c->nr_poisoned, 1);
        }
        if (p->page != 0 && (next < 0 || p->until_ns < next))
            next = p->until_ns;
    }
    hf_rwlock_wrunlock(&c->lock);
    return next < 0 ? -1 : (int)((next - now) / 1000000 + 1);
}

/* ------------------------------------------------------------------ decisions */

/* One decision. Returns 0 (installed, or worth another
 * try), -EFAULT (not mapped for that), or the refusal. */
static int decide(struct hf_client *c, const struct hf_access *access, uint32_t pages, pid_t tid,
                  uintptr_t *ret_reached, struct hf_fault *ret_refusal)
{
    struct hf_vma *vma;
    int err = -EFAULT;

    atomic_fetch_add_explicit(access->write ? &c->faults_store : &c->faults_load, 1, memory_order_relaxed);
    hf_rwlock_rdlock(&c->lock);
    vma = hf_vma_find(&c->tree, access->addr);
    if (vma != NULL && hf_fault_allowed(vma, access->write)) {
        *ret_refusal = (struct hf_fault){.write = access->write,
                                         .addr = (void *)access->addr,
                                         .offset = hf_vma_offset(vma, access->addr),
                                         .ino = hf_mapping_ino(vma->region->mapping),
                                         .tid = tid};
        err = access->write ? c->ops->inject(c->arg, ret_refusal) : 0;
        if (!err)
            err = hf_fault_decide(vma, access, 0, pages, ret_reached);
        if (err == -EAGAIN)
            err = 0;
        ret_refusal->error = -err;
    }
    hf_rwlock_rdunlock(&c->lock);
    if (err != 0 && err != -EFAULT)
        atomic_fetch_add_explicit(&c->refused, 1, memory_order_relaxed);
    return err;
}

static bool wants_to_wait(const struct hf_client *c, int err)
{
    return c->waits && (err == -ENOSPC || err == -EDQUOT);
}

int hf_client_fault_in(struct hf_client *c, uintptr_t addr, size_t len, bool write, pid_t tid,
                       struct hf_fault *ret_refusal)
{
    size_t hw = hf_hw_page_size();
    uintptr_t end = addr + len;
    int err = end < addr ? -EFAULT : 0;

    while (!err && addr < end) {
        struct hf_access access = {.addr = addr, .write = write};
        size_t pages = (end - addr) / hw;
        uintptr_t reached = (addr | (hw - 1)) + 1;

        err = decide(c, &access, pages < HF_WINDOW_MAX ? (uint32_t)pages : HF_WINDOW_MAX, tid, &reached,
                     ret_refusal);
        addr = reached > addr ? reached : (addr | (hw - 1)) + 1;
    }
    return err;
}

/* ------------------------------------------------------------------ accesses that wait: for space, or for
 * their refusal */

static void park(struct hf_client *c, uintptr_t page, bool write, pid_t tid)
{
    for (int i = 0; i < HF_CLIENT_PARKED; i++)
        if (c->parked[i].page == 0) {
            c->parked[i] = (struct hf_client_parked){.page = page, .write = write, .tid = tid};
            c->nr_parked++;
            atomic_fetch_add(&c->waited, 1);
            return;
        }
    /* More threads than that: this one faults again at once. */
    wake(c, page);
}

static void refused(struct hf_client *c, const struct hf_access *access, pid_t tid, struct hf_fault *refusal)
{
    if (!wants_to_wait(c, -refusal->error)) {
        c->ops->refused(c->arg, refusal, false);
        if (refuse(c, access->addr))
            return;
    } else if (!c->said_waits) {
        c->ops->refused(c->arg, refusal, true);
        c->said_waits = true;
    }
    park(c, access->addr, access->write, tid);
}

static void parked_again(struct hf_client *c)
{
    for (int i = 0; i < HF_CLIENT_PARKED && c->nr_parked > 0; i++) {
        struct hf_client_parked *p = &c->parked[i];
        struct hf_access access = {.addr = p->page, .write = p->write};
        uintptr_t reached;
        struct hf_fault refusal;
        int err;

        if (p->page == 0)
            continue;
        err = decide(c, &access, 0, p->tid, &reached, &refusal);
        if (wants_to_wait(c, err))
            continue;
        if (err != 0 && err != -EFAULT && !refuse(c, p->page))
            continue;
        wake(c, p->page);
        p->page = 0;
        c->nr_parked--;
    }
}

/* ------------------------------------------------------------------ events */

/* STORE-PATH 2/9 (another process): an event arrives. */
static void event_serve(struct hf_client *c, const struct uffd_msg *msg)
{
    uint64_t flags = msg->arg.pagefault.flags;
    pid_t tid = (pid_t)msg->arg.pagefault.feat.ptid;
    struct hf_access access = {
        .addr = (uintptr_t)msg->arg.pagefault.address & ~((uintptr_t)hf_hw_page_size() - 1),
        .write = (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0,
        .present = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0,
    };
    uintptr_t reached;
    struct hf_fault refusal;
    int err = decide(c, &access, 0, tid, &reached, &refusal);

    if (err != 0 && err != -EFAULT)
        refused(c, &access, tid, &refusal);
    else
        wake(c, access.addr);
}

/* The next event, or nothing, never waiting: the process may have made the descriptor a blocking one. */
static bool event_read(struct hf_client *c, struct uffd_msg *ret_msg)
{
    struct iovec iov = {.iov_base = ret_msg, .iov_len = sizeof(*ret_msg)};
    ssize_t n = preadv2(c->uffd, &iov, 1, -1, RWF_NOWAIT);

    if (n < 0 && errno == EOPNOTSUPP) /* before Linux 6.10 */
        n = read(c->uffd, ret_msg, sizeof(*ret_msg));
    return n == (ssize_t)sizeof(*ret_msg);
}

static void events_serve(struct hf_client *c)
{
    struct uffd_msg msg;

    for (int i = 0; i < EVENTS_AT_ONCE && event_read(c, &msg); i++)
        if (msg.event == UFFD_EVENT_PAGEFAULT)
            event_serve(c, &msg);
}

void hf_client_serve(struct hf_client *c, int stop_fd)
{
    struct pollfd fds[2] = {{.fd = stop_fd, .events = POLLIN}, {.fd = c->uffd, .events = POLLIN}};

    for (;;) {
        int timeout = poison_expire(c);

        if (c->nr_parked > 0 && (timeout < 0 || timeout > PARKED_MS))
            timeout = PARKED_MS;
        if (poll(fds, 2, timeout) < 0 && errno != EINTR)
            return;
        if (fds[0].revents != 0)
            return;
        if (fds[1].revents & POLLIN)
            events_serve(c);
        else if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL))
            fds[1].fd = -1; /* made unusable by the process: its faults wait until it ends */
        if (c->nr_parked > 0)
            parked_again(c);
    }
}
