/* SPDX-License-Identifier: MIT */
/*
 * trace.c - see trace.h.
 */
#include "base/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HF_TRACE_RING 65536u

struct trace_entry {
    uint64_t ns, ino, index, a, b;
    uint32_t event, tid;
};

_Atomic bool hf_trace_on;
static struct trace_entry ring[HF_TRACE_RING];
static _Atomic uint64_t next;
static const char *const names[] = {
#define X(name) #name,
    HF_TRACE_EVENTS(X)
#undef X
};

void hf_trace_init(void)
{
    const char *on = getenv("HF_TRACE");

    if (on != NULL && *on == '1')
        atomic_store(&hf_trace_on, true);
}

/* Entries may tear when the ring laps a writer: it is a flight recorder, not a log. */
__attribute__((no_sanitize("thread"))) void hf_trace_record(enum hf_trace_event event, uint64_t ino,
                                                            uint64_t index, uint64_t a, uint64_t b)
{
    uint64_t n = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
    struct trace_entry *e = &ring[n % HF_TRACE_RING];
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    e->ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    e->ino = ino;
    e->index = index;
    e->a = a;
    e->b = b;
    e->event = event;
    e->tid = (uint32_t)syscall(SYS_gettid);
}

void hf_trace_dump(int fd)
{
    uint64_t end = atomic_load(&next);
    uint64_t start = end > HF_TRACE_RING ? end - HF_TRACE_RING : 0;

    for (uint64_t n = start; n < end; n++) {
        const struct trace_entry *e = &ring[n % HF_TRACE_RING];
        dprintf(fd, "%llu.%09llu [%u] %-9s ino=%llu index=%llu a=%#llx b=%#llx\n",
                (unsigned long long)(e->ns / 1000000000u), (unsigned long long)(e->ns % 1000000000u), e->tid,
                names[e->event], (unsigned long long)e->ino, (unsigned long long)e->index,
                (unsigned long long)e->a, (unsigned long long)e->b);
    }
}
