/* SPDX-License-Identifier: MIT */
/*
 * seek.c - SEEK_DATA and SEEK_HOLE, exact to the block.
 *
 * A block is data if the driver has it written, or if the cache holds something newer there that is not all
 * zero. Unwritten (preallocated) blocks are holes, as on ext4 and xfs.
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <unistd.h>

/* From off on: is there data, and how far (bytes) is the answer the same at least? map_lock held. */
static int classify(struct hf_vnode *v, hf_off_t off, bool *ret_data, hf_off_t *ret_end)
{
    struct hf_mapping *m = &v->mapping;
    hf_off_t block = hf_block_bytes(m->cache), ext_end = HF_FILE_SIZE_MAX;
    struct hf_extent ext;
    hf_pgoff_t dirty;
    int r = hf_vnode_driver(v)->map(&v->inode, (hf_blk_t)off >> m->cache->block_shift, 0, &ext);

    if (r < 0)
        return r;
    if (ext.blk + ext.nr < (hf_blk_t)(HF_FILE_SIZE_MAX >> m->cache->block_shift))
        ext_end = (hf_off_t)((ext.blk + ext.nr) << m->cache->block_shift);
    *ret_data = ext.kind == HF_EXTENT_WRITTEN;
    *ret_end = ext_end;
    if (*ret_data || !hf_mapping_next_dirty(m, hf_page_index(m, off), &dirty))
        return 0;
    if (hf_page_off(m, dirty) > off) {
        *ret_end = hf_page_off(m, dirty) < ext_end ? hf_page_off(m, dirty) : ext_end;
        return 0;
    }
    *ret_data = hf_mapping_block_has_data(m, off);
    *ret_end = (off & ~(block - 1)) + block;
    return 0;
}

static hf_off_t seek_locked(struct hf_vnode *v, hf_off_t off, bool want_data)
{
    hf_off_t size = hf_isize_read(&v->mapping);

    while (off < size) {
        hf_off_t end = 0;
        bool data = false;
        int r = classify(v, off, &data, &end);

        if (r < 0)
            return r;
        if (data == want_data)
            return off;
        off = end;
    }
    return want_data ? -ENXIO : size;
}

hf_off_t hf_vnode_seek(struct hf_vnode *v, hf_off_t off, int whence)
{
    struct hf_mapping *m = &v->mapping;
    hf_off_t at = -ENXIO;

    hf_rwlock_rdlock(&v->io_lock);
    hf_rwlock_rdlock(&m->map_lock);
    if (off >= 0 && off < hf_isize_read(m))
        at = seek_locked(v, off, whence == SEEK_DATA);
    hf_rwlock_rdunlock(&m->map_lock);
    hf_rwlock_rdunlock(&v->io_lock);
    return at;
}
