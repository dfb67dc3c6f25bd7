/* SPDX-License-Identifier: MIT */
/*
 * stress_rng.h - random numbers that follow from a seed.
 */
#ifndef STRESS_RNG_H
#define STRESS_RNG_H

#include <stdint.h>

struct stress_rng {
    uint64_t state;
};

static inline uint64_t stress_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t stress_rng_next(struct stress_rng *rng)
{
    return stress_mix(rng->state += 0x9e3779b97f4a7c15u);
}

/* Uniform in [0, n); 0 for n == 0. */
static inline uint64_t stress_rng_below(struct stress_rng *rng, uint64_t n)
{
    uint64_t z = stress_rng_next(rng);

    return n == 0 ? 0 : z % n;
}

/* The byte that operation `id` writes at offset `off`: never zero, so that a hole is told from data. */
static inline uint8_t stress_pattern(uint64_t id, int64_t off)
{
    uint64_t z = id * 0x9e3779b97f4a7c15u + (uint64_t)off * 0xc2b2ae3d27d4eb4fu;

    z ^= z >> 29;
    z *= 0xbf58476d1ce4e5b9u;
    return (uint8_t)(1 + (z >> 32) % 255);
}

#endif
