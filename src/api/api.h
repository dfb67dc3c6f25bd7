/* SPDX-License-Identifier: MIT */
/*
 * api.h - what every public call does first and last.
 *
 * Asynchronous signals stay pending while a call runs: a handler that stored to a mapping while its own
 * thread holds that page's lock would wait for itself. SIGBUS and SIGSEGV stay open: a blocked synchronous
 * signal kills. In a forked child every call is refused with -ESTALE: the cache is the parent's.
 */
#ifndef HF_API_API_H
#define HF_API_API_H

#include "vfs/vfs.h"
#include <signal.h>

/* 0: entered, hf_api_leave() is due; -ESTALE. */
int hf_api_enter(sigset_t *ret_old);
void hf_api_leave(const sigset_t *old);

/* Evaluates expr between the two. */
#define HF_CALL(type, expr)                  \
    __extension__({                          \
        sigset_t hf_old;                     \
        type hf_ret = hf_api_enter(&hf_old); \
        if (hf_ret == 0) {                   \
            hf_ret = (expr);                 \
            hf_api_leave(&hf_old);           \
        }                                    \
        hf_ret;                              \
    })

/*
 * Gives the caller the handle that a call has made. The place may lie in a mapping, where a store can be
 * refused and would leave the call by a guard, handle and all: so the refusal comes back, and what was made
 * is undone.
 */
static inline int hf_api_hand_over(void *ret_place, const void *handle, size_t size)
{
    return hf_store(ret_place, handle, size, NULL);
}

/* Notes what hf_volume_error_text() will say in this thread; returns error. */
int hf_api_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Once a process: mm/, fork handlers, tracing. 0 or -errno. */
int hf_api_init(void);
/* Open volumes, so that a forked child can let go of their devices. */
void hf_api_register(struct hf_volume *volume);
void hf_api_unregister(struct hf_volume *volume);

#endif
