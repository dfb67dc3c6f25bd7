/* SPDX-License-Identifier: MIT */
/*
 * fallocate.c - preallocate, punch, zero, as fallocate(2). Growth goes through the one path that all growth
 * takes.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

static const char zeros[65536];

static hf_blk_t blk_floor(const struct hf_mapping *m, hf_off_t off)
{
    return (hf_blk_t)off >> m->cache->block_shift;
}

static hf_blk_t blk_ceil(const struct hf_mapping *m, hf_off_t off)
{
    return blk_floor(m, off + hf_block_bytes(m->cache) - 1);
}

/* size: i_size, or what it is going to be. */
static int preallocate_once(struct hf_vnode *v, hf_off_t off, hf_off_t end, hf_off_t size)
{
    struct hf_mapping *m = &v->mapping;
    hf_blk_t first = blk_floor(m, off), last = blk_ceil(m, end);
    uint64_t of_pages, of_file;
    int r;

    hf_rwlock_wrlock(&m->map_lock);
    of_pages = hf_mapping_count_promises(m, off, end);
    r = hf_mapping_promise_holes(m, first, last, size, &of_file);
    of_file -= of_file > 0 ? of_pages : 0;
    if (r == 0)
        r = hf_vnode_driver(v)->preallocate(&v->inode, first, last - first, of_pages + of_file);
    if (r == 0) {
        hf_mapping_preallocated(m, off, end);
        hf_mapping_promise_used(m, of_file);
    }
    hf_rwlock_wrunlock(&m->map_lock);
    return r;
}

/* Blocks for [off, end), and, unless keep_size, i_size of at least end: both or nothing. */
static int preallocate(struct hf_vnode *v, hf_off_t off, hf_off_t end, bool keep_size)
{
    struct hf_mapping *m = &v->mapping;
    hf_off_t size = hf_isize_read(m);
    bool grows = !keep_size && end > size;
    int r = 0;

    if (grows)
        r = hf_vnode_size_prepare(v, end);
    if (r == 0 && grows) /* what growth will read is read now, while nothing has changed */
        r = hf_mapping_shrink_prepare(m, size);
    if (r == 0 && grows)
        r = hf_mapping_grow_memfd(m, end);
    if (r == 0 && grows)
        r = hf_mapping_promise_more(m, end);
    if (r < 0)
        return r;
    do {
        r = preallocate_once(v, off, end, grows ? end : size);
    } while (hf_is_full(r) && hf_cache_squeeze(m->cache));
    if (r == 0 && grows)
        r = hf_isize_grow_to(m, end);
    if (grows)
        hf_mapping_promise_settle(m, end);
    return r;
}

/* Returns -ENOSPC or -EDQUOT, and nothing has changed, if the file is promised and what it would have to
 * promise again cannot be had. */
static int punch_once(struct hf_vnode *v, hf_off_t off, hf_off_t end)
{
    struct hf_mapping *m = &v->mapping;
    hf_blk_t first = blk_ceil(m, off), last = blk_floor(m, end);
    uint64_t taken = 0;
    int r;

    hf_rwlock_wrlock(&m->map_lock);
    r = hf_mapping_punch_prepare(m, off, end);
    hf_mapping_wait_writeback(m, hf_page_index(m, off));
    if (r == 0)
        r = hf_mapping_promise_punch(m, first, last, &taken);
    if (r == 0 && last > first) {
        r = hf_vnode_driver(v)->punch(&v->inode, first, last - first);
        if (r < 0) {
            hf_mapping_remap(m, off, end); /* some blocks may be gone */
            hf_mapping_promise_punch_failed(m, first, last, taken);
        }
    }
    if (r == 0)
        hf_mapping_punch(m, off, end);
    hf_rwlock_wrunlock(&m->map_lock);
    return r;
}

/* The range has blocks already. What may hold data is overwritten; unwritten blocks read as zeros as they
 * are. */
static int zero(struct hf_vnode *v, hf_off_t off, hf_off_t end)
{
    struct hf_mapping *m = &v->mapping;
    hf_off_t size = hf_isize_read(m);

    if (end > size)
        end = size;
    while (off < end) {
        size_t n = sizeof(zeros) - ((size_t)off & (sizeof(zeros) - 1));
        struct hf_extent ext = {0};
        hf_pgoff_t dirty = 0;
        ssize_t done;
        bool cached;
        int r;

        if ((hf_off_t)n > end - off)
            n = (size_t)(end - off);
        hf_rwlock_rdlock(&m->map_lock);
        r = hf_vnode_driver(v)->map(&v->inode, blk_floor(m, off), 0, &ext);
        cached = hf_mapping_next_dirty(m, hf_page_index(m, off), &dirty) &&
                 hf_page_off(m, dirty) < off + (hf_off_t)n;
        hf_rwlock_rdunlock(&m->map_lock);
        if (r < 0)
            return r;
        if (ext.kind != HF_EXTENT_WRITTEN && !cached && ext.blk + ext.nr >= blk_ceil(m, off + (hf_off_t)n)) {
            off += (hf_off_t)n;
            continue;
        }
        done = hf_mapping_write(m, zeros, n, off);
        if (done < 0)
            return (int)done;
        off += done;
    }
    return 0;
}

static int punch(struct hf_vnode *v, hf_off_t off, hf_off_t end)
{
    int r = punch_once(v, off, end);

    return hf_is_full(r) ? zero(v, off, end) : r; /* reads the same, and the blocks stay */
}

static int fallocate_locked(struct hf_vnode *v, int mode, hf_off_t off, hf_off_t end)
{
    bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
    int r = hf_vnode_drop_privileges(v);

    if (r < 0)
        return r;
    if (mode & FALLOC_FL_PUNCH_HOLE) {
        r = punch(v, off, end);
    } else {
        r = preallocate(v, off, end, keep_size);
        if (r == 0 && (mode & FALLOC_FL_ZERO_RANGE))
            r = zero(v, off, end);
    }
    if (r == 0)
        hf_vnode_touch(v);
    return r;
}

int hf_vfs_fallocate(struct hf_file *f, int mode, hf_off_t off, hf_off_t len)
{
    struct hf_vnode *v = f->vnode;
    int r;

    if (!f->vm.writable)
        return -EBADF;
    if (off < 0 || len <= 0)
        return -EINVAL;
    if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) &&
        mode != FALLOC_FL_ZERO_RANGE && mode != (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
        return -EOPNOTSUPP;
    if (!S_ISREG(v->inode.mode))
        return -ENODEV;
    if (off > HF_FILE_SIZE_MAX - len)
        return -EFBIG;
    if (v->volume->sb.read_only)
        return -EROFS;
    hf_rwlock_wrlock(&v->io_lock);
    r = fallocate_locked(v, mode, off, off + len);
    hf_rwlock_wrunlock(&v->io_lock);
    return r;
}
