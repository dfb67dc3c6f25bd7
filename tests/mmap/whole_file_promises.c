/* SPDX-License-Identifier: MIT */
/*
 * whole_file_promises.c - hf_file_promise(): every hole inside i_size has its space, all or nothing, whatever
 * happens to the file, until it is closed and unmapped; counted to the block.
 */
#include "mmap_test.h"

#include "vfs/vfs.h"

#include <holdfast/node.h>

#define PAGES 8
#define BIG_HOLE ((hf_off_t)1 << 50)

/* No other file has reservations: what is reserved are this file's holes, all of them. st_blocks will not do:
 * it counts the promises of dirty pages. */
static void expect_promised(struct target *t, struct target_file *file)
{
    struct hf_inode *inode = &file->hf->vnode->inode;
    uint64_t blocks = ((uint64_t)atomic_load(&inode->size) + t->block_size - 1) / t->block_size;

    assert_count(target_statfs(t).blocks_reserved, blocks - atomic_load(&inode->blocks));
}

static struct target_file open_promised(struct target *t, const char *path, hf_off_t size)
{
    struct target_file file = open_new(t, path);

    assert_ok(t_ftruncate(&file, size));
    assert_ok(hf_file_promise(file.hf));
    expect_promised(t, &file);
    return file;
}

static void no_store_is_refused(struct target *t)
{
    hf_off_t size = PAGES * t->page_size;
    struct target_file file = open_promised(t, "f", size);
    uint8_t *map = map_shared(&file, 0, (size_t)size);

    target_fill_but(t, "ballast", 0);
    for (hf_off_t off = 0; off < size; off += t->block_size)
        assert_count(store_byte(map + off, 's'), 0);
    expect_promised(t, &file);
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_reserved, 0);
    unmap_ok(t, map, (size_t)size);
    close_ok(&file);
}

static void all_or_nothing(struct target *t)
{
    struct target_file file = open_new(t, "f");
    hf_off_t block = t->block_size;

    assert_ok(t_ftruncate(&file, 5 * block));
    target_fill_but(t, "ballast", 4);
    assert_err(hf_file_promise(file.hf), ENOSPC);
    assert_count(target_statfs(t).blocks_free, 4);
    assert_count(target_statfs(t).blocks_reserved, 0);
    assert_ok(t_ftruncate(&file, 4 * block));
    assert_ok(hf_file_promise(file.hf));
    assert_ok(hf_file_promise(file.hf)); /* once more costs nothing */
    assert_count(target_statfs(t).blocks_free, 0);
    close_ok(&file);
    assert_count(target_statfs(t).blocks_free, 4);
}

static void last_of_file_and_mapping_gives_back(struct target *t)
{
    hf_off_t size = PAGES * t->page_size;
    struct target_file first = open_promised(t, "f", size), second = open_old(t, "f", O_RDWR);
    uint8_t *map = map_shared(&second, 0, (size_t)size);
    uint64_t promised = target_statfs(t).blocks_reserved;

    assert_ok(hf_file_promise(second.hf));
    assert_count(target_statfs(t).blocks_reserved, promised);
    close_ok(&first);
    close_ok(&second);
    assert_count(target_statfs(t).blocks_reserved, promised);
    assert_count(store_byte(map, 's'), 0);
    assert_ok(t_msync(t, map, t->page_size, MS_SYNC));
    assert_count(target_statfs(t).blocks_reserved, promised - 1);
    unmap_ok(t, map, (size_t)size);
    assert_count(target_statfs(t).blocks_reserved, 0);
}

static void growth_promises_or_is_refused(struct target *t)
{
    hf_off_t block = t->block_size;
    struct target_file file = open_promised(t, "f", 2 * block + 10);
    char *bytes = calloc(8, t->block_size);

    assert_non_null(bytes);
    memset(bytes, 'w', 8 * t->block_size);
    target_fill_but(t, "ballast", 5);
    assert_err(t_ftruncate(&file, 8 * block + 1), ENOSPC);
    assert_err(t_ftruncate(&file, BIG_HOLE), ENOSPC);
    assert_err(t_fallocate(&file, 0, 9 * block, block), ENOSPC);
    assert_err(t_pwrite(&file, "x", 1, 8 * block), ENOSPC);
    assert_count(stat_of(&file).st_size, 2 * block + 10);
    assert_count(target_statfs(t).blocks_free, 5);
    expect_promised(t, &file);
    assert_ok(t_ftruncate(&file, 4 * block + 1)); /* two more */
    assert_count(target_statfs(t).blocks_free, 3);
    expect_promised(t, &file);
    assert_count(t_pwrite(&file, "x", 1, 6 * block - 1), 1); /* one more */
    assert_count(target_statfs(t).blocks_free, 2);
    expect_promised(t, &file);
    /* What fits is written, as without a promise. */
    assert_count(t_pwrite(&file, bytes, 4 * t->block_size, 5 * block), 3 * block);
    assert_count(stat_of(&file).st_size, 8 * block);
    expect_range(&file, 5 * block, 3 * t->block_size, 'w');
    expect_promised(t, &file);
    assert_count(target_statfs(t).blocks_free, 0);
    assert_ok(t_fallocate(&file, 0, 0, 8 * block)); /* promises become blocks */
    assert_count(target_statfs(t).blocks_reserved, 0);
    free(bytes);
    close_ok(&file);
}

static void cuts_give_back(struct target *t)
{
    hf_off_t size = PAGES * t->page_size, block = t->block_size;
    struct target_file file = open_promised(t, "f", size);
    uint8_t *map = map_shared(&file, 0, (size_t)size);

    for (hf_off_t off = 0; off < size; off += 2 * t->page_size)
        assert_count(store_byte(map + off, 's'), 0);
    assert_ok(t_ftruncate(&file, 5 * t->page_size + block + 1));
    expect_promised(t, &file);
    assert_ok(t_fsync(&file));
    expect_promised(t, &file);
    assert_ok(t_ftruncate(&file, t->page_size / 2 + 1));
    expect_promised(t, &file);
    assert_ok(t_ftruncate(&file, size));
    expect_promised(t, &file);
    assert_ok(t_ftruncate(&file, 0));
    assert_count(target_statfs(t).blocks_reserved, 0);
    unmap_ok(t, map, (size_t)size);
    close_ok(&file);
}

static void punched_blocks_stay_promised(struct target *t)
{
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    hf_off_t size = PAGES * t->page_size, block = t->block_size;
    struct target_file file = open_promised(t, "f", size);
    uint64_t free_before;

    fill_range(&file, 0, (size_t)size, 'w');
    assert_ok(t_fsync(&file));
    assert_count(target_statfs(t).blocks_reserved, 0);
    free_before = target_statfs(t).blocks_free;
    assert_ok(t_fallocate(&file, punch, t->page_size - block, t->page_size + block));
    expect_promised(t, &file);
    assert_count(target_statfs(t).blocks_free, free_before);
    /* Without space for a second promise they are zeroed instead. */
    target_fill_but(t, "ballast", 0);
    assert_ok(t_fallocate(&file, punch, 3 * t->page_size, 2 * t->page_size));
    expect_range(&file, 3 * t->page_size, 2 * t->page_size, 0);
    expect_range(&file, 5 * t->page_size, t->page_size, 'w');
    expect_promised(t, &file);
    fill_range(&file, 0, (size_t)size, 'v');
    assert_ok(t_fsync(&file));
    expect_promised(t, &file);
    close_ok(&file);
}

static void zeros_come_back_to_the_promise(struct target *t)
{
    hf_off_t size = PAGES * t->page_size;
    struct target_file file = open_promised(t, "f", size);
    uint8_t *map = map_shared(&file, 0, (size_t)size);
    uint64_t holes = target_statfs(t).blocks_reserved;

    for (hf_off_t off = 0; off < size; off += t->page_size)
        assert_count(store_byte(map + off, 0), 0);
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, 0);
    assert_count(target_statfs(t).blocks_reserved, holes);
    target_fill_but(t, "ballast", 0);
    for (hf_off_t off = 0; off < size; off += t->block_size)
        assert_count(store_byte(map + off, 's'), 0);
    unmap_ok(t, map, (size_t)size);
    close_ok(&file);
}

static void unlinked_file(struct target *t)
{
    uint64_t free_before = target_statfs(t).blocks_free;
    struct target_file file = open_promised(t, "f", PAGES * t->page_size);

    fill_range(&file, 0, t->page_size, 'w');
    assert_ok(t_unlink(t, "f"));
    expect_promised(t, &file);
    close_ok(&file);
    assert_count(target_statfs(t).blocks_free, free_before);
    assert_count(target_statfs(t).blocks_reserved, 0);
}

static void one_random_op(struct target *t, struct target_file *file, uint8_t *map, unsigned *seed)
{
    hf_off_t most = PAGES * t->page_size, off = rand_r(seed) % most,
             len = rand_r(seed) % (2 * t->page_size) + 1;
    hf_off_t size = stat_of(file).st_size;
    char *bytes = malloc((size_t)len);
    int r = 0;

    assert_non_null(bytes);
    memset(bytes, rand_r(seed) % 3, (size_t)len);
    if (off + len > most)
        len = most - off;
    switch (rand_r(seed) % 8) {
    case 0:
        r = t_ftruncate(file, off);
        break;
    case 1:
        r = t_fallocate(file, 0, off, len);
        break;
    case 2:
        r = t_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
        break;
    case 3:
        r = t_fallocate(file, FALLOC_FL_ZERO_RANGE, off, len);
        break;
    case 4:
        r = t_fsync(file);
        assert_count(r, 0);
        break;
    case 5:
        r = (int)t_pwrite(file, bytes, (size_t)len, off);
        break;
    default:
        if (off < size) /* no store to a promised file is ever refused */
            assert_count(store_byte(map + off, bytes[0]), 0);
    }
    assert_that(r >= 0 || r == -ENOSPC, "%s", strerror(-r));
    free(bytes);
}

static void any_order(struct target *t)
{
    struct target_file file = open_promised(t, "f", 3 * t->page_size);
    uint8_t *map = map_shared(&file, 0, PAGES * t->page_size);
    unsigned seed = 7;

    target_fill_but(t, "ballast", PAGES / 2 * blocks_per_page(t));
    for (int i = 0; i < 300; i++) {
        one_random_op(t, &file, map, &seed);
        expect_promised(t, &file);
    }
    unmap_ok(t, map, PAGES * t->page_size);
    assert_ok(t_fsync(&file)); /* what is dirty keeps its blocks in any case */
    close_ok(&file);
    assert_count(target_statfs(t).blocks_reserved, 0);
}

static void what_a_kernel_hands_over(struct target *t)
{
    hf_off_t block = t->block_size;
    struct target_file file = open_new(t, "f"), other = open_old(t, "f", O_RDONLY);
    char *bytes = malloc(4 * t->block_size);

    assert_non_null(bytes);
    memset(bytes, 'k', 4 * t->block_size);
    assert_ok(t_ftruncate(&file, 3 * block));
    target_fill_but(t, "ballast", 1);
    assert_err(hf_file_write(file.hf, bytes, 4 * t->block_size, 0, HF_WRITE_CACHED), ENOSPC);
    assert_err(hf_file_error(file.hf), ENOSPC); /* each is told, once */
    assert_count(hf_file_error(file.hf), 0);
    assert_err(t_close(&other), ENOSPC);
    assert_count(hf_file_write(file.hf, bytes, 4 * t->block_size, 0, HF_WRITE_CACHED | HF_WRITE_APPEND),
                 4 * block); /* all beyond EOF: cut away */
    assert_count(stat_of(&file).st_size, 3 * block);
    assert_ok(t_unlink(t, "ballast"));
    assert_count(hf_file_write(file.hf, bytes, 4 * t->block_size, 0, HF_WRITE_CACHED), 4 * block);
    assert_count(stat_of(&file).st_size, 3 * block);
    expect_range(&file, 0, 3 * t->block_size, 'k');
    free(bytes);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(no_store_is_refused, ON_HOLDFAST),
    BODY(all_or_nothing, ON_HOLDFAST),
    BODY(last_of_file_and_mapping_gives_back, ON_HOLDFAST),
    BODY(growth_promises_or_is_refused, ON_HOLDFAST),
    BODY(cuts_give_back, ON_HOLDFAST),
    BODY(punched_blocks_stay_promised, ON_HOLDFAST),
    BODY(zeros_come_back_to_the_promise, ON_HOLDFAST),
    BODY(unlinked_file, ON_HOLDFAST),
    BODY(any_order, ON_HOLDFAST),
    BODY(what_a_kernel_hands_over, ON_HOLDFAST),
};

MMAP_TEST_MAIN("whole_file_promises", bodies)
