/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - latencies counted by atomics: struct hf_latency of <holdfast/stats.h>, while it is written.
 */
#ifndef HF_BASE_HISTOGRAM_H
#define HF_BASE_HISTOGRAM_H

#include <holdfast/stats.h>
#include <stdatomic.h>

struct hf_histogram {
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t count[HF_LATENCY_BUCKETS];
};

/* Nanoseconds of the clock that nobody sets; async-signal-safe. */
uint64_t hf_monotonic_ns(void);
/* The bucket that ns falls into. */
unsigned hf_histogram_bucket(uint64_t ns);
/* Counts ns, times times. Async-signal-safe. */
void hf_histogram_add(struct hf_histogram *h, uint64_t ns, unsigned times);
void hf_histogram_read(struct hf_histogram *h, struct hf_latency *ret_latency);

#endif
