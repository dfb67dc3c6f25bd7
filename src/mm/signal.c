/* SPDX-License-Identifier: MIT */
/*
 * signal.c - the SIGBUS and SIGSEGV handlers, and passing on what is not ours.
 *
 * Installed by the first hf_mmap(); every later one looks whether they are still in place and, if the program
 * has installed handlers meanwhile, remembers those and goes on top again. So what must be on top of us has
 * to save and call us, as usual; we notice being called by a handler that we are calling, and go on with the
 * one below it.
 *
 * The handler runs with all signals blocked, on the alternate stack if there is one, and keeps errno. It
 * calls the program's handler with the mask that handler would have got from the kernel. SIG_DFL, and SIG_IGN
 * of a real fault, become the default action, with the signal's own siginfo. A thread that blocks SIGBUS (or
 * SIGSEGV, mprotect engine) is killed by the kernel at its first fault: threads that touch mappings must
 * leave both unblocked, or map with HF_MAP_SYSCALLS.
 */
#include "base/fault_mark.h"
#include "base/slab.h"
#include "mm/engine.h"
#include "mm/space.h"

#include <assert.h>
#include <errno.h>
#include <holdfast/driver.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* What was installed before us, newest first. Records live for ever: a handler may be walking them. */
struct chained {
    struct sigaction action;
    struct chained *below;
};

static const int hooked[] = {SIGBUS, SIGSEGV};
#define NR_HOOKED 2
static _Atomic(struct chained *) chains[NR_HOOKED];
static struct chained default_record = {.action = {.sa_handler = SIG_DFL}};
static struct hf_slab record_slab; /* guarded by space.lock, exclusive */

/* The program's handler that this thread is calling, to tell when it calls us back. */
struct calling {
    const struct chained *record;
    const void *context;
    const char *frame; /* of our handler */
};
static HF_TLS struct calling calling[NR_HOOKED];

static void on_signal(int sig, siginfo_t *info, void *context);

static int slot_of(int sig)
{
    return sig == SIGBUS ? 0 : 1;
}

/* The mask at the fault. The kernel's set is 8 bytes, glibc's is longer. */
static void context_mask(const ucontext_t *uc, sigset_t *ret_mask)
{
    sigemptyset(ret_mask);
    memcpy(ret_mask, &uc->uc_sigmask, _NSIG / 8);
}

/* ------------------------------------------------------------------ passing on */

/* Dies (or whatever the default is) right after this handler returns, at the faulting instruction. */
static void default_action(int sig, siginfo_t *info, ucontext_t *uc)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};

    sigaction(sig, &dfl, NULL);
    sigdelset(&uc->uc_sigmask, sig);
    info->si_signo = sig;
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), sig, info) != 0)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
}

static const struct chained *whom_to_call(int slot, const void *context, const char *frame)
{
    const struct calling *c = &calling[slot];

    /* Called back: the same context, and our first frame is still there, above this one. */
    if (c->record != NULL && c->context == context && frame < c->frame)
        return c->record->below != NULL ? c->record->below : &default_record;
    return atomic_load(&chains[slot]);
}

static void call_handler(int sig, siginfo_t *info, ucontext_t *uc, const struct chained *record,
                         const char *frame)
{
    struct calling *c = &calling[slot_of(sig)], outer = *c;
    struct sigaction action = record->action;
    sigset_t mask;

    if (action.sa_flags & SA_RESETHAND) {
        struct chained *top = (struct chained *)record;
        atomic_compare_exchange_strong(&chains[slot_of(sig)], &top, &default_record);
    }
    context_mask(uc, &mask);
    for (int s = 1; s < _NSIG; s++)
        if (sigismember(&action.sa_mask, s) == 1)
            sigaddset(&mask, s);
    if (!(action.sa_flags & SA_NODEFER))
        sigaddset(&mask, sig);
    *c = (struct calling){.record = record, .context = uc, .frame = frame};
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (action.sa_flags & SA_SIGINFO)
        action.sa_sigaction(sig, info, uc);
    else
        action.sa_handler(sig);
    *c = outer;
}

static void pass_on(int sig, siginfo_t *info, ucontext_t *uc, const char *frame)
{
    const struct chained *record = whom_to_call(slot_of(sig), uc, frame);
    bool from_kernel = info->si_code > 0;

    if (!(record->action.sa_flags & SA_SIGINFO)) {
        if (record->action.sa_handler == SIG_IGN && !from_kernel)
            return;
        if (record->action.sa_handler == SIG_IGN || record->action.sa_handler == SIG_DFL) {
            default_action(sig, info, uc);
            return;
        }
    }
    call_handler(sig, info, uc, record, frame);
}

/* ------------------------------------------------------------------ what the access was */

#if defined(__x86_64__)
#define ERR_PRESENT 0x1
#define ERR_WRITE 0x2
#define ERR_FETCH 0x10

static bool machine_tells(const ucontext_t *uc, struct hf_access *access)
{
    long long err = uc->uc_mcontext.gregs[REG_ERR];

    access->present = (err & ERR_PRESENT) != 0;
    access->write = (err & ERR_WRITE) != 0;
    return true;
}
static bool is_fetch(const ucontext_t *uc)
{
    return (uc->uc_mcontext.gregs[REG_ERR] & ERR_FETCH) != 0;
}
#else
static bool machine_tells(const ucontext_t *uc, struct hf_access *access)
{
    (void)uc;
    (void)access;
    return false;
}
static bool is_fetch(const ucontext_t *uc)
{
    (void)uc;
    return false;
}
#endif

/*
 * Where the machine does not tell loads from stores: a load first; if this thread's next fault is at the same
 * place, a store. A store refused may have been a load whose page had left meanwhile: only the second refusal
 * in a row counts.
 */
static HF_TLS struct {
    uintptr_t addr;
    unsigned step; /* even: try as a load; odd: as a store */
} guess;

static void guess_access(struct hf_access *access)
{
    if (guess.addr != access->addr || guess.step > 3)
        guess.step = 0;
    guess.addr = access->addr;
    access->write = guess.step++ & 1u;
}
static bool guess_was_certain(const struct hf_access *access)
{
    return !access->write || guess.step > 3;
}

#ifdef HF_TESTING
static bool machine_muted; /* HF_FAULT_GUESS=1: as if this machine did not tell; set at init */
#else
static const bool machine_muted = false;
#endif

/* ------------------------------------------------------------------ the handler */

/* A real memory error is not a fault to decide, except where poison looks like one. */
static bool is_memory_error(const siginfo_t *info)
{
    return info->si_code == BUS_MCEERR_AO ||
           (info->si_code == BUS_MCEERR_AR && !atomic_load(&hf_space.thread_used));
}

/* STORE-PATH 2/9: the fault arrives. A verdict, as hf_fault_resolve(). */
static int decide(int sig, const siginfo_t *info, const ucontext_t *uc, struct hf_fault *ret_refusal)
{
    struct hf_access access = {.addr = (uintptr_t)info->si_addr};
    bool told = !machine_muted && machine_tells(uc, &access);
    int verdict;

    if (info->si_code <= 0 || (sig == SIGBUS && is_memory_error(info)) || is_fetch(uc))
        return HF_VERDICT_FOREIGN;
    if (sig == SIGSEGV && info->si_code != SEGV_MAPERR && info->si_code != SEGV_ACCERR)
        return HF_VERDICT_FOREIGN;
    access.memory_error = sig == SIGBUS && info->si_code == BUS_MCEERR_AR;
    if (!told)
        guess_access(&access);
    hf_fault_mark_enter();
    verdict = sig == SIGBUS ? hf_fault_resolve(&access, HF_NOWAIT, ret_refusal)
                            : hf_fault_resolve_segv(&access, HF_NOWAIT, ret_refusal);
    hf_fault_mark_leave();
    if (!told && (verdict < 0 || verdict == HF_VERDICT_FORBIDDEN) && !guess_was_certain(&access))
        return HF_VERDICT_RETRY;
    return verdict;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    ucontext_t *uc = context;
    struct hf_fault refusal;
    sigset_t mask;
    siginfo_t as_bus;
    int verdict = decide(sig, info, uc, &refusal);

    if (verdict < 0) {
        hf_fault_report(&refusal);
        context_mask(uc, &mask);
        errno = saved;
        hf_guard_jump(&refusal, &mask);
        /* A refusal is a SIGBUS, by whatever signal it came. */
        memset(&as_bus, 0, sizeof(as_bus));
        as_bus.si_signo = SIGBUS;
        as_bus.si_code = BUS_ADRERR;
        as_bus.si_addr = info->si_addr;
        pass_on(SIGBUS, &as_bus, uc, __builtin_frame_address(0));
    } else if (verdict != HF_VERDICT_RETRY) {
        pass_on(sig, info, uc, __builtin_frame_address(0));
    }
    errno = saved;
}

/* ------------------------------------------------------------------ installing */

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_signal;
}

static bool same_handler(const struct sigaction *a, const struct sigaction *b)
{
    if ((a->sa_flags & SA_SIGINFO) != (b->sa_flags & SA_SIGINFO))
        return false;
    return a->sa_flags & SA_SIGINFO ? a->sa_sigaction == b->sa_sigaction : a->sa_handler == b->sa_handler;
}

static int remember(int slot, const struct sigaction *action)
{
    struct chained *top = atomic_load(&chains[slot]);
    struct chained *record;

    if (top != NULL && same_handler(&top->action, action))
        return 0;
    record = hf_slab_alloc(&record_slab);
    if (record == NULL)
        return -ENOMEM;
    record->action = *action;
    record->below = top;
    atomic_store(&chains[slot], record);
    return 0;
}

int hf_signals_hook(void)
{
    struct sigaction ours = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction theirs;

    if (record_slab.object_size == 0) {
        hf_slab_init(&record_slab, sizeof(struct chained));
#ifdef HF_TESTING
        machine_muted = getenv("HF_FAULT_GUESS") != NULL;
#endif
    }
    sigfillset(&ours.sa_mask);
    for (int slot = 0; slot < NR_HOOKED; slot++) {
        int err;

        if (sigaction(hooked[slot], NULL, &theirs) != 0)
            return -errno;
        if (is_ours(&theirs))
            continue;
        /* Remembered first: from the moment ours is in place it may be asked to pass on. */
        err = remember(slot, &theirs);
        if (err)
            return err;
        if (sigaction(hooked[slot], &ours, NULL) != 0)
            return -errno;
    }
    return 0;
}
