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

int hf_vfs_create(struct hf_walk *w, const struct hf_create *how, struct hf_vnode **ret_vnode)
{
    struct hf_volume *vol = w->volume;
    uint64_t ino = 0;
    int r;

    if (is_dots(w->name))
        return -EEXIST;
    if (vol->sb.read_only)
        return -EROFS;
    hf_mutex_lock(&vol->names_lock);
    hf_rwlock_wrlock(&w->dir->io_lock);
    if (w->dir->inode.nlink == 0)
        r = -ENOENT;
    else
        r = hf_vnode_driver(w->dir)->lookup(&w->dir->inode, w->name, &ino);
    if (r == 0)
        r = -EEXIST;
    else if (r == -ENOENT && w->dir->inode.nlink > 0)
        r = hf_vnode_driver(w->dir)->create(&w->dir->inode, w->name, how, &ino);
    hf_rwlock_wrunlock(&w->dir->io_lock);
    hf_mutex_unlock(&vol->names_lock);
    return r < 0 || ret_vnode == NULL ? r : hf_vnode_iget(vol, ino, ret_vnode);
}

int hf_vfs_mknod(struct hf_volume *vol, const char *path, const struct hf_create *how)
{
    struct hf_walk w;
    int r = hf_walk_parent(vol, path, &w);

    if (r < 0)
        return r;
    if (w.must_be_dir && !S_ISDIR(how->mode) && w.name[0] != '\0')
        r = -ENOENT;
    else
        r = hf_vfs_create(&w, how, NULL);
    hf_walk_done(&w);
    return r;
}

/* *ret_gone: that was its last name. */
static int unlink_locked(struct hf_volume *vol, struct hf_walk *w, bool directory,
                         struct hf_vnode **ret_victim, bool *ret_gone)
{
    struct hf_vnode *victim = NULL, *locks[2];
    int r = find(w->dir, w->name, &victim);

    if (r < 0)
        return r;
    *ret_victim = victim;
    if (directory && !S_ISDIR(victim->inode.mode))
        return -ENOTDIR;
    if (!directory && S_ISDIR(victim->inode.mode))
        return -EISDIR;
    if (!directory && w->must_be_dir)
        return -ENOTDIR;
    locks[0] = w->dir;
    locks[1] = victim;
    lock_all(locks, 2);
    if (directory)
        r = vol->sb.driver->rmdir(&w->dir->inode, w->name, &victim->inode, hf_now_ns());
    else
        r = vol->sb.driver->unlink(&w->dir->inode, w->name, &victim->inode, hf_now_ns());
    *ret_gone = r == 0 && victim->inode.nlink == 0;
    unlock_all(locks, 2);
    return r;
}

int hf_vfs_unlink(struct hf_volume *vol, const char *path, bool directory)
{
    struct hf_vnode *victim = NULL;
    bool gone = false;
    struct hf_walk w;
    int r = hf_walk_parent(vol, path, &w);

    if (r < 0)
        return r;
    if (w.name[0] == '\0')
        r = !directory ? -EISDIR : w.dir == vol->root ? -EBUSY : -EINVAL;
    else if (strcmp(w.name, "..") == 0)
        r = directory ? -ENOTEMPTY : -EISDIR;
    else if (vol->sb.read_only)
        r = -EROFS;
    if (r == 0) {
        hf_mutex_lock(&vol->names_lock);
        r = unlink_locked(vol, &w, directory, &victim, &gone);
        hf_mutex_unlock(&vol->names_lock);
    }
    hf_walk_done(&w);
    if (gone)
        hf_vnode_put_unlinked(victim);
    else
        hf_vnode_put(victim);
    return r;
}

static int link_locked(struct hf_volume *vol, struct hf_walk *w, struct hf_vnode *from)
{
    struct hf_vnode *there = NULL, *locks[2] = {w->dir, from};
    int r = find(w->dir, w->name, &there);

    if (r == 0) {
        hf_vnode_put(there);
        return -EEXIST;
    }
    if (r != -ENOENT)
        return r;
    lock_all(locks, 2);
    if (w->dir->inode.nlink == 0 || from->inode.nlink == 0)
        r = -ENOENT;
    else
        r = vol->sb.driver->link(&w->dir->inode, w->name, &from->inode, hf_now_ns());
    unlock_all(locks, 2);
    return r;
}

int hf_vfs_link(struct hf_volume *vol, const char *from_path, const char *to_path)
{
    struct hf_vnode *from;
    struct hf_walk w;
    int r = hf_vfs_lookup(vol, from_path, 0, &from);

    if (r < 0)
        return r;
    r = hf_walk_parent(vol, to_path, &w);
    if (r < 0) {
        hf_vnode_put(from);
        return r;
    }
    if (is_dots(w.name))
        r = -EEXIST;
    else if (S_ISDIR(from->inode.mode))
        r = -EPERM;
    else if (w.must_be_dir)
        r = -ENOENT;
    else if (vol->sb.read_only)
        r = -EROFS;
    if (r == 0) {
        hf_mutex_lock(&vol->names_lock);
        r = link_locked(vol, &w, from);
        hf_mutex_unlock(&vol->names_lock);
    }
    hf_walk_done(&w);
    hf_vnode_put(from);
    return r;
}

/* ---- rename */

struct rename {
    struct hf_volume *vol;
    struct hf_walk from, to;
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

    if (!dir && (rn->from.must_be_dir || (rn->to.must_be_dir && !exchange)))
        return -ENOTDIR;
    if (rn->target != NULL && rn->to.must_be_dir && !S_ISDIR(rn->target->inode.mode))
        return -ENOTDIR;
    if (dir)
        below = is_below(rn->to.dir, rn->inode);
    if (below == 0 && exchange && rn->target != NULL && S_ISDIR(rn->target->inode.mode))
        below = is_below(rn->from.dir, rn->target);
    if (below != 0)
        return below < 0 ? below : -EINVAL;
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
    if (S_ISDIR(rn->target->inode.mode) && is_below(rn->from.dir, rn->target) == 1)
        return -ENOTEMPTY;
    return 0;
}

static int rename_locked(struct rename *rn)
{
    struct hf_vnode *locks[4];
    int r = find(rn->from.dir, rn->from.name, &rn->inode);

    if (r < 0)
        return r;
    r = find(rn->to.dir, rn->to.name, &rn->target);
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT && rn->to.dir->inode.nlink == 0)
        return r;
    r = rename_check(rn);
    if (r < 0 || rn->inode == rn->target)
        return r;
    locks[0] = rn->from.dir;
    locks[1] = rn->to.dir;
    locks[2] = rn->inode;
    locks[3] = rn->target;
    lock_all(locks, 4);
    r = rn->vol->sb.driver->rename(&rn->from.dir->inode, rn->from.name, &rn->inode->inode, &rn->to.dir->inode,
                                   rn->to.name, rn->target != NULL ? &rn->target->inode : NULL,
                                   rn->flags & RENAME_EXCHANGE, hf_now_ns());
    rn->gone = r == 0 && rn->target != NULL && rn->target->inode.nlink == 0;
    unlock_all(locks, 4);
    return r;
}

int hf_vfs_rename(struct hf_volume *vol, const char *from, const char *to, unsigned flags)
{
    struct rename rn = {.vol = vol, .flags = flags};
    int r;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    r = hf_walk_parent(vol, from, &rn.from);
    if (r < 0)
        return r;
    r = hf_walk_parent(vol, to, &rn.to);
    if (r < 0) {
        hf_walk_done(&rn.from);
        return r;
    }
    if (is_dots(rn.from.name) || is_dots(rn.to.name))
        r = flags & RENAME_NOREPLACE && is_dots(rn.to.name) ? -EEXIST : -EBUSY;
    else if (vol->sb.read_only)
        r = -EROFS;
    if (r == 0) {
        hf_mutex_lock(&vol->names_lock);
        r = rename_locked(&rn);
        hf_mutex_unlock(&vol->names_lock);
    }
    hf_walk_done(&rn.from);
    hf_walk_done(&rn.to);
    hf_vnode_put(rn.inode);
    if (rn.gone)
        hf_vnode_put_unlinked(rn.target);
    else
        hf_vnode_put(rn.target);
    return r;
}

ssize_t hf_vfs_readlink(struct hf_volume *vol, const char *path, char *buf, size_t size)
{
    char target[HF_PATH_MAX]; /* the caller's buffer may lie in a mapping: it is written without locks */
    struct hf_vnode *v;
    ssize_t n = hf_vfs_lookup(vol, path, 0, &v);

    if (n < 0)
        return n;
    n = S_ISLNK(v->inode.mode) ? vol->sb.driver->readlink(&v->inode, target, sizeof(target)) : -EINVAL;
    hf_vnode_put(v);
    if (n > 0)
        memcpy(buf, target, (size_t)n < size ? (size_t)n : size);
    return n;
}
