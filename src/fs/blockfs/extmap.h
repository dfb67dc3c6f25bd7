/* SPDX-License-Identifier: MIT */
/*
 * extmap.h - all extents of one inode, in memory.
 *
 * Extents are sorted by file block and do not overlap; neighbours that continue each other in the file and on
 * the device and have equal flags are joined when one of them changes. They lie in leaves of up to 128 under
 * one sorted array, so that a file of a million fragments is still searched in nanoseconds and changed
 * without moving much memory.
 *
 * Locking: map->lock, rank EXTENTS, is taken inside faults, so nothing is allocated or freed while it is
 * held: hf_extmap_lock_for(n) takes it for writing with enough spare leaves for n more extents in one hole,
 * or for the 2 that cutting extents at both ends of a range makes; hf_extmap_unlock() frees what was left
 * over, outside. Functions that say "locked" need the lock, shared for the const ones.
 */
#ifndef HF_FS_BLOCKFS_EXTMAP_H
#define HF_FS_BLOCKFS_EXTMAP_H

#include "base/list.h"
#include "base/lock.h"

#include <stddef.h>

#define HF_EXT_DATA 0x1u /* the device holds the file's data; without: reads as zeros */
/* rows of the database cover it (they say "unwritten" when DATA is new or missing) */
#define HF_EXT_ROW 0x2u
#define HF_EXT_PENDING 0x4u /* the rows do not say yet what DATA says, or are still missing */
#define HF_EXT_SYNC 0x8u    /* PENDING, and DATA was there before the flush of the running commit began */
/* So: 0 allocated just now; DATA|PENDING written; DATA|ROW stored; PENDING preallocated; ROW that, stored;
 * DATA|ROW|PENDING written to. */

#define HF_EXTMAP_LEAF 128u

struct hf_ext {
    uint64_t lblk; /* first block in the file */
    uint64_t pblk; /* first block in the data region */
    uint32_t len;
    uint32_t flags; /* HF_EXT_* */
};

static inline uint64_t hf_ext_end(const struct hf_ext *e)
{
    return e->lblk + e->len;
}

struct hf_extleaf {
    struct hf_list pending;  /* in map->pending while nr_pending > 0; else empty */
    struct hf_extleaf *next; /* in map->spare or map->dropped */
    uint32_t nr, nr_pending; /* nr_pending: extents with HF_EXT_PENDING */
    struct hf_ext ext[HF_EXTMAP_LEAF];
};

struct hf_extmap_slot {
    uint64_t first; /* leaf->ext[0].lblk */
    struct hf_extleaf *leaf;
};

struct hf_extmap {
    struct hf_rwlock lock;
    /* guarded by lock */
    struct hf_extmap_slot *slots;
    size_t nr_slots, max_slots;
    uint64_t nr_extents;
    struct hf_list pending;
    struct hf_extleaf *spare; /* empty leaves for splits */
    size_t nr_spare;
    struct hf_extleaf *dropped; /* to be freed after unlocking */
};

void hf_extmap_init(struct hf_extmap *map);
void hf_extmap_done(struct hf_extmap *map);

/* Takes the lock for writing, with memory for nr more extents. 0, -ENOMEM (then not locked). */
int hf_extmap_lock_for(struct hf_extmap *map, uint64_t nr);
void hf_extmap_unlock(struct hf_extmap *map);

/* Locked. The first extent that ends after blk; false: there is none. */
bool hf_extmap_find(const struct hf_extmap *map, uint64_t blk, struct hf_ext *ret_ext);
/* Locked. The last extent that starts before blk; false: there is none. */
bool hf_extmap_find_before(const struct hf_extmap *map, uint64_t blk, struct hf_ext *ret_ext);
/* Locked. Up to max extents that overlap [start, end), cut to it, in order. Returns how many. */
size_t hf_extmap_collect(const struct hf_extmap *map, uint64_t start, uint64_t end, size_t max,
                         struct hf_ext *ret_exts);

/* Locked for writing. The range is a hole. */
void hf_extmap_insert(struct hf_extmap *map, const struct hf_ext *ext);
/* Locked for writing. Makes [start, end) a hole; may take memory for 2 extents. */
void hf_extmap_remove(struct hf_extmap *map, uint64_t start, uint64_t end);
/* Locked for writing. Passes the flags of all extents in [start, end) through fn; memory for 2 extents. */
void hf_extmap_change(struct hf_extmap *map, uint64_t start, uint64_t end, uint32_t (*fn)(uint32_t flags));

/* Locked for writing. Marks every PENDING extent SYNC, and says whether there is one. */
bool hf_extmap_mark_sync(struct hf_extmap *map);
/* Locked. Up to max extents that are SYNC. Returns how many. */
size_t hf_extmap_collect_sync(const struct hf_extmap *map, size_t max, struct hf_ext *ret_exts);
/* Locked. */
static inline bool hf_extmap_has_pending(const struct hf_extmap *map)
{
    return !hf_list_empty(&map->pending);
}

/* Locked. Order, merging and counters are as above; for asserts in tests. */
bool hf_extmap_sane(const struct hf_extmap *map);

#endif
