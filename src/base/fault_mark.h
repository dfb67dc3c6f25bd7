/* SPDX-License-Identifier: MIT */
/*
 * fault_mark.h - in test builds: this thread is inside a fault, where nothing runs SQL.
 *
 * Whoever decides a fault in a signal handler enters and leaves the mark; who runs SQL asks
 * hf_fault_mark_forbid(), which ends the process if the mark is set. A service thread that finishes a fault
 * has no mark, and may do all that the handler may not. Otherwise these are nothing. Async-signal-safe.
 */
#ifndef HF_BASE_FAULT_MARK_H
#define HF_BASE_FAULT_MARK_H

#ifdef HF_TESTING
/* They nest: the handler's mark, and within it that of the attempt. */
void hf_fault_mark_enter(void);
void hf_fault_mark_leave(void);
/* Says what, and aborts, if this thread is inside a fault. */
void hf_fault_mark_forbid(const char *what);
#else
static inline void hf_fault_mark_enter(void)
{
}
static inline void hf_fault_mark_leave(void)
{
}
static inline void hf_fault_mark_forbid(const char *what)
{
    (void)what;
}
#endif

#endif
