/* SPDX-License-Identifier: MIT */
/*
 * sync.c - fsync, msync, sync, and the flusher thread.
 *
 * The driver is told a size only when all data below it has been written, and no truncate came between (a
 * truncate tells the driver its size itself). So whatever is committed, by whomever, never shows blocks that
 * were not written (STORE-PATH 9/9 is the driver's fsync()).
 */
#include "vfs/vfs.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>

static int write_inode(struct hf_vnode *v, hf_off_t size)
{
    int64_t mtime_ns = atomic_load(&v->inode.mtime_ns);
    bool atime_dirty = atomic_exchange(&v->atime_dirty, false);
    int r = hf_vnode_driver(v)->write_inode(&v->inode, size);

    if (r == 0) {
        atomic_store(&v->disk_size, size);
        atomic_store(&v->disk_mtime_ns, mtime_ns);
    } else {
        atomic_store(&v->attr_dirty, true);
        if (atime_dirty)
            atomic_store(&v->atime_dirty, true);
    }
    return r;
}

bool hf_vnode_is_dirty(struct hf_vnode *v)
{
    return atomic_load(&v->attr_dirty) || atomic_load(&v->mapping.nr_dirty) != 0 ||
           hf_isize_read(&v->mapping) != atomic_load(&v->disk_size) ||
           atomic_load(&v->inode.mtime_ns) != atomic_load(&v->disk_mtime_ns); /* page_mkwrite moves it */
}

int hf_vnode_write(struct hf_vnode *v, hf_off_t start, hf_off_t end, unsigned wb_flags)
{
    struct hf_mapping *m = &v->mapping;

    for (;;) {
        uint64_t truncations = atomic_load(&m->truncations);
        hf_off_t size = hf_isize_read(m);
        bool resized = size != atomic_load(&v->disk_size), same;
        int r;

        r = resized ? hf_mapping_writeback(m, 0, HF_FILE_SIZE_MAX, wb_flags, UINT64_MAX)
                    : hf_mapping_writeback(m, start, end, wb_flags, UINT64_MAX);
        if (r < 0)
            return r;
        if (!resized && (wb_flags & HF_WB_DATA))
            return 0;
        hf_rwlock_rdlock(&v->io_lock);
        hf_mutex_lock(&v->tell_lock);
        same = truncations == atomic_load(&m->truncations);
        if (same) {
            /* A faster thread may have told a larger size, whose data it had written: that one stands. */
            hf_off_t told = atomic_load(&v->disk_size);

            atomic_store(&v->attr_dirty, false);
            r = write_inode(v, size > told ? size : told);
        }
        hf_mutex_unlock(&v->tell_lock);
        hf_rwlock_rdunlock(&v->io_lock);
        if (same)
            return r;
    }
}

int hf_vnode_sync(struct hf_vnode *v, hf_off_t start, hf_off_t end, bool datasync)
{
    int r = 0;

    if (v->volume->sb.read_only)
        return 0;
    if (S_ISREG(v->inode.mode) || atomic_load(&v->attr_dirty))
        r = hf_vnode_write(v, start, end, HF_WB_SYNC | (datasync ? HF_WB_DATA : 0));
    if (r < 0)
        return r;
    /* STORE-PATH 9/9: device write has happened; flush and metadata commit */
    return hf_vnode_driver(v)->fsync(&v->inode, datasync);
}

int hf_vfs_fsync(struct hf_file *f, hf_off_t start, hf_off_t end, bool datasync)
{
    int r = hf_vnode_sync(f->vnode, start, end, datasync);
    int told = hf_errseq_check_advance(&f->vnode->mapping.wb_err, &f->wb_since); /* HOLD-7 */

    return told != 0 ? told : r;
}

static int write_one(struct hf_vnode *v, void *arg)
{
    (void)arg;
    bool dirty = hf_vnode_is_dirty(v) || atomic_load(&v->atime_dirty);

    return dirty ? hf_vnode_write(v, 0, HF_FILE_SIZE_MAX, HF_WB_SYNC) : 0;
}

int hf_vfs_sync(struct hf_volume *vol)
{
    int r, r2;

    if (vol->sb.read_only)
        return 0;
    r = hf_icache_each(vol, write_one, NULL);
    r2 = vol->sb.driver->sync(&vol->sb);
    return r < 0 ? r : r2;
}

/* ---- the flusher: writes dirty data that is older than writeback_ms, and commits whatever waits */

static int write_if_old(struct hf_vnode *v, void *arg)
{
    int64_t since = atomic_load(&v->mapping.dirtied_ns);
    int64_t age_ns = (int64_t)v->volume->writeback_ms * 1000000;

    (void)arg;
    if (v->inode.nlink == 0 || !hf_vnode_is_dirty(v) || (since != 0 && hf_now_ns() - since < age_ns))
        return 0;
    return hf_vnode_write(v, 0, HF_FILE_SIZE_MAX, HF_WB_SYNC);
}

static void *flusher_main(void *arg)
{
    struct hf_volume *vol = arg;
    int64_t pause_ns = (int64_t)vol->writeback_ms * 500000;

    prctl(PR_SET_NAME, "hf-flusher");
    for (;;) {
        hf_futex_wait(&vol->flusher_stop, 0,
                      pause_ns); /* first: nothing is old when it has just been opened */
        if (atomic_load(&vol->flusher_stop) != 0)
            break;
        hf_icache_each(vol, write_if_old, NULL); /* errors are kept in the mappings (HOLD-7) */
        vol->sb.driver->sync(&vol->sb);          /* an error shows at the next fsync, which commits again */
    }
    return NULL;
}

int hf_flusher_start(struct hf_volume *vol)
{
    sigset_t all, old;
    int r;

    if (vol->sb.read_only)
        return 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&vol->flusher, NULL, flusher_main, vol);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    vol->has_flusher = r == 0;
    return -r;
}

void hf_flusher_stop(struct hf_volume *vol)
{
    if (!vol->has_flusher)
        return;
    atomic_store(&vol->flusher_stop, 1u);
    hf_futex_wake(&vol->flusher_stop, INT_MAX);
    pthread_join(vol->flusher, NULL);
    vol->has_flusher = false;
}
