/* SPDX-License-Identifier: MIT */
/*
 * errseq.h - an error that every open file is told once (HOLD-7), after the kernel's lib/errseq.c in idea.
 *
 * The recorder bumps a sequence; each observer keeps the sequence it has seen.
 */
#ifndef HF_BASE_ERRSEQ_H
#define HF_BASE_ERRSEQ_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint64_t hf_errseq_t; /* sequence << 16 | errno */

static inline void hf_errseq_set(hf_errseq_t *seq, int error)
{
    uint64_t old = atomic_load(seq);

    while (!atomic_compare_exchange_weak(seq, &old, ((old >> 16) + 1) << 16 | (uint64_t)-error))
        ;
}
static inline uint64_t hf_errseq_sample(hf_errseq_t *seq)
{
    return atomic_load(seq);
}
/* 0, or the newest error since *since, which then counts as told. Two callers on one *since: one is told. */
static inline int hf_errseq_check_advance(hf_errseq_t *seq, hf_errseq_t *since)
{
    uint64_t now = atomic_load(seq);

    if (atomic_exchange(since, now) == now)
        return 0;
    return -(int)(now & 0xffff);
}

#endif
