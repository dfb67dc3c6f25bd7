/* SPDX-License-Identifier: MIT */
/*
 * engine_thread.c - mappings that are handed to system calls: faults are served by threads, and whoever
 * faulted, be it kernel code, sleeps until then.
 *
 * A refusal cannot be handed to a sleeper as an errno. The page is poisoned instead (UFFDIO_POISON) and the
 * sleeper woken: in user code it gets SIGBUS, and our handler asks again and reports; in a system call it
 * gets EFAULT. Poison is a state of one page table entry and is meant for nobody else, so it goes after 1 ms,
 * or when the handler comes by, or when somebody installs the page. Who sees it by chance meanwhile: user
 * code asks again and goes on; a system call may get EFAULT for a page next to a refusal's, once.
 *
 * Poison rules, all under poison.lock: an entry of the table lies in an area of this engine (they are dropped
 * before the area is cut or moved); a page is installed only after its entry is dropped. So what
 * MADV_DONTNEED hits is poison, never the copy of a private page.
 */
#include "mm/engine.h"
#include "mm/space.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define NR_THREADS 2
#define NR_POISONED 64
/* A sleeper that has not run by then faults and is refused again; a program that has made room waits no
 * longer. */
#define POISON_NS 1000000
#define POISON_TRIES 16

struct poisoned {
    uintptr_t page; /* 0: free */
    int64_t until_ns;
};

static struct {
    struct hf_mutex lock;               /* rank LEAF */
    struct poisoned table[NR_POISONED]; /* guarded by lock */
    _Atomic uint32_t nr;                /* changed under lock */
} poison = {.lock = {.rank = HF_RANK_LEAF}};

static int thread_fd = -1;
static bool threads_run;

static int64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ------------------------------------------------------------------ poison */

static void drop_locked(struct poisoned *p) HF_REQUIRES(poison.lock)
{
    int saved = errno;

    madvise((void *)p->page, hf_hw_page_size(), MADV_DONTNEED);
    errno = saved;
    p->page = 0;
    atomic_fetch_sub(&poison.nr, 1);
}

/* True if there was poison. */
static bool drop_range_locked(uintptr_t start, uintptr_t end) HF_REQUIRES(poison.lock)
{
    bool any = false;

    if (atomic_load(&poison.nr) == 0)
        return false;
    for (int i = 0; i < NR_POISONED; i++) {
        if (poison.table[i].page != 0 && start <= poison.table[i].page && poison.table[i].page < end) {
            drop_locked(&poison.table[i]);
            any = true;
        }
    }
    return any;
}

static bool drop_range(uintptr_t start, uintptr_t end)
{
    bool any;

    if (atomic_load(&poison.nr) == 0)
        return false;
    hf_mutex_lock(&poison.lock);
    any = drop_range_locked(start, end);
    hf_mutex_unlock(&poison.lock);
    return any;
}

/* A free entry; if there is none, the oldest goes early (its sleepers have been woken long since). */
static struct poisoned *entry_locked(void) HF_REQUIRES(poison.lock)
{
    struct poisoned *oldest = &poison.table[0];

    for (int i = 0; i < NR_POISONED; i++) {
        if (poison.table[i].page == 0)
            return &poison.table[i];
        if (poison.table[i].until_ns < oldest->until_ns)
            oldest = &poison.table[i];
    }
    drop_locked(oldest);
    return oldest;
}

static int poison_page(uintptr_t page)
{
    struct uffdio_poison arg = {.range = {.start = page, .len = hf_hw_page_size()}};

    return ioctl(thread_fd, UFFDIO_POISON, &arg) < 0 ? -errno : 0;
}

/*
 * Poison needs an empty page table entry. In a shared area the page may stand there, or the mark of a
 * write-protected page that left. First the page goes, then the mark: with poison.lock held nothing is
 * installed in between, so lifting the protection never meets a page.
 */
static bool entry_clear_locked(const struct hf_vma *vma, uintptr_t page) HF_REQUIRES(poison.lock)
{
    struct uffdio_writeprotect wp = {.range = {.start = page, .len = hf_hw_page_size()}};

    if (!vma->shared)
        return false;
    return madvise((void *)page, hf_hw_page_size(), MADV_DONTNEED) == 0 &&
           ioctl(thread_fd, UFFDIO_WRITEPROTECT, &wp) == 0;
}

/* The refused page. Context: space.lock shared. */
static void poison_set(const struct hf_vma *vma, uintptr_t page)
{
    struct poisoned *p;
    int err = -EEXIST;

    hf_mutex_lock(&poison.lock);
    drop_range_locked(page, page + 1);
    p = entry_locked();
    /* On record first: poison wakes, and whom it wakes looks for it before we are back from the call. */
    *p = (struct poisoned){.page = page, .until_ns = monotonic_ns() + POISON_NS};
    atomic_fetch_add(&poison.nr, 1);
    for (int i = 0; i < POISON_TRIES && (err == -EEXIST || err == -EAGAIN); i++) {
        err = poison_page(page);
        if (err == -EEXIST && !entry_clear_locked(vma, page))
            break; /* the page has come: the sleeper tries again */
    }
    if (err) {
        p->page = 0;
        atomic_fetch_sub(&poison.nr, 1);
    }
    hf_mutex_unlock(&poison.lock);
}

/* Drops what is due; returns the milliseconds until more is, or -1. Who sets poison comes by here next. */
static int poison_expire(void)
{
    int64_t next = -1, now;

    if (atomic_load(&poison.nr) == 0)
        return -1;
    now = monotonic_ns();
    hf_rwlock_rdlock(&hf_space.lock); /* keeps the areas where they are */
    hf_mutex_lock(&poison.lock);
    for (int i = 0; i < NR_POISONED; i++) {
        struct poisoned *p = &poison.table[i];
        if (p->page != 0 && p->until_ns <= now)
            drop_locked(p);
        if (p->page != 0 && (next < 0 || p->until_ns < next))
            next = p->until_ns;
    }
    hf_mutex_unlock(&poison.lock);
    hf_rwlock_rdunlock(&hf_space.lock);
    return next < 0 ? -1 : (int)((next - now) / 1000000 + 1);
}

/* ------------------------------------------------------------------ events */

/*
 * The event that each thread has read and not served yet. Another thread's install() may resolve it
 * meanwhile, as part of a window or because two stores met one page, and wakes the sleeper, whose store may
 * be over, and its page written and clean again, before this thread comes to decide: it must not promise
 * space for it once more. So install() marks the entries that it resolves. Reading and noting an event is one
 * step under the lock; an event whose sleeper has been woken is not read at all.
 */
static struct {
    struct hf_mutex lock; /* rank LEAF */
    struct {
        uintptr_t page; /* 0: none */
        bool resolved;
    } of[NR_THREADS]; /* guarded by lock */
} serving = {.lock = {.rank = HF_RANK_LEAF}};

static HF_TLS int serving_slot = -1; /* of this thread */

static bool event_read(struct uffd_msg *ret_msg)
{
    uintptr_t page;
    bool got;

    hf_mutex_lock(&serving.lock);
    got = read(thread_fd, ret_msg, sizeof(*ret_msg)) == (ssize_t)sizeof(*ret_msg) &&
          ret_msg->event == UFFD_EVENT_PAGEFAULT;
    if (got) {
        page = (uintptr_t)ret_msg->arg.pagefault.address & ~((uintptr_t)hf_hw_page_size() - 1);
        serving.of[serving_slot].page = page;
        serving.of[serving_slot].resolved = false;
    }
    hf_mutex_unlock(&serving.lock);
    return got;
}

static void event_done(void)
{
    hf_mutex_lock(&serving.lock);
    serving.of[serving_slot].page = 0;
    hf_mutex_unlock(&serving.lock);
}

/* Page locked: what install() marks, it marks under the same lock. */
static bool event_resolved(void)
{
    bool resolved;

    hf_mutex_lock(&serving.lock);
    resolved = serving.of[serving_slot].resolved;
    hf_mutex_unlock(&serving.lock);
    return resolved;
}

/* [start, end) has been installed, and whoever slept on it woken. */
static void mark_resolved(uintptr_t start, uintptr_t end)
{
    hf_mutex_lock(&serving.lock);
    for (int i = 0; i < NR_THREADS; i++)
        if (i != serving_slot && start <= serving.of[i].page && serving.of[i].page < end)
            serving.of[i].resolved = true;
    hf_mutex_unlock(&serving.lock);
}

static void wake(uintptr_t page)
{
    struct uffdio_range range = {.start = page, .len = hf_hw_page_size()};

    /* Whoever finds the page as it was faults again: a
     * wake-up too many is harmless, one too few is for ever. */
    while (ioctl(thread_fd, UFFDIO_WAKE, &range) < 0 && errno == EAGAIN)
        ;
}

/* STORE-PATH 2/9 (thread engine): an event arrives. */
static void event_serve(const struct uffd_msg *msg)
{
    uint64_t flags = msg->arg.pagefault.flags;
    uintptr_t page = (uintptr_t)msg->arg.pagefault.address & ~((uintptr_t)hf_hw_page_size() - 1);
    struct hf_access access = {
        .addr = page,
        .write = (flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP)) != 0,
        .present = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0,
        .resolved = event_resolved,
    };
    struct hf_vma *vma;
    int err;

    hf_rwlock_rdlock(&hf_space.lock);
    vma = hf_vma_find(&hf_space.tree, page);
    if (vma != NULL && vma->engine->by_thread && hf_fault_allowed(vma, access.write)) {
        err = hf_fault_decide(vma, &access, 0, 0, NULL);
        if (err != 0 && err != -EAGAIN)
            poison_set(vma, page);
    }
    wake(page);
    hf_rwlock_rdunlock(&hf_space.lock);
}

static void *event_main(void *arg)
{
    struct pollfd pfd = {.fd = thread_fd, .events = POLLIN};
    struct uffd_msg msg;

    serving_slot = (int)(intptr_t)arg;
    prctl(PR_SET_NAME, "hf-fault");
    for (;;) {
        int timeout = poison_expire();

        if (poll(&pfd, 1, timeout) <= 0)
            continue;
        if (!event_read(&msg))
            continue;
        event_serve(&msg);
        event_done();
    }
    return NULL;
}

/* ------------------------------------------------------------------ ops */

static int thread_probe(const char **ret_why)
{
    int fd = hf_uffd_open(UFFD_FEATURE_POISON, false, ret_why);

    if (fd < 0)
        return fd;
    thread_fd = fd;
    return 0;
}

static int thread_start(void)
{
    sigset_t all, old;
    pthread_t thread;
    int err = 0;

    if (threads_run)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < NR_THREADS && !err; i++) {
        err = -pthread_create(&thread, NULL, event_main, (void *)(intptr_t)i);
        if (!err) {
            threads_run = true; /* one is enough */
            pthread_detach(thread);
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return threads_run ? 0 : err;
}

static int thread_watch(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    return hf_uffd_watch(thread_fd, vma, start, end);
}

static int thread_install(struct hf_vma *vma, uintptr_t start, uintptr_t end, bool writable, bool hole,
                          bool present)
{
    int err;

    hf_mutex_lock(&poison.lock);
    drop_range_locked(start, end);
    err = hf_uffd_install(thread_fd, vma, start, end, writable, hole, present, true);
    hf_mutex_unlock(&poison.lock);
    if (err == 0)
        mark_resolved(start, end);
    return err;
}

static void thread_mkclean(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    (void)vma;
    hf_uffd_mkclean(thread_fd, start, end);
}

static bool thread_touched(struct hf_vma *vma, uintptr_t addr)
{
    uintptr_t page = addr & ~((uintptr_t)hf_hw_page_size() - 1);

    (void)vma;
    return drop_range(page, page + 1);
}

static void thread_forget(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    (void)vma;
    drop_range(start, end);
}

static void thread_forked(void)
{
    if (thread_fd >= 0)
        close(thread_fd);
    thread_fd = -1;
}

const struct hf_engine hf_engine_thread = {
    .name = "thread",
    .by_thread = true,
    .probe = thread_probe,
    .start = thread_start,
    .watch = thread_watch,
    .install = thread_install,
    .mkclean = thread_mkclean,
    .protect = hf_uffd_protect,
    .touched = thread_touched,
    .forget = thread_forget,
    .forked = thread_forked,
};
