/* SPDX-License-Identifier: MIT */
/*
 * fault_latency.c - hf_volume_latency(): each fault is counted under what it was. Faults that waited are
 * counted one by one, others by every sixteenth, so those sums may be sixteen off, either way.
 */
#include "mmap_test.h"

#include <holdfast/stats.h>

#define PAGES 32
#define ONE_OF 16

static uint64_t counted(struct target *t, enum hf_fault_kind kind)
{
    struct hf_latency latency;

    assert_ok(hf_volume_latency(t->volume, kind, &latency));
    return hf_latency_count(&latency);
}

/* A fault that a thread serves is over for the program before it is counted: so it is waited for. */
static void expect_counted(struct target *t, enum hf_fault_kind kind, uint64_t want)
{
    for (int i = 0; i < 5000 && counted(t, kind) < want; i++)
        nanosleep(&(struct timespec){.tv_nsec = 2 * 1000 * 1000}, NULL);
    assert_count(counted(t, kind), want);
}

static uint64_t counted_all(struct target *t)
{
    uint64_t all = 0;

    for (int kind = 0; kind < HF_FAULT_KINDS; kind++)
        all += counted(t, (enum hf_fault_kind)kind);
    return all;
}

static void as_many_as_faults(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    struct hf_volume_stats stats;
    uint64_t all, faults;

    for (size_t i = 0; i < PAGES; i++) /* backwards: no windows */
        (void)byte_at(map + (PAGES - 1 - i) * t->page_size);
    for (size_t i = 0; i < PAGES; i++)
        assert_ok(store_byte(map + (PAGES - 1 - i) * t->page_size, 'x'));
    stats = target_stats(t);
    all = counted_all(t);
    faults = stats.faults_load + stats.faults_store;
    assert_true(faults >= 2 * PAGES);
    assert_that(all + ONE_OF >= faults && all <= faults + ONE_OF, "%llu counted, %llu faults",
                (unsigned long long)all, (unsigned long long)faults);
    assert_true(counted(t, HF_FAULT_LOAD) >= PAGES - ONE_OF);
    assert_true(counted(t, HF_FAULT_STORE) >= PAGES - ONE_OF);
    assert_count(counted(t, HF_FAULT_READ), 0);
    assert_count(counted(t, HF_FAULT_REFUSED), 0);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void dirty_pages_and_clean_ones(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file), *other = map_shared(&file, 0, PAGES * t->page_size);
    uint64_t before;

    for (size_t i = 0; i < PAGES; i++)
        assert_ok(store_byte(map + (PAGES - 1 - i) * t->page_size, 'x'));
    assert_true(counted(t, HF_FAULT_STORE_DIRTY) < PAGES / 2);
    for (size_t i = 0; i < PAGES; i++)
        assert_ok(store_byte(other + (PAGES - 1 - i) * t->page_size, 'y'));
    assert_true(counted(t, HF_FAULT_STORE_DIRTY) >= PAGES - ONE_OF);
    assert_ok(t_fsync(&file));
    before = counted(t, HF_FAULT_STORE);
    for (size_t i = 0; i < PAGES; i++)
        assert_ok(store_byte(map + (PAGES - 1 - i) * t->page_size, 'z'));
    assert_true(counted(t, HF_FAULT_STORE) >= before + PAGES - ONE_OF);
    unmap_ok(t, other, PAGES * t->page_size);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void refusals_one_by_one(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);
    uint64_t before = target_stats(t).faults_refused;

    target_fill_but(t, "ballast", 0);
    for (size_t i = 0; i < 7; i++)
        assert_err(store_byte(map + i * t->page_size, 'x'), ENOSPC);
    assert_true(target_stats(t).faults_refused >= before + 7);
    expect_counted(t, HF_FAULT_REFUSED, target_stats(t).faults_refused - before);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void what_waited_for_the_device(struct target *t)
{
    struct target_file file;
    struct hf_latency latency;
    uint8_t *map;

    make_file(t, "f", PAGES * (hf_off_t)t->page_size - 1,
              'f'); /* the last page straddles: it is read alone */
    target_reopen(t);
    file = open_old(t, "f", O_RDWR);
    map = map_shared(&file, 0, PAGES * t->page_size);
    assert_int_equal(byte_at(map + (PAGES - 1) * t->page_size), 'f');
    expect_counted(t, HF_FAULT_READ, 1);
    assert_int_equal(byte_at(map), 'f');
    expect_counted(t, HF_FAULT_READ, 2);
    assert_ok(hf_volume_latency(t->volume, HF_FAULT_READ, &latency));
    assert_true(latency.sum_ns > 0);
    assert_true(hf_latency_quantile_ns(&latency, 0.5) <= hf_latency_quantile_ns(&latency, 1));
    assert_count(counted(t, HF_FAULT_STORE), 0);
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(&file);
}

static void wrong_arguments(struct target *t)
{
    struct hf_latency latency;

    assert_err(hf_volume_latency(NULL, HF_FAULT_LOAD, &latency), EINVAL);
    assert_err(hf_volume_latency(t->volume, HF_FAULT_KINDS, &latency), EINVAL);
    assert_err(hf_volume_latency(t->volume, HF_FAULT_LOAD, NULL), EINVAL);
    assert_string_equal(hf_fault_kind_name(HF_FAULT_STORE_DIRTY), "store_dirty");
    assert_string_equal(hf_fault_kind_name(HF_FAULT_KINDS), "");
}

static const struct test_body bodies[] = {
    BODY(as_many_as_faults, ON_HOLDFAST),   BODY(dirty_pages_and_clean_ones, ON_HOLDFAST),
    BODY(refusals_one_by_one, ON_HOLDFAST), BODY(what_waited_for_the_device, ON(TARGET_BLOCKFS)),
    BODY(wrong_arguments, ON_HOLDFAST),
};

MMAP_TEST_MAIN("fault_latency", bodies)
