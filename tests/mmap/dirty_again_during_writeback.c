/* SPDX-License-Identifier: MIT */
/*
 * dirty_again_during_writeback.c - a clean page asks again before it is writable, and a store that comes
 * while the page is being written is in the next writeback.
 */
#include "mmap_test.h"

#include <pthread.h>
#include <stdatomic.h>

static void a_clean_page_asks_again(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 4, &file);
    struct hf_volume_stats before, after;

    for (int round = 1; round <= 5; round++) {
        before = target_stats(t);
        map[0] = (uint8_t)round;
        after = target_stats(t);
        assert_true(after.mkwrites > before.mkwrites);
        assert_true(after.dirty_pages > 0);
        assert_true(page_info(&file, 0).writable);
        before = after;
        map[1] = (uint8_t)round;
        after = target_stats(t);
        assert_int_equal(after.mkwrites, before.mkwrites);
        assert_ok(t_fsync(&file));
        after = target_stats(t);
        assert_true(after.mkcleans > before.mkcleans);
        assert_true(after.pages_written > before.pages_written);
        assert_int_equal(after.dirty_pages, 0);
        assert_false(page_info(&file, 0).writable);
    }
    unmap_ok(t, map, 4 * t->page_size);
    close_ok(&file);
}

static void msync_writes_its_range_only(struct target *t)
{
    struct target_file file;
    size_t page = t->page_size;
    uint8_t *map = map_sparse(t, "f", 8, &file);

    /* A size that is not on the device yet would bring all data below it along. */
    assert_ok(t_fsync(&file));
    memset(map, 'm', 8 * page);
    assert_ok(t_msync(t, map + 2 * page, 3 * page, MS_SYNC));
    for (uint64_t i = 0; i < 8; i++) {
        bool in = i >= 2 && i < 5;
        struct hf_page_info info = page_info(&file, i);

        assert_that(info.block_dirty[0] == !in, "page %llu, %s", (unsigned long long)i, info.state);
        assert_int_equal(info.block_state[0], in ? HF_BLOCK_WRITTEN : HF_BLOCK_RESERVED);
    }
    assert_ok(t_msync(t, map, 8 * page, MS_ASYNC));
    assert_ok(t_msync(t, map, 8 * page, MS_SYNC));
    assert_int_equal(target_stats(t).dirty_pages, 0);
    unmap_ok(t, map, 8 * page);
    close_ok(&file);
}

static void the_flusher_writes_by_age(struct target *t)
{
    struct hf_open_options opts = t->spec->open;
    struct target_file file;
    uint8_t *map;

    opts.writeback_ms = 20;
    reopen_with(t, &opts);
    map = map_sparse(t, "f", 4, &file);
    map[0] = 'a';
    for (int i = 0; i < 300 && target_stats(t).dirty_pages > 0; i++)
        wait_for_clock();
    assert_int_equal(target_stats(t).dirty_pages, 0);
    assert_int_equal(page_info(&file, 0).block_state[0], HF_BLOCK_WRITTEN);
    map[0] = 'b';
    assert_true(target_stats(t).dirty_pages > 0);
    for (int i = 0; i < 300 && target_stats(t).dirty_pages > 0; i++)
        wait_for_clock();
    assert_int_equal(target_stats(t).dirty_pages, 0);
    expect_range(&file, 0, 1, 'b');
    unmap_ok(t, map, 4 * t->page_size);
    close_ok(&file);
}

#define COUNTERS 8

struct counting {
    struct target *target;
    uint8_t *map;
    atomic_bool stop;
    uint32_t last[COUNTERS];
};

/* One counter a page and one in the same page's last block; each store may find the page in any state. */
static void *count_on(void *arg)
{
    struct counting *me = arg;

    for (uint32_t i = 1; !atomic_load(&me->stop); i++) {
        uint8_t *page = me->map + i % COUNTERS * me->target->page_size;

        word_set(word_at(page + 64), i);
        word_set(word_at(page + me->target->page_size - 64), i);
        me->last[i % COUNTERS] = i;
    }
    return NULL;
}

static void no_store_is_lost_between_two_writebacks(struct target *t)
{
    struct counting counting = {.target = t};
    struct target_file file;
    pthread_t thread;

    counting.map = map_sparse(t, "f", COUNTERS, &file);
    assert_int_equal(pthread_create(&thread, NULL, count_on, &counting), 0);
    for (int i = 0; i < 60; i++) {
        assert_ok(t_fsync(&file));
        sched_yield();
    }
    atomic_store(&counting.stop, true);
    pthread_join(thread, NULL);
    assert_ok(t_fsync(&file));
    unmap_ok(t, counting.map, COUNTERS * t->page_size);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    for (size_t i = 0; i < COUNTERS; i++) {
        uint32_t got[2];
        hf_off_t page = (hf_off_t)(i * t->page_size);

        assert_count(t_pread(&file, &got[0], 4, page + 64), 4);
        assert_count(t_pread(&file, &got[1], 4, page + t->page_size - 64), 4);
        assert_int_equal(got[0], counting.last[i]);
        assert_int_equal(got[1], counting.last[i]);
    }
    close_ok(&file);
}

/* What fsync has returned for is on the device, even while others go on storing. */
static void synced_counters_never_go_back(struct target *t)
{
    struct counting counting = {.target = t};
    struct target_file file;
    pthread_t thread;
    uint32_t before, after;
    uint8_t *map;

    map = counting.map = map_sparse(t, "f", COUNTERS, &file);
    assert_int_equal(pthread_create(&thread, NULL, count_on, &counting), 0);
    for (int i = 0; i < 30; i++) {
        before = word_get(word_at(map + 64));
        assert_ok(t_fdatasync(&file));
        after = word_get(word_at(map + 64));
        assert_true(after >= before);
    }
    atomic_store(&counting.stop, true);
    pthread_join(thread, NULL);
    unmap_ok(t, map, COUNTERS * t->page_size);
    close_ok(&file);
}

#define LIMIT_PAGES 64
#define MANY_PAGES 300

/* The limit is not sharp: a window of pages around a fault may stand above it. */
static void dirty_limit_makes_writers_wait(struct target *t)
{
    struct hf_open_options opts = t->spec->open;
    struct target_file file;
    uint8_t *map;

    opts.dirty_bytes = LIMIT_PAGES * t->page_size;
    reopen_with(t, &opts);
    map = map_sparse(t, "f", MANY_PAGES, &file);
    for (size_t i = 0; i < MANY_PAGES; i++) {
        map[i * t->page_size] = (uint8_t)(i | 1);
        assert_that(target_stats(t).dirty_pages <= 3 * LIMIT_PAGES, "%llu pages are dirty",
                    (unsigned long long)target_stats(t).dirty_pages);
    }
    for (size_t i = 0; i < MANY_PAGES; i++)
        assert_int_equal(byte_at(map + i * t->page_size), (uint8_t)(i | 1));
    unmap_ok(t, map, MANY_PAGES * t->page_size);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(a_clean_page_asks_again, ON_HOLDFAST),
    BODY(msync_writes_its_range_only, ON_HOLDFAST),
    BODY(the_flusher_writes_by_age, ON(TARGET_BLOCKFS)),
    BODY(no_store_is_lost_between_two_writebacks, ON(TARGET_BLOCKFS)),
    BODY(synced_counters_never_go_back, ON_HOLDFAST),
    BODY(dirty_limit_makes_writers_wait, ON(TARGET_BLOCKFS)),
};

MMAP_TEST_MAIN("dirty_again_during_writeback", bodies)
