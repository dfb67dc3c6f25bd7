/* SPDX-License-Identifier: MIT */
/*
 * protections_and_errors.c - PROT_*, mprotect, and what mmap, msync and their family refuse.
 */
#include "mmap_test.h"

#define RW (PROT_READ | PROT_WRITE)

static void do_store(void *arg)
{
    *(volatile uint8_t *)arg = 1;
}

static void read_only_mapping(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct caught caught;
    uint8_t *map;

    fill_range(&file, 0, 2 * UNIT, 'f');
    map = map_with(&file, 0, 2 * UNIT, PROT_READ, MAP_SHARED);
    /* Not yet touched, and touched. */
    assert_int_equal(catch_fault(do_store, map + UNIT + 123, &caught), SIGSEGV);
    assert_ptr_equal(caught.addr, map + UNIT + 123);
    assert_int_equal(byte_at(map), 'f');
    assert_int_equal(catch_fault(do_store, map + 5, &caught), SIGSEGV);
    assert_ptr_equal(caught.addr, map + 5);
    assert_bytes(map, 'f', 2 * UNIT);
    unmap_ok(t, map, 2 * UNIT);
    expect_range(&file, 0, 2 * UNIT, 'f');
    close_ok(&file);
}

static void no_access_mapping(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t value = 0;
    uint8_t *map;

    fill_range(&file, 0, 2 * UNIT, 'f');
    map = map_with(&file, 0, 2 * UNIT, PROT_NONE, MAP_SHARED);
    assert_int_equal(peek(map, &value), SIGSEGV);
    assert_int_equal(poke(map, 1), SIGSEGV);
    assert_ok(t_mprotect(t, map, 2 * UNIT, PROT_READ));
    assert_int_equal(peek(map, &value), 0);
    assert_int_equal(value, 'f');
    assert_int_equal(poke(map, 1), SIGSEGV);
    assert_ok(t_mprotect(t, map, 2 * UNIT, RW));
    map[0] = 'g';
    expect_range(&file, 0, 1, 'g');
    assert_ok(t_mprotect(t, map, 2 * UNIT, PROT_NONE));
    assert_int_equal(peek(map, &value), SIGSEGV);
    expect_range(&file, 0, 1, 'g');
    unmap_ok(t, map, 2 * UNIT);
    close_ok(&file);
}

static void protection_of_a_part(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t value = 0;
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 6 * UNIT));
    map = map_shared(&file, 0, 6 * UNIT);
    for (int i = 0; i < 6; i++)
        map[i * UNIT] = (uint8_t)(i + 1);
    assert_ok(t_mprotect(t, map + 2 * UNIT, 2 * UNIT, PROT_READ));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 6; i++) {
            assert_int_equal(poke(map + i * UNIT, (uint8_t)(i + 1)), i == 2 || i == 3 ? SIGSEGV : 0);
            assert_int_equal(peek(map + i * UNIT, &value), 0);
            assert_int_equal(value, i + 1);
        }
        assert_ok(t_fsync(&file));
    }
    assert_ok(t_mprotect(t, map, 6 * UNIT, RW));
    for (int i = 0; i < 6; i++)
        assert_int_equal(poke(map + i * UNIT, 9), 0);
    unmap_ok(t, map, 6 * UNIT);
    close_ok(&file);
}

static void another_mapping_is_not_concerned(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *ro, *rw;

    assert_ok(t_ftruncate(&file, UNIT));
    ro = map_with(&file, 0, UNIT, PROT_READ, MAP_SHARED);
    rw = map_shared(&file, 0, UNIT);
    assert_int_equal(byte_at(ro), 0);
    rw[0] = 1;
    assert_int_equal(byte_at(ro), 1);
    assert_int_equal(poke(ro, 2), SIGSEGV);
    rw[0] = 3;
    assert_int_equal(byte_at(ro), 3);
    assert_int_equal(poke(ro, 2), SIGSEGV);
    unmap_ok(t, ro, UNIT);
    unmap_ok(t, rw, UNIT);
    close_ok(&file);
}

static void what_the_open_mode_forbids(struct target *t)
{
    struct target_file file;
    void *map = NULL;

    make_file(t, "f", UNIT, 'f');
    file = open_old(t, "f", O_RDONLY);
    assert_err(t_mmap(&file, NULL, UNIT, RW, MAP_SHARED, 0, &map), EACCES);
    assert_null(map);
    assert_ok(t_mmap(&file, NULL, UNIT, PROT_READ, MAP_SHARED, 0, &map));
    assert_err(t_mprotect(t, map, UNIT, RW), EACCES);
    assert_int_equal(byte_at(map), 'f');
    unmap_ok(t, map, UNIT);
    close_ok(&file);
    file = open_old(t, "f", O_WRONLY);
    assert_err(t_mmap(&file, NULL, UNIT, PROT_READ, MAP_SHARED, 0, &map), EACCES);
    assert_err(t_mmap(&file, NULL, UNIT, PROT_WRITE, MAP_SHARED, 0, &map), EACCES);
    assert_err(t_mmap(&file, NULL, UNIT, PROT_READ, MAP_PRIVATE, 0, &map), EACCES);
    close_ok(&file);
    assert_ok(t_mkdir(t, "d", 0755));
    file = open_old(t, "d", O_RDONLY | O_DIRECTORY);
    assert_err(t_mmap(&file, NULL, UNIT, PROT_READ, MAP_SHARED, 0, &map), ENODEV);
    close_ok(&file);
}

static void wrong_arguments(struct target *t)
{
    struct target_file file = open_new(t, "f");
    void *map = NULL;
    uint8_t *ok;

    assert_ok(t_ftruncate(&file, 2 * UNIT));
    assert_err(t_mmap(&file, NULL, 0, RW, MAP_SHARED, 0, &map), EINVAL);
    assert_err(t_mmap(&file, NULL, UNIT, RW, MAP_SHARED, 100, &map), EINVAL);
    assert_err(t_mmap(&file, NULL, UNIT, RW, 0, 0, &map), EINVAL);
    assert_null(map);
    ok = map_shared(&file, 0, 2 * UNIT);
    assert_err(t_munmap(t, ok + 1, UNIT), EINVAL);
    assert_err(t_munmap(t, ok, 0), EINVAL);
    assert_err(t_msync(t, ok + 1, UNIT, MS_SYNC), EINVAL);
    assert_err(t_msync(t, ok, UNIT, MS_SYNC | MS_ASYNC), EINVAL);
    assert_err(t_msync(t, ok, UNIT, 0x100), EINVAL);
    assert_err(t_mprotect(t, ok + 1, UNIT, PROT_READ), EINVAL);
    assert_err(t_mremap(t, ok, 2 * UNIT, 0, MREMAP_MAYMOVE, &map), EINVAL);
    assert_err(t_mremap(t, ok + 1, UNIT, UNIT, MREMAP_MAYMOVE, &map), EINVAL);
    assert_err(t_mremap(t, ok, UNIT, UNIT, 0x100, &map), EINVAL);
    ok[0] = 1;
    unmap_ok(t, ok, 2 * UNIT);
    assert_err(t_msync(t, ok, 2 * UNIT, MS_SYNC), ENOMEM);
    close_ok(&file);
}

static void foreign_ranges_are_refused(struct target *t)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *anon = mmap(NULL, 4 * page, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *map = NULL;

    (void)t;
    assert_ptr_not_equal(anon, MAP_FAILED);
    anon[0] = 7;
    assert_err(hf_munmap(anon, page), EINVAL);
    assert_true(hf_mprotect(anon, page, PROT_READ) < 0);
    assert_true(hf_mremap(anon, page, 2 * page, MREMAP_MAYMOVE, &map) < 0);
    assert_true(hf_reserve(anon, page) < 0);
    anon[0]++;
    assert_int_equal(anon[0], 8);
    munmap(anon, 4 * page);
}

static void at_a_given_address(struct target *t)
{
    struct target_file file = open_new(t, "f");
    void *map = NULL;
    uint8_t *base;

    fill_range(&file, 0, UNIT, 'a');
    fill_range(&file, UNIT, UNIT, 'b');
    fill_range(&file, 2 * UNIT, 2 * UNIT, 'c');
    base = map_shared(&file, 0, 4 * UNIT);
    base[UNIT] = 'B';
    assert_err(t_mmap(&file, base, UNIT, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, 0, &map), EEXIST);
    /* The second quarter becomes a view of the fourth. */
    assert_ok(t_mmap(&file, base + UNIT, UNIT, RW, MAP_SHARED | MAP_FIXED, 3 * UNIT, &map));
    assert_ptr_equal(map, base + UNIT);
    assert_int_equal(byte_at(base + UNIT), 'c');
    base[UNIT] = 'd';
    assert_int_equal(byte_at(base + 3 * UNIT), 'd');
    expect_range(&file, UNIT, 1, 'B');
    expect_range(&file, 3 * UNIT, 1, 'd');
    base[0] = 'A';
    base[2 * UNIT] = 'C';
    expect_range(&file, 0, 1, 'A');
    expect_range(&file, 2 * UNIT, 1, 'C');
    unmap_ok(t, base, 4 * UNIT);
    assert_ok(t_mmap(&file, base, 4 * UNIT, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, 0, &map));
    assert_ptr_equal(map, base);
    assert_int_equal(byte_at(base + 3 * UNIT), 'd');
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static void over_foreign_memory(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *anon = mmap(NULL, 4 * UNIT, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *map = NULL;

    assert_ptr_not_equal(anon, MAP_FAILED);
    anon[0] = anon[3 * UNIT] = 'x';
    fill_range(&file, 0, UNIT, 'f');
    assert_err(t_mmap(&file, anon + UNIT, UNIT, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, 0, &map), EEXIST);
    assert_ok(t_mmap(&file, anon + UNIT, UNIT, RW, MAP_SHARED | MAP_FIXED, 0, &map));
    assert_int_equal(byte_at(anon + UNIT), 'f');
    anon[UNIT + 1] = 'g';
    expect_range(&file, UNIT - 1, 1, 'f');
    expect_range(&file, 1, 1, 'g');
    assert_int_equal(anon[0], 'x');
    assert_int_equal(anon[3 * UNIT], 'x');
    unmap_ok(t, anon + UNIT, UNIT);
    munmap(anon, UNIT);
    munmap(anon + 2 * UNIT, 2 * UNIT);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(read_only_mapping, ON_ALL),
    BODY(no_access_mapping, ON_ALL),
    BODY(protection_of_a_part, ON_ALL),
    BODY(another_mapping_is_not_concerned, ON_ALL),
    BODY(what_the_open_mode_forbids, ON_ALL),
    BODY(wrong_arguments, ON_ALL),
    BODY(foreign_ranges_are_refused, ON_HOLDFAST),
    BODY(at_a_given_address, ON_ALL),
    BODY(over_foreign_memory, ON_ALL),
};

MMAP_TEST_MAIN("protections_and_errors", bodies)
