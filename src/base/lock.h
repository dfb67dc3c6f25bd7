/* SPDX-License-Identifier: MIT */
/*
 * lock.h - mutexes and read-write locks with ranks.
 *
 * Built on futex(2) and C11 atomics, because the fault path runs inside signal handlers, where pthread locks
 * are not allowed: every call here is async-signal-safe. A thread may hold only locks of growing rank (the
 * enum is the lock order of the whole library, top to bottom); debug builds check that on every lock. Ranks
 * marked "many" may be held several times by a thread: io_locks in order of inode number, page locks in order
 * of index. A trylock is exempt from the order: it cannot deadlock.
 */
#ifndef HF_BASE_LOCK_H
#define HF_BASE_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__clang__)
#define HF_TSA(x) __attribute__((x))
#else
#define HF_TSA(x)
#endif
#define HF_CAPABILITY(name) HF_TSA(capability(name))
#define HF_GUARDED_BY(l) HF_TSA(guarded_by(l))
#define HF_REQUIRES(...) HF_TSA(requires_capability(__VA_ARGS__))
#define HF_REQUIRES_SHARED(...) HF_TSA(requires_shared_capability(__VA_ARGS__))
#define HF_ACQUIRE(...) HF_TSA(acquire_capability(__VA_ARGS__))
#define HF_ACQUIRE_SHARED(...) HF_TSA(acquire_shared_capability(__VA_ARGS__))
#define HF_RELEASE(...) HF_TSA(release_capability(__VA_ARGS__))
#define HF_RELEASE_SHARED(...) HF_TSA(release_shared_capability(__VA_ARGS__))
#define HF_TRY_ACQUIRE(...) HF_TSA(try_acquire_capability(__VA_ARGS__))
#define HF_TRY_ACQUIRE_SHARED(...) HF_TSA(try_acquire_shared_capability(__VA_ARGS__))
#define HF_NO_TSA HF_TSA(no_thread_safety_analysis)

/* Initial-exec TLS: the only model whose first access in a signal handler does not allocate. */
#define HF_TLS _Thread_local __attribute__((tls_model("initial-exec")))

/* X(rank, may be held many times) */
#define HF_LOCK_RANKS(X)                                                    \
    X(VOLUME, 0)  /* volume tables: rename, close */                        \
    X(IO, 1)      /* inode io_lock */                                       \
    X(FILE, 0)    /* position of an open file */                            \
    X(MM, 0)      /* vma tree of this process; faults hold it shared */     \
    X(SQUEEZE, 0) /* one thread at a time takes back unused reservations */ \
    X(MAP, 0)     /* inode map_lock */                                      \
    X(HOLE, 0)    /* hole lock of the straddling index */                   \
    X(PAGE, 1)    /* page lock */                                           \
    X(I_MMAP, 0)  /* list of vmas that map an inode */                      \
    X(ICACHE, 0)  /* inode table, dirty lists */                            \
    X(TRIM, 0)    /* blockfs: free blocks on their way to the device */     \
    X(SQL, 0)     /* blockfs: the database connection */                    \
    X(EXTENTS, 0) /* driver: extents of one inode */                        \
    X(SPACE, 0)   /* driver: free map and counters */                       \
    X(DEVICE, 0)  /* device-internal */                                     \
    X(LEAF, 0)    /* slabs, queues: nothing is locked below */

enum hf_lock_rank {
    HF_RANK_NONE = 0,
#define X(name, many) HF_RANK_##name,
    HF_LOCK_RANKS(X)
#undef X
        HF_RANK_MAX,
};

struct HF_CAPABILITY("mutex") hf_mutex {
    _Atomic uint32_t word; /* 0 free, 1 held, 2 held and somebody may wait */
    uint32_t rank;
};

/* Writers keep new readers out from the moment they wait. Not recursive, not even for readers. */
struct HF_CAPABILITY("rwlock") hf_rwlock {
    /* bit 31: a writer holds or waits; 30: readers sleep until it is gone; below: readers */
    _Atomic uint32_t word;
    struct hf_mutex writer;
};

void hf_mutex_init(struct hf_mutex *m, enum hf_lock_rank rank);
void hf_mutex_lock(struct hf_mutex *m) HF_ACQUIRE(m);
bool hf_mutex_trylock(struct hf_mutex *m) HF_TRY_ACQUIRE(true, m);
void hf_mutex_unlock(struct hf_mutex *m) HF_RELEASE(m);
bool hf_mutex_is_locked(struct hf_mutex *m); /* for asserts: by somebody */

void hf_rwlock_init(struct hf_rwlock *l, enum hf_lock_rank rank);
void hf_rwlock_rdlock(struct hf_rwlock *l) HF_ACQUIRE_SHARED(l);
bool hf_rwlock_tryrdlock(struct hf_rwlock *l) HF_TRY_ACQUIRE_SHARED(true, l);
void hf_rwlock_rdunlock(struct hf_rwlock *l) HF_RELEASE_SHARED(l);
void hf_rwlock_wrlock(struct hf_rwlock *l) HF_ACQUIRE(l);
bool hf_rwlock_trywrlock(struct hf_rwlock *l) HF_TRY_ACQUIRE(true, l);
void hf_rwlock_wrunlock(struct hf_rwlock *l) HF_RELEASE(l);

/* True if this thread holds no lock of that rank or below it; debug builds only (else always true). */
bool hf_lock_none_below(enum hf_lock_rank rank);

/* futex(2) without errno: 0, -EAGAIN, -EINTR, -ETIMEDOUT. timeout_ns < 0: none. */
int hf_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout_ns);
void hf_futex_wake(_Atomic uint32_t *word, int count);

#endif
