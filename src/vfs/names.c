/* SPDX-License-Identifier: MIT */
/*
 * names.c - operations that change names: create, link, unlink, rmdir, rename.
 *
 * They run one at a time (names_lock), and hold io_lock exclusive of every directory and inode whose entry or
 * link count changes. Only here does a thread hold several io_locks, so their order among each other cannot
 * deadlock. References are put after all locks are gone: that may evict.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif
#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

/* Locks each of the (up to four) inodes once; NULLs and repeats are skipped. */
static void lock_all(struct hf_vnode **v, int nr) HF_NO_TSA
{
    for (int i = 0; i < nr; i++) {
        for (int j = 0; j < i && v[i] != NULL; j++)
            if (v[j] == v[i])
                v[i] = NULL;
        if (v[i] != NULL)
            hf_rwlock_wrlock(&v[i]->io_lock);
    }
}

static void unlock_all(struct hf_vnode **v, int nr) HF_NO_TSA
{
    for (int i = 0; i < nr; i++)
        if (v[i] != NULL)
            hf_rwlock_wrunlock(&v[i]->io_lock);
}

/* What a name in a directory means now: 0 and a reference, or -ENOENT. names_lock held, no io_lock. */
static int find(struct hf_vnode *dir, const char *name, struct hf_vnode **ret_vnode)
{
    uint64_t ino = 0;
    int r;

    hf_rwlock_rdlock(&dir->io_lock);
    r = dir->inode.nlink == 0 ? -ENOENT : hf_vnode_driver(dir)->lookup(&dir->inode, name, &ino);
    hf_rwlock_rdunlock(&dir->io_lock);
    return r < 0 ? r : hf_vnode_iget(dir->volume, ino, ret_vnode);
}

static bool is_dots(const char *name)
{
    return name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* In a set-group-ID directory the group is the directory's, and subdirectories are as it is. Caller: io x. */
static struct hf_create inherit(const struct hf_inode *dir, const struct hf_create *how)
{
    struct hf_create own = *how;

    if (dir->mode & S_ISGID) {
        own.gid = dir->gid;
        own.mode |= S_ISDIR(how->mode) ? S_ISGID : 0;
    }
    return own;
}

static int create_in(struct hf_vnode *dir, const char *name, const struct hf_create *how, uint64_t *ret_ino)
{
    struct hf_create own = inherit(&dir->inode, how);

    return hf_vnode_driver(dir)->create(&dir->inode, name, &own, ret_ino);
}

int hf_name_create(const struct hf_name *at, const struct hf_create *how, struct hf_vnode **ret_vnode)
{
    struct hf_volume *vol = at->dir->volume;
    uint64_t ino = 0;
    int r;

    if (is_dots(at->name))
        return -EEXIST;
    if (vol->sb.read_only)
        return -EROFS;
    hf_mutex_lock(&vol->names_lock);
    hf_rwlock_wrlock(&at->dir->io_lock);
    if (at->dir->inode.nlink == 0)
        r = -ENOENT;
    else
        r = hf_vnode_driver(at->dir)->lookup(&at->dir->inode, at->name, &ino);
    if (r == 0)
        r = -EEXIST;
    else if (r == -ENOENT && S_ISDIR(how->mode) && at->dir->inode.nlink >= HF_LINK_MAX)
        r = -EMLINK;
    else if (r == -ENOENT && at->dir->inode.nlink > 0)
        r = create_in(at->dir, at->name, how, &ino);
    hf_rwlock_wrunlock(&at->dir->io_lock);
    hf_mutex_unlock(&vol->names_lock);
    if (r < 0 || ret_vnode == NULL)
        return r;
    r = hf_vnode_iget(vol, ino, ret_vnode);
    if (r == 0)
        hf_vnode_seen(*ret_vnode, at->dir, at->name);
    return r;
}

int hf_vnode_tmpfile(struct hf_vnode *dir, const struct hf_create *how, bool linkable,
                     struct hf_vnode **ret_vnode)
{
    struct hf_vnode *v;
    uint64_t ino = 0;
    int r;

    if (!S_ISDIR(dir->inode.mode))
        return -ENOTDIR;
    if (dir->volume->sb.read_only)
        return -EROFS;
    hf_rwlock_wrlock(&dir->io_lock);
    r = dir->inode.nlink == 0 ? -ENOENT : create_in(dir, NULL, how, &ino);
    hf_rwlock_wrunlock(&dir->io_lock);
    if (r == 0)
        r = hf_vnode_iget(dir->volume, ino, &v);
    if (r < 0)
        return r;
    v->linkable = linkable; /* nobody else can know the inode yet */
    *ret_vnode = v;
    return 0;
}

int hf_vfs_mknod(struct hf_volume *vol, const char *path, const struct hf_create *how)
{
    struct hf_vnode *there = NULL;
    struct hf_walk w;
    int r = hf_walk_parent(vol, path, &w);

    if (r < 0)
        return r;
    if (w.at.must_be_dir && !S_ISDIR(how->mode) && w.at.name[0] != '\0') {
        r = hf_walk_last(&w, &there);
        r = r == 0 ? -EEXIST : r;
        hf_vnode_put(there);
    } else {
        r = hf_name_create(&w.at, how, NULL);
    }
    hf_walk_done(&w);
    return r;
}

/* *ret_gone: that was its last name. */
static int unlink_locked(const struct hf_name *at, bool directory, struct hf_vnode **ret_victim,
                         bool *ret_gone)
{
    const struct hf_driver *driver = hf_vnode_driver(at->dir);
    struct hf_vnode *victim = NULL, *locks[2];
    int r = find(at->dir, at->name, &victim);

    if (r < 0)
        return r;
    *ret_victim = victim;
    if (directory && !S_ISDIR(victim->inode.mode))
        return -ENOTDIR;
    if (!directory && S_ISDIR(victim->inode.mode))
        return -EISDIR;
    if (!directory && at->must_be_dir)
        return -ENOTDIR;
    locks[0] = at->dir;
    locks[1] = victim;
    lock_all(locks, 2);
    if (directory)
        r = driver->rmdir(&at->dir->inode, at->name, &victim->inode, hf_now_ns());
    else
        r = driver->unlink(&at->dir->inode, at->name, &victim->inode, hf_now_ns());
    *ret_gone = r == 0 && victim->inode.nlink == 0;
    unlock_all(locks, 2);
    if (r == 0)
        hf_vnode_unseen(victim, at->dir, at->name);
    return r;
}

int hf_name_unlink(const struct hf_name *at, bool directory)
{
    struct hf_volume *vol = at->dir->volume;
    struct hf_vnode *victim = NULL;
    bool gone = false;
    int r;

    if (at->name[0] == '\0' || strcmp(at->name, ".") == 0)
        return !directory ? -EISDIR : at->dir == vol->root ? -EBUSY : -EINVAL;
    if (strcmp(at->name, "..") == 0)
        return directory ? -ENOTEMPTY : -EISDIR;
    if (vol->sb.read_only)
        return -EROFS;
    hf_mutex_lock(&vol->names_lock);
    r = unlink_locked(at, directory, &victim, &gone);
    hf_mutex_unlock(&vol->names_lock);
    if (gone)
        hf_vnode_put_unlinked(victim);
    else
        hf_vnode_put(victim);
    return r;
}

int hf_vfs_unlink(struct hf_volume *vol, const char *path, bool directory)
{
    struct hf_walk w;
    int r = hf_walk_parent(vol, path, &w);

    if (r < 0)
        return r;
    r = hf_name_unlink(&w.at, directory);
    hf_walk_done(&w);
    return r;
}

static int link_locked(const struct hf_name *at, struct hf_vnode *from)
{
    struct hf_vnode *there = NULL, *locks[2] = {at->dir, from};
    int r = find(at->dir, at->name, &there);

    if (r == 0) {
        hf_vnode_put(there);
        return -EEXIST;
    }
    if (r != -ENOENT)
        return r;
    lock_all(locks, 2);
    if (at->dir->inode.nlink == 0 || (from->inode.nlink == 0 && !from->linkable))
        r = -ENOENT;
    else if (from->inode.nlink >= HF_LINK_MAX)
        r = -EMLINK;
    else
        r = hf_vnode_project_check(at->dir, from);
    if (r == 0)
        r = hf_vnode_driver(at->dir)->link(&at->dir->inode, at->name, &from->inode, hf_now_ns());
    if (r == 0)
        from->linkable = false;
    unlock_all(locks, 2);
    if (r == 0)
        hf_vnode_seen(from, at->dir, at->name);
    return r;
}

int hf_name_link(const struct hf_name *at, struct hf_vnode *from)
{
    struct hf_volume *vol = at->dir->volume;
    int r;

    if (is_dots(at->name))
        return -EEXIST;
    if (S_ISDIR(from->inode.mode))
        return -EPERM;
    if (at->must_be_dir)
        return -ENOENT;
    if (vol->sb.read_only)
        return -EROFS;
    hf_mutex_lock(&vol->names_lock);
    r = link_locked(at, from);
    hf_mutex_unlock(&vol->names_lock);
    return r;
}

int hf_vfs_link_vnode(struct hf_vnode *from, const char *to_path)
{
    struct hf_walk w;
    int r = hf_walk_parent(from->volume, to_path, &w);

    if (r < 0)
        return r;
    r = hf_name_link(&w.at, from);
    hf_walk_done(&w);
    return r;
}

int hf_vfs_link(struct hf_volume *vol, const char *from_path, const char *to_path)
{
    struct hf_vnode *from;
    int r = hf_vfs_lookup(vol, from_path, 0, &from);

    if (r < 0)
        return r;
    r = hf_vfs_link_vnode(from, to_path);
    hf_vnode_put(from);
    return r;
}

/* ---- rename */

struct rename {
    const struct hf_name *from, *to;
    struct hf_vnode *inode, *target;
    unsigned flags;
    bool gone; /* the target lost its last name */
};

/* 1 if dir is below ancestor or is it, 0 if not. names_lock held: the tree stands still. */
static int is_below(struct hf_vnode *dir, struct hf_vnode *ancestor)
{
    struct hf_vnode *at = hf_vnode_get(dir);
    int r = 0;

    while (at != ancestor && at != dir->volume->root) {
        struct hf_vnode *up = NULL;

        r = hf_vnode_iget(dir->volume, at->inode.parent_ino, &up);
        hf_vnode_put(at);
        if (r < 0)
            return r;
        at = up;
    }
    r = at == ancestor;
    hf_vnode_put(at);
    return r;
}

/* The rules of rename(2) that need both names. */
static int rename_check(struct rename *rn)
{
    bool dir = S_ISDIR(rn->inode->inode.mode), exchange = rn->flags & RENAME_EXCHANGE;
    int below = 0;

    if (!dir && (rn->from->must_be_dir || (rn->to->must_be_dir && !exchange)))
        return -ENOTDIR;
    if (rn->target != NULL && rn->to->must_be_dir && !S_ISDIR(rn->target->inode.mode))
        return -ENOTDIR;
    if (dir)
        below = is_below(rn->to->dir, rn->inode);
    if (below == 0 && exchange && rn->target != NULL && S_ISDIR(rn->target->inode.mode))
        below = is_below(rn->from->dir, rn->target);
    if (below != 0)
        return below < 0 ? below : -EINVAL;
    if (rn->target == NULL && dir && rn->from->dir != rn->to->dir && rn->to->dir->inode.nlink >= HF_LINK_MAX)
        return exchange ? -ENOENT : -EMLINK;
    if (rn->target == NULL)
        return exchange ? -ENOENT : 0;
    if (rn->flags & RENAME_NOREPLACE)
        return -EEXIST;
    if (exchange)
        return 0;
    if (dir && !S_ISDIR(rn->target->inode.mode))
        return -ENOTDIR;
    if (!dir && S_ISDIR(rn->target->inode.mode))
        return -EISDIR;
    if (S_ISDIR(rn->target->inode.mode) && is_below(rn->from->dir, rn->target) == 1)
        return -ENOTEMPTY;
    return 0;
}

/* What was seen where has moved. */
static void renamed(const struct rename *rn)
{
    if (rn->target != NULL)
        hf_vnode_unseen(rn->target, rn->to->dir, rn->to->name);
    if (rn->flags & RENAME_EXCHANGE)
        hf_vnode_seen(rn->target, rn->from->dir, rn->from->name);
    hf_vnode_seen(rn->inode, rn->to->dir, rn->to->name);
}

static int rename_locked(struct rename *rn)
{
    struct hf_vnode *locks[4];
    int r = find(rn->from->dir, rn->from->name, &rn->inode);

    if (r < 0)
        return r;
    r = find(rn->to->dir, rn->to->name, &rn->target);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT && rn->to->dir->inode.nlink == 0)
        return r;
    r = rename_check(rn);
    if (r < 0 || rn->inode == rn->target)
        return r;
    locks[0] = rn->from->dir;
    locks[1] = rn->to->dir;
    locks[2] = rn->inode;
    locks[3] = rn->target;
    lock_all(locks, 4);
    r = hf_vnode_project_check(rn->to->dir, rn->inode);
    if (r == 0 && (rn->flags & RENAME_EXCHANGE))
        r = hf_vnode_project_check(rn->from->dir, rn->target);
    if (r == 0)
        r = hf_vnode_driver(rn->inode)->rename(
            &rn->from->dir->inode, rn->from->name, &rn->inode->inode, &rn->to->dir->inode, rn->to->name,
            rn->target != NULL ? &rn->target->inode : NULL, rn->flags & RENAME_EXCHANGE, hf_now_ns());
    rn->gone = r == 0 && rn->target != NULL && rn->target->inode.nlink == 0;
    unlock_all(locks, 4);
    if (r == 0)
        renamed(rn);
    return r;
}

int hf_name_rename(const struct hf_name *from, const struct hf_name *to, unsigned flags)
{
    struct rename rn = {.from = from, .to = to, .flags = flags};
    struct hf_volume *vol = from->dir->volume;
    int r;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    if (is_dots(from->name) || is_dots(to->name))
        return flags & RENAME_NOREPLACE && is_dots(to->name) ? -EEXIST : -EBUSY;
    if (vol->sb.read_only)
        return -EROFS;
    hf_mutex_lock(&vol->names_lock);
    r = rename_locked(&rn);
    hf_mutex_unlock(&vol->names_lock);
    hf_vnode_put(rn.inode);
    if (rn.gone)
        hf_vnode_put_unlinked(rn.target);
    else
        hf_vnode_put(rn.target);
    return r;
}

int hf_vfs_rename(struct hf_volume *vol, const char *from_path, const char *to_path, unsigned flags)
{
    struct hf_walk from, to;
    int r = hf_walk_parent(vol, from_path, &from);

    if (r < 0)
        return r;
    r = hf_walk_parent(vol, to_path, &to);
    if (r == 0) {
        r = hf_name_rename(&from.at, &to.at, flags);
        hf_walk_done(&to);
    }
    hf_walk_done(&from);
    return r;
}

ssize_t hf_vnode_readlink(struct hf_vnode *v, char *buf, size_t size)
{
    char target[HF_PATH_MAX]; /* the caller's buffer may lie in a mapping: it is written without locks */
    ssize_t n = -EINVAL;

    if (S_ISLNK(v->inode.mode)) {
        hf_vnode_accessed(v);
        n = hf_vnode_driver(v)->readlink(&v->inode, target, sizeof(target));
    }
    if (n > 0)
        memcpy(buf, target, (size_t)n < size ? (size_t)n : size);
    return n;
}

ssize_t hf_vfs_readlink(struct hf_volume *vol, const char *path, char *buf, size_t size)
{
    struct hf_vnode *v;
    ssize_t n = hf_vfs_lookup(vol, path, 0, &v);

    if (n < 0)
        return n;
    n = hf_vnode_readlink(v, buf, size);
    hf_vnode_put(v);
    return n;
}
