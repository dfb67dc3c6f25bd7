/* SPDX-License-Identifier: MIT */
/*
 * dir.c - reading directories. Cookies 1 and 2 are "." and ".."; the driver's start at 3 and never change
 * while an entry lives, so that a stream stays right while names come and go.
 */
#include "vfs/vfs.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int hf_vnode_opendir(struct hf_vnode *v, struct hf_dir **ret_dir)
{
    struct hf_dir *d;

    if (!S_ISDIR(v->inode.mode))
        return -ENOTDIR;
    d = calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    d->vnode = hf_vnode_get(v);
    hf_volume_handles_add(v->volume, 1);
    *ret_dir = d;
    return 0;
}

int hf_vfs_opendir(struct hf_volume *vol, const char *path, struct hf_dir **ret_dir)
{
    struct hf_vnode *v;
    int r = hf_vfs_lookup(vol, path, HF_WALK_FOLLOW, &v);

    if (r < 0)
        return r;
    r = hf_vnode_opendir(v, ret_dir);
    hf_vnode_put(v);
    return r;
}

static int dots(struct hf_dir *d, struct hf_dirent *ret_entry)
{
    bool self = d->cookie == 0;

    memset(ret_entry, 0, sizeof(*ret_entry));
    ret_entry->ino = self ? d->vnode->inode.ino : d->vnode->inode.parent_ino;
    ret_entry->cookie = self ? 1 : 2;
    ret_entry->type = DT_DIR;
    strcpy(ret_entry->name, self ? "." : "..");
    return 1;
}

int hf_vfs_readdir(struct hf_dir *d, struct hf_dirent *ret_entry)
{
    struct hf_vnode *v = d->vnode;
    struct hf_dirent entry; /* the caller's may lie in a mapping: it is written without locks */
    int r = 0;

    hf_rwlock_rdlock(&v->io_lock);
    if (d->cookie < 2)
        r = dots(d, &entry);
    else if (v->inode.nlink > 0)
        r = hf_vnode_driver(v)->readdir(&v->inode, d->cookie, &entry);
    hf_rwlock_rdunlock(&v->io_lock);
    if (r >= 0)
        hf_vnode_accessed(v);
    if (r != 1)
        return r;
    *ret_entry = entry;
    d->cookie = entry.cookie; /* if that was refused, the entry comes again */
    return r;
}

void hf_vfs_closedir(struct hf_dir *d)
{
    hf_volume_handles_add(d->vnode->volume, -1);
    hf_vnode_put(d->vnode);
    free(d);
}
