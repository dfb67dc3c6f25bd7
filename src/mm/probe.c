/* SPDX-License-Identifier: MIT */
/*
 * probe.c - what this machine allows, and which engine a mapping gets.
 *
 * An engine is probed when it is first asked for, once: seccomp, sysctl and kernel version do not change
 * under a process often, and a second opinion in mid-flight would help nobody.
 * HF_ENGINE=inline|thread|mprotect takes the choice away: what is named is used or -EOPNOTSUPP is returned,
 * and mprotect also plays a machine without userfaultfd, so HF_MAP_SYSCALLS is refused.
 */
#include "mm/engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct hf_engine *const engines[] = {&hf_engine_inline, &hf_engine_thread, &hf_engine_mprotect};
#define NR_ENGINES (sizeof(engines) / sizeof(engines[0]))

static pthread_once_t env_once = PTHREAD_ONCE_INIT;
static const struct hf_engine *forced; /* set at init */
bool hf_windows_on = true;             /* set at init */

/* Set once each. */
static pthread_once_t inline_once = PTHREAD_ONCE_INIT, thread_once = PTHREAD_ONCE_INIT;
static int inline_verdict, thread_verdict;
static const char *inline_why = "userfaultfd", *thread_why = "userfaultfd";

static void env_read(void)
{
    const char *engine = getenv("HF_ENGINE");
    const char *around = getenv("HF_MKWRITE_AROUND");

    for (size_t i = 0; i < NR_ENGINES && engine != NULL; i++)
        if (strcmp(engine, engines[i]->name) == 0)
            forced = engines[i];
    hf_windows_on = around == NULL || strcmp(around, "0") != 0;
}

void hf_engine_env_init(void)
{
    pthread_once(&env_once, env_read);
}

static void inline_try(void)
{
    inline_verdict = hf_engine_inline.probe(&inline_why);
}

static void thread_try(void)
{
    thread_verdict = hf_engine_thread.probe(&thread_why);
}

static int engine_verdict(const struct hf_engine *engine, const char **ret_why)
{
    if (engine == &hf_engine_inline) {
        pthread_once(&inline_once, inline_try);
        *ret_why = inline_why;
        return inline_verdict;
    }
    if (engine == &hf_engine_thread) {
        pthread_once(&thread_once, thread_try);
        *ret_why = thread_why;
        return thread_verdict;
    }
    return engine->probe(ret_why);
}

static bool engine_works(const struct hf_engine *engine)
{
    const char *why;

    return engine_verdict(engine, &why) == 0;
}

static const struct hf_engine *default_engine(void)
{
    hf_engine_env_init();
    if (forced != NULL)
        return forced;
    return engine_works(&hf_engine_inline) ? &hf_engine_inline : &hf_engine_mprotect;
}

int hf_engine_choose(int map_flags, const struct hf_engine **ret_engine)
{
    const struct hf_engine *engine = default_engine();
    int err = 0;

    if (map_flags & HF_MAP_SYSCALLS) {
        if (engine == &hf_engine_mprotect)
            return -EOPNOTSUPP;
        engine = &hf_engine_thread;
    }
    if (!engine_works(engine))
        return -EOPNOTSUPP;
    if (engine->start != NULL)
        err = engine->start();
    if (!err)
        *ret_engine = engine;
    return err;
}

void hf_engines_forked(void)
{
    for (size_t i = 0; i < NR_ENGINES; i++)
        if (engines[i]->forked != NULL)
            engines[i]->forked();
}

const char *hf_engine_name(void)
{
    return default_engine()->name;
}

int hf_engine_probe(const char *name, const char **ret_why)
{
    const char *why = "";
    int err;

    for (size_t i = 0; name != NULL && i < NR_ENGINES; i++) {
        if (strcmp(name, engines[i]->name) != 0)
            continue;
        err = engine_verdict(engines[i], &why);
        if (ret_why != NULL)
            *ret_why = why;
        return err;
    }
    return -EINVAL;
}
