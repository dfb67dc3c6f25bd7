/* SPDX-License-Identifier: MIT */
/*
 * stores_from_signal_handlers.c - an asynchronous handler may store to a mapping, whatever it interrupted:
 * a fault, malloc, or a call of the library.
 */
#include "mmap_test.h"

#include <pthread.h>
#include <sys/time.h>

#define HANDLER_BYTES MIB(4)
/* At least; and until enough alarms have come, however long that takes. HF_TEST_RUN_MS: longer. */
#define RUN_MS 120
#define ALARMS_MIN 20

static uint8_t *volatile handler_map;
static volatile sig_atomic_t handler_stores;

/* Each alarm stores to two places not touched before, one of them for a load first. */
static void on_alarm(int signo)
{
    size_t at = (size_t)handler_stores * 4096 % (size_t)HANDLER_BYTES;

    (void)signo;
    handler_map[at] = (uint8_t)(handler_map[at] + 1);
    handler_map[at + 1000] = 7;
    handler_stores++;
}

static void start_alarms(uint8_t *map)
{
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval every = {.it_interval = {0, 700}, .it_value = {0, 700}};

    handler_map = map;
    handler_stores = 0;
    sigemptyset(&act.sa_mask);
    assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
}

static void stop_alarms(void)
{
    struct itimerval never = {0};

    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN);
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ns_of(ts) / 1000000;
}

static int64_t run_end_ms(void)
{
    const char *longer = getenv("HF_TEST_RUN_MS");

    return now_ms() + (longer ? strtol(longer, NULL, 10) : RUN_MS);
}

/* Every kind of call that holds locks or memory of the library, over and over. */
static void busy_round(struct target *t, struct target_file *file, uint8_t *map, unsigned round)
{
    size_t at = round * 4096u % (unsigned)MIB(2);
    void *block = malloc(1000 + round % 5000);
    struct target_file other;

    assert_non_null(block);
    map[at] = (uint8_t)round;
    fill_range(file, MIB(2) + (hf_off_t)at, 100, (uint8_t)round);
    expect_range(file, MIB(2) + (hf_off_t)at, 100, (uint8_t)round);
    assert_int_equal(byte_at(map + at), (uint8_t)round);
    free(block);
    if (round % 16 == 0)
        assert_ok(t_fsync(file));
    if (round % 8 == 0) {
        other = open_new(t, "other");
        assert_ok(t_ftruncate(&other, MIB(1)));
        assert_ok(t_fallocate(&other, 0, 0, UNIT));
        close_ok(&other);
        assert_ok(t_unlink(t, "other"));
    }
}

static void check_handler_stores(struct target_file *file)
{
    unsigned pages = (unsigned)(HANDLER_BYTES / 4096), n = (unsigned)handler_stores;

    assert_true(n >= ALARMS_MIN);
    for (unsigned i = 0; i < pages && i < n; i++) {
        expect_range(file, i * 4096, 1, (uint8_t)(n / pages + (i < n % pages)));
        expect_range(file, i * 4096 + 1000, 1, 7);
    }
}

static void while_calls_run(struct target *t)
{
    struct target_file file = open_new(t, "f"), handled = open_new(t, "handled");
    int64_t end = run_end_ms();
    uint8_t *map, *theirs;

    assert_ok(t_ftruncate(&file, MIB(4)));
    assert_ok(t_ftruncate(&handled, HANDLER_BYTES));
    map = map_shared(&file, 0, MIB(4));
    theirs = map_shared(&handled, 0, HANDLER_BYTES);
    start_alarms(theirs);
    for (unsigned round = 0; now_ms() < end || handler_stores < ALARMS_MIN; round++)
        busy_round(t, &file, map, round);
    stop_alarms();
    check_handler_stores(&handled);
    unmap_ok(t, theirs, HANDLER_BYTES);
    unmap_ok(t, map, MIB(4));
    close_ok(&file);
    close_ok(&handled);
}

static void into_the_file_that_is_written(struct target *t)
{
    struct target_file file = open_new(t, "f");
    int64_t end = run_end_ms();
    uint8_t *map;

    assert_ok(t_ftruncate(&file, HANDLER_BYTES));
    map = map_shared(&file, 0, HANDLER_BYTES);
    start_alarms(map);
    for (unsigned round = 0; now_ms() < end || handler_stores < ALARMS_MIN; round++) {
        hf_off_t at = (hf_off_t)(round % 1024) * 4096;

        fill_range(&file, at + 2000, 100, 'w');
        map[at + 3000] = 's';
        assert_int_equal(byte_at(map + at + 2000), 'w');
        if (round % 32 == 0)
            assert_ok(t_fsync(&file));
    }
    stop_alarms();
    check_handler_stores(&file);
    unmap_ok(t, map, HANDLER_BYTES);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(while_calls_run, ON_ALL),
    BODY(into_the_file_that_is_written, ON_ALL),
};

MMAP_TEST_MAIN("stores_from_signal_handlers", bodies)
