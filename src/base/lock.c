/* SPDX-License-Identifier: MIT */
/*
 * lock.c - futex mutexes, read-write locks, and the rank check.
 * See lock.h. Mutex after Drepper, "Futexes Are Tricky" (the three-state one).
 */
#include "base/lock.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HF_RW_WRITER 0x80000000u
#define HF_RW_SLEEPERS 0x40000000u /* only beside WRITER: readers wait for its end, so it has to wake them */
#define HF_SPIN 64

#ifndef NDEBUG
static const bool rank_many[HF_RANK_MAX] = {
#define X(name, many) [HF_RANK_##name] = many,
    HF_LOCK_RANKS(X)
#undef X
};
static HF_TLS uint32_t held[HF_RANK_MAX];

static void rank_check(uint32_t rank)
{
    for (uint32_t r = rank + (rank_many[rank] ? 1u : 0u); r < HF_RANK_MAX; r++)
        assert(held[r] == 0 && "lock order: a lock of this rank or below is held");
}
static void rank_push(uint32_t rank)
{
    held[rank]++;
}
static void rank_pop(uint32_t rank)
{
    assert(held[rank] > 0);
    held[rank]--;
}
bool hf_lock_none_below(enum hf_lock_rank rank)
{
    for (uint32_t r = rank; r < HF_RANK_MAX; r++)
        if (held[r] != 0)
            return false;
    return true;
}
#else
static void rank_check(uint32_t rank)
{
    (void)rank;
}
static void rank_push(uint32_t rank)
{
    (void)rank;
}
static void rank_pop(uint32_t rank)
{
    (void)rank;
}
bool hf_lock_none_below(enum hf_lock_rank rank)
{
    (void)rank;
    return true;
}
#endif

int hf_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    int saved = errno;
    long r = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &ts, NULL, 0);
    int err = r < 0 ? -errno : 0;

    errno = saved;
    return err;
}

void hf_futex_wake(_Atomic uint32_t *word, int count)
{
    int saved = errno;

    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = saved;
}

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void hf_mutex_init(struct hf_mutex *m, enum hf_lock_rank rank)
{
    atomic_init(&m->word, 0);
    m->rank = rank;
}

static bool mutex_take(struct hf_mutex *m)
{
    uint32_t free_word = 0;

    return atomic_compare_exchange_strong_explicit(&m->word, &free_word, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static void mutex_lock_raw(struct hf_mutex *m)
{
    for (int i = 0; i < HF_SPIN; i++) {
        if (mutex_take(m))
            return;
        cpu_relax();
    }
    while (atomic_exchange_explicit(&m->word, 2, memory_order_acquire) != 0)
        hf_futex_wait(&m->word, 2, -1);
}

static void mutex_unlock_raw(struct hf_mutex *m)
{
    if (atomic_exchange_explicit(&m->word, 0, memory_order_release) == 2)
        hf_futex_wake(&m->word, 1);
}

void hf_mutex_lock(struct hf_mutex *m) HF_NO_TSA
{
    rank_check(m->rank);
    mutex_lock_raw(m);
    rank_push(m->rank);
}

bool hf_mutex_trylock(struct hf_mutex *m) HF_NO_TSA
{
    if (!mutex_take(m))
        return false;
    rank_push(m->rank);
    return true;
}

void hf_mutex_unlock(struct hf_mutex *m) HF_NO_TSA
{
    rank_pop(m->rank);
    mutex_unlock_raw(m);
}

bool hf_mutex_is_locked(struct hf_mutex *m)
{
    return atomic_load_explicit(&m->word, memory_order_relaxed) != 0;
}

void hf_rwlock_init(struct hf_rwlock *l, enum hf_lock_rank rank)
{
    atomic_init(&l->word, 0);
    hf_mutex_init(&l->writer, rank);
}

bool hf_rwlock_tryrdlock(struct hf_rwlock *l) HF_NO_TSA
{
    uint32_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

    while (!(w & HF_RW_WRITER)) {
        if (atomic_compare_exchange_weak_explicit(&l->word, &w, w + 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            rank_push(l->writer.rank);
            return true;
        }
    }
    return false;
}

void hf_rwlock_rdlock(struct hf_rwlock *l) HF_NO_TSA
{
    rank_check(l->writer.rank);
    while (!hf_rwlock_tryrdlock(l)) {
        uint32_t w = atomic_load_explicit(&l->word, memory_order_relaxed);

        if (!(w & HF_RW_WRITER))
            continue;
        if ((w & HF_RW_SLEEPERS) ||
            atomic_compare_exchange_strong_explicit(&l->word, &w, w | HF_RW_SLEEPERS, memory_order_relaxed,
                                                    memory_order_relaxed))
            hf_futex_wait(&l->word, w | HF_RW_SLEEPERS, -1);
    }
}

void hf_rwlock_rdunlock(struct hf_rwlock *l) HF_NO_TSA
{
    rank_pop(l->writer.rank);
    /* The last one before a writer; other readers may be woken with it, and wait again. */
    if ((atomic_fetch_sub_explicit(&l->word, 1, memory_order_release) & ~HF_RW_SLEEPERS) ==
        (HF_RW_WRITER | 1u))
        hf_futex_wake(&l->word, INT_MAX);
}

void hf_rwlock_wrlock(struct hf_rwlock *l) HF_NO_TSA
{
    uint32_t w;

    rank_check(l->writer.rank);
    mutex_lock_raw(&l->writer);
    w = atomic_fetch_or_explicit(&l->word, HF_RW_WRITER, memory_order_acquire) | HF_RW_WRITER;
    while ((w & ~HF_RW_SLEEPERS) != HF_RW_WRITER) {
        hf_futex_wait(&l->word, w, -1);
        w = atomic_load_explicit(&l->word, memory_order_acquire);
    }
    rank_push(l->writer.rank);
}

bool hf_rwlock_trywrlock(struct hf_rwlock *l) HF_NO_TSA
{
    uint32_t none = 0;

    if (!mutex_take(&l->writer))
        return false;
    if (!atomic_compare_exchange_strong_explicit(&l->word, &none, HF_RW_WRITER, memory_order_acquire,
                                                 memory_order_relaxed)) {
        mutex_unlock_raw(&l->writer);
        return false;
    }
    rank_push(l->writer.rank);
    return true;
}

void hf_rwlock_wrunlock(struct hf_rwlock *l) HF_NO_TSA
{
    rank_pop(l->writer.rank);
    if (atomic_fetch_and_explicit(&l->word, ~(HF_RW_WRITER | HF_RW_SLEEPERS), memory_order_release) &
        HF_RW_SLEEPERS)
        hf_futex_wake(&l->word, INT_MAX);
    mutex_unlock_raw(&l->writer);
}
