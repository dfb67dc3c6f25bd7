/* SPDX-License-Identifier: MIT */
/*
 * slab.h - objects of one size, straight from mmap(2): for what the fault path allocates, where malloc is not
 * allowed. Every call is async-signal-safe. Memory goes back to the system when the slab is done.
 */
#ifndef HF_BASE_SLAB_H
#define HF_BASE_SLAB_H

#include "base/lock.h"
#include <stddef.h>

struct hf_slab {
    struct hf_mutex lock; /* rank LEAF */
    size_t object_size;   /* set at init: rounded up to 16 */
    void *free;           /* guarded by lock: chain through the first word */
    void *chunks;         /* guarded by lock: chain through the first word of each chunk */
};

void hf_slab_init(struct hf_slab *slab, size_t object_size);
/* Frees all objects with it. */
void hf_slab_done(struct hf_slab *slab);
/* A zeroed object, or NULL when the system has no memory. */
void *hf_slab_alloc(struct hf_slab *slab);
void hf_slab_free(struct hf_slab *slab, void *object);

#endif
