/* SPDX-License-Identifier: MIT */
/*
 * histogram.c - see histogram.h. Bucket 0 ends at 2^8 ns; then each doubling [2^e, 2^(e+1)) has four, up to
 * 2^35 ns, where the last begins.
 */
#include "base/histogram.h"

#include <time.h>

#define FIRST_SHIFT 8u /* bucket 0: shorter than 2^8 ns */
#define SPLIT_SHIFT 2u /* 2^2 buckets a doubling */

uint64_t hf_monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

unsigned hf_histogram_bucket(uint64_t ns)
{
    unsigned shift, bucket;

    if (ns >> FIRST_SHIFT == 0)
        return 0;
    shift = 63u - (unsigned)__builtin_clzll(ns);
    bucket = 1 + ((shift - FIRST_SHIFT) << SPLIT_SHIFT) + ((ns >> (shift - SPLIT_SHIFT)) & 3u);
    return bucket < HF_LATENCY_BUCKETS ? bucket : HF_LATENCY_BUCKETS - 1;
}

uint64_t hf_latency_bound_ns(unsigned bucket)
{
    unsigned at = bucket - 1;

    if (bucket == 0)
        return (uint64_t)1 << FIRST_SHIFT;
    if (bucket >= HF_LATENCY_BUCKETS - 1)
        return UINT64_MAX;
    return (uint64_t)(5 + (at & 3u)) << (FIRST_SHIFT - SPLIT_SHIFT + (at >> SPLIT_SHIFT));
}

void hf_histogram_add(struct hf_histogram *h, uint64_t ns, unsigned times)
{
    atomic_fetch_add_explicit(&h->count[hf_histogram_bucket(ns)], times, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, ns * times, memory_order_relaxed);
}

void hf_histogram_read(struct hf_histogram *h, struct hf_latency *ret_latency)
{
    ret_latency->sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
    for (unsigned i = 0; i < HF_LATENCY_BUCKETS; i++)
        ret_latency->count[i] = atomic_load_explicit(&h->count[i], memory_order_relaxed);
}

/* ------------------------------------------------------------------ for who reads them */

uint64_t hf_latency_count(const struct hf_latency *latency)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < HF_LATENCY_BUCKETS; i++)
        all += latency->count[i];
    return all;
}

uint64_t hf_latency_quantile_ns(const struct hf_latency *latency, double part)
{
    double want = part * (double)hf_latency_count(latency);
    uint64_t seen = 0, bound = 0;

    for (unsigned i = 0; i < HF_LATENCY_BUCKETS; i++) {
        if (latency->count[i] == 0)
            continue;
        seen += latency->count[i];
        bound = hf_latency_bound_ns(i);
        if ((double)seen >= want)
            break;
    }
    return bound;
}

const char *hf_fault_kind_name(enum hf_fault_kind kind)
{
    static const char *const names[HF_FAULT_KINDS] = {"load", "read", "store", "store_dirty", "refused"};

    return (unsigned)kind < HF_FAULT_KINDS ? names[kind] : "";
}
