/* SPDX-License-Identifier: MIT */
/*
 * metadb_vfs.h - between metadb.c and its sqlite3_vfs; nobody else includes it.
 */
#ifndef HF_FS_BLOCKFS_METADB_VFS_H
#define HF_FS_BLOCKFS_METADB_VFS_H

#include "fs/blockfs/metadb.h"

#define HF_METADB_FILE "metadb" /* the only database name the vfs knows */
#define HF_METADB_WAL_HEADER 32
#define HF_METADB_WAL_FRAME (24 + (int64_t)HF_METADB_PAGE)

struct hf_metadb_region {
    hf_off_t off, len; /* on the device */
};

/* One per volume, registered with SQLite under a name of its own. Locking: the driver's mutex. */
struct hf_metadb_vfs {
    sqlite3_vfs base; /* first: SQLite hands it back */
    /* set at init */
    char name[32];
    struct hf_device *dev;
    bool read_only;
    struct hf_metadb_region wal;
    sqlite3_vfs *host; /* for time, sleep and randomness */
    /* guarded by the driver's mutex */
    struct hf_metadb_region db[1 + HF_BLOCKFS_SEGMENTS_MAX]; /* one after the other; multiples of a page */
    uint32_t nr_db;
    int64_t db_max;   /* bytes of all of them */
    int64_t db_bytes; /* size of the database as SQLite sees it */
    int64_t wal_end;  /* WAL bytes in use at most; 0 after a reset */
    bool wal_exists;  /* what xAccess() says: false only while a database is being made */
};

/* make: the regions hold no database yet. Registers the vfs. 0, -EIO, -ENOMEM. */
int hf_metadb_vfs_new(struct hf_device *dev, const struct hf_blockfs_header *header, bool read_only,
                      bool make, struct hf_metadb_vfs **ret_vfs);
/* The regions of the database become those that header says; the first ones stay what they are. */
void hf_metadb_vfs_regions(struct hf_metadb_vfs *vfs, const struct hf_blockfs_header *header);
/* Has the device guarantee bytes [from, to) of the database; inside db_max. 0, -ENOSPC, -EIO. */
int hf_metadb_vfs_guarantee(struct hf_metadb_vfs *vfs, int64_t from, int64_t to);
/* Unregisters and frees; every connection through it is closed. NULL is fine. */
void hf_metadb_vfs_free(struct hf_metadb_vfs *vfs);

#endif
