/* SPDX-License-Identifier: MIT */
/*
 * icache.c - inodes in memory: found by number, counted, kept a while, evicted.
 *
 * NEW (being read) -> LIVE -> EVICTING -> DEAD. An inode without references stays LIVE on the idle list, with
 * its pages, unless its last name is gone. Whoever meets NEW or EVICTING waits. An inode whose dirty pages
 * cannot be written is not evicted (HOLD-7).
 */
#include "vfs/vfs.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

static struct hf_list *bucket_of(struct hf_volume *vol, uint64_t ino)
{
    return &vol->buckets[(ino * 0x9e3779b97f4a7c15u) >> 54];
}

static void state_set(struct hf_vnode *v, enum hf_vnode_state state)
{
    atomic_store(&v->state, (uint32_t)state);
    if (atomic_load(&v->state_waiters) != 0)
        hf_futex_wake(&v->state, INT_MAX);
}

/* Waits while the state is that. A waiter is counted before it looks, and whoever changes the state looks at
 * the count after that: one of both sees the other. */
static void state_wait(struct hf_vnode *v, uint32_t state)
{
    atomic_fetch_add(&v->state_waiters, 1u);
    if (atomic_load(&v->state) == state)
        hf_futex_wait(&v->state, state, -1);
    atomic_fetch_sub(&v->state_waiters, 1u);
}

struct hf_vnode *hf_icache_find_locked(struct hf_volume *vol, uint64_t ino) HF_REQUIRES(vol->icache_lock)
{
    struct hf_list *at;

    hf_list_for_each (at, bucket_of(vol, ino)) {
        struct hf_vnode *v = hf_list_entry(at, struct hf_vnode, hash);
        if (v->inode.ino == ino)
            return v;
    }
    return NULL;
}

static void ref_locked(struct hf_vnode *v)
{
    if (v->refs++ == 0 && !hf_list_empty(&v->idle)) {
        hf_list_del(&v->idle);
        v->volume->nr_idle--;
    }
}

static void free_if_unused(struct hf_vnode *v)
{
    bool last;

    hf_mutex_lock(&v->volume->icache_lock);
    last = --v->refs == 0;
    hf_mutex_unlock(&v->volume->icache_lock);
    if (last)
        free(v);
}

static struct hf_vnode *vnode_new(struct hf_volume *vol, uint64_t ino)
{
    struct hf_vnode *v = aligned_alloc(64, (sizeof(*v) + 63) & ~(size_t)63);

    if (v == NULL)
        return NULL;
    *v = (struct hf_vnode){.volume = vol, .refs = 1};
    v->inode.sb = &vol->sb;
    v->inode.ino = ino;
    hf_rwlock_init(&v->io_lock, HF_RANK_IO);
    hf_mutex_init(&v->tell_lock, HF_RANK_FILE);
    hf_list_init(&v->hash);
    hf_list_init(&v->idle);
    hf_mapping_init(&v->mapping, vol->cache, &v->inode);
    return v;
}

/* Reads the inode of a NEW vnode that is in the table, and lets the waiters go on. */
static int vnode_fill(struct hf_vnode *v)
{
    struct hf_volume *vol = v->volume;
    int r = hf_vnode_driver(v)->read_inode(&v->inode);

    atomic_store(&v->disk_size, atomic_load(&v->inode.size));
    atomic_store(&v->disk_mtime_ns, atomic_load(&v->inode.mtime_ns));
    hf_mutex_lock(&vol->icache_lock);
    if (r < 0)
        hf_list_del(&v->hash);
    state_set(v, r < 0 ? HF_VNODE_DEAD : HF_VNODE_LIVE);
    hf_mutex_unlock(&vol->icache_lock);
    return r;
}

/* The vnode in the table, or fresh put there. *ret_mine: the caller has to fill it. */
static struct hf_vnode *find_or_add(struct hf_volume *vol, uint64_t ino, bool *ret_mine)
{
    struct hf_vnode *fresh = NULL, *v;

    hf_mutex_lock(&vol->icache_lock);
    v = hf_icache_find_locked(vol, ino);
    if (v == NULL) {
        hf_mutex_unlock(&vol->icache_lock);
        fresh = vnode_new(vol, ino);
        if (fresh == NULL)
            return NULL;
        hf_mutex_lock(&vol->icache_lock);
        v = hf_icache_find_locked(vol, ino);
    }
    *ret_mine = v == NULL;
    if (v == NULL) {
        hf_list_add_tail(bucket_of(vol, ino), &fresh->hash);
        v = fresh;
        fresh = NULL;
    } else {
        ref_locked(v);
    }
    hf_mutex_unlock(&vol->icache_lock);
    free(fresh);
    return v;
}

int hf_vnode_iget(struct hf_volume *vol, uint64_t ino, struct hf_vnode **ret_vnode)
{
    for (;;) {
        bool mine;
        struct hf_vnode *v = find_or_add(vol, ino, &mine);
        uint32_t state;
        int r = 0;

        if (v == NULL)
            return -ENOMEM;
        if (mine)
            r = vnode_fill(v);
        while ((state = atomic_load(&v->state)) == HF_VNODE_NEW || state == HF_VNODE_EVICTING)
            state_wait(v, state);
        if (state == HF_VNODE_LIVE) {
            *ret_vnode = v;
            return 0;
        }
        free_if_unused(v); /* DEAD: it could not be read, or was evicted while we waited */
        if (mine)
            return r;
    }
}

struct hf_vnode *hf_vnode_get(struct hf_vnode *v)
{
    hf_mutex_lock(&v->volume->icache_lock);
    ref_locked(v);
    hf_mutex_unlock(&v->volume->icache_lock);
    return v;
}

/* EVICTING, out of every list, and ours alone. */
static int evict(struct hf_vnode *v, bool force)
{
    struct hf_volume *vol = v->volume;
    int r = 0, r2;

    hf_mapping_drop_kept(&v->mapping);
    if (v->inode.nlink > 0 && !vol->sb.read_only && (hf_vnode_is_dirty(v) || atomic_load(&v->atime_dirty)))
        r = hf_vnode_write(v, 0, HF_FILE_SIZE_MAX, HF_WB_SYNC);
    if (r < 0 && !force) {
        hf_mutex_lock(&vol->icache_lock);
        state_set(v, HF_VNODE_LIVE);
        if (v->refs == 0) {
            hf_list_add_tail(&vol->idle, &v->idle);
            vol->nr_idle++;
        }
        hf_mutex_unlock(&vol->icache_lock);
        return r;
    }
    hf_mapping_done(&v->mapping);
    r2 = hf_vnode_driver(v)->evict_inode(&v->inode);
    hf_mutex_lock(&vol->icache_lock);
    hf_list_del(&v->hash);
    v->refs++; /* ours, while waiters look at the state */
    state_set(v, HF_VNODE_DEAD);
    hf_mutex_unlock(&vol->icache_lock);
    free_if_unused(v);
    return r < 0 ? r : r2;
}

/* Takes the oldest idle inode for eviction, if there are more than keep. */
static struct hf_vnode *idle_take(struct hf_volume *vol, unsigned keep)
{
    struct hf_vnode *v = NULL;

    hf_mutex_lock(&vol->icache_lock);
    if (vol->nr_idle > keep) {
        v = hf_list_entry(vol->idle.next, struct hf_vnode, idle);
        hf_list_del(&v->idle);
        vol->nr_idle--;
        state_set(v, HF_VNODE_EVICTING);
    }
    hf_mutex_unlock(&vol->icache_lock);
    return v;
}

void hf_vnode_put_unlinked(struct hf_vnode *v)
{
    struct hf_volume *vol = v->volume;

    for (;;) {
        uint32_t seen = atomic_load(&vol->unlinked_put);
        bool passing;

        hf_mutex_lock(&vol->icache_lock);
        passing = v->refs > 1 && v->users == 0 && v->nodes == 0 && S_ISREG(v->inode.mode);
        hf_mutex_unlock(&vol->icache_lock);
        if (!passing)
            break;
        hf_futex_wait(&vol->unlinked_put, seen, -1);
    }
    hf_vnode_put(v);
}

void hf_vnode_put(struct hf_vnode *v)
{
    struct hf_volume *vol;
    bool unlinked = false;

    if (v == NULL)
        return;
    vol = v->volume;
    hf_mutex_lock(&vol->icache_lock);
    assert(v->refs > 0);
    if (--v->refs == 0) {
        unlinked = v->inode.nlink == 0;
        if (unlinked) {
            state_set(v, HF_VNODE_EVICTING);
        } else {
            hf_list_add_tail(&vol->idle, &v->idle);
            vol->nr_idle++;
        }
    } else if (v->inode.nlink == 0) {
        atomic_fetch_add(&vol->unlinked_put, 1u);
        hf_futex_wake(&vol->unlinked_put, INT_MAX);
    }
    hf_mutex_unlock(&vol->icache_lock);
    if (unlinked)
        evict(v, true);
    while (!unlinked && (v = idle_take(vol, HF_ICACHE_IDLE_MAX)) != NULL)
        if (evict(v, false) < 0)
            return;
}

struct hf_node *hf_vnode_to_node(struct hf_vnode *v)
{
    hf_mutex_lock(&v->volume->icache_lock);
    if (v->nodes++ == 0)
        v->volume->nr_handles++;
    hf_mutex_unlock(&v->volume->icache_lock);
    return (struct hf_node *)v;
}

void hf_vnode_put_nodes(struct hf_vnode *v, uint64_t count)
{
    if (count == 0)
        return;
    hf_mutex_lock(&v->volume->icache_lock);
    assert(v->nodes >= count && v->refs >= count);
    v->nodes -= count;
    v->refs -= count - 1; /* the last goes below */
    if (v->nodes == 0)
        v->volume->nr_handles--;
    hf_mutex_unlock(&v->volume->icache_lock);
    hf_vnode_put(v);
}

static int put_all_nodes(struct hf_vnode *v, void *arg)
{
    uint64_t nodes;

    (void)arg;
    hf_mutex_lock(&v->volume->icache_lock);
    nodes = v->nodes;
    hf_mutex_unlock(&v->volume->icache_lock);
    hf_vnode_put_nodes(v, nodes);
    return 0;
}

bool hf_icache_has_unlinked_nodes(struct hf_volume *vol)
{
    bool found = false;

    hf_mutex_lock(&vol->icache_lock);
    for (unsigned b = 0; b < HF_ICACHE_BUCKETS && !found; b++) {
        struct hf_list *at;

        hf_list_for_each (at, &vol->buckets[b]) {
            struct hf_vnode *v = hf_list_entry(at, struct hf_vnode, hash);
            found |= v->nodes > 0 && v->users == 0 && atomic_load(&v->inode.nlink) == 0;
        }
    }
    hf_mutex_unlock(&vol->icache_lock);
    return found;
}

void hf_icache_put_all_nodes(struct hf_volume *vol)
{
    hf_icache_each(vol, put_all_nodes, NULL);
}

void hf_vnode_user_add(struct hf_vnode *v) HF_NO_TSA
{
    hf_mutex_lock(&v->volume->icache_lock);
    while (v->leaving) {
        uint32_t seen = atomic_load(&v->left);

        hf_mutex_unlock(&v->volume->icache_lock);
        hf_futex_wait(&v->left, seen, -1);
        hf_mutex_lock(&v->volume->icache_lock);
    }
    v->users++;
    v->volume->nr_handles++;
    hf_mutex_unlock(&v->volume->icache_lock);
}

void hf_vnode_user_remove(struct hf_vnode *v)
{
    bool last;

    hf_mutex_lock(&v->volume->icache_lock);
    last = --v->users == 0;
    v->leaving = last;
    hf_mutex_unlock(&v->volume->icache_lock);
    if (last) {
        /* hf_reserve() holds until the last user is gone; whoever comes now waits, so that what he reserves
         * is not taken for what is left behind. */
        hf_mapping_drop_kept(&v->mapping);
        hf_mutex_lock(&v->volume->icache_lock);
        v->leaving = false;
        hf_mutex_unlock(&v->volume->icache_lock);
        atomic_fetch_add(&v->left, 1u);
        hf_futex_wake(&v->left, INT_MAX);
    }
    hf_volume_handles_add(v->volume, -1);
}

void hf_volume_handles_add(struct hf_volume *vol, int n)
{
    hf_mutex_lock(&vol->icache_lock);
    vol->nr_handles += (unsigned)n;
    hf_mutex_unlock(&vol->icache_lock);
}

int hf_icache_drain(struct hf_volume *vol, bool force)
{
    struct hf_vnode *v;
    unsigned tries;
    int first = 0;

    hf_mutex_lock(&vol->icache_lock);
    tries = vol->nr_idle;
    hf_mutex_unlock(&vol->icache_lock);
    for (; tries > 0 && (v = idle_take(vol, 0)) != NULL; tries--) {
        int r = evict(v, force);
        first = first != 0 ? first : r;
    }
    return first;
}

/* Of the bucket, the inode with the smallest number above after that is live, or is being evicted and may
 * come back; referenced. */
static struct hf_vnode *bucket_next(struct hf_volume *vol, unsigned bucket, uint64_t after)
{
    struct hf_vnode *next = NULL;
    struct hf_list *at;

    hf_mutex_lock(&vol->icache_lock);
    hf_list_for_each (at, &vol->buckets[bucket]) {
        struct hf_vnode *v = hf_list_entry(at, struct hf_vnode, hash);
        uint32_t state = atomic_load(&v->state);

        if ((state == HF_VNODE_LIVE || (state == HF_VNODE_EVICTING && v->inode.nlink > 0)) &&
            v->inode.ino > after && (next == NULL || v->inode.ino < next->inode.ino))
            next = v;
    }
    if (next != NULL)
        ref_locked(next);
    hf_mutex_unlock(&vol->icache_lock);
    return next;
}

int hf_icache_each(struct hf_volume *vol, int (*fn)(struct hf_vnode *v, void *arg), void *arg)
{
    int first = 0;

    for (unsigned b = 0; b < HF_ICACHE_BUCKETS; b++) {
        struct hf_vnode *v = bucket_next(vol, b, 0);

        while (v != NULL) {
            uint64_t ino = v->inode.ino;
            uint32_t state;
            int r;

            /* What its eviction writes must be written when a sync goes on. */
            while ((state = atomic_load(&v->state)) == HF_VNODE_EVICTING)
                state_wait(v, state);
            if (state == HF_VNODE_LIVE) {
                r = fn(v, arg);
                first = first != 0 ? first : r;
                hf_vnode_put(v);
            } else {
                free_if_unused(v);
            }
            v = bucket_next(vol, b, ino);
        }
    }
    return first;
}
