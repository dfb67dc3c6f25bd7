/* SPDX-License-Identifier: MIT */
/*
 * check.h - what the parts of the checker share; nobody else includes it but src/api.
 *
 * A check is a few passes over the tables, each in the order of a b-tree, so that nothing is sorted. What
 * passes need of each other is in memory: a node of 48 bytes for each inode, a bit for each used block.
 *
 *   check.c        the frame: headers, the database, the schema, rounds of passes
 *   check_rows.c   meta, inodes, symlinks, xattrs, orphans, quotas: rows that make no sense by themselves
 *   check_space.c  extents: owners, bounds, blocks with two owners, data beyond EOF
 *   check_tree.c   names: what they point to, the tree they make, link counts
 *   repair.c       the list of fixes, and carrying them out
 *
 * Repair. A pass that finds something queues SQL that mends it, and goes on. At its end its fixes are carried
 * out in one transaction (more, if the log has no room for all), and the check starts anew: so no pass ever
 * decides on what an earlier fix made stale, and a repair that was cut off is one that has not been finished
 * yet. Each fix by itself leaves the volume no worse than it was. Locks: none, the volume is ours alone.
 */
#ifndef HF_FS_BLOCKFS_CHECK_H
#define HF_FS_BLOCKFS_CHECK_H

#include "fs/blockfs/freemap.h"
#include "fs/blockfs/metadb.h"

#include <holdfast/maintain.h>

#define HF_CHECK_TEXT 1024u
#define HF_CHECK_ID_MAX (1ll << 62) /* inode numbers and cookies are below */

struct hf_check_node {
    int64_t ino;
    int64_t parent;          /* as the row has it */
    int64_t dir, cookie;     /* the name that counts; dir 0: none was found */
    uint32_t names, subdirs; /* found */
    uint32_t nlink;          /* as the row has it */
    uint16_t type;           /* mode & S_IFMT */
    uint8_t orphan;          /* has a row in "orphans" */
    uint8_t walk;            /* check_tree.c */
};

struct hf_check {
    /* set at init */
    struct hf_device *dev;
    const struct hf_check_options *opts;
    bool repair; /* queue fixes */
    bool final;  /* repairing has been tried: what is found now is left */
    struct hf_blockfs_header header;
    /* this round */
    struct hf_metadb *db;
    sqlite3 *sql;
    struct hf_check_node *nodes; /* by ino */
    size_t nr_nodes;
    int64_t max_cookie, next_id;
    int64_t lost_found; /* its inode once looked for; 0: not yet */
    struct hf_freemap map;
    sqlite3_stmt *name_stmt; /* for paths */
    unsigned owners_named;   /* how often the other owner of a block was looked for */
    bool unreadable;         /* a table could not be read to its end */
    uint64_t found;          /* problems of this round */
    char **fixes;
    size_t nr_fixes, max_fixes;
    int rc; /* first error of our own: -ENOMEM, -EIO */
    char path[HF_CHECK_TEXT / 2], who[HF_CHECK_TEXT / 2 + 64];
    /* the whole */
    uint64_t ticks;
    struct hf_check_result result;
    char *err; /* one line, HF_BLOCKFS_ERR bytes */
};

/* ---- check.c */
/* Reports. kind and repair (NULL: nothing can be done) are literals or live as long as the call. */
void hf_check_problem(struct hf_check *c, const char *kind, int64_t ino, const char *repair,
                      const char *format, ...) __attribute__((format(printf, 5, 6)));
/* "inode 17 (/a/b)", for one message at a time. */
const char *hf_check_who(struct hf_check *c, int64_t ino);
struct hf_check_node *hf_check_node(struct hf_check *c, int64_t ino);
void hf_check_tick(struct hf_check *c, const char *what, uint64_t done, uint64_t total);
/* Prepares a statement; NULL: c->rc, or c->unreadable, says why. */
sqlite3_stmt *hf_check_query(struct hf_check *c, const char *table, const char *text);
/* True: a row. At the end, or when the table cannot be read on, the statement is finalized. */
bool hf_check_row(struct hf_check *c, const char *table, sqlite3_stmt *stmt);
/* The number in the first column of the first row; fallback if there is none. */
int64_t hf_check_number(struct hf_check *c, const char *table, const char *text, int64_t fallback);
/* The whole of hf_check_device(). err says why on failure. */
int hf_blockfs_check(struct hf_device *dev, const struct hf_check_options *opts,
                     struct hf_check_result *ret_result, char err[HF_BLOCKFS_ERR]);

/* ---- dump.c: hf_dump() on a device. */
int hf_blockfs_dump(struct hf_device *dev, const char *table, const struct hf_dump_ops *ops, void *arg,
                    char err[HF_BLOCKFS_ERR]);

/* ---- passes. They stop early when c->rc or c->unreadable is set. */
void hf_check_meta(struct hf_check *c);
void hf_check_inodes(struct hf_check *c);
void hf_check_extents(struct hf_check *c);
void hf_check_names(struct hf_check *c);
void hf_check_tree(struct hf_check *c);
void hf_check_links(struct hf_check *c);

/* ---- repair.c */
/* Queues SQL that mends one thing, if this is a repair; sqlite3_mprintf() formats. */
void hf_check_fix(struct hf_check *c, const char *format, ...);
/* Queues what gives the inode a name in /lost+found. */
void hf_check_fix_lost(struct hf_check *c, const struct hf_check_node *node);
/* Carries the queue out and empties it. 0, or why the device or the region did not take it. */
int hf_check_apply(struct hf_check *c);
void hf_check_drop_fixes(struct hf_check *c);

#endif
