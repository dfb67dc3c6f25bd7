/* SPDX-License-Identifier: MIT */
/*
 * ops.c - one function per operation: lock the bytes in the model, do it for real, judge the result, tell
 * the model, look at the bytes at once by another way.
 *
 * The log entry is made after the bytes are locked, so its number orders operations on one byte; its number
 * also names the data written (stress_pattern).
 */
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HW_PAGE sysconf(_SC_PAGESIZE) /* what protection goes by */

/* ------------------------------------------------------------------ choosing */

static uint64_t below(struct stress_thread *t, uint64_t n)
{
    return stress_rng_below(&t->rng, n);
}

static hf_off_t least(hf_off_t a, hf_off_t b)
{
    return a < b ? a : b;
}

static hf_off_t most(hf_off_t a, hf_off_t b)
{
    return a > b ? a : b;
}

/* Mostly a few bytes; sometimes about a block; seldom pages. */
static hf_off_t pick_len(struct stress_thread *t)
{
    const struct stress_options *o = &t->world->opt;
    uint64_t r = below(t, 100);

    if (r < 40)
        return 1 + (hf_off_t)below(t, 16);
    if (r < 65)
        return 1 + (hf_off_t)below(t, o->block_size);
    if (r < 80)
        return o->block_size;
    if (r < 94)
        return 1 + (hf_off_t)below(t, (uint64_t)least(o->page_size, 8192));
    return 1 + (hf_off_t)below(t, STRESS_LEN_PAGES * (uint64_t)o->page_size - 1);
}

/* A range inside the capacity: often about EOF, often across the edge of a block. */
static void pick_range(struct stress_thread *t, hf_off_t *ret_start, hf_off_t *ret_end)
{
    const struct stress_options *o = &t->world->opt;
    hf_off_t cap = t->world->model.capacity, size = t->world->model.size, len = pick_len(t), off;
    uint64_t r = below(t, 100);

    if (r < 40)
        off = size - o->page_size + (hf_off_t)below(t, 3 * o->page_size / 2);
    else if (r < 75)
        off = (hf_off_t)below(t, (uint64_t)most(size, 1));
    else
        off = (hf_off_t)below(t, (uint64_t)(cap / o->block_size)) * o->block_size - (hf_off_t)below(t, 12);
    off = most(0, least(off, cap - 1));
    *ret_start = off;
    *ret_end = least(off + len, cap);
}

static enum stress_lock_mode remove_mode(struct stress_thread *t)
{
    return t->world->opt.racy ? RANGE_RACE : RANGE_WRITE;
}

static struct stress_entry *begin(struct stress_thread *t, enum stress_op op, unsigned map, hf_off_t start,
                                  hf_off_t end)
{
    t->current = (int)op;
    atomic_fetch_add_explicit(&t->world->nr_op[op], 1, memory_order_relaxed);
    return stress_log(t->index, op, map, start, end, t->world->model.size);
}

static void make_data(struct stress_thread *t, struct stress_entry *e, hf_off_t off, hf_off_t end)
{
    e->zero = below(t, 8) == 0;
    for (hf_off_t at = off; at < end; at++)
        t->data[at - off] = e->zero ? 0 : stress_pattern(e->id, at);
}

/* ------------------------------------------------------------------ judging */

/* With one thread nobody else takes space: what was free before the call was there for it. */
static uint64_t free_blocks(struct stress_thread *t)
{
    struct hf_statfs sf;
    int rc;

    if (t->world->opt.threads > 1)
        return 0;
    rc = hf_volume_statfs(t->world->volume, &sf);
    if (rc)
        stress_fail(FAIL_CALL, -1, "hf_volume_statfs: %d", rc);
    return sf.blocks_free;
}

static void count_refusal(struct stress_thread *t, struct stress_entry *e, uint64_t free_before)
{
    uint64_t p = t->world->opt.page_size, b = t->world->opt.block_size;
    uint64_t pages = ((uint64_t)e->end + p - 1) / p - (uint64_t)e->start / p;

    atomic_fetch_add_explicit(&t->world->nr_refused[e->op], 1, memory_order_relaxed);
    if (free_before >= pages * (p / b))
        stress_fail(FAIL_SPACE, e->start,
                    "#%" PRIu64 " refused with ENOSPC while %" PRIu64 " blocks were free", e->id,
                    free_before);
}

static void check_size(struct stress_thread *t, struct stress_entry *e)
{
    struct stat st;
    int rc = hf_fstat(t->world->file, &st);

    if (rc || st.st_size != t->world->model.size)
        stress_fail(FAIL_CALL, e->start, "after #%" PRIu64 " fstat: %d, size %" PRId64 ", expected %" PRId64,
                    e->id, rc, (hf_off_t)st.st_size, (hf_off_t)t->world->model.size);
}

static void compare(struct stress_thread *t, bool raced, const char *via, hf_off_t off, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (t->got[i] == t->val[i])
            continue;
        if (t->got[i] == 0 && (raced || (t->flags[i] & BYTE_MAYBE_ZERO)))
            continue;
        stress_fail_byte(via, off + (hf_off_t)i, t->val[i], t->flags[i], t->got[i], t->val + i, t->got + i,
                         len - i);
    }
}

static void use_map(struct stress_thread *t, unsigned map)
{
    if (map == 1)
        pthread_rwlock_rdlock(&t->world->map_b_lock);
}

static void unuse_map(struct stress_thread *t, unsigned map)
{
    if (map == 1)
        pthread_rwlock_unlock(&t->world->map_b_lock);
}

/* Loads the range and compares. Loads need no space: the only excuse is a truncate that raced. */
static void look_by_map(struct stress_thread *t, struct stress_range *range, unsigned map, hf_off_t off,
                        hf_off_t end)
{
    hf_off_t size = stress_model_snapshot(&t->world->model, off, (size_t)(end - off), t->val, t->flags);
    size_t len = (size_t)most(0, least(end, size) - off), done = 0;
    bool raced;
    int rc;

    if (len == 0)
        return;
    use_map(t, map);
    rc = hf_load(t->got, t->world->map[map] + off, len, &done);
    unuse_map(t, map);
    raced = stress_model_raced(&t->world->model, range);
    if ((rc && !(raced && rc == -ENXIO)) || (!rc && done != len))
        stress_fail(FAIL_CALL, off + (hf_off_t)done, "load from map %c at %" PRId64 ": %d, %zu bytes of %zu",
                    'A' + map, off, rc, done, len);
    compare(t, raced, map ? "load from map B" : "load from map A", off, done);
}

static void look_by_pread(struct stress_thread *t, struct stress_range *range, hf_off_t off, hf_off_t end)
{
    hf_off_t size = stress_model_snapshot(&t->world->model, off, (size_t)(end - off), t->val, t->flags);
    ssize_t want = (ssize_t)most(0, least(end, size) - off);
    ssize_t n = hf_pread(t->world->file, t->got, (size_t)(end - off), off);
    bool raced = stress_model_raced(&t->world->model, range);

    if (n < 0 || n > end - off || (!raced && n != want))
        stress_fail(FAIL_CALL, off, "pread at %" PRId64 ": %zd of %zd bytes, size %" PRId64, off, n, want,
                    size);
    compare(t, raced, "pread", off, (size_t)n);
}

/* ------------------------------------------------------------------ stores and loads */

struct guarded_store {
    uint8_t *dst;
    const uint8_t *src;
    size_t len;
    volatile size_t done; /* read after the frame was left by a jump */
};

static void store_bytes(void *arg)
{
    struct guarded_store *g = arg;

    while (g->done < g->len) {
        ((volatile uint8_t *)g->dst)[g->done] = g->src[g->done];
        g->done++;
    }
}

static int store_guarded(struct stress_thread *t, uint8_t *dst, hf_off_t off, size_t len, size_t *ret_done)
{
    struct guarded_store g = {.dst = dst, .src = t->data, .len = len};
    struct hf_fault fault = {0};
    int rc = hf_guard(store_bytes, &g, &fault);
    hf_off_t at = off + (hf_off_t)g.done;

    *ret_done = g.done;
    if (rc == 0)
        return 0;
    /* The kernel's si_addr may be rounded to the hardware page. */
    if (fault.error != -rc || !fault.write || fault.ino != t->world->ino ||
        fault.offset / HW_PAGE != at / HW_PAGE ||
        ((uintptr_t)fault.addr ^ (uintptr_t)(dst + g.done)) / HW_PAGE != 0)
        stress_fail(FAIL_CALL, at,
                    "hf_guard: %d at offset %" PRId64
                    " (%p), but the fault says error %d write %d offset %" PRId64 " addr %p ino %" PRIu64,
                    rc, at, (void *)(dst + g.done), fault.error, fault.write, fault.offset, fault.addr,
                    fault.ino);
    return rc;
}

/* A store under `range`; whatever is accepted is in the model afterwards. */
static int store(struct stress_thread *t, struct stress_range *range, struct stress_entry *e, hf_off_t off,
                 hf_off_t end)
{
    hf_off_t size = t->world->model.size;
    size_t len = (size_t)(end - off), done = 0;
    uint8_t *dst;
    int rc;

    use_map(t, e->map);
    dst = t->world->map[e->map] + off;
    if (e->op == OP_GUARDED)
        rc = store_guarded(t, dst, off, len, &done);
    else
        rc = hf_store(dst, t->data, len, &done);
    unuse_map(t, e->map);
    stress_log_end(e, rc, (int64_t)done);
    if (rc != 0 && rc != -ENOSPC && rc != -ENXIO)
        stress_fail(FAIL_CALL, off + (hf_off_t)done, "store #%" PRIu64 ": %d", e->id, rc);
    if ((rc == 0) != (done == len))
        stress_fail(FAIL_CALL, off, "store #%" PRIu64 ": %d, but %zu bytes of %zu", e->id, rc, done, len);
    if (rc == -ENXIO && off + (hf_off_t)done < size && !stress_model_raced(&t->world->model, range))
        stress_fail(FAIL_CALL, off + (hf_off_t)done, "store #%" PRIu64 ": ENXIO inside the file", e->id);
    stress_model_stored(&t->world->model, range, off, t->data, done);
    return rc;
}

static void op_store(struct stress_thread *t, enum stress_op op)
{
    unsigned map = (unsigned)below(t, 2);
    struct stress_range range;
    struct stress_entry *e;
    uint64_t free_before;
    hf_off_t off, end;
    int rc;

    pick_range(t, &off, &end);
    stress_model_lock(&t->world->model, &range, off, end, RANGE_STORE);
    if (t->world->opt.inside)
        end = most(off, least(end, t->world->model.size));
    e = begin(t, op, map, off, end);
    make_data(t, e, off, end);
    free_before = free_blocks(t);
    rc = store(t, &range, e, off, end);
    if (rc == -ENOSPC)
        count_refusal(t, e, free_before);
    look_by_map(t, &range, !map, off, end);
    look_by_pread(t, &range, off, end);
    if (stress_model_raced(&t->world->model, &range))
        atomic_fetch_add_explicit(&t->world->nr_raced, 1, memory_order_relaxed);
    stress_model_unlock(&t->world->model, &range);
}

static void op_look(struct stress_thread *t, enum stress_op op)
{
    unsigned map = (unsigned)below(t, 2);
    struct stress_range range;
    struct stress_entry *e;
    hf_off_t off, end;

    pick_range(t, &off, &end);
    stress_model_lock(&t->world->model, &range, off, end, RANGE_READ);
    e = begin(t, op, map, off, end);
    if (op == OP_LOAD)
        look_by_map(t, &range, map, off, end);
    else
        look_by_pread(t, &range, off, end);
    stress_log_end(e, 0, 0);
    stress_model_unlock(&t->world->model, &range);
}

/*
 * After hf_reserve() has promised, no store in the range may be refused. A promise is worth nothing if the
 * rest of its hardware page is punched or grows into the file meanwhile, so those bytes are locked, too.
 */
static void op_reserve(struct stress_thread *t)
{
    struct stress_model *model = &t->world->model;
    unsigned map = (unsigned)below(t, 2);
    struct stress_range range;
    struct stress_entry *e;
    uint64_t free_before;
    hf_off_t off, end;
    int rc, stored;

    pick_range(t, &off, &end);
    stress_model_lock(model, &range, off & -(hf_off_t)HW_PAGE, (end + HW_PAGE - 1) & -(hf_off_t)HW_PAGE,
                      RANGE_STORE);
    end = least(end, model->size);
    if (off < end) {
        e = begin(t, OP_RESERVE, map, off, end);
        free_before = free_blocks(t);
        use_map(t, map);
        rc = hf_reserve(t->world->map[map] + off, (size_t)(end - off));
        unuse_map(t, map);
        /* op_remap() cuts map B in pieces; a reservation over two of them is refused as a whole. */
        if (rc != 0 && rc != -ENOSPC && !(rc == -EINVAL && map == 1) &&
            !(rc == -ENXIO && stress_model_raced(model, &range)))
            stress_fail(FAIL_CALL, off, "hf_reserve #%" PRIu64 ": %d", e->id, rc);
        stress_log_end(e, rc, 0);
        if (rc == -ENOSPC)
            count_refusal(t, e, free_before);
        e = begin(t, OP_STORE, map, off, end);
        make_data(t, e, off, end);
        stored = store(t, &range, e, off, end);
        if (rc == 0 && stored == -ENOSPC && !stress_model_raced(model, &range))
            stress_fail(FAIL_SPACE, off + e->done, "store #%" PRIu64 " refused in a reserved range", e->id);
        look_by_pread(t, &range, off, end);
    }
    stress_model_unlock(model, &range);
}

static void op_fault_in(struct stress_thread *t)
{
    unsigned map = (unsigned)below(t, 2);
    bool write = below(t, 2);
    struct stress_entry *e;
    hf_off_t off, end;
    int rc;

    pick_range(t, &off, &end);
    e = begin(t, OP_FAULT_IN, map, off, end);
    use_map(t, map);
    rc = hf_fault_in(t->world->map[map] + off, (size_t)(end - off), write);
    unuse_map(t, map);
    if (rc != 0 && rc != -ENXIO && !(write && rc == -ENOSPC))
        stress_fail(FAIL_CALL, off, "hf_fault_in #%" PRIu64 ": %d", e->id, rc);
    stress_log_end(e, rc, 0);
}

/* ------------------------------------------------------------------ pwrite */

/* Locks [*off, *end) for writing; may shorten it to the file's size, unless grow (then size_lock is held). */
static void lock_for_write(struct stress_thread *t, struct stress_range *range, bool grow, hf_off_t off,
                           hf_off_t *end)
{
    struct stress_model *model = &t->world->model;
    hf_off_t size;

    if (grow) {
        pthread_mutex_lock(&model->size_lock);
        size = model->size;
        stress_model_lock(model, range, *end > size ? least(off, size) : off, *end, RANGE_WRITE);
        return;
    }
    stress_model_lock(model, range, off, *end, RANGE_WRITE);
    *end = most(off, least(*end, model->size));
}

/* Takes the bytes to write from the model; they lie in map `map` at *ret_from. */
static bool pick_source(struct stress_thread *t, struct stress_range *source, size_t len, hf_off_t *ret_from)
{
    struct stress_model *model = &t->world->model;
    hf_off_t size = model->size, from;

    if (size < (hf_off_t)len)
        return false;
    from = (hf_off_t)below(t, (uint64_t)(size - (hf_off_t)len + 1));
    if (!stress_model_trylock(model, source, from, from + (hf_off_t)len, RANGE_WRITE))
        return false;
    size = stress_model_snapshot(model, from, len, t->data, t->flags);
    for (size_t i = 0; i < len; i++)
        if (t->flags[i])
            size = 0;
    if (from + (hf_off_t)len > size) {
        stress_model_unlock(model, source);
        return false;
    }
    *ret_from = from;
    return true;
}

static ssize_t write_range(struct stress_thread *t, struct stress_entry *e, size_t len)
{
    struct stress_model *model = &t->world->model;
    unsigned map = (unsigned)below(t, 2);
    struct stress_range source;
    hf_off_t from;
    ssize_t n;

    if (e->op == OP_COPY && pick_source(t, &source, len, &from)) {
        use_map(t, map);
        n = hf_pwrite(t->world->file, t->world->map[map] + from, len, e->start);
        unuse_map(t, map);
        stress_model_unlock(model, &source);
        return n;
    }
    make_data(t, e, e->start, e->end);
    return hf_pwrite(t->world->file, t->data, len, e->start);
}

static void judge_write(struct stress_thread *t, struct stress_range *range, struct stress_entry *e,
                        ssize_t n, uint64_t free_before, bool grow)
{
    hf_off_t size = t->world->model.size, want = e->end - e->start;

    if (n != -ENOSPC && (n <= 0 || n > want))
        stress_fail(FAIL_CALL, e->start, "pwrite #%" PRIu64 ": %zd of %" PRId64, e->id, n, want);
    if (n < want)
        count_refusal(t, e, free_before);
    stress_model_written(&t->world->model, e->start, t->data, n > 0 ? (size_t)n : 0);
    if (grow)
        check_size(t, e);
    look_by_map(t, range, (unsigned)below(t, 2), e->start, e->end);
    if (grow && size < e->start) /* a gap, which must be zero */
        look_by_pread(t, range, size, least(e->start, size + t->world->opt.page_size));
}

static void op_pwrite(struct stress_thread *t, enum stress_op op)
{
    struct stress_model *model = &t->world->model;
    bool grow = below(t, 3) == 0;
    struct stress_range range;
    struct stress_entry *e;
    uint64_t free_before;
    hf_off_t off, end;
    ssize_t n;

    pick_range(t, &off, &end);
    lock_for_write(t, &range, grow, off, &end);
    if (off < end) {
        e = begin(t, op, 0, off, end);
        free_before = free_blocks(t);
        n = write_range(t, e, (size_t)(end - off));
        stress_log_end(e, n, n > 0 ? n : 0);
        judge_write(t, &range, e, n, free_before, grow);
    }
    stress_model_unlock(model, &range);
    if (grow)
        pthread_mutex_unlock(&model->size_lock);
}

/* ------------------------------------------------------------------ sizes and holes */

static hf_off_t pick_size(struct stress_thread *t)
{
    const struct stress_options *o = &t->world->opt;
    hf_off_t cap = t->world->model.capacity, size = t->world->model.size, step;
    uint64_t r = below(t, 100);

    if (r < 4)
        return (hf_off_t)below(t, (uint64_t)cap + 1);
    if (r < 8)
        return (hf_off_t)below(t, (uint64_t)(cap / o->page_size) + 1) * o->page_size;
    if (r < 30)
        step = 1 + (hf_off_t)below(t, 32);
    else if (r < 60)
        step = 1 + (hf_off_t)below(t, o->block_size);
    else if (r < 85)
        step = 1 + (hf_off_t)below(t, o->page_size);
    else
        step = 1 + (hf_off_t)below(t, 6 * o->page_size);
    if (below(t, 100) < (size < cap / 3 ? 70u : 45u))
        return least(cap, size + step);
    return most(0, size - step);
}

static void op_truncate(struct stress_thread *t)
{
    struct stress_model *model = &t->world->model;
    struct stress_range range;
    struct stress_entry *e;
    hf_off_t size, new_size, lo, hi;
    int rc;

    pthread_mutex_lock(&model->size_lock);
    size = model->size;
    new_size = pick_size(t);
    lo = least(size, new_size);
    hi = most(size, new_size);
    stress_model_lock(model, &range, lo, hi, remove_mode(t));
    e = begin(t, OP_TRUNCATE, 0, lo, hi);
    rc = hf_ftruncate(t->world->file, new_size);
    stress_log_end(e, rc, new_size);
    if (rc != 0)
        stress_fail(FAIL_CALL, lo, "ftruncate #%" PRIu64 " from %" PRId64 " to %" PRId64 ": %d", e->id, size,
                    new_size, rc);
    stress_model_zeroed(model, lo, hi, new_size);
    if (new_size < size)
        t->world->kept_beyond = false;
    check_size(t, e);
    if (new_size > size && range.mode == RANGE_WRITE) {
        hi = least(new_size, size + t->world->opt.page_size);
        look_by_map(t, &range, (unsigned)below(t, 2), size, hi);
        look_by_pread(t, &range, size, hi);
    }
    stress_model_unlock(model, &range);
    pthread_mutex_unlock(&model->size_lock);
}

/* fallocate(): 0, KEEP_SIZE, ZERO_RANGE, ZERO_RANGE|KEEP_SIZE. */
static void op_allocate(struct stress_thread *t, enum stress_op op)
{
    struct stress_model *model = &t->world->model;
    bool zero = op == OP_ZERO || op == OP_ZERO_KEEP, keep = op == OP_ALLOCATE_KEEP || op == OP_ZERO_KEEP;
    hf_off_t off, end, size, lo;
    struct stress_range range;
    struct stress_entry *e;
    uint64_t free_before;
    bool grow;
    int rc;

    pick_range(t, &off, &end);
    pthread_mutex_lock(&model->size_lock);
    size = model->size;
    grow = !keep && end > size;
    if (keep && end > size)
        t->world->kept_beyond = true;
    lo = zero ? off : most(off, size);
    if (grow)
        lo = least(lo, size);
    stress_model_lock(model, &range, least(lo, end), end, remove_mode(t));
    e = begin(t, op, 0, off, end);
    free_before = free_blocks(t);
    rc = hf_fallocate(t->world->file, (zero ? FALLOC_FL_ZERO_RANGE : 0) | (keep ? FALLOC_FL_KEEP_SIZE : 0),
                      off, end - off);
    stress_log_end(e, rc, 0);
    if (rc != 0 && rc != -ENOSPC)
        stress_fail(FAIL_CALL, off, "fallocate #%" PRIu64 ": %d", e->id, rc);
    if (rc == 0) {
        stress_model_zeroed(model, lo, end, grow ? end : -1);
    } else {
        stress_model_refused(model, lo, end, zero && !grow); /* HOLD-6: a refused growth changes nothing */
        count_refusal(t, e, free_before);
    }
    check_size(t, e);
    if (range.mode == RANGE_WRITE && lo < end)
        look_by_pread(t, &range, lo, least(end, lo + t->world->opt.page_size));
    stress_model_unlock(model, &range);
    pthread_mutex_unlock(&model->size_lock);
}

static void op_punch(struct stress_thread *t)
{
    struct stress_model *model = &t->world->model;
    struct stress_range range;
    struct stress_entry *e;
    hf_off_t off, end;
    int rc;

    pick_range(t, &off, &end);
    stress_model_lock(model, &range, off, end, remove_mode(t));
    e = begin(t, OP_PUNCH, 0, off, end);
    rc = hf_fallocate(t->world->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, end - off);
    stress_log_end(e, rc, 0);
    if (rc != 0)
        stress_fail(FAIL_CALL, off, "punch #%" PRIu64 ": %d", e->id, rc);
    stress_model_zeroed(model, off, end, -1);
    if (range.mode == RANGE_WRITE)
        look_by_map(t, &range, (unsigned)below(t, 2), off, end);
    stress_model_unlock(model, &range);
}

/* ------------------------------------------------------------------ the rest */

/* HOLD-2: what was accepted can be written; there is no excuse, least of all ENOSPC. */
static void op_sync(struct stress_thread *t, enum stress_op op)
{
    hf_off_t off = 0, end = t->world->model.capacity;
    unsigned map = (unsigned)below(t, 2);
    struct stress_entry *e;
    int rc;

    if (op == OP_MSYNC) {
        pick_range(t, &off, &end);
        off &= -(hf_off_t)HW_PAGE;
    }
    e = begin(t, op, map, off, end);
    if (op == OP_MSYNC) {
        use_map(t, map);
        rc = hf_msync(t->world->map[map] + off, (size_t)(end - off), below(t, 4) ? MS_SYNC : MS_ASYNC);
        unuse_map(t, map);
    } else if (op == OP_SYNC) {
        rc = hf_volume_sync(t->world->volume);
    } else {
        rc = below(t, 2) ? hf_fsync(t->world->file) : hf_fdatasync(t->world->file);
    }
    stress_log_end(e, rc, 0);
    if (rc)
        stress_fail(FAIL_CALL, off, "%s #%" PRIu64 ": %d (%s)", stress_op_name(op), e->id, rc, strerror(-rc));
}

/* Writes until the file has the wanted size, or the volume is full. */
static int64_t fill(struct stress_thread *t, struct hf_file *file, uint64_t id, hf_off_t wanted)
{
    hf_off_t chunk = t->world->opt.page_size, off = 0;

    while (off < wanted) {
        hf_off_t len = least(chunk, wanted - off);
        ssize_t n;

        for (hf_off_t i = 0; i < len; i++)
            t->data[i] = stress_pattern(id, off + i);
        n = hf_pwrite(file, t->data, (size_t)len, off);
        if (n == -ENOSPC)
            break;
        if (n <= 0 || n > len)
            stress_fail(FAIL_CALL, -1, "pwrite to the filler: %zd of %" PRId64, n, len);
        off += n;
    }
    return off;
}

static void op_fill(struct stress_thread *t)
{
    struct stress_filler *filler = &t->world->filler;
    uint64_t blocks = below(t, t->world->free_blocks_at_start + t->world->free_blocks_at_start / 8 + 1);
    struct hf_file *file = NULL;
    struct stress_entry *e;
    bool remove = below(t, 2);
    int rc;

    if (pthread_mutex_trylock(&filler->lock))
        return;
    e = begin(t, remove && filler->exists ? OP_UNFILL : OP_FILL, 0, 0, 0);
    if (e->op == OP_UNFILL) {
        filler->exists = false;
        rc = hf_unlink(t->world->volume, "/filler");
    } else {
        rc = hf_open(t->world->volume, "/filler", O_RDWR | O_CREAT | O_TRUNC, 0644, &file);
        if (rc == 0) {
            filler->exists = true;
            filler->id = e->id;
            filler->size = fill(t, file, e->id, (hf_off_t)(blocks * t->world->opt.block_size));
            rc = hf_close(file);
        }
    }
    if (rc)
        stress_fail(FAIL_CALL, -1, "%s #%" PRIu64 ": %d", stress_op_name(e->op), e->id, rc);
    stress_log_end(e, rc, filler->size);
    pthread_mutex_unlock(&filler->lock);
}

/* Replaces all of map B, or a piece in its middle, while the others fault in map A. */
static void op_remap(struct stress_thread *t)
{
    struct stress_world *world = t->world;
    int flags = MAP_SHARED | MAP_FIXED | (world->opt.syscall_b ? HF_MAP_SYSCALLS : 0);
    hf_off_t p = world->opt.page_size, pages = world->model.capacity / p;
    hf_off_t first = (hf_off_t)below(t, (uint64_t)pages);
    hf_off_t nr = 1 + (hf_off_t)below(t, (uint64_t)(pages - first));
    struct stress_entry *e = begin(t, OP_REMAP, 1, first * p, (first + nr) * p);
    bool whole = below(t, 2);
    void *addr = NULL;
    int rc;

    pthread_rwlock_wrlock(&world->map_b_lock);
    if (whole) {
        rc = hf_munmap(world->map[1], (size_t)world->model.capacity);
        if (rc == 0)
            stress_world_map(world, 1);
    } else {
        rc = hf_munmap(world->map[1] + first * p, (size_t)(nr * p));
        if (rc == 0)
            rc = hf_mmap(world->file, world->map[1] + first * p, (size_t)(nr * p), PROT_READ | PROT_WRITE,
                         flags, first * p, &addr);
    }
    pthread_rwlock_unlock(&world->map_b_lock);
    stress_log_end(e, rc, 0);
    if (rc)
        stress_fail(FAIL_CALL, first * p, "remap #%" PRIu64 ": %d", e->id, rc);
}

/* Weights, in a thousand. */
static const struct {
    unsigned weight;
    enum stress_op op;
} weights[] = {
    {260, OP_STORE},    {130, OP_GUARDED},  {100, OP_LOAD},    {60, OP_PREAD},         {110, OP_PWRITE},
    {20, OP_COPY},      {100, OP_TRUNCATE}, {25, OP_ALLOCATE}, {10, OP_ALLOCATE_KEEP}, {30, OP_ZERO},
    {12, OP_ZERO_KEEP}, {50, OP_PUNCH},     {12, OP_FSYNC},    {20, OP_MSYNC},         {2, OP_SYNC},
    {19, OP_FILL},      {20, OP_RESERVE},   {12, OP_FAULT_IN}, {8, OP_REMAP},
};

static enum stress_op pick_op(struct stress_thread *t)
{
    unsigned r = (unsigned)below(t, 1000), i = 0;

    while (i + 1 < sizeof(weights) / sizeof(weights[0]) && r >= weights[i].weight)
        r -= weights[i++].weight;
    return weights[i].op;
}

void stress_thread_step(struct stress_thread *t)
{
    enum stress_op op = pick_op(t);

    switch (op) {
    case OP_STORE:
    case OP_GUARDED:
        op_store(t, op);
        break;
    case OP_LOAD:
    case OP_PREAD:
        op_look(t, op);
        break;
    case OP_PWRITE:
    case OP_COPY:
        op_pwrite(t, op);
        break;
    case OP_TRUNCATE:
        op_truncate(t);
        break;
    case OP_ALLOCATE:
    case OP_ALLOCATE_KEEP:
    case OP_ZERO:
    case OP_ZERO_KEEP:
        op_allocate(t, op);
        break;
    case OP_PUNCH:
        op_punch(t);
        break;
    case OP_RESERVE:
        op_reserve(t);
        break;
    case OP_FAULT_IN:
        op_fault_in(t);
        break;
    case OP_FILL:
        op_fill(t);
        break;
    case OP_REMAP:
        op_remap(t);
        break;
    default:
        op_sync(t, op);
        break;
    }
    t->current = OP_NR;
    atomic_fetch_add_explicit(&t->progress, 1, memory_order_relaxed);
}
