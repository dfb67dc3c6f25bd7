/* SPDX-License-Identifier: MIT */
/*
 * thin.c - a thin volume asks its device for space before anything is promised (HOLD-10): for blocks, and for
 * the metadata that describes them.
 *
 * Invariants
 *   1. No more blocks have left `unasked` than are covered (space.c).
 *   2. After each op and each mount, free pages of metadata that the device has guaranteed suffice for: an
 * extent of its own for every covered block; the growth of the inode rows there are; SLACK_PAGES for what is
 * never refused. Or the device had no more: then what would need new pages has been refused.
 * So reserving stays a compare and exchange: only a reserve that finds nothing available comes here, and it
 * may block. Nothing of this is on disk: blocks that are not allocated are unasked at the next mount, and
 * asking again for a range changes nothing. What is guaranteed is guaranteed durably with the flush of the
 * commit that uses it. Lock order: sql_lock > space.lock. Neighbours: data.c, names.c above; space.c,
 * metadb.c below.
 */
#include "fs/blockfs/blockfs.h"

#include <errno.h>

/* What removes and what writes data inserts no rows but a few: orphans, grace times, a split of a page. */
#define SLACK_PAGES 64u
/* Blocks that are covered at once, so that not each question to the device needs sql_lock. */
#define COVER_BLOCKS 4096u

/* Free pages that have to be guaranteed with so many blocks covered. */
static uint64_t pages_kept(struct hf_blockfs *fs, uint64_t covered)
{
    return (uint64_t)hf_metadb_extent_pages(covered, fs->txn.nr_extents) +
           hf_metadb_growth_pages(fs->nr_inodes + 1) + SLACK_PAGES;
}

int hf_blockfs_thin_begin(struct hf_blockfs *fs)
{
    uint64_t covered;
    int rc;

    if (!fs->space.thin)
        return 0;
    covered = hf_space_asked(&fs->space);
    hf_space_cover(&fs->space, covered);
    rc = hf_metadb_own(fs->txn.db, pages_kept(fs, covered));
    return rc == -ENOSPC ? 0 : rc;
}

int hf_blockfs_thin_own(struct hf_blockfs *fs, const struct hf_metadb_room *room, unsigned new_pages)
{
    uint64_t pages;

    if (!fs->space.thin)
        return 0;
    pages = new_pages + pages_kept(fs, hf_space_covered(&fs->space));
    return room->db_owned >= pages ? 0 : hf_metadb_own(fs->txn.db, pages);
}

/* sql_lock held. Covers up to nr blocks more than have been asked for. */
static int cover(struct hf_blockfs *fs, uint64_t nr)
{
    uint64_t asked, left;
    int rc = 0;

    /* The pages in use are those of all that is in the log. */
    if (fs->txn.log_len != 0)
        rc = hf_txn_start(&fs->txn);
    asked = hf_space_asked(&fs->space);
    left = atomic_load(&fs->space.total) - atomic_load(&fs->space.holes) - asked;
    if (rc == 0 && left == 0)
        rc = -ENOSPC;
    if (nr > left)
        nr = left;
    while (rc == 0) {
        rc = hf_metadb_own(fs->txn.db, pages_kept(fs, asked + nr));
        if (rc == 0)
            hf_space_cover(&fs->space, asked + nr);
        if (rc != -ENOSPC || nr == 1)
            break;
        nr = nr > COVER_BLOCKS ? COVER_BLOCKS : nr / 2;
        rc = 0;
    }
    return rc;
}

int hf_blockfs_thin_ask(struct hf_blockfs *fs, uint64_t nr) HF_NO_TSA
{
    int rc = hf_space_ask(&fs->space, nr);

    while (rc == -EAGAIN) {
        hf_mutex_lock(&fs->sql_lock);
        rc = cover(fs, nr > COVER_BLOCKS ? nr : COVER_BLOCKS);
        hf_mutex_unlock(&fs->sql_lock);
        if (rc == 0)
            rc = hf_space_ask(&fs->space, nr);
    }
    return rc;
}
