/* SPDX-License-Identifier: MIT */
/*
 * vma.h - virtual memory areas, and the sorted set of them that makes up our part of this address space.
 *
 * Rules
 *   1. Areas of a set never overlap and are never empty. hf_vma_tree_sane() checks that.
 *   2. start, end, off and prot change only with the space lock held exclusively AND the i_mmap lock of the
 * mapping; so either of the two is enough to read them. A fault has the first, mkclean and zap the second.
 *   3. The kernel's areas need not be cut as ours are; each of ours is covered by kernel areas of the same
 * memfd. Nothing here calls the kernel except for memory, nor malloc: faults may be served while memory is
 * scarce.
 */
#ifndef HF_MM_VMA_H
#define HF_MM_VMA_H

#include "base/list.h"
#include "cache/mm_ops.h"

struct hf_engine;
struct hf_client;

/* What one hf_mmap() made: all areas cut from it share it. Holds the file's reference. */
struct hf_vm_region {
    struct hf_vm_file *file;
    struct hf_mapping *mapping;
    _Atomic uint32_t refs;
};

/* Sequential access, told apart for loads and stores: a loop that loads and stores has two streams. */
struct hf_vma_stream {
    _Atomic hf_off_t next;   /* offset of the page that would continue the stream; -1: none */
    _Atomic uint32_t window; /* pages ahead the last fault asked for */
};

struct hf_vma {
    /* set at init */
    struct hf_vm_region *region;
    const struct hf_engine *engine;
    struct hf_client *client; /* whose address space: another process (client.h); NULL: this one */
    bool shared;
    /* rule 2 */
    uintptr_t start, end;
    hf_off_t off; /* of start, bytes */
    int prot;
    bool ever_writable; /* had PROT_WRITE once: pages may stand without write protection, mkclean must come by
                         */
    /* guarded by the i_mmap lock of the mapping; after that, by whoever unlinked it */
    struct hf_list i_mmap;
    /* atomic */
    struct hf_vma_stream streams[2]; /* [write] */
    _Atomic uint32_t cuts;           /* mprotect engine: how often the kernel's area may have been cut */
};

/* Sorted by address; guarded by the space lock. */
struct hf_vma_tree {
    struct hf_vma **slots;
    size_t nr, room;
};

/* vmas and regions come from slabs: call once. */
void hf_vma_init(void);
struct hf_vma *hf_vma_new(
    struct hf_vm_region *region);     /* takes over a reference of region; NULL: no memory */
void hf_vma_free(struct hf_vma *vma); /* does not put the region */
struct hf_vm_region *hf_vm_region_new(struct hf_vm_file *file); /* one reference; NULL: no memory */
void hf_vm_region_get(struct hf_vm_region *region);
/* True: that was the last one; the caller puts the file and frees. */
bool hf_vm_region_put(struct hf_vm_region *region);
void hf_vm_region_free(struct hf_vm_region *region);

static inline hf_off_t hf_vma_offset(const struct hf_vma *vma, uintptr_t addr)
{
    return vma->off + (hf_off_t)(addr - vma->start);
}
static inline size_t hf_vma_len(const struct hf_vma *vma)
{
    return vma->end - vma->start;
}

/* The area that holds addr, or NULL. */
struct hf_vma *hf_vma_find(const struct hf_vma_tree *tree, uintptr_t addr);
/* The first area that ends above addr; *ret_pos (may be NULL) its slot. NULL: none. */
struct hf_vma *hf_vma_first(const struct hf_vma_tree *tree, uintptr_t addr, size_t *ret_pos);
/* The lowest area that overlaps [start, end), or NULL. */
struct hf_vma *hf_vma_in(const struct hf_vma_tree *tree, uintptr_t start, uintptr_t end);
/* Makes room for nr more areas, so that inserts do not fail. 0 or -ENOMEM. */
int hf_vma_tree_reserve(struct hf_vma_tree *tree, size_t nr);
/* The room is there. */
void hf_vma_tree_insert(struct hf_vma_tree *tree, struct hf_vma *vma);
void hf_vma_tree_remove(struct hf_vma_tree *tree, struct hf_vma *vma);
/*
 * Cuts vma in two at addr, strictly inside; the upper part is a new area, next to it in the i_mmap list.
 * Context: i_mmap lock. 0 or -ENOMEM.
 */
int hf_vma_split(struct hf_vma_tree *tree, struct hf_vma *vma, uintptr_t addr);
/*
 * Joins vma with the area right above it if the two could have been one. The upper one is out of the tree and
 * the list then, and returned for the caller to drop. Context: i_mmap lock.
 */
struct hf_vma *hf_vma_merge(struct hf_vma_tree *tree, struct hf_vma *vma);
/* Rule 1. */
bool hf_vma_tree_sane(const struct hf_vma_tree *tree);

/* How many pages ahead a fault at page offset page should ask for; what the stream then expects next. */
uint32_t hf_vma_stream_window(struct hf_vma_stream *stream, hf_off_t page);
void hf_vma_stream_expect(struct hf_vma_stream *stream, hf_off_t next);

#define HF_WINDOW_MAX 16u

#endif
