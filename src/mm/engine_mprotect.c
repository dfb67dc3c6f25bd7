/* SPDX-License-Identifier: MIT */
/*
 * engine_mprotect.c - where userfaultfd is refused: memfd mappings whose page protection is the state.
 *
 * PROT_NONE: not brought in; PROT_READ: a store must ask; the area's full prot: page_mkwrite has run. A touch
 * that is not allowed is a SIGSEGV. Less access than due is always legal (the next touch faults again), which
 * is what helps when the kernel runs out of areas: every change of protection may cut one of the kernel's
 * areas in three, and vm.max_map_count (65530) limits them for the whole process. So cuts are counted, and
 * from time to time, or when mprotect(2) fails, a whole area goes back to PROT_NONE and is one kernel area
 * again.
 */
#include "mm/engine.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

/* Of one area; leaves most of vm.max_map_count to the program. */
#define CUTS_MAX 8192u

/* mprotect(2) without errno. */
static int page_protect(uintptr_t start, uintptr_t end, int prot)
{
    int saved = errno;
    int err = mprotect((void *)start, end - start, prot) != 0 ? -errno : 0;

    errno = saved;
    return err;
}

static void forget_all(struct hf_vma *vma)
{
    int err = page_protect(vma->start, vma->end, PROT_NONE);

    atomic_store(&vma->cuts, 0);
    assert(err == 0 && "an area that cannot be protected");
    (void)err;
}

/* Sets prot, if need be at the price of everything else in the area. */
static int change(struct hf_vma *vma, uintptr_t start, uintptr_t end, int prot)
{
    int err;

    if (atomic_fetch_add_explicit(&vma->cuts, 2, memory_order_relaxed) > CUTS_MAX)
        forget_all(vma);
    err = page_protect(start, end, prot);
    if (err != -ENOMEM)
        return err;
    forget_all(vma);
    return prot == PROT_NONE ? 0 : page_protect(start, end, prot);
}

static int mprotect_probe(const char **ret_why)
{
    *ret_why = "page protection and SIGSEGV: works everywhere, more slowly";
    return 0;
}

static int mprotect_watch(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    /* It came with PROT_NONE: every touch faults. */
    (void)vma;
    (void)start;
    (void)end;
    return 0;
}

static int mprotect_install(struct hf_vma *vma, uintptr_t start, uintptr_t end, bool writable, bool hole,
                            bool present)
{
    int prot = vma->prot;

    (void)present;
    if (hole) {
        /* The kernel would make the page itself when it is touched, but could only kill when it has no
         * memory. */
        int err =
            hf_mapping_instantiate(vma->region->mapping, hf_vma_offset(vma, start), (hf_off_t)(end - start));
        if (err)
            return err;
    }
    /* In a private area a store gets a page of its own from the kernel. */
    if (vma->shared && !writable)
        prot &= ~PROT_WRITE;
    return change(vma, start, end, prot);
}

static void mprotect_mkclean(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    int err = change(vma, start, end, vma->prot & ~PROT_WRITE);

    /* With no room to cut even so, the whole area has just become PROT_NONE. */
    assert(err == 0 || err == -ENOMEM);
    (void)err;
}

static void mprotect_zap(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    int err = change(vma, start, end, PROT_NONE);

    assert(err == 0);
    (void)err;
}

static int mprotect_protect(struct hf_vma *vma, int prot)
{
    int err = page_protect(vma->start, vma->end, PROT_NONE);

    (void)prot; /* install() reads it from the area */
    if (!err)
        atomic_store(&vma->cuts, 0);
    return err;
}

const struct hf_engine hf_engine_mprotect = {
    .name = "mprotect",
    .by_segv = true,
    .probe = mprotect_probe,
    .watch = mprotect_watch,
    .install = mprotect_install,
    .mkclean = mprotect_mkclean,
    .zap = mprotect_zap,
    .protect = mprotect_protect,
};
