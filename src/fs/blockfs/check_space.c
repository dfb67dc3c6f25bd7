/* SPDX-License-Identifier: MIT */
/*
 * check_space.c - extents: who owns them, whether they lie in the data region, and that no block has two
 * owners.
 *
 * Free space is what no extent has, so it is exact when extents are disjoint and in bounds.
 *
 * Rules of repair
 *   - an extent that cannot be (out of bounds, of no file) becomes a hole
 *   - a block that two extents name stays with the one that comes first, by inode number, then by place in
 * the file; in the other it becomes a hole: what it held there is not known any more
 *   - written blocks beyond the end of a file go: nobody was ever promised them, and they must not show when
 * it grows (HOLD-9)
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/check.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define OWNERS_NAMED 20u /* looking for the other owner reads all extents */

struct extent_row {
    int64_t ino, lblk, pblk, len, unwritten;
    bool has_inode;
    int64_t mode, size;
};

static void row_get(sqlite3_stmt *stmt, struct extent_row *row)
{
    *row = (struct extent_row){.ino = sqlite3_column_int64(stmt, 0),
                               .lblk = sqlite3_column_int64(stmt, 1),
                               .pblk = sqlite3_column_int64(stmt, 2),
                               .len = sqlite3_column_int64(stmt, 3),
                               .unwritten = sqlite3_column_int64(stmt, 4),
                               .has_inode = sqlite3_column_type(stmt, 5) != SQLITE_NULL,
                               .mode = sqlite3_column_int64(stmt, 5),
                               .size = sqlite3_column_int64(stmt, 6)};
}

static void fix_delete(struct hf_check *c, const struct extent_row *row)
{
    hf_check_fix(c, "DELETE FROM extents WHERE ino = %lld AND lblk = %lld", (long long)row->ino,
                 (long long)row->lblk);
}

/* What is said of one extent, and what is done about all of it. */
static bool check_owner(struct hf_check *c, const struct extent_row *row)
{
    if (row->has_inode && S_ISREG(row->mode))
        return true;
    hf_check_problem(c, row->has_inode ? "extent-not-file" : "extent-stray", row->ino,
                     "its blocks become free",
                     row->has_inode ? "%s is not a regular file, but has %lld blocks at %lld"
                                    : "%s does not exist, but has %lld blocks at %lld",
                     hf_check_who(c, row->ino), (long long)row->len, (long long)row->pblk);
    fix_delete(c, row);
    return false;
}

static bool check_bounds(struct hf_check *c, const struct extent_row *row)
{
    int64_t total = (int64_t)c->header.data_blocks;
    int64_t end = HF_FILE_SIZE_MAX / c->header.block_size;

    if (row->len > 0 && row->len <= UINT32_MAX && row->lblk >= 0 && row->lblk <= end &&
        row->len <= end - row->lblk && row->pblk >= 0 && row->pblk < total && row->len <= total - row->pblk)
        return true;
    hf_check_problem(c, "extent-bounds", row->ino, "it becomes a hole",
                     "%s: the extent at block %lld, %lld blocks at %lld, is out of bounds",
                     hf_check_who(c, row->ino), (long long)row->lblk, (long long)row->len,
                     (long long)row->pblk);
    fix_delete(c, row);
    return false;
}

/* Two extents for one part of a file: the later one gives way. */
static bool check_order(struct hf_check *c, const struct extent_row *row, int64_t end)
{
    if (row->lblk >= end)
        return true;
    hf_check_problem(c, "extent-doubled", row->ino, "the second loses what the first has",
                     "%s has two extents at block %lld", hf_check_who(c, row->ino), (long long)row->lblk);
    if (row->len <= end - row->lblk)
        fix_delete(c, row);
    else
        hf_check_fix(c,
                     "UPDATE extents SET lblk = %lld, pblk = pblk + %lld, len = len - %lld"
                     " WHERE ino = %lld AND lblk = %lld",
                     (long long)end, (long long)(end - row->lblk), (long long)(end - row->lblk),
                     (long long)row->ino, (long long)row->lblk);
    return false;
}

/* Segments of the metadata region lie in holes of the data region. */
static void take_holes(struct hf_check *c)
{
    c->result.blocks = c->header.data_blocks;
    for (uint32_t i = 0; i < c->header.nr_segments && c->rc == 0; i++) {
        uint64_t blk, nr = hf_blockfs_hole(&c->header, i, &blk);

        c->result.blocks -= nr;
        if (nr != 0)
            c->rc = hf_freemap_take(&c->map, blk, nr);
    }
}

static bool in_hole(const struct hf_check *c, const struct extent_row *row)
{
    for (uint32_t i = 0; i < c->header.nr_segments; i++) {
        uint64_t blk, nr = hf_blockfs_hole(&c->header, i, &blk);

        if ((uint64_t)row->pblk < blk + nr && (uint64_t)(row->pblk + row->len) > blk)
            return true;
    }
    return false;
}

/* Somebody else's extent that has the block; 0: not looked for. */
static int64_t other_owner(struct hf_check *c, const struct extent_row *row, uint64_t pblk)
{
    sqlite3_stmt *stmt;
    int64_t ino = 0;

    if (c->owners_named++ >= OWNERS_NAMED)
        return 0;
    stmt = hf_check_query(c, "extents",
                          "SELECT ino FROM extents WHERE pblk <= ?1 AND pblk + len > ?1"
                          " AND (ino != ?2 OR lblk != ?3) ORDER BY ino, lblk LIMIT 1");
    if (!stmt)
        return 0;
    sqlite3_bind_int64(stmt, 1, (int64_t)pblk);
    sqlite3_bind_int64(stmt, 2, row->ino);
    sqlite3_bind_int64(stmt, 3, row->lblk);
    while (hf_check_row(c, "extents", stmt))
        ino = sqlite3_column_int64(stmt, 0);
    return ino;
}

/* The row goes, and comes back as the parts that are still free. */
static void fix_shared(struct hf_check *c, const struct extent_row *row)
{
    uint64_t pblk = (uint64_t)row->pblk, end = pblk + (uint64_t)row->len;
    char *text = sqlite3_mprintf("DELETE FROM extents WHERE ino = %lld AND lblk = %lld", (long long)row->ino,
                                 (long long)row->lblk);

    while (text && pblk < end) {
        uint64_t nr = hf_freemap_run(&c->map, pblk, end - pblk);

        if (nr != 0 && hf_freemap_take(&c->map, pblk, nr) != 0)
            nr = 0;
        if (nr != 0)
            text =
                sqlite3_mprintf("%z;INSERT INTO extents(ino, lblk, pblk, len, unwritten)"
                                " VALUES(%lld, %lld, %lld, %lld, %lld)",
                                text, (long long)row->ino, (long long)(row->lblk + (int64_t)pblk - row->pblk),
                                (long long)pblk, (long long)nr, (long long)row->unwritten);
        pblk += nr != 0 ? nr : 1;
    }
    if (text)
        hf_check_fix(c, "%s", text);
    else
        c->rc = -ENOMEM;
    sqlite3_free(text);
}

/* False: some blocks are taken already. */
static bool check_shared(struct hf_check *c, const struct extent_row *row)
{
    uint64_t pblk = (uint64_t)row->pblk, end = pblk + (uint64_t)row->len;
    int rc = hf_freemap_take(&c->map, pblk, (uint64_t)row->len);
    char who[sizeof(c->who)];
    int64_t other;

    if (rc != -EEXIST) {
        c->rc = c->rc != 0 ? c->rc : rc;
        return true;
    }
    for (uint64_t free = hf_freemap_run(&c->map, pblk, end - pblk); free != 0 && pblk + free < end;
         free = hf_freemap_run(&c->map, pblk, end - pblk))
        pblk += free;
    other = other_owner(c, row, pblk);
    snprintf(who, sizeof(who), "%s", hf_check_who(c, row->ino));
    hf_check_problem(c, "extent-shared", row->ino, "the shared blocks become a hole in the later one",
                     "%s: block %lld of the extent at block %lld (%lld blocks at %lld) belongs to %s, too",
                     who, (long long)pblk, (long long)row->lblk, (long long)row->len, (long long)row->pblk,
                     other != 0        ? hf_check_who(c, other)
                     : in_hole(c, row) ? "the metadata"
                                       : "another extent");
    fix_shared(c, row);
    return false;
}

static void check_kind(struct hf_check *c, const struct extent_row *row)
{
    if (row->unwritten >> 1 == 0)
        return;
    hf_check_problem(c, "extent-kind", row->ino, "it reads as zeros",
                     "%s: the extent at block %lld is neither written nor unwritten (%lld)",
                     hf_check_who(c, row->ino), (long long)row->lblk, (long long)row->unwritten);
    hf_check_fix(c, "UPDATE extents SET unwritten = 1 WHERE ino = %lld AND lblk = %lld", (long long)row->ino,
                 (long long)row->lblk);
}

/* An inode among the orphans loses what is beyond its end at the next mount anyway. */
static void check_end(struct hf_check *c, const struct extent_row *row)
{
    int64_t end = row->size / c->header.block_size + (row->size % c->header.block_size != 0);
    const struct hf_check_node *node = hf_check_node(c, row->ino);

    if (row->size < 0 || row->unwritten != 0 || row->lblk + row->len <= end || (node && node->orphan))
        return;
    hf_check_problem(c, "extent-beyond-end", row->ino, "the blocks behind the end become free",
                     "%s ends at block %lld, but has data up to block %lld", hf_check_who(c, row->ino),
                     (long long)end, (long long)(row->lblk + row->len));
    if (row->lblk >= end)
        fix_delete(c, row);
    else
        hf_check_fix(c, "UPDATE extents SET len = %lld WHERE ino = %lld AND lblk = %lld",
                     (long long)(end - row->lblk), (long long)row->ino, (long long)row->lblk);
}

void hf_check_extents(struct hf_check *c)
{
    static const char text[] =
        "SELECT e.ino, e.lblk, e.pblk, e.len, e.unwritten, i.mode, i.size"
        " FROM extents AS e LEFT JOIN inodes AS i ON i.ino = e.ino ORDER BY e.ino, e.lblk";
    sqlite3_stmt *stmt = hf_check_query(c, "extents", text);
    int64_t ino = 0, end = 0;

    c->result.extents = 0;
    if (c->rc == 0)
        c->rc = hf_freemap_init(&c->map, c->header.data_blocks);
    take_holes(c);
    while (hf_check_row(c, "extents", stmt)) {
        struct extent_row row;

        hf_check_tick(c, "extents", c->result.extents++, 0);
        row_get(stmt, &row);
        if (!check_owner(c, &row) || !check_bounds(c, &row))
            continue;
        if (row.ino != ino)
            end = 0;
        ino = row.ino;
        check_kind(c, &row);
        /* One fix at a time for one row: the others come in the next round. */
        if (!check_order(c, &row, end) && c->repair)
            continue;
        end = row.lblk + row.len > end ? row.lblk + row.len : end;
        if (check_shared(c, &row) || !c->repair)
            check_end(c, &row);
    }
    c->result.blocks_used = c->result.blocks - c->map.nr_free;
}
