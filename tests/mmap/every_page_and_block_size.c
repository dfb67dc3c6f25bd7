/* SPDX-License-Identifier: MIT */
/*
 * every_page_and_block_size.c - store, load, grow, fill up and reopen, for every P in 4, 16, 64 KiB and every
 * B from 512 bytes to P, with both size protocols.
 */
#include "mmap_test.h"

#define MAX_SPECS 64

static uint8_t value_at(size_t off)
{
    return (uint8_t)((off * 31 + (off >> 9) * 7) | 1);
}

static void store_and_load(struct target *t)
{
    size_t page = t->page_size, block = t->block_size, size = 7 * page + block / 2 + 3;
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, (hf_off_t)size));
    map = map_shared(&file, 0, 8 * page);
    for (size_t off = 0; off < size; off += block) {
        size_t last = off + block - 1 < size ? off + block - 1 : size - 1;

        map[off] = value_at(off);
        map[last] = value_at(last);
        expect_range(&file, (hf_off_t)off, 1, last == off ? value_at(last) : value_at(off));
        expect_range(&file, (hf_off_t)last, 1, value_at(last));
    }
    assert_ok(t_fsync(&file));
    assert_count(stat_of(&file).st_blocks, (size + block - 1) / block * (block / 512));
    unmap_ok(t, map, 8 * page);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    map = map_with(&file, 0, 8 * page, PROT_READ, MAP_SHARED);
    for (size_t off = 0; off < size; off++) {
        bool stored = off % block == 0 || off % block == block - 1 || off == size - 1;

        assert_that(map[off] == (stored ? value_at(off) : 0), "byte %zu is 0x%02x", off, map[off]);
    }
    assert_bytes(map + size, 0, eof_page_end(size) - size);
    unmap_ok(t, map, 8 * page);
    close_ok(&file);
}

static void grow_under_the_mapping(struct target *t)
{
    size_t page = t->page_size, block = t->block_size;
    struct target_file file = open_new(t, "f");
    uint8_t *map = map_shared(&file, 0, 4 * page);

    fill_range(&file, 0, block, 'a');
    map[0] = 'b';
    assert_ok(t_ftruncate(&file, (hf_off_t)(2 * page + page / 2)));
    for (size_t off = block; off < 2 * page + page / 2; off += block)
        map[off] = 'c';
    fill_range(&file, (hf_off_t)(4 * page - 1), 1, 'd');
    map[3 * page] = 'e';
    unmap_ok(t, map, 4 * page);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    expect_range(&file, 0, 1, 'b');
    expect_range(&file, 1, block - 1, 'a');
    for (size_t off = block; off < 2 * page + page / 2; off += block) {
        expect_range(&file, (hf_off_t)off, 1, 'c');
        expect_range(&file, (hf_off_t)off + 1, block - 1 < 100 ? block - 1 : 100, 0);
    }
    expect_range(&file, (hf_off_t)(3 * page), 1, 'e');
    expect_range(&file, (hf_off_t)(3 * page) + 1, page - 2, 0);
    expect_range(&file, (hf_off_t)(4 * page - 1), 1, 'd');
    close_ok(&file);
}

static void fill_up(struct target *t)
{
    struct target_file file;
    size_t page = t->page_size;
    uint8_t *map = map_sparse(t, "f", 8, &file);

    target_fill_but(t, "ballast", 2 + blocks_per_store(t));
    for (size_t i = 0; i < 8; i++)
        assert_err(store_byte(map + i * page + i, (uint8_t)(i + 1)), i < 3 ? 0 : ENOSPC);
    assert_ok(t_unlink(t, "ballast"));
    assert_ok(store_byte(map + 3 * page + 3, 4));
    unmap_ok(t, map, 8 * page);
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDONLY);
    for (size_t i = 0; i < 8; i++) {
        expect_range(&file, (hf_off_t)(i * page + i), 1, i < 4 ? (uint8_t)(i + 1) : 0);
        expect_range(&file, (hf_off_t)(i * page + i) + 1, page / 2, 0);
    }
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(store_and_load, ON(TARGET_BLOCKFS)),
    BODY(grow_under_the_mapping, ON(TARGET_BLOCKFS)),
    BODY(fill_up, ON(TARGET_BLOCKFS)),
};

int main(int argc, char **argv)
{
    static const uint32_t page_sizes[] = {4096, 16384, 65536};
    static struct target_spec specs[MAX_SPECS];
    static char names[MAX_SPECS][64];
    struct test_program program = {
        .name = "every_page_and_block_size",
        .bodies = bodies,
        .nr_bodies = ARRAY_LEN(bodies),
        .specs = specs,
        .flags = NEEDS_ENGINE,
    };

    for (size_t i = 0; i < ARRAY_LEN(page_sizes); i++) {
        for (uint32_t block = HF_BLOCK_SIZE_MIN; block <= page_sizes[i]; block *= 2) {
            for (int sync = HF_ISIZE_PAGE_LOCK; sync <= HF_ISIZE_HOLE_LOCK; sync++) {
                size_t nr = program.nr_specs++;

                snprintf(names[nr], sizeof(names[nr]), "P=%u B=%u %s", page_sizes[i], block,
                         sync == HF_ISIZE_PAGE_LOCK ? "page-lock" : "hole-lock");
                specs[nr] = (struct target_spec){
                    .name = names[nr],
                    .kind = TARGET_BLOCKFS,
                    .block_size = block,
                    .size_bytes = (uint64_t)MIB(8),
                    .open = {.page_size = page_sizes[i],
                             .isize_sync = (enum hf_isize_sync)sync,
                             .writeback_ms = NEVER_MS},
                };
            }
        }
    }
    return target_main(argc, argv, &program);
}
