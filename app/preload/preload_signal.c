/* SPDX-License-Identifier: MIT */
/*
 * preload_signal.c - SIGBUS: ours asks the server again about a refused access; what is not ours, or refused
 * for good, goes to the handler that the program has installed, or to the default.
 */
#include "preload.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool caught; /* guarded by lock: our handler is in place */
/* What the program has asked for: written to the other one of the two, then switched. */
static struct sigaction wanted[2];
static _Atomic unsigned current;

static bool is_store(const void *context)
{
#ifdef __x86_64__
    return (((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
    (void)context;
    return true;
#endif
}

/* It stays pending until our handler returns. */
static void to_default(int sig)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    HF_NEXT(sigaction)(sig, &action, NULL);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
}

static void forward(int sig, siginfo_t *info, void *context)
{
    struct sigaction action = wanted[current & 1];

    if (action.sa_flags & SA_SIGINFO) {
        action.sa_sigaction(sig, info, context);
    } else if (action.sa_handler == SIG_IGN && info->si_code <= 0) {
        return;
    } else if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
        to_default(sig);
    } else {
        action.sa_handler(sig);
    }
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
    int saved = errno;

    if (info->si_code > 0 && hf_remote_sigbus(info->si_addr, is_store(context), NULL) == 0) {
        errno = saved;
        return;
    }
    errno = saved;
    forward(sig, info, context);
}

/* lock held: our handler, with the mask and the ways of the program's. */
static int install(void)
{
    const struct sigaction *theirs = &wanted[current & 1];
    struct sigaction ours = {.sa_sigaction = on_bus, .sa_mask = theirs->sa_mask};

    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (theirs->sa_flags & (SA_NODEFER | SA_RESTART));
    return HF_NEXT(sigaction)(SIGBUS, &ours, NULL);
}

void hf_preload_catch(void)
{
    pthread_mutex_lock(&lock);
    if (!caught && HF_NEXT(sigaction)(SIGBUS, NULL, &wanted[0]) == 0) {
        current = 0;
        caught = install() == 0;
    }
    pthread_mutex_unlock(&lock);
}

HF_EXPORT int sigaction(int sig, const struct sigaction *restrict action, struct sigaction *restrict ret_old)
{
    struct sigaction old;
    int r = 0;

    if (sig != SIGBUS)
        return HF_NEXT(sigaction)(sig, action, ret_old);
    pthread_mutex_lock(&lock);
    if (!caught) {
        r = HF_NEXT(sigaction)(sig, action, ret_old);
    } else {
        old = wanted[current & 1];
        if (action != NULL) {
            wanted[(current + 1) & 1] = *action;
            current++;
            r = install();
        }
        if (ret_old != NULL)
            *ret_old = old;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

HF_EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

    if (sig != SIGBUS)
        return HF_NEXT(signal)(sig, handler);
    return sigaction(sig, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}
