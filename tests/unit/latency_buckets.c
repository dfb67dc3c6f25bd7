/* SPDX-License-Identifier: MIT */
/*
 * latency_buckets.c - the buckets of struct hf_latency: each number lies in one, whose end is less than a
 * quarter above it, and quantiles are the ends of buckets.
 */
#include "check.h"

#include "base/histogram.h"

static uint64_t start_of(unsigned bucket)
{
    return bucket == 0 ? 0 : hf_latency_bound_ns(bucket - 1);
}

static void every_number_has_its_bucket(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift++)
        for (unsigned part = 0; part < 16; part++) {
            uint64_t base = (uint64_t)1 << shift, ns = base + (base >> 4) * part;
            unsigned bucket = hf_histogram_bucket(ns);

            assert_true(bucket < HF_LATENCY_BUCKETS);
            assert_true(ns >= start_of(bucket) && ns < hf_latency_bound_ns(bucket));
            if (bucket > 0 && bucket < HF_LATENCY_BUCKETS - 1)
                assert_true((hf_latency_bound_ns(bucket) - start_of(bucket)) * 4 <= start_of(bucket));
        }
    for (unsigned bucket = 0; bucket + 1 < HF_LATENCY_BUCKETS; bucket++) {
        assert_true(start_of(bucket) < hf_latency_bound_ns(bucket));
        assert_int_equal(hf_histogram_bucket(hf_latency_bound_ns(bucket) - 1), bucket);
        assert_int_equal(hf_histogram_bucket(hf_latency_bound_ns(bucket)), bucket + 1);
    }
    assert_true(hf_latency_bound_ns(0) == 256);
    assert_true(hf_latency_bound_ns(HF_LATENCY_BUCKETS - 2) == (uint64_t)1 << 35);
    assert_true(hf_latency_bound_ns(HF_LATENCY_BUCKETS - 1) == UINT64_MAX);
    assert_int_equal(hf_histogram_bucket(UINT64_MAX), HF_LATENCY_BUCKETS - 1);
}

static void quantiles(void **state)
{
    static struct hf_histogram histogram;
    struct hf_latency latency;

    (void)state;
    hf_histogram_read(&histogram, &latency);
    assert_true(hf_latency_quantile_ns(&latency, 0.5) == 0 && hf_latency_count(&latency) == 0);
    hf_histogram_add(&histogram, 1000, 90); /* in [896, 1024) */
    hf_histogram_add(&histogram, 5000, 9);  /* in [4096, 5120) */
    hf_histogram_add(&histogram, UINT64_MAX >> 1, 1);
    hf_histogram_read(&histogram, &latency);
    assert_true(hf_latency_count(&latency) == 100);
    assert_true(hf_latency_quantile_ns(&latency, 0) == 1024);
    assert_true(hf_latency_quantile_ns(&latency, 0.5) == 1024);
    assert_true(hf_latency_quantile_ns(&latency, 0.9) == 1024);
    assert_true(hf_latency_quantile_ns(&latency, 0.95) == 5120);
    assert_true(hf_latency_quantile_ns(&latency, 0.99) == 5120);
    assert_true(hf_latency_quantile_ns(&latency, 1) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_has_its_bucket),
        cmocka_unit_test(quantiles),
    };

    return cmocka_run_group_tests_name("latency_buckets", tests, NULL, NULL);
}
