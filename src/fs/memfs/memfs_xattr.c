/* SPDX-License-Identifier: MIT */
/*
 * memfs_xattr.c - extended attributes of the filesystem in memory: a list at each node, under names_lock.
 *
 * All of a volume together may take HF_MEMFS_XATTR_BYTES, so that they cannot take the host's memory.
 */
#include "fs/memfs/memfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

struct hf_memfs_xattr {
    struct hf_list link; /* in node->xattrs */
    size_t size;
    char name[HF_XATTR_NAME_MAX + 1];
    unsigned char value[];
};

static struct hf_memfs_xattr *find(struct hf_memfs_node *node, const char *name)
{
    struct hf_list *l;

    hf_list_for_each (l, &node->xattrs) {
        struct hf_memfs_xattr *x = hf_list_entry(l, struct hf_memfs_xattr, link);

        if (strcmp(x->name, name) == 0)
            return x;
    }
    return NULL;
}

static void drop(struct hf_memfs_volume *volume, struct hf_memfs_xattr *x)
{
    volume->xattr_bytes -= sizeof(*x) + x->size;
    hf_list_del(&x->link);
    free(x);
}

ssize_t hf_memfs_getxattr(struct hf_inode *inode, const char *name, void *buf, size_t size)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_xattr *x;
    ssize_t n = -ENODATA;

    hf_mutex_lock(&volume->names_lock);
    x = find(hf_memfs_node_of(inode), name);
    if (x != NULL) {
        if (size > 0 && x->size > 0)
            memcpy(buf, x->value, x->size < size ? x->size : size);
        n = (ssize_t)x->size;
    }
    hf_mutex_unlock(&volume->names_lock);
    return n;
}

ssize_t hf_memfs_listxattr(struct hf_inode *inode, char *buf, size_t size)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_list *l;
    size_t total = 0;

    hf_mutex_lock(&volume->names_lock);
    hf_list_for_each (l, &hf_memfs_node_of(inode)->xattrs) {
        const struct hf_memfs_xattr *x = hf_list_entry(l, struct hf_memfs_xattr, link);
        size_t len = strlen(x->name) + 1;

        if (total + len <= size)
            memcpy(buf + total, x->name, len);
        total += len;
    }
    hf_mutex_unlock(&volume->names_lock);
    return (ssize_t)total;
}

int hf_memfs_setxattr(struct hf_inode *inode, const char *name, const void *value, size_t size, int flags)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_xattr *x = malloc(sizeof(*x) + size), *old;
    int rc = 0;

    if (x == NULL)
        return -ENOMEM;
    x->size = size;
    memcpy(x->name, name, strlen(name) + 1);
    memcpy(x->value, value, size);
    hf_mutex_lock(&volume->names_lock);
    old = find(hf_memfs_node_of(inode), name);
    if (old != NULL && (flags & XATTR_CREATE))
        rc = -EEXIST;
    else if (old == NULL && (flags & XATTR_REPLACE))
        rc = -ENODATA;
    else if (volume->xattr_bytes + sizeof(*x) + size > HF_MEMFS_XATTR_BYTES)
        rc = -ENOSPC;
    if (rc == 0) {
        if (old != NULL)
            drop(volume, old);
        volume->xattr_bytes += sizeof(*x) + size;
        hf_list_add_tail(&hf_memfs_node_of(inode)->xattrs, &x->link);
        x = NULL;
    }
    hf_mutex_unlock(&volume->names_lock);
    free(x);
    return rc;
}

int hf_memfs_removexattr(struct hf_inode *inode, const char *name)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_xattr *x;

    hf_mutex_lock(&volume->names_lock);
    x = find(hf_memfs_node_of(inode), name);
    if (x != NULL)
        drop(volume, x);
    hf_mutex_unlock(&volume->names_lock);
    return x != NULL ? 0 : -ENODATA;
}

void hf_memfs_free_xattrs(struct hf_memfs_volume *volume, struct hf_memfs_node *node)
{
    while (!hf_list_empty(&node->xattrs))
        drop(volume, hf_list_entry(node->xattrs.next, struct hf_memfs_xattr, link));
}
