/* SPDX-License-Identifier: MIT */
/*
 * catch.h - the tests' own SIGBUS and SIGSEGV handlers.
 *
 * catch_install() runs in main() before the first hf_mmap(), so these are "the handlers that were
 * installed before": what Holdfast passes on arrives here. catch_fault() runs a function and says
 * which signal ended it; a signal outside catch_fault() ends the process by that signal.
 *
 * cmocka puts handlers of its own over everybody's for the length of each test; catch_enter() puts back
 * what stood when catch_keep() was called (Holdfast's, with ours behind them).
 */
#ifndef TESTS_CATCH_H
#define TESTS_CATCH_H

#include <holdfast/holdfast.h>

#include <stdint.h>

struct caught {
    int signo;             /* 0: fn() came to its end */
    int code;              /* si_code */
    void *addr;            /* si_addr */
    struct hf_fault fault; /* hf_last_fault(), as seen inside the handler */
};

void catch_install(void);
void catch_keep(void);
void catch_enter(void);

/* Returns the signal that ended fn(arg), or 0. ret may be NULL. Per thread; nests. */
int catch_fault(void (*fn)(void *arg), void *arg, struct caught *ret);

/* One byte stored or loaded; returns the signal or 0. */
int poke(volatile void *at, uint8_t value);
int peek(const volatile void *at, uint8_t *ret_value);
/* A byte that must be readable, for assertions. */
uint8_t byte_at(const volatile void *at);

#endif
