/* SPDX-License-Identifier: MIT */
/*
 * file_size_limit.c - RLIMIT_FSIZE: a write stops at it, growth beyond is EFBIG and SIGXFSZ, and what the
 * limit is not about goes on: large files that are there, mappings of them, fsync.
 */
#include "target.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#define LIMIT 132072 /* not at the end of a block or page */
#define LARGE 300000

static int signals; /* that came while the limit stood: 0 or 1 */
static struct rlimit without;
static sigset_t mask_before;

static void sigxfsz_only(sigset_t *ret_set)
{
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGXFSZ);
}

/* Under a hard limit nothing can be shown: the volume itself is larger. */
static void limit_must_be_ours(void)
{
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &without), 0);
    if (without.rlim_max != RLIM_INFINITY)
        skip();
}

/* The signal stays pending, to be looked for: when a handler runs is not the same under every sanitizer. */
static void limit_set(void)
{
    struct rlimit with;
    sigset_t set;

    with = (struct rlimit){.rlim_cur = LIMIT, .rlim_max = without.rlim_max};
    sigxfsz_only(&set);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, &mask_before), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &with), 0);
}

static void limit_lift(void)
{
    sigset_t set;

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &without), 0);
    sigxfsz_only(&set);
    signals = sigtimedwait(&set, NULL, &(struct timespec){0}) == SIGXFSZ;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &mask_before, NULL), 0);
}

/* The limit stands only between limit_set() and limit_lift(); results are looked at after that. */
static void growth_stops_at_the_limit(struct target *t)
{
    static char bytes[LARGE];
    struct target_file file;
    ssize_t across, at, below, inside;
    int grow, grow_to, shrink, allocate;

    limit_must_be_ours();
    file = open_new(t, "f");
    memset(bytes, 'w', sizeof(bytes));
    limit_set();
    across = t_pwrite(&file, bytes, LARGE, 0);
    limit_lift();
    assert_count(across, LIMIT);
    assert_int_equal(signals, 0);
    assert_count(stat_of(&file).st_size, LIMIT);

    limit_set();
    at = t_pwrite(&file, bytes, 10, LIMIT);
    limit_lift();
    assert_err(at, EFBIG);
    assert_int_equal(signals, 1);

    limit_set();
    below = t_pwrite(&file, bytes, 100, LIMIT - 10);
    inside = t_pwrite(&file, bytes, 100, 1000);
    shrink = t_ftruncate(&file, 1000);
    grow_to = t_ftruncate(&file, LIMIT);
    limit_lift();
    assert_count(below, 10);
    assert_count(inside, 100);
    assert_ok(shrink);
    assert_ok(grow_to);
    assert_int_equal(signals, 0);

    limit_set();
    grow = t_ftruncate(&file, LIMIT + 1);
    limit_lift();
    assert_err(grow, EFBIG);
    assert_int_equal(signals, 1);

    limit_set();
    allocate = t_fallocate(&file, 0, 1000, LIMIT);
    limit_lift();
    assert_err(allocate, EFBIG);
    assert_count(stat_of(&file).st_size, LIMIT);
    expect_range(&file, 0, 1000, 'w');
    expect_range(&file, 1000, LIMIT - 1000, 0);
    close_ok(&file);
}

static void a_large_file_is_left_alone(struct target *t)
{
    struct target_file file;
    ssize_t beyond, loaded, synced;
    int cut, shrunk;
    uint8_t *map, byte = 0;

    limit_must_be_ours();
    file = open_new(t, "f");
    fill_range(&file, 0, LARGE, 'l');
    map = map_shared(&file, 0, LARGE);
    limit_set();
    beyond = t_pwrite(&file, "x", 1, LARGE - 10);
    limit_lift();
    assert_err(beyond, EFBIG);
    assert_int_equal(signals, 1);

    limit_set();
    loaded = t_pread(&file, &byte, 1, LARGE - 10);
    map[LARGE - 5] = 'm'; /* a store is not a write(2) */
    synced = t_fsync(&file);
    shrunk = t_ftruncate(&file, LARGE - 3);
    cut = t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, LIMIT + 5, 1000);
    limit_lift();
    assert_count(loaded, 1);
    assert_int_equal(byte, 'l');
    assert_ok(synced);
    assert_ok(shrunk);
    assert_ok(cut);
    assert_int_equal(signals, 0);
    expect_range(&file, 0, LIMIT, 'l');
    expect_range(&file, LIMIT + 5, 1000, 0);
    expect_range(&file, LARGE - 10, 5, 'l');
    expect_range(&file, LARGE - 5, 1, 'm');
    unmap_ok(t, map, LARGE);
    close_ok(&file);
}

/* A page that has to be read again while the limit stands. */
static void reading_back_under_the_limit(struct target *t)
{
    struct target_file file;
    uint8_t bytes[100];
    ssize_t n;

    limit_must_be_ours();
    file = open_new(t, "f");
    fill_range(&file, 0, LARGE, 'r');
    assert_ok(t_fsync(&file));
    close_ok(&file);
    target_reopen(t);
    file = open_old(t, "f", O_RDWR);
    limit_set();
    n = t_pread(&file, bytes, sizeof(bytes), LARGE - 200);
    limit_lift();
    assert_count(n, sizeof(bytes));
    assert_bytes(bytes, 'r', sizeof(bytes));
    assert_int_equal(signals, 0);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(growth_stops_at_the_limit, ON_ALL),
    BODY(a_large_file_is_left_alone, ON_ALL),
    BODY(reading_back_under_the_limit, ON_LASTING),
};

TEST_MAIN("file_size_limit", bodies)
