/* SPDX-License-Identifier: MIT */
/*
 * metadb.h - the metadata database of a blockfs volume: SQLite in the regions of a device.
 *
 * One connection per volume, through an sqlite3_vfs of its own. WAL mode, exclusive locking,
 * synchronous=FULL. Locking: none here; the driver calls everything below, and everything on the handle,
 * under its own mutex.
 *
 * What the driver must know
 *   - SQLITE_FULL, SQLITE_IOERR and SQLITE_NOMEM may have rolled back the WHOLE running transaction
 *     (hf_metadb_in_transaction() tells). Avoid FULL by asking hf_metadb_room() before an operation that
 * inserts.
 *   - A failed hf_metadb_commit() has rolled back in memory; after a crash the transaction may be there or
 * not, as a whole.
 *   - A statement that stays un-reset after SQLITE_ROW blocks checkpoints: always reset.
 *   - The driver never sets journal, locking, cache or checkpoint pragmas.
 */
#ifndef HF_FS_BLOCKFS_METADB_H
#define HF_FS_BLOCKFS_METADB_H

#include "fs/blockfs/format.h"

#include <sqlite3.h>

#define HF_METADB_PAGE 4096u

struct hf_metadb;

/* In schema.c: creates the tables and the root inode; called once by format, inside a transaction. 0 or
 * errno. */
int hf_blockfs_schema_populate(sqlite3 *db, const struct hf_blockfs_header *header, int64_t now_ns);

/* Makes a new database in the regions. Durable on return. 0, -EIO, -ENOSPC, -ENOMEM. */
int hf_metadb_format(struct hf_device *dev, const struct hf_blockfs_header *header, char err[HF_BLOCKFS_ERR]);

/*
 * Opens the database, recovering what a crash left in the WAL. read_only: the device is only read, even then.
 * dev must outlive it. Returns 0; -EUCLEAN: damaged; -EIO; -ENOMEM. On failure err says why.
 */
int hf_metadb_open(struct hf_device *dev, const struct hf_blockfs_header *header, bool read_only,
                   char err[HF_BLOCKFS_ERR], struct hf_metadb **ret_db);

/* Rolls back what runs, checkpoints, frees. All statements must have been finalized. NULL is fine. Returns 0,
 * or the checkpoint's error: everything committed is still in the WAL then. */
int hf_metadb_close(struct hf_metadb *db);

/* The regions of the database become those of header, which has the same ones and perhaps more behind them
 * (or fewer, if those were never used). 0, -ENOMEM, -EIO: as before. */
int hf_metadb_resize(struct hf_metadb *db, const struct hf_blockfs_header *header);

sqlite3 *hf_metadb_handle(struct hf_metadb *db);

/*
 * A transaction of the driver. begin (immediate) first checkpoints if the WAL is more than half full; if that
 * is not possible any more, its error comes back and nothing has begun. commit makes durable what the device
 * holds. Returns 0, -EIO, -ENOSPC, -ENOMEM, -EUCLEAN.
 */
int hf_metadb_begin(struct hf_metadb *db);
int hf_metadb_commit(struct hf_metadb *db);
void hf_metadb_rollback(struct hf_metadb *db);
bool hf_metadb_in_transaction(struct hf_metadb *db);

/*
 * What the running transaction may still use, in pages of HF_METADB_PAGE. Both are lower bounds.
 *   wal_pages  distinct pages it may still dirty and be sure to find room in the WAL. Commit early when it
 *              gets below what the next operation needs: an insert or delete of one row dirties at most
 *              3 * (depth of its b-tree) pages, less than HF_METADB_ROW_PAGES.
 *   db_pages   pages free in the metadata region (never allocated, or on SQLite's free list).
 *   db_owned   those of them that the device has guaranteed: of thick volumes all.
 */
#define HF_METADB_ROW_PAGES 12u
struct hf_metadb_room {
    uint32_t wal_pages;
    uint32_t db_pages;
    uint32_t db_owned;
};
int hf_metadb_room(struct hf_metadb *db, struct hf_metadb_room *ret_room);
/*
 * Thin volumes: has the device guarantee what is missing until `pages` pages, or all that the metadata region
 * has, are free and guaranteed. Pages in use were guaranteed when they were free. 0, -ENOSPC, or why not.
 */
int hf_metadb_own(struct hf_metadb *db, uint64_t pages);
/* The WAL part of the above alone: no SQL, cheap. */
uint32_t hf_metadb_wal_room(struct hf_metadb *db);

/*
 * Pages that must stay free, so that every one of nr_blocks data blocks can become an extent of its own,
 * whatever the history; nr_extents rows exist (or fewer are claimed: then the answer is larger). An operation
 * that adds inodes, names or xattrs is refused (-ENOSPC) when room.db_pages < this + what it needs itself.
 */
uint32_t hf_metadb_extent_pages(uint64_t nr_blocks, uint64_t nr_extents);
/* Likewise, so that the rows of nr_inodes inodes may get longer (size, owners and times are in them), and the
 * full pages they lie in be split. */
uint32_t hf_metadb_growth_pages(uint64_t nr_inodes);

/* Copies the WAL into the database and empties it. Not inside a transaction (-EBUSY). */
int hf_metadb_checkpoint(struct hf_metadb *db);

/* PRAGMA quick_check, up to the first fault. 0; -EUCLEAN: err has SQLite's words. */
int hf_metadb_quick_check(struct hf_metadb *db, char err[HF_BLOCKFS_ERR]);

/* A result code of SQLite, primary or extended, as 0 (OK, ROW, DONE) or a negative errno. */
int hf_metadb_errno(int sqlite_rc);

#endif
