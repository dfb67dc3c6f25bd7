/* SPDX-License-Identifier: MIT */
/*
 * private_mappings.c - MAP_PRIVATE: stores stay here, and the file shows through until one is made.
 */
#include "mmap_test.h"

#define RW (PROT_READ | PROT_WRITE)

static void stores_stay_private(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *priv, *shared;

    fill_range(&file, 0, 4 * UNIT, 'f');
    shared = map_shared(&file, 0, 4 * UNIT);
    priv = map_with(&file, 0, 4 * UNIT, RW, MAP_PRIVATE);
    priv[10] = 'p';
    priv[UNIT] = 'p';
    assert_int_equal(byte_at(priv + 9), 'f');
    assert_int_equal(byte_at(priv + 10), 'p');
    assert_int_equal(byte_at(priv + 11), 'f');
    assert_int_equal(byte_at(shared + 10), 'f');
    expect_range(&file, 0, 4 * UNIT, 'f');
    assert_ok(t_msync(t, priv, 4 * UNIT, MS_SYNC));
    assert_ok(t_fsync(&file));
    assert_int_equal(byte_at(priv + UNIT), 'p');
    unmap_ok(t, priv, 4 * UNIT);
    expect_range(&file, 0, 4 * UNIT, 'f');
    unmap_ok(t, shared, 4 * UNIT);
    close_ok(&file);
}

static void the_file_shows_until_a_store(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *priv, *shared;

    fill_range(&file, 0, 4 * UNIT, 'a');
    shared = map_shared(&file, 0, 4 * UNIT);
    priv = map_with(&file, 0, 4 * UNIT, RW, MAP_PRIVATE);
    assert_int_equal(byte_at(priv), 'a');
    fill_range(&file, 0, 1, 'b');
    assert_int_equal(byte_at(priv), 'b');
    shared[2 * UNIT] = 'c';
    assert_int_equal(byte_at(priv + 2 * UNIT), 'c');
    priv[1] = 'p';
    fill_range(&file, 0, 3, 'd');
    assert_memory_equal(priv, "bpa", 3);
    /* Only that page went its own way. */
    fill_range(&file, UNIT, 1, 'e');
    assert_int_equal(byte_at(priv + UNIT), 'e');
    shared[2 * UNIT] = 'g';
    assert_int_equal(byte_at(priv + 2 * UNIT), 'g');
    unmap_ok(t, priv, 4 * UNIT);
    unmap_ok(t, shared, 4 * UNIT);
    close_ok(&file);
}

static void a_read_only_file_will_do(struct target *t)
{
    struct target_file file;
    uint8_t *priv;

    make_file(t, "f", UNIT, 'f');
    file = open_old(t, "f", O_RDONLY);
    priv = map_with(&file, 0, UNIT, RW, MAP_PRIVATE);
    priv[5] = 'p';
    assert_int_equal(byte_at(priv + 5), 'p');
    assert_int_equal(byte_at(priv + 6), 'f');
    expect_range(&file, 0, UNIT, 'f');
    unmap_ok(t, priv, UNIT);
    close_ok(&file);
}

static void holes_stay_holes(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *priv;

    assert_ok(t_ftruncate(&file, 4 * UNIT));
    priv = map_with(&file, 0, 4 * UNIT, RW, MAP_PRIVATE);
    for (hf_off_t off = 0; off < 4 * UNIT; off += 4096) {
        assert_int_equal(byte_at(priv + off + 1), 0);
        priv[off] = 'p';
    }
    assert_ok(t_fsync(&file));
    unmap_ok(t, priv, 4 * UNIT);
    expect_range(&file, 0, 4 * UNIT, 0);
    if (ON(t->spec->kind) & ON_HOLDFAST)
        assert_count(stat_of(&file).st_blocks, 0);
    close_ok(&file);
}

static void pieces_and_protections(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *priv;

    fill_range(&file, 0, 4 * UNIT, 'f');
    priv = map_with(&file, 0, 4 * UNIT, RW, MAP_PRIVATE);
    priv[0] = priv[3 * UNIT] = 'p';
    unmap_ok(t, priv + UNIT, UNIT);
    assert_int_equal(byte_at(priv), 'p');
    assert_int_equal(byte_at(priv + 3 * UNIT), 'p');
    assert_ok(t_mprotect(t, priv + 2 * UNIT, 2 * UNIT, PROT_READ));
    assert_int_equal(byte_at(priv + 3 * UNIT), 'p');
    assert_int_equal(poke(priv + 2 * UNIT, 'q'), SIGSEGV);
    assert_int_equal(poke(priv + 3 * UNIT, 'q'), SIGSEGV);
    assert_int_equal(byte_at(priv + 3 * UNIT), 'p');
    assert_ok(t_mprotect(t, priv + 2 * UNIT, 2 * UNIT, RW));
    priv[2 * UNIT] = 'q';
    assert_int_equal(byte_at(priv + 2 * UNIT), 'q');
    unmap_ok(t, priv, UNIT);
    unmap_ok(t, priv + 2 * UNIT, 2 * UNIT);
    expect_range(&file, 0, 4 * UNIT, 'f');
    close_ok(&file);
}

static void the_end_of_the_file_holds(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *priv;
    uint8_t value;

    fill_range(&file, 0, 2 * UNIT + 5, 'f');
    priv = map_with(&file, 0, 4 * UNIT, RW, MAP_PRIVATE);
    assert_int_equal(byte_at(priv + 2 * UNIT + 4), 'f');
    assert_int_equal(byte_at(priv + 2 * UNIT + 5), 0);
    assert_int_equal(peek(priv + 3 * UNIT, &value), SIGBUS);
    assert_int_equal(poke(priv + 3 * UNIT, 1), SIGBUS);
    priv[UNIT] = 'p';
    assert_ok(t_ftruncate(&file, 100));
    assert_int_equal(byte_at(priv + 99), 'f');
    assert_int_equal(peek(priv + UNIT, &value), SIGBUS);
    assert_ok(t_ftruncate(&file, 2 * UNIT));
    assert_int_equal(byte_at(priv + UNIT), 0);
    unmap_ok(t, priv, 4 * UNIT);
    close_ok(&file);
}

static void a_full_volume_does_not_matter(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *priv;

    assert_ok(t_ftruncate(&file, 4 * UNIT));
    target_fill_but(t, "ballast", 0);
    priv = map_with(&file, 0, 4 * UNIT, RW, MAP_PRIVATE);
    for (hf_off_t off = 0; off < 4 * UNIT; off += 1024)
        assert_int_equal(poke(priv + off, 'p'), 0);
    assert_bytes(priv + UNIT, 'p', 1);
    unmap_ok(t, priv, 4 * UNIT);
    assert_count(target_statfs(t).blocks_free, 0);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(stores_stay_private, ON_ALL),
    BODY(the_file_shows_until_a_store, ON_ALL),
    BODY(a_read_only_file_will_do, ON_ALL),
    BODY(holes_stay_holes, ON_ALL),
    BODY(pieces_and_protections, ON_ALL),
    BODY(the_end_of_the_file_holds, ON_ALL),
    BODY(a_full_volume_does_not_matter, ON_HOLDFAST),
};

MMAP_TEST_MAIN("private_mappings", bodies)
