/* SPDX-License-Identifier: MIT */
/* catch.c - see catch.h. */
#include "catch.h"

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct catcher {
    sigjmp_buf jump;
    struct caught what;
    struct catcher *outer;
};

static __thread struct catcher *current __attribute__((tls_model("initial-exec")));
static struct sigaction kept_bus, kept_segv;

/* Nobody waits for the signal: die of it, whoever called this handler. */
static void die_of(int signo)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t set;

    sigemptyset(&dfl.sa_mask);
    sigaction(signo, &dfl, NULL);
    sigemptyset(&set);
    sigaddset(&set, signo);
    raise(signo);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    struct catcher *catcher = current;

    (void)context;
    if (!catcher)
        die_of(signo);
    catcher->what.signo = signo;
    catcher->what.code = info->si_code;
    catcher->what.addr = info->si_addr;
    hf_last_fault(&catcher->what.fault);
    siglongjmp(catcher->jump, 1);
}

void catch_install(void)
{
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    sigemptyset(&act.sa_mask);
    sigaction(SIGBUS, &act, NULL);
    sigaction(SIGSEGV, &act, NULL);
    catch_keep();
}

void catch_keep(void)
{
    sigaction(SIGBUS, NULL, &kept_bus);
    sigaction(SIGSEGV, NULL, &kept_segv);
}

void catch_enter(void)
{
    sigaction(SIGBUS, &kept_bus, NULL);
    sigaction(SIGSEGV, &kept_segv, NULL);
    current = NULL;
}

int catch_fault(void (*fn)(void *arg), void *arg, struct caught *ret)
{
    struct catcher catcher;

    memset(&catcher.what, 0, sizeof(catcher.what));
    catcher.outer = current;
    if (sigsetjmp(catcher.jump, 1) == 0) {
        current = &catcher;
        fn(arg);
    }
    current = catcher.outer;
    if (ret)
        *ret = catcher.what;
    return catcher.what.signo;
}

struct access {
    volatile uint8_t *at;
    uint8_t value;
};

static void do_poke(void *arg)
{
    struct access *access = arg;

    *access->at = access->value;
}

static void do_peek(void *arg)
{
    struct access *access = arg;

    access->value = *access->at;
}

int poke(volatile void *at, uint8_t value)
{
    struct access access = {.at = (volatile uint8_t *)at, .value = value};

    return catch_fault(do_poke, &access, NULL);
}

int peek(const volatile void *at, uint8_t *ret_value)
{
    struct access access = {.at = (volatile uint8_t *)at};
    int signo = catch_fault(do_peek, &access, NULL);

    if (signo == 0)
        *ret_value = access.value;
    return signo;
}

uint8_t byte_at(const volatile void *at)
{
    return *(const volatile uint8_t *)at;
}
