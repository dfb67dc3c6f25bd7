/* SPDX-License-Identifier: MIT */
/*
 * model.c - the shadow model: what every byte of the file must read as, and who may touch it now.
 *
 * Threads do not own fixed bytes; an operation locks just the range of bytes it names, so operations on
 * neighbouring bytes of one block, or one page, run at the same time, and still every byte has exactly
 * one expected value. A size change from s to n locks [min(s,n), max(s,n)) only: stores elsewhere in the
 * straddling page race with it. That is sound because "is this byte inside the file" cannot change for a
 * byte whose range somebody holds.
 *
 * In racy mode size changes and punches take their range as RACE, which stores and loads may overlap. Such a
 * store is accepted before or after: its bytes are afterwards either the stored value or zero, and are
 * marked so (BYTE_MAYBE_ZERO). RACEs never produce anything but zeros, so two candidates are enough.
 *
 * Waiters queue in order of arrival; a range is granted when nothing before it in the queue conflicts.
 */
#include "stress.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int stress_model_init(struct stress_model *model, hf_off_t capacity)
{
    memset(model, 0, sizeof(*model));
    model->capacity = capacity;
    model->val = calloc(1, (size_t)capacity);
    model->flags = calloc(1, (size_t)capacity);
    pthread_mutex_init(&model->size_lock, NULL);
    pthread_mutex_init(&model->lock, NULL);
    pthread_cond_init(&model->granted, NULL);
    return model->val && model->flags ? 0 : -1;
}

void stress_model_done(struct stress_model *model)
{
    assert(!model->head);
    free(model->val);
    free(model->flags);
}

static bool modes_agree(enum stress_lock_mode a, enum stress_lock_mode b)
{
    static const bool agree[4][4] = {
        [RANGE_READ] = {[RANGE_READ] = true, [RANGE_RACE] = true},
        [RANGE_STORE] = {[RANGE_RACE] = true},
        [RANGE_RACE] = {[RANGE_READ] = true, [RANGE_STORE] = true},
    };

    return agree[a][b];
}

static bool overlap(const struct stress_range *a, const struct stress_range *b)
{
    return a->start < b->end && b->start < a->end;
}

static bool must_wait(const struct stress_model *model, const struct stress_range *range)
{
    for (const struct stress_range *r = model->head; r && r != range; r = r->next)
        if (overlap(r, range) && !modes_agree(r->mode, range->mode))
            return true;
    return false;
}

/* From here on, both sides of every pair that overlaps only because it may race know of it. */
static void grant_locked(struct stress_model *model, struct stress_range *range)
{
    range->granted = true;
    for (struct stress_range *r = model->head; r; r = r->next) {
        if (r == range || !r->granted || !overlap(r, range))
            continue;
        if (r->mode == RANGE_RACE)
            range->raced = true;
        if (range->mode == RANGE_RACE)
            r->raced = true;
    }
}

static void unlink_locked(struct stress_model *model, struct stress_range *range)
{
    struct stress_range **at = &model->head;

    while (*at != range)
        at = &(*at)->next;
    *at = range->next;
    pthread_cond_broadcast(&model->granted);
}

static bool lock_range(struct stress_model *model, struct stress_range *range, bool wait)
{
    struct stress_range **at = &model->head;
    bool got = true;

    pthread_mutex_lock(&model->lock);
    while (*at)
        at = &(*at)->next;
    *at = range;
    while (must_wait(model, range) && (got = wait))
        pthread_cond_wait(&model->granted, &model->lock);
    if (got)
        grant_locked(model, range);
    else
        unlink_locked(model, range);
    pthread_mutex_unlock(&model->lock);
    return got;
}

void stress_model_lock(struct stress_model *model, struct stress_range *range, hf_off_t start, hf_off_t end,
                       enum stress_lock_mode mode)
{
    assert(start >= 0 && start <= end && end <= model->capacity);
    *range = (struct stress_range){.start = start, .end = end, .mode = mode};
    lock_range(model, range, true);
}

bool stress_model_trylock(struct stress_model *model, struct stress_range *range, hf_off_t start,
                          hf_off_t end, enum stress_lock_mode mode)
{
    assert(start >= 0 && start <= end && end <= model->capacity);
    *range = (struct stress_range){.start = start, .end = end, .mode = mode};
    return lock_range(model, range, false);
}

void stress_model_unlock(struct stress_model *model, struct stress_range *range)
{
    pthread_mutex_lock(&model->lock);
    unlink_locked(model, range);
    pthread_mutex_unlock(&model->lock);
}

bool stress_model_raced(struct stress_model *model, struct stress_range *range)
{
    bool raced;

    pthread_mutex_lock(&model->lock);
    raced = range->raced;
    pthread_mutex_unlock(&model->lock);
    return raced;
}

/* Is a RACE over this byte under way? */
static bool race_over_locked(const struct stress_model *model, hf_off_t off)
{
    for (const struct stress_range *r = model->head; r; r = r->next)
        if (r->granted && r->mode == RANGE_RACE && r->start <= off && off < r->end)
            return true;
    return false;
}

void stress_model_stored(struct stress_model *model, struct stress_range *range, hf_off_t off,
                         const uint8_t *data, size_t len)
{
    hf_off_t size;

    pthread_mutex_lock(&model->lock);
    size = model->size;
    for (size_t i = 0; i < len; i++) {
        hf_off_t at = off + (hf_off_t)i;
        bool racing = range->raced && race_over_locked(model, at);

        if (at >= size && !racing)
            continue; /* beyond EOF: accepted, and never to be seen */
        model->val[at] = data[i];
        model->flags[at] = 0;
        if (range->raced)
            model->flags[at] = (uint8_t)(BYTE_MAYBE_ZERO | (racing ? BYTE_RACED : 0u));
    }
    pthread_mutex_unlock(&model->lock);
}

void stress_model_written(struct stress_model *model, hf_off_t off, const uint8_t *data, size_t len)
{
    hf_off_t size = model->size, end = off + (hf_off_t)len;

    if (len == 0)
        return;
    pthread_mutex_lock(&model->lock);
    memcpy(model->val + off, data, len);
    memset(model->flags + off, 0, len);
    if (off > size) {
        memset(model->val + size, 0, (size_t)(off - size));
        memset(model->flags + size, 0, (size_t)(off - size));
    }
    if (end > size)
        model->size = end;
    pthread_mutex_unlock(&model->lock);
}

void stress_model_zeroed(struct stress_model *model, hf_off_t start, hf_off_t end, hf_off_t new_size)
{
    pthread_mutex_lock(&model->lock);
    if (new_size >= 0)
        model->size = new_size;
    for (hf_off_t at = start; at < end; at++) {
        if (at < model->size && (model->flags[at] & BYTE_RACED)) {
            model->flags[at] = BYTE_MAYBE_ZERO;
            continue;
        }
        model->val[at] = 0;
        model->flags[at] = 0;
    }
    pthread_mutex_unlock(&model->lock);
}

void stress_model_refused(struct stress_model *model, hf_off_t start, hf_off_t end, bool maybe)
{
    pthread_mutex_lock(&model->lock);
    for (hf_off_t at = start; at < end; at++) {
        model->flags[at] &= (uint8_t)~BYTE_RACED;
        if (maybe && model->val[at])
            model->flags[at] |= BYTE_MAYBE_ZERO;
        if (at >= model->size)
            model->val[at] = model->flags[at] = 0;
    }
    pthread_mutex_unlock(&model->lock);
}

hf_off_t stress_model_snapshot(struct stress_model *model, hf_off_t off, size_t len, uint8_t *ret_val,
                               uint8_t *ret_flags)
{
    hf_off_t size;

    pthread_mutex_lock(&model->lock);
    size = model->size;
    memcpy(ret_val, model->val + off, len);
    memcpy(ret_flags, model->flags + off, len);
    pthread_mutex_unlock(&model->lock);
    return size;
}
