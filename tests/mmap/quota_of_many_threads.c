/* SPDX-License-Identifier: MIT */
/*
 * quota_of_many_threads.c - threads store, change owners, cut, punch, preallocate, create, unlink, sync and
 * set limits, all at once; what everybody is charged for agrees with a full scan at every moment of it, and a
 * hard limit is never exceeded.
 */
#include "mmap_test.h"

#include <holdfast/quota.h>

#include <pthread.h>
#include <stdatomic.h>

#define FILES 3
#define PAGES 12
#define STORERS 2
#define IDS 3
#define FIRST_ID 7000u

struct world {
    struct target *t;
    struct target_file file[FILES];
    uint8_t *map[FILES];
    unsigned rounds;
    _Atomic unsigned running;
    _Atomic int wrong; /* an error that nobody expects */
    _Atomic unsigned refused, accepted;
};

struct worker {
    struct world *w;
    unsigned nr;
    uint32_t random;
    pthread_t thread;
};

static unsigned below(struct worker *me, unsigned n)
{
    me->random = me->random * 1664525u + 1013904223u;
    return (me->random >> 8) % n;
}

/* 0 and a refusal for quota are fine, and one more. */
static void expect(struct worker *me, int64_t ret, int also)
{
    if (ret == -EDQUOT)
        atomic_fetch_add(&me->w->refused, 1u);
    else if (ret >= 0)
        atomic_fetch_add(&me->w->accepted, 1u);
    else if (ret != -also)
        atomic_store(&me->w->wrong, (int)-ret);
}

/* Each storer has bytes of its own in every page. */
static void store(struct worker *me)
{
    struct world *w = me->w;
    size_t at = below(me, PAGES) * w->t->page_size + 64 * me->nr;
    uint8_t value = (uint8_t)(1 + below(me, 200));
    size_t done;

    expect(me, hf_store(w->map[below(me, FILES)] + at, &value, 1, &done), ENXIO);
}

static void own(struct worker *me)
{
    struct world *w = me->w;
    struct hf_file *f = w->file[below(me, FILES)].hf;

    if (below(me, 3) == 0)
        expect(me, hf_fset_project(f, FIRST_ID + below(me, IDS), 0), 0);
    else
        expect(me, hf_fchown(f, FIRST_ID + below(me, IDS), FIRST_ID + below(me, IDS)), 0);
}

static void cut(struct worker *me)
{
    struct world *w = me->w;
    struct hf_file *f = w->file[below(me, FILES)].hf;
    hf_off_t size = (hf_off_t)(PAGES * w->t->page_size), block = w->t->block_size;
    hf_off_t off = (hf_off_t)below(me, (unsigned)(size / block)) * block;
    hf_off_t len = (hf_off_t)(1 + below(me, 8)) * block;

    switch (below(me, 4)) {
    case 0:
        expect(me, hf_ftruncate(f, off), 0);
        break;
    case 1:
        expect(me, hf_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len), 0);
        break;
    case 2:
        expect(me, hf_fallocate(f, FALLOC_FL_KEEP_SIZE, off, len), 0);
        break;
    default:
        expect(me, hf_ftruncate(f, size), 0);
        break;
    }
}

static void make(struct worker *me)
{
    struct world *w = me->w;
    char name[16], bytes[2048];
    struct hf_file *f;
    int ret;

    memset(bytes, 'm', sizeof(bytes));
    snprintf(name, sizeof(name), "m%u", me->nr);
    ret = hf_open(w->t->volume, name, O_RDWR | O_CREAT | O_EXCL, 0600, &f);
    expect(me, ret, 0);
    if (ret < 0)
        return;
    expect(me, hf_fchown(f, FIRST_ID + below(me, IDS), (gid_t)-1), 0);
    expect(me, hf_pwrite(f, bytes, sizeof(bytes), (hf_off_t)below(me, 5) * 1000), 0);
    expect(me, hf_unlink(w->t->volume, name), 0);
    expect(me, hf_pwrite(f, bytes, sizeof(bytes), 20000), 0);
    expect(me, hf_close(f), 0);
}

static void sync_or_limit(struct worker *me)
{
    struct world *w = me->w;
    struct hf_quota_limits limits = {.type = (enum hf_quota_type)below(me, HF_QUOTA_TYPES),
                                     .id = FIRST_ID + below(me, IDS),
                                     .blocks_hard = below(me, 3) * below(me, 60),
                                     .inodes_hard = below(me, 4) == 0 ? 1 + below(me, 3) : 0};

    if (below(me, 3) == 0)
        expect(me, hf_quota_set(w->t->volume, &limits), 0);
    else
        expect(me, hf_fsync(w->file[below(me, FILES)].hf), 0);
}

static void *work(void *arg)
{
    static void (*const jobs[])(struct worker * me) = {store, store, own, cut, make, sync_or_limit};
    struct worker *me = arg;

    for (unsigned i = 0; i < me->w->rounds; i++)
        jobs[me->nr](me);
    atomic_fetch_sub(&me->w->running, 1u);
    return NULL;
}

#define WORKERS 6

static void the_sums_agree_at_any_time(struct target *t)
{
    const char *longer = getenv("HF_TEST_ROUNDS"); /* the races that this is about are short */
    struct world w = {
        .t = t, .rounds = longer ? (unsigned)strtoul(longer, NULL, 10) : 250, .running = WORKERS};
    struct worker workers[WORKERS];
    struct hf_quota_check check;
    uint64_t checks = 0;
    int differences;

    for (unsigned i = 0; i < FILES; i++)
        w.map[i] = map_sparse(t, (char[]){'f', (char)('0' + i), 0}, PAGES, &w.file[i]);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.w = &w, .nr = i, .random = 4711 + i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    do {
        differences = hf_quota_check(t->volume, &check);
        checks++;
    } while (differences == 0 && atomic_load(&w.running) > 0);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i].thread, NULL);
    assert_that(
        differences == 0,
        "check %llu: %d differences: type %d id %u: %llu blocks kept, %llu found; %llu inodes kept, %llu "
        "found; %llu reserved, %llu promised",
        (unsigned long long)checks, differences, (int)check.type, check.id,
        (unsigned long long)check.blocks_kept, (unsigned long long)check.blocks_found,
        (unsigned long long)check.inodes_kept, (unsigned long long)check.inodes_found,
        (unsigned long long)check.reserved_kept, (unsigned long long)check.reserved_found);
    assert_that(atomic_load(&w.wrong) == 0, "an error that nobody expects: %s",
                strerror(atomic_load(&w.wrong)));
    assert_count(hf_quota_check(t->volume, &check), 0);
    assert_true(atomic_load(&w.accepted) > 0); /* how many are refused is a matter of luck */
    for (unsigned i = 0; i < FILES; i++) {
        unmap_ok(t, w.map[i], PAGES * t->page_size);
        close_ok(&w.file[i]);
    }
}

/* ---- one limit, many storers */

#define SHARERS 4
#define SHARED_PAGES 64

struct sharer {
    struct world *w;
    uint8_t *map;
    size_t accepted;
    int error;
    pthread_t thread;
};

static void *share(void *arg)
{
    struct sharer *me = arg;

    for (size_t i = 0; i < SHARED_PAGES; i++) {
        size_t done;
        int ret = hf_store(me->map + i * me->w->t->page_size, "s", 1, &done);

        if (ret == 0)
            me->accepted++;
        else if (ret != -EDQUOT)
            me->error = -ret;
    }
    atomic_fetch_sub(&me->w->running, 1u);
    return NULL;
}

static void a_hard_limit_is_never_exceeded(struct target *t)
{
    struct world w = {.t = t, .running = SHARERS};
    struct hf_quota_limits limits = {.type = HF_QUOTA_GROUP, .id = getegid()};
    struct sharer sharers[SHARERS];
    struct target_file files[SHARERS];
    struct hf_quota quota;
    uint64_t most = 0;
    size_t accepted = 0;

    limits.blocks_hard = 100 + SHARERS * blocks_per_store(t);
    for (unsigned i = 0; i < SHARERS; i++)
        sharers[i] = (struct sharer){
            .w = &w, .map = map_sparse(t, (char[]){'f', (char)('0' + i), 0}, SHARED_PAGES, &files[i])};
    assert_ok(hf_quota_set(t->volume, &limits));
    for (unsigned i = 0; i < SHARERS; i++)
        assert_int_equal(pthread_create(&sharers[i].thread, NULL, share, &sharers[i]), 0);
    do {
        assert_ok(hf_quota_get(t->volume, limits.type, limits.id, &quota));
        most = quota.blocks_used > most ? quota.blocks_used : most;
    } while (atomic_load(&w.running) > 0);
    for (unsigned i = 0; i < SHARERS; i++) {
        pthread_join(sharers[i].thread, NULL);
        assert_int_equal(sharers[i].error, 0);
        accepted += sharers[i].accepted;
    }
    assert_that(most <= limits.blocks_hard, "%llu blocks were used of %llu", (unsigned long long)most,
                (unsigned long long)limits.blocks_hard);
    assert_true(accepted >= 64 && accepted <= limits.blocks_hard);
    assert_ok(hf_volume_sync(t->volume));
    assert_ok(hf_quota_get(t->volume, limits.type, limits.id, &quota));
    assert_count(quota.blocks_used, accepted); /* one block each, and nothing is left over */
    for (unsigned i = 0; i < SHARERS; i++) {
        unmap_ok(t, sharers[i].map, SHARED_PAGES * t->page_size);
        close_ok(&files[i]);
    }
}

static const struct test_body bodies[] = {
    BODY(the_sums_agree_at_any_time, ON(TARGET_BLOCKFS)),
    BODY(a_hard_limit_is_never_exceeded, ON(TARGET_BLOCKFS)),
};

MMAP_TEST_MAIN("quota_of_many_threads", bodies)
