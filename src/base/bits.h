/* SPDX-License-Identifier: MIT */
/*
 * bits.h - a set of up to 128 blocks of one page, and ranges of it.
 */
#ifndef HF_BASE_BITS_H
#define HF_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>

typedef unsigned __int128 hf_bits_t;

static inline hf_bits_t hf_bit(unsigned n)
{
    return (hf_bits_t)1 << n;
}
/* Bits [first, first + nr); nr may be 128. */
static inline hf_bits_t hf_bits_range(unsigned first, unsigned nr)
{
    if (nr == 0)
        return 0;
    return (~(hf_bits_t)0 >> (128u - nr)) << first;
}
static inline unsigned hf_bits_count(hf_bits_t b)
{
    return (unsigned)__builtin_popcountll((uint64_t)b) + (unsigned)__builtin_popcountll((uint64_t)(b >> 64));
}
/* Index of the lowest bit; b is not 0. */
static inline unsigned hf_bits_first(hf_bits_t b)
{
    if ((uint64_t)b)
        return (unsigned)__builtin_ctzll((uint64_t)b);
    return 64u + (unsigned)__builtin_ctzll((uint64_t)(b >> 64));
}
/* Length of the run of ones that starts at first, which is set. */
static inline unsigned hf_bits_run(hf_bits_t b, unsigned first)
{
    hf_bits_t rest = ~(b >> first);

    return rest == 0 ? 128u - first : hf_bits_first(rest);
}
/* Iterates the runs of ones: for (r = hf_bits_runs(b); hf_bits_next_run(&r);) uses r.first, r.nr. */
struct hf_bits_runs {
    hf_bits_t left;
    unsigned first, nr;
};
static inline bool hf_bits_next_run(struct hf_bits_runs *r)
{
    if (r->left == 0)
        return false;
    r->first = hf_bits_first(r->left);
    r->nr = hf_bits_run(r->left, r->first);
    if (r->nr > 128u - r->first)
        r->nr = 128u - r->first;
    r->left &= ~hf_bits_range(r->first, r->nr);
    return true;
}

#endif
