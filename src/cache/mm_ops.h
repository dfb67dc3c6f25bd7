/* SPDX-License-Identifier: MIT */
/*
 * mm_ops.h - the contract between the cache and address spaces, declared here, in the lower layer.
 *
 * Downward: mm/ delivers a fault with hf_mapping_fault(). Upward: the cache protects and removes pages
 * through struct hf_mm_ops, and maps a page through the fault's own install(). All of these run under the
 * page lock of every page concerned: that is what makes HOLD-5 true (between page_mkwrite and the page-table
 * change nobody can write-protect the page), so none of them may take a page lock, map_lock or the vma lock
 * (rank MM), or touch user memory. They are async-signal-safe.
 */
#ifndef HF_CACHE_MM_OPS_H
#define HF_CACHE_MM_OPS_H

#include "base/errseq.h"
#include "base/types.h"
#include <holdfast/stats.h>

struct hf_mapping;

/* What the cache asks of all address spaces. One instance a process: hf_mm_ops_set(), before the first
 * volume. */
struct hf_mm_ops {
    /* page_mkclean: after it, a store to [first, first + nr) in any address space faults. The pages are
     * locked, uptodate, and not all of them need be mapped anywhere. Cannot fail. */
    void (*mkclean)(struct hf_mapping *mapping, hf_pgoff_t first, hf_pgoff_t nr);
    /* The pages are about to leave the memfd (a hole is punched, or it is cut, right after): where the kernel
     * does not turn the next touch into a fault by itself, make them inaccessible. Copies of private mappings
     * stay. */
    void (*zap)(struct hf_mapping *mapping, hf_pgoff_t first, hf_pgoff_t nr);
    /* For copies between a caller's buffer and the cache that met EFAULT: resolves the fault at addr, at most
     * len bytes, if addr lies in one of our mappings. No locks held. Returns 0 (try again), -EFAULT (not
     * ours, or not allowed), or the refusal. */
    int (*user_fault_in)(const void *addr, size_t len, bool write);
    /* True if a copy with [addr, addr + len) could block
     * on a fault that needs a page lock (thread engine). */
    bool (*user_may_block)(const void *addr, size_t len);
};
void hf_mm_ops_set(const struct hf_mm_ops *ops);
extern const struct hf_mm_ops *hf_mm_ops;

/*
 * The file behind a mapping, as long as something maps it. Embedded in the open file description of vfs/;
 * a vma holds a reference. get() and put() may block and lock; not called in faults.
 */
struct hf_vm_file {
    struct hf_mapping *mapping;
    bool readable, writable; /* how it was opened */
    void (*get)(struct hf_vm_file *file);
    void (*put)(struct hf_vm_file *file);
};

/* One fault, filled by mm/; lives until hf_mapping_fault() returns. */
struct hf_fault_ctx {
    hf_off_t off;    /* of the touched hardware page in the file, bytes */
    bool write;      /* a store (to a shared mapping: page_mkwrite is due) */
    bool is_private; /* MAP_PRIVATE: page_mkwrite is never due; pages are installed read-only or copy-on-write
                      */
    unsigned flags;  /* HF_NOWAIT: called from a signal handler */
    hf_off_t window_start,
        window_end;        /* neighbours inside are welcome, bytes (what the vma maps), P need not divide */
    uint32_t window_pages; /* how many pages ahead (0: none). Sequential access raises it */
    /*
     * Makes [off, off + len) accessible in the faulting address space: readable, or writable too.
     * Hardware-page aligned; may span pages, all locked, all uptodate. hole: the memfd probably has no pages
     * there yet (they are all zero): zero pages must be put in. Otherwise, and if the guess is wrong, the
     * memfd's pages are mapped. Already being mapped is not an error: then only the protection is changed.
     * Must clip to the vma. Returns 0; -EAGAIN: the address space changed, fault again; else what went wrong.
     */
    int (*install)(struct hf_fault_ctx *ctx, hf_off_t off, hf_off_t len, bool writable, bool hole);
    /* May be NULL. Asked under the page lock before anything is decided: true: another fault's install() has
     * resolved this one meanwhile, so nothing is done (0). Deciding it again would promise space for a store
     * that is over. */
    bool (*resolved)(struct hf_fault_ctx *ctx);
    bool counted;            /* a refusal has been counted already: this asks only what it was */
    enum hf_fault_kind kind; /* out: what it turned out to be; meaningless if refused */
    void *mm;                /* mm/'s own */
};

/*
 * Decides and completes a fault (STORE-PATH 3/9): fills the page, runs page_mkwrite, installs.
 * With HF_NOWAIT, what would block is handed to a service thread and waited for; install() may then run in
 * that thread. Async-signal-safe. The caller holds no lock below rank MM. Returns 0; -ENOSPC, -EDQUOT, -EIO:
 * refused, nothing changed; -ENXIO: beyond EOF; -EAGAIN: fault again.
 */
int hf_mapping_fault(struct hf_mapping *mapping, struct hf_fault_ctx *ctx);

/* page_mkclean of every page: after it, each store in any address space faults. No locks held. */
void hf_mapping_protect_all(struct hf_mapping *mapping);

/* A vma of this mapping was made or went (mm's count; keeps reclaim and eviction honest). */
void hf_mapping_vma_added(struct hf_mapping *mapping);
void hf_mapping_vma_removed(struct hf_mapping *mapping);

/* What mm/ needs to know of a mapping. */
int hf_mapping_memfd(
    struct hf_mapping *mapping); /* to mmap; made on first call (not in a fault); or -errno */
uint32_t hf_mapping_page_size(const struct hf_mapping *mapping);
hf_off_t hf_mapping_size(const struct hf_mapping *mapping); /* i_size now */
uint64_t hf_mapping_ino(const struct hf_mapping *mapping);
struct hf_list;
struct hf_mutex;
struct hf_list *hf_mapping_i_mmap(struct hf_mapping *mapping);       /* list of vmas, mm's own */
struct hf_mutex *hf_mapping_i_mmap_lock(struct hf_mapping *mapping); /* rank I_MMAP, guards it */
/* Puts zero pages into the memfd where it has none; async-signal-safe. 0 or -ENOMEM. */
int hf_mapping_instantiate(struct hf_mapping *mapping, hf_off_t off, hf_off_t len);
/* All or nothing: reserves the blocks of [off, off + len) and keeps them (hf_reserve). Blocks. -ENXIO beyond
 * EOF. */
int hf_mapping_reserve_range(struct hf_mapping *mapping, hf_off_t off, hf_off_t len);

#endif
