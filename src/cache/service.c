/* SPDX-License-Identifier: MIT */
/*
 * service.c - threads that finish what a fault in a signal handler cannot: device I/O, SQL, reclaim.
 *
 * The handler puts a request, which lives on its stack, on a list, and sleeps on a futex until it is done.
 * Service threads never take the vma lock (the faulting thread holds it), and never ask another service
 * thread for anything.
 */
#include "cache/mapping.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#define NR_THREADS 3

struct request {
    struct request *next;
    void (*fn)(void *arg);
    void *arg;
    _Atomic uint32_t done; /* futex */
};

struct hf_service {
    struct hf_mutex lock;         /* rank LEAF */
    struct request *head, **tail; /* guarded by lock */
    _Atomic uint32_t posted;      /* futex: bumped with each request and at the end */
    _Atomic bool stop;
    pthread_t threads[NR_THREADS];
    int nr_threads;
};

static struct request *request_take(struct hf_service *s)
{
    struct request *r;

    hf_mutex_lock(&s->lock);
    r = s->head;
    if (r != NULL) {
        s->head = r->next;
        if (s->head == NULL)
            s->tail = &s->head;
    }
    hf_mutex_unlock(&s->lock);
    return r;
}

static void *service_main(void *arg)
{
    struct hf_service *s = arg;

    prctl(PR_SET_NAME, "hf-service");
    for (;;) {
        uint32_t seen = atomic_load(&s->posted); /* before looking: what comes later does not let us sleep */
        struct request *r = request_take(s);

        if (r == NULL && atomic_load(&s->stop))
            break;
        if (r == NULL) {
            hf_futex_wait(&s->posted, seen, -1);
            continue;
        }
        r->fn(r->arg);
        atomic_store(&r->done, 1u);
        /* r may be gone from here on; a wake-up on a stale address is harmless */
        hf_futex_wake(&r->done, 1);
    }
    return NULL;
}

int hf_service_new(struct hf_service **ret_service)
{
    struct hf_service *s = calloc(1, sizeof(*s));
    sigset_t all, old;

    if (s == NULL)
        return -ENOMEM;
    hf_mutex_init(&s->lock, HF_RANK_LEAF);
    s->tail = &s->head;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (s->nr_threads < NR_THREADS &&
           pthread_create(&s->threads[s->nr_threads], NULL, service_main, s) == 0)
        s->nr_threads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (s->nr_threads == 0) {
        free(s);
        return -EAGAIN;
    }
    *ret_service = s;
    return 0;
}

void hf_service_free(struct hf_service *s)
{
    if (s == NULL)
        return;
    atomic_store(&s->stop, true);
    atomic_fetch_add(&s->posted, 1u);
    hf_futex_wake(&s->posted, INT_MAX);
    for (int i = 0; i < s->nr_threads; i++)
        pthread_join(s->threads[i], NULL);
    free(s);
}

void hf_service_call(struct hf_service *s, void (*fn)(void *arg), void *arg)
{
    struct request r = {.fn = fn, .arg = arg};

    hf_mutex_lock(&s->lock);
    *s->tail = &r;
    s->tail = &r.next;
    hf_mutex_unlock(&s->lock);
    atomic_fetch_add(&s->posted, 1u);
    hf_futex_wake(&s->posted, 1);
    while (atomic_load(&r.done) == 0)
        hf_futex_wait(&r.done, 0, -1);
}
