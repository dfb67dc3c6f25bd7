/* SPDX-License-Identifier: MIT */
/*
 * testing.h - switches that break the promise on purpose, in test builds only: the negative controls that
 * show that the tests can fail.
 */
#ifndef HF_CACHE_TESTING_H
#define HF_CACHE_TESTING_H

#ifdef HF_TESTING
#include <stdatomic.h>
#include <stdbool.h>

extern _Atomic bool hf_test_skip_mkclean; /* page_mkclean changes the page's state but no page table */
#endif

#endif
