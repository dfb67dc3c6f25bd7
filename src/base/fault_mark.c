/* SPDX-License-Identifier: MIT */
/*
 * fault_mark.c - see fault_mark.h. Empty but in test builds, which alone may print.
 */
#include "base/fault_mark.h"

#include "base/lock.h"

#ifdef HF_TESTING
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static HF_TLS unsigned depth;

void hf_fault_mark_enter(void)
{
    depth++;
}

void hf_fault_mark_leave(void)
{
    assert(depth > 0);
    depth--;
}

static void say(const char *text)
{
    ssize_t written = write(STDERR_FILENO, text, strlen(text));

    (void)written;
}

void hf_fault_mark_forbid(const char *what)
{
    if (depth == 0)
        return;
    say("holdfast: on the fault path: ");
    say(what);
    say("\n");
    abort();
}
#endif
