/* SPDX-License-Identifier: MIT */
/*
 * dev_powercut.c - a shim that records writes and flushes, and makes what a power cut leaves of them.
 *
 * What a disk may do between two flushes: keep or lose every sector of every write, in any order. Of several
 * writes to one sector any may be the last that got there; so whatever order the disk chose, what it leaves
 * is the same as if some of the sectors had been written, in the order of the calls, and the others not. That
 * is how an image is made. Durable is a write that had returned before a flush began that has returned.
 *
 * A discard is the worst that it may be: from its beginning on the range holds junk, however the cut comes.
 *
 * Locks: `lock` of the record, a leaf: it is never held while the device below is called.
 * Neighbours: owns the device below; anything may stand above, another shim too.
 */
#include "dev/device_io.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define COPY_CHUNK 65536

struct powercut_event {
    char *bytes;  /* NULL: a flush */
    bool discard; /* bytes are junk */
    size_t len;
    hf_off_t off;
    /* of a write: when it returned, 0: not yet, or with an error; of a flush: when it began */
    uint64_t stamp;
};

struct hf_powercut {
    /* set at init */
    struct hf_device *base; /* memory: what was there before the first event */
    /* guarded by lock */
    pthread_mutex_t lock;
    unsigned users; /* the device and the caller */
    uint64_t clock; /* ticks at every stamp; from 1 */
    struct powercut_event *events;
    size_t nr, max;
};

struct hf_device_powercut {
    struct hf_device base;
    /* set at init */
    struct hf_device *lower;
    struct hf_powercut *record;
};

static struct hf_device_powercut *to_powercut(struct hf_device *dev)
{
    return (struct hf_device_powercut *)dev;
}

/* ---- the record */

static struct powercut_event *event_add(struct hf_powercut *record)
{
    if (record->nr == record->max) {
        size_t max = record->max ? 2 * record->max : 64;
        struct powercut_event *events = realloc(record->events, max * sizeof(*events));

        if (!events)
            return NULL;
        record->events = events;
        record->max = max;
    }
    return &record->events[record->nr++];
}

static uint64_t clock_tick(struct hf_powercut *record)
{
    uint64_t now;

    pthread_mutex_lock(&record->lock);
    now = ++record->clock;
    pthread_mutex_unlock(&record->lock);
    return now;
}

/* A write begins; buf NULL: a discard. Its number, or -EIO: one that cannot be recorded must not happen. */
static int record_write(struct hf_powercut *record, const void *buf, size_t len, hf_off_t off, size_t *ret_nr)
{
    char *bytes = malloc(len);
    struct powercut_event *event;

    if (!bytes)
        return -EIO;
    if (buf)
        memcpy(bytes, buf, len);
    else
        memset(bytes, HF_POWERCUT_JUNK, len);
    pthread_mutex_lock(&record->lock);
    event = event_add(record);
    if (event) {
        *event = (struct powercut_event){.bytes = bytes, .discard = !buf, .len = len, .off = off};
        *ret_nr = record->nr - 1;
    }
    pthread_mutex_unlock(&record->lock);
    if (!event)
        free(bytes);
    return event ? 0 : -EIO;
}

static void record_returned(struct hf_powercut *record, size_t nr)
{
    pthread_mutex_lock(&record->lock);
    record->events[nr].stamp = ++record->clock;
    pthread_mutex_unlock(&record->lock);
}

static int record_flush(struct hf_powercut *record, uint64_t began)
{
    struct powercut_event *event;

    pthread_mutex_lock(&record->lock);
    event = event_add(record);
    if (event)
        *event = (struct powercut_event){.stamp = began};
    pthread_mutex_unlock(&record->lock);
    return event ? 0 : -EIO;
}

static void record_put(struct hf_powercut *record)
{
    unsigned users;

    pthread_mutex_lock(&record->lock);
    users = --record->users;
    pthread_mutex_unlock(&record->lock);
    if (users)
        return;
    for (size_t i = 0; i < record->nr; i++)
        free(record->events[i].bytes);
    free(record->events);
    hf_dev_close(record->base);
    pthread_mutex_destroy(&record->lock);
    free(record);
}

/* ---- the device */

static int powercut_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    return hf_dev_read(to_powercut(dev)->lower, buf, len, off);
}

static int powercut_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    struct hf_device_powercut *powercut = to_powercut(dev);
    size_t nr;
    int ret = record_write(powercut->record, buf, len, off, &nr);

    if (!ret)
        ret = hf_dev_write(powercut->lower, buf, len, off);
    if (!ret)
        record_returned(powercut->record, nr);
    return ret;
}

static int powercut_flush(struct hf_device *dev)
{
    struct hf_device_powercut *powercut = to_powercut(dev);
    uint64_t began = clock_tick(powercut->record);
    int ret = hf_dev_flush(powercut->lower);

    return ret ? ret : record_flush(powercut->record, began);
}

static int powercut_guarantee(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    return hf_dev_guarantee(to_powercut(dev)->lower, off, len);
}

static int powercut_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    struct hf_device_powercut *powercut = to_powercut(dev);
    size_t nr;
    int ret = record_write(powercut->record, NULL, (size_t)len, off, &nr);

    return ret ? ret : hf_dev_discard(powercut->lower, off, len);
}

static void powercut_forked(struct hf_device *dev)
{
    hf_dev_forked(to_powercut(dev)->lower);
}

static void powercut_close(struct hf_device *dev)
{
    struct hf_device_powercut *powercut = to_powercut(dev);

    hf_dev_close(powercut->lower);
    record_put(powercut->record);
    free(powercut);
}

static const struct hf_device_ops powercut_ops = {
    .read = powercut_read,
    .write = powercut_write,
    .flush = powercut_flush,
    .guarantee = powercut_guarantee,
    .discard = powercut_discard,
    .forked = powercut_forked,
    .close = powercut_close,
};

/* Over a device that has no discard() neither has this. */
static const struct hf_device_ops powercut_ops_without_discard = {
    .read = powercut_read,
    .write = powercut_write,
    .flush = powercut_flush,
    .guarantee = powercut_guarantee,
    .forked = powercut_forked,
    .close = powercut_close,
};

static bool all_zero(const char *buf, size_t len)
{
    return buf[0] == 0 && memcmp(buf, buf + 1, len - 1) == 0;
}

/* A memory device with the same bytes. */
static int device_copy(struct hf_device *from, struct hf_device **ret_copy)
{
    struct hf_device *copy;
    char *buf = malloc(COPY_CHUNK);
    int ret = buf ? hf_device_mem_new(from->size_bytes, &copy) : -ENOMEM;

    if (ret) {
        free(buf);
        return ret;
    }
    for (hf_off_t off = 0; off < from->size_bytes && !ret; off += COPY_CHUNK) {
        hf_off_t left = from->size_bytes - off;
        size_t len = (size_t)(left < COPY_CHUNK ? left : COPY_CHUNK);

        ret = hf_dev_read(from, buf, len, off);
        if (!ret && !all_zero(buf, len))
            ret = hf_dev_write(copy, buf, len, off);
    }
    free(buf);
    if (ret)
        hf_dev_close(copy);
    else
        *ret_copy = copy;
    return ret;
}

int hf_device_powercut_new(struct hf_device *lower, struct hf_device **ret_dev,
                           struct hf_powercut **ret_record)
{
    struct hf_device_powercut *powercut = calloc(1, sizeof(*powercut));
    struct hf_powercut *record = calloc(1, sizeof(*record));
    int ret = powercut && record ? device_copy(lower, &record->base) : -ENOMEM;

    if (ret) {
        free(powercut);
        free(record);
        hf_dev_close(lower);
        return ret;
    }
    pthread_mutex_init(&record->lock, NULL);
    record->users = 2;
    powercut->base = *lower;
    powercut->base.ops = lower->ops->discard ? &powercut_ops : &powercut_ops_without_discard;
    powercut->lower = lower;
    powercut->record = record;
    *ret_dev = &powercut->base;
    *ret_record = record;
    return 0;
}

void hf_device_powercut_free(struct hf_powercut *record)
{
    if (record)
        record_put(record);
}

uint64_t hf_device_powercut_count(struct hf_powercut *record)
{
    uint64_t nr;

    pthread_mutex_lock(&record->lock);
    nr = record->nr;
    pthread_mutex_unlock(&record->lock);
    return nr;
}

/* ---- images. Under lock. */

enum fate { LOST, ARRIVED, TORN };

/* How a reordering disk chose. */
enum choice { SECTORS, WRITES, NEWEST, LOWEST, HIGHEST, NR_CHOICES };

struct draw {
    const struct hf_powercut_cut *cut;
    uint64_t random;  /* state of the generator */
    uint64_t durable; /* writes that returned before this stamp are */
    size_t last;      /* the last write before the cut, if there is one */
    enum choice choice;
    unsigned chance; /* of 8 */
    size_t pivot;    /* the write that the cut interrupted */
    unsigned nth;    /* SUBSET: writes that are not durable seen so far */
};

static uint64_t draw_next(struct draw *draw)
{
    uint64_t z = draw->random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool is_durable(const struct draw *draw, const struct powercut_event *event)
{
    return event->discard || (event->stamp != 0 && event->stamp < draw->durable);
}

static void draw_init(struct draw *draw, const struct hf_powercut *record, const struct hf_powercut_cut *cut)
{
    size_t open = 0;

    *draw = (struct draw){.cut = cut, .random = cut->seed, .last = SIZE_MAX, .pivot = SIZE_MAX};
    for (size_t i = 0; i < cut->events; i++) {
        const struct powercut_event *event = &record->events[i];

        if (event->bytes && !event->discard)
            draw->last = i;
        else if (event->stamp > draw->durable)
            draw->durable = event->stamp;
    }
    draw->choice = (enum choice)(draw_next(draw) % NR_CHOICES);
    draw->chance = 1 + (unsigned)(draw_next(draw) % 7);
    /* Each write that is not durable has the same chance to be the pivot. */
    for (size_t i = 0; i < cut->events; i++)
        if (record->events[i].bytes && !is_durable(draw, &record->events[i]) && draw_next(draw) % ++open == 0)
            draw->pivot = i;
}

static enum fate reordered(struct draw *draw, const struct hf_powercut *record, size_t i)
{
    hf_off_t off = record->events[i].off, pivot_off = record->events[draw->pivot].off;

    if (draw->choice == SECTORS)
        return TORN;
    if (draw->choice == WRITES)
        return draw_next(draw) % 8 < draw->chance ? ARRIVED : LOST;
    if (i == draw->pivot)
        return TORN;
    if (draw->choice == NEWEST)
        return i > draw->pivot ? ARRIVED : LOST;
    if (off == pivot_off)
        return i < draw->pivot ? ARRIVED : LOST;
    return (off < pivot_off) == (draw->choice == LOWEST) ? ARRIVED : LOST;
}

static enum fate fate_of(struct draw *draw, const struct hf_powercut *record, size_t i)
{
    if (draw->cut->order == HF_POWERCUT_ALL || is_durable(draw, &record->events[i]))
        return ARRIVED;
    if (draw->cut->order == HF_POWERCUT_NONE)
        return LOST;
    if (draw->cut->order == HF_POWERCUT_TORN)
        return i == draw->last ? TORN : ARRIVED;
    if (draw->cut->order == HF_POWERCUT_SUBSET) {
        unsigned bit = draw->nth++;

        return bit < 64 && (draw->cut->seed >> bit & 1) ? ARRIVED : LOST;
    }
    return reordered(draw, record, i);
}

static int apply_torn(struct draw *draw, const struct powercut_event *event, struct hf_device *image)
{
    hf_off_t end = event->off + (hf_off_t)event->len, next;
    int ret = 0;

    for (hf_off_t off = event->off; off < end && !ret; off = next) {
        next = (off / SECTOR + 1) * SECTOR;
        if (next > end)
            next = end;
        if (draw_next(draw) % 8 < draw->chance)
            ret = hf_dev_write(image, event->bytes + (off - event->off), (size_t)(next - off), off);
    }
    return ret;
}

static int image_apply(const struct hf_powercut *record, const struct hf_powercut_cut *cut,
                       struct hf_device *image)
{
    struct draw draw;
    int ret = 0;

    draw_init(&draw, record, cut);
    for (size_t i = 0; i < cut->events && !ret; i++) {
        const struct powercut_event *event = &record->events[i];
        enum fate fate = event->bytes ? fate_of(&draw, record, i) : LOST;

        if (fate == ARRIVED)
            ret = hf_dev_write(image, event->bytes, event->len, event->off);
        else if (fate == TORN)
            ret = apply_torn(&draw, event, image);
    }
    return ret;
}

uint64_t hf_device_powercut_open(struct hf_powercut *record, uint64_t events)
{
    const struct hf_powercut_cut cut = {.events = events};
    struct draw draw;
    uint64_t open = 0;

    pthread_mutex_lock(&record->lock);
    if (cut.events <= record->nr) {
        draw_init(&draw, record, &cut);
        for (size_t i = 0; i < events; i++)
            open += record->events[i].bytes && !is_durable(&draw, &record->events[i]);
    }
    pthread_mutex_unlock(&record->lock);
    return open;
}

int hf_device_powercut_image(struct hf_powercut *record, const struct hf_powercut_cut *cut,
                             struct hf_device **ret_image)
{
    struct hf_device *image;
    int ret;

    if ((unsigned)cut->order > HF_POWERCUT_SUBSET || cut->events > hf_device_powercut_count(record))
        return -EINVAL;
    ret = device_copy(record->base, &image);
    if (ret)
        return ret;
    pthread_mutex_lock(&record->lock);
    ret = image_apply(record, cut, image);
    pthread_mutex_unlock(&record->lock);
    if (ret)
        hf_dev_close(image);
    else
        *ret_image = image;
    return ret;
}
