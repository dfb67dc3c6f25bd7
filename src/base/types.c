/* SPDX-License-Identifier: MIT */
/*
 * types.c - see types.h.
 */
#include "base/types.h"

#include <time.h>
#include <unistd.h>

uint32_t hf_hw_page_size(void)
{
    static uint32_t size; /* racing initialisations write the same value */

    if (__atomic_load_n(&size, __ATOMIC_RELAXED) == 0)
        __atomic_store_n(&size, (uint32_t)sysconf(_SC_PAGESIZE), __ATOMIC_RELAXED);
    return __atomic_load_n(&size, __ATOMIC_RELAXED);
}

int64_t hf_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}
