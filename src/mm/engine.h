/* SPDX-License-Identifier: MIT */
/*
 * engine.h - how faults reach us and how pages enter page tables: the ops of the three engines. For mm/ only.
 *
 * Every op works on [start, end) inside one area, hardware-page aligned. "Page locked" means: every page of
 * the cache that the range touches is locked by whoever asked, so ops on one page never run side by side.
 */
#ifndef HF_MM_ENGINE_H
#define HF_MM_ENGINE_H

#include "mm/vma.h"

struct hf_engine {
    const char *name;
    bool by_segv;   /* faults come as SIGSEGV, not as SIGBUS */
    bool by_thread; /* faults are served by a thread: kernel code may wait for it */
    /* 0 if this machine can, else -errno, and *ret_why (static text for people) says what is missing. Called
     * once, by probe.c; what it opens stays open. */
    int (*probe)(const char **ret_why);
    /* Before the first area of this engine. Context: space.lock exclusive. 0 or -errno. May be NULL. */
    int (*start)(void);
    /*
     * Makes a fresh kernel mapping (or a fresh part of one), which is PROT_NONE so far, live: first tracked,
     * then with the area's prot. Context: space.lock exclusive.
     */
    int (*watch)(struct hf_vma *vma, uintptr_t start, uintptr_t end);
    /* hf_fault_ctx.install(). present: the access met a page. Page locked. Async-signal-safe. */
    int (*install)(struct hf_vma *vma, uintptr_t start, uintptr_t end, bool writable, bool hole,
                   bool present);
    /* Afterwards a store in the range faults. Page locked, i_mmap lock. Shared areas only. */
    void (*mkclean)(struct hf_vma *vma, uintptr_t start, uintptr_t end);
    /* Afterwards any access in the range faults. Page locked, i_mmap lock. NULL: the kernel sees to it. */
    void (*zap)(struct hf_vma *vma, uintptr_t start, uintptr_t end);
    /* mprotect of the whole area. Context: space.lock exclusive, i_mmap lock. 0 or -errno. */
    int (*protect)(struct hf_vma *vma, int prot);
    /* The handler met SIGBUS in the area, before it decides. True: that was a refusal, which has been
     * counted. space.lock shared. May be NULL. */
    bool (*touched)(struct hf_vma *vma, uintptr_t addr);
    /* The range is about to go or to move. Context: space.lock exclusive. May be NULL. */
    void (*forget)(struct hf_vma *vma, uintptr_t start, uintptr_t end);
    /* In the child of a fork. May be NULL. */
    void (*forked)(void);
};

extern const struct hf_engine hf_engine_inline, hf_engine_thread, hf_engine_mprotect;

/* The engine of a mapping with these flags, probed and, if need be, started; -EOPNOTSUPP. space.lock
 * exclusive. */
int hf_engine_choose(int map_flags, const struct hf_engine **ret_engine);
/* HF_MKWRITE_AROUND=0 switches windows off. Read once, by hf_engine_env_init(). */
extern bool hf_windows_on;
/* Reads the environment. Idempotent. */
void hf_engine_env_init(void);
void hf_engines_forked(void);

/* --- what the two userfaultfd engines share (engine_uffd.c) --- */

#include <linux/userfaultfd.h>

/* Newer than Debian 12's headers. */
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14) /* Linux 6.6 */
struct uffdio_poison {
    struct uffdio_range range;
    __u64 mode;
    __s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP
#define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1) /* Linux 6.4 */
#endif

/* What every engine on userfaultfd needs. */
#define HF_UFFD_FEATURES                                                                      \
    (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | \
     UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

/* open(2)s a userfaultfd with all of features and what both engines need; checks that it does what we build
 * on. user_only: kernel-mode faults are not wanted. A descriptor, or -errno with *ret_why: -ENOSYS: no
 * userfaultfd; -EPERM: refused; -EOPNOTSUPP: it lacks a feature. */
int hf_uffd_open(uint64_t features, bool user_only, const char **ret_why);
int hf_uffd_watch(int fd, struct hf_vma *vma, uintptr_t start, uintptr_t end);
/* wake: somebody may sleep on the range in the kernel. */
int hf_uffd_install(int fd, struct hf_vma *vma, uintptr_t start, uintptr_t end, bool writable, bool hole,
                    bool present, bool wake);
/* UFFDIO_WRITEPROTECT, again while the kernel says -EAGAIN. */
int hf_uffd_write_protect(int fd, uintptr_t start, uintptr_t end, uint64_t mode);
void hf_uffd_mkclean(int fd, uintptr_t start, uintptr_t end);
int hf_uffd_protect(struct hf_vma *vma, int prot);

#endif
