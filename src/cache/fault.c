/* SPDX-License-Identifier: MIT */
/*
 * fault.c - one function decides every fault (STORE-PATH 3/9): beyond EOF, fill, page_mkwrite, install.
 *
 * Lock order on this path, from the top: MM (shared, mm's) > MAP (shared) > PAGE > I_MMAP > ICACHE > the
 * driver's EXTENTS > SPACE. io_lock is never taken. With HF_NOWAIT the attempt runs in the faulting thread's
 * signal handler; what it cannot do without blocking (-EAGAIN), and what may be refused too early (-ENOSPC or
 * -EDQUOT while windows hold unused promises), is done again from the start in a service thread.
 *
 * Around the page, a window of neighbours is mapped when access is sequential: never past EOF, never waiting,
 * and stores' windows only with space that the driver calls plentiful (HF_SPECULATIVE).
 */
#include "base/fault_mark.h"
#include "base/trace.h"
#include "cache/mapping.h"

#include <assert.h>
#include <errno.h>

#define WINDOW_MAX 32u
/* Of the faults that a signal handler completes at once, one of so many is timed, and counts for all of them:
 * two looks at the clock would be three per cent of such a fault. */
#define TIMED_ONE_OF 16u

struct attempt {
    struct hf_mapping *m;
    struct hf_fault_ctx *ctx;
    struct hf_page *page;
    hf_off_t size; /* i_size under the page lock */
    unsigned hw;   /* hardware pages of page that become accessible */
    bool store;    /* page_mkwrite is due */
    bool hole;     /* the memfd has nothing there yet */
    struct hf_page *window[WINDOW_MAX];
    unsigned nr_window;
};

/* The hardware pages of page that lie, at least partly, inside size: a run of bits from 0. */
static unsigned hw_inside(const struct hf_mapping *m, const struct hf_page *page, hf_off_t size)
{
    hf_off_t left = size - hf_page_off(m, page->index);
    unsigned all = 1u << (m->cache->page_shift - m->cache->hw_shift);
    hf_off_t nr = (left + (1 << m->cache->hw_shift) - 1) >> m->cache->hw_shift;

    return nr >= (hf_off_t)all ? (1u << all) - 1 : (1u << nr) - 1;
}

/*
 * page_mkwrite: the hardware pages that the faulting one's blocks cover must have space. The rest of a large
 * page comes along as a window does: from plenty only, and to be taken back before anybody is refused. So are
 * the blocks of the hardware page besides the one that is stored to.
 */
static int mkwrite_best(struct attempt *a)
{
    struct hf_cache *c = a->m->cache;
    unsigned at = (unsigned)((a->ctx->off - hf_page_off(a->m, a->page->index)) >> c->hw_shift);
    unsigned per_block = c->block_shift > c->hw_shift ? 1u << (c->block_shift - c->hw_shift) : 1u;
    unsigned few = ((1u << per_block) - 1) << (at & ~(per_block - 1)) & a->hw;
    unsigned flags = a->ctx->flags & HF_NOWAIT, before = hf_bits_count(a->page->reserved), fresh;
    int r = hf_page_mkwrite(a->m, a->page, few, flags);

    if (r < 0)
        return r;
    /* Which of them is stored to is not always known (the block may have been there before), nor whether it
     * is more than zeros. */
    fresh = hf_bits_count(a->page->reserved) - before;
    if (c->block_shift < c->hw_shift)
        atomic_fetch_add(&c->nr_speculative, fresh);
    if (few != a->hw && hf_page_mkwrite(a->m, a->page, a->hw, flags | HF_SPECULATIVE) < 0)
        a->hw = few;
    return 0;
}

static int prepare_locked(struct attempt *a)
{
    struct hf_mapping *m = a->m;
    hf_off_t hw_size = (hf_off_t)1 << m->cache->hw_shift;
    int r;

    a->size = hf_isize_read(m); /* HOLD-5: under the page lock */
    if (a->ctx->off >= hf_round_up(a->size, hw_size))
        return -ENXIO;
    a->hw = hw_inside(m, a->page, a->size);
    a->hole = a->page->state == HF_PAGE_ABSENT;
    a->ctx->kind = !a->store                   ? HF_FAULT_LOAD
                   : hf_page_is_dirty(a->page) ? HF_FAULT_STORE_DIRTY
                                               : HF_FAULT_STORE;
    a->page->flags &= (uint8_t)~HF_PAGE_READ;
    r = hf_page_fill(m, a->page, hf_bits_range(0, m->cache->blocks_per_page), a->ctx->flags & HF_NOWAIT);
    if (r < 0)
        return r;
    if (a->page->flags & HF_PAGE_READ)
        a->ctx->kind = HF_FAULT_READ;
    a->hole = a->hole && (a->page->allocated == 0);
    return a->store ? mkwrite_best(a) : 0;
}

static unsigned hw_all(const struct hf_mapping *m)
{
    return (1u << (1u << (m->cache->page_shift - m->cache->hw_shift))) - 1;
}

/* Locks and prepares one neighbour without waiting; false: the window ends before it. */
static bool window_take(struct attempt *a, struct hf_page *page) HF_NO_TSA
{
    struct hf_mapping *m = a->m;
    bool was_absent;
    int r = -EAGAIN;

    if (!hf_mutex_trylock(&page->lock))
        return false;
    was_absent = page->state == HF_PAGE_ABSENT;
    if (page->writable == 0 && (!a->store || m->cache->isize->may_mkwrite(m, page)))
        r = hf_page_fill(m, page, hf_bits_range(0, m->cache->blocks_per_page), HF_NOWAIT);
    if (r == 0 && a->hole != (was_absent && page->allocated == 0))
        r = -EAGAIN;
    if (r == 0 && a->store)
        r = hf_page_mkwrite(m, page, hw_all(m), HF_NOWAIT | HF_SPECULATIVE);
    if (r < 0)
        hf_mutex_unlock(&page->lock);
    return r == 0;
}

static void window_collect(struct attempt *a)
{
    struct hf_mapping *m = a->m;
    unsigned most = a->ctx->window_pages < WINDOW_MAX ? a->ctx->window_pages : WINDOW_MAX;
    hf_off_t end = a->ctx->window_end < a->size ? a->ctx->window_end : a->size;

    /* what is installed must be one range: the page's own part has to reach its end */
    if (a->hw != hw_all(m) || hf_page_off(m, a->page->index + 1) > a->size || hf_cache_over_limit(m->cache))
        return;
    while (a->nr_window < most) {
        hf_pgoff_t index = a->page->index + a->nr_window + 1;
        struct hf_page *page;

        if (hf_page_off(m, index + 1) > end)
            return;
        page = hf_page_get(m, index);
        if (page == NULL || !window_take(a, page))
            return;
        a->window[a->nr_window++] = page;
    }
}

static int install(struct attempt *a)
{
    struct hf_mapping *m = a->m;
    unsigned first = (unsigned)__builtin_ctz(a->hw), nr = (unsigned)__builtin_popcount(a->hw);
    hf_off_t off = hf_page_off(m, a->page->index) + ((hf_off_t)first << m->cache->hw_shift);
    hf_off_t len = ((hf_off_t)nr << m->cache->hw_shift) + ((hf_off_t)a->nr_window << m->cache->page_shift);

    int r = a->ctx->install(a->ctx, off, len, a->store, a->hole);

    return r == -ENOSPC ? -ENOMEM : r; /* of the host's memory: no squeeze of the volume helps */
}

static int attempt_locked(struct attempt *a) HF_NO_TSA
{
    int r = prepare_locked(a);

    if (r == 0 && a->ctx->window_pages > 0)
        window_collect(a);
    if (r == 0)
        r = install(a);
    for (unsigned i = 0; i < a->nr_window; i++)
        hf_mutex_unlock(&a->window[i]->lock);
    return r;
}

/* One try. -EAGAIN: NOWAIT could not do it, or the address space changed under install(); trying again helps
 * both. */
static int attempt(struct hf_mapping *m, struct hf_fault_ctx *ctx)
{
    struct attempt a = {.m = m, .ctx = ctx, .store = ctx->write && !ctx->is_private};
    hf_pgoff_t index = hf_page_index(m, ctx->off);
    int r;

    for (;;) {
        hf_rwlock_rdlock(&m->map_lock);
        a.page = hf_page_get(m, index);
        if (a.page == NULL) {
            hf_rwlock_rdunlock(&m->map_lock);
            return -ENOMEM;
        }
        hf_mutex_lock(&a.page->lock);
        if (!a.store || m->cache->isize->may_mkwrite(m, a.page))
            break;
        hf_mutex_unlock(&a.page->lock);
        hf_rwlock_rdunlock(&m->map_lock);
        if (ctx->flags & HF_NOWAIT)
            return -EAGAIN; /* whoever holds it may be waiting for the device */
        m->cache->isize->wait(m, index);
    }
    ctx->kind = a.store ? HF_FAULT_STORE_DIRTY : HF_FAULT_LOAD;
    r = ctx->resolved != NULL && ctx->resolved(ctx) ? 0 : attempt_locked(&a);
    hf_mutex_unlock(&a.page->lock);
    hf_rwlock_rdunlock(&m->map_lock);
    return r;
}

/* Room for one more page, before a blocking attempt. */
static void make_room(struct hf_mapping *m, bool store)
{
    if (hf_cache_over_limit(m->cache))
        hf_cache_reclaim(m->cache);
    if (store && hf_cache_over_dirty(m->cache))
        hf_mapping_writeback(m, 0, HF_FILE_SIZE_MAX, 0, m->cache->dirty_limit_pages / 4 + 1);
}

static bool readahead_for(struct hf_mapping *m, const struct hf_fault_ctx *ctx)
{
    bool was_read;

    hf_rwlock_rdlock(&m->map_lock);
    was_read = hf_mapping_readahead(m, hf_page_index(m, ctx->off), 1 + 2 * ctx->window_pages);
    hf_rwlock_rdunlock(&m->map_lock);
    return was_read;
}

struct slow {
    struct hf_mapping *m;
    struct hf_fault_ctx *ctx;
    int result;
};

static void fault_slow(void *arg)
{
    struct slow *s = arg;
    bool store = s->ctx->write && !s->ctx->is_private, was_read;

    s->ctx->flags &= ~HF_NOWAIT;
    make_room(s->m, store);
    was_read = readahead_for(s->m, s->ctx);
    do {
        s->result = attempt(s->m, s->ctx);
    } while (hf_is_full(s->result) && hf_cache_squeeze(s->m->cache));
    if (was_read)
        s->ctx->kind = HF_FAULT_READ;
}

/* What the driver said, as the program is told it: ENOSPC, EDQUOT, EIO, ENXIO. */
static int refusal(int r)
{
    switch (r) {
    case 0:
    case -EAGAIN:
    case -ENOSPC:
    case -EDQUOT:
    case -ENXIO:
    case -ENOMEM:
        return r;
    default:
        return -EIO;
    }
}

/* Is this thread's next fault one that is timed? */
static bool timing_is_due(void)
{
    static HF_TLS unsigned nr_faults;

    return nr_faults++ % TIMED_ONE_OF == 0;
}

static void timing_end(struct hf_mapping *m, enum hf_fault_kind kind, uint64_t start_ns, unsigned times)
{
    hf_histogram_add(&m->cache->latency[kind], hf_monotonic_ns() - start_ns, times);
}

/* A fault is counted when it comes; -EAGAIN comes again. */
static void count_fault(struct hf_mapping *m, const struct hf_fault_ctx *ctx)
{
    if (ctx->write)
        hf_file_stat_add(m, faults_store, 1);
    else
        hf_file_stat_add(m, faults_load, 1);
}

int hf_mapping_fault(struct hf_mapping *m, struct hf_fault_ctx *ctx)
{
    struct slow slow = {.m = m, .ctx = ctx, .result = -EAGAIN};
    bool nowait = ctx->flags & HF_NOWAIT, timed = !nowait || timing_is_due();
    bool full = hf_cache_over_limit(m->cache) || (ctx->write && hf_cache_over_dirty(m->cache));
    uint64_t start_ns = timed ? hf_monotonic_ns() : 0;
    unsigned times = TIMED_ONE_OF;
    int r = -EAGAIN;

    /* STORE-PATH 3/9 */
    hf_trace(FAULT, m->inode->ino, hf_page_index(m, ctx->off), ctx->write, ctx->off);
    count_fault(m, ctx);
    if (nowait && !full) {
        hf_fault_mark_enter();
        r = attempt(m, ctx);
        hf_fault_mark_leave();
    }
    if (r == -EAGAIN || hf_is_full(r)) {
        times = 1;
        if (!timed)
            start_ns = hf_monotonic_ns(); /* what it has tried so far is nothing next to what comes */
        timed = true;
        hf_stat_add(m->cache, faults_slow, 1);
        if (nowait)
            hf_service_call(m->cache->service, fault_slow, &slow);
        else
            fault_slow(&slow);
        r = slow.result;
    }
    if (r < 0 && r != -EAGAIN) {
        hf_file_stat_add(m, faults_refused, ctx->counted ? 0 : 1);
        hf_trace(REFUSED, m->inode->ino, hf_page_index(m, ctx->off), (uint64_t)-r, ctx->write);
    }
    if (timed && r != -EAGAIN && !(r < 0 && ctx->counted))
        timing_end(m, r < 0 ? HF_FAULT_REFUSED : ctx->kind, start_ns, times);
    return refusal(r);
}
