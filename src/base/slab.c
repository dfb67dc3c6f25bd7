/* SPDX-License-Identifier: MIT */
/*
 * slab.c - see slab.h.
 */
#include "base/slab.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#define HF_SLAB_CHUNK ((size_t)256 * 1024)

void hf_slab_init(struct hf_slab *slab, size_t object_size)
{
    hf_mutex_init(&slab->lock, HF_RANK_LEAF);
    slab->object_size = (object_size + 15) & ~(size_t)15;
    assert(slab->object_size + 16 <= HF_SLAB_CHUNK);
    slab->free = NULL;
    slab->chunks = NULL;
}

void hf_slab_done(struct hf_slab *slab)
{
    void *next;

    for (void *chunk = slab->chunks; chunk != NULL; chunk = next) {
        next = *(void **)chunk;
        munmap(chunk, HF_SLAB_CHUNK);
    }
    slab->chunks = slab->free = NULL;
}

static void slab_grow_locked(struct hf_slab *slab) HF_REQUIRES(slab->lock)
{
    char *chunk = mmap(NULL, HF_SLAB_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (chunk == MAP_FAILED)
        return;
    *(void **)(void *)chunk = slab->chunks;
    slab->chunks = chunk;
    for (size_t at = 16; at + slab->object_size <= HF_SLAB_CHUNK; at += slab->object_size) {
        *(void **)(void *)(chunk + at) = slab->free;
        slab->free = chunk + at;
    }
}

void *hf_slab_alloc(struct hf_slab *slab)
{
    void *object;

    hf_mutex_lock(&slab->lock);
    if (slab->free == NULL)
        slab_grow_locked(slab);
    object = slab->free;
    if (object != NULL)
        slab->free = *(void **)object;
    hf_mutex_unlock(&slab->lock);
    if (object != NULL)
        memset(object, 0, slab->object_size);
    return object;
}

void hf_slab_free(struct hf_slab *slab, void *object)
{
    if (object == NULL)
        return;
    hf_mutex_lock(&slab->lock);
    *(void **)object = slab->free;
    slab->free = object;
    hf_mutex_unlock(&slab->lock);
}
