/* SPDX-License-Identifier: MIT */
/*
 * growing_under_a_mapping.c - the seed's case: a file grows while its straddling page is writable.
 *
 * One block of the page was promised, because i_size allowed no more. After the file grew, a store to
 * another block of that page must ask for it (HOLD-1, HOLD-4). Both size protocols must; the negative
 * controls, isize_sync=none and page_mkclean taken away, must be seen to lose the block.
 */
#include "mmap_test.h"

#include "cache/testing.h"

enum growth { BY_FTRUNCATE, BY_TRUNCATE, BY_PWRITE, BY_WRITE, BY_FALLOCATE, NR_GROWTHS };

static hf_off_t grown_size(const struct target *t)
{
    return (hf_off_t)t->page_size * 5 / 2;
}

static void grow(struct target *t, struct target_file *file, enum growth how, hf_off_t size)
{
    switch (how) {
    case BY_FTRUNCATE:
        assert_ok(t_ftruncate(file, size));
        break;
    case BY_TRUNCATE:
        assert_ok(t_truncate(t, "f", size));
        break;
    case BY_PWRITE:
        fill_range(file, size - 1, 1, 'z');
        break;
    case BY_WRITE:
        assert_count(t_lseek(file, size - 1, SEEK_SET), size - 1);
        assert_count(t_write(file, "z", 1), 1);
        break;
    default:
        assert_ok(t_fallocate(file, 0, size - 10, 10));
    }
    assert_count(stat_of(file).st_size, size);
}

/* ftruncate(0); pwrite one block; map; store at 0. */
static uint8_t *start_seed_case(struct target *t, struct target_file *ret_file)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 0));
    fill_range(&file, 0, t->block_size, 'a');
    map = map_shared(&file, 0, 4 * t->page_size);
    map[0] = 'b';
    *ret_file = file;
    return map;
}

static void only_below_page_size(struct target *t)
{
    if (t->block_size == t->page_size)
        skip();
}

/* Faults come by the hardware page: where that holds one block only, the case cannot arise. */
static void only_below_hardware_page_size(struct target *t)
{
    if (t->block_size >= eof_page_end(1))
        skip();
}

/* Full volume: the store after the growth asks and is refused; with room it succeeds and lasts. */
static void seed_case(struct target *t, enum growth how)
{
    size_t page = t->page_size;
    struct target_file file;
    uint8_t *map = start_seed_case(t, &file);

    grow(t, &file, how, grown_size(t));
    target_fill_but(t, "ballast", 0);
    assert_err(store_byte(map + page - 1, 'c'), ENOSPC);
    assert_int_equal(byte_at(map + page - 1), 0);
    assert_int_equal(byte_at(map), 'b');
    assert_ok(t_unlink(t, "ballast"));
    assert_ok(store_byte(map + page - 1, 'c'));
    assert_true(page_info(&file, 0).block_state[blocks_per_page(t) - 1] == HF_BLOCK_RESERVED);
    assert_ok(t_fsync(&file));
    assert_true(page_info(&file, 0).block_state[blocks_per_page(t) - 1] == HF_BLOCK_WRITTEN);
    unmap_ok(t, map, 4 * page);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    expect_range(&file, 0, 1, 'b');
    expect_range(&file, 1, t->block_size - 1, 'a');
    expect_range(&file, t->block_size, page - 1 - t->block_size, 0);
    expect_range(&file, (hf_off_t)page - 1, 1, 'c');
    close_ok(&file);
}

static void every_growth_makes_stores_ask(struct target *t)
{
    only_below_page_size(t);
    for (int how = 0; how < NR_GROWTHS; how++) {
        seed_case(t, (enum growth)how);
        assert_ok(t_unlink(t, "f"));
    }
}

static void growth_write_protects_the_straddling_page(struct target *t)
{
    struct target_file file;
    uint8_t *map;
    struct hf_page_info info;
    struct hf_volume_stats before, after;

    only_below_page_size(t);
    map = start_seed_case(t, &file);
    info = page_info(&file, 0);
    assert_true(info.straddling);
    assert_true(info.writable);
    assert_int_equal(info.nr_blocks, blocks_per_page(t));
    assert_int_equal(info.block_state[blocks_per_page(t) - 1], HF_BLOCK_BEYOND);
    before = target_stats(t);
    grow(t, &file, BY_FTRUNCATE, grown_size(t));
    info = page_info(&file, 0);
    assert_false(info.straddling);
    assert_false(info.writable);
    assert_int_equal(info.block_state[blocks_per_page(t) - 1], HF_BLOCK_HOLE);
    after = target_stats(t);
    assert_true(after.mkcleans > before.mkcleans);
    map[1] = 'd';
    after = target_stats(t);
    assert_true(after.mkwrites > before.mkwrites);
    assert_true(page_info(&file, 0).writable);
    unmap_ok(t, map, 4 * t->page_size);
    close_ok(&file);
}

static void growth_block_by_block(struct target *t)
{
    hf_off_t block = t->block_size, page = t->page_size;
    struct target_file file = open_new(t, "f");
    uint8_t *map = map_shared(&file, 0, (size_t)(3 * page));

    for (hf_off_t size = block; size <= 3 * page; size += block) {
        grow(t, &file, (enum growth)((size / block) % NR_GROWTHS), size);
        map[size - 1] = (uint8_t)(size / block);
        map[size - block] = (uint8_t)(size / block);
    }
    unmap_ok(t, map, (size_t)(3 * page));
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    for (hf_off_t size = block; size <= 3 * page; size += block) {
        expect_range(&file, size - 1, 1, (uint8_t)(size / block));
        expect_range(&file, size - block, 1, (uint8_t)(size / block));
    }
    close_ok(&file);
}

/* Refused growth leaves everything as it was (HOLD-6). */
static void growth_that_fails_changes_nothing(struct target *t)
{
    struct target_file file;
    uint8_t *map = start_seed_case(t, &file);
    struct hf_statfs before, after;

    target_fill_but(t, "ballast", 0);
    before = target_statfs(t);
    assert_err(t_fallocate(&file, 0, 0, grown_size(t)), ENOSPC);
    assert_err(t_pwrite(&file, "z", 1, grown_size(t) - 1), ENOSPC);
    assert_err(t_ftruncate(&file, HF_FILE_SIZE_MAX + 1), EFBIG);
    assert_count(stat_of(&file).st_size, t->block_size);
    after = target_statfs(t);
    /* What was reserved may have been written meanwhile, in search of space. */
    assert_count(after.blocks_free, before.blocks_free);
    assert_true(after.blocks_reserved <= before.blocks_reserved);
    map[0] = 'c';
    assert_ok(t_fsync(&file));
    assert_int_equal(byte_at(map), 'c');
    unmap_ok(t, map, 4 * t->page_size);
    close_ok(&file);
}

/*
 * The controls. The store is taken although no block can be had, and is not there after a reopen: the
 * very thing the bodies above would catch.
 */
static void expect_lost(struct target *t)
{
    size_t last = eof_page_end(t->block_size) - 1;
    struct target_file file;
    struct hf_file *lost = NULL;
    uint8_t *map = start_seed_case(t, &file);
    char byte = 0;

    grow(t, &file, BY_FTRUNCATE, grown_size(t));
    target_fill_but(t, "ballast", 0);
    assert_ok(store_byte(map + last, 'c'));
    (void)t_fsync(&file);
    unmap_ok(t, map, 4 * t->page_size);
    (void)t_close(&file);
    hf_test_skip_mkclean = false;
    (void)hf_volume_close(t->volume);
    t->volume = NULL;
    assert_ok(hf_volume_open(t->path, NULL, &t->volume));
    assert_ok(hf_open(t->volume, "f", O_RDONLY, 0, &lost));
    assert_count(hf_pread(lost, &byte, 1, (hf_off_t)last), 1);
    assert_that(byte != 'c', "the control kept the byte: these tests could not fail");
    assert_ok(hf_close(lost));
}

static void control_without_protocol_loses_the_block(struct target *t)
{
    struct hf_open_options opts = t->spec->open;

    only_below_hardware_page_size(t);
    opts.isize_sync = HF_ISIZE_NONE;
    reopen_with(t, &opts);
    expect_lost(t);
}

static void control_without_mkclean_loses_the_block(struct target *t)
{
    only_below_hardware_page_size(t);
    hf_test_skip_mkclean = true;
    expect_lost(t);
}

static const struct test_body bodies[] = {
    BODY(every_growth_makes_stores_ask, ON(TARGET_BLOCKFS)),
    BODY(growth_write_protects_the_straddling_page, ON_HOLDFAST),
    BODY(growth_block_by_block, ON(TARGET_BLOCKFS)),
    BODY(growth_that_fails_changes_nothing, ON_HOLDFAST),
    BODY(control_without_protocol_loses_the_block, ON(TARGET_BLOCKFS)),
    BODY(control_without_mkclean_loses_the_block, ON(TARGET_BLOCKFS)),
};

MMAP_TEST_MAIN("growing_under_a_mapping", bodies)
