/* SPDX-License-Identifier: MIT */
/*
 * fault.c - from an address to a verdict; and what the cache asks of all address spaces (struct hf_mm_ops).
 *
 * A fault holds space.lock shared from the lookup to the last page-table change, so the area cannot be cut or
 * moved under it, not even where a service thread runs install() for it. All of this is async-signal-safe.
 */
#include "base/trace.h"
#include "mm/engine.h"
#include "mm/space.h"

#include <assert.h>
#include <errno.h>
#include <holdfast/driver.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What one user_fault_in() brings in, at most, bytes. */
#define USER_FAULT_MAX 65536u

/* One decision: the context the cache sees, and what we remember of it. */
struct fault {
    struct hf_fault_ctx ctx;
    struct hf_vma *vma;
    bool present;
    bool (*resolved)(void);
    hf_off_t reached; /* end of what install() was asked for around the touched page */
};

static bool fault_resolved(struct hf_fault_ctx *ctx)
{
    struct fault *f = ctx->mm;

    return f->resolved();
}

bool hf_fault_allowed(const struct hf_vma *vma, bool write)
{
    return (vma->prot & (write ? PROT_WRITE : PROT_READ)) != 0;
}

static int fault_install(struct hf_fault_ctx *ctx, hf_off_t off, hf_off_t len, bool writable, bool hole)
{
    struct fault *f = ctx->mm;
    struct hf_vma *vma = f->vma;
    hf_off_t vma_end = hf_vma_offset(vma, vma->end);
    hf_off_t end = off + len < vma_end ? off + len : vma_end;
    int err;

    if (off < vma->off)
        off = vma->off;
    if (off >= end)
        return 0;
    err = vma->engine->install(vma, vma->start + (uintptr_t)(off - vma->off),
                               vma->start + (uintptr_t)(end - vma->off), writable, hole,
                               f->present && off <= ctx->off && ctx->off < end);
    if (!err && off <= f->reached && end > f->reached)
        f->reached = end;
    return err;
}

int hf_fault_decide(struct hf_vma *vma, const struct hf_access *access, unsigned flags, uint32_t pages,
                    uintptr_t *ret_reached)
{
    struct hf_mapping *mapping = vma->region->mapping;
    hf_off_t page_size = hf_mapping_page_size(mapping);
    uintptr_t hw_page = access->addr & ~((uintptr_t)hf_hw_page_size() - 1);
    struct hf_vma_stream *stream = &vma->streams[access->write];
    struct fault f = {.vma = vma, .present = access->present, .resolved = access->resolved};
    int err;

    f.ctx.off = f.reached = hf_vma_offset(vma, hw_page);
    f.ctx.write = access->write;
    f.ctx.is_private = !vma->shared;
    f.ctx.flags = flags;
    f.ctx.window_start = vma->off;
    f.ctx.window_end = hf_vma_offset(vma, vma->end);
    f.ctx.window_pages = hf_vma_stream_window(stream, f.ctx.off & ~(page_size - 1));
    if (f.ctx.window_pages < pages)
        f.ctx.window_pages = pages;
    if (!hf_windows_on)
        f.ctx.window_pages = 0;
    f.ctx.install = fault_install;
    f.ctx.resolved = access->resolved != NULL ? fault_resolved : NULL;
    f.ctx.counted = access->counted;
    f.ctx.mm = &f;
    hf_trace(FAULT, hf_mapping_ino(mapping), f.ctx.off / page_size, access->write, f.ctx.window_pages);
    err = hf_mapping_fault(mapping, &f.ctx);
    if (err)
        return err;
    hf_vma_stream_expect(stream, (f.reached + page_size - 1) & ~(page_size - 1));
    if (ret_reached != NULL)
        *ret_reached = vma->start + (uintptr_t)(f.reached - vma->off);
    return 0;
}

static void refusal_fill(struct hf_fault *refusal, const struct hf_vma *vma, const struct hf_access *access,
                         int err)
{
    refusal->error = -err;
    refusal->write = access->write;
    refusal->addr = (void *)access->addr;
    refusal->offset = hf_vma_offset(vma, access->addr);
    refusal->ino = hf_mapping_ino(vma->region->mapping);
    refusal->tid = (pid_t)syscall(SYS_gettid);
    hf_trace(REFUSED, refusal->ino, refusal->offset, refusal->error, refusal->write);
}

static int verdict_locked(struct hf_vma *vma, const struct hf_access *access, unsigned flags,
                          struct hf_fault *ret_refusal)
{
    int err;

    if (!hf_fault_allowed(vma, access->write))
        return HF_VERDICT_FORBIDDEN;
    err = hf_fault_decide(vma, access, flags, 0, NULL);
    if (err == 0 || err == -EAGAIN)
        return HF_VERDICT_RETRY;
    refusal_fill(ret_refusal, vma, access, err);
    return err;
}

int hf_fault_resolve(const struct hf_access *what, unsigned flags, struct hf_fault *ret_refusal)
{
    struct hf_access access = *what;
    struct hf_vma *vma;
    int verdict = HF_VERDICT_FOREIGN;

    if (atomic_load(&hf_space.dead))
        return verdict;
    hf_rwlock_rdlock(&hf_space.lock);
    vma = hf_vma_find(&hf_space.tree, access.addr);
    if (vma != NULL && access.memory_error && !vma->engine->by_thread)
        vma = NULL; /* a real one */
    if (vma != NULL && vma->engine->touched != NULL)
        access.counted = vma->engine->touched(vma, access.addr);
    if (vma != NULL)
        verdict = verdict_locked(vma, &access, flags, ret_refusal);
    hf_rwlock_rdunlock(&hf_space.lock);
    return verdict;
}

/*
 * Where pages are tracked by userfaultfd, a SIGSEGV in an area that allows the access means that the area was
 * being made, moved or protected (PROT_NONE for a moment): that was over when we got the lock, so the access
 * is worth another try. One try a change: if nothing changed since this thread's last SIGSEGV here, then
 * somebody has called mprotect(2) behind our back, and the signal is the program's.
 */
static bool change_was_under_way(uintptr_t addr)
{
    static HF_TLS uintptr_t last_addr;
    static HF_TLS uint64_t last_generation;
    uint64_t generation = atomic_load(&hf_space.generation);
    bool fresh = last_addr != addr || last_generation != generation;

    last_addr = addr;
    last_generation = generation;
    return fresh;
}

int hf_fault_resolve_segv(const struct hf_access *access, unsigned flags, struct hf_fault *ret_refusal)
{
    struct hf_vma *vma;
    int verdict = HF_VERDICT_FOREIGN;

    if (atomic_load(&hf_space.dead))
        return verdict;
    hf_rwlock_rdlock(&hf_space.lock);
    vma = hf_vma_find(&hf_space.tree, access->addr);
    if (vma != NULL && vma->engine->by_segv)
        verdict = verdict_locked(vma, access, flags, ret_refusal);
    else if (vma != NULL)
        verdict = hf_fault_allowed(vma, access->write) && change_was_under_way(access->addr)
                      ? HF_VERDICT_RETRY
                      : HF_VERDICT_FORBIDDEN;
    hf_rwlock_rdunlock(&hf_space.lock);
    return verdict;
}

/* ------------------------------------------------------------------ what the cache asks */

/* Calls fn for what each area maps of pages [first, first + nr). Context: page locks. */
static void each_vma(struct hf_mapping *mapping, hf_pgoff_t first, hf_pgoff_t nr,
                     void (*fn)(struct hf_vma *vma, uintptr_t start, uintptr_t end))
{
    hf_off_t page_size = hf_mapping_page_size(mapping);
    hf_pgoff_t last_page = (hf_pgoff_t)(INT64_MAX / page_size);
    hf_off_t start = (hf_off_t)(first < last_page ? first : last_page) * page_size;
    hf_off_t end = (hf_off_t)(nr < last_page - first ? first + nr : last_page) * page_size;
    struct hf_list *head = hf_mapping_i_mmap(mapping), *pos;
    struct hf_mutex *lock = hf_mapping_i_mmap_lock(mapping);

    if (atomic_load(&hf_space.dead) || first >= last_page)
        return;
    hf_mutex_lock(lock);
    hf_list_for_each (pos, head) {
        struct hf_vma *vma = hf_list_entry(pos, struct hf_vma, i_mmap);
        hf_off_t vma_end = hf_vma_offset(vma, vma->end);
        hf_off_t from = start > vma->off ? start : vma->off;
        hf_off_t to = end < vma_end ? end : vma_end;

        if (from < to)
            fn(vma, vma->start + (uintptr_t)(from - vma->off), vma->start + (uintptr_t)(to - vma->off));
    }
    hf_mutex_unlock(lock);
}

static void mkclean_vma(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    /* An area that never was writable holds write-protected pages only: install() sees to it. */
    if (vma->shared && vma->ever_writable)
        vma->engine->mkclean(vma, start, end);
}

static void mm_mkclean(struct hf_mapping *mapping, hf_pgoff_t first, hf_pgoff_t nr)
{
    each_vma(mapping, first, nr, mkclean_vma);
}

static void zap_vma(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    if (vma->engine->zap != NULL)
        vma->engine->zap(vma, start, end);
}

static void mm_zap(struct hf_mapping *mapping, hf_pgoff_t first, hf_pgoff_t nr)
{
    each_vma(mapping, first, nr, zap_vma);
}

/* One step at access->addr: *ret_reached is where the next is due. Context: space.lock shared. */
static int user_fault_step(const struct hf_access *access, uintptr_t end, uintptr_t *ret_reached)
{
    struct hf_vma *vma = hf_vma_find(&hf_space.tree, access->addr);
    size_t pages;

    if (vma == NULL || !hf_fault_allowed(vma, access->write))
        return -EFAULT;
    if (vma->engine->touched != NULL)
        vma->engine->touched(vma, access->addr);
    pages = (end - access->addr - 1) / hf_mapping_page_size(vma->region->mapping);
    *ret_reached = (access->addr | (hf_hw_page_size() - 1u)) + 1;
    return hf_fault_decide(vma, access, 0, pages < HF_WINDOW_MAX ? (uint32_t)pages : HF_WINDOW_MAX,
                           ret_reached);
}

/*
 * The copy stopped at some page of the buffer, not always its first: it may have been cut back. So all of
 * them come in, up to a limit; that later ones cannot is for the copy to find out.
 */
static int mm_user_fault_in(const void *addr, size_t len, bool write)
{
    uintptr_t start = (uintptr_t)addr;
    uintptr_t end = start + (len < USER_FAULT_MAX ? (len > 0 ? len : 1) : USER_FAULT_MAX);
    struct hf_access access = {.addr = start, .write = write};
    int err = 0;

    if (atomic_load(&hf_space.dead) || end < start)
        return -EFAULT;
    hf_rwlock_rdlock(&hf_space.lock);
    while (access.addr < end && !err) {
        uintptr_t reached = access.addr;

        err = user_fault_step(&access, end, &reached);
        if (err && access.addr != start)
            err = -EAGAIN;
        access.addr = reached;
    }
    hf_rwlock_rdunlock(&hf_space.lock);
    return err == -EAGAIN ? 0 : err;
}

static bool mm_user_may_block(const void *addr, size_t len)
{
    uintptr_t at = (uintptr_t)addr, end = at + len;
    bool may = false;

    if (!atomic_load_explicit(&hf_space.thread_used, memory_order_relaxed))
        return false;
    /* The caller may hold locks of any rank: no waiting here. "Perhaps" costs it a bounce buffer, no more. */
    if (!hf_rwlock_tryrdlock(&hf_space.lock))
        return true;
    while (at < end && !may) {
        struct hf_vma *vma = hf_vma_in(&hf_space.tree, at, end);
        if (vma == NULL)
            break;
        may = vma->engine->by_thread;
        at = vma->end;
    }
    hf_rwlock_rdunlock(&hf_space.lock);
    return may;
}

const struct hf_mm_ops hf_local_mm_ops = {
    .mkclean = mm_mkclean,
    .zap = mm_zap,
    .user_fault_in = mm_user_fault_in,
    .user_may_block = mm_user_may_block,
};
