/* SPDX-License-Identifier: MIT */
/*
 * process.c - what is once in a process: initialisation, fork, signals during calls.
 */
#include "api/api.h"
#include "base/trace.h"
#include "dev/device_io.h"
#include "mm/mm.h"

#include <errno.h>
#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int init_result;
static sigset_t async_signals;
static _Atomic bool forked;
static pthread_mutex_t volumes_lock = PTHREAD_MUTEX_INITIALIZER;
static struct hf_list volumes = {&volumes, &volumes}; /* guarded by volumes_lock */

static void fork_prepare(void)
{
    pthread_mutex_lock(&volumes_lock);
}

static void fork_parent(void)
{
    pthread_mutex_unlock(&volumes_lock);
}

static void fork_child(void)
{
    struct hf_list *at;

    atomic_store(&forked, true);
    hf_mm_forked_child();
    hf_list_for_each (at, &volumes) {
        struct hf_volume *vol = hf_list_entry(at, struct hf_volume, all_link);
        if (vol->sb.dev != NULL)
            hf_dev_forked(vol->sb.dev);
    }
    pthread_mutex_unlock(&volumes_lock);
}

static void init(void)
{
    sigfillset(&async_signals);
    for (const int *s = (const int[]){SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS, 0}; *s != 0;
         s++)
        sigdelset(&async_signals, *s);
    hf_trace_init();
    hf_mm_ops_set(&hf_local_mm_ops);
    init_result = hf_mm_init();
    if (init_result == 0)
        init_result = -pthread_atfork(fork_prepare, fork_parent, fork_child);
}

int hf_api_init(void)
{
    pthread_once(&once, init);
    return init_result;
}

int hf_api_enter(sigset_t *ret_old)
{
    if (atomic_load_explicit(&forked, memory_order_relaxed))
        return -ESTALE;
    return -pthread_sigmask(SIG_BLOCK, &async_signals, ret_old);
}

void hf_api_leave(const sigset_t *old)
{
    pthread_sigmask(SIG_SETMASK, old, NULL);
}

void hf_api_register(struct hf_volume *vol)
{
    pthread_mutex_lock(&volumes_lock);
    hf_list_add_tail(&volumes, &vol->all_link);
    pthread_mutex_unlock(&volumes_lock);
}

void hf_api_unregister(struct hf_volume *vol)
{
    pthread_mutex_lock(&volumes_lock);
    hf_list_del(&vol->all_link);
    pthread_mutex_unlock(&volumes_lock);
}
