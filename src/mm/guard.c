/* SPDX-License-Identifier: MIT */
/*
 * guard.c - refusals as errnos: hf_guard, hf_store, hf_load, hf_last_fault, hf_fault_in.
 *
 * A guard is a frame on the stack of the function that armed it, linked in a thread-local chain; the
 * innermost one takes the refusal. The handler unlinks it and jumps, with no lock held. hf_guard() saves the
 * signal mask with sigsetjmp, as fn may change it: one system call a guard, one more a refusal. hf_store()
 * and hf_load() cannot change the mask, so they save nothing, and the jump restores the mask of the fault. fn
 * must not leave hf_guard() by a longjmp or exception of its own: the armed frame would stay behind.
 */
#include "mm/engine.h"
#include "mm/mm.h"
#include "mm/space.h"

#include <errno.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>

struct guard {
    sigjmp_buf env;
    struct guard *outer;
    struct hf_fault refusal;
    bool mask_saved;
};

static HF_TLS struct guard *volatile armed; /* innermost */
static HF_TLS struct hf_fault last_fault;

void hf_fault_report(const struct hf_fault *refusal)
{
    last_fault = *refusal;
}

void hf_guard_jump(const struct hf_fault *refusal, const sigset_t *uc_mask)
{
    struct guard *guard = armed;

    if (guard == NULL)
        return;
    armed = guard->outer;
    guard->refusal = *refusal;
    if (!guard->mask_saved)
        pthread_sigmask(SIG_SETMASK, uc_mask, NULL);
    siglongjmp(guard->env, 1);
}

void hf_last_fault(struct hf_fault *ret_fault)
{
    *ret_fault = last_fault;
}

int hf_guard(void (*fn)(void *arg), void *arg, struct hf_fault *ret_fault)
{
    struct guard guard = {.outer = armed, .mask_saved = true};

    if (sigsetjmp(guard.env, 1) != 0) {
        if (ret_fault != NULL)
            *ret_fault = guard.refusal;
        return -guard.refusal.error;
    }
    armed = &guard;
    fn(arg);
    armed = guard.outer;
    return 0;
}

static size_t to_page_end(const void *p)
{
    size_t page = hf_hw_page_size();

    return page - ((uintptr_t)p & (page - 1));
}

/* A word anywhere: one load or store instruction where the machine has unaligned ones. */
struct __attribute__((packed, may_alias)) word {
    uint64_t value;
};

/* Each byte once, from the first to the last, in pieces of one instruction: where it stops, all before is
 * there. */
static void copy_up(char *dst, const char *src, size_t len)
{
    size_t i = 0;

    for (; i + sizeof(struct word) <= len; i += sizeof(struct word)) {
        uint64_t value = ((const volatile struct word *)(src + i))->value;

        ((volatile struct word *)(dst + i))->value = value;
    }
    for (; i < len; i++) {
        char value = *(const volatile char *)(src + i);

        *(volatile char *)(dst + i) = value;
    }
}

/* How much of [at, at + len) lies before the refused access; 0 if that is not in it. */
static size_t before_refusal(const void *at, size_t len, const struct hf_fault *refusal)
{
    uintptr_t off = (uintptr_t)refusal->addr - (uintptr_t)at;

    return off < len ? off : 0;
}

/*
 * Chunk by chunk; none crosses a hardware page, on either side. Most are refused before their first byte, but
 * a page may be cleaned while it is stored to, and then refused: the bytes before count.
 */
static __attribute__((noinline)) void copy_chunks(char *dst, const char *src, size_t len,
                                                  volatile size_t *done)
{
    for (size_t at = 0; at < len;) {
        size_t chunk = len - at;

        if (chunk > to_page_end(dst + at))
            chunk = to_page_end(dst + at);
        if (chunk > to_page_end(src + at))
            chunk = to_page_end(src + at);
        copy_up(dst + at, src + at, chunk);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        at += chunk;
        *done = at;
    }
}

static int guarded_copy(void *dst, const void *src, size_t len, size_t *ret_done)
{
    struct guard guard = {.outer = armed, .mask_saved = false};
    const char *volatile from = src, *volatile to = dst;
    volatile size_t done = 0;
    volatile int err = 0;

    if (sigsetjmp(guard.env, 0) == 0) {
        armed = &guard;
        copy_chunks(dst, src, len, &done);
        armed = guard.outer;
    } else {
        const char *refused = guard.refusal.write ? to : from;

        err = -guard.refusal.error;
        done = done + before_refusal(refused + done, len - done, &guard.refusal);
    }
    if (ret_done != NULL)
        *ret_done = done;
    return err;
}

int hf_store(void *dst, const void *src, size_t len, size_t *ret_done)
{
    return guarded_copy(dst, src, len, ret_done);
}

int hf_load(void *dst, const void *src, size_t len, size_t *ret_done)
{
    return guarded_copy(dst, src, len, ret_done);
}

/* One decision at addr; *ret_reached: where the next is due. Context: space.lock shared. */
static int fault_in_locked(uintptr_t addr, uintptr_t end, bool write, uintptr_t *ret_reached)
{
    struct hf_access access = {.addr = addr, .write = write};
    struct hf_vma *vma = hf_vma_find(&hf_space.tree, addr);
    size_t pages;

    if (vma == NULL)
        return -EINVAL;
    if (!hf_fault_allowed(vma, write))
        return -EACCES;
    if (vma->engine->touched != NULL)
        vma->engine->touched(vma, addr);
    pages = (end - addr - 1) / hf_mapping_page_size(vma->region->mapping);
    return hf_fault_decide(vma, &access, 0, pages < HF_WINDOW_MAX ? (uint32_t)pages : HF_WINDOW_MAX,
                           ret_reached);
}

int hf_fault_in(void *addr, size_t len, bool write)
{
    size_t page = hf_hw_page_size();
    uintptr_t at = (uintptr_t)addr & ~(page - 1);
    uintptr_t end = ((uintptr_t)addr + len + page - 1) & ~(page - 1);
    int err = 0;

    if (len > SIZE_MAX - page || (uintptr_t)addr > UINTPTR_MAX - page - len)
        return -EINVAL;
    while (at < end && !err) {
        uintptr_t reached = at + page;
        sigset_t mask;

        if (atomic_load(&hf_space.dead))
            return -ESTALE;
        hf_signals_block(&mask);
        hf_rwlock_rdlock(&hf_space.lock);
        err = fault_in_locked(at, end, write, &reached);
        hf_rwlock_rdunlock(&hf_space.lock);
        hf_signals_restore(&mask);
        if (err == -EAGAIN)
            err = 0;
        else
            at = reached > at ? reached : at + page;
    }
    return err;
}
