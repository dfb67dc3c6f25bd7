/* SPDX-License-Identifier: MIT */
/*
 * stats.h - what a volume is doing, for whoever watches it: how long page faults take, and which files are busy.
 *
 * hf_volume_stats() of <holdfast/holdfast.h> has the counters of the whole volume. Everything here is counted
 * since the volume was opened, by atomics that are read one after the other: figures that belong together may
 * be apart by what happens meanwhile.
 */
#ifndef HOLDFAST_STATS_H
#define HOLDFAST_STATS_H

#include <holdfast/holdfast.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ how long faults take */

/* What a fault turned out to be. */
enum hf_fault_kind {
    HF_FAULT_LOAD = 0,    /* a load whose page needed no device: cached, or a hole */
    HF_FAULT_READ,        /* a load or store that waited for the device to read the page */
    HF_FAULT_STORE,       /* the first store to a clean page: page_mkwrite, space was asked for */
    HF_FAULT_STORE_DIRTY, /* a store to a page that was dirty, and so had its space: not writable here yet */
    HF_FAULT_REFUSED,     /* ENOSPC, EDQUOT, EIO, or beyond EOF */
    HF_FAULT_KINDS,
};
/* "load", "read", "store", "store_dirty", "refused"; "" for another number. Async-signal-safe. */
const char *hf_fault_kind_name(enum hf_fault_kind kind);

/*
 * A histogram. Buckets lie close: four to each doubling, from 256 ns to 34 s; the first has all that is
 * shorter, the last all that is longer.
 */
#define HF_LATENCY_BUCKETS 110
struct hf_latency {
    uint64_t sum_ns;
    uint64_t count[HF_LATENCY_BUCKETS];
};

/*
 * How long faults of one kind took, from the start of the decision until the page was accessible, or refused;
 * what the kernel needs to deliver a fault is not in it. Faults that are decided in the faulting thread
 * without waiting are measured once in 16, and that one counts for 16; all others are measured one by one.
 * Any context but a signal handler; never blocks. Returns 0 or -EINVAL.
 */
int hf_volume_latency(struct hf_volume *volume, enum hf_fault_kind kind, struct hf_latency *ret_latency);

/* Where a bucket ends, ns: what it counts was shorter. UINT64_MAX for the last. Async-signal-safe. */
uint64_t hf_latency_bound_ns(unsigned bucket);
/* How many in all. Async-signal-safe. */
uint64_t hf_latency_count(const struct hf_latency *latency);
/*
 * The end of the bucket in which the given part (0.5: the median; 0 ... 1) of all lies, ns: not more than a
 * quarter above what was measured. 0 if nothing was counted; UINT64_MAX: longer than 34 s.
 * Async-signal-safe.
 */
uint64_t hf_latency_quantile_ns(const struct hf_latency *latency, double part);

/* ------------------------------------------------------------------ files */

/* A file in memory. Pages are of P bytes. */
struct hf_file_stats {
    uint64_t ino;
    hf_off_t size; /* bytes; as the next three now */
    uint64_t cached_pages, dirty_pages;
    uint64_t blocks_reserved; /* promised to it and not allocated */
    uint32_t mappings, opens; /* of all processes; open files, with those that only mappings hold */
    uint64_t faults_load, faults_store, faults_refused, mkwrites; /* since it came into memory */
    char path[256]; /* where it was last seen, from "/": for people, names change. "?/..." if only the end is
                       known, "" if nothing is; a component is cut after 47 bytes */
};

/*
 * Calls fn for each file that has pages in memory, or had since it came there, in no order, until it returns
 * something else than 0. When files come and go meanwhile, one may be left out or told twice. fn must not
 * call functions of the library; a file cannot leave memory while it runs, so it should not take long. Costs
 * a microsecond a file, and holds up nobody who stores. Returns 0, or what fn returned.
 */
int hf_volume_each_file(struct hf_volume *volume, int (*fn)(const struct hf_file_stats *file, void *arg),
                        void *arg);

#ifdef __cplusplus
}
#endif
#endif
