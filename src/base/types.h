/* SPDX-License-Identifier: MIT */
/*
 * types.h - units in types: bytes, pages, blocks.
 */
#ifndef HF_BASE_TYPES_H
#define HF_BASE_TYPES_H

#include <stdint.h>

typedef uint64_t hf_pgoff_t; /* a page number in a file, in units of P */

/* The hardware page: what page tables and userfaultfd work in, bytes. */
uint32_t hf_hw_page_size(void);
/* Nanoseconds since the epoch (file times); async-signal-safe. */
int64_t hf_now_ns(void);

#endif
