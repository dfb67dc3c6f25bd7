/* SPDX-License-Identifier: MIT */
/*
 * names.c - directories: lookup, create, link, unlink, rmdir, rename, readdir, readlink.
 *
 * Every op is a few statements of the running transaction: all of them are in the redo log when it returns 0,
 * none when it fails. Inodes in memory change after that. What needs new rows is refused early, while the
 * metadata region still has room for one extent per block (HOLD-2: a reservation can always be turned into an
 * extent).
 *
 * Numbers of inodes and cookies of entries come from one counter that never goes back, so neither is used
 * twice; meta.next_id runs ahead of it, to be stored seldom.
 */
#include "fs/blockfs/blockfs.h"
#include "fs/blockfs/testing.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ID_BATCH 4096u     /* meta.next_id is raised by so much */
#define ROW_ROOM_PAGES 12u /* of metadata that a few rows may need: a split in each of three trees */
#define LINK_PAGES 1u      /* a long symlink */
/* what an op on names dirties at most, as insertions into deep trees; most touch the same page again */
#define OP_ROWS 4u

/* ---- beginning and ending an op */

int hf_blockfs_op_begin(struct hf_blockfs *fs, unsigned rows, unsigned new_pages, size_t *ret_mark) HF_NO_TSA
{
    struct hf_metadb_room room;
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = hf_blockfs_make_room(fs, rows);
    *ret_mark = hf_txn_mark(&fs->txn);
    if (rc != 0 || new_pages == 0)
        return rc;
    rc = hf_metadb_room(fs->txn.db, &room);
    if (rc != 0)
        return rc;
    new_pages += ROW_ROOM_PAGES;
    if (room.db_pages < new_pages + hf_metadb_growth_pages(fs->nr_inodes + 1) +
                            hf_metadb_extent_pages(fs->space.total, fs->txn.nr_extents))
        return -ENOSPC;
    return hf_blockfs_thin_own(fs, &room, new_pages);
}

int hf_blockfs_op_end(struct hf_blockfs *fs, size_t mark, int rc) HF_NO_TSA
{
    if (rc != 0) {
        hf_txn_cancel(&fs->txn, mark);
        fs->stored_next_id = 0; /* if that was undone, it is to be set again */
    }
    hf_mutex_unlock(&fs->sql_lock);
    return rc;
}

static int new_id(struct hf_blockfs *fs, uint64_t *ret_id)
{
    if (fs->next_id >= fs->stored_next_id) {
        uint64_t next = fs->next_id + ID_BATCH;
        int rc = hf_txn_exec(&fs->txn, HF_STMT_META_SET, HF_ARGS(HF_INT(next)));

        if (rc != 0)
            return rc;
        fs->stored_next_id = next;
    }
    *ret_id = fs->next_id++;
    return 0;
}

/* ---- what an op changes in inodes: first the rows, and when all has gone well the memory */

struct change {
    struct hf_inode *inode;
    int nlink;           /* added */
    uint64_t parent_ino; /* the new one */
    bool content;        /* a directory whose entries change: mtime moves, too */
};

struct changes {
    struct change v[4];
    unsigned nr;
};

/* The change of that inode; olddir may be newdir. */
static struct change *change_of(struct changes *changes, struct hf_inode *inode)
{
    struct change *c;

    for (unsigned i = 0; i < changes->nr; i++)
        if (changes->v[i].inode == inode)
            return &changes->v[i];
    c = &changes->v[changes->nr++];
    *c = (struct change){.inode = inode, .parent_ino = inode->parent_ino};
    return c;
}

static void change_dir(struct changes *changes, struct hf_inode *dir, int nlink)
{
    struct change *c = change_of(changes, dir);

    c->nlink += nlink;
    c->content = true;
}

static int changes_store(struct hf_blockfs *fs, const struct changes *changes, int64_t now_ns)
{
    for (unsigned i = 0; i < changes->nr; i++) {
        const struct change *c = &changes->v[i];
        int64_t mtime_ns = c->content ? now_ns : atomic_load(&c->inode->mtime_ns);
        int rc = hf_txn_exec(&fs->txn, HF_STMT_INODE_LINKS,
                             HF_ARGS(HF_INT(c->inode->ino), HF_INT((int64_t)c->inode->nlink + c->nlink),
                                     HF_INT(c->parent_ino), HF_INT(mtime_ns), HF_INT(now_ns)));

        if (rc == 0 && fs->txn.changes != 1)
            rc = hf_blockfs_damaged(fs, "table inodes: inode %llu is missing",
                                    (unsigned long long)c->inode->ino);
        /* The last name: evict_inode() frees the rest, or the next mount does. */
        if (rc == 0 && (int64_t)c->inode->nlink + c->nlink == 0 && !HF_BROKEN(unlink_without_orphan))
            rc = hf_txn_exec(&fs->txn, HF_STMT_ORPHAN_SET, HF_ARGS(HF_INT(c->inode->ino), HF_INT(0)));
        if (rc != 0)
            return rc;
    }
    return 0;
}

static void changes_apply(struct hf_blockfs *fs, const struct changes *changes, int64_t now_ns)
{
    for (unsigned i = 0; i < changes->nr; i++) {
        const struct change *c = &changes->v[i];

        c->inode->nlink = (uint32_t)((int64_t)c->inode->nlink + c->nlink);
        c->inode->parent_ino = c->parent_ino;
        if (c->content)
            atomic_store(&c->inode->mtime_ns, now_ns);
        atomic_store(&c->inode->ctime_ns, now_ns);
        hf_blockfs_inode_changed(fs, c->inode);
    }
}

/* How many links an inode loses with its name: a directory's own "." goes with it. */
static int links_of_name(const struct hf_inode *inode)
{
    return S_ISDIR(inode->mode) ? 2 : 1;
}

/* ---- entries */

struct entry {
    uint64_t ino, cookie;
    int64_t type;
};

static int entry_get(struct hf_blockfs *fs, const struct hf_inode *dir, const char *name,
                     struct entry *ret_entry)
{
    sqlite3_stmt *stmt;
    int rc = hf_txn_query(&fs->txn, HF_STMT_NAME_GET, HF_ARGS(HF_INT(dir->ino), HF_BYTES(name, strlen(name))),
                          &stmt);

    if (rc != 0)
        return rc;
    rc = hf_txn_step(stmt);
    if (rc > 0)
        *ret_entry = (struct entry){.ino = (uint64_t)sqlite3_column_int64(stmt, 0),
                                    .cookie = (uint64_t)sqlite3_column_int64(stmt, 1),
                                    .type = sqlite3_column_int64(stmt, 2)};
    sqlite3_reset(stmt);
    if (rc < 0)
        return rc;
    return rc > 0 ? 0 : -ENOENT;
}

static int entry_add(struct hf_blockfs *fs, const struct hf_inode *dir, const char *name, uint64_t ino,
                     uint32_t mode)
{
    uint64_t cookie;
    int rc = new_id(fs, &cookie);

    if (rc != 0)
        return rc;
    return hf_txn_exec(&fs->txn, HF_STMT_NAME_INSERT,
                       HF_ARGS(HF_INT(dir->ino), HF_INT(cookie), HF_BYTES(name, strlen(name)), HF_INT(ino),
                               HF_INT(IFTODT(mode))));
}

static int entry_remove(struct hf_blockfs *fs, const struct hf_inode *dir, const char *name)
{
    int rc =
        hf_txn_exec(&fs->txn, HF_STMT_NAME_DELETE, HF_ARGS(HF_INT(dir->ino), HF_BYTES(name, strlen(name))));

    return rc == 0 && fs->txn.changes != 1 ? -ENOENT : rc;
}

static int dir_check_empty(struct hf_blockfs *fs, const struct hf_inode *dir)
{
    int64_t cookie;
    int rc = hf_txn_number(&fs->txn, HF_STMT_NAME_NEXT, HF_ARGS(HF_INT(dir->ino), HF_INT(0)), &cookie);

    if (rc == -ENOENT)
        return 0;
    return rc != 0 ? rc : -ENOTEMPTY;
}

/* ---- the ops */

int hf_blockfs_lookup(struct hf_inode *dir, const char *name, uint64_t *ret_ino)
{
    struct hf_blockfs *fs = hf_blockfs_of(dir->sb);
    struct entry entry;
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = entry_get(fs, dir, name, &entry);
    hf_mutex_unlock(&fs->sql_lock);
    if (rc == 0)
        *ret_ino = entry.ino;
    return rc;
}

/* Whom a new inode in dir is charged to. */
static struct hf_owner_ids new_owner(const struct hf_inode *dir, const struct hf_create *how)
{
    return (struct hf_owner_ids){{how->uid, how->gid, dir->project_inherit ? dir->project : 0}};
}

static int create_rows(struct hf_blockfs *fs, struct hf_inode *dir, const char *name,
                       const struct hf_create *how, uint64_t *ret_ino)
{
    struct hf_owner_ids ids = new_owner(dir, how);
    bool is_dir = S_ISDIR(how->mode), is_link = S_ISLNK(how->mode);
    size_t target_len = is_link ? strlen(how->target) : 0;
    uint64_t ino = 0;
    int rc = new_id(fs, &ino);

    if (rc == 0)
        rc = hf_txn_exec(&fs->txn, HF_STMT_INODE_INSERT,
                         HF_ARGS(HF_INT(ino), HF_INT(how->mode), HF_INT(how->uid), HF_INT(how->gid),
                                 HF_INT(name == NULL ? 0
                                        : is_dir     ? 2
                                                     : 1),
                                 HF_INT(how->rdev), HF_INT(is_dir ? dir->ino : 0), HF_INT(target_len),
                                 HF_INT(how->now_ns), HF_INT(ids.id[HF_QUOTA_PROJECT]),
                                 HF_INT(is_dir && dir->project_inherit ? HF_BLOCKFS_INHERIT : 0)));
    if (rc == -EEXIST)
        rc = hf_blockfs_damaged(fs, "table meta: next_id %llu is in use", (unsigned long long)ino);
    if (rc == 0 && is_link)
        rc = hf_txn_exec(&fs->txn, HF_STMT_SYMLINK_INSERT,
                         HF_ARGS(HF_INT(ino), HF_BYTES(how->target, target_len)));
    if (rc == 0 && name != NULL)
        rc = entry_add(fs, dir, name, ino, how->mode);
    else if (rc == 0)
        rc = hf_txn_exec(&fs->txn, HF_STMT_ORPHAN_SET, HF_ARGS(HF_INT(ino), HF_INT(0)));
    if (rc == 0)
        *ret_ino = ino;
    return rc;
}

/* Charges an inode to its owner-to-be. 0: hf_owner_put() is due. */
static int create_charge(struct hf_blockfs *fs, const struct hf_owner_ids *ids, struct hf_owner *ret_owner)
{
    struct hf_charge charge;
    int rc = hf_owner_get(&fs->accounts, ids, ret_owner);

    if (rc != 0)
        return rc;
    rc = hf_charge_begin(&fs->accounts, ret_owner, 0, 1, 0, &charge);
    if (rc == 0)
        hf_charge_end(&charge, true);
    else
        hf_owner_put(&fs->accounts, ret_owner);
    return rc;
}

int hf_blockfs_create(struct hf_inode *dir, const char *name, const struct hf_create *how, uint64_t *ret_ino)
{
    struct hf_blockfs *fs = hf_blockfs_of(dir->sb);
    struct hf_owner_ids ids = new_owner(dir, how);
    struct hf_owner owner = {0};
    struct changes changes = {0};
    size_t mark;
    int rc = hf_blockfs_op_begin(fs, OP_ROWS, LINK_PAGES, &mark);

    if (name != NULL)
        change_dir(&changes, dir, S_ISDIR(how->mode) ? 1 : 0);
    if (rc == 0)
        rc = create_charge(fs, &ids, &owner);
    if (rc == 0)
        rc = create_rows(fs, dir, name, how, ret_ino);
    if (rc == 0)
        rc = changes_store(fs, &changes, how->now_ns);
    if (rc == 0) {
        changes_apply(fs, &changes, how->now_ns);
        fs->nr_inodes++;
    } else if (owner.of[0] != NULL) {
        hf_owner_release(&fs->accounts, &owner, 0, 1);
    }
    hf_owner_put(&fs->accounts, &owner);
    return hf_blockfs_op_end(fs, mark, rc);
}

/* An open file without a name gets one. What a truncate could not free is still beyond its end. */
static int unorphan(struct hf_blockfs *fs, struct hf_inode *inode)
{
    if (hf_blockfs_inode_of(inode)->cut == HF_BLOCKFS_NO_CUT)
        return hf_txn_exec(&fs->txn, HF_STMT_ORPHAN_DELETE, HF_ARGS(HF_INT(inode->ino)));
    return hf_txn_exec(&fs->txn, HF_STMT_ORPHAN_SET,
                       HF_ARGS(HF_INT(inode->ino), HF_INT(atomic_load(&inode->size))));
}

int hf_blockfs_link(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns)
{
    struct hf_blockfs *fs = hf_blockfs_of(dir->sb);
    struct changes changes = {0};
    size_t mark;
    int rc = hf_blockfs_op_begin(fs, OP_ROWS, LINK_PAGES, &mark);

    change_dir(&changes, dir, 0);
    change_of(&changes, inode)->nlink = 1;
    if (rc == 0)
        rc = entry_add(fs, dir, name, inode->ino, inode->mode);
    if (rc == 0 && inode->nlink == 0)
        rc = unorphan(fs, inode);
    if (rc == 0)
        rc = changes_store(fs, &changes, now_ns);
    if (rc == 0)
        changes_apply(fs, &changes, now_ns);
    return hf_blockfs_op_end(fs, mark, rc);
}

static int remove_name(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns)
{
    struct hf_blockfs *fs = hf_blockfs_of(dir->sb);
    struct changes changes = {0};
    bool is_dir = S_ISDIR(inode->mode);
    size_t mark;
    int rc = hf_blockfs_op_begin(fs, OP_ROWS, 0, &mark);

    change_dir(&changes, dir, is_dir ? -1 : 0);
    change_of(&changes, inode)->nlink = -links_of_name(inode);
    if (rc == 0 && is_dir)
        rc = dir_check_empty(fs, inode);
    if (rc == 0)
        rc = entry_remove(fs, dir, name);
    if (rc == 0)
        rc = changes_store(fs, &changes, now_ns);
    if (rc == 0)
        changes_apply(fs, &changes, now_ns);
    return hf_blockfs_op_end(fs, mark, rc);
}

int hf_blockfs_unlink(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns)
{
    return remove_name(dir, name, inode, now_ns);
}

int hf_blockfs_rmdir(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns)
{
    return remove_name(dir, name, inode, now_ns);
}

/* ---- rename */

struct rename {
    struct hf_inode *olddir, *inode, *newdir, *target;
    const char *oldname, *newname;
};

/* inode moves from `from` to `to`; a directory takes a link on its parent along. */
static void rename_move(struct changes *changes, struct hf_inode *inode, struct hf_inode *from,
                        struct hf_inode *to)
{
    struct change *c = change_of(changes, inode);
    int links = S_ISDIR(inode->mode) ? 1 : 0;

    if (links != 0)
        c->parent_ino = to->ino;
    change_dir(changes, from, -links);
    change_dir(changes, to, links);
}

static int rename_exchange(struct hf_blockfs *fs, const struct rename *r)
{
    int rc = hf_txn_exec(&fs->txn, HF_STMT_NAME_SET_INO,
                         HF_ARGS(HF_INT(r->olddir->ino), HF_BYTES(r->oldname, strlen(r->oldname)),
                                 HF_INT(r->target->ino), HF_INT(IFTODT(r->target->mode))));

    if (rc == 0 && fs->txn.changes != 1)
        return -ENOENT;
    if (rc == 0)
        rc = hf_txn_exec(&fs->txn, HF_STMT_NAME_SET_INO,
                         HF_ARGS(HF_INT(r->newdir->ino), HF_BYTES(r->newname, strlen(r->newname)),
                                 HF_INT(r->inode->ino), HF_INT(IFTODT(r->inode->mode))));
    return rc == 0 && fs->txn.changes != 1 ? -ENOENT : rc;
}

/* In one directory the entry keeps its cookie, so that a reader in the middle does not miss it. */
static int rename_entry(struct hf_blockfs *fs, const struct rename *r)
{
    struct entry entry = {0};
    uint64_t cookie;
    int rc = 0;

    if (r->target != NULL && S_ISDIR(r->target->mode))
        rc = dir_check_empty(fs, r->target);
    if (rc == 0)
        rc = entry_get(fs, r->olddir, r->oldname, &entry);
    if (rc == 0 && r->target != NULL)
        rc = entry_remove(fs, r->newdir, r->newname);
    cookie = entry.cookie;
    if (rc == 0 && r->olddir->ino != r->newdir->ino)
        rc = new_id(fs, &cookie);
    if (rc != 0)
        return rc;
    return hf_txn_exec(&fs->txn, HF_STMT_NAME_MOVE,
                       HF_ARGS(HF_INT(r->olddir->ino), HF_INT(entry.cookie), HF_INT(r->newdir->ino),
                               HF_INT(cookie), HF_BYTES(r->newname, strlen(r->newname))));
}

int hf_blockfs_rename(struct hf_inode *olddir, const char *oldname, struct hf_inode *inode,
                      struct hf_inode *newdir, const char *newname, struct hf_inode *target, unsigned flags,
                      int64_t now_ns)
{
    struct hf_blockfs *fs = hf_blockfs_of(olddir->sb);
    const struct rename r = {.olddir = olddir,
                             .inode = inode,
                             .newdir = newdir,
                             .target = target,
                             .oldname = oldname,
                             .newname = newname};
    struct changes changes = {0};
    bool exchange = (flags & RENAME_EXCHANGE) != 0;
    size_t mark;
    int rc;

    if (target != NULL && target->ino == inode->ino)
        return 0; /* two names of one file: POSIX leaves both */
    rc = hf_blockfs_op_begin(fs, OP_ROWS, exchange ? 0 : LINK_PAGES, &mark);
    rename_move(&changes, inode, olddir, newdir);
    if (exchange) {
        rename_move(&changes, target, newdir, olddir);
    } else if (target != NULL) {
        change_of(&changes, target)->nlink = -links_of_name(target);
        change_dir(&changes, newdir, S_ISDIR(target->mode) ? -1 : 0);
    }
    if (rc == 0)
        rc = exchange ? rename_exchange(fs, &r) : rename_entry(fs, &r);
    if (rc == 0)
        rc = changes_store(fs, &changes, now_ns);
    if (rc == 0)
        changes_apply(fs, &changes, now_ns);
    return hf_blockfs_op_end(fs, mark, rc);
}

/* ---- reading */

/* What no op would have made: a program that walks the tree would end up elsewhere. */
static bool name_ok(const char *name, size_t len)
{
    if (len == 0 || len > HF_NAME_MAX || memchr(name, '/', len) != NULL || memchr(name, 0, len) != NULL)
        return false;
    return name[0] != '.' || len > 2 || (len == 2 && name[1] != '.');
}

int hf_blockfs_readdir(struct hf_inode *dir, uint64_t cookie, struct hf_dirent *ret_entry)
{
    struct hf_blockfs *fs = hf_blockfs_of(dir->sb);
    sqlite3_stmt *stmt;
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = hf_txn_query(&fs->txn, HF_STMT_NAME_NEXT, HF_ARGS(HF_INT(dir->ino), HF_INT(cookie)), &stmt);
    if (rc != 0) {
        hf_mutex_unlock(&fs->sql_lock);
        return rc;
    }
    rc = hf_txn_step(stmt);
    if (rc > 0) {
        const char *name = sqlite3_column_blob(stmt, 1);
        size_t len = (size_t)sqlite3_column_bytes(stmt, 1);

        if (!name_ok(name, len)) {
            rc = hf_blockfs_damaged(fs, "table names: directory %llu has an impossible name of %zu bytes",
                                    (unsigned long long)dir->ino, len);
        } else {
            ret_entry->cookie = (uint64_t)sqlite3_column_int64(stmt, 0);
            ret_entry->ino = (uint64_t)sqlite3_column_int64(stmt, 2);
            ret_entry->type = (unsigned char)sqlite3_column_int64(stmt, 3);
            memcpy(ret_entry->name, name, len);
            ret_entry->name[len] = 0;
        }
    }
    sqlite3_reset(stmt);
    hf_mutex_unlock(&fs->sql_lock);
    return rc;
}

ssize_t hf_blockfs_readlink(struct hf_inode *inode, char *buf, size_t size)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    sqlite3_stmt *stmt;
    ssize_t len = 0;
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = hf_txn_query(&fs->txn, HF_STMT_SYMLINK_GET, HF_ARGS(HF_INT(inode->ino)), &stmt);
    if (rc == 0) {
        rc = hf_txn_step(stmt);
        if (rc > 0) {
            len = sqlite3_column_bytes(stmt, 0);
            if (len > 0) /* of an empty one SQLite says NULL */
                memcpy(buf, sqlite3_column_blob(stmt, 0), (size_t)len < size ? (size_t)len : size);
        }
        sqlite3_reset(stmt);
        if (rc == 0)
            rc = hf_blockfs_damaged(fs, "table symlinks: the target of inode %llu is missing",
                                    (unsigned long long)inode->ino);
    }
    hf_mutex_unlock(&fs->sql_lock);
    return rc < 0 ? rc : len;
}
