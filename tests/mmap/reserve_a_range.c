/* SPDX-License-Identifier: MIT */
/*
 * reserve_a_range.c - hf_reserve(): all or nothing, and then no store in the range is refused until the
 * range is truncated, punched, or the file's last user is gone.
 */
#include "mmap_test.h"

#define PAGES 8

static void expect_all_stores(struct target *t, uint8_t *map, size_t pages, uint8_t value)
{
    for (size_t off = 0; off < pages * t->page_size; off += t->block_size)
        assert_count(poke(map + off, value), 0);
}

static void reserved_stores_are_not_refused(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    struct hf_statfs before = target_statfs(t), after;

    assert_ok(hf_reserve(map, 4 * t->page_size));
    after = target_statfs(t);
    assert_count(after.blocks_free, before.blocks_free - 4 * blocks_per_page(t));
    assert_count(after.blocks_reserved, before.blocks_reserved + 4 * blocks_per_page(t));
    assert_bytes(map, 0, 4 * t->page_size);
    target_fill_but(t, "ballast", 0);
    expect_all_stores(t, map, 4, 'r');
    assert_err(store_byte(map + 4 * t->page_size, 'x'), ENOSPC);
    assert_ok(t_fsync(&file));
    expect_all_stores(t, map, 4, 's');
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_reserved, 0);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void all_or_nothing(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    struct hf_statfs before, after;

    target_fill_but(t, "ballast", 5 * blocks_per_page(t));
    before = target_statfs(t);
    assert_err(hf_reserve(map, PAGES * t->page_size), ENOSPC);
    assert_err(hf_reserve(map, 6 * t->page_size), ENOSPC);
    after = target_statfs(t);
    assert_count(after.blocks_free, before.blocks_free);
    assert_count(after.blocks_reserved, before.blocks_reserved);
    assert_ok(hf_reserve(map + t->page_size, 5 * t->page_size));
    assert_count(target_statfs(t).blocks_free, 0);
    /* Once more costs nothing. */
    assert_ok(hf_reserve(map + t->page_size, 5 * t->page_size));
    assert_err(hf_reserve(map, t->page_size), ENOSPC);
    expect_all_stores(t, map + t->page_size, 5, 'r');
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void what_is_written_costs_nothing(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    uint64_t before;

    memset(map, 'w', 2 * t->page_size);
    assert_ok(t_fsync(&file));
    before = target_statfs(t).blocks_free;
    assert_ok(hf_reserve(map, 3 * t->page_size));
    assert_count(target_statfs(t).blocks_free, before - blocks_per_page(t));
    assert_bytes(map, 'w', 2 * t->page_size);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

/* Zero blocks are given back at writeback; not those that were asked for. */
static void zeros_keep_a_reservation(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);

    assert_ok(hf_reserve(map, 4 * t->page_size));
    target_fill_but(t, "ballast", 0);
    for (int round = 0; round < 3; round++) {
        expect_all_stores(t, map, 4, 0);
        assert_ok(t_fsync(&file));
        assert_count(target_statfs(t).blocks_free, 0);
    }
    expect_all_stores(t, map, 4, 'r');
    assert_ok(t_fsync(&file));
    assert_bytes(map, 'r', 1);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void truncate_and_punch_release(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    uint64_t before = target_statfs(t).blocks_free, per_page = blocks_per_page(t);

    assert_ok(hf_reserve(map, PAGES * t->page_size));
    assert_count(target_statfs(t).blocks_free, before - PAGES * per_page);
    assert_ok(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, t->page_size, 2 * t->page_size));
    assert_count(target_statfs(t).blocks_free, before - (PAGES - 2) * per_page);
    assert_ok(t_ftruncate(&file, 5 * t->page_size));
    assert_count(target_statfs(t).blocks_free, before - 3 * per_page);
    assert_ok(t_ftruncate(&file, 0));
    assert_count(target_statfs(t).blocks_free, before);
    assert_count(target_statfs(t).blocks_reserved, 0);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void the_last_user_releases(struct target *t)
{
    struct target_file file, second;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    uint64_t before = target_statfs(t).blocks_free;

    assert_ok(hf_reserve(map, 4 * t->page_size));
    second = open_old(t, "f", O_RDWR);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
    assert_count(target_statfs(t).blocks_free, before - 4 * blocks_per_page(t));
    close_ok(&second);
    assert_count(target_statfs(t).blocks_free, before);
    assert_count(target_statfs(t).blocks_reserved, 0);
}

static void parts_of_pages_and_blocks(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    uint64_t before = target_statfs(t).blocks_free;

    /* At least the blocks the bytes lie in; at most their pages. */
    assert_ok(hf_reserve(map + t->page_size - 1, 2));
    assert_true(target_statfs(t).blocks_free <= before - 2);
    assert_true(target_statfs(t).blocks_free >= before - 2 * blocks_per_page(t));
    target_fill_but(t, "ballast", 0);
    assert_ok(store_byte(map + t->page_size - 1, 'a'));
    assert_ok(store_byte(map + t->page_size, 'b'));
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void wrong_ranges(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file), *priv, *ro;
    size_t page = t->page_size;

    assert_ok(t_ftruncate(&file, (hf_off_t)(4 * page)));
    assert_err(hf_reserve(map, 5 * page), ENXIO);
    assert_err(hf_reserve(map + 4 * page, page), ENXIO);
    assert_ok(hf_reserve(map, 4 * page));
    priv = map_with(&file, 0, page, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    ro = map_with(&file, 0, page, PROT_READ, MAP_SHARED);
    assert_err(hf_reserve(priv, page), EINVAL);
    assert_err(hf_reserve(ro, page), EINVAL);
    unmap_ok(t, priv, page);
    unmap_ok(t, ro, page);
    unmap_ok(t, map, PAGES * page);
    assert_err(hf_reserve(map, page), EINVAL);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(reserved_stores_are_not_refused, ON_HOLDFAST), BODY(all_or_nothing, ON_HOLDFAST),
    BODY(what_is_written_costs_nothing, ON_HOLDFAST),   BODY(zeros_keep_a_reservation, ON_HOLDFAST),
    BODY(truncate_and_punch_release, ON_HOLDFAST),      BODY(the_last_user_releases, ON_HOLDFAST),
    BODY(parts_of_pages_and_blocks, ON_HOLDFAST),       BODY(wrong_ranges, ON_HOLDFAST),
};

MMAP_TEST_MAIN("reserve_a_range", bodies)
