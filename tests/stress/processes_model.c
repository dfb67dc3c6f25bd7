/* SPDX-License-Identifier: MIT */
/*
 * processes_model.c - in turn: one operation at a time, by one process, and each result compared with a
 * model.
 *
 * Compared are: how far a store got, and why no further; every byte, as another process and as a read sees it
 * at once; the size; and who was refused for want of space: never while there were blocks for it, and never
 * accepted without. What windows of mkwrite-around have taken beforehand is given back when it is needed, so
 * the last is exact where nothing is reserved.
 */
#include "processes.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PAGES 8 /* of a store */

static struct file {
    int64_t size;
    uint8_t val[MP_CAP_MAX];
} files[MP_FILES];

static struct stress_rng rng;
static uint8_t scratch[MP_CAP_MAX];

static uint64_t below(uint64_t n)
{
    return stress_rng_below(&rng, n);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t hw_page(void)
{
    return sysconf(_SC_PAGESIZE);
}

static int64_t page_up(int64_t n)
{
    return (n + hw_page() - 1) & -hw_page();
}

/* ------------------------------------------------------------------ choosing */

static int64_t pick_len(void)
{
    uint64_t r = below(100);

    if (r < 35)
        return 1 + (int64_t)below(16);
    if (r < 60)
        return 1 + (int64_t)below(mp_options.block_size);
    if (r < 70)
        return mp_options.block_size;
    if (r < 92)
        return 1 + (int64_t)below(8192);
    return 1 + (int64_t)below(5 * 4096);
}

/* A range in [lo, hi): often about EOF, often across the edge of a block. */
static bool pick_range(const struct file *f, int64_t lo, int64_t hi, int64_t *ret_off, int64_t *ret_end)
{
    int64_t len = pick_len(), off, b = mp_options.block_size;
    uint64_t r = below(100);

    if (r < 40)
        off = f->size - 4096 + (int64_t)below(3 * 4096 / 2);
    else if (r < 75)
        off = (int64_t)below((uint64_t)most(f->size, 1));
    else
        off = (int64_t)below((uint64_t)(mp_shared->cap / b)) * b - (int64_t)below(12);
    if (off < lo || off >= hi)
        off = lo + (int64_t)below((uint64_t)(hi - lo));
    *ret_off = off;
    *ret_end = least(off + len, hi);
    return off < *ret_end;
}

static struct mp_slot *pick_slot(unsigned *ret_who, unsigned *ret_slot)
{
    *ret_who = (unsigned)below(MP_WORKERS);
    *ret_slot = (unsigned)below(MP_SLOTS);
    return &mp_workers[*ret_who].slots[*ret_slot];
}

/* ------------------------------------------------------------------ looking */

/* What a mapping shows of [off, end), clipped to the file and the mapping. */
static void look_through(unsigned who, unsigned slot, int64_t off, int64_t end)
{
    struct mp_slot *s = &mp_workers[who].slots[slot];
    const struct file *f = &files[s->file];
    struct mp_order order = {.op = MP_LOOK, .slot = slot};
    struct mp_answer answer;

    off = most(off, s->off);
    end = least(least(end, f->size), s->off + (int64_t)s->len);
    if (!s->mapped || off >= end)
        return;
    order.at = (uint64_t)(off - s->off);
    order.len = (uint64_t)(end - off);
    memcpy(mp_shared->bytes, f->val + off, order.len);
    answer = mp_worker_do(who, &order);
    mp_counts.checks++;
    if (answer.result == -1)
        return;
    if (answer.result < -1)
        mp_fail(true, "worker %u, map %u: a load of file %u in [%lld, %lld) was refused: %lld at +%lld", who,
                slot, s->file, (long long)off, (long long)end, (long long)answer.result + 1000,
                (long long)answer.done);
    mp_fail(true, "worker %u, map %u: file %u, byte %lld is %#x, expected %#x", who, slot, s->file,
            (long long)(off + answer.result), (unsigned)answer.done, f->val[off + answer.result]);
}

static void look_by_pread(unsigned file, int64_t off, int64_t end)
{
    const struct file *f = &files[file];
    int64_t want = most(0, least(end, f->size) - off), n;

    if (off >= end)
        return;
    n = mp_back_pread(file, scratch, (size_t)(end - off), off);
    mp_counts.checks++;
    if (n != want)
        mp_fail(false, "pread of file %u at %lld: %lld, expected %lld", file, (long long)off, (long long)n,
                (long long)want);
    for (int64_t i = 0; i < n; i++)
        if (scratch[i] != f->val[off + i])
            mp_fail(true, "pread: file %u, byte %lld is %#x, expected %#x", file, (long long)(off + i),
                    scratch[i], f->val[off + i]);
}

/* By a read, and through one mapping of another process than who. */
static void look(unsigned file, int64_t off, int64_t end, unsigned who)
{
    unsigned start = (unsigned)below(MP_WORKERS * MP_SLOTS);

    off = most(off, 0);
    end = least(end, mp_shared->cap);
    look_by_pread(file, off, end);
    for (unsigned i = 0; i < MP_WORKERS * MP_SLOTS; i++) {
        unsigned other = (start + i) % (MP_WORKERS * MP_SLOTS) / MP_SLOTS, slot = (start + i) % MP_SLOTS;
        const struct mp_slot *s = &mp_workers[other].slots[slot];

        if (s->mapped && s->file == file && other != who && s->off < end && off < s->off + (int64_t)s->len) {
            look_through(other, slot, off, end);
            return;
        }
    }
}

static void look_at_all(void)
{
    for (unsigned i = 0; i < MP_FILES; i++) {
        if (mp_back_size(i) != files[i].size)
            mp_fail(false, "file %u has %lld bytes, expected %lld", i, (long long)mp_back_size(i),
                    (long long)files[i].size);
        look_by_pread(i, 0, mp_shared->cap);
    }
    for (unsigned i = 0; i < MP_WORKERS * MP_SLOTS; i++)
        look_through(i / MP_SLOTS, i % MP_SLOTS, 0, mp_shared->cap);
}

/* ------------------------------------------------------------------ stores */

struct prediction {
    bool known;
    int64_t done; /* were there no want of space */
    int error;    /* what ends it there; 0: nothing */
    struct mp_space space;
};

/* How far a store to [off, end) gets if space is no matter. */
static struct prediction predict(const struct mp_slot *s, int64_t off, int64_t end)
{
    int64_t last = page_up(files[s->file].size);
    struct prediction p = {.done = end - off};

    if (!(s->prot & PROT_WRITE))
        p = (struct prediction){.done = 0, .error = EFAULT};
    else if (end > last)
        p = (struct prediction){.done = most(0, last - off), .error = ENXIO};
    p.known = mp_back_space(&p.space);
    return p;
}

/* Accepted bytes that lie in the file are to be seen from now on; those beyond its end never. */
static void stored(unsigned file, int64_t off, int64_t done)
{
    int64_t end = least(off + done, files[file].size);

    if (off < end)
        memcpy(files[file].val + off, mp_shared->bytes, (size_t)(end - off));
}

/* Blocks that are holes before a store: of one of its pages as a whole, and of those bytes before that page
 * that it stores to. What else the pages before have taken is given back before anybody is refused. */
struct need {
    uint64_t page, before;
};

static void count_need(unsigned file, int64_t off, int64_t end, struct need *ret_need)
{
    int64_t b = mp_options.block_size;

    for (int64_t at = off; at < end; at = (at + hw_page()) & -hw_page(), ret_need++) {
        int64_t page = at & -hw_page();

        ret_need->page = mp_back_need(file, at, at + 1, true);
        ret_need->before = (page & -b) > off ? mp_back_need(file, off, page & -b, false) : 0;
    }
}

/* Where the store stopped for want of space, and whether it had to. */
static void judge_space(const struct prediction *p, const struct need *need, int64_t off, int64_t done,
                        bool zeros, bool refused)
{
    uint64_t pages = done == 0 ? 0 : (uint64_t)((off + done - 1) / hw_page() - off / hw_page()) + 1;
    const struct need *last = &need[pages > 0 ? pages - 1 : 0];

    if (!p->known || mp_options.must_fail)
        return;
    if (!zeros && pages > 0 && last->page + last->before > p->space.free + p->space.reserved)
        mp_fail(false, "a store took %llu + %llu blocks while %llu were free and %llu reserved",
                (unsigned long long)last->before, (unsigned long long)last->page,
                (unsigned long long)p->space.free, (unsigned long long)p->space.reserved);
    if (refused && need[pages].page + need[pages].before <= p->space.free)
        mp_fail(false, "refused for %llu blocks, the store before it taking %llu, while %llu were free",
                (unsigned long long)need[pages].page, (unsigned long long)need[pages].before,
                (unsigned long long)p->space.free);
}

/* True: zeros. */
static bool fill_bytes(int64_t off, int64_t end)
{
    bool zero = below(10) == 0;

    for (int64_t at = off; at < end; at++)
        mp_shared->bytes[at - off] = zero ? 0 : stress_pattern(mp_counts.ops, at);
    return zero;
}

static void op_store(enum mp_by by)
{
    unsigned who, slot;
    struct mp_slot *s = pick_slot(&who, &slot);
    struct mp_order order = {.op = MP_STORE, .by = by, .slot = slot};
    struct need need[MAX_PAGES] = {{0}};
    struct mp_answer answer;
    struct prediction p;
    bool refused, zeros;
    int64_t off, end;

    if (!s->mapped || !pick_range(&files[s->file], s->off, s->off + (int64_t)s->len, &off, &end))
        return;
    if (below(4) == 0 && mp_back_sync() < 0) /* then nothing is reserved: who is refused is known exactly */
        mp_fail(false, "sync failed");
    p = predict(s, off, end);
    if (p.known)
        count_need(s->file, off, off + p.done, need);
    zeros = fill_bytes(off, end);
    order.at = (uint64_t)(off - s->off);
    order.len = (uint64_t)(end - off);
    answer = mp_worker_do(who, &order);
    mp_log("#%llu store by %u%s map %u file %u [%lld, %lld) size %lld -> %lld, %lld bytes",
           (unsigned long long)mp_counts.ops, who, by == MP_SELF ? "" : "'s child", slot, s->file,
           (long long)off, (long long)end, (long long)files[s->file].size, (long long)answer.result,
           (long long)answer.done);
    stored(s->file, off, answer.done);
    refused = answer.result == -ENOSPC && answer.done < p.done;
    if (!refused && (answer.done != p.done || (answer.result != -p.error && (p.known || answer.result >= 0))))
        mp_fail(false, "the store ended with %lld after %lld bytes, expected %d after %lld",
                (long long)answer.result, (long long)answer.done, -p.error, (long long)p.done);
    judge_space(&p, need, off, answer.done, zeros, refused);
    mp_counts.stores++;
    mp_counts.refused += refused;
    mp_counts.forks += by != MP_SELF;
    look(s->file, off, end, who);
}

/* ------------------------------------------------------------------ the file */

static unsigned pick_file(void)
{
    return (unsigned)below(MP_FILES);
}

static void zeroed(unsigned file, int64_t off, int64_t end)
{
    end = least(end, mp_shared->cap);
    if (off < end)
        memset(files[file].val + off, 0, (size_t)(end - off));
}

static void resized(unsigned file, int64_t size)
{
    struct file *f = &files[file];

    zeroed(file, least(size, f->size), most(size, f->size));
    f->size = size;
    if (mp_back_size(file) != size)
        mp_fail(false, "file %u has %lld bytes, expected %lld", file, (long long)mp_back_size(file),
                (long long)size);
}

static void op_pwrite(void)
{
    unsigned file = pick_file();
    struct file *f = &files[file];
    struct mp_space space = {0};
    bool known;
    int64_t off, end, n, size = f->size;

    if (!pick_range(f, 0, mp_shared->cap, &off, &end))
        return;
    known = mp_back_space(&space) && !mp_options.must_fail;
    fill_bytes(off, end);
    n = mp_back_pwrite(file, mp_shared->bytes, (size_t)(end - off), off);
    mp_log("#%llu pwrite file %u [%lld, %lld) size %lld -> %lld", (unsigned long long)mp_counts.ops, file,
           (long long)off, (long long)end, (long long)size, (long long)n);
    if (n == 0 || n > end - off || (n < 0 && n != -ENOSPC))
        mp_fail(false, "pwrite of %lld bytes: %lld", (long long)(end - off), (long long)n);
    if (n > 0) {
        memcpy(f->val + off, mp_shared->bytes, (size_t)n);
        if (off > size)
            zeroed(file, size, off);
        if (off + n > size)
            f->size = off + n;
    }
    if (mp_back_size(file) != f->size)
        mp_fail(false, "file %u has %lld bytes, expected %lld", file, (long long)mp_back_size(file),
                (long long)f->size);
    if (n < end - off && known) {
        int64_t from = off + most(n, 0), b = mp_options.block_size;
        mp_counts.refused++;
        /* the next block was not to be had after what was written */
        if (space.free >= (uint64_t)((end + b - 1) / b - off / b) + 1)
            mp_fail(false, "pwrite stopped at %lld while %llu blocks were free", (long long)from,
                    (unsigned long long)space.free);
    }
    look(file, off > size ? size : off, end, MP_WORKERS);
}

static void op_truncate(void)
{
    unsigned file = pick_file();
    int64_t size = files[file].size, to, cap = mp_shared->cap;
    uint64_t r = below(100);
    int err;

    if (r < 6)
        to = (int64_t)below((uint64_t)cap + 1);
    else if (r < 10)
        to = (int64_t)below((uint64_t)(cap / hw_page()) + 1) * hw_page();
    else if (r < 70)
        to = size + 1 + (int64_t)below(r < 35 ? 64 : 3 * 4096);
    else
        to = size - 1 - (int64_t)below(r < 85 ? 64 : 3 * 4096);
    to = most(0, least(to, cap));
    err = mp_back_truncate(file, to);
    mp_log("#%llu truncate file %u %lld -> %lld: %d", (unsigned long long)mp_counts.ops, file,
           (long long)size, (long long)to, err);
    if (err)
        mp_fail(false, "truncate: %d", err);
    resized(file, to);
    look(file, least(size, to) - 4096, most(size, to), MP_WORKERS);
}

static void op_punch(void)
{
    unsigned file = pick_file();
    int64_t off, end;
    int err;

    if (!pick_range(&files[file], 0, mp_shared->cap, &off, &end))
        return;
    err = mp_back_punch(file, off, end - off);
    mp_log("#%llu punch file %u [%lld, %lld): %d", (unsigned long long)mp_counts.ops, file, (long long)off,
           (long long)end, err);
    if (err)
        mp_fail(false, "punch: %d", err);
    zeroed(file, off, least(end, files[file].size));
    look(file, off - 100, end + 100, MP_WORKERS);
}

static void op_allocate(void)
{
    unsigned file = pick_file();
    int64_t off, end;
    int err;

    if (!pick_range(&files[file], 0, mp_shared->cap, &off, &end))
        return;
    err = mp_back_allocate(file, off, end - off);
    mp_log("#%llu fallocate file %u [%lld, %lld): %d", (unsigned long long)mp_counts.ops, file,
           (long long)off, (long long)end, err);
    if (err != 0 && err != -ENOSPC)
        mp_fail(false, "fallocate: %d", err);
    resized(file, err ? files[file].size : most(files[file].size, end));
    look(file, off - 100, end + 100, MP_WORKERS);
}

static void op_fsync(void)
{
    unsigned file = pick_file();
    int err = below(4) == 0 ? mp_back_sync() : mp_back_fsync(file);

    mp_log("#%llu fsync file %u: %d", (unsigned long long)mp_counts.ops, file, err);
    if (err)
        mp_fail(false, "fsync: %d", err); /* HOLD-2: least of all ENOSPC */
}

static void op_fill(void)
{
    int64_t bytes = (int64_t)below(MP_FILES * (uint64_t)mp_shared->cap * mp_options.space_percent / 100);

    if (below(3) == 0)
        bytes = 0;
    mp_back_fill(bytes);
    mp_log("#%llu fill %lld", (unsigned long long)mp_counts.ops, (long long)bytes);
}

/* ------------------------------------------------------------------ mappings */

static void order_ok(unsigned who, const struct mp_order *order, const char *what)
{
    struct mp_answer answer = mp_worker_do(who, order);

    if (answer.result != 0)
        mp_fail(false, "%s by worker %u: %lld", what, who, (long long)answer.result);
}

static void map_slot(unsigned who, unsigned slot)
{
    struct mp_slot *s = &mp_workers[who].slots[slot];
    int64_t pages = mp_shared->cap / hw_page(), first = below(2) ? 0 : (int64_t)below((uint64_t)pages);
    int64_t nr = first == 0 ? pages : 1 + (int64_t)below((uint64_t)(pages - first));
    const struct mp_slot *beside = &mp_workers[who].slots[!slot];

    s->file = beside->mapped && below(3) == 0 ? beside->file : pick_file();
    s->off = first * hw_page();
    s->len = (uint64_t)(nr * hw_page());
    s->prot = PROT_READ | PROT_WRITE;
    order_ok(who,
             &(struct mp_order){
                 .op = MP_MAP, .slot = slot, .file = s->file, .off = s->off, .len = s->len, .prot = s->prot},
             "mmap");
    s->mapped = true;
}

static void unmap_slot(unsigned who, unsigned slot)
{
    if (mp_workers[who].slots[slot].mapped)
        order_ok(who, &(struct mp_order){.op = MP_UNMAP, .slot = slot}, "munmap");
    mp_workers[who].slots[slot].mapped = false;
}

static void map_all(void)
{
    for (unsigned i = 0; i < MP_WORKERS * MP_SLOTS; i++)
        if (!mp_workers[i / MP_SLOTS].slots[i % MP_SLOTS].mapped)
            map_slot(i / MP_SLOTS, i % MP_SLOTS);
}

static void op_map(void)
{
    unsigned who, slot;

    pick_slot(&who, &slot);
    unmap_slot(who, slot);
    map_slot(who, slot);
    mp_log("#%llu map anew %u/%u: file %u %lld+%llu", (unsigned long long)mp_counts.ops, who, slot,
           mp_workers[who].slots[slot].file, (long long)mp_workers[who].slots[slot].off,
           (unsigned long long)mp_workers[who].slots[slot].len);
}

static void op_remap(void)
{
    unsigned who, slot;
    struct mp_slot *s = pick_slot(&who, &slot);
    uint64_t pages = (uint64_t)((mp_shared->cap - s->off) / hw_page());
    uint64_t len = (1 + below(pages)) * (uint64_t)hw_page();

    order_ok(who, &(struct mp_order){.op = MP_REMAP, .slot = slot, .len = len}, "mremap");
    mp_log("#%llu mremap %u/%u: %llu -> %llu", (unsigned long long)mp_counts.ops, who, slot,
           (unsigned long long)s->len, (unsigned long long)len);
    s->len = len;
    look_through(who, slot, 0, mp_shared->cap);
}

static void op_protect(void)
{
    unsigned who, slot;
    struct mp_slot *s = pick_slot(&who, &slot);
    int prot = s->prot ^ PROT_WRITE;

    order_ok(who, &(struct mp_order){.op = MP_PROTECT, .slot = slot, .prot = prot}, "mprotect");
    s->prot = prot;
    mp_log("#%llu mprotect %u/%u: %d", (unsigned long long)mp_counts.ops, who, slot, prot);
}

static void op_msync(void)
{
    unsigned who, slot;
    struct mp_slot *s = pick_slot(&who, &slot);

    order_ok(who, &(struct mp_order){.op = MP_SYNC, .slot = slot, .len = s->len}, "msync");
    mp_log("#%llu msync %u/%u", (unsigned long long)mp_counts.ops, who, slot);
}

static void op_look(void)
{
    unsigned who, slot;
    struct mp_slot *s = pick_slot(&who, &slot);
    int64_t off, end;

    if (pick_range(&files[s->file], s->off, s->off + (int64_t)s->len, &off, &end))
        look_through(who, slot, off, end);
    else
        look_by_pread(s->file, 0, mp_shared->cap);
}

/* ------------------------------------------------------------------ processes */

/* What a server must not do with the pages of a dead client; a negative control does. */
static void lose_pages_of(unsigned who)
{
    const struct mp_slot *s = &mp_workers[who].slots[0];

    mp_back_punch(s->file, s->off, (int64_t)s->len);
}

static void op_kill(void)
{
    unsigned who = (unsigned)below(MP_WORKERS);

    mp_worker_kill(who);
    mp_log("#%llu kill %u", (unsigned long long)mp_counts.ops, who);
    if (mp_options.break_dead)
        lose_pages_of(who);
    mp_worker_start(who);
    map_all();
    look_through(who, 0, 0, mp_shared->cap);
}

static void op_exec(void)
{
    unsigned who = (unsigned)below(MP_WORKERS);

    order_ok(who, &(struct mp_order){.op = MP_EXEC}, "exec");
    mp_log("#%llu exec %u", (unsigned long long)mp_counts.ops, who);
    for (unsigned i = 0; i < MP_SLOTS; i++)
        mp_workers[who].slots[i].mapped = false;
    map_all();
}

/* A child goes on with the mappings it has inherited; we become its parent. */
static void op_heir(void)
{
    unsigned who = (unsigned)below(MP_WORKERS);
    struct mp_answer answer = mp_worker_do(who, &(struct mp_order){.op = MP_HEIR});

    if (answer.result != 0)
        mp_fail(false, "fork by worker %u: %lld", who, (long long)answer.result);
    while (waitpid(mp_workers[who].pid, NULL, 0) < 0 && errno == EINTR)
        ;
    mp_workers[who].pid = answer.pid;
    mp_counts.forks++;
    mp_log("#%llu heir of %u", (unsigned long long)mp_counts.ops, who);
    look_through(who, (unsigned)below(MP_SLOTS), 0, mp_shared->cap);
}

/* Nothing hangs, nothing reads as zeros; and nothing that was accepted goes with the server. */
static void op_server(void)
{
    if (!mp_back_serve_no_more())
        return;
    mp_counts.servers++;
    mp_log("#%llu the server ends", (unsigned long long)mp_counts.ops);
    for (unsigned i = 0; i < MP_WORKERS * MP_SLOTS; i++) {
        struct mp_order order = {.op = MP_STORE, .slot = i % MP_SLOTS, .len = 1};
        struct mp_answer answer = mp_worker_do(i / MP_SLOTS, &order);

        if (answer.result >= 0 || answer.done != 0)
            mp_fail(true, "worker %u stores to a server that is gone: %lld", i / MP_SLOTS,
                    (long long)answer.result);
        unmap_slot(i / MP_SLOTS, i % MP_SLOTS);
    }
    mp_back_serve_again();
    map_all();
    look_at_all();
}

static void op_reopen(void)
{
    mp_log("#%llu reopen", (unsigned long long)mp_counts.ops);
    for (unsigned i = 0; i < MP_WORKERS; i++) {
        if (below(3) == 0) {
            mp_worker_kill(i);
            mp_worker_start(i);
            continue;
        }
        for (unsigned slot = 0; slot < MP_SLOTS; slot++)
            unmap_slot(i, slot);
    }
    mp_back_reopen();
    mp_counts.reopens++;
    map_all();
    look_at_all();
}

/* ------------------------------------------------------------------ running */

/* In a thousand. */
static void step(void)
{
    uint64_t r = below(1000);

    mp_counts.ops++;
    if (r < 330)
        op_store(MP_SELF);
    else if (r < 380)
        op_store(below(2) ? MP_CHILD_EXITS : MP_CHILD_KILLED);
    else if (r < 480)
        op_look();
    else if (r < 600)
        op_pwrite();
    else if (r < 730)
        op_truncate();
    else if (r < 780)
        op_punch();
    else if (r < 800)
        op_allocate();
    else if (r < 840)
        op_fsync();
    else if (r < 870)
        op_msync();
    else if (r < 890)
        op_fill();
    else if (r < 925)
        op_map();
    else if (r < 950)
        op_remap();
    else if (r < 965)
        op_protect();
    else if (r < 980)
        op_kill();
    else if (r < 985)
        op_exec();
    else if (r < 993)
        op_heir();
    else if (r < 996)
        op_server();
    else
        op_reopen();
}

static void expect_write(void)
{
    FILE *out = fopen(mp_options.expect, "w");

    if (out == NULL || fwrite(files, sizeof(files), 1, out) != 1 || fclose(out) != 0)
        mp_fail(false, "%s cannot be written", mp_options.expect);
}

void mp_model_run(void)
{
    rng.state = mp_options.seed;
    for (unsigned i = 0; i < MP_WORKERS; i++)
        mp_worker_start(i);
    map_all();
    while ((mp_options.ops == 0 || mp_counts.ops < mp_options.ops) && !mp_time_is_up())
        step();
    op_reopen();
    for (unsigned i = 0; i < MP_FILES; i++) { /* nothing may come back from beyond the end */
        if (mp_back_truncate(i, mp_shared->cap) != 0)
            mp_fail(false, "truncate to the capacity");
        resized(i, mp_shared->cap);
    }
    op_reopen();
    for (unsigned i = 0; i < MP_WORKERS; i++)
        mp_worker_end(i);
    if (mp_options.expect != NULL)
        expect_write();
}

void mp_model_verify(void)
{
    FILE *in = fopen(mp_options.expect, "r");

    if (in == NULL || fread(files, sizeof(files), 1, in) != 1)
        mp_fail(false, "%s cannot be read", mp_options.expect);
    fclose(in);
    for (unsigned i = 0; i < MP_FILES; i++) {
        if (mp_back_size(i) != files[i].size)
            mp_fail(false, "file %u has %lld bytes, expected %lld", i, (long long)mp_back_size(i),
                    (long long)files[i].size);
        look_by_pread(i, 0, mp_shared->cap);
    }
}
