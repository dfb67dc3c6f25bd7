/* SPDX-License-Identifier: MIT */
/*
 * data.c - the blocks of a file: where they are, promising them, giving them to it, transferring them
 * (STORE-PATH 8/9).
 *
 * None of this runs SQL, a waiting reserve() aside: extents are in memory, and a written or preallocated
 * extent gets its row from the next commit (commit.c). The life of a block's flags: allocate() 0 -> write()
 * DATA|PENDING -> commit DATA|ROW; preallocate() PENDING -> commit ROW -> write() DATA|ROW|PENDING -> commit
 * DATA|ROW.
 * Overwriting DATA|ROW changes nothing but the bytes.
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/testing.h"

#include "dev/device_io.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define SEGMENTS 16 /* of one transfer that are looked up at once */
#define HOLE_END (1ull << 62)
#define GOAL_GAP 256u /* blocks: a hole this small before a new block is left free on the device, too */
/* commits and questions to the device before a reserve() gives up against others */
#define RESERVE_TRIES 16

/* ---- where blocks are */

int hf_blockfs_map(struct hf_inode *inode, hf_blk_t blk, unsigned flags, struct hf_extent *ret_extent)
{
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    struct hf_extent found = {.blk = blk, .kind = HF_EXTENT_HOLE};
    struct hf_ext exts[8];
    uint64_t end = HOLE_END;
    size_t n;

    (void)flags; /* nothing here blocks */
    hf_rwlock_rdlock(&fi->extents.lock);
    n = hf_extmap_collect(&fi->extents, blk, HOLE_END, sizeof(exts) / sizeof(exts[0]), exts);
    hf_rwlock_rdunlock(&fi->extents.lock);
    if (n > 0 && exts[0].lblk > blk) {
        end = exts[0].lblk;
    } else if (n > 0) {
        found.kind = exts[0].flags & HF_EXT_DATA ? HF_EXTENT_WRITTEN : HF_EXTENT_UNWRITTEN;
        end = hf_ext_end(&exts[0]);
        for (size_t i = 1; i < n && exts[i].lblk == end; i++) {
            if ((exts[i].flags & HF_EXT_DATA) != (exts[0].flags & HF_EXT_DATA))
                break;
            end = hf_ext_end(&exts[i]);
        }
    }
    found.nr = end - blk;
    *ret_extent = found;
    return 0;
}

/* ---- promising them */

/* Makes nr blocks available by waiting for something. Under trim_lock. */
static int reserve_wait(struct hf_blockfs *fs, uint64_t nr)
{
    int rc = -ENOSPC;

    if (atomic_load(&fs->space.unasked) != 0) {
        uint64_t have = atomic_load(&fs->space.available);

        rc = hf_blockfs_thin_ask(fs, nr > have ? nr - have : 1);
        if (rc != -ENOSPC)
            return rc;
    }
    if (atomic_load(&fs->space.pending) != 0)
        rc = hf_blockfs_commit(fs, hf_blockfs_ticket(fs));
    else if (hf_space_possible(&fs->space) >= nr)
        rc = 0; /* another thread's commit was faster */
    return rc;
}

/* Charges and reserves as one step. -EDQUOT; -ENOSPC: not available now; and `leave` stays for others. */
static int reserve_now(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t nr, uint64_t leave,
                       unsigned flags)
{
    struct hf_charge charge;
    bool taken;
    int rc = hf_charge_begin(&fs->accounts, &fi->owner, nr, 0, flags, &charge);

    if (rc != 0)
        return rc;
    taken = hf_space_try_reserve(&fs->space, nr, leave);
    hf_charge_end(&charge, taken);
    return taken ? 0 : -ENOSPC;
}

/* Under trim_lock. */
static int reserve_last(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t nr, unsigned flags)
{
    for (int tries = 0; tries < RESERVE_TRIES; tries++) {
        int rc = reserve_now(fs, fi, nr, 0, flags);

        if (rc != -ENOSPC)
            return rc;
        if (hf_space_possible(&fs->space) < nr)
            return -ENOSPC;
        rc = reserve_wait(fs, nr);
        if (rc != 0)
            return rc;
        hf_space_settle(&fs->space);
    }
    return -ENOSPC;
}

static int reserve_blocks(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t nr, unsigned flags)
{
    int rc = reserve_now(fs, fi, nr, 0, flags);

    if (rc != -ENOSPC || !hf_space_may_have(&fs->space, nr))
        return rc;
    if (flags & HF_NOWAIT)
        return -EAGAIN;
    hf_space_trim_lock(&fs->space);
    rc = reserve_last(fs, fi, nr, flags);
    hf_space_trim_unlock(&fs->space);
    return rc;
}

int hf_blockfs_reserve(struct hf_inode *inode, uint64_t nr, unsigned flags)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);

    if (fs->read_only)
        return -EROFS;
    /* Plenty: an eighth of the volume, and of each limit, stays for stores that really come. */
    if (flags & HF_SPECULATIVE)
        return reserve_now(fs, fi, nr, fs->space.total / 8, flags);
    return reserve_blocks(fs, fi, nr, flags);
}

/* Gives back what was reserved for the inode. */
static void unreserve(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t nr)
{
    hf_release_begin(&fs->accounts, &fi->owner);
    hf_space_unreserve(&fs->space, nr);
    hf_release_end(&fi->owner, nr, 0);
}

void hf_blockfs_unreserve(struct hf_inode *inode, uint64_t nr)
{
    unreserve(hf_blockfs_of(inode->sb), hf_blockfs_inode_of(inode), nr);
}

/* ---- giving them to the file */

/* Where on the device a block at blk continues the file. */
static uint64_t goal_of(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t blk)
{
    struct hf_ext prev;
    bool found;

    hf_rwlock_rdlock(&fi->extents.lock);
    found = hf_extmap_find_before(&fi->extents, blk, &prev);
    hf_rwlock_rdunlock(&fi->extents.lock);
    if (!found || blk - hf_ext_end(&prev) > GOAL_GAP)
        return fs->space.total; /* none: wherever the last search ended */
    return prev.pblk + (blk - prev.lblk);
}

/* Puts the next nr blocks of runs, from number *run on, into the hole at blk. Extents locked for writing. */
static void insert_runs(struct hf_blockfs_inode *fi, uint64_t blk, uint64_t nr, struct hf_runs *runs,
                        size_t *run)
{
    while (nr > 0) {
        struct hf_run *r = &runs->v[*run];
        uint64_t len = r->nr < nr ? r->nr : nr;

        if (len > UINT32_MAX)
            len = UINT32_MAX;
        hf_extmap_insert(&fi->extents, &(struct hf_ext){.lblk = blk, .pblk = r->blk, .len = (uint32_t)len});
        blk += len;
        nr -= len;
        r->blk += len;
        r->nr -= len;
        if (r->nr == 0)
            ++*run;
    }
}

/* Extents that nr blocks in these runs make at most: a run may have to be cut for its length. */
static uint64_t extents_of(const struct hf_runs *runs, uint64_t nr)
{
    return runs->nr + nr / UINT32_MAX + 1;
}

int hf_blockfs_allocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    struct hf_runs runs;
    size_t run = 0;
    int rc;

    hf_runs_init(&runs);
    hf_release_begin(&fs->accounts,
                     &fi->owner); /* stays charged; but who looks meanwhile must see one of both */
    rc = hf_space_alloc(&fs->space, goal_of(fs, fi, blk), nr, &runs);
    if (rc == 0)
        rc = hf_extmap_lock_for(&fi->extents, extents_of(&runs, nr));
    if (rc == 0) {
        insert_runs(fi, blk, nr, &runs, &run);
        hf_extmap_unlock(&fi->extents);
        atomic_fetch_add(&inode->blocks, nr);
    } else if (runs.nr != 0) {
        hf_space_unalloc(&fs->space, nr, &runs);
    }
    hf_release_end(&fi->owner, 0, 0);
    hf_runs_done(&runs);
    return rc;
}

/* ---- rows. Under sql_lock. */

static bool ext_stored(const struct hf_ext *ext, bool unwritten)
{
    return ext->flags == (unwritten ? HF_EXT_ROW : HF_EXT_ROW | HF_EXT_DATA);
}

int hf_blockfs_put_row(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, const struct hf_ext *ext,
                       bool unwritten)
{
    struct hf_txn *txn = &fs->txn;
    uint64_t end = hf_ext_end(ext);
    int64_t stored = unwritten && !HF_BROKEN(preallocate_as_written);
    struct hf_ext prev, next;
    bool grows, joins;
    int rc = 0;

    hf_rwlock_rdlock(&fi->extents.lock);
    grows = hf_extmap_find_before(&fi->extents, ext->lblk, &prev) && ext_stored(&prev, unwritten) &&
            hf_ext_end(&prev) == ext->lblk && prev.pblk + prev.len == ext->pblk;
    joins = hf_extmap_find(&fi->extents, end, &next) && ext_stored(&next, unwritten) && next.lblk == end &&
            ext->pblk + ext->len == next.pblk;
    hf_rwlock_rdunlock(&fi->extents.lock);

    if (ext->flags & HF_EXT_ROW)
        rc = hf_blockfs_remove_rows(fs, fi, ext->lblk, end, hf_txn_exec);
    txn->changes = 0;
    if (rc == 0 && grows)
        rc = hf_txn_exec(
            txn, HF_STMT_EXTENT_GROW,
            HF_ARGS(HF_INT(fi->ino), HF_INT(ext->lblk), HF_INT(ext->pblk), HF_INT(ext->len), HF_INT(stored)));
    if (rc == 0 && txn->changes == 0)
        rc = hf_txn_exec(
            txn, HF_STMT_EXTENT_INSERT,
            HF_ARGS(HF_INT(fi->ino), HF_INT(ext->lblk), HF_INT(ext->pblk), HF_INT(ext->len), HF_INT(stored)));
    if (rc == 0 && joins) {
        rc = hf_txn_exec(txn, HF_STMT_EXTENT_JOIN, HF_ARGS(HF_INT(fi->ino), HF_INT(end)));
        if (rc == 0 && txn->changes == 1)
            rc = hf_txn_exec(txn, HF_STMT_EXTENT_DROP, HF_ARGS(HF_INT(fi->ino), HF_INT(end)));
    }
    return rc;
}

/* ---- preallocate */

/* The holes of [start, end). 0, -ENOMEM. */
static int collect_holes(struct hf_blockfs_inode *fi, uint64_t start, uint64_t end, struct hf_runs *holes,
                         uint64_t *ret_nr)
{
    struct hf_ext exts[SEGMENTS];
    uint64_t nr = 0;
    size_t n;

    do {
        if (hf_runs_grow(holes, SEGMENTS + 1) != 0)
            return -ENOMEM;
        hf_rwlock_rdlock(&fi->extents.lock);
        n = hf_extmap_collect(&fi->extents, start, end, SEGMENTS, exts);
        hf_rwlock_rdunlock(&fi->extents.lock);
        for (size_t i = 0; i < n; i++) {
            if (exts[i].lblk > start)
                holes->v[holes->nr++] = (struct hf_run){start, exts[i].lblk - start};
            start = hf_ext_end(&exts[i]);
        }
    } while (n == SEGMENTS);
    if (start < end)
        holes->v[holes->nr++] = (struct hf_run){start, end - start};
    for (size_t i = 0; i < holes->nr; i++)
        nr += holes->v[i].nr;
    *ret_nr = nr;
    return 0;
}

/* Blocks that are there anyway, but that nobody has
 * written, are to stay, too: promises turned into blocks. */
static uint32_t flags_preallocated(uint32_t flags)
{
    return flags == 0 ? HF_EXT_PENDING : flags;
}

/* Locks the extents with memory for that many more of
 * them in so many holes: a hole may lie in a full leaf. */
static int lock_for_holes(struct hf_extmap *map, uint64_t extents, size_t holes) HF_NO_TSA
{
    for (;;) {
        size_t leaves;
        int rc;

        hf_rwlock_rdlock(&map->lock);
        leaves = map->nr_slots < holes ? map->nr_slots : holes;
        hf_rwlock_rdunlock(&map->lock);
        rc = hf_extmap_lock_for(map, extents + leaves * (HF_EXTMAP_LEAF / 2));
        if (rc != 0 || leaves == holes || map->nr_slots <= leaves)
            return rc;
        hf_extmap_unlock(map); /* it has grown meanwhile */
    }
}

/* nr blocks, which are reserved, go into the holes of [start, end): all of them, or (-ENOMEM) nothing
 * changed. */
static int fill_holes(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t start, uint64_t end,
                      const struct hf_runs *holes, uint64_t nr) HF_NO_TSA
{
    struct hf_runs runs;
    size_t run = 0;
    int rc = 0;

    hf_runs_init(&runs);
    hf_release_begin(&fs->accounts, &fi->owner); /* as in allocate() */
    if (nr != 0)
        rc = hf_space_alloc(&fs->space, goal_of(fs, fi, holes->v[0].blk), nr, &runs);
    if (rc == 0)
        rc = lock_for_holes(&fi->extents, extents_of(&runs, nr) + holes->nr + 2, holes->nr);
    if (rc == 0) {
        for (size_t i = 0; i < holes->nr; i++)
            insert_runs(fi, holes->v[i].blk, holes->v[i].nr, &runs, &run);
        hf_extmap_change(&fi->extents, start, end, flags_preallocated);
        hf_extmap_unlock(&fi->extents);
    } else if (runs.nr != 0) {
        hf_space_unalloc(&fs->space, nr, &runs);
    }
    hf_release_end(&fi->owner, 0, 0);
    hf_runs_done(&runs);
    return rc;
}

/* All of it happens in memory, so it happens as a whole; the rows come with the next commit (commit.c). */
int hf_blockfs_preallocate(struct hf_inode *inode, hf_blk_t blk, uint64_t nr, uint64_t promised)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    struct hf_runs holes;
    uint64_t nr_holes = 0, freed = 0;
    int rc = 0;

    if (fs->read_only)
        return -EROFS;
    hf_runs_init(&holes);
    hf_mutex_lock(&fs->sql_lock);
    if (fi->cut != HF_BLOCKFS_NO_CUT)
        rc = hf_blockfs_finish_cut(fs, fi, inode->nlink != 0, &freed);
    hf_mutex_unlock(&fs->sql_lock);
    atomic_fetch_sub(&inode->blocks, freed);
    if (rc == 0)
        rc = collect_holes(fi, blk, blk + nr, &holes, &nr_holes);
    assert(rc != 0 || promised <= nr_holes);
    if (rc == 0)
        rc = reserve_blocks(fs, fi, nr_holes - promised, 0);
    if (rc == 0) {
        rc = fill_holes(fs, fi, blk, blk + nr, &holes, nr_holes);
        if (rc != 0)
            unreserve(fs, fi, nr_holes - promised);
    }
    if (rc == 0) {
        hf_blockfs_mark_dirty(fs, fi);
        atomic_fetch_add(&inode->blocks, nr_holes);
    }
    hf_runs_done(&holes);
    return rc;
}

/* ---- transferring */

/* A preallocated block that the running commit is about to store stays unwritten there: its data came after
 * the flush. */
static uint32_t flags_written(uint32_t flags)
{
    return flags & HF_EXT_DATA ? flags : (flags & ~HF_EXT_SYNC) | HF_EXT_DATA | HF_EXT_PENDING;
}

/* Up to SEGMENTS extents of the transfer from blk on. */
static size_t segments(struct hf_blockfs_inode *fi, uint64_t blk, uint64_t end, struct hf_ext *ret_exts)
{
    size_t n;

    hf_rwlock_rdlock(&fi->extents.lock);
    n = hf_extmap_collect(&fi->extents, blk, end, SEGMENTS, ret_exts);
    hf_rwlock_rdunlock(&fi->extents.lock);
    return n;
}

int hf_blockfs_read(struct hf_inode *inode, void *buf, size_t len, hf_off_t off)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    uint64_t blk = (uint64_t)off / fs->block_size, end = blk + len / fs->block_size;
    struct hf_ext exts[SEGMENTS];
    char *to = buf;
    size_t n;

    assert(off % fs->block_size == 0 && len % fs->block_size == 0);
    do {
        n = segments(fi, blk, end, exts);
        for (size_t i = 0; i < n; i++) {
            size_t gap = (exts[i].lblk - blk) * fs->block_size, bytes = (size_t)exts[i].len * fs->block_size;
            int rc = 0;

            memset(to, 0, gap);
            to += gap;
            if (exts[i].flags & HF_EXT_DATA)
                rc = hf_dev_read(fs->dev, to, bytes, hf_blockfs_addr(fs, exts[i].pblk));
            else
                memset(to, 0, bytes);
            if (rc != 0)
                return rc;
            to += bytes;
            blk = hf_ext_end(&exts[i]);
        }
    } while (n == SEGMENTS);
    memset(to, 0, (end - blk) * fs->block_size);
    return 0;
}

/* The data of [start, end) is on the device. */
static int mark_written(struct hf_blockfs *fs, struct hf_blockfs_inode *fi, uint64_t start, uint64_t end)
{
    int rc = hf_extmap_lock_for(&fi->extents, 2);

    if (rc != 0)
        return rc;
    hf_extmap_change(&fi->extents, start, end, flags_written);
    hf_extmap_unlock(&fi->extents);
    hf_blockfs_mark_dirty(fs, fi);
    return 0;
}

int hf_blockfs_write(struct hf_inode *inode, const void *buf, size_t len, hf_off_t off)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    uint64_t blk = (uint64_t)off / fs->block_size, end = blk + len / fs->block_size;
    struct hf_ext exts[SEGMENTS];
    const char *from = buf;

    assert(off % fs->block_size == 0 && len % fs->block_size == 0);
    while (blk < end) {
        size_t n = segments(fi, blk, end, exts);
        uint64_t start = blk;
        bool news = false;
        int rc = 0;

        if (n == 0)
            return -EIO; /* a hole: there is no place for it, and the page that has it stays dirty */
        for (size_t i = 0; i < n && rc == 0; i++) {
            size_t bytes = (size_t)exts[i].len * fs->block_size;

            rc = exts[i].lblk != blk ? -EIO : 0;
            if (rc == 0)
                rc = hf_dev_write(fs->dev, from, bytes, hf_blockfs_addr(fs, exts[i].pblk));
            atomic_fetch_add(&fs->data_writes, 1);
            if (rc != 0)
                break;
            from += bytes;
            blk = hf_ext_end(&exts[i]);
            news = news || !(exts[i].flags & HF_EXT_DATA);
        }
        if (news && blk > start) {
            int marked = mark_written(fs, fi, start, blk);

            rc = rc != 0 ? rc : marked;
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}
