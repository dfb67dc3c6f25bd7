/* SPDX-License-Identifier: MIT */
/*
 * map.c - making, cutting, moving and protecting mappings.
 *
 * Two rules keep every store tracked, whatever other threads touch meanwhile:
 *   1. A mapping is made PROT_NONE, registered, and only then gets its protection.
 *   2. An area leaves the mapping's list (where mkclean finds it) in the same i_mmap critical section in
 * which its pages leave the address space. A touch in between is a SIGSEGV, and our handler waits for
 * space.lock and tries again (fault.c). Files are put, and vmas counted out, after the locks are gone: that
 * may evict an inode. Lock order: space.lock exclusive -> i_mmap lock of one mapping. No user memory is
 * touched under them.
 */
#include "mm/engine.h"
#include "mm/mm.h"
#include "mm/space.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

struct hf_space hf_space;

#define PROT_KNOWN (PROT_READ | PROT_WRITE)
#define MAP_KNOWN (MAP_TYPE | MAP_FIXED | MAP_FIXED_NOREPLACE | HF_MAP_SYSCALLS)

/* ------------------------------------------------------------------ the space */

int hf_mm_init(void)
{
    hf_vma_init();
    hf_rwlock_init(&hf_space.lock, HF_RANK_MM);
    hf_engine_env_init();
    return 0;
}

void hf_signals_block(sigset_t *ret_mask)
{
    sigset_t async;

    sigfillset(&async);
    /* What a bug of ours or of the caller raises must not be kept waiting. */
    sigdelset(&async, SIGSEGV);
    sigdelset(&async, SIGBUS);
    sigdelset(&async, SIGFPE);
    sigdelset(&async, SIGILL);
    sigdelset(&async, SIGTRAP);
    sigdelset(&async, SIGABRT);
    pthread_sigmask(SIG_BLOCK, &async, ret_mask);
}

void hf_signals_restore(const sigset_t *mask)
{
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

int hf_space_lock(sigset_t *ret_mask) HF_NO_TSA
{
    if (atomic_load(&hf_space.dead))
        return -ESTALE;
    hf_signals_block(ret_mask);
    hf_rwlock_wrlock(&hf_space.lock);
    return 0;
}

void hf_space_unlock(const sigset_t *mask) HF_NO_TSA
{
    assert(hf_vma_tree_sane(&hf_space.tree));
    atomic_fetch_add(&hf_space.generation, 1);
    hf_rwlock_wrunlock(&hf_space.lock);
    hf_signals_restore(mask);
}

void hf_mm_forked_child(void)
{
    atomic_store(&hf_space.dead, true);
    hf_space.tree.nr = 0;
    atomic_store(&hf_space.thread_used, false);
    hf_engines_forked();
}

static uintptr_t page_up(uintptr_t n)
{
    uintptr_t mask = (uintptr_t)hf_hw_page_size() - 1;

    return (n + mask) & ~mask;
}

static bool page_aligned(uintptr_t n)
{
    return (n & (hf_hw_page_size() - 1)) == 0;
}

/* [addr, addr + len) in whole pages, or -EINVAL. */
static int range_check(const void *addr, size_t len, uintptr_t *ret_start, uintptr_t *ret_end)
{
    uintptr_t start = (uintptr_t)addr;

    if (!page_aligned(start) || len == 0 || len > SIZE_MAX - hf_hw_page_size())
        return -EINVAL;
    if (page_up(len) > UINTPTR_MAX - start)
        return -EINVAL;
    *ret_start = start;
    *ret_end = start + page_up(len);
    return 0;
}

/* A PROT_WRITE page can be read on every machine we know. */
static int prot_normalise(int prot)
{
    return prot & PROT_WRITE ? prot | PROT_READ : prot;
}

static int prot_check(const struct hf_vm_file *file, int prot, bool shared)
{
    if (prot & ~PROT_KNOWN)
        return -EINVAL;
    if (!file->readable || (shared && (prot & PROT_WRITE) && !file->writable))
        return -EACCES;
    return 0;
}

/* ------------------------------------------------------------------ areas come and go */

void hf_vm_region_release(struct hf_vm_region *region)
{
    struct hf_vm_file *file = region->file;

    if (!hf_vm_region_put(region))
        return;
    hf_mapping_vma_removed(region->mapping);
    hf_vm_region_free(region);
    file->put(file);
}

/* Areas that are out of tree and list. Context: no locks. */
static void drop_dead(struct hf_list *dead)
{
    struct hf_list *pos, *next;

    hf_list_for_each_safe (pos, next, dead) {
        struct hf_vma *vma = hf_list_entry(pos, struct hf_vma, i_mmap);
        hf_vm_region_release(vma->region);
        hf_vma_free(vma);
    }
}

static void vma_link(struct hf_vma *vma)
{
    struct hf_mapping *mapping = vma->region->mapping;

    hf_vma_tree_insert(&hf_space.tree, vma);
    if (vma->engine->by_thread)
        atomic_store(&hf_space.thread_used, true);
    hf_mutex_lock(hf_mapping_i_mmap_lock(mapping));
    hf_list_add_tail(hf_mapping_i_mmap(mapping), &vma->i_mmap);
    hf_mutex_unlock(hf_mapping_i_mmap_lock(mapping));
}

static void vma_bury(struct hf_vma *vma, struct hf_list *dead)
{
    hf_vma_tree_remove(&hf_space.tree, vma);
    hf_list_add_tail(dead, &vma->i_mmap);
}

/* keep: inaccessible memory takes the area's place, so that nobody else can. */
static int vma_detach(struct hf_vma *vma, bool keep, struct hf_list *dead)
{
    struct hf_mutex *lock = hf_mapping_i_mmap_lock(vma->region->mapping);
    void *addr = (void *)vma->start;
    int err = 0;

    if (vma->engine->forget != NULL)
        vma->engine->forget(vma, vma->start, vma->end);
    hf_mutex_lock(lock);
    if (keep && mmap(addr, hf_vma_len(vma), PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        err = -errno;
    if (!keep && munmap(addr, hf_vma_len(vma)) != 0)
        err = -errno;
    if (!err)
        hf_list_del(&vma->i_mmap);
    hf_mutex_unlock(lock);
    if (!err)
        vma_bury(vma, dead);
    return err;
}

/* Lets no area cross addr. */
static int border_make(uintptr_t addr)
{
    struct hf_vma *vma = hf_vma_find(&hf_space.tree, addr);
    struct hf_mutex *lock;
    int err;

    if (vma == NULL || vma->start == addr)
        return 0;
    lock = hf_mapping_i_mmap_lock(vma->region->mapping);
    hf_mutex_lock(lock);
    err = hf_vma_split(&hf_space.tree, vma, addr);
    hf_mutex_unlock(lock);
    return err;
}

static int range_cut(uintptr_t start, uintptr_t end)
{
    int err = border_make(start);

    return err ? err : border_make(end);
}

static int range_detach(uintptr_t start, uintptr_t end, bool keep, struct hf_list *dead)
{
    int err = hf_vma_in(&hf_space.tree, start, end) != NULL ? range_cut(start, end) : 0;
    struct hf_vma *vma;

    while (!err && (vma = hf_vma_in(&hf_space.tree, start, end)) != NULL)
        err = vma_detach(vma, keep, dead);
    return err;
}

/* ------------------------------------------------------------------ map */

static int map_check(const struct hf_vm_file *file, const void *addr, size_t len, int prot, int flags,
                     hf_off_t off)
{
    int type = flags & MAP_TYPE;

    if (len == 0 || off < 0 || !page_aligned((uintptr_t)off) || (flags & ~MAP_KNOWN))
        return -EINVAL;
    if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE)
        return -EINVAL;
    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) && !page_aligned((uintptr_t)addr))
        return -EINVAL;
    if (len > SIZE_MAX - hf_hw_page_size())
        return -ENOMEM;
    if (page_up(len) > (uint64_t)(INT64_MAX - off))
        return -EOVERFLOW;
    return prot_check(file, prot, type != MAP_PRIVATE);
}

/* A kernel mapping of vma's part of the memfd, inaccessible as yet, not inherited by fork. */
static int kernel_map(const struct hf_vma *vma, uintptr_t addr, size_t len, hf_off_t off, int fixed,
                      uintptr_t *ret_start)
{
    int memfd = hf_mapping_memfd(vma->region->mapping);
    void *p;

    if (memfd < 0)
        return memfd;
    p = mmap((void *)addr, len, PROT_NONE, (vma->shared ? MAP_SHARED : MAP_PRIVATE) | fixed, memfd, off);
    if (p == MAP_FAILED)
        return -errno;
    if ((fixed & MAP_FIXED_NOREPLACE) && (uintptr_t)p != addr) {
        munmap(p, len); /* a kernel before 4.17, to which it was a hint */
        return -EEXIST;
    }
    if (madvise(p, len, MADV_DONTFORK) != 0) {
        munmap(p, len);
        return -ENOMEM;
    }
    /* A huge page would be faulted, protected and copied as one. -EINVAL where there are none. */
    madvise(p, len, MADV_NOHUGEPAGE);
    *ret_start = (uintptr_t)p;
    return 0;
}

/* vma->off, prot, shared and engine are set. Context: space.lock exclusive. */
static int map_at(struct hf_vma *vma, uintptr_t addr, size_t len, int fixed)
{
    uintptr_t start;
    int err = hf_vma_tree_reserve(&hf_space.tree, 1);

    if (!err)
        err = kernel_map(vma, addr, len, vma->off, fixed, &start);
    if (err)
        return err;
    vma->start = start;
    vma->end = start + len;
    vma->ever_writable = vma->prot & PROT_WRITE;
    err = vma->engine->watch(vma, vma->start, vma->end);
    if (err)
        munmap((void *)start, len);
    else
        vma_link(vma);
    return err;
}

static int map_locked(struct hf_vma *vma, uintptr_t addr, size_t len, int flags, struct hf_list *dead)
{
    int fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
    struct hf_list *pos;
    int err = hf_signals_hook();

    if (!err)
        err = hf_engine_choose(flags, &vma->engine);
    if (!err && (flags & MAP_FIXED) && len > UINTPTR_MAX - addr)
        err = -ENOMEM;
    if (err)
        return err;
    if (flags & MAP_FIXED)
        err = range_detach(addr, addr + len, true, dead);
    if (!err)
        err = map_at(vma, addr, len, fixed);
    if (err) {
        /* As with mmap(2): what was in the way is gone. */
        hf_list_for_each (pos, dead) {
            struct hf_vma *gone = hf_list_entry(pos, struct hf_vma, i_mmap);
            munmap((void *)gone->start, hf_vma_len(gone));
        }
    }
    return err;
}

int hf_mm_map(struct hf_vm_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off,
              void **ret_addr)
{
    int err = map_check(file, addr, len, prot, flags, off);
    struct hf_vm_region *region;
    struct hf_vma *vma;
    struct hf_list dead;
    sigset_t mask;
    uintptr_t start = 0;

    if (err)
        return err;
    if (atomic_load(&hf_space.dead))
        return -ESTALE;
    err = hf_mapping_memfd(file->mapping);
    if (err < 0)
        return err;
    region = hf_vm_region_new(file);
    vma = region != NULL ? hf_vma_new(region) : NULL;
    if (vma == NULL) {
        hf_vm_region_free(region);
        return -ENOMEM;
    }
    vma->off = off;
    vma->shared = (flags & MAP_TYPE) != MAP_PRIVATE;
    vma->prot = prot_normalise(prot);
    file->get(file);
    hf_mapping_vma_added(file->mapping);
    hf_list_init(&dead);
    err = hf_space_lock(&mask);
    if (!err) {
        err = map_locked(vma, (uintptr_t)addr, page_up(len), flags, &dead);
        start = vma->start;
        hf_space_unlock(&mask);
    }
    if (err)
        hf_list_add_tail(&dead, &vma->i_mmap);
    else
        *ret_addr = (void *)start;
    drop_dead(&dead);
    return err;
}

/* ------------------------------------------------------------------ unmap */

int hf_mm_unmap(void *addr, size_t len)
{
    uintptr_t start, end;
    struct hf_list dead;
    sigset_t mask;
    int err = range_check(addr, len, &start, &end);

    if (err)
        return err;
    hf_list_init(&dead);
    err = hf_space_lock(&mask);
    if (err)
        return err;
    if (hf_vma_in(&hf_space.tree, start, end) == NULL)
        err = -EINVAL;
    else
        err = range_detach(start, end, false, &dead);
    hf_space_unlock(&mask);
    drop_dead(&dead);
    return err;
}

/* ------------------------------------------------------------------ protect */

/* Every page of the range is mapped, and its file open for prot. */
static int protect_check(uintptr_t start, uintptr_t end, int prot)
{
    while (start < end) {
        struct hf_vma *vma = hf_vma_find(&hf_space.tree, start);
        int err;

        if (vma == NULL)
            return -ENOMEM;
        err = prot_check(vma->region->file, prot, vma->shared);
        if (err)
            return err;
        start = vma->end;
    }
    return 0;
}

static int vma_protect(struct hf_vma *vma, int prot)
{
    struct hf_mutex *lock = hf_mapping_i_mmap_lock(vma->region->mapping);
    int err;

    hf_mutex_lock(lock);
    /* Before the first store can happen: mkclean must come by from now on. */
    if (prot & PROT_WRITE)
        vma->ever_writable = true;
    err = vma->engine->protect(vma, prot);
    if (!err)
        vma->prot = prot;
    hf_mutex_unlock(lock);
    return err;
}

static bool merge_above(struct hf_vma *vma, struct hf_list *dead)
{
    struct hf_mutex *lock = hf_mapping_i_mmap_lock(vma->region->mapping);
    struct hf_vma *upper;

    hf_mutex_lock(lock);
    upper = hf_vma_merge(&hf_space.tree, vma);
    hf_mutex_unlock(lock);
    if (upper == NULL)
        return false;
    hf_list_add_tail(dead, &upper->i_mmap);
    return true;
}

/* What was cut apart and is alike again, is one again: hf_mremap() takes one mapping. */
static void range_merge(uintptr_t start, uintptr_t end, struct hf_list *dead)
{
    struct hf_vma *vma = hf_vma_find(&hf_space.tree, start - 1);

    if (vma == NULL)
        vma = hf_vma_first(&hf_space.tree, start, NULL);
    while (vma != NULL && vma->start < end)
        if (!merge_above(vma, dead))
            vma = hf_vma_first(&hf_space.tree, vma->end, NULL);
}

int hf_mm_protect(void *addr, size_t len, int prot)
{
    uintptr_t start, end;
    struct hf_list dead;
    sigset_t mask;
    int err = range_check(addr, len, &start, &end);

    if (err)
        return len == 0 && page_aligned((uintptr_t)addr) ? 0 : err;
    hf_list_init(&dead);
    err = hf_space_lock(&mask);
    if (err)
        return err;
    err = protect_check(start, end, prot);
    if (!err)
        err = range_cut(start, end);
    for (struct hf_vma *vma = hf_vma_find(&hf_space.tree, start); !err && vma != NULL && vma->start < end;
         vma = hf_vma_find(&hf_space.tree, vma->end))
        err = vma_protect(vma, prot_normalise(prot));
    range_merge(start, end, &dead);
    hf_space_unlock(&mask);
    drop_dead(&dead);
    return err;
}

/* ------------------------------------------------------------------ remap */

/* Longer where it stands. -EEXIST: something is in the way. */
static int grow_in_place(struct hf_vma *vma, size_t more)
{
    struct hf_mutex *lock = hf_mapping_i_mmap_lock(vma->region->mapping);
    uintptr_t start;
    int err;

    if (more > UINTPTR_MAX - vma->end)
        return -ENOMEM;
    err = kernel_map(vma, vma->end, more, hf_vma_offset(vma, vma->end), MAP_FIXED_NOREPLACE, &start);
    if (err)
        return err;
    err = vma->engine->watch(vma, start, start + more);
    if (err) {
        munmap((void *)start, more);
        return err;
    }
    hf_mutex_lock(lock);
    vma->end += more;
    hf_mutex_unlock(lock);
    return 0;
}

/* A shared mapping has all its content in the memfd: a new one is as good as the old one, which then goes. */
static int move_shared(struct hf_vma *vma, size_t new_len, struct hf_list *dead, uintptr_t *ret_start)
{
    struct hf_vma *moved = hf_vma_new(vma->region);
    int err;

    if (moved == NULL)
        return -ENOMEM;
    hf_vm_region_get(vma->region);
    moved->engine = vma->engine;
    moved->shared = true;
    moved->off = vma->off;
    moved->prot = vma->prot;
    err = map_at(moved, 0, new_len, 0);
    if (err) {
        hf_list_add_tail(dead, &moved->i_mmap);
        return err;
    }
    err = vma_detach(vma, false, dead);
    if (err)
        vma_detach(moved, false, dead);
    else
        *ret_start = moved->start;
    return err;
}

/*
 * Moves the kernel's mappings of [from, from + len) to to. They may be several, where protections were or are
 * different, and older kernels move one at a time: halve until it is one. 0 or -ENOMEM; *moved grows by what
 * was moved.
 */
static int kernel_move(uintptr_t from, uintptr_t to, size_t len, size_t *moved)
{
    size_t half = (len / 2) & ~((size_t)hf_hw_page_size() - 1);
    int err;

    if (mremap((void *)from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)to) != MAP_FAILED) {
        *moved += len;
        return 0;
    }
    if (errno != EFAULT || half == 0)
        return -ENOMEM;
    err = kernel_move(from, to, half, moved);
    return err ? err : kernel_move(from + half, to + half, len - half, moved);
}

/*
 * A place for new_len bytes, with vma's old pages at its start and fresh ones after; all PROT_NONE,
 * unregistered. 0; -ENOMEM: all pages are where they were; -ENOTRECOVERABLE: some could not be moved back
 * either.
 */
static int private_rebuild(struct hf_vma *vma, size_t new_len, uintptr_t *ret_to)
{
    size_t old_len = hf_vma_len(vma), moved = 0, back = 0;
    void *place = mmap(NULL, new_len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uintptr_t to = (uintptr_t)place, tail;
    int err;

    if (place == MAP_FAILED)
        return -ENOMEM;
    err = kernel_map(vma, to + old_len, new_len - old_len, hf_vma_offset(vma, vma->end), MAP_FIXED, &tail);
    if (!err)
        err = kernel_move(vma->start, to, old_len, &moved);
    if (!err) {
        *ret_to = to;
        return 0;
    }
    if (moved > 0 && kernel_move(to, vma->start, moved, &back) != 0)
        err = -ENOTRECOVERABLE;
    munmap(place, new_len);
    return err;
}

/*
 * A private mapping has pages of its own, so the kernel must move it, and that loses the registration. It is
 * PROT_NONE from before the move until it is registered again.
 */
static int move_private(struct hf_vma *vma, size_t new_len, struct hf_list *dead, uintptr_t *ret_start)
{
    struct hf_mutex *lock = hf_mapping_i_mmap_lock(vma->region->mapping);
    uintptr_t to;
    int err, watch_err;

    if (vma->engine->forget != NULL)
        vma->engine->forget(vma, vma->start, vma->end);
    if (mprotect((void *)vma->start, hf_vma_len(vma), PROT_NONE) != 0)
        return -ENOMEM;
    hf_mutex_lock(lock); /* zap must not meet the old address */
    err = private_rebuild(vma, new_len, &to);
    if (!err) {
        hf_vma_tree_remove(&hf_space.tree, vma);
        vma->start = to;
        vma->end = to + new_len;
        hf_vma_tree_insert(&hf_space.tree, vma);
    }
    hf_mutex_unlock(lock);
    watch_err = vma->engine->watch(vma, vma->start, vma->end);
    *ret_start = vma->start;
    /* Pages that nobody watches would show what was never read from the volume: better none at all. */
    if (err == -ENOTRECOVERABLE || watch_err)
        vma_detach(vma, false, dead);
    return err ? -ENOMEM : watch_err;
}

/* [start, start + old_len) lies in one area. */
static int remap_locked(uintptr_t start, size_t old_len, size_t new_len, int flags, struct hf_list *dead,
                        uintptr_t *ret_start)
{
    struct hf_vma *vma = hf_vma_find(&hf_space.tree, start);
    int err = -EEXIST;

    *ret_start = start;
    if (vma == NULL || vma->end - start < old_len)
        return -EFAULT;
    if (new_len <= old_len)
        return new_len == old_len ? 0 : range_detach(start + new_len, start + old_len, false, dead);
    if (new_len > (uint64_t)(INT64_MAX - hf_vma_offset(vma, start)))
        return -EINVAL;
    if (vma->end == start + old_len)
        err = grow_in_place(vma, new_len - old_len);
    if (err != -EEXIST)
        return err;
    if (!(flags & MREMAP_MAYMOVE))
        return -ENOMEM;
    err = range_cut(start, start + old_len);
    if (err)
        return err;
    vma = hf_vma_find(&hf_space.tree, start);
    return vma->shared ? move_shared(vma, new_len, dead, ret_start)
                       : move_private(vma, new_len, dead, ret_start);
}

int hf_mm_remap(void *old_addr, size_t old_len, size_t new_len, int flags, void **ret_addr)
{
    uintptr_t start, end, moved = 0;
    struct hf_list dead;
    sigset_t mask;
    int err = range_check(old_addr, old_len, &start, &end);

    if (err)
        return err;
    if ((flags & ~MREMAP_MAYMOVE) || new_len == 0 || new_len > SIZE_MAX - hf_hw_page_size())
        return -EINVAL;
    hf_list_init(&dead);
    err = hf_space_lock(&mask);
    if (err)
        return err;
    err = remap_locked(start, end - start, page_up(new_len), flags, &dead, &moved);
    hf_space_unlock(&mask);
    drop_dead(&dead);
    if (!err)
        *ret_addr = (void *)moved;
    return err;
}

/* ------------------------------------------------------------------ walk */

struct piece {
    struct hf_vm_region *region; /* referenced */
    uintptr_t start, end;
    hf_off_t off;
    int prot;
    bool shared;
};

/* The first piece in [start, end): 1, or 0 if there is none. */
static int piece_find(uintptr_t start, uintptr_t end, struct piece *ret_piece)
{
    struct hf_vma *vma;
    sigset_t mask;

    hf_signals_block(&mask);
    hf_rwlock_rdlock(&hf_space.lock);
    vma = hf_vma_in(&hf_space.tree, start, end);
    if (vma != NULL) {
        hf_vm_region_get(vma->region);
        ret_piece->region = vma->region;
        ret_piece->start = vma->start > start ? vma->start : start;
        ret_piece->end = vma->end < end ? vma->end : end;
        ret_piece->off = hf_vma_offset(vma, ret_piece->start);
        ret_piece->prot = vma->prot;
        ret_piece->shared = vma->shared;
    }
    hf_rwlock_rdunlock(&hf_space.lock);
    hf_signals_restore(&mask);
    return vma != NULL;
}

int hf_mm_walk(void *addr, size_t len,
               int (*fn)(struct hf_vm_file *file, hf_off_t off, size_t len, int prot, bool shared, void *arg),
               void *arg)
{
    uintptr_t start, end;
    struct piece piece;
    int err, gap = 0;

    if (len == 0 && page_aligned((uintptr_t)addr))
        return 0;
    err = range_check(addr, len, &start, &end);
    if (err)
        return err;
    if (atomic_load(&hf_space.dead))
        return -ESTALE;
    while (!err && start < end && piece_find(start, end, &piece)) {
        if (piece.start > start)
            gap = -ENOMEM;
        err = fn(piece.region->file, piece.off, piece.end - piece.start, piece.prot, piece.shared, arg);
        hf_vm_region_release(piece.region);
        start = piece.end;
    }
    if (start < end)
        gap = -ENOMEM;
    return err < 0 ? err : gap;
}
