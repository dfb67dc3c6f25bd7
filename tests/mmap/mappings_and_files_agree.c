/* SPDX-License-Identifier: MIT */
/*
 * mappings_and_files_agree.c - one cache: mappings of a file, pread and pwrite agree at once.
 */
#include "mmap_test.h"

#include <pthread.h>
#include <stdatomic.h>

static void two_mappings(struct target *t)
{
    struct target_file file = open_new(t, "f"), second;
    uint8_t *one, *two, *part;

    assert_ok(t_ftruncate(&file, 4 * UNIT));
    second = open_old(t, "f", O_RDWR);
    one = map_shared(&file, 0, 4 * UNIT);
    two = map_shared(&second, 0, 4 * UNIT);
    part = map_shared(&file, 2 * UNIT, 2 * UNIT);
    for (hf_off_t off = 0; off < 4 * UNIT; off += 9973) {
        one[off] = (uint8_t)(off | 1);
        assert_int_equal(byte_at(two + off), (uint8_t)(off | 1));
        two[off + 1] = (uint8_t)(off | 2);
        assert_int_equal(byte_at(one + off + 1), (uint8_t)(off | 2));
        if (off >= 2 * UNIT)
            assert_int_equal(byte_at(part + off - 2 * UNIT), (uint8_t)(off | 1));
    }
    part[5] = 77;
    assert_int_equal(byte_at(one + 2 * UNIT + 5), 77);
    unmap_ok(t, one, 4 * UNIT);
    assert_int_equal(byte_at(two + 2 * UNIT + 5), 77);
    two[6] = 66;
    expect_range(&second, 6, 1, 66);
    unmap_ok(t, two, 4 * UNIT);
    unmap_ok(t, part, 2 * UNIT);
    close_ok(&file);
    close_ok(&second);
}

static void stores_are_read(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 4 * UNIT));
    map = map_shared(&file, 0, 4 * UNIT);
    for (int round = 1; round < 4; round++) {
        memset(map + UNIT - 50, round, 100);
        expect_range(&file, UNIT - 50, 100, (uint8_t)round);
        expect_range(&file, UNIT + 50, 100, 0);
        assert_ok(t_fsync(&file));
        expect_range(&file, UNIT - 50, 100, (uint8_t)round);
    }
    unmap_ok(t, map, 4 * UNIT);
    expect_range(&file, UNIT - 50, 100, 3);
    close_ok(&file);
}

static void writes_are_loaded(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 4 * UNIT));
    map = map_shared(&file, 0, 4 * UNIT);
    assert_bytes(map, 0, UNIT);
    fill_range(&file, 1000, 5000, 'w');
    assert_bytes(map, 0, 1000);
    assert_bytes(map + 1000, 'w', 5000);
    assert_bytes(map + 6000, 0, 5000);
    map[1001] = 's';
    fill_range(&file, 1002, 1, 'x');
    assert_memory_equal(map + 1000, "wsxw", 4);
    assert_ok(t_fsync(&file));
    fill_range(&file, 2 * UNIT - 1, 2, 'y');
    assert_memory_equal(map + 2 * UNIT - 1, "yy", 2);
    assert_int_equal(byte_at(map + 2 * UNIT + 1), 0);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static void growth_is_seen(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map = map_shared(&file, 0, 4 * UNIT);

    for (int i = 0; i < 40; i++) {
        fill_range(&file, i * 6000, 6000, (uint8_t)(i + 1));
        assert_int_equal(byte_at(map + i * 6000), i + 1);
        assert_int_equal(byte_at(map + i * 6000 + 5999), i + 1);
        map[i * 6000 + 3000] = 0xff;
        expect_range(&file, i * 6000 + 3000, 1, 0xff);
        if (i > 0)
            assert_int_equal(byte_at(map + i * 6000 - 1), i);
    }
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static void many_mappings(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *maps[40];

    assert_ok(t_ftruncate(&file, 2 * UNIT));
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        maps[i] = map_shared(&file, 0, 2 * UNIT);
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        maps[i][i * 3000] = (uint8_t)(i + 1);
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        for (size_t j = 0; j < ARRAY_LEN(maps); j++)
            assert_int_equal(byte_at(maps[j] + i * 3000), i + 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(maps); i++)
        unmap_ok(t, maps[i], 2 * UNIT);
    close_ok(&file);
}

#define VOLLEYS 400

struct rally {
    volatile uint32_t *ball; /* in this thread's own mapping */
    uint32_t first;
};

/* Waits for each number of the other side and answers with the next one. */
static void *play(void *arg)
{
    struct rally *rally = arg;

    for (uint32_t i = rally->first; i < VOLLEYS; i += 2) {
        while (word_get(rally->ball) != i)
            sched_yield();
        word_set(rally->ball, i + 1);
    }
    return NULL;
}

static void threads_talk_through_two_mappings(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct rally sides[2];
    uint8_t *one, *two;
    pthread_t thread;

    assert_ok(t_ftruncate(&file, UNIT));
    one = map_shared(&file, 0, UNIT);
    two = map_shared(&file, 0, UNIT);
    sides[0] = (struct rally){word_at(one + 4096), 0};
    sides[1] = (struct rally){word_at(two + 4096), 1};
    assert_int_equal(pthread_create(&thread, NULL, play, &sides[1]), 0);
    play(&sides[0]);
    pthread_join(thread, NULL);
    assert_int_equal(word_get(sides[0].ball), VOLLEYS);
    unmap_ok(t, one, UNIT);
    unmap_ok(t, two, UNIT);
    close_ok(&file);
}

#define STAMPS 3000

struct stamper {
    struct target_file *file;
    uint8_t *map;
    atomic_int error;
};

/* Every number pwritten is at once in the mapping, whatever fsync does meanwhile. */
static void *write_and_load(void *arg)
{
    struct stamper *me = arg;

    for (uint32_t i = 1; i <= STAMPS; i++) {
        uint32_t seen;

        if (t_pwrite(me->file, &i, sizeof(i), 512) != sizeof(i))
            atomic_store(&me->error, 1);
        memcpy(&seen, me->map + 512, sizeof(seen));
        if (seen != i)
            atomic_store(&me->error, 2);
        memcpy(me->map + 516, &i, sizeof(i));
        if (t_pread(me->file, &seen, sizeof(seen), 516) != sizeof(seen) || seen != i)
            atomic_store(&me->error, 3);
    }
    return NULL;
}

static void agreement_holds_under_fsync(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct stamper stamper = {.file = &file};
    pthread_t thread;

    assert_ok(t_ftruncate(&file, UNIT));
    stamper.map = map_shared(&file, 0, UNIT);
    assert_int_equal(pthread_create(&thread, NULL, write_and_load, &stamper), 0);
    for (int i = 0; i < 20; i++)
        assert_ok(t_fsync(&file));
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&stamper.error), 0);
    unmap_ok(t, stamper.map, UNIT);
    close_ok(&file);
}

static void bytes_of_neighbours_survive(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    /* A store and a write into one block, from both sides of every byte. */
    assert_ok(t_ftruncate(&file, UNIT));
    map = map_shared(&file, 0, UNIT);
    for (hf_off_t off = 0; off < 2048; off += 2) {
        map[off] = 'm';
        fill_range(&file, off + 1, 1, 'w');
        if (off % 512 == 0)
            assert_ok(t_fsync(&file));
    }
    for (hf_off_t off = 0; off < 2048; off += 2) {
        assert_int_equal(byte_at(map + off), 'm');
        assert_int_equal(byte_at(map + off + 1), 'w');
    }
    unmap_ok(t, map, UNIT);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(two_mappings, ON_ALL),
    BODY(stores_are_read, ON_ALL),
    BODY(writes_are_loaded, ON_ALL),
    BODY(growth_is_seen, ON_ALL),
    BODY(many_mappings, ON_ALL),
    BODY(threads_talk_through_two_mappings, ON_ALL),
    BODY(agreement_holds_under_fsync, ON_ALL),
    BODY(bytes_of_neighbours_survive, ON_ALL),
};

MMAP_TEST_MAIN("mappings_and_files_agree", bodies)
