/* SPDX-License-Identifier: MIT */
/*
 * space.h - our part of this process's address space, and the decision about a fault in it. For mm/ only.
 *
 * Lock order: space.lock (rank MM: shared for the whole length of a fault, exclusive to map, cut, move,
 * protect)
 *   -> whatever hf_mapping_fault() takes (map_lock, page locks) -> i_mmap lock of one mapping -> poison lock
 * (LEAF). Who holds space.lock has asynchronous signals blocked: a handler that stores to a mapping would
 * wait for itself.
 */
#ifndef HF_MM_SPACE_H
#define HF_MM_SPACE_H

#include "base/lock.h"
#include "mm/vma.h"

#include <signal.h>

struct hf_space {
    struct hf_rwlock lock;
    struct hf_vma_tree tree;     /* guarded by lock */
    _Atomic uint64_t generation; /* atomic: counts exclusive sections */
    _Atomic bool thread_used;    /* atomic: there was an area of the thread engine, and may be one */
    _Atomic bool dead;           /* atomic: this is the child of a fork */
};
extern struct hf_space hf_space;

/* Blocks asynchronous signals, then the lock, exclusive. -ESTALE (and nothing is held) in the child of a
 * fork. */
int hf_space_lock(sigset_t *ret_mask);
void hf_space_unlock(const sigset_t *mask);
void hf_signals_block(sigset_t *ret_mask);
void hf_signals_restore(const sigset_t *mask);

/* What a fault was, as far as the machine tells. */
struct hf_access {
    uintptr_t addr;
    bool write;
    bool present;           /* a page stood there, so it was its protection; only a hint */
    bool memory_error;      /* or poison, which looks like one, and which only the thread engine sets */
    bool (*resolved)(void); /* as of struct hf_fault_ctx; may be NULL */
    bool counted;           /* likewise */
};

/* Verdicts on a fault; negative: refused, with that errno. */
enum {
    HF_VERDICT_RETRY = 0, /* resolved, or worth another try */
    HF_VERDICT_FOREIGN,   /* not in a mapping of ours */
    HF_VERDICT_FORBIDDEN, /* in one, but its prot does not allow that */
};

/*
 * STORE-PATH 3/9: finds the area and decides. flags: HF_NOWAIT from a signal handler.
 * ret_refusal is filled when the verdict is negative. Async-signal-safe.
 */
int hf_fault_resolve(const struct hf_access *access, unsigned flags, struct hf_fault *ret_refusal);
/* The same for a SIGSEGV: decides where the engine lives from them, retries once where a change was under
 * way. */
int hf_fault_resolve_segv(const struct hf_access *access, unsigned flags, struct hf_fault *ret_refusal);
/* The decision alone. Context: space.lock is held, shared. pages: at least how many ahead are wanted. */
int hf_fault_decide(struct hf_vma *vma, const struct hf_access *access, unsigned flags, uint32_t pages,
                    uintptr_t *ret_reached);
bool hf_fault_allowed(const struct hf_vma *vma, bool write);

/* The faulting thread's last refusal (hf_last_fault), and where an armed hf_guard() jumps. In guard.c. */
void hf_fault_report(const struct hf_fault *refusal);
/* Does not return if this thread has armed a guard. uc_mask: the signal mask at the fault. */
void hf_guard_jump(const struct hf_fault *refusal, const sigset_t *uc_mask);

/* Puts a reference of a region; with the last one its file goes, too, which may evict an inode: no locks
 * held. */
void hf_vm_region_release(struct hf_vm_region *region);

/* Puts our handlers in place, on top of the program's. Context: space.lock, exclusive. */
int hf_signals_hook(void);

#endif
