/* SPDX-License-Identifier: MIT */
/*
 * namei.c - paths to inodes, as path_resolution(7), from the volume's root, without permission checks (those
 * are a frontend's).
 *
 * A walk holds the directory it has come to, and what is left of the path. A symlink's target is put before
 * the rest.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SYMLINKS_MAX 40

int hf_vnode_lookup(struct hf_vnode *dir, const char *name, struct hf_vnode **ret_vnode)
{
    uint64_t ino = 0;
    int r;

    if (!S_ISDIR(dir->inode.mode))
        return -ENOTDIR;
    hf_rwlock_rdlock(&dir->io_lock);
    if (strcmp(name, "..") == 0) {
        ino = dir->inode.parent_ino;
        r = 0;
    } else {
        r = hf_vnode_driver(dir)->lookup(&dir->inode, name, &ino);
    }
    hf_rwlock_rdunlock(&dir->io_lock);
    if (r == 0)
        r = hf_vnode_iget(dir->volume, ino, ret_vnode);
    if (r == 0)
        hf_vnode_seen(*ret_vnode, dir, name);
    return r < 0 ? r : 0;
}

/* Cuts the next component off walk->rest into walk->name. Sets must_be_dir if a slash follows. */
static int next_component(struct hf_walk *w)
{
    char *at = w->rest + strspn(w->rest, "/");
    size_t len = strcspn(at, "/");

    if (len > HF_NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(w->at.name, at, len);
    w->at.name[len] = '\0';
    at += len;
    w->at.must_be_dir = *at == '/';
    at += strspn(at, "/");
    memmove(w->rest, at, strlen(at) + 1);
    return 0;
}

static void enter(struct hf_walk *w, struct hf_vnode *dir)
{
    hf_vnode_put(w->at.dir);
    w->at.dir = dir;
}

/* Puts a symlink's target before the rest of the path. */
static int splice_target(struct hf_walk *w, struct hf_vnode *link)
{
    char target[HF_PATH_MAX];
    size_t rest = strlen(w->rest);
    bool slash = w->at.must_be_dir;
    ssize_t n;

    if (++w->links > SYMLINKS_MAX)
        return -ELOOP;
    hf_vnode_accessed(link);
    n = hf_vnode_driver(link)->readlink(&link->inode, target, sizeof(target));
    if (n < 0)
        return (int)n;
    if (n == 0)
        return -ENOENT;
    if ((size_t)n + rest + 2 > sizeof(w->rest))
        return -ENAMETOOLONG;
    memmove(w->rest + n + (slash ? 1 : 0), w->rest, rest + 1);
    if (slash)
        w->rest[n] = '/';
    memcpy(w->rest, target, (size_t)n);
    if (target[0] == '/')
        enter(w, hf_vnode_get(w->volume->root));
    return 0;
}

static int may_search(const struct hf_walk *w)
{
    return w->who != NULL && w->at.name[0] != '\0' ? hf_vnode_access(w->at.dir, w->who, X_OK) : 0;
}

static int step(struct hf_walk *w)
{
    struct hf_vnode *child;
    int r = may_search(w);

    if (r < 0)
        return r;
    if (strcmp(w->at.name, ".") == 0 || w->at.name[0] == '\0')
        return S_ISDIR(w->at.dir->inode.mode) ? 0 : -ENOTDIR;
    r = hf_vnode_lookup(w->at.dir, w->at.name, &child);
    if (r < 0)
        return r;
    if (S_ISLNK(child->inode.mode)) {
        r = splice_target(w, child);
        hf_vnode_put(child);
        return r;
    }
    enter(w, child);
    return S_ISDIR(child->inode.mode) ? 0 : -ENOTDIR;
}

/* Walks until the last component stands in w->at.name. */
static int walk_rest(struct hf_walk *w)
{
    for (;;) {
        int r = next_component(w);

        if (r < 0)
            return r;
        if (w->rest[0] == '\0')
            break;
        r = step(w);
        if (r < 0)
            return r;
    }
    if (strcmp(w->at.name, ".") == 0)
        w->at.name[0] = '\0';
    return S_ISDIR(w->at.dir->inode.mode) ? 0 : -ENOTDIR;
}

static int walk_as(struct hf_volume *vol, const char *path, const struct hf_caller *who, struct hf_walk *w)
{
    size_t len = strlen(path);
    int r;

    if (len == 0)
        return -ENOENT;
    if (len >= sizeof(w->rest))
        return -ENAMETOOLONG;
    w->volume = vol;
    w->who = who;
    w->at.dir = hf_vnode_get(vol->root);
    w->links = 0;
    memcpy(w->rest, path, len + 1);
    r = walk_rest(w);
    if (r < 0)
        hf_walk_done(w);
    return r;
}

int hf_walk_parent(struct hf_volume *vol, const char *path, struct hf_walk *w)
{
    return walk_as(vol, path, NULL, w);
}

int hf_walk_symlink(struct hf_walk *w, struct hf_vnode *link)
{
    int r = splice_target(w, link);

    return r < 0 ? r : walk_rest(w);
}

void hf_walk_done(struct hf_walk *w)
{
    hf_vnode_put(w->at.dir);
    w->at.dir = NULL;
}

int hf_walk_last(struct hf_walk *w, struct hf_vnode **ret_vnode)
{
    int r;

    if (w->at.name[0] == '\0') {
        *ret_vnode = hf_vnode_get(w->at.dir);
        return 0;
    }
    r = may_search(w);
    return r < 0 ? r : hf_vnode_lookup(w->at.dir, w->at.name, ret_vnode);
}

int hf_vfs_lookup(struct hf_volume *vol, const char *path, unsigned flags, struct hf_vnode **ret_vnode)
{
    return hf_vfs_lookup_as(vol, path, flags, NULL, ret_vnode);
}

int hf_vfs_lookup_as(struct hf_volume *vol, const char *path, unsigned flags, const struct hf_caller *who,
                     struct hf_vnode **ret_vnode)
{
    struct hf_vnode *v = NULL;
    struct hf_walk w;
    int r = walk_as(vol, path, who, &w);

    if (r < 0)
        return r;
    r = hf_walk_last(&w, &v);
    while (r == 0 && S_ISLNK(v->inode.mode) && ((flags & HF_WALK_FOLLOW) || w.at.must_be_dir)) {
        r = hf_walk_symlink(&w, v);
        hf_vnode_put(v);
        v = NULL;
        if (r == 0)
            r = hf_walk_last(&w, &v);
    }
    if (r == 0 && w.at.must_be_dir && !S_ISDIR(v->inode.mode)) {
        hf_vnode_put(v);
        r = -ENOTDIR;
    }
    hf_walk_done(&w);
    if (r == 0)
        *ret_vnode = v;
    return r;
}
