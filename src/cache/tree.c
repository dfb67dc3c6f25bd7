/* SPDX-License-Identifier: MIT */
/*
 * tree.c - a mapping's pages by index: a radix tree of groups of 16 pages.
 *
 * Finding and adding are lock-free and async-signal-safe (compare-and-swap of child pointers, memory from
 * slabs); they happen under map_lock shared. Freeing happens under map_lock exclusive (R1). The root word is
 * a pointer to the top node, or at height 0 to the only group, with the height in its low four bits.
 */
#include "cache/mapping.h"

#include <assert.h>

#define NODE_SHIFT 6
#define NODE_SLOTS (1u << NODE_SHIFT)
#define HEIGHT_MASK ((uintptr_t)15)

struct node {
    _Atomic uintptr_t slot[NODE_SLOTS];
};

static void *root_ptr(uintptr_t root)
{
    return (void *)(root & ~HEIGHT_MASK);
}

static unsigned root_height(uintptr_t root)
{
    return (unsigned)(root & HEIGHT_MASK);
}

static bool height_covers(unsigned height, uint64_t group)
{
    return height * NODE_SHIFT >= 64 || group >> (height * NODE_SHIFT) == 0;
}

/* Makes the tree tall enough for group; returns the root, or 0 without memory. */
static uintptr_t tree_grow(struct hf_mapping *m, uint64_t group)
{
    uintptr_t root = atomic_load(&m->root);

    while (!height_covers(root_height(root), group)) {
        struct node *top = NULL;
        uintptr_t taller;

        if (root_ptr(root) != NULL) {
            top = hf_slab_alloc(&m->cache->node_slab);
            if (top == NULL)
                return 0;
            atomic_store(&top->slot[0], (uintptr_t)root_ptr(root));
        }
        taller = (uintptr_t)top | (root_height(root) + 1);
        if (atomic_compare_exchange_strong(&m->root, &root, taller))
            root = taller;
        else
            hf_slab_free(&m->cache->node_slab, top);
    }
    return root;
}

static struct hf_page_group *group_new(struct hf_mapping *m, uint64_t group)
{
    struct hf_page_group *g = hf_slab_alloc(&m->cache->group_slab);

    if (g == NULL)
        return NULL;
    g->first = group << HF_GROUP_SHIFT;
    for (unsigned i = 0; i < HF_GROUP_PAGES; i++) {
        hf_mutex_init(&g->pages[i].lock, HF_RANK_PAGE);
        g->pages[i].index = g->first + i;
    }
    return g;
}

/* What stands in a slot, put there first if it is empty; tag is kept in the low bits (the root's height). */
static void *slot_fill(struct hf_mapping *m, _Atomic uintptr_t *slot, uintptr_t tag, unsigned height,
                       uint64_t group)
{
    uintptr_t old = tag;
    void *fresh;

    fresh = height == 0 ? (void *)group_new(m, group) : hf_slab_alloc(&m->cache->node_slab);
    if (fresh == NULL)
        return NULL;
    if (atomic_compare_exchange_strong(slot, &old, (uintptr_t)fresh | tag)) {
        if (height == 0)
            atomic_fetch_add(&m->nr_groups, 1);
        return fresh;
    }
    hf_slab_free(height == 0 ? &m->cache->group_slab : &m->cache->node_slab, fresh);
    if ((old & HEIGHT_MASK) != tag)
        return NULL; /* the tree grew meanwhile: the caller starts again */
    return root_ptr(old);
}

static struct hf_page_group *group_get(struct hf_mapping *m, uint64_t group)
{
    for (;;) {
        uintptr_t root = tree_grow(m, group);
        unsigned height = root_height(root);
        _Atomic uintptr_t *slot = &m->root;
        uintptr_t tag = height;
        void *at = NULL;

        if (!height_covers(height, group))
            return NULL;
        for (;; height--) {
            at = root_ptr(atomic_load(slot));
            if (at == NULL)
                at = slot_fill(m, slot, tag, height, group);
            if (at == NULL || height == 0)
                break;
            slot = &((struct node *)at)->slot[group >> ((height - 1) * NODE_SHIFT) & (NODE_SLOTS - 1)];
            tag = 0;
        }
        if (at != NULL && root_height(atomic_load(&m->root)) == root_height(root))
            return at;
        if (at == NULL && root_height(atomic_load(&m->root)) == root_height(root))
            return NULL;
    }
}

struct hf_page *hf_page_get(struct hf_mapping *m, hf_pgoff_t index)
{
    struct hf_page_group *g = group_get(m, index >> HF_GROUP_SHIFT);

    return g == NULL ? NULL : &g->pages[index & (HF_GROUP_PAGES - 1)];
}

struct hf_page *hf_page_find(struct hf_mapping *m, hf_pgoff_t index)
{
    uint64_t group = index >> HF_GROUP_SHIFT;
    uintptr_t root = atomic_load(&m->root);
    unsigned height = root_height(root);
    void *at = root_ptr(root);

    if (!height_covers(height, group))
        return NULL;
    for (; at != NULL && height > 0; height--) {
        struct node *n = at;
        at = (void *)atomic_load(&n->slot[group >> ((height - 1) * NODE_SHIFT) & (NODE_SLOTS - 1)]);
    }
    return at == NULL ? NULL : &((struct hf_page_group *)at)->pages[index & (HF_GROUP_PAGES - 1)];
}

struct hf_page_group *hf_page_group_of(struct hf_page *page)
{
    struct hf_page *first = page - (page->index & (HF_GROUP_PAGES - 1));

    return hf_container_of(first, struct hf_page_group, pages);
}

struct walk {
    struct hf_mapping *m;
    uint64_t first, last; /* groups */
    int (*fn)(struct hf_mapping *m, struct hf_page_group *group, void *arg);
    void *arg;
};

static int walk_below(const struct walk *w, void *at, unsigned height, uint64_t base)
{
    struct node *n = at;
    unsigned shift;
    int r = 0;

    if (height == 0)
        return w->fn(w->m, at, w->arg);
    shift = (height - 1) * NODE_SHIFT;
    for (unsigned i = 0; i < NODE_SLOTS && r == 0; i++) {
        uint64_t lo = base | (uint64_t)i << shift;
        uint64_t hi = lo | (((uint64_t)1 << shift) - 1);
        void *below = (void *)atomic_load(&n->slot[i]);

        if (below != NULL && hi >= w->first && lo <= w->last)
            r = walk_below(w, below, height - 1, lo);
    }
    return r;
}

int hf_tree_walk(struct hf_mapping *m, hf_pgoff_t first, hf_pgoff_t last,
                 int (*fn)(struct hf_mapping *m, struct hf_page_group *group, void *arg), void *arg)
{
    struct walk w = {m, first >> HF_GROUP_SHIFT, last >> HF_GROUP_SHIFT, fn, arg};
    uintptr_t root = atomic_load(&m->root);

    if (root_ptr(root) == NULL || (root_height(root) == 0 && w.first > 0))
        return 0;
    return walk_below(&w, root_ptr(root), root_height(root), 0);
}

/* Writeback may be ending in some page: it needs no map_lock, so each page is looked at under its lock. */
static bool group_idle(struct hf_page_group *g)
{
    bool idle = true;

    for (unsigned i = 0; i < HF_GROUP_PAGES && idle; i++) {
        hf_mutex_lock(&g->pages[i].lock);
        idle = g->pages[i].state == HF_PAGE_ABSENT && g->pages[i].reserved == 0;
        hf_mutex_unlock(&g->pages[i].lock);
    }
    return idle;
}

/* Frees what is idle (all: everything) below; returns true if at itself was freed. */
static bool free_below(struct hf_mapping *m, void *at, unsigned height, bool all)
{
    struct node *n = at;
    bool empty = true;

    if (height == 0) {
        if (!all && !group_idle(at))
            return false;
        hf_slab_free(&m->cache->group_slab, at);
        atomic_fetch_sub(&m->nr_groups, 1);
        return true;
    }
    for (unsigned i = 0; i < NODE_SLOTS; i++) {
        void *below = (void *)atomic_load(&n->slot[i]);

        if (below != NULL && free_below(m, below, height - 1, all))
            atomic_store(&n->slot[i], (uintptr_t)0);
        else if (below != NULL)
            empty = false;
    }
    if (empty)
        hf_slab_free(&m->cache->node_slab, n);
    return empty;
}

static void tree_release(struct hf_mapping *m, bool all)
{
    uintptr_t root = atomic_load(&m->root);

    if (root_ptr(root) != NULL && free_below(m, root_ptr(root), root_height(root), all))
        atomic_store(&m->root, (uintptr_t)0);
}

void hf_tree_prune(struct hf_mapping *m)
{
    tree_release(m, false);
}

void hf_tree_free(struct hf_mapping *m)
{
    tree_release(m, true);
}
