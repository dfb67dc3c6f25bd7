/* SPDX-License-Identifier: MIT */
/*
 * mapping.h - the cache: one struct hf_cache a volume, one struct hf_mapping (address_space) an inode.
 *
 * Rules that every file of cache/ keeps:
 *   R1  Pages are found, and their groups freed, under map_lock; shared is enough to find.
 *   R2  Several page locks are taken in ascending order of index, or by trylock.
 *   R3  Under a page lock: no user memory is touched (copies go through the memfd's descriptor, and meet
 * EFAULT instead of a fault), and nothing is waited for that needs a page lock. R4  The memfd is at least
 * i_size rounded up to P long; bytes of blocks that are not uptodate, and of blocks beyond i_size that nobody
 * has stored to, are zero. R5  A page-table entry changes only under the page lock (HOLD-5). Locks, top to
 * bottom: io_lock (vfs) > MM > MAP > HOLE > PAGE > I_MMAP > ICACHE > driver's. Above: vfs (reads, writes,
 * sizes) and mm (faults). Below: the driver, through driver.h.
 */
#ifndef HF_CACHE_MAPPING_H
#define HF_CACHE_MAPPING_H

#include "base/errseq.h"
#include "base/histogram.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/slab.h"
#include "cache/mm_ops.h"
#include "cache/page.h"
#include <errno.h>
#include <holdfast/driver.h>

/* Pages of one group lie side by side; groups are the leaves of the tree. */
#define HF_GROUP_SHIFT 4
#define HF_GROUP_PAGES (1u << HF_GROUP_SHIFT)
#define HF_IO_BYTES ((size_t)256 * 1024) /* the longest run read or written at once */

struct hf_page_group {
    hf_pgoff_t first; /* set at init */
    /* pages that are dirty or under writeback, a bit each; changed under the page lock */
    _Atomic uint32_t dirty;
    struct hf_page pages[HF_GROUP_PAGES];
};

struct hf_isize_ops;

struct hf_cache_config {
    enum hf_isize_sync isize_sync;
    uint64_t cache_bytes, dirty_bytes;
};

/* Counters for hf_volume_stats(): X(name). */
/* clang-format off */
#define HF_CACHE_STATS(X) \
    X(faults_load) X(faults_store) X(faults_refused) X(faults_slow) \
    X(mkwrites) X(mkcleans) X(pages_read) X(pages_written) \
    X(zero_blocks_released) X(pages_reclaimed) X(writeback_errors)
/* clang-format on */

struct hf_cache_stats {
#define X(name) _Atomic uint64_t name;
    HF_CACHE_STATS(X)
#undef X
};

struct hf_service;

struct hf_cache {
    /* set at init */
    struct hf_super *sb;
    const struct hf_isize_ops *isize;
    uint32_t page_shift, block_shift, hw_shift;
    uint32_t blocks_per_page;
    uint64_t limit_pages, dirty_limit_pages;
    struct hf_slab group_slab, node_slab;
    struct hf_service *service;

    /* atomic */
    _Atomic uint64_t nr_pages;       /* not ABSENT */
    _Atomic uint64_t nr_dirty;       /* dirty or under writeback */
    _Atomic uint64_t nr_reserved;    /* blocks: the sum over pages and promised files, HOLD-8 */
    _Atomic uint64_t nr_speculative; /* blocks reserved that no store has asked for, since the last squeeze */
    struct hf_cache_stats stats;
    struct hf_histogram latency[HF_FAULT_KINDS];

    struct hf_mutex squeeze_lock; /* rank SQUEEZE */
    struct hf_mutex list_lock;    /* rank ICACHE */
    struct hf_list mappings;      /* guarded by list_lock: all with a memfd; reclaim's clock turns it */
    void *io_buffers;             /* guarded by list_lock: free buffers of HF_IO_BYTES */
    void (*dirty_hook)(struct hf_mapping *mapping, void *arg); /* set at init: a mapping became dirty (vfs) */
    void *dirty_hook_arg;
};

struct hf_mapping {
    /* set at init */
    struct hf_cache *cache;
    struct hf_inode *inode;

    struct hf_rwlock map_lock;    /* rank MAP */
    _Atomic int memfd;            /* -1 until first needed */
    _Atomic hf_off_t memfd_bytes; /* its size: changed under io_lock (x) */
    _Atomic uintptr_t root;       /* the tree: tree.c */

    struct hf_mutex hole_lock;   /* rank HOLE: held while hole_index is not 0 */
    _Atomic uint64_t hole_index; /* 1 + index of the straddling page that is being extended, or 0 */

    hf_errseq_t wb_err;       /* HOLD-7 */
    _Atomic uint32_t wb_done; /* futex: bumped when writeback of some page ends */
    _Atomic uint64_t nr_pages, nr_dirty, nr_groups;
    _Atomic uint64_t faults_load, faults_store, faults_refused, mkwrites; /* since it came into memory */
    _Atomic int64_t dirtied_ns;   /* when the oldest dirty page became so; 0: clean */
    _Atomic uint64_t truncations; /* how often the size shrank */
    _Atomic uint64_t nr_reserved; /* blocks: the sum over its pages */
    _Atomic uint64_t promised;    /* blocks: promise.c */
    unsigned promisers;           /* who wants the whole file promised: promise.c */

    struct hf_mutex i_mmap_lock; /* rank I_MMAP */
    struct hf_list i_mmap;       /* guarded by i_mmap_lock: mm's vmas */
    _Atomic uint32_t nr_vmas;
    struct hf_list cache_link;       /* guarded by cache->list_lock */
    _Atomic uint32_t reclaim_users;  /* reclaim is looking at it: eviction waits */
    _Atomic hf_pgoff_t reclaim_hand; /* where the next pass of reclaim begins: a hint */
};

/* ---- cache.c: the volume's cache */
int hf_cache_new(struct hf_super *sb, const struct hf_cache_config *config, struct hf_cache **ret_cache);
/* All mappings are gone. Returns the number of blocks that are still reserved: 0, or HOLD-8 is broken. */
uint64_t hf_cache_free(struct hf_cache *cache);
void *hf_cache_buffer_get(struct hf_cache *cache); /* HF_IO_BYTES; NULL: no memory. async-signal-safe */
void hf_cache_buffer_put(struct hf_cache *cache, void *buffer);
/* Calls fn for every mapping that has pages, pinned, with no lock held. */
void hf_cache_each_mapping(struct hf_cache *cache, void (*fn)(struct hf_mapping *m, void *arg), void *arg);
/* Counts for the file and for the volume. */
#define hf_file_stat_add(m, name, n)                                   \
    (atomic_fetch_add_explicit(&(m)->name, (n), memory_order_relaxed), \
     atomic_fetch_add_explicit(&(m)->cache->stats.name, (n), memory_order_relaxed))
#define hf_stat_add(cache, name, n) atomic_fetch_add_explicit(&(cache)->stats.name, (n), memory_order_relaxed)

/* ---- mapping.c */
void hf_mapping_init(struct hf_mapping *m, struct hf_cache *cache, struct hf_inode *inode);
/* Last use: drops all pages and their reservations, dirty or not. No vma is left. */
void hf_mapping_done(struct hf_mapping *m);
/* The memfd is at least bytes long afterwards. Caller: io x, or nobody else knows the mapping. */
int hf_mapping_grow_memfd(struct hf_mapping *m, hf_off_t bytes);
/* What a system call on the memfd said, as the file's users are told: -ENOMEM rather than -ENOSPC. */
int hf_memfd_error(int error);
void hf_memfd_zero(struct hf_mapping *m, hf_off_t start, hf_off_t end);
int hf_memfd_read(struct hf_mapping *m, void *buf, size_t len, hf_off_t off); /* exact */
int hf_memfd_write(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off);
/* pwrite(2), from user memory too. Returns bytes > 0 or what hf_memfd_error() makes of it. */
ssize_t hf_memfd_pwrite(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off);

/* ---- tree.c: pages by index. map_lock held. */
struct hf_page *hf_page_get(struct hf_mapping *m, hf_pgoff_t index);  /* makes it; NULL: no memory */
struct hf_page *hf_page_find(struct hf_mapping *m, hf_pgoff_t index); /* NULL: never was */
struct hf_page_group *hf_page_group_of(struct hf_page *page);
/* Calls fn for each group that has pages in [first, last]; stops at the first non-zero result, which it
 * returns. */
int hf_tree_walk(struct hf_mapping *m, hf_pgoff_t first, hf_pgoff_t last,
                 int (*fn)(struct hf_mapping *m, struct hf_page_group *group, void *arg), void *arg);
/* map_lock exclusive, or last use: frees groups in which every page is absent and has no reservation. */
void hf_tree_prune(struct hf_mapping *m);
void hf_tree_free(struct hf_mapping *m);

/* ---- geometry (all inline: shifts) */
static inline hf_off_t hf_page_off(const struct hf_mapping *m, hf_pgoff_t index)
{
    return (hf_off_t)(index << m->cache->page_shift);
}
static inline hf_pgoff_t hf_page_index(const struct hf_mapping *m, hf_off_t off)
{
    return (hf_pgoff_t)off >> m->cache->page_shift;
}
static inline hf_off_t hf_page_bytes(const struct hf_cache *c)
{
    return (hf_off_t)1 << c->page_shift;
}
static inline hf_off_t hf_block_bytes(const struct hf_cache *c)
{
    return (hf_off_t)1 << c->block_shift;
}
static inline hf_off_t hf_round_up(hf_off_t off, hf_off_t unit)
{
    return (off + unit - 1) & ~(unit - 1);
}
static inline hf_blk_t hf_page_blk(const struct hf_mapping *m, const struct hf_page *page)
{
    return page->index << (m->cache->page_shift - m->cache->block_shift);
}
static inline hf_off_t hf_isize_read(const struct hf_mapping *m)
{
    return atomic_load_explicit(&m->inode->size, memory_order_acquire);
}
/* How many of the page's blocks lie inside size: 0 ... blocks_per_page. */
unsigned hf_page_nr_blocks(const struct hf_mapping *m, const struct hf_page *page, hf_off_t size);
/* The blocks that [off, off + len) touches in this page (clipped to it). */
hf_bits_t hf_page_blocks_of(const struct hf_mapping *m, const struct hf_page *page, hf_off_t off,
                            hf_off_t len);

/* ---- fill.c: making blocks uptodate. Page locked. flags: HF_NOWAIT -> -EAGAIN. */
/* Learns which blocks are allocated (MAPPED). ret_written (may be NULL): those that must be read. */
int hf_page_map_blocks(struct hf_mapping *m, struct hf_page *page, unsigned flags, hf_bits_t *ret_written);
/* The blocks of want become uptodate; an ABSENT page becomes CLEAN. A tail beyond i_size is zeroed, and if
 * it was not zero on the device, dirtied. */
int hf_page_fill(struct hf_mapping *m, struct hf_page *page, hf_bits_t want, unsigned flags);
/* Fills pages from index on that are absent and on the device, best effort, in few reads. True: the page at
 * index was one of them. map_lock shared. */
bool hf_mapping_readahead(struct hf_mapping *m, hf_pgoff_t index, unsigned nr);

/* ---- reserve.c: promises (STORE-PATH 5/9). Page locked. */
/* Every block of need is allocated or reserved afterwards,
 * or nothing changed. ret_new: those reserved now. */
int hf_page_reserve(struct hf_mapping *m, struct hf_page *page, hf_bits_t need, unsigned flags,
                    hf_bits_t *ret_new);
void hf_page_unreserve(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks);
/* Turns reserved blocks into allocated ones (HOLD-2). 0 or -ENOMEM. */
int hf_page_convert(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks);
/* The file's last user is gone: reservations that only hf_reserve() keeps are given back. No locks held. */
void hf_mapping_drop_kept(struct hf_mapping *m);
/* The volume, or somebody's quota of it, has no room. */
static inline bool hf_is_full(int r)
{
    return r == -ENOSPC || r == -EDQUOT;
}
/* On hf_is_full(): windows give back what nobody stored
 * to. True if trying again may help. No page lock held. */
bool hf_cache_squeeze(struct hf_cache *cache);

/* ---- promise.c: every hole inside i_size has its space.
 * Caller: io x, and no other lock, unless it says so. */
int hf_mapping_promise(struct hf_mapping *m); /* all or nothing; counted. -ENOSPC, -EDQUOT, -EIO */
void hf_mapping_unpromise(struct hf_mapping *m);
bool hf_mapping_is_promised(const struct hf_mapping *m);
bool hf_mapping_promise_sane(struct hf_mapping *m); /* map x */
/* Before i_size grows, all of it, or as much as there is space for (*ret_size: to where; beyond off, or it is
 * refused); after: what i_size did not reach is given back. Nothing to do for files that are not promised. */
int hf_mapping_promise_more(struct hf_mapping *m, hf_off_t new_size);
int hf_mapping_promise_some(struct hf_mapping *m, hf_off_t off, hf_off_t new_size, hf_off_t *ret_size);
void hf_mapping_promise_settle(struct hf_mapping *m, hf_off_t promised_size);
/* map x: before i_size shrinks, the holes that this cuts off; after the pages gave back theirs: they go. */
int hf_mapping_promise_cut(struct hf_mapping *m, hf_off_t new_size, uint64_t *ret_holes);
void hf_mapping_promise_cut_done(struct hf_mapping *m, uint64_t holes);
/* map x: before blocks are punched, what they will need. -ENOSPC: they cannot be, and stay promised. */
int hf_mapping_promise_punch(struct hf_mapping *m, hf_blk_t first, hf_blk_t last, uint64_t *ret_taken);
void hf_mapping_promise_punch_failed(struct hf_mapping *m, hf_blk_t first, hf_blk_t last, uint64_t taken);
/* map x: the holes of [first, last) that have a promise, of the file or of a page, if it is promised up to
 * promised_size; and that nr of the file's have become blocks. */
int hf_mapping_promise_holes(struct hf_mapping *m, hf_blk_t first, hf_blk_t last, hf_off_t promised_size,
                             uint64_t *ret_holes);
void hf_mapping_promise_used(struct hf_mapping *m, uint64_t nr);

/* ---- mkwrite.c: page_mkwrite and page_mkclean (STORE-PATH 4/9). Page locked. */
/* The hardware pages hw (bits, in the page) become storable. The page is uptodate, isize->may_mkwrite() was
 * true. */
int hf_page_mkwrite(struct hf_mapping *m, struct hf_page *page, unsigned hw, unsigned flags);
/* After it, stores fault again: WRITABLE becomes DIRTY, WB_WRITABLE becomes WB_DIRTY. */
void hf_page_mkclean(struct hf_mapping *m, struct hf_page *page);
/* The same for a run of locked pages in one upcall. */
void hf_pages_mkclean(struct hf_mapping *m, struct hf_page **pages, unsigned nr);

/* ---- dirty.c (STORE-PATH 6/9). Page locked. */
/* blocks (uptodate; allocated or reserved) are newer than the device. State: DIRTY or WB_DIRTY unless
 * writable. */
void hf_page_dirty(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks);
/* Forgets dirtiness of blocks (they were cut off, or are zero holes); the state follows. Not writable. */
void hf_page_undirty(struct hf_mapping *m, struct hf_page *page, hf_bits_t blocks);
/* The page changes state; the group's dirty bit and the counters follow. */
void hf_page_move(struct hf_mapping *m, struct hf_page *page, enum hf_page_state next);

/* Whatever the page holds is forgotten: dirty data, reservations, blocks; ABSENT afterwards. The memfd is the
 * caller's to punch, before. Not under writeback. */
void hf_page_discard(struct hf_mapping *m, struct hf_page *page);

/* ---- isize.c: the two size protocols (DESIGN 5, HOLD-4). Caller: io x, map s. */
struct hf_isize_grow {
    struct hf_mapping *m;
    hf_off_t old_size;
    hf_pgoff_t index;     /* of the straddling page of old_size */
    struct hf_page *page; /* locked by the protocol, or NULL */
    bool active;
};
struct hf_isize_ops {
    const char *name;
    /* Holds the straddling page of the size: write-protected everywhere, zero to its end. May read. -EIO. */
    int (*grow_begin)(struct hf_isize_grow *grow);
    /* Lets go of it. i_size has moved, or not. */
    void (*grow_end)(struct hf_isize_grow *grow);
    /* In page_mkwrite, page locked: false: unlock it, wait(), and start again. */
    bool (*may_mkwrite)(struct hf_mapping *m, struct hf_page *page);
    void (*wait)(struct hf_mapping *m, hf_pgoff_t index);
};
const struct hf_isize_ops *hf_isize_ops_get(enum hf_isize_sync which); /* NULL: not in this build */
int hf_isize_grow_begin(struct hf_mapping *m, struct hf_isize_grow *grow);
void hf_isize_set(struct hf_mapping *m, hf_off_t size);
void hf_isize_grow_end(struct hf_isize_grow *grow);
/* The three together: i_size becomes new_size >= i_size. 0, -EIO, -ENOMEM: nothing changed. */
int hf_isize_grow_to(struct hf_mapping *m, hf_off_t new_size);

/* ---- truncate.c. Caller: io x. */
/* Before shrinking to new_size: the block that will hold EOF is uptodate. -EIO. */
int hf_mapping_shrink_prepare(struct hf_mapping *m, hf_off_t new_size);
/* map x held: i_size becomes new_size, the tail is zero, pages beyond are gone, reservations given back. */
void hf_mapping_shrink(struct hf_mapping *m, hf_off_t new_size);
/* Before punching: the blocks that the range cuts through are uptodate and can be written (reserved or
 * allocated or holes). map x held. -EIO, -ENOSPC. */
int hf_mapping_punch_prepare(struct hf_mapping *m, hf_off_t start, hf_off_t end);
/* map x held: [start, end) reads as zeros; whole blocks are holes to the cache (the driver punches them). */
void hf_mapping_punch(struct hf_mapping *m, hf_off_t start, hf_off_t end);
/* map x held, no writeback in the range: the driver failed, and may have freed some of the blocks of [start,
 * end) (not empty): the cache learns which. Those read as zeros; a store to them has to ask again. */
void hf_mapping_remap(struct hf_mapping *m, hf_off_t start, hf_off_t end);
/* map x held: how many blocks of [start, end) (not empty) are promised. */
uint64_t hf_mapping_count_promises(struct hf_mapping *m, hf_off_t start, hf_off_t end);
/* map x held: the driver has preallocated the blocks of [start, end); their promises are used up. */
void hf_mapping_preallocated(struct hf_mapping *m, hf_off_t start, hf_off_t end);

/* ---- rw.c: copies between callers and the memfd. */
/* Caller: io s; off + len <= i_size. Returns bytes > 0, or an error if the first byte failed. */
ssize_t hf_mapping_read(struct hf_mapping *m, void *buf, size_t len, hf_off_t off);
/* Caller: io x. May extend i_size. Returns bytes > 0, or an error if the first byte failed. */
ssize_t hf_mapping_write(struct hf_mapping *m, const void *buf, size_t len, hf_off_t off);

/* ---- writeback.c (STORE-PATH 7/9 and 8/9). No page locks held; takes map_lock shared. */
#define HF_WB_SYNC 0x1u /* wait for writeback that others have begun */
/* Writes the dirty pages of [start, end), at most max_pages. Returns the first error; pages that failed stay
 * dirty. */
int hf_mapping_writeback(struct hf_mapping *m, hf_off_t start, hf_off_t end, unsigned flags,
                         uint64_t max_pages);
/* Gives back reservations of blocks that are all zero, without writing anything. Only trylocks. */
void hf_mapping_release_zero(struct hf_mapping *m);
/* The first page at or after from that is dirty or under writeback. map_lock held. */
bool hf_mapping_next_dirty(struct hf_mapping *m, hf_pgoff_t from, hf_pgoff_t *ret_index);
/* map_lock exclusive (nothing new starts): waits until no page at or after first is under writeback. */
void hf_mapping_wait_writeback(struct hf_mapping *m, hf_pgoff_t first);

/* ---- reclaim.c */
/* If the cache is over its limit: writes and drops pages until it is not, or nothing more can be. No locks
 * held. */
void hf_cache_reclaim(struct hf_cache *cache);
static inline bool hf_cache_over_limit(struct hf_cache *c)
{
    return atomic_load_explicit(&c->nr_pages, memory_order_relaxed) >= c->limit_pages;
}
static inline bool hf_cache_over_dirty(struct hf_cache *c)
{
    return atomic_load_explicit(&c->nr_dirty, memory_order_relaxed) >= c->dirty_limit_pages;
}
/* Page locked, CLEAN, no reservation: leaves the memfd and every mapping. */
void hf_page_drop(struct hf_mapping *m, struct hf_page *page);

/* ---- service.c: threads that finish what a signal handler cannot. */
int hf_service_new(struct hf_service **ret_service);
void hf_service_free(struct hf_service *service);
/* Runs fn(arg) in a service thread and waits for it. Async-signal-safe. */
void hf_service_call(struct hf_service *service, void (*fn)(void *arg), void *arg);

/* ---- looking inside */
int hf_mapping_page_info(struct hf_mapping *m, hf_pgoff_t first, unsigned count,
                         struct hf_page_info *ret_pages);
/* True if the block at off holds data that the driver may not know of yet. Caller: map s. */
bool hf_mapping_block_has_data(struct hf_mapping *m, hf_off_t off);

#endif
