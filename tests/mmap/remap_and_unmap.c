/* SPDX-License-Identifier: MIT */
/*
 * remap_and_unmap.c - mappings cut in pieces, moved, grown and shrunk, and what outlives what.
 */
#include "mmap_test.h"

#define RW (PROT_READ | PROT_WRITE)

static uint8_t *map_numbered(struct target *t, const char *path, int units, struct target_file *ret_file)
{
    struct target_file file = open_new(t, path);
    uint8_t *map;

    assert_ok(t_ftruncate(&file, units * UNIT));
    map = map_shared(&file, 0, (size_t)(units * UNIT));
    for (int i = 0; i < units; i++)
        map[i * UNIT] = (uint8_t)(i + 1);
    *ret_file = file;
    return map;
}

/* The inode of the file that is mapped at this address; 0: none, or memory of somebody else's by now. */
static unsigned long inode_mapped_at(const uint8_t *at)
{
    unsigned long start, end, inode, found = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &start, &end, &inode) == 3 && start <= (uintptr_t)at &&
            (uintptr_t)at < end)
            found = inode;
    }
    fclose(maps);
    return found;
}

static void expect_unmapped(uint8_t *at)
{
    uint8_t value;
    int signo = peek(at, &value);

    assert_true(signo == SIGSEGV || signo == 0);
    assert_int_equal(inode_mapped_at(at), 0);
}

static void unmap_in_pieces(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 8, &file);

    unmap_ok(t, map, UNIT);
    unmap_ok(t, map + 7 * UNIT, UNIT);
    unmap_ok(t, map + 3 * UNIT, 2 * UNIT);
    expect_unmapped(map);
    expect_unmapped(map + 7 * UNIT);
    expect_unmapped(map + 3 * UNIT);
    expect_unmapped(map + 5 * UNIT - 1);
    assert_ok(t_fsync(&file));
    for (int i = 1; i < 7; i++) {
        if (i == 3 || i == 4)
            continue;
        assert_int_equal(byte_at(map + i * UNIT), i + 1);
        map[i * UNIT + 4096] = (uint8_t)(i + 100);
        expect_range(&file, i * UNIT + 4096, 1, (uint8_t)(i + 100));
    }
    expect_range(&file, 3 * UNIT, 1, 4);
    expect_range(&file, 7 * UNIT, 1, 8);
    unmap_ok(t, map + UNIT, 2 * UNIT);
    unmap_ok(t, map + 5 * UNIT, 2 * UNIT);
    close_ok(&file);
}

static void unmap_one_hardware_page(struct target *t)
{
    size_t hw = (size_t)sysconf(_SC_PAGESIZE);
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 2, &file);

    /* P may be larger: the page is then mapped in part. */
    unmap_ok(t, map + 2 * hw, hw);
    expect_unmapped(map + 2 * hw);
    map[hw] = 'a';
    map[3 * hw] = 'b';
    expect_range(&file, (hf_off_t)hw, 1, 'a');
    expect_range(&file, (hf_off_t)(3 * hw), 1, 'b');
    assert_ok(t_fsync(&file));
    map[hw] = 'c';
    map[3 * hw] = 'd';
    expect_range(&file, (hf_off_t)hw, 1, 'c');
    expect_range(&file, (hf_off_t)(3 * hw), 1, 'd');
    unmap_ok(t, map, 2 * hw);
    unmap_ok(t, map + 3 * hw, 2 * UNIT - 3 * hw);
    close_ok(&file);
}

static void unmap_over_several(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 6, &file);
    void *at = NULL;

    assert_ok(t_mmap(&file, map + 2 * UNIT, UNIT, RW, MAP_SHARED | MAP_FIXED, 5 * UNIT, &at));
    assert_ok(t_mprotect(t, map + 4 * UNIT, UNIT, PROT_READ));
    unmap_ok(t, map + UNIT, 4 * UNIT);
    assert_int_equal(byte_at(map), 1);
    assert_int_equal(byte_at(map + 5 * UNIT), 6);
    for (int i = 1; i < 5; i++)
        expect_unmapped(map + i * UNIT);
    unmap_ok(t, map, UNIT);
    unmap_ok(t, map + 5 * UNIT, UNIT);
    close_ok(&file);
}

static void remap_shrinks(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 4, &file);
    void *at = NULL;

    assert_ok(t_mremap(t, map, 4 * UNIT, UNIT, 0, &at));
    assert_ptr_equal(at, map);
    assert_int_equal(byte_at(map), 1);
    expect_unmapped(map + UNIT);
    map[7] = 7;
    expect_range(&file, 7, 1, 7);
    expect_range(&file, 3 * UNIT, 1, 4);
    unmap_ok(t, map, UNIT);
    close_ok(&file);
}

static void remap_grows(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 2, &file);
    void *at = NULL;
    uint8_t *big;

    assert_ok(t_ftruncate(&file, 16 * UNIT));
    assert_ok(t_mremap(t, map, 2 * UNIT, 16 * UNIT, MREMAP_MAYMOVE, &at));
    big = at;
    assert_int_equal(byte_at(big), 1);
    assert_int_equal(byte_at(big + UNIT), 2);
    for (int i = 2; i < 16; i++) {
        big[i * UNIT] = (uint8_t)(i + 1);
        expect_range(&file, i * UNIT, 1, (uint8_t)(i + 1));
    }
    big[1] = 'x';
    expect_range(&file, 1, 1, 'x');
    if (big != map)
        expect_unmapped(map);
    assert_ok(t_msync(t, big, 16 * UNIT, MS_SYNC));
    unmap_ok(t, big, 16 * UNIT);
    close_ok(&file);
}

/* Room that ends where something else begins. */
static void remap_in_place_or_not(struct target *t)
{
    uint8_t *room = mmap(NULL, 4 * UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct target_file file = open_new(t, "f");
    void *at = NULL;
    uint8_t *moved;

    assert_ptr_not_equal(room, MAP_FAILED);
    fill_range(&file, 0, 4 * UNIT, 'f');
    assert_ok(t_mmap(&file, room, 2 * UNIT, RW, MAP_SHARED | MAP_FIXED, 0, &at));
    room[0] = 'd';
    assert_err(t_mremap(t, room, 2 * UNIT, 3 * UNIT, 0, &at), ENOMEM);
    assert_int_equal(byte_at(room), 'd');
    assert_ok(t_mremap(t, room, 2 * UNIT, 4 * UNIT, MREMAP_MAYMOVE, &at));
    moved = at;
    assert_ptr_not_equal(moved, room);
    assert_int_equal(byte_at(moved), 'd');
    assert_int_equal(byte_at(moved + 3 * UNIT), 'f');
    moved[3 * UNIT] = 'e';
    moved[UNIT] = 'g';
    expect_range(&file, 3 * UNIT, 1, 'e');
    expect_range(&file, UNIT, 1, 'g');
    assert_ok(t_fsync(&file));
    moved[UNIT] = 'h';
    expect_range(&file, UNIT, 1, 'h');
    unmap_ok(t, moved, 4 * UNIT);
    munmap(room + 2 * UNIT, 2 * UNIT);
    close_ok(&file);
}

static void remap_moves_a_part(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 6, &file);
    void *at = NULL;
    uint8_t *part;

    assert_ok(t_mremap(t, map + 2 * UNIT, 2 * UNIT, 3 * UNIT, MREMAP_MAYMOVE, &at));
    part = at;
    assert_int_equal(byte_at(part), 3);
    assert_int_equal(byte_at(part + 2 * UNIT), 5);
    part[UNIT] = 'm';
    expect_range(&file, 3 * UNIT, 1, 'm');
    assert_int_equal(byte_at(map + UNIT), 2);
    assert_int_equal(byte_at(map + 4 * UNIT), 5);
    map[4 * UNIT] = 'n';
    assert_int_equal(byte_at(part + 2 * UNIT), 'n');
    expect_unmapped(map + 2 * UNIT);
    unmap_ok(t, part, 3 * UNIT);
    unmap_ok(t, map, 2 * UNIT);
    unmap_ok(t, map + 4 * UNIT, 2 * UNIT);
    close_ok(&file);
}

static void remap_keeps_private_copies(struct target *t)
{
    struct target_file file = open_new(t, "f");
    void *at = NULL;
    uint8_t *priv;

    fill_range(&file, 0, 4 * UNIT, 'f');
    priv = map_with(&file, 0, 2 * UNIT, RW, MAP_PRIVATE);
    priv[5] = 'p';
    assert_ok(t_mremap(t, priv, 2 * UNIT, 4 * UNIT, MREMAP_MAYMOVE, &at));
    priv = at;
    assert_memory_equal(priv + 4, "fpf", 3);
    assert_int_equal(byte_at(priv + 3 * UNIT), 'f');
    priv[3 * UNIT] = 'q';
    expect_range(&file, 0, 4 * UNIT, 'f');
    unmap_ok(t, priv, 4 * UNIT);
    close_ok(&file);
}

static void remap_beyond_the_end(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 2, &file);
    void *at = NULL;
    uint8_t *big;

    assert_ok(t_mremap(t, map, 2 * UNIT, 4 * UNIT, MREMAP_MAYMOVE, &at));
    big = at;
    assert_int_equal(poke(big + 3 * UNIT, 1), SIGBUS);
    assert_ok(t_ftruncate(&file, 4 * UNIT));
    assert_int_equal(poke(big + 3 * UNIT, 1), 0);
    expect_range(&file, 3 * UNIT, 1, 1);
    unmap_ok(t, big, 4 * UNIT);
    close_ok(&file);
}

static void outlives_close(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 4, &file);

    close_ok(&file);
    map[2 * UNIT + 1] = 'x';
    assert_ok(t_msync(t, map, 4 * UNIT, MS_SYNC));
    map[3 * UNIT + 1] = 'y';
    assert_ok(t_rename(t, "f", "g", 0));
    assert_int_equal(byte_at(map + UNIT), 2);
    map[3] = 'z';
    unmap_ok(t, map, 4 * UNIT);
    file = open_old(t, "g", O_RDONLY);
    expect_range(&file, 2 * UNIT + 1, 1, 'x');
    expect_range(&file, 3 * UNIT + 1, 1, 'y');
    expect_range(&file, 3, 1, 'z');
    close_ok(&file);
}

static void outlives_unlink_and_a_new_file(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_numbered(t, "f", 4, &file), *other;

    assert_ok(t_unlink(t, "f"));
    close_ok(&file);
    other = map_numbered(t, "f", 4, &file);
    map[UNIT] = 'o';
    assert_int_equal(byte_at(other + UNIT), 2);
    other[UNIT] = 'n';
    assert_int_equal(byte_at(map + UNIT), 'o');
    unmap_ok(t, map, 4 * UNIT);
    expect_range(&file, UNIT, 1, 'n');
    unmap_ok(t, other, 4 * UNIT);
    close_ok(&file);
}

static void truncating_open_cuts_mappings(struct target *t)
{
    struct target_file file, again;
    uint8_t *map = map_numbered(t, "f", 4, &file);

    again = open_old(t, "f", O_RDWR | O_TRUNC);
    assert_int_equal(poke(map + UNIT, 1), SIGBUS);
    fill_range(&again, 0, 2 * UNIT, 'n');
    assert_int_equal(byte_at(map + UNIT), 'n');
    close_ok(&again);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(unmap_in_pieces, ON_ALL),
    BODY(unmap_one_hardware_page, ON_ALL),
    BODY(unmap_over_several, ON_ALL),
    BODY(remap_shrinks, ON_ALL),
    BODY(remap_grows, ON_ALL),
    BODY(remap_in_place_or_not, ON_ALL),
    BODY(remap_moves_a_part, ON_ALL),
    BODY(remap_keeps_private_copies, ON_ALL),
    BODY(remap_beyond_the_end, ON_ALL),
    BODY(outlives_close, ON_ALL),
    BODY(outlives_unlink_and_a_new_file, ON_ALL),
    BODY(truncating_open_cuts_mappings, ON_ALL),
};

MMAP_TEST_MAIN("remap_and_unmap", bodies)
