/* SPDX-License-Identifier: MIT */
/*
 * freemap.c - the two-level bitmap of free blocks; see freemap.h.
 *
 * Invariant: a leaf without a bitmap is wholly free or wholly used. Zeroed memory is a leaf as it was at
 * init. Bits beyond the capacity of the last leaf are never set.
 */
#include "fs/blockfs/freemap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LEAF HF_FREEMAP_LEAF_BLOCKS
#define WORDS (LEAF / 64)
#define CANDIDATES 128 /* runs looked at before the longest so far is taken */

static uint32_t leaf_capacity(const struct hf_freemap *map, uint64_t l)
{
    uint64_t left = map->nr_blocks - l * LEAF;

    return left < LEAF ? (uint32_t)left : LEAF;
}

static uint32_t leaf_used(const struct hf_freemap *map, uint64_t l)
{
    uint32_t changed = map->leaves[l].nr_changed;

    return map->starts_used ? leaf_capacity(map, l) - changed : changed;
}

static void leaf_set_used(struct hf_freemap *map, uint64_t l, uint32_t nr_used)
{
    map->leaves[l].nr_changed = map->starts_used ? leaf_capacity(map, l) - nr_used : nr_used;
    if (map->first >= map->end)
        map->first = map->end = l;
    if (l < map->first)
        map->first = l;
    if (l >= map->end)
        map->end = l + 1;
}

int hf_freemap_init(struct hf_freemap *map, uint64_t nr_blocks)
{
    uint64_t nr_leaves = nr_blocks / LEAF + (nr_blocks % LEAF != 0);
    void *leaves = NULL;

    if (nr_leaves != 0) {
        leaves = mmap(NULL, nr_leaves * sizeof(struct hf_freemap_leaf), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (leaves == MAP_FAILED)
            return -ENOMEM;
    }
    *map = (struct hf_freemap){
        .nr_blocks = nr_blocks, .nr_leaves = nr_leaves, .nr_free = nr_blocks, .leaves = leaves};
    return 0;
}

int hf_freemap_init_used(struct hf_freemap *map, uint64_t nr_blocks)
{
    int rc = hf_freemap_init(map, nr_blocks);

    if (rc == 0) {
        map->starts_used = true;
        map->nr_free = 0;
    }
    return rc;
}

void hf_freemap_done(struct hf_freemap *map)
{
    if (map->leaves == NULL)
        return;
    for (uint64_t l = map->first; l < map->end; l++)
        free(map->leaves[l].used);
    munmap(map->leaves, map->nr_leaves * sizeof(struct hf_freemap_leaf));
    *map = (struct hf_freemap){0};
}

/* ---- one bitmap: bits [first, end) of WORDS words */

static uint64_t word_mask(uint32_t word, uint32_t first, uint32_t end)
{
    uint32_t low = word * 64;
    uint64_t mask = ~0ull;

    if (first > low)
        mask &= ~0ull << (first - low);
    if (end < low + 64)
        mask &= ~0ull >> (low + 64 - end);
    return mask;
}

static uint32_t bits_count(const uint64_t *bits, uint32_t first, uint32_t end)
{
    uint32_t n = 0;

    for (uint32_t w = first / 64; w * 64 < end; w++)
        n += (uint32_t)__builtin_popcountll(bits[w] & word_mask(w, first, end));
    return n;
}

static void bits_assign(uint64_t *bits, uint32_t first, uint32_t end, bool value)
{
    for (uint32_t w = first / 64; w * 64 < end; w++) {
        if (value)
            bits[w] |= word_mask(w, first, end);
        else
            bits[w] &= ~word_mask(w, first, end);
    }
}

/* The first bit in [first, end) that is value; end if there is none. */
static uint32_t bits_find(const uint64_t *bits, uint32_t first, uint32_t end, bool value)
{
    if (first >= end)
        return end;
    for (uint32_t w = first / 64; w * 64 < end; w++) {
        uint64_t found = (value ? bits[w] : ~bits[w]) & word_mask(w, first, end);

        if (found != 0)
            return w * 64 + (uint32_t)__builtin_ctzll(found);
    }
    return end;
}

/* ---- one leaf */

static uint32_t leaf_count(const struct hf_freemap *map, uint64_t l, uint32_t first, uint32_t end)
{
    if (map->leaves[l].used != NULL)
        return bits_count(map->leaves[l].used, first, end);
    return leaf_used(map, l) == 0 ? 0 : end - first;
}

static int leaf_materialize(struct hf_freemap *map, uint64_t l)
{
    struct hf_freemap_leaf *leaf = &map->leaves[l];

    if (leaf->used != NULL)
        return 0;
    leaf->used = calloc(WORDS, sizeof(uint64_t));
    if (leaf->used == NULL)
        return -ENOMEM;
    if (leaf_used(map, l) != 0)
        bits_assign(leaf->used, 0, leaf_capacity(map, l), true);
    leaf_set_used(map, l, leaf_used(map, l)); /* so that done() finds it */
    return 0;
}

int hf_freemap_extend(struct hf_freemap *map, uint64_t nr_blocks)
{
    struct hf_freemap grown = {0};
    uint64_t last = map->nr_blocks / LEAF, part = map->nr_blocks % LEAF;
    int rc = 0;

    if (nr_blocks <= map->nr_blocks)
        return 0;
    if (part != 0 && leaf_used(map, last) != part)
        rc = leaf_materialize(map, last);
    if (rc == 0)
        rc = map->starts_used ? hf_freemap_init_used(&grown, nr_blocks) : hf_freemap_init(&grown, nr_blocks);
    if (rc != 0)
        return rc;
    grown.first = map->first;
    grown.end = map->end;
    memcpy(grown.leaves, map->leaves, map->nr_leaves * sizeof(*map->leaves));
    if (part != 0) {
        struct hf_freemap_leaf *leaf = &grown.leaves[last];
        uint32_t capacity = leaf_capacity(&grown, last);

        if (leaf->used != NULL)
            bits_assign(leaf->used, (uint32_t)part, capacity, true);
        if (!grown.starts_used)
            leaf_set_used(&grown, last, leaf->nr_changed + capacity - (uint32_t)part);
    }
    for (uint64_t l = map->nr_leaves; l < grown.nr_leaves && !grown.starts_used; l++)
        leaf_set_used(&grown, l, leaf_capacity(&grown, l));
    grown.nr_free = map->nr_free;
    grown.cursor = map->cursor;
    munmap(map->leaves, map->nr_leaves * sizeof(*map->leaves));
    *map = grown;
    return 0;
}

/* The part of [blk, end) that lies in the leaf of blk. */
struct part {
    uint64_t leaf, next; /* next: where the following part starts */
    uint32_t first, end, capacity;
};

static struct part part_of(const struct hf_freemap *map, uint64_t blk, uint64_t end)
{
    struct part p = {.leaf = blk / LEAF, .first = (uint32_t)(blk % LEAF)};
    uint64_t start = p.leaf * LEAF;

    p.capacity = leaf_capacity(map, p.leaf);
    p.next = end - start < p.capacity ? end : start + p.capacity;
    p.end = (uint32_t)(p.next - start);
    return p;
}

static bool part_whole(const struct part *p)
{
    return p->first == 0 && p->end == p->capacity;
}

/* Checks that [blk, end) is all used or all free, as
 * wanted, and sees to the bitmaps that changing it needs. */
static int range_prepare(struct hf_freemap *map, uint64_t blk, uint64_t end, bool used)
{
    struct part p;

    for (uint64_t b = blk; b < end; b = p.next) {
        p = part_of(map, b, end);
        if (leaf_count(map, p.leaf, p.first, p.end) != (used ? p.end - p.first : 0))
            return -EEXIST;
    }
    for (uint64_t b = blk; b < end; b = p.next) {
        p = part_of(map, b, end);
        if (!part_whole(&p) && leaf_materialize(map, p.leaf) != 0)
            return -ENOMEM;
    }
    return 0;
}

static void range_assign(struct hf_freemap *map, uint64_t blk, uint64_t end, bool used)
{
    struct part p;

    for (uint64_t b = blk; b < end; b = p.next) {
        struct hf_freemap_leaf *leaf;
        uint32_t nr_used;

        p = part_of(map, b, end);
        leaf = &map->leaves[p.leaf];
        if (leaf->used != NULL)
            bits_assign(leaf->used, p.first, p.end, used);
        nr_used = leaf_used(map, p.leaf);
        nr_used = used ? nr_used + (p.end - p.first) : nr_used - (p.end - p.first);
        leaf_set_used(map, p.leaf, nr_used);
        if (nr_used == 0) {
            free(leaf->used);
            leaf->used = NULL;
        }
    }
}

int hf_freemap_take(struct hf_freemap *map, uint64_t blk, uint64_t nr)
{
    int rc;

    if (blk >= map->nr_blocks || nr == 0 || nr > map->nr_blocks - blk)
        return -ERANGE;
    rc = range_prepare(map, blk, blk + nr, false);
    if (rc != 0)
        return rc;
    range_assign(map, blk, blk + nr, true);
    map->nr_free -= nr;
    return 0;
}

int hf_freemap_give(struct hf_freemap *map, uint64_t blk, uint64_t nr)
{
    int rc;

    assert(nr != 0 && blk < map->nr_blocks && nr <= map->nr_blocks - blk);
    rc = range_prepare(map, blk, blk + nr, true);
    assert(rc != -EEXIST && "a free block is freed");
    if (rc != 0)
        return rc;
    range_assign(map, blk, blk + nr, false);
    map->nr_free += nr;
    return 0;
}

int hf_freemap_prepare_give(struct hf_freemap *map, uint64_t blk, uint64_t nr)
{
    return range_prepare(map, blk, blk + nr, true);
}

/* ---- searching */

uint64_t hf_freemap_run(const struct hf_freemap *map, uint64_t blk, uint64_t limit)
{
    uint64_t end, b = blk;
    struct part p;

    if (blk >= map->nr_blocks)
        return 0;
    end = limit < map->nr_blocks - blk ? blk + limit : map->nr_blocks;
    for (; b < end; b = p.next) {
        const struct hf_freemap_leaf *leaf;
        uint32_t stop;

        p = part_of(map, b, end);
        leaf = &map->leaves[p.leaf];
        if (leaf_used(map, p.leaf) == 0)
            continue;
        stop = leaf->used == NULL ? p.first : bits_find(leaf->used, p.first, p.end, true);
        if (stop != p.end)
            return b + (stop - p.first) - blk;
    }
    return end - blk;
}

/* The first free block in [blk, end); end if there is none. */
static uint64_t next_free(const struct hf_freemap *map, uint64_t blk, uint64_t end)
{
    uint64_t last = end;
    struct part p;

    /* Of a map that began used, the rest is used still. */
    if (map->starts_used && blk < map->first * LEAF)
        blk = map->first * LEAF;
    if (map->starts_used && last > map->end * LEAF)
        last = map->end * LEAF;
    for (uint64_t b = blk; b < last; b = p.next) {
        const struct hf_freemap_leaf *leaf;
        uint32_t found;

        p = part_of(map, b, last);
        leaf = &map->leaves[p.leaf];
        if (leaf_used(map, p.leaf) == 0)
            return b;
        if (leaf->used == NULL || leaf_used(map, p.leaf) == p.capacity)
            continue;
        found = bits_find(leaf->used, p.first, p.end, false);
        if (found != p.end)
            return b + (found - p.first);
    }
    return end;
}

uint64_t hf_freemap_next(const struct hf_freemap *map, uint64_t blk)
{
    return next_free(map, blk, map->nr_blocks);
}

struct search {
    uint64_t want, blk, nr; /* blk, nr: the best so far */
    unsigned left;          /* candidates that may still be looked at */
};

/* True when the search is over. */
static bool search_range(const struct hf_freemap *map, uint64_t blk, uint64_t end, struct search *s)
{
    while (s->left > 0) {
        uint64_t nr;

        blk = next_free(map, blk, end);
        if (blk >= end)
            return false;
        nr = hf_freemap_run(map, blk, s->want);
        if (nr > s->nr) {
            s->nr = nr;
            s->blk = blk;
        }
        if (nr == s->want)
            return true;
        blk += nr;
        s->left--;
    }
    return true;
}

int hf_freemap_alloc(struct hf_freemap *map, uint64_t goal, uint64_t want, uint64_t *ret_blk,
                     uint64_t *ret_nr)
{
    struct search s = {.want = want, .blk = goal, .left = CANDIDATES};
    int rc;

    if (map->nr_free == 0)
        return -ENOSPC;
    s.nr = hf_freemap_run(map, goal, want);
    if (s.nr == 0) {
        if (!search_range(map, map->cursor, map->nr_blocks, &s))
            search_range(map, 0, map->cursor, &s);
        assert(s.nr != 0 && "free blocks are counted, and none is found");
    }
    rc = hf_freemap_take(map, s.blk, s.nr);
    assert(rc == 0 || rc == -ENOMEM);
    if (rc != 0)
        return rc;
    map->cursor = s.blk + s.nr < map->nr_blocks ? s.blk + s.nr : 0;
    *ret_blk = s.blk;
    *ret_nr = s.nr;
    return 0;
}

void hf_freemap_trim(struct hf_freemap *map)
{
    for (uint64_t l = map->first; l < map->end; l++) {
        struct hf_freemap_leaf *leaf = &map->leaves[l];

        if (leaf->used != NULL && leaf_used(map, l) == leaf_capacity(map, l)) {
            free(leaf->used);
            leaf->used = NULL;
        }
    }
}

bool hf_freemap_sane(const struct hf_freemap *map)
{
    uint64_t nr_used = 0;

    for (uint64_t l = 0; l < map->nr_leaves; l++) {
        const struct hf_freemap_leaf *leaf = &map->leaves[l];
        uint32_t capacity = leaf_capacity(map, l), used = leaf_used(map, l);

        if (leaf->used == NULL ? used != 0 && used != capacity : bits_count(leaf->used, 0, LEAF) != used)
            return false;
        if ((l < map->first || l >= map->end) && (leaf->used != NULL || leaf->nr_changed != 0))
            return false;
        nr_used += used;
    }
    return nr_used + map->nr_free == map->nr_blocks;
}
