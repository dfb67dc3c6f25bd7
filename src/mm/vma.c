/* SPDX-License-Identifier: MIT */
/*
 * vma.c - see vma.h. A sorted array of pointers: a lookup in the fault path is one binary search through
 * memory that lies together, and programs that map by the ten thousand still insert in microseconds.
 */
#include "mm/vma.h"
#include "base/slab.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static struct hf_slab vma_slab, region_slab;

void hf_vma_init(void)
{
    hf_slab_init(&vma_slab, sizeof(struct hf_vma));
    hf_slab_init(&region_slab, sizeof(struct hf_vm_region));
}

struct hf_vma *hf_vma_new(struct hf_vm_region *region)
{
    struct hf_vma *vma = hf_slab_alloc(&vma_slab);

    if (vma == NULL)
        return NULL;
    vma->region = region;
    vma->client = NULL;
    hf_list_init(&vma->i_mmap);
    atomic_init(&vma->cuts, 0);
    for (int i = 0; i < 2; i++) {
        atomic_init(&vma->streams[i].next, -1);
        atomic_init(&vma->streams[i].window, 0);
    }
    return vma;
}

void hf_vma_free(struct hf_vma *vma)
{
    hf_slab_free(&vma_slab, vma);
}

struct hf_vm_region *hf_vm_region_new(struct hf_vm_file *file)
{
    struct hf_vm_region *region = hf_slab_alloc(&region_slab);

    if (region == NULL)
        return NULL;
    region->file = file;
    region->mapping = file->mapping;
    atomic_init(&region->refs, 1);
    return region;
}

void hf_vm_region_get(struct hf_vm_region *region)
{
    atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
}

bool hf_vm_region_put(struct hf_vm_region *region)
{
    return atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) == 1;
}

void hf_vm_region_free(struct hf_vm_region *region)
{
    hf_slab_free(&region_slab, region);
}

struct hf_vma *hf_vma_first(const struct hf_vma_tree *tree, uintptr_t addr, size_t *ret_pos)
{
    size_t low = 0, high = tree->nr;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (tree->slots[mid]->end <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == tree->nr)
        return NULL;
    if (ret_pos != NULL)
        *ret_pos = low;
    return tree->slots[low];
}

struct hf_vma *hf_vma_in(const struct hf_vma_tree *tree, uintptr_t start, uintptr_t end)
{
    struct hf_vma *vma = hf_vma_first(tree, start, NULL);

    return vma != NULL && vma->start < end ? vma : NULL;
}

struct hf_vma *hf_vma_find(const struct hf_vma_tree *tree, uintptr_t addr)
{
    struct hf_vma *vma = hf_vma_first(tree, addr, NULL);

    return vma != NULL && vma->start <= addr ? vma : NULL;
}

int hf_vma_tree_reserve(struct hf_vma_tree *tree, size_t nr)
{
    size_t room = tree->room == 0 ? 512 : tree->room;
    struct hf_vma **slots;

    if (tree->nr + nr <= tree->room)
        return 0;
    while (room < tree->nr + nr)
        room *= 2;
    slots = mmap(NULL, room * sizeof(struct hf_vma *), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                 -1, 0);
    if (slots == MAP_FAILED)
        return -ENOMEM;
    if (tree->slots != NULL) {
        memcpy(slots, tree->slots, tree->nr * sizeof(struct hf_vma *));
        munmap(tree->slots, tree->room * sizeof(struct hf_vma *));
    }
    tree->slots = slots;
    tree->room = room;
    return 0;
}

void hf_vma_tree_insert(struct hf_vma_tree *tree, struct hf_vma *vma)
{
    size_t pos = tree->nr;

    assert(tree->nr < tree->room && vma->start < vma->end);
    hf_vma_first(tree, vma->start, &pos);
    assert(pos == tree->nr || vma->end <= tree->slots[pos]->start);
    memmove(&tree->slots[pos + 1], &tree->slots[pos], (tree->nr - pos) * sizeof(struct hf_vma *));
    tree->slots[pos] = vma;
    tree->nr++;
}

void hf_vma_tree_remove(struct hf_vma_tree *tree, struct hf_vma *vma)
{
    size_t pos = tree->nr;

    hf_vma_first(tree, vma->start, &pos);
    assert(pos < tree->nr && tree->slots[pos] == vma);
    tree->nr--;
    memmove(&tree->slots[pos], &tree->slots[pos + 1], (tree->nr - pos) * sizeof(struct hf_vma *));
}

static void list_add_after(struct hf_list *at, struct hf_list *n)
{
    hf_list_add_tail(at->next, n);
}

int hf_vma_split(struct hf_vma_tree *tree, struct hf_vma *vma, uintptr_t addr)
{
    struct hf_vma *upper;
    int err = hf_vma_tree_reserve(tree, 1);

    assert(vma->start < addr && addr < vma->end);
    if (err)
        return err;
    upper = hf_vma_new(vma->region);
    if (upper == NULL)
        return -ENOMEM;
    hf_vm_region_get(vma->region);
    upper->engine = vma->engine;
    upper->client = vma->client;
    upper->shared = vma->shared;
    upper->start = addr;
    upper->end = vma->end;
    upper->off = hf_vma_offset(vma, addr);
    upper->prot = vma->prot;
    upper->ever_writable = vma->ever_writable;
    atomic_store(&upper->cuts, atomic_load(&vma->cuts));
    vma->end = addr;
    hf_vma_tree_insert(tree, upper);
    list_add_after(&vma->i_mmap, &upper->i_mmap);
    return 0;
}

static bool could_be_one(const struct hf_vma *low, const struct hf_vma *high)
{
    return low->region == high->region && low->end == high->start &&
           hf_vma_offset(low, high->start) == high->off && low->prot == high->prot;
}

struct hf_vma *hf_vma_merge(struct hf_vma_tree *tree, struct hf_vma *vma)
{
    struct hf_vma *upper = hf_vma_find(tree, vma->end);

    if (upper == NULL || !could_be_one(vma, upper))
        return NULL;
    hf_vma_tree_remove(tree, upper);
    hf_list_del(&upper->i_mmap);
    vma->end = upper->end;
    vma->ever_writable |= upper->ever_writable;
    atomic_fetch_add(&vma->cuts, atomic_load(&upper->cuts));
    return upper;
}

bool hf_vma_tree_sane(const struct hf_vma_tree *tree)
{
    for (size_t i = 0; i < tree->nr; i++) {
        if (tree->slots[i]->start >= tree->slots[i]->end)
            return false;
        if (i > 0 && tree->slots[i - 1]->end > tree->slots[i]->start)
            return false;
    }
    return tree->nr <= tree->room;
}

uint32_t hf_vma_stream_window(struct hf_vma_stream *stream, hf_off_t page)
{
    uint32_t window = 0;

    /* Threads may mix up each other's streams here: the worst that follows is a window of the wrong size. */
    if (atomic_load_explicit(&stream->next, memory_order_relaxed) == page) {
        window = atomic_load_explicit(&stream->window, memory_order_relaxed) * 2;
        if (window == 0)
            window = 2;
        if (window > HF_WINDOW_MAX)
            window = HF_WINDOW_MAX;
    }
    atomic_store_explicit(&stream->window, window, memory_order_relaxed);
    return window;
}

void hf_vma_stream_expect(struct hf_vma_stream *stream, hf_off_t next)
{
    atomic_store_explicit(&stream->next, next, memory_order_relaxed);
}
