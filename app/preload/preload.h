/* SPDX-License-Identifier: MIT */
/*
 * preload.h - what the files of the preloaded library share.
 *
 * The library stands between a program that knows nothing of it and libc. It replaces the calls that make,
 * move and take away mappings, for files of a mount that serves them (remote.h); the calls that could close
 * its descriptors or replace its SIGBUS handler; and, where the kernel cannot fault our pages in, those that
 * hand a mapping to the kernel. All else goes to libc untouched. It prints nothing but one line if this
 * machine refuses what it needs.
 */
#ifndef HF_PRELOAD_PRELOAD_H
#define HF_PRELOAD_PRELOAD_H

#include "remote.h"

#define HF_EXPORT __attribute__((visibility("default")))

/* The next definition of a libc function, by name; looked up once. */
#define HF_NEXT(name)                                                                             \
    __extension__({                                                                               \
        static __typeof__(&name) next;                                                            \
        if (__atomic_load_n(&next, __ATOMIC_ACQUIRE) == NULL)                                     \
            __atomic_store_n(&next, (__typeof__(&name))hf_preload_next(#name), __ATOMIC_RELEASE); \
        next;                                                                                     \
    })
void *hf_preload_next(const char *name);

/* Puts our SIGBUS handler under the program's; idempotent. */
void hf_preload_catch(void);

#endif
