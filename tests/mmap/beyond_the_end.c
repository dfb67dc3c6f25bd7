/* SPDX-License-Identifier: MIT */
/*
 * beyond_the_end.c - touches past EOF: SIGBUS beyond its page; inside it zeros that go nowhere (HOLD-9).
 */
#include "mmap_test.h"

static void do_load(void *arg)
{
    (void)*(volatile uint8_t *)arg;
}

static void do_store(void *arg)
{
    *(volatile uint8_t *)arg = 1;
}

static void expect_beyond(struct target *t, uint8_t *map, hf_off_t off, bool write)
{
    struct caught caught;

    assert_int_equal(catch_fault(write ? do_store : do_load, map + off, &caught), SIGBUS);
    assert_ptr_equal(caught.addr, map + off);
    if (target_is_host(t))
        return;
    assert_int_equal(caught.fault.error, ENXIO);
    assert_ptr_equal(caught.fault.addr, map + off);
    assert_int_equal(caught.fault.offset, off);
    assert_int_equal(caught.fault.write, write);
}

static void pages_beyond_are_sigbus(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    fill_range(&file, 0, UNIT + 100, 'f');
    map = map_shared(&file, 0, 8 * UNIT);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(byte_at(map + UNIT + 99), 'f');
        assert_bytes(map + UNIT + 100, 0, 3000);
        expect_beyond(t, map, 2 * UNIT, false);
        expect_beyond(t, map, 2 * UNIT + 17, true);
        expect_beyond(t, map, 7 * UNIT + 99, true);
        assert_int_equal(poke(map + UNIT, 'g'), 0);
    }
    assert_ok(t_ftruncate(&file, 4 * UNIT));
    map[2 * UNIT + 17] = 'h';
    assert_int_equal(byte_at(map + 3 * UNIT), 0);
    expect_beyond(t, map, 4 * UNIT, true);
    assert_ok(t_ftruncate(&file, 2 * UNIT));
    expect_beyond(t, map, 2 * UNIT + 17, false);
    expect_beyond(t, map, 2 * UNIT + 17, true);
    unmap_ok(t, map, 8 * UNIT);
    assert_count(stat_of(&file).st_size, 2 * UNIT);
    close_ok(&file);
}

static void empty_file(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map = map_shared(&file, 0, UNIT);

    expect_beyond(t, map, 0, false);
    expect_beyond(t, map, 5, true);
    fill_range(&file, 0, 1, 'f');
    assert_int_equal(byte_at(map), 'f');
    assert_int_equal(byte_at(map + 1), 0);
    assert_ok(t_ftruncate(&file, 0));
    expect_beyond(t, map, 0, false);
    unmap_ok(t, map, UNIT);
    close_ok(&file);
}

static void mapped_wholly_beyond(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    fill_range(&file, 0, 10, 'f');
    map = map_shared(&file, 4 * UNIT, UNIT);
    assert_int_equal(poke(map, 1), SIGBUS);
    fill_range(&file, 4 * UNIT + 5, 5, 'g');
    assert_int_equal(byte_at(map + 4), 0);
    assert_int_equal(byte_at(map + 5), 'g');
    unmap_ok(t, map, UNIT);
    close_ok(&file);
}

static void helpers_say_how_far(struct target *t)
{
    size_t page = t->page_size, done = 99;
    struct target_file file = open_new(t, "f");
    uint8_t *buf = malloc(4 * page);
    uint8_t *map;

    assert_non_null(buf);
    assert_ok(t_ftruncate(&file, (hf_off_t)(2 * page)));
    map = map_shared(&file, 0, 4 * page);
    memset(buf, 's', 4 * page);
    assert_err(hf_store(map + 100, buf, 4 * page - 100, &done), ENXIO);
    assert_count(done, 2 * page - 100);
    assert_err(hf_load(buf, map + page, 3 * page, &done), ENXIO);
    assert_count(done, page);
    assert_bytes(buf, 's', page);
    assert_err(hf_store(map + 3 * page, buf, 1, NULL), ENXIO);
    assert_ok(hf_store(map, buf, page, &done));
    assert_count(done, page);
    unmap_ok(t, map, 4 * page);
    close_ok(&file);
    free(buf);
}

enum growth { BY_FTRUNCATE, BY_PWRITE, BY_FALLOCATE, NR_GROWTHS };

static void grow(struct target_file *file, enum growth how, hf_off_t size)
{
    if (how == BY_FTRUNCATE)
        assert_ok(t_ftruncate(file, size));
    else if (how == BY_PWRITE)
        fill_range(file, size - 1, 1, 'z');
    else
        assert_ok(t_fallocate(file, 0, size - 100, 100));
    assert_count(stat_of(file).st_size, size);
}

/* Sizes around block and page borders, so that the tail lies in one block or in many. */
static void tail_stores_vanish(struct target *t)
{
    hf_off_t page = t->page_size, block = t->block_size;
    hf_off_t sizes[] = {1,        100,      block - 1,        block,       block + 1,
                        page - 1, page + 1, 2 * page - block, 2 * page - 7};

    for (size_t i = 0; i < ARRAY_LEN(sizes) * NR_GROWTHS * 2; i++) {
        hf_off_t size = sizes[i / (NR_GROWTHS * 2)], end = (hf_off_t)eof_page_end((size_t)size);
        struct target_file file = open_new(t, "f");
        uint8_t *map;

        fill_range(&file, 0, (size_t)size, 'f');
        map = map_shared(&file, 0, (size_t)(4 * page));
        memset(map + size, 'T', (size_t)(end - size));
        if (i % 2)
            assert_ok(t_fsync(&file));
        grow(&file, (enum growth)(i / 2 % NR_GROWTHS), 3 * page);
        assert_bytes(map, 'f', (size_t)size);
        assert_bytes(map + size, 0, (size_t)(3 * page - size - 100));
        expect_range(&file, size, (size_t)(3 * page - size - 100), 0);
        assert_ok(t_fsync(&file));
        unmap_ok(t, map, (size_t)(4 * page));
        close_ok(&file);
        if (t->spec->kind == TARGET_BLOCKFS && i / 2 % NR_GROWTHS == BY_FTRUNCATE) {
            target_reopen(t);
            file = open_old(t, "f", O_RDONLY);
            expect_range(&file, 0, (size_t)size, 'f');
            expect_range(&file, size, (size_t)(3 * page - size), 0);
            close_ok(&file);
        }
        assert_ok(t_unlink(t, "f"));
    }
}

static void shrink_cuts_to_the_byte(struct target *t)
{
    hf_off_t page = t->page_size, cut = page + page / 2 + 3, end = (hf_off_t)eof_page_end((size_t)cut);
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 3, &file);

    memset(map, 'f', (size_t)(3 * page));
    assert_ok(t_fsync(&file));
    assert_ok(t_ftruncate(&file, cut));
    assert_bytes(map + cut, 0, (size_t)(end - cut));
    memset(map + cut, 'T', (size_t)(end - cut));
    assert_ok(t_ftruncate(&file, cut - 1));
    assert_ok(t_ftruncate(&file, 3 * page));
    assert_bytes(map, 'f', (size_t)(cut - 1));
    assert_bytes(map + cut - 1, 0, (size_t)(3 * page - cut + 1));
    unmap_ok(t, map, (size_t)(3 * page));
    close_ok(&file);
}

/* The strongest form of HOLD-9: the bytes are nowhere in the volume file. */
static void tail_stores_never_reach_the_device(struct target *t)
{
    static const char secret[] = "past-the-end-of-file-0123456789";
    struct target_file file = open_new(t, "f");
    struct stat st;
    uint8_t *map, *raw;
    int fd;

    fill_range(&file, 0, 100, 'f');
    map = map_shared(&file, 0, t->page_size);
    for (size_t off = 100; off + sizeof(secret) < eof_page_end(100); off += 200)
        memcpy(map + off, secret, sizeof(secret));
    assert_ok(t_msync(t, map, t->page_size, MS_SYNC));
    map[0] = 'g';
    unmap_ok(t, map, t->page_size);
    close_ok(&file);
    assert_ok(hf_volume_close(t->volume));
    t->volume = NULL;
    fd = open(t->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    raw = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(raw, MAP_FAILED);
    assert_null(memmem(raw, (size_t)st.st_size, secret, strlen(secret)));
    assert_non_null(memmem(raw, (size_t)st.st_size, "gffffffffff", 11));
    munmap(raw, (size_t)st.st_size);
    close(fd);
}

static const struct test_body bodies[] = {
    BODY(pages_beyond_are_sigbus, ON_ALL),
    BODY(empty_file, ON_ALL),
    BODY(mapped_wholly_beyond, ON_ALL),
    BODY(helpers_say_how_far, ON_HOLDFAST),
    BODY(tail_stores_vanish, ON_HOLDFAST),
    BODY(shrink_cuts_to_the_byte, ON_HOLDFAST),
    BODY(tail_stores_never_reach_the_device, ON(TARGET_BLOCKFS)),
};

MMAP_TEST_MAIN("beyond_the_end", bodies)
