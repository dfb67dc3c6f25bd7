/* SPDX-License-Identifier: MIT */
/*
 * seen.c - files for who watches a volume: their counters, and where they were last seen.
 *
 * An inode does not know its names. What looks one up, or changes one, leaves it here, one an inode; nobody
 * waits for it or relies on it. Guarded by icache_lock, which is held for short.
 */
#include "vfs/vfs.h"

#include <string.h>

#define DEPTH_MAX 64

/* Cuts the name as it is remembered. */
static void cut(const char *name, char ret_name[HF_SEEN_NAME])
{
    size_t len = strnlen(name, HF_SEEN_NAME - 1);

    memcpy(ret_name, name, len);
    ret_name[len] = '\0';
}

void hf_vnode_seen(struct hf_vnode *v, const struct hf_vnode *dir, const char *name)
{
    char seen[HF_SEEN_NAME];

    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return;
    cut(name, seen);
    hf_mutex_lock(&v->volume->icache_lock);
    v->seen_dir = dir->inode.ino;
    memcpy(v->seen_name, seen, sizeof(seen));
    hf_mutex_unlock(&v->volume->icache_lock);
}

void hf_vnode_unseen(struct hf_vnode *v, const struct hf_vnode *dir, const char *name)
{
    char seen[HF_SEEN_NAME];

    cut(name, seen);
    hf_mutex_lock(&v->volume->icache_lock);
    if (v->seen_dir == dir->inode.ino && strcmp(v->seen_name, seen) == 0)
        v->seen_dir = 0;
    hf_mutex_unlock(&v->volume->icache_lock);
}

/* Puts "/name" before what stands at *at. False: no room. */
static bool prepend(char *buf, size_t *at, const char *name)
{
    size_t len = strlen(name);

    if (len + 2 > *at) /* one byte stays for '?' */
        return false;
    *at -= len + 1;
    buf[*at] = '/';
    memcpy(buf + *at + 1, name, len);
    return true;
}

static void path_locked(struct hf_vnode *v, char *ret_path, size_t size)
{
    struct hf_volume *vol = v->volume;
    size_t at = size - 1;
    int depth = 0;

    ret_path[at] = '\0';
    while (v != NULL && v != vol->root && v->seen_dir != 0 && depth++ < DEPTH_MAX) {
        if (!prepend(ret_path, &at, v->seen_name))
            break;
        v = hf_icache_find_locked(vol, v->seen_dir);
    }
    if (v != vol->root && at < size - 1)
        ret_path[--at] = '?';
    memmove(ret_path, ret_path + at, size - at);
}

struct each {
    int (*fn)(const struct hf_file_stats *file, void *arg);
    void *arg;
    int result;
};

static void tell(struct hf_mapping *m, void *arg)
{
    struct hf_vnode *v = hf_container_of(m, struct hf_vnode, mapping);
    struct each *each = arg;
    struct hf_file_stats file = {
        .ino = v->inode.ino,
        .size = hf_isize_read(m),
        .cached_pages = atomic_load(&m->nr_pages),
        .dirty_pages = atomic_load(&m->nr_dirty),
        .blocks_reserved = atomic_load(&m->nr_reserved) + atomic_load(&m->promised),
        .mappings = atomic_load(&m->nr_vmas),
        .faults_load = atomic_load(&m->faults_load),
        .faults_store = atomic_load(&m->faults_store),
        .faults_refused = atomic_load(&m->faults_refused),
        .mkwrites = atomic_load(&m->mkwrites),
    };

    if (each->result != 0)
        return;
    hf_mutex_lock(&v->volume->icache_lock);
    file.opens = v->users;
    path_locked(v, file.path, sizeof(file.path));
    hf_mutex_unlock(&v->volume->icache_lock);
    each->result = each->fn(&file, each->arg);
}

int hf_vfs_each_file(struct hf_volume *vol, int (*fn)(const struct hf_file_stats *file, void *arg), void *arg)
{
    struct each each = {.fn = fn, .arg = arg};

    hf_cache_each_mapping(vol->cache, tell, &each);
    return each.result;
}
