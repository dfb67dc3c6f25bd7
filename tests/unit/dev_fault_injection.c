/* SPDX-License-Identifier: MIT */
/* dev_fault_injection.c - the fault shim fails what it was told to, nothing else, and counts. */
#include "check.h"

#include "dev/device_io.h"

#include <pthread.h>

#define DEV_BYTES (1 << 20)

static struct hf_device *make(void)
{
    struct hf_device *lower, *dev;

    assert_ok(hf_device_mem_new(DEV_BYTES, &lower));
    assert_ok(hf_device_fault_new(lower, &dev));
    assert_true(dev->size_bytes == DEV_BYTES);
    return dev;
}

static int write_byte(struct hf_device *dev, hf_off_t off)
{
    return hf_dev_write(dev, "x", 1, off);
}

static void nothing_fails_until_told(void **state)
{
    struct hf_device *dev = make();
    struct hf_device_counts counts;
    char byte;

    (void)state;
    assert_ok(write_byte(dev, 5));
    assert_ok(hf_dev_read(dev, &byte, 1, 5));
    assert_int_equal(byte, 'x');
    assert_ok(hf_dev_flush(dev));
    assert_ok(hf_dev_guarantee(dev, 0, 100));
    assert_ok(hf_dev_discard(dev, 0, 100));
    hf_device_fault_counts(dev, &counts);
    assert_true(counts.reads == 1 && counts.writes == 1 && counts.flushes == 1);
    assert_true(counts.guarantees == 1 && counts.discards == 1);
    hf_dev_close(dev);
}

static void the_nth_write_fails_and_writes_nothing(void **state)
{
    struct hf_device *dev = make();
    char byte;

    (void)state;
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_write_at = 3, .count = 2, .error = ENOSPC});
    assert_ok(write_byte(dev, 0));
    assert_ok(write_byte(dev, 1));
    assert_err(write_byte(dev, 2), ENOSPC);
    assert_err(write_byte(dev, 3), ENOSPC);
    assert_ok(write_byte(dev, 4));
    assert_ok(hf_dev_read(dev, &byte, 1, 2));
    assert_int_equal(byte, 0);
    hf_dev_close(dev);
}

static void counting_starts_anew_at_each_set(void **state)
{
    struct hf_device *dev = make();
    struct hf_device_faults faults = {.fail_read_at = 2, .count = 1};
    char byte;

    (void)state;
    for (int i = 0; i < 3; i++) {
        hf_device_fault_set(dev, &faults);
        assert_ok(hf_dev_read(dev, &byte, 1, 0));
        assert_err(hf_dev_read(dev, &byte, 1, 0), EIO);
        assert_ok(hf_dev_read(dev, &byte, 1, 0));
    }
    hf_dev_close(dev);
}

static void count_zero_is_for_ever_until_set_again(void **state)
{
    struct hf_device *dev = make();

    (void)state;
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_flush_at = 1});
    for (int i = 0; i < 100; i++)
        assert_err(hf_dev_flush(dev), EIO);
    hf_device_fault_set(dev, &(struct hf_device_faults){0});
    assert_ok(hf_dev_flush(dev));
    hf_dev_close(dev);
}

static void only_the_range_counts(void **state)
{
    struct hf_device *dev = make();

    (void)state;
    hf_device_fault_set(
        dev, &(struct hf_device_faults){.fail_write_at = 2, .range_start = 1000, .range_end = 2000});
    assert_ok(write_byte(dev, 999));
    assert_ok(write_byte(dev, 2000));
    assert_ok(write_byte(dev, 1000)); /* the first that counts */
    assert_ok(write_byte(dev, 0));
    assert_err(write_byte(dev, 1999), EIO);
    assert_err(hf_dev_write(dev, "abcd", 4, 998), EIO); /* touches it */
    assert_ok(hf_dev_write(dev, "ab", 2, 998));
    hf_dev_close(dev);
}

static void kinds_are_counted_apart(void **state)
{
    struct hf_device *dev = make();
    char byte;

    (void)state;
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_guarantee_at = 1, .error = ENOSPC});
    assert_ok(write_byte(dev, 0));
    assert_ok(hf_dev_read(dev, &byte, 1, 0));
    assert_ok(hf_dev_flush(dev));
    assert_err(hf_dev_guarantee(dev, 0, 1), ENOSPC);
    hf_dev_close(dev);
}

static void shims_stack(void **state)
{
    struct hf_device *inner = make(), *outer;

    (void)state;
    assert_ok(hf_device_fault_new(inner, &outer));
    hf_device_fault_set(inner, &(struct hf_device_faults){.fail_write_at = 1, .count = 1});
    assert_err(write_byte(outer, 0), EIO);
    assert_ok(write_byte(outer, 0));
    hf_dev_close(outer);
}

#define NR_THREADS 4
#define NR_WRITES 2000

static void *write_many(void *arg)
{
    struct hf_device *dev = arg;
    uintptr_t failed = 0;

    for (int i = 0; i < NR_WRITES; i++)
        failed += write_byte(dev, 4096 * (i % 4)) == -EIO; /* any thread's byte is the same */
    return (void *)failed;
}

static void exactly_count_fail_among_threads(void **state)
{
    struct hf_device *lower = make(), *dev;
    pthread_t threads[NR_THREADS];
    struct hf_device_counts counts;
    uintptr_t failed = 0;

    (void)state;
    /* The inner shim refuses everything, so that the threads do not race for the memory below. */
    hf_device_fault_set(lower, &(struct hf_device_faults){.fail_write_at = 1, .error = ENOSPC});
    assert_ok(hf_device_fault_new(lower, &dev));
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_write_at = 100, .count = 777});
    for (int i = 0; i < NR_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, dev), 0);
    for (int i = 0; i < NR_THREADS; i++) {
        void *ret;

        pthread_join(threads[i], &ret);
        failed += (uintptr_t)ret;
    }
    assert_int_equal(failed, 777);
    hf_device_fault_counts(dev, &counts);
    assert_int_equal(counts.writes, NR_THREADS * NR_WRITES);
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_fails_until_told),
        cmocka_unit_test(the_nth_write_fails_and_writes_nothing),
        cmocka_unit_test(counting_starts_anew_at_each_set),
        cmocka_unit_test(count_zero_is_for_ever_until_set_again),
        cmocka_unit_test(only_the_range_counts),
        cmocka_unit_test(kinds_are_counted_apart),
        cmocka_unit_test(shims_stack),
        cmocka_unit_test(exactly_count_fail_among_threads),
    };

    return cmocka_run_group_tests_name("dev_fault_injection", tests, NULL, NULL);
}
