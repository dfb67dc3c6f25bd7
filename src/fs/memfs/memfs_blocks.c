/* SPDX-License-Identifier: MIT */
/*
 * memfs_blocks.c - space, and the blocks of a file: promised, given, read and written.
 *
 * A file has its blocks in groups of 64, sorted; a block that is not there is a hole. All functions of the
 * driver's contract that may run inside a fault (map, reserve, unreserve) neither allocate nor wait: counting
 * is one compare-and-swap, and the lock is never held across malloc() or free(). Blocks on their way in or
 * out hang together by their first word.
 */
#include "fs/memfs/memfs.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- groups. node->lock held. */

/* How many groups lie before index: where it is, or belongs. */
static size_t group_pos(const struct hf_memfs_node *node, uint64_t index)
{
    size_t low = 0, high = node->nr_groups;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (node->groups[mid]->index < index)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct hf_memfs_group *group_find(const struct hf_memfs_node *node, uint64_t blk)
{
    size_t pos = group_pos(node, blk / HF_MEMFS_GROUP);

    if (pos == node->nr_groups || node->groups[pos]->index != blk / HF_MEMFS_GROUP)
        return NULL;
    return node->groups[pos];
}

static uint64_t block_bit(uint64_t blk)
{
    return 1ull << (blk % HF_MEMFS_GROUP);
}

static enum hf_extent_kind block_kind(const struct hf_memfs_node *node, uint64_t blk)
{
    const struct hf_memfs_group *group = group_find(node, blk);

    if (group == NULL || !(group->present & block_bit(blk)))
        return HF_EXTENT_HOLE;
    return group->written & block_bit(blk) ? HF_EXTENT_WRITTEN : HF_EXTENT_UNWRITTEN;
}

/* The first block that exists at or after blk; HF_MEMFS_END: there is none. */
static uint64_t block_next(const struct hf_memfs_node *node, uint64_t blk)
{
    for (size_t pos = group_pos(node, blk / HF_MEMFS_GROUP); pos < node->nr_groups; pos++) {
        const struct hf_memfs_group *group = node->groups[pos];
        uint64_t first = group->index * HF_MEMFS_GROUP, bits = group->present;

        if (first < blk)
            bits &= ~0ull << (blk - first);
        if (bits != 0)
            return first + (uint64_t)__builtin_ctzll(bits);
    }
    return HF_MEMFS_END;
}

/* Sees to a group for blk. Takes the lock itself. 0, -ENOMEM. */
static int group_ensure(struct hf_memfs_node *node, uint64_t blk)
{
    struct hf_memfs_group *group = NULL, **array = NULL;
    size_t max = 0, pos;
    bool done = false;

    while (!done) {
        size_t want;

        hf_rwlock_wrlock(&node->lock);
        want = node->nr_groups + 1;
        pos = group_pos(node, blk / HF_MEMFS_GROUP);
        if (group_find(node, blk) != NULL) {
            done = true;
        } else if (group != NULL && (max >= want || node->max_groups >= want)) {
            if (node->max_groups < want) {
                struct hf_memfs_group **old = node->groups;

                if (node->nr_groups != 0)
                    memcpy(array, old, node->nr_groups * sizeof(*old));
                node->groups = array;
                node->max_groups = max;
                array = old;
            }
            memmove(&node->groups[pos + 1], &node->groups[pos], (node->nr_groups - pos) * sizeof(group));
            node->groups[pos] = group;
            node->nr_groups++;
            group = NULL;
            done = true;
        }
        hf_rwlock_wrunlock(&node->lock);
        if (done)
            break;
        free(group);
        free(array);
        max = want * 2;
        group = calloc(1, sizeof(*group));
        array = malloc(max * sizeof(*array));
        if (group == NULL || array == NULL)
            break;
        group->index = blk / HF_MEMFS_GROUP;
    }
    free(group);
    free(array);
    return done ? 0 : -ENOMEM;
}

/* ---- chains of blocks */

static void chain_free(void *chain)
{
    while (chain != NULL) {
        void *next = *(void **)chain;

        free(chain);
        chain = next;
    }
}

static void *chain_new(uint64_t nr, uint32_t block_size)
{
    void *chain = NULL;

    for (uint64_t i = 0; i < nr; i++) {
        void *block = calloc(1, block_size);

        if (block == NULL) {
            chain_free(chain);
            return NULL;
        }
        *(void **)block = chain;
        chain = block;
    }
    return chain;
}

static void *chain_take(void **chain)
{
    void *block = *chain;

    *chain = *(void **)block;
    *(void **)block = NULL;
    return block;
}

/* ---- where blocks are */

int hf_memfs_map(struct hf_inode *inode, hf_blk_t blk, unsigned flags, struct hf_extent *ret_extent)
{
    struct hf_memfs_node *node = hf_memfs_node_of(inode);
    struct hf_extent found = {.blk = blk};

    (void)flags; /* nothing here blocks */
    hf_rwlock_rdlock(&node->lock);
    found.kind = block_kind(node, blk);
    if (found.kind == HF_EXTENT_HOLE)
        found.nr = block_next(node, blk) - blk;
    else
        do
            found.nr++;
        while (block_kind(node, blk + found.nr) == found.kind);
    hf_rwlock_rdunlock(&node->lock);
    *ret_extent = found;
    return 0;
}

/* ---- space */

int hf_memfs_reserve(struct hf_inode *inode, uint64_t nr, unsigned flags)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    /* Who only speculates leaves an eighth of the volume to stores that really come. */
    uint64_t leave = flags & HF_SPECULATIVE ? volume->total / 8 : 0;
    uint64_t have = atomic_load(&volume->available);

    do {
        if (have < leave || have - leave < nr)
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak(&volume->available, &have, have - nr));
    atomic_fetch_add(&volume->reserved, nr);
    return 0;
}

void hf_memfs_unreserve(struct hf_inode *inode, uint64_t nr)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    uint64_t had = atomic_fetch_sub(&volume->reserved, nr);

    assert(had >= nr && "more is given back than was reserved");
    (void)had;
    atomic_fetch_add(&volume->available, nr);
}

/* Puts blocks of the chain into [blk, blk + nr), which are holes with groups. node->lock held for writing. */
static void put_blocks(struct hf_memfs_node *node, uint64_t blk, uint64_t nr, void **chain)
{
    for (uint64_t b = blk; b < blk + nr; b++) {
        struct hf_memfs_group *group = group_find(node, b);

        assert(!(group->present & block_bit(b)) && "allocate() where there is no hole");
        group->block[b % HF_MEMFS_GROUP] = chain_take(chain);
        group->present |= block_bit(b);
    }
    node->nr_blocks += nr;
}

/* Sees to groups for all of [blk, blk + nr). */
static int groups_ensure(struct hf_memfs_node *node, uint64_t blk, uint64_t nr)
{
    int rc = 0;

    for (uint64_t b = blk; b < blk + nr && rc == 0; b = (b / HF_MEMFS_GROUP + 1) * HF_MEMFS_GROUP)
        rc = group_ensure(node, b);
    return rc;
}

int hf_memfs_allocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_node *node = hf_memfs_node_of(inode);
    void *chain = chain_new(nr, volume->block_size);
    int rc = chain != NULL ? groups_ensure(node, blk, nr) : -ENOMEM;

    if (rc != 0) {
        chain_free(chain);
        return rc;
    }
    hf_rwlock_wrlock(&node->lock);
    put_blocks(node, blk, nr, &chain);
    hf_rwlock_wrunlock(&node->lock);
    atomic_fetch_add(&inode->blocks, nr);
    atomic_fetch_sub(&volume->reserved, nr);
    return 0;
}

/* The next hole in [*blk, end). */
static bool next_hole(const struct hf_memfs_node *node, uint64_t end, uint64_t *blk, uint64_t *ret_nr)
{
    while (*blk < end && block_kind(node, *blk) != HF_EXTENT_HOLE)
        ++*blk;
    if (*blk >= end)
        return false;
    *ret_nr = block_next(node, *blk) - *blk;
    if (*ret_nr > end - *blk)
        *ret_nr = end - *blk;
    return true;
}

static uint64_t count_holes(struct hf_memfs_node *node, uint64_t blk, uint64_t end)
{
    uint64_t nr = 0, len;

    hf_rwlock_rdlock(&node->lock);
    for (; next_hole(node, end, &blk, &len); blk += len)
        nr += len;
    hf_rwlock_rdunlock(&node->lock);
    return nr;
}

/* Nobody else fills or makes holes meanwhile: the caller
 * has the inode to itself. What can fail comes first. */
int hf_memfs_preallocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr, uint64_t promised)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_node *node = hf_memfs_node_of(inode);
    uint64_t nr_holes = count_holes(node, blk, blk + nr), len;
    void *chain = NULL;
    int rc;

    assert(promised <= nr_holes);
    rc = hf_memfs_reserve(inode, nr_holes - promised, 0);
    if (rc != 0)
        return rc;
    if (nr_holes != 0)
        chain = chain_new(nr_holes, volume->block_size);
    rc = chain != NULL || nr_holes == 0 ? groups_ensure(node, blk, nr) : -ENOMEM;
    if (rc != 0) {
        chain_free(chain);
        hf_memfs_unreserve(inode, nr_holes - promised);
        return rc;
    }
    hf_rwlock_wrlock(&node->lock);
    for (uint64_t hole = blk; next_hole(node, blk + nr, &hole, &len); hole += len)
        put_blocks(node, hole, len, &chain);
    for (uint64_t b = blk; b < blk + nr; b++)
        group_find(node, b)->kept |= block_bit(b);
    hf_rwlock_wrunlock(&node->lock);
    atomic_fetch_add(&inode->blocks, nr_holes);
    atomic_fetch_sub(&volume->reserved, nr_holes);
    return 0;
}

/* ---- leaving */

/* Frees the blocks in [blk, end), or of those only the ones that nobody wrote or wants to keep. Returns how
 * many. */
static uint64_t free_blocks(struct hf_memfs_volume *volume, struct hf_memfs_node *node, uint64_t blk,
                            uint64_t end, bool only_unused)
{
    void *chain = NULL;
    uint64_t nr = 0;

    hf_rwlock_wrlock(&node->lock);
    for (blk = block_next(node, blk); blk < end; blk = block_next(node, blk + 1)) {
        struct hf_memfs_group *group = group_find(node, blk);
        void *block = group->block[blk % HF_MEMFS_GROUP];

        if (only_unused && ((group->written | group->kept) & block_bit(blk)))
            continue;
        *(void **)block = chain;
        chain = block;
        group->present &= ~block_bit(blk);
        group->written &= ~block_bit(blk);
        group->kept &= ~block_bit(blk);
        nr++;
    }
    node->nr_blocks -= nr;
    hf_rwlock_wrunlock(&node->lock);
    chain_free(chain);
    atomic_fetch_add(&volume->available, nr);
    return nr;
}

void hf_memfs_free_blocks(struct hf_memfs_volume *volume, struct hf_memfs_node *node, uint64_t blk,
                          uint64_t end)
{
    free_blocks(volume, node, blk, end, false);
}

void hf_memfs_free_unwritten(struct hf_memfs_volume *volume, struct hf_memfs_node *node)
{
    free_blocks(volume, node, 0, HF_MEMFS_END, true);
}

int hf_memfs_truncate(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_node *node = hf_memfs_node_of(inode);
    uint64_t first = ((uint64_t)new_size + volume->block_size - 1) / volume->block_size;

    (void)old_size;
    atomic_fetch_sub(&inode->blocks, free_blocks(volume, node, first, HF_MEMFS_END, false));
    hf_mutex_lock(&volume->names_lock);
    node->size = new_size;
    hf_mutex_unlock(&volume->names_lock);
    return 0;
}

int hf_memfs_punch(struct hf_inode *inode, hf_blk_t blk, uint64_t nr)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);

    atomic_fetch_sub(&inode->blocks, free_blocks(volume, hf_memfs_node_of(inode), blk, blk + nr, false));
    return 0;
}

/* ---- transferring */

int hf_memfs_read(struct hf_inode *inode, void *buf, size_t len, hf_off_t off)
{
    struct hf_memfs_node *node = hf_memfs_node_of(inode);
    uint32_t size = hf_memfs_volume_of(inode)->block_size;
    uint64_t blk = (uint64_t)off / size;

    hf_rwlock_rdlock(&node->lock);
    for (size_t done = 0; done < len; done += size, blk++) {
        if (block_kind(node, blk) == HF_EXTENT_WRITTEN)
            memcpy((char *)buf + done, group_find(node, blk)->block[blk % HF_MEMFS_GROUP], size);
        else
            memset((char *)buf + done, 0, size);
    }
    hf_rwlock_rdunlock(&node->lock);
    return 0;
}

int hf_memfs_write(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off)
{
    struct hf_memfs_node *node = hf_memfs_node_of(inode);
    uint32_t size = hf_memfs_volume_of(inode)->block_size;
    uint64_t blk = (uint64_t)off / size;
    int rc = 0;

    hf_rwlock_wrlock(&node->lock);
    for (size_t done = 0; done < len; done += size, blk++) {
        struct hf_memfs_group *group = group_find(node, blk);

        rc = group == NULL || !(group->present & block_bit(blk)) ? -EIO : 0; /* a hole */
        if (rc != 0)
            break;
        memcpy(group->block[blk % HF_MEMFS_GROUP], (const char *)buf + done, size);
        group->written |= block_bit(blk);
    }
    hf_rwlock_wrunlock(&node->lock);
    return rc;
}
