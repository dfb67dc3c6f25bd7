/* SPDX-License-Identifier: MIT */
/*
 * schema.c - the tables of a volume, and the root directory.
 *
 * Free space is not among them: it is what no extent has, computed at mount, so it cannot disagree with the
 * extents. Tables are STRICT: "PRAGMA quick_check" finds values of a wrong type. docs/format.md describes
 * them.
 *   meta     one row
 *   extents  one row per run of blocks; unwritten: preallocated, reads as zeros
 *   names    cookie: the order of readdir(); never used twice
 *   xattrs   extended attributes, one row each
 *   orphans  inodes that a crash must not leave half freed. Size 0 and no links: deleted; else blocks beyond size
 *   quotas   limits of users, groups and projects that have some (quota.c)
 */
#include "fs/blockfs/blockfs.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const char tables[] =
    "CREATE TABLE meta(schema_version INTEGER NOT NULL, next_id INTEGER NOT NULL) STRICT;"
    "CREATE TABLE inodes(ino INTEGER PRIMARY KEY, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER "
    "NOT NULL,"
    " nlink INTEGER NOT NULL, rdev INTEGER NOT NULL, parent INTEGER NOT NULL, size INTEGER NOT NULL,"
    " atime INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, btime INTEGER NOT NULL,"
    " project INTEGER NOT NULL, flags INTEGER NOT NULL) STRICT;"
    "CREATE TABLE names(dir INTEGER NOT NULL, cookie INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT "
    "NULL,"
    " type INTEGER NOT NULL, PRIMARY KEY(dir, cookie)) STRICT, WITHOUT ROWID;"
    "CREATE UNIQUE INDEX names_by_name ON names(dir, name);"
    "CREATE TABLE symlinks(ino INTEGER PRIMARY KEY, target BLOB NOT NULL) STRICT;"
    "CREATE TABLE extents(ino INTEGER NOT NULL, lblk INTEGER NOT NULL, pblk INTEGER NOT NULL, len INTEGER "
    "NOT NULL,"
    " unwritten INTEGER NOT NULL, PRIMARY KEY(ino, lblk)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE xattrs(ino INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL,"
    " PRIMARY KEY(ino, name)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE orphans(ino INTEGER PRIMARY KEY, size INTEGER NOT NULL) STRICT;"
    "CREATE TABLE quotas(type INTEGER NOT NULL, id INTEGER NOT NULL, blocks_soft INTEGER NOT NULL, "
    "blocks_hard "
    "INTEGER NOT NULL,"
    " inodes_soft INTEGER NOT NULL, inodes_hard INTEGER NOT NULL, grace INTEGER NOT NULL,"
    " blocks_end INTEGER NOT NULL, inodes_end INTEGER NOT NULL, PRIMARY KEY(type, id)) STRICT, WITHOUT "
    "ROWID;";

int hf_blockfs_schema_populate(sqlite3 *db, const struct hf_blockfs_header *header, int64_t now_ns)
{
    char rows[512];
    int rc;

    (void)header;
    snprintf(rows, sizeof(rows),
             "INSERT INTO meta VALUES(%d, %u);"
             "INSERT INTO inodes VALUES(%u, %u, %u, %u, 2, 0, %u, 0, %lld, %lld, %lld, %lld, 0, 0);",
             HF_BLOCKFS_SCHEMA, HF_BLOCKFS_FIRST_ID, HF_BLOCKFS_ROOT_INO, S_IFDIR | 0755u, geteuid(),
             getegid(), HF_BLOCKFS_ROOT_INO, (long long)now_ns, (long long)now_ns, (long long)now_ns,
             (long long)now_ns);
    rc = sqlite3_exec(db, tables, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, rows, NULL, NULL, NULL);
    return hf_metadb_errno(rc);
}
