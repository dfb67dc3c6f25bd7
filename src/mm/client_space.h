/* SPDX-License-Identifier: MIT */
/*
 * client_space.h - what client.c and client_faults.c share.
 */
#ifndef HF_MM_CLIENT_SPACE_H
#define HF_MM_CLIENT_SPACE_H

#include "base/lock.h"
#include "mm/client.h"
#include "mm/engine.h"
#include "mm/space.h"

#define HF_CLIENT_POISONED 32
#define HF_CLIENT_PARKED 256

/* A page that was poisoned to refuse an access, until it is taken out of the page table again. */
struct hf_client_poison {
    uintptr_t page; /* 0: free */
    int64_t until_ns;
};

/* A refused access whose thread sleeps. */
struct hf_client_parked {
    uintptr_t page; /* 0: free */
    bool write;
    pid_t tid;
};

struct hf_client {
    /* set at init */
    int uffd;
    bool waits;
    const struct hf_client_ops *ops;
    void *arg;

    struct hf_rwlock lock;                                /* rank MM */
    struct hf_vma_tree tree;                              /* guarded by lock */
    struct hf_client_poison poisoned[HF_CLIENT_POISONED]; /* guarded by lock, exclusive */
    _Atomic uint32_t nr_poisoned;                         /* changed under lock */

    /* the serving thread's own */
    struct hf_client_parked parked[HF_CLIENT_PARKED];
    unsigned nr_parked;
    bool said_waits;

    /* atomic */
    _Atomic uint64_t faults_load, faults_store, refused, waited;
    _Atomic uint32_t areas; /* changed under lock: tree.nr */
};

#endif
