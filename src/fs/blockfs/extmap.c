/* SPDX-License-Identifier: MIT */
/*
 * extmap.c - all extents of one inode, in memory; see extmap.h.
 *
 * A position is (slot, index): slots are the leaves in order, index is the extent in the leaf. No leaf in the
 * array is empty. A full leaf is split in halves by an insert, which uses one spare leaf and one slot; n
 * inserts into one hole split at most n / 64 + 1 times, because a half has room for 64 more.
 */
#include "fs/blockfs/extmap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HALF (HF_EXTMAP_LEAF / 2)
#define SPARE_KEPT 2 /* empty leaves that stay with a map between changes */

struct pos {
    size_t slot;
    uint32_t i;
};

void hf_extmap_init(struct hf_extmap *map)
{
    *map = (struct hf_extmap){0};
    hf_rwlock_init(&map->lock, HF_RANK_EXTENTS);
    hf_list_init(&map->pending);
}

static void leaves_free(struct hf_extleaf *leaf)
{
    while (leaf != NULL) {
        struct hf_extleaf *next = leaf->next;

        free(leaf);
        leaf = next;
    }
}

void hf_extmap_done(struct hf_extmap *map)
{
    for (size_t s = 0; s < map->nr_slots; s++)
        free(map->slots[s].leaf);
    leaves_free(map->spare);
    leaves_free(map->dropped);
    free(map->slots);
}

/* ---- memory, outside of the lock */

static int spare_add(struct hf_extmap *map, size_t nr) HF_NO_TSA
{
    struct hf_extleaf *list = NULL;

    for (size_t i = 0; i < nr; i++) {
        struct hf_extleaf *leaf = malloc(sizeof(*leaf));

        if (leaf == NULL) {
            leaves_free(list);
            return -ENOMEM;
        }
        leaf->next = list;
        list = leaf;
    }
    hf_rwlock_wrlock(&map->lock);
    while (list != NULL) {
        struct hf_extleaf *leaf = list;

        list = leaf->next;
        leaf->next = map->spare;
        map->spare = leaf;
        map->nr_spare++;
    }
    return 0;
}

/* Locks as spare_add() does. */
static int slots_grow(struct hf_extmap *map, size_t max) HF_NO_TSA
{
    struct hf_extmap_slot *bigger = malloc(max * sizeof(*bigger)), *old = bigger;

    if (bigger == NULL)
        return -ENOMEM;
    hf_rwlock_wrlock(&map->lock);
    if (map->max_slots < max) {
        if (map->nr_slots != 0)
            memcpy(bigger, map->slots, map->nr_slots * sizeof(*bigger));
        old = map->slots;
        map->slots = bigger;
        map->max_slots = max;
    }
    hf_rwlock_wrunlock(&map->lock);
    free(old);
    hf_rwlock_wrlock(&map->lock);
    return 0;
}

int hf_extmap_lock_for(struct hf_extmap *map, uint64_t nr) HF_NO_TSA
{
    size_t leaves = (size_t)(nr / HALF) + 2;

    hf_rwlock_wrlock(&map->lock);
    for (;;) {
        size_t nr_spare = map->nr_spare, want = map->nr_slots + leaves;
        int rc;

        if (nr_spare >= leaves && map->max_slots >= want)
            return 0;
        hf_rwlock_wrunlock(&map->lock);
        rc = nr_spare < leaves ? spare_add(map, leaves - nr_spare) : slots_grow(map, want + want / 2);
        if (rc != 0)
            return rc;
    }
}

void hf_extmap_unlock(struct hf_extmap *map) HF_NO_TSA
{
    struct hf_extleaf *dropped = map->dropped;

    map->dropped = NULL;
    while (map->nr_spare > SPARE_KEPT) {
        struct hf_extleaf *leaf = map->spare;

        map->spare = leaf->next;
        map->nr_spare--;
        leaf->next = dropped;
        dropped = leaf;
    }
    hf_rwlock_wrunlock(&map->lock);
    leaves_free(dropped);
}

/* ---- positions */

/* The first extent that ends after blk; slot == nr_slots: there is none. */
static struct pos pos_find(const struct hf_extmap *map, uint64_t blk)
{
    size_t low = 0, high = map->nr_slots;
    const struct hf_extleaf *leaf;
    uint32_t a = 0, b;

    while (low < high) { /* low: slots that start at or before blk */
        size_t mid = low + (high - low) / 2;

        if (map->slots[mid].first <= blk)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0)
        return (struct pos){0, 0};
    leaf = map->slots[low - 1].leaf;
    b = leaf->nr;
    while (a < b) { /* a: extents that end at or before blk */
        uint32_t mid = a + (b - a) / 2;

        if (hf_ext_end(&leaf->ext[mid]) <= blk)
            a = mid + 1;
        else
            b = mid;
    }
    return a < leaf->nr ? (struct pos){low - 1, a} : (struct pos){low, 0};
}

static struct hf_ext *pos_ext(const struct hf_extmap *map, struct pos p)
{
    return p.slot < map->nr_slots ? &map->slots[p.slot].leaf->ext[p.i] : NULL;
}

static struct pos pos_next(const struct hf_extmap *map, struct pos p)
{
    return p.i + 1 < map->slots[p.slot].leaf->nr ? (struct pos){p.slot, p.i + 1}
                                                 : (struct pos){p.slot + 1, 0};
}

/* False: p is the first. */
static bool pos_prev(const struct hf_extmap *map, struct pos *p)
{
    if (p->i > 0) {
        p->i--;
        return true;
    }
    if (p->slot == 0)
        return false;
    p->slot--;
    p->i = map->slots[p->slot].leaf->nr - 1;
    return true;
}

/* ---- leaves */

static void leaf_count_pending(struct hf_extmap *map, struct hf_extleaf *leaf)
{
    leaf->nr_pending = 0;
    for (uint32_t i = 0; i < leaf->nr; i++)
        leaf->nr_pending += (leaf->ext[i].flags & HF_EXT_PENDING) != 0;
    hf_list_del(&leaf->pending);
    if (leaf->nr_pending != 0)
        hf_list_add_tail(&map->pending, &leaf->pending);
}

static void leaf_adjust_pending(struct hf_extmap *map, struct hf_extleaf *leaf, uint32_t old, uint32_t new)
{
    uint32_t before = leaf->nr_pending;

    leaf->nr_pending += ((new &HF_EXT_PENDING) != 0);
    leaf->nr_pending -= ((old & HF_EXT_PENDING) != 0);
    if (before == 0 && leaf->nr_pending != 0)
        hf_list_add_tail(&map->pending, &leaf->pending);
    else if (before != 0 && leaf->nr_pending == 0)
        hf_list_del(&leaf->pending);
}

static void slot_insert(struct hf_extmap *map, size_t slot, struct hf_extleaf *leaf)
{
    assert(map->nr_slots < map->max_slots);
    memmove(&map->slots[slot + 1], &map->slots[slot], (map->nr_slots - slot) * sizeof(map->slots[0]));
    map->slots[slot] = (struct hf_extmap_slot){.leaf = leaf};
    map->nr_slots++;
}

static struct hf_extleaf *spare_take(struct hf_extmap *map)
{
    struct hf_extleaf *leaf = map->spare;

    assert(leaf != NULL && "hf_extmap_lock_for() asked for too little");
    map->spare = leaf->next;
    map->nr_spare--;
    leaf->nr = leaf->nr_pending = 0;
    leaf->next = NULL;
    hf_list_init(&leaf->pending);
    return leaf;
}

static void leaf_split(struct hf_extmap *map, size_t slot)
{
    struct hf_extleaf *leaf = map->slots[slot].leaf, *right = spare_take(map);

    right->nr = leaf->nr - HALF;
    memcpy(right->ext, &leaf->ext[HALF], right->nr * sizeof(right->ext[0]));
    leaf->nr = HALF;
    slot_insert(map, slot + 1, right);
    map->slots[slot + 1].first = right->ext[0].lblk;
    leaf_count_pending(map, leaf);
    leaf_count_pending(map, right);
}

/* Puts ext before position p. Appending to a full last leaf starts a new one instead of halving it: files
 * that grow at their end get full leaves. */
static void ext_insert(struct hf_extmap *map, struct pos p, const struct hf_ext *ext)
{
    struct hf_extleaf *leaf;

    if (p.slot == map->nr_slots && p.slot > 0 && map->slots[p.slot - 1].leaf->nr < HF_EXTMAP_LEAF)
        p = (struct pos){p.slot - 1, map->slots[p.slot - 1].leaf->nr};
    if (p.slot == map->nr_slots) {
        slot_insert(map, p.slot, spare_take(map));
    } else if (map->slots[p.slot].leaf->nr == HF_EXTMAP_LEAF) {
        leaf_split(map, p.slot);
        if (p.i > HALF)
            p = (struct pos){p.slot + 1, p.i - HALF};
    }
    leaf = map->slots[p.slot].leaf;
    memmove(&leaf->ext[p.i + 1], &leaf->ext[p.i], (leaf->nr - p.i) * sizeof(leaf->ext[0]));
    leaf->ext[p.i] = *ext;
    leaf->nr++;
    map->slots[p.slot].first = leaf->ext[0].lblk;
    leaf_adjust_pending(map, leaf, 0, ext->flags);
    map->nr_extents++;
}

static void slot_drop(struct hf_extmap *map, size_t slot)
{
    struct hf_extleaf *leaf = map->slots[slot].leaf;

    hf_list_del(&leaf->pending);
    leaf->next = map->dropped;
    map->dropped = leaf;
    map->nr_slots--;
    memmove(&map->slots[slot], &map->slots[slot + 1], (map->nr_slots - slot) * sizeof(map->slots[0]));
}

/* Joins a leaf with the one after it, if they fill at most half a leaf together. */
static void leaf_join(struct hf_extmap *map, size_t slot)
{
    struct hf_extleaf *leaf, *right;

    if (slot + 1 >= map->nr_slots)
        return;
    leaf = map->slots[slot].leaf;
    right = map->slots[slot + 1].leaf;
    if (leaf->nr + right->nr > HALF)
        return;
    memcpy(&leaf->ext[leaf->nr], right->ext, right->nr * sizeof(right->ext[0]));
    leaf->nr += right->nr;
    slot_drop(map, slot + 1);
    leaf_count_pending(map, leaf);
}

/* Takes nr extents of one leaf out. */
static void ext_erase(struct hf_extmap *map, struct pos p, uint32_t nr)
{
    struct hf_extleaf *leaf = map->slots[p.slot].leaf;

    for (uint32_t i = p.i; i < p.i + nr; i++)
        leaf_adjust_pending(map, leaf, leaf->ext[i].flags, 0);
    memmove(&leaf->ext[p.i], &leaf->ext[p.i + nr], (leaf->nr - p.i - nr) * sizeof(leaf->ext[0]));
    leaf->nr -= nr;
    map->nr_extents -= nr;
    if (leaf->nr == 0) {
        slot_drop(map, p.slot);
        return;
    }
    map->slots[p.slot].first = leaf->ext[0].lblk;
    leaf_join(map, p.slot);
    if (p.slot > 0)
        leaf_join(map, p.slot - 1);
}

/* ---- extents */

static bool ext_continues(const struct hf_ext *a, const struct hf_ext *b)
{
    return hf_ext_end(a) == b->lblk && a->pblk + a->len == b->pblk && a->flags == b->flags &&
           (uint64_t)a->len + b->len <= UINT32_MAX;
}

/* Joins the extent at p with the one before it, if they continue each other. */
static void ext_join_before(struct hf_extmap *map, struct pos p)
{
    struct hf_ext *ext = pos_ext(map, p), *prev;
    struct pos before = p;

    if (ext == NULL || !pos_prev(map, &before))
        return;
    prev = pos_ext(map, before);
    if (!ext_continues(prev, ext))
        return;
    prev->len += ext->len;
    ext_erase(map, p, 1);
}

/* Joins whatever continues each other at start, at end and between. */
static void join_range(struct hf_extmap *map, uint64_t start, uint64_t end)
{
    for (uint64_t blk = start;;) {
        struct pos p = pos_find(map, blk);
        struct hf_ext *ext = pos_ext(map, p);

        if (ext == NULL || ext->lblk > end)
            return;
        blk = hf_ext_end(ext);
        ext_join_before(map, p);
    }
}

/* Makes blk a boundary between extents. */
static void split_at(struct hf_extmap *map, uint64_t blk)
{
    struct pos p = pos_find(map, blk);
    struct hf_ext *ext = pos_ext(map, p), right;

    if (ext == NULL || ext->lblk >= blk)
        return;
    right = *ext;
    right.lblk = blk;
    right.pblk += blk - ext->lblk;
    right.len = (uint32_t)(hf_ext_end(ext) - blk);
    ext->len -= right.len;
    ext_insert(map, pos_next(map, p), &right);
}

void hf_extmap_insert(struct hf_extmap *map, const struct hf_ext *ext)
{
    struct pos p = pos_find(map, ext->lblk), before = p;
    struct hf_ext *next = pos_ext(map, p), *prev = NULL;

    assert(ext->len > 0 && (next == NULL || next->lblk >= hf_ext_end(ext)));
    if (pos_prev(map, &before))
        prev = pos_ext(map, before);
    if (prev != NULL && ext_continues(prev, ext)) {
        prev->len += ext->len;
        ext_join_before(map, p);
        return;
    }
    if (next != NULL && ext_continues(ext, next)) {
        next->lblk = ext->lblk;
        next->pblk = ext->pblk;
        next->len += ext->len;
        map->slots[p.slot].first = map->slots[p.slot].leaf->ext[0].lblk;
        return;
    }
    ext_insert(map, p, ext);
}

void hf_extmap_remove(struct hf_extmap *map, uint64_t start, uint64_t end)
{
    split_at(map, start);
    split_at(map, end);
    for (;;) {
        struct pos p = pos_find(map, start);
        const struct hf_extleaf *leaf;
        uint32_t nr = 0;

        if (p.slot == map->nr_slots)
            return;
        leaf = map->slots[p.slot].leaf;
        while (p.i + nr < leaf->nr && leaf->ext[p.i + nr].lblk < end)
            nr++;
        if (nr == 0)
            return;
        ext_erase(map, p, nr);
    }
}

void hf_extmap_change(struct hf_extmap *map, uint64_t start, uint64_t end, uint32_t (*fn)(uint32_t flags))
{
    split_at(map, start);
    split_at(map, end);
    for (struct pos p = pos_find(map, start); p.slot < map->nr_slots; p = pos_next(map, p)) {
        struct hf_ext *ext = pos_ext(map, p);
        uint32_t old = ext->flags;

        if (ext->lblk >= end)
            break;
        ext->flags = fn(old);
        leaf_adjust_pending(map, map->slots[p.slot].leaf, old, ext->flags);
    }
    join_range(map, start, end);
}

bool hf_extmap_find(const struct hf_extmap *map, uint64_t blk, struct hf_ext *ret_ext)
{
    const struct hf_ext *ext = pos_ext(map, pos_find(map, blk));

    if (ext != NULL)
        *ret_ext = *ext;
    return ext != NULL;
}

bool hf_extmap_find_before(const struct hf_extmap *map, uint64_t blk, struct hf_ext *ret_ext)
{
    struct pos p = pos_find(map, blk);
    const struct hf_ext *ext = pos_ext(map, p);

    if (ext == NULL || ext->lblk >= blk) {
        if (!pos_prev(map, &p))
            return false;
        ext = pos_ext(map, p);
    }
    *ret_ext = *ext;
    return true;
}

size_t hf_extmap_collect(const struct hf_extmap *map, uint64_t start, uint64_t end, size_t max,
                         struct hf_ext *ret_exts)
{
    struct pos p = pos_find(map, start);
    size_t n = 0;

    for (; n < max && p.slot < map->nr_slots; p = pos_next(map, p)) {
        struct hf_ext e = *pos_ext(map, p);

        if (e.lblk >= end)
            break;
        if (hf_ext_end(&e) > end)
            e.len = (uint32_t)(end - e.lblk);
        if (e.lblk < start) {
            e.pblk += start - e.lblk;
            e.len -= (uint32_t)(start - e.lblk);
            e.lblk = start;
        }
        ret_exts[n++] = e;
    }
    return n;
}

/* ---- what a commit needs */

bool hf_extmap_mark_sync(struct hf_extmap *map)
{
    struct hf_list *l;

    hf_list_for_each (l, &map->pending) {
        struct hf_extleaf *leaf = hf_list_entry(l, struct hf_extleaf, pending);

        for (uint32_t i = 0; i < leaf->nr; i++)
            if (leaf->ext[i].flags & HF_EXT_PENDING)
                leaf->ext[i].flags |= HF_EXT_SYNC;
    }
    return hf_extmap_has_pending(map);
}

size_t hf_extmap_collect_sync(const struct hf_extmap *map, size_t max, struct hf_ext *ret_exts)
{
    const struct hf_list *l;
    size_t n = 0;

    hf_list_for_each (l, &map->pending) {
        const struct hf_extleaf *leaf = hf_list_entry(l, struct hf_extleaf, pending);

        for (uint32_t i = 0; i < leaf->nr; i++) {
            if (!(leaf->ext[i].flags & HF_EXT_SYNC))
                continue;
            if (n == max)
                return n;
            ret_exts[n++] = leaf->ext[i];
        }
    }
    return n;
}

bool hf_extmap_sane(const struct hf_extmap *map)
{
    const struct hf_ext *prev = NULL;
    uint64_t nr = 0, nr_pending = 0, listed = 0;
    const struct hf_list *l;

    for (size_t s = 0; s < map->nr_slots; s++) {
        const struct hf_extleaf *leaf = map->slots[s].leaf;
        uint32_t pending = 0;

        if (leaf->nr == 0 || leaf->nr > HF_EXTMAP_LEAF || map->slots[s].first != leaf->ext[0].lblk)
            return false;
        for (uint32_t i = 0; i < leaf->nr; i++, nr++) {
            const struct hf_ext *e = &leaf->ext[i];

            if (e->len == 0 || (prev != NULL && hf_ext_end(prev) > e->lblk))
                return false;
            if ((e->flags & HF_EXT_SYNC) && !(e->flags & HF_EXT_PENDING))
                return false;
            pending += (e->flags & HF_EXT_PENDING) != 0;
            prev = e;
        }
        if (pending != leaf->nr_pending || (pending != 0) == hf_list_empty(&leaf->pending))
            return false;
        nr_pending += pending != 0;
    }
    hf_list_for_each (l, &map->pending)
        listed++;
    return nr == map->nr_extents && listed == nr_pending;
}
