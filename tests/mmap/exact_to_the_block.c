/* SPDX-License-Identifier: MIT */
/*
 * exact_to_the_block.c - as many stores are accepted as statfs said there were free blocks, whatever the page
 * size is; what turned out not to be needed is given back.
 */
#include "mmap_test.h"

#define PAGES 64
#define FREE_PAGES 23

#define FREE_BLOCKS 29

/* Stores one byte to each page in this order; returns how many were accepted before the first refusal. */
static size_t store_in_order(struct target *t, uint8_t *map, const size_t *order, size_t nr)
{
    for (size_t i = 0; i < nr; i++) {
        int ret = store_byte(map + order[i] * t->page_size + 9, (uint8_t)(order[i] + 1));

        if (ret < 0) {
            assert_err(ret, ENOSPC);
            return i;
        }
    }
    return nr;
}

enum order { FORWARD, BACKWARD, SCATTERED, EVERY_SECOND };

static void fill_order(enum order how, size_t *order)
{
    for (size_t i = 0; i < PAGES; i++) {
        switch (how) {
        case FORWARD:
            order[i] = i;
            break;
        case BACKWARD:
            order[i] = PAGES - 1 - i;
            break;
        case SCATTERED:
            order[i] = i * 37 % PAGES;
            break;
        case EVERY_SECOND:
            order[i] = i < PAGES / 2 ? 2 * i : 2 * (i - PAGES / 2) + 1;
            break;
        }
    }
}

static void check_order(struct target *t, enum order how)
{
    struct target_file file;
    uint64_t left = blocks_per_store(t) - 1;
    size_t order[PAGES], accepted;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);

    fill_order(how, order);
    target_fill_but(t, "ballast", FREE_BLOCKS);
    accepted = store_in_order(t, map, order, PAGES);
    assert_int_equal(accepted, FREE_BLOCKS - left);
    assert_count(target_statfs(t).blocks_free, left);
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_reserved, 0);
    assert_count(target_statfs(t).blocks_free, left);
    for (size_t i = 0; i < PAGES; i++)
        assert_int_equal(byte_at(map + order[i] * t->page_size + 9), i < accepted ? order[i] + 1 : 0);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
    assert_ok(t_unlink(t, "f"));
    assert_ok(t_unlink(t, "ballast"));
}

static void forward(struct target *t)
{
    check_order(t, FORWARD);
}

static void backward(struct target *t)
{
    check_order(t, BACKWARD);
}

static void scattered(struct target *t)
{
    check_order(t, SCATTERED);
}

static void every_second(struct target *t)
{
    check_order(t, EVERY_SECOND);
}

/* Whole pages, one after the other: every free block ends up with data. */
static void all_blocks_of_all_pages(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    size_t block = t->block_size, accepted = 0;

    target_fill_but(t, "ballast", FREE_PAGES * blocks_per_page(t));
    while (store_byte(map + accepted * block, 'a') == 0)
        accepted++;
    assert_count(accepted, FREE_PAGES * blocks_per_page(t));
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_free, 0);
    assert_count(target_statfs(t).blocks_reserved, 0);
    assert_count(stat_of(&file).st_blocks, accepted * block / 512);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

/* The last page holds EOF: it needs blocks only up to there (HOLD-3). */
static void the_last_page_takes_what_the_file_has(struct target *t)
{
    size_t page = t->page_size;
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, (hf_off_t)(2 * page + 1)));
    map = map_shared(&file, 0, 3 * page);
    target_fill_but(t, "ballast", 1);
    assert_ok(store_byte(map + 2 * page, 'e'));
    assert_count(target_statfs(t).blocks_free, 0);
    if (blocks_per_page(t) > 1)
        assert_ok(store_byte(map + eof_page_end(2 * page + 1) - 1, 't'));
    assert_ok(t_fsync(&file));
    expect_range(&file, (hf_off_t)(2 * page), 1, 'e');
    assert_count(stat_of(&file).st_blocks, t->block_size / 512);
    unmap_ok(t, map, 3 * page);
    close_ok(&file);
}

static void loads_take_nothing(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    struct hf_statfs before = target_statfs(t), after;

    assert_bytes(map, 0, PAGES * t->page_size);
    assert_ok(hf_fault_in(map, PAGES * t->page_size, false));
    after = target_statfs(t);
    assert_count(after.blocks_free, before.blocks_free);
    assert_count(after.blocks_reserved, 0);
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, 0);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void zero_blocks_are_given_back(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    struct hf_statfs before = target_statfs(t), after;
    struct hf_volume_stats stats;

    for (size_t i = 0; i < 10; i++)
        map[i * t->page_size] = 0;
    after = target_statfs(t);
    assert_true(after.blocks_free <= before.blocks_free - 10 * blocks_per_page(t));
    assert_true(after.blocks_reserved >= 10 * blocks_per_page(t));
    assert_ok(t_fsync(&file));
    after = target_statfs(t);
    assert_count(after.blocks_free, before.blocks_free);
    assert_count(after.blocks_reserved, 0);
    assert_count(stat_of(&file).st_blocks, 0);
    stats = target_stats(t);
    assert_true(stats.zero_blocks_released >= 10 * blocks_per_page(t));
    assert_int_equal(stats.dirty_pages, 0);
    /* After that a store has to ask again. */
    target_fill_but(t, "ballast", 0);
    assert_err(store_byte(map, 'x'), ENOSPC);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

/* One byte in one block of each page: the other blocks, and the window around, go back at writeback. */
static void only_what_has_bytes_is_allocated(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    uint64_t before = target_statfs(t).blocks_free;

    for (size_t i = 0; i < 10; i++)
        map[i * t->page_size + t->page_size / 2] = 'x';
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_free, before - 10);
    assert_count(target_statfs(t).blocks_reserved, 0);
    assert_count(stat_of(&file).st_blocks, 10 * (t->block_size / 512));
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(byte_at(map + i * t->page_size + t->page_size / 2), 'x');
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void punched_pages_give_back_and_ask_again(struct target *t)
{
    struct target_file file;
    size_t page = t->page_size;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);

    target_fill_but(t, "ballast", 4 * blocks_per_page(t));
    memset(map, 'x', 4 * page);
    assert_count(target_statfs(t).blocks_free, 0);
    assert_ok(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (hf_off_t)(2 * page)));
    assert_count(target_statfs(t).blocks_free, 2 * blocks_per_page(t));
    memset(map + 8 * page, 'y', 2 * page);
    assert_err(store_byte(map, 'z'), ENOSPC);
    assert_bytes(map, 0, 2 * page);
    assert_bytes(map + 2 * page, 'x', 2 * page);
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_free, 0);
    unmap_ok(t, map, PAGES * page);
    close_ok(&file);
}

/* A store into a block that is there takes the hole beside it as well; who needs that hole gets it. */
static void a_hole_beside_the_store_is_given_back(struct target *t)
{
    uint64_t nr = blocks_per_store(t);
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);

    fill_range(&file, 0, (size_t)(nr > 1 ? nr - 1 : 1) * t->block_size, 'w');
    assert_ok(t_fsync(&file));
    target_fill_but(t, "ballast", nr);
    assert_ok(store_byte(map, 's'));
    assert_ok(store_byte(map + 8 * t->page_size, 'n'));
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_free, nr - 1);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(forward, ON_HOLDFAST),
    BODY(backward, ON_HOLDFAST),
    BODY(scattered, ON_HOLDFAST),
    BODY(every_second, ON_HOLDFAST),
    BODY(all_blocks_of_all_pages, ON_HOLDFAST),
    BODY(the_last_page_takes_what_the_file_has, ON_HOLDFAST),
    BODY(loads_take_nothing, ON_HOLDFAST),
    BODY(zero_blocks_are_given_back, ON_HOLDFAST),
    BODY(only_what_has_bytes_is_allocated, ON_HOLDFAST),
    BODY(punched_pages_give_back_and_ask_again, ON_HOLDFAST),
    BODY(a_hole_beside_the_store_is_given_back, ON_HOLDFAST),
};

MMAP_TEST_MAIN("exact_to_the_block", bodies)
