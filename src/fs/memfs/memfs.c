/* SPDX-License-Identifier: MIT */
/*
 * memfs.c - the volume, names and inodes of the filesystem in memory; see memfs.h.
 *
 * A node is what a disk would keep of an inode; struct hf_inode is the framework's copy of it while it is in
 * use, filled by read_inode() and written back by write_inode(). A node lives until its last name and its
 * last use are gone, which evict_inode() notices.
 */
#include "fs/memfs/memfs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOT_INO 1u
#define FIRST_ID 16u

struct hf_memfs_entry {
    struct hf_list link; /* in node->entries of the directory */
    uint64_t cookie;
    struct hf_memfs_node *node;
    char name[HF_NAME_MAX + 1];
};

/* ---- nodes and entries. names_lock held. */

static struct hf_memfs_node *node_new(struct hf_memfs_volume *volume, uint64_t ino,
                                      const struct hf_create *how)
{
    struct hf_memfs_node *node = calloc(1, sizeof(*node));

    if (node == NULL)
        return NULL;
    if (S_ISLNK(how->mode)) {
        node->target = strdup(how->target);
        node->size = (hf_off_t)strlen(how->target);
        if (node->target == NULL) {
            free(node);
            return NULL;
        }
    }
    node->ino = ino;
    node->mode = how->mode;
    node->uid = how->uid;
    node->gid = how->gid;
    node->rdev = how->rdev;
    node->nlink = S_ISDIR(how->mode) ? 2 : 1;
    node->atime_ns = node->mtime_ns = node->ctime_ns = node->btime_ns = how->now_ns;
    hf_list_init(&node->entries);
    hf_list_init(&node->xattrs);
    hf_rwlock_init(&node->lock, HF_RANK_EXTENTS);
    hf_list_add_tail(&volume->nodes, &node->all);
    volume->nr_nodes++;
    return node;
}

static void node_free(struct hf_memfs_volume *volume, struct hf_memfs_node *node)
{
    hf_memfs_free_blocks(volume, node, 0, HF_MEMFS_END);
    hf_memfs_free_xattrs(volume, node);
    for (size_t i = 0; i < node->nr_groups; i++)
        free(node->groups[i]);
    free(node->groups);
    while (!hf_list_empty(&node->entries)) {
        struct hf_memfs_entry *entry = hf_list_entry(node->entries.next, struct hf_memfs_entry, link);

        hf_list_del(&entry->link);
        free(entry);
    }
    hf_list_del(&node->all);
    volume->nr_nodes--;
    free(node->target);
    free(node);
}

static struct hf_memfs_entry *entry_find(struct hf_memfs_node *dir, const char *name)
{
    struct hf_list *l;

    hf_list_for_each (l, &dir->entries) {
        struct hf_memfs_entry *entry = hf_list_entry(l, struct hf_memfs_entry, link);

        if (strcmp(entry->name, name) == 0)
            return entry;
    }
    return NULL;
}

static void entry_remove(struct hf_memfs_entry *entry)
{
    hf_list_del(&entry->link);
    free(entry);
}

/* Cookies only grow, so the end of the list is the place. */
static void entry_append(struct hf_memfs_volume *volume, struct hf_memfs_node *dir,
                         struct hf_memfs_entry *entry)
{
    entry->cookie = volume->next_id++;
    hf_list_add_tail(&dir->entries, &entry->link);
}

static int entry_add(struct hf_memfs_volume *volume, struct hf_memfs_node *dir, const char *name,
                     struct hf_memfs_node *node)
{
    struct hf_memfs_entry *entry = calloc(1, sizeof(*entry));

    if (entry == NULL)
        return -ENOMEM;
    entry->node = node;
    snprintf(entry->name, sizeof(entry->name), "%s", name);
    entry_append(volume, dir, entry);
    return 0;
}

/* What a names op changes of an inode, in memory and in the node. content: a directory's entries changed. */
static void change(struct hf_inode *inode, int nlink, bool content, int64_t now_ns)
{
    struct hf_memfs_node *node = hf_memfs_node_of(inode);

    inode->nlink = (uint32_t)((int64_t)inode->nlink + nlink);
    node->nlink = inode->nlink;
    node->ctime_ns = now_ns;
    atomic_store(&inode->ctime_ns, now_ns);
    if (content) {
        node->mtime_ns = now_ns;
        atomic_store(&inode->mtime_ns, now_ns);
    }
}

static void change_parent(struct hf_inode *inode, const struct hf_inode *dir)
{
    if (S_ISDIR(inode->mode))
        hf_memfs_node_of(inode)->parent_ino = inode->parent_ino = dir->ino;
}

/* ---- names */

static int memfs_lookup(struct hf_inode *dir, const char *name, uint64_t *ret_ino)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(dir);
    struct hf_memfs_entry *entry;

    hf_mutex_lock(&volume->names_lock);
    entry = entry_find(hf_memfs_node_of(dir), name);
    if (entry != NULL)
        *ret_ino = entry->node->ino;
    hf_mutex_unlock(&volume->names_lock);
    return entry != NULL ? 0 : -ENOENT;
}

static int memfs_create(struct hf_inode *dir, const char *name, const struct hf_create *how,
                        uint64_t *ret_ino)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(dir);
    struct hf_memfs_node *node;
    int rc = -ENOMEM;

    hf_mutex_lock(&volume->names_lock);
    node = node_new(volume, volume->next_id++, how);
    if (node != NULL) {
        node->parent_ino = S_ISDIR(how->mode) ? dir->ino : 0;
        rc = name != NULL ? entry_add(volume, hf_memfs_node_of(dir), name, node) : 0;
        if (rc != 0)
            node_free(volume, node);
        else if (name == NULL)
            node->nlink = 0;
    }
    if (rc == 0) {
        *ret_ino = node->ino;
    }
    if (rc == 0 && name != NULL) {
        change(dir, S_ISDIR(how->mode) ? 1 : 0, true, how->now_ns);
    }
    hf_mutex_unlock(&volume->names_lock);
    return rc;
}

static int memfs_link(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(dir);
    int rc;

    hf_mutex_lock(&volume->names_lock);
    rc = entry_add(volume, hf_memfs_node_of(dir), name, hf_memfs_node_of(inode));
    if (rc == 0) {
        change(dir, 0, true, now_ns);
        change(inode, 1, false, now_ns);
    }
    hf_mutex_unlock(&volume->names_lock);
    return rc;
}

/* unlink and rmdir: a directory takes its "." and the ".." that counts for its parent along. */
static int memfs_remove(struct hf_inode *dir, const char *name, struct hf_inode *inode, int64_t now_ns)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(dir);
    bool is_dir = S_ISDIR(inode->mode);
    struct hf_memfs_entry *entry;
    int rc = 0;

    hf_mutex_lock(&volume->names_lock);
    entry = entry_find(hf_memfs_node_of(dir), name);
    if (entry == NULL)
        rc = -ENOENT;
    else if (!hf_list_empty(&hf_memfs_node_of(inode)->entries))
        rc = -ENOTEMPTY;
    if (rc == 0) {
        entry_remove(entry);
        change(dir, is_dir ? -1 : 0, true, now_ns);
        change(inode, is_dir ? -2 : -1, false, now_ns);
    }
    hf_mutex_unlock(&volume->names_lock);
    return rc;
}

/* inode goes from one directory to the other, and with a directory goes a link on its parent. */
static void rename_move(struct hf_inode *inode, struct hf_inode *from, struct hf_inode *to, int64_t now_ns)
{
    int links = S_ISDIR(inode->mode) ? 1 : 0;

    change(from, -links, true, now_ns);
    change(to, links, true, now_ns);
    change(inode, 0, false, now_ns);
    change_parent(inode, to);
}

static int memfs_rename(struct hf_inode *olddir, const char *oldname, struct hf_inode *inode,
                        struct hf_inode *newdir, const char *newname, struct hf_inode *target, unsigned flags,
                        int64_t now_ns)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(olddir);
    struct hf_memfs_entry *old, *new;
    int rc = 0;

    if (target != NULL && target->ino == inode->ino)
        return 0; /* two names of one file: POSIX leaves both */
    hf_mutex_lock(&volume->names_lock);
    old = entry_find(hf_memfs_node_of(olddir), oldname);
    new = entry_find(hf_memfs_node_of(newdir), newname);
    if (old == NULL || (new == NULL) != (target == NULL)) {
        rc = -ENOENT;
    } else if (flags & RENAME_EXCHANGE) {
        old->node = hf_memfs_node_of(target);
        new->node = hf_memfs_node_of(inode);
        rename_move(inode, olddir, newdir, now_ns);
        rename_move(target, newdir, olddir, now_ns);
    } else if (target != NULL && !hf_list_empty(&hf_memfs_node_of(target)->entries)) {
        rc = -ENOTEMPTY;
    } else {
        if (target != NULL) {
            entry_remove(new);
            change(target, S_ISDIR(target->mode) ? -2 : -1, false, now_ns);
            change(newdir, S_ISDIR(target->mode) ? -1 : 0, true, now_ns);
        }
        snprintf(old->name, sizeof(old->name), "%s", newname);
        if (olddir->ino !=
            newdir->ino) { /* in one directory the cookie stays: a reader in the middle finds it */
            hf_list_del(&old->link);
            entry_append(volume, hf_memfs_node_of(newdir), old);
        }
        rename_move(inode, olddir, newdir, now_ns);
    }
    hf_mutex_unlock(&volume->names_lock);
    return rc;
}

static int memfs_readdir(struct hf_inode *dir, uint64_t cookie, struct hf_dirent *ret_entry)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(dir);
    struct hf_memfs_node *node = hf_memfs_node_of(dir);
    struct hf_list *l;
    int rc = 0;

    hf_mutex_lock(&volume->names_lock);
    hf_list_for_each (l, &node->entries) {
        const struct hf_memfs_entry *entry = hf_list_entry(l, struct hf_memfs_entry, link);

        if (entry->cookie <= cookie)
            continue;
        ret_entry->ino = entry->node->ino;
        ret_entry->cookie = entry->cookie;
        ret_entry->type = (unsigned char)IFTODT(entry->node->mode);
        memcpy(ret_entry->name, entry->name, sizeof(ret_entry->name));
        rc = 1;
        break;
    }
    hf_mutex_unlock(&volume->names_lock);
    return rc;
}

static ssize_t memfs_readlink(struct hf_inode *inode, char *buf, size_t size)
{
    const char *target = hf_memfs_node_of(inode)->target; /* never changes */
    size_t len = strlen(target);

    memcpy(buf, target, len < size ? len : size);
    return (ssize_t)len;
}

/* ---- inodes */

static int memfs_read_inode(struct hf_inode *inode)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_node *node = NULL;
    struct hf_list *l;

    hf_mutex_lock(&volume->names_lock);
    hf_list_for_each (l, &volume->nodes) {
        node = hf_list_entry(l, struct hf_memfs_node, all);
        if (node->ino == inode->ino)
            break;
        node = NULL;
    }
    if (node != NULL) {
        inode->mode = node->mode;
        inode->uid = node->uid;
        inode->gid = node->gid;
        inode->nlink = node->nlink;
        inode->rdev = node->rdev;
        inode->parent_ino = node->parent_ino;
        atomic_store(&inode->atime_ns, node->atime_ns);
        inode->btime_ns = node->btime_ns;
        atomic_store(&inode->mtime_ns, node->mtime_ns);
        atomic_store(&inode->ctime_ns, node->ctime_ns);
        atomic_store(&inode->size, node->size);
        atomic_store(&inode->blocks, node->nr_blocks);
        inode->fs = node;
    }
    hf_mutex_unlock(&volume->names_lock);
    return node != NULL ? 0 : -ENOENT;
}

static int memfs_write_inode(struct hf_inode *inode, hf_off_t disk_size)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_node *node = hf_memfs_node_of(inode);

    hf_mutex_lock(&volume->names_lock);
    node->mode = inode->mode;
    node->uid = inode->uid;
    node->gid = inode->gid;
    node->atime_ns = atomic_load(&inode->atime_ns);
    node->mtime_ns = atomic_load(&inode->mtime_ns);
    node->ctime_ns = atomic_load(&inode->ctime_ns);
    node->size = disk_size;
    hf_mutex_unlock(&volume->names_lock);
    return 0;
}

static int memfs_evict_inode(struct hf_inode *inode)
{
    struct hf_memfs_volume *volume = hf_memfs_volume_of(inode);
    struct hf_memfs_node *node = hf_memfs_node_of(inode);

    hf_mutex_lock(&volume->names_lock);
    if (node->nlink == 0)
        node_free(volume, node);
    else
        hf_memfs_free_unwritten(volume, node);
    hf_mutex_unlock(&volume->names_lock);
    inode->fs = NULL;
    return 0;
}

/* All that was written is where it will stay. */
static int memfs_fsync(struct hf_inode *inode, bool datasync)
{
    (void)inode;
    (void)datasync;
    return 0;
}

/* ---- the volume */

static int memfs_mount(struct hf_super *sb)
{
    const struct hf_memfs_options *options = sb->fs;
    uint32_t size = options->block_size;
    struct hf_create root = {.mode = S_IFDIR | 0755, .uid = geteuid(), .gid = getegid()};
    struct hf_memfs_volume *volume;

    if (size < HF_BLOCK_SIZE_MIN || size > HF_BLOCK_SIZE_MAX || (size & (size - 1)) != 0 ||
        (sb->page_size != 0 && sb->page_size < size)) {
        snprintf(sb->error_text, sizeof(sb->error_text),
                 "blocks of %u bytes: a power of two from %u to %u, and not above the page size, is needed",
                 size, HF_BLOCK_SIZE_MIN, HF_BLOCK_SIZE_MAX);
        return -EINVAL;
    }
    volume = calloc(1, sizeof(*volume));
    if (volume == NULL)
        return -ENOMEM;
    volume->block_size = size;
    volume->total = options->size_bytes / size;
    atomic_store(&volume->available, volume->total);
    volume->next_id = FIRST_ID;
    hf_mutex_init(&volume->names_lock, HF_RANK_SQL);
    hf_list_init(&volume->nodes);
    if (node_new(volume, ROOT_INO, &root) == NULL) {
        free(volume);
        return -ENOMEM;
    }
    hf_list_entry(volume->nodes.next, struct hf_memfs_node, all)->parent_ino = ROOT_INO;
    sb->block_size = size;
    sb->root_ino = ROOT_INO;
    sb->fs = volume;
    return 0;
}

static int memfs_unmount(struct hf_super *sb)
{
    struct hf_memfs_volume *volume = sb->fs;

    while (!hf_list_empty(&volume->nodes))
        node_free(volume, hf_list_entry(volume->nodes.next, struct hf_memfs_node, all));
    free(volume);
    sb->fs = NULL;
    return 0;
}

static int memfs_sync(struct hf_super *sb)
{
    (void)sb;
    return 0;
}

static int memfs_statfs(struct hf_super *sb, struct hf_statfs *ret_statfs)
{
    struct hf_memfs_volume *volume = sb->fs;

    *ret_statfs = (struct hf_statfs){.block_size = volume->block_size,
                                     .page_size = sb->page_size,
                                     .blocks = volume->total,
                                     .blocks_free = atomic_load(&volume->available),
                                     .blocks_reserved = atomic_load(&volume->reserved),
                                     .inodes_free = UINT32_MAX,
                                     .driver = "memfs"};
    hf_mutex_lock(&volume->names_lock);
    ret_statfs->inodes = volume->nr_nodes;
    hf_mutex_unlock(&volume->names_lock);
    return 0;
}

const struct hf_driver hf_memfs_driver = {
    .name = "memfs",
    .mount = memfs_mount,
    .unmount = memfs_unmount,
    .sync = memfs_sync,
    .statfs = memfs_statfs,
    .lookup = memfs_lookup,
    .create = memfs_create,
    .link = memfs_link,
    .unlink = memfs_remove,
    .rmdir = memfs_remove,
    .rename = memfs_rename,
    .readdir = memfs_readdir,
    .readlink = memfs_readlink,
    .getxattr = hf_memfs_getxattr,
    .listxattr = hf_memfs_listxattr,
    .setxattr = hf_memfs_setxattr,
    .removexattr = hf_memfs_removexattr,
    .read_inode = memfs_read_inode,
    .write_inode = memfs_write_inode,
    .evict_inode = memfs_evict_inode,
    .fsync = memfs_fsync,
    .truncate = hf_memfs_truncate,
    .map = hf_memfs_map,
    .reserve = hf_memfs_reserve,
    .unreserve = hf_memfs_unreserve,
    .allocate = hf_memfs_allocate,
    .preallocate = hf_memfs_preallocate,
    .punch = hf_memfs_punch,
    .read = hf_memfs_read,
    .write = hf_memfs_write,
};
