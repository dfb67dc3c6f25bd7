/* SPDX-License-Identifier: MIT */
/*
 * freemap.h - which blocks of a volume are free, in memory.
 *
 * Two levels: an array of leaves, one for every 32768 blocks, in anonymous memory that the kernel hands out
 * as it is touched (a 16 TiB volume is opened, used and closed without being walked: what nobody has changed
 * is not looked at); a leaf has a bitmap only while it is partly used. The bitmap of a leaf that allocation
 * filled up is kept until hf_freemap_trim(), so that blocks just taken can always be given back without
 * memory. Nothing here locks: the caller holds the space lock (space.c).
 */
#ifndef HF_FS_BLOCKFS_FREEMAP_H
#define HF_FS_BLOCKFS_FREEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HF_FREEMAP_LEAF_BLOCKS 32768u

struct hf_freemap_leaf {
    uint64_t *used;      /* a bit per block; NULL: none is used, or all are */
    uint32_t nr_changed; /* blocks that are not what they were at init: 0 ... capacity of the leaf */
};

struct hf_freemap {
    uint64_t nr_blocks, nr_leaves; /* set at init */
    bool starts_used;              /* likewise: what the blocks were */
    uint64_t nr_free;
    uint64_t cursor;     /* next fit: where the last search without a goal ended */
    uint64_t first, end; /* all leaves outside [first, end) are as at init */
    struct hf_freemap_leaf *leaves;
};

/* All blocks are free, or all are used. 0, -ENOMEM. */
int hf_freemap_init(struct hf_freemap *map, uint64_t nr_blocks);
int hf_freemap_init_used(struct hf_freemap *map, uint64_t nr_blocks);
void hf_freemap_done(struct hf_freemap *map);

/* The map gets nr_blocks blocks, if it has fewer; the
 * new ones are used. 0, or -ENOMEM with nothing changed. */
int hf_freemap_extend(struct hf_freemap *map, uint64_t nr_blocks);

/* Marks [blk, blk + nr) used. 0; -ERANGE: not in the map; -EEXIST: part of it is used already; -ENOMEM.
 * Nothing changes on failure. */
int hf_freemap_take(struct hf_freemap *map, uint64_t blk, uint64_t nr);
/* Marks it free again; all of it is used. 0, or -ENOMEM
 * with nothing changed (never right after its take()). */
int hf_freemap_give(struct hf_freemap *map, uint64_t blk, uint64_t nr);

/* Memory for a later give() of these used blocks, which then cannot fail. 0, -ENOMEM. */
int hf_freemap_prepare_give(struct hf_freemap *map, uint64_t blk, uint64_t nr);

/*
 * Finds and takes a run of 1 ... want free blocks: at goal if that block is free, else from where the last
 * search ended, preferring the first run as long as want among a limited number of candidates. Returns 0,
 * -ENOSPC: nothing is free; -ENOMEM.
 */
int hf_freemap_alloc(struct hf_freemap *map, uint64_t goal, uint64_t want, uint64_t *ret_blk,
                     uint64_t *ret_nr);

/* Length of the free run at blk, at most limit. */
uint64_t hf_freemap_run(const struct hf_freemap *map, uint64_t blk, uint64_t limit);

/* The first free block from blk on; nr_blocks if there is none. */
uint64_t hf_freemap_next(const struct hf_freemap *map, uint64_t blk);

/* Drops the bitmaps of full leaves. */
void hf_freemap_trim(struct hf_freemap *map);

/* Counters and bitmaps agree; for tests. */
bool hf_freemap_sane(const struct hf_freemap *map);

#endif
