/* SPDX-License-Identifier: MIT */
/*
 * fsize.c - see fsize.h.
 *
 * Locks: lift_lock, a leaf: one thread at a time lifts, or two would restore each other's.
 */
#include "base/fsize.h"

#include "base/lock.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>

static struct hf_mutex lift_lock = {.rank = HF_RANK_LEAF};

long hf_fsize_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur > (rlim_t)LONG_MAX)
        return LONG_MAX;
    return (long)limit.rlim_cur;
}

void hf_fsize_exceeded(void)
{
    pthread_kill(pthread_self(), SIGXFSZ);
}

static void sigxfsz_take_back(void)
{
    sigset_t mask, pending;

    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (sigismember(&mask, SIGXFSZ) != 1 || sigpending(&pending) != 0 || sigismember(&pending, SIGXFSZ) != 1)
        return;
    sigemptyset(&mask);
    sigaddset(&mask, SIGXFSZ);
    sigtimedwait(&mask, NULL, &(struct timespec){0});
}

bool hf_fsize_lift(struct rlimit *ret_old) HF_NO_TSA
{
    struct rlimit lifted;

    sigxfsz_take_back();
    hf_mutex_lock(&lift_lock);
    if (getrlimit(RLIMIT_FSIZE, ret_old) == 0 && ret_old->rlim_cur < ret_old->rlim_max) {
        lifted = (struct rlimit){.rlim_cur = ret_old->rlim_max, .rlim_max = ret_old->rlim_max};
        if (setrlimit(RLIMIT_FSIZE, &lifted) == 0)
            return true;
    }
    hf_mutex_unlock(&lift_lock);
    return false;
}

void hf_fsize_restore(const struct rlimit *old) HF_NO_TSA
{
    sigxfsz_take_back(); /* of the second try, which met the hard limit */
    setrlimit(RLIMIT_FSIZE, old);
    hf_mutex_unlock(&lift_lock);
}
