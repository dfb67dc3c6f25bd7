/* SPDX-License-Identifier: MIT */
/*
 * trace.h - what happened lately, in a ring in memory: the library never prints.
 *
 * hf_trace() costs one branch when tracing is off (the default; HF_TRACE=1 in the environment turns it on),
 * is lock-free and async-signal-safe. Tests and gdb users call hf_trace_dump().
 */
#ifndef HF_BASE_TRACE_H
#define HF_BASE_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* clang-format off */
#define HF_TRACE_EVENTS(X) \
    X(FAULT) X(FILL) X(MKWRITE) X(MKCLEAN) X(WRITEBACK) \
    X(WRITTEN) X(ZAP) X(RECLAIM) X(SIZE) X(WRITE) \
    X(REFUSED) X(RESERVE) X(RELEASE) X(PUNCH)
/* clang-format on */

enum hf_trace_event {
#define X(name) HF_TRACE_##name,
    HF_TRACE_EVENTS(X)
#undef X
};

extern _Atomic bool hf_trace_on;
void hf_trace_record(enum hf_trace_event event, uint64_t ino, uint64_t index, uint64_t a, uint64_t b);
/* Writes the newest events to a descriptor, oldest first. */
void hf_trace_dump(int fd);
/* Reads HF_TRACE once. */
void hf_trace_init(void);

#define hf_trace(event, ino, index, a, b)                                                        \
    do {                                                                                         \
        if (__builtin_expect(atomic_load_explicit(&hf_trace_on, memory_order_relaxed), 0))       \
            hf_trace_record(HF_TRACE_##event, (uint64_t)(ino), (uint64_t)(index), (uint64_t)(a), \
                            (uint64_t)(b));                                                      \
    } while (0)

#endif
