/* SPDX-License-Identifier: MIT */
/*
 * client.c - the areas of another process, and the engine that works on them: see client.h.
 *
 * Order, so that no store is untracked: the process maps PROT_NONE, we register the range and put the area on
 * the mapping's list, the process gives it its protection. On the way back the process takes the pages out of
 * its address space (and keeps the addresses, so that nothing else can come there), then the area leaves the
 * list, then the addresses are free. We never see the process's page table: an ioctl that meets something
 * else than we left there says so, and that is not our error but the process's.
 */
#include "mm/client_space.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PROTECT_TRIES 200

/* ------------------------------------------------------------------ the engine */

static int client_install(struct hf_vma *vma, uintptr_t start, uintptr_t end, bool writable, bool hole,
                          bool present)
{
    int err = hf_uffd_install(vma->client->uffd, vma, start, end, writable, hole, present, true);

    /* Unmapped meanwhile, or gone: the access, if there still is one, comes again. */
    if (err == -ENOENT || err == -ESRCH || err == -EINVAL || err == -EFAULT)
        return -EAGAIN;
    return err;
}

/* No memory to write-protect a page of the process, however often we tried: it ends before it can store
 * there. */
static void condemn(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int err = -ENOMEM;

    for (int i = 0; i < 10000 && err == -ENOMEM; i++) {
        vma->client->ops->condemn(vma->client->arg);
        nanosleep(&pause, NULL);
        err = hf_uffd_write_protect(vma->client->uffd, start, end, UFFDIO_WRITEPROTECT_MODE_WP);
    }
    assert(err != -ENOMEM && "a client that cannot be kept from storing");
}

/* Where the process has torn holes into the range, what is left of it is protected piece by piece. */
static void client_mkclean(struct hf_vma *vma, uintptr_t start, uintptr_t end)
{
    size_t hw = hf_hw_page_size(), half = ((end - start) / 2) & ~(hw - 1);
    int err = -ENOMEM;

    for (int i = 0; i < PROTECT_TRIES && err == -ENOMEM; i++) {
        err = hf_uffd_write_protect(vma->client->uffd, start, end, UFFDIO_WRITEPROTECT_MODE_WP);
        if (err == -ENOMEM)
            sched_yield();
    }
    if (err == 0 || err == -ESRCH)
        return;
    if (half > 0) {
        client_mkclean(vma, start, start + half);
        client_mkclean(vma, start + half, end);
    } else if (err == -ENOMEM) {
        condemn(vma, start, end);
    }
}

static const struct hf_engine client_engine = {
    .name = "client",
    .by_thread = true,
    .install = client_install,
    .mkclean = client_mkclean,
};

/* ------------------------------------------------------------------ coming and going */

static bool is_userfaultfd(int fd)
{
    char link[64], name[64] = "";

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, name, sizeof(name) - 1) > 0 && strcmp(name, "anon_inode:[userfaultfd]") == 0;
}

int hf_client_new(int uffd, bool waits, const struct hf_client_ops *ops, void *arg,
                  struct hf_client **ret_client)
{
    /* No event of the address space: an unread one would hold up page_mkclean. */
    struct uffdio_api api = {.api = UFFD_API,
                             .features = HF_UFFD_FEATURES | UFFD_FEATURE_POISON | UFFD_FEATURE_THREAD_ID};
    struct hf_client *c;
    int flags;

    if (!is_userfaultfd(uffd))
        return -EINVAL;
    flags = fcntl(uffd, F_GETFL);
    if (flags < 0 || fcntl(uffd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -EINVAL;
    if (ioctl(uffd, UFFDIO_API, &api) < 0)
        return api.features != 0 && (api.features & UFFD_FEATURE_POISON) == 0 ? -EOPNOTSUPP : -EINVAL;
    c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->uffd = uffd;
    c->waits = waits;
    c->ops = ops;
    c->arg = arg;
    hf_rwlock_init(&c->lock, HF_RANK_MM);
    *ret_client = c;
    return 0;
}

bool hf_client_alive(struct hf_client *c)
{
    bool alive = false;

    hf_rwlock_rdlock(&c->lock);
    if (c->tree.nr > 0) {
        uintptr_t at = c->tree.slots[0]->start;
        /* A page more that faults does no harm; that the address space is gone, no other call tells. */
        alive =
            hf_uffd_write_protect(c->uffd, at, at + hf_hw_page_size(), UFFDIO_WRITEPROTECT_MODE_WP) != -ESRCH;
    }
    hf_rwlock_rdunlock(&c->lock);
    return alive;
}

/* Takes the area out of the list and the tree. Context: lock exclusive. */
static void area_bury(struct hf_client *c, struct hf_vma *vma, struct hf_list *dead)
{
    struct hf_mutex *lock = hf_mapping_i_mmap_lock(vma->region->mapping);

    hf_mutex_lock(lock);
    hf_list_del(&vma->i_mmap);
    hf_mutex_unlock(lock);
    hf_vma_tree_remove(&c->tree, vma);
    atomic_store(&c->areas, (uint32_t)c->tree.nr);
    hf_list_add_tail(dead, &vma->i_mmap);
}

static void areas_drop(struct hf_list *dead)
{
    struct hf_list *pos, *next;

    hf_list_for_each_safe (pos, next, dead) {
        struct hf_vma *vma = hf_list_entry(pos, struct hf_vma, i_mmap);
        hf_vm_region_release(vma->region);
        hf_vma_free(vma);
    }
}

void hf_client_free(struct hf_client *c)
{
    struct hf_list dead;

    if (c == NULL)
        return;
    /* Nobody serves its faults now: a page that is protected
     * stays so. Errors stay with the pages (HOLD-7). */
    if (hf_client_alive(c))
        for (size_t i = 0; i < c->tree.nr; i++)
            hf_mapping_protect_all(c->tree.slots[i]->region->mapping);
    hf_list_init(&dead);
    hf_rwlock_wrlock(&c->lock);
    while (c->tree.nr > 0)
        area_bury(c, c->tree.slots[c->tree.nr - 1], &dead);
    hf_rwlock_wrunlock(&c->lock);
    areas_drop(&dead);
    if (c->tree.slots != NULL)
        munmap(c->tree.slots, c->tree.room * sizeof(struct hf_vma *));
    close(c->uffd);
    free(c);
}

/* ------------------------------------------------------------------ map, unmap, protect */

static int range_check(uintptr_t addr, size_t len)
{
    size_t hw = hf_hw_page_size();

    if (addr == 0 || (addr & (hw - 1)) || len == 0 || (len & (hw - 1)) || len > UINTPTR_MAX - addr)
        return -EINVAL;
    return 0;
}

static int prot_check(const struct hf_vm_file *file, int prot)
{
    if (!file->readable || ((prot & PROT_WRITE) && !file->writable))
        return -EACCES;
    return 0;
}

static int prot_normalise(int prot)
{
    return prot & PROT_WRITE ? PROT_READ | PROT_WRITE : prot & PROT_EXEC ? PROT_READ : prot & PROT_READ;
}

static int area_register(struct hf_client *c, const struct hf_vma *vma)
{
    struct uffdio_register reg = {
        .range = {.start = vma->start, .len = hf_vma_len(vma)},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR | UFFDIO_REGISTER_MODE_WP,
    };

    return ioctl(c->uffd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

static int map_locked(struct hf_client *c, struct hf_vma *vma)
{
    struct hf_mapping *mapping = vma->region->mapping;
    int err = 0;

    if (hf_vma_in(&c->tree, vma->start, vma->end) != NULL)
        return -EEXIST;
    if (c->tree.nr >= HF_CLIENT_AREAS_MAX)
        return -ENOMEM;
    err = hf_vma_tree_reserve(&c->tree, 1);
    if (!err)
        err = area_register(c, vma);
    if (err)
        return err;
    hf_vma_tree_insert(&c->tree, vma);
    atomic_store(&c->areas, (uint32_t)c->tree.nr);
    hf_mutex_lock(hf_mapping_i_mmap_lock(mapping));
    hf_list_add_tail(hf_mapping_i_mmap(mapping), &vma->i_mmap);
    hf_mutex_unlock(hf_mapping_i_mmap_lock(mapping));
    return 0;
}

int hf_client_map(struct hf_client *c, struct hf_vm_file *file, uintptr_t addr, size_t len, int prot,
                  hf_off_t off)
{
    struct hf_vm_region *region;
    struct hf_vma *vma;
    int err = range_check(addr, len);

    if (err || off < 0 || (off & (hf_off_t)(hf_hw_page_size() - 1)) || len > (uint64_t)(INT64_MAX - off))
        return -EINVAL;
    err = prot_check(file, prot);
    if (!err && hf_mapping_memfd(file->mapping) < 0)
        err = hf_mapping_memfd(file->mapping);
    if (err)
        return err;
    region = hf_vm_region_new(file);
    vma = region != NULL ? hf_vma_new(region) : NULL;
    if (vma == NULL) {
        hf_vm_region_free(region);
        return -ENOMEM;
    }
    vma->engine = &client_engine;
    vma->client = c;
    vma->shared = true;
    vma->start = addr;
    vma->end = addr + len;
    vma->off = off;
    vma->prot = prot_normalise(prot);
    vma->ever_writable = vma->prot & PROT_WRITE;
    file->get(file);
    hf_mapping_vma_added(file->mapping);
    hf_rwlock_wrlock(&c->lock);
    err = map_locked(c, vma);
    hf_rwlock_wrunlock(&c->lock);
    if (err) {
        hf_vm_region_release(region);
        hf_vma_free(vma);
    }
    return err;
}

/* Lets no area cross addr. */
static int border_make(struct hf_client *c, uintptr_t addr)
{
    struct hf_vma *vma = hf_vma_find(&c->tree, addr);
    struct hf_mutex *lock;
    int err;

    if (vma == NULL || vma->start == addr)
        return 0;
    if (c->tree.nr >= HF_CLIENT_AREAS_MAX)
        return -ENOMEM;
    lock = hf_mapping_i_mmap_lock(vma->region->mapping);
    hf_mutex_lock(lock);
    err = hf_vma_split(&c->tree, vma, addr);
    hf_mutex_unlock(lock);
    atomic_store(&c->areas, (uint32_t)c->tree.nr);
    return err;
}

static int range_cut(struct hf_client *c, uintptr_t start, uintptr_t end)
{
    int err = border_make(c, start);

    return err ? err : border_make(c, end);
}

int hf_client_unmap(struct hf_client *c, uintptr_t addr, size_t len)
{
    int err = range_check(addr, len);
    struct hf_list dead;
    struct hf_vma *vma;

    if (err)
        return err;
    hf_list_init(&dead);
    hf_rwlock_wrlock(&c->lock);
    if (hf_vma_in(&c->tree, addr, addr + len) != NULL)
        err = range_cut(c, addr, addr + len);
    while (!err && (vma = hf_vma_in(&c->tree, addr, addr + len)) != NULL)
        area_bury(c, vma, &dead);
    hf_rwlock_wrunlock(&c->lock);
    areas_drop(&dead);
    return err;
}

static int protect_check(struct hf_client *c, uintptr_t start, uintptr_t end, int prot)
{
    while (start < end) {
        struct hf_vma *vma = hf_vma_find(&c->tree, start);
        int err = vma == NULL ? -ENOMEM : prot_check(vma->region->file, prot);

        if (err)
            return err;
        start = vma->end;
    }
    return 0;
}

int hf_client_protect(struct hf_client *c, uintptr_t addr, size_t len, int prot)
{
    uintptr_t end = addr + len;
    int err = range_check(addr, len);

    if (err)
        return err;
    hf_rwlock_wrlock(&c->lock);
    err = protect_check(c, addr, end, prot);
    if (!err)
        err = range_cut(c, addr, end);
    for (struct hf_vma *vma; !err && addr < end; addr = vma->end) {
        vma = hf_vma_find(&c->tree, addr);
        hf_mutex_lock(hf_mapping_i_mmap_lock(vma->region->mapping));
        vma->prot = prot_normalise(prot);
        vma->ever_writable |= (vma->prot & PROT_WRITE) != 0;
        hf_mutex_unlock(hf_mapping_i_mmap_lock(vma->region->mapping));
    }
    hf_rwlock_wrunlock(&c->lock);
    return err;
}

/* ------------------------------------------------------------------ looking */

static void area_of(const struct hf_vma *vma, struct hf_client_area *ret_area)
{
    ret_area->file = vma->region->file;
    ret_area->start = vma->start;
    ret_area->end = vma->end;
    ret_area->off = vma->off;
    ret_area->prot = vma->prot;
}

int hf_client_area_at(struct hf_client *c, uintptr_t addr, struct hf_client_area *ret_area)
{
    struct hf_vma *vma;

    hf_rwlock_rdlock(&c->lock);
    vma = hf_vma_find(&c->tree, addr);
    if (vma != NULL) {
        area_of(vma, ret_area);
        ret_area->file->get(ret_area->file);
    }
    hf_rwlock_rdunlock(&c->lock);
    return vma != NULL ? 0 : -ENOENT;
}

bool hf_client_area_next(struct hf_client *c, uintptr_t addr, struct hf_client_area *ret_area)
{
    struct hf_vma *vma;

    hf_rwlock_rdlock(&c->lock);
    vma = hf_vma_first(&c->tree, addr, NULL);
    if (vma != NULL)
        area_of(vma, ret_area);
    hf_rwlock_rdunlock(&c->lock);
    return vma != NULL;
}

void hf_client_count(struct hf_client *c, struct hf_client_counts *ret_counts)
{
    ret_counts->areas = atomic_load(&c->areas);
    ret_counts->faults_load = atomic_load(&c->faults_load);
    ret_counts->faults_store = atomic_load(&c->faults_store);
    ret_counts->refused = atomic_load(&c->refused);
    ret_counts->waits = atomic_load(&c->waited);
}
