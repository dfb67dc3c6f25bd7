/* SPDX-License-Identifier: MIT */
/* dev_thin.c - see dev_thin.h. A hash table of chunks, open addressing. */
#include "dev_thin.h"

#include "check.h"

struct chunk {
    uint64_t number;      /* + 1; 0: nothing is here */
    unsigned char *bytes; /* NULL: guaranteed, never written */
};

struct thin {
    struct hf_device base;
    struct chunk *table;
    uint64_t max; /* size of the table, a power of two */
    uint64_t limit;
    struct dev_thin_counts counts;
};

static struct thin *to_thin(struct hf_device *dev)
{
    return (struct thin *)dev;
}

static struct chunk *place(const struct thin *thin, uint64_t number)
{
    uint64_t i = number * 0x9e3779b97f4a7c15u >> 20;

    while (thin->table[i & (thin->max - 1)].number != 0 &&
           thin->table[i & (thin->max - 1)].number != number + 1)
        i++;
    return &thin->table[i & (thin->max - 1)];
}

static void table_grow(struct thin *thin)
{
    struct chunk *old = thin->table;
    uint64_t old_max = thin->max;

    thin->max = old_max ? 2 * old_max : 4096;
    thin->table = calloc(thin->max, sizeof(*thin->table));
    assert_non_null(thin->table);
    for (uint64_t i = 0; i < old_max; i++)
        if (old[i].number != 0)
            *place(thin, old[i].number - 1) = old[i];
    free(old);
}

/* The chunk, given away if there is one to give; NULL: there is none. */
static struct chunk *chunk_get(struct thin *thin, uint64_t number)
{
    struct chunk *chunk = place(thin, number);

    if (chunk->number != 0)
        return chunk;
    if (thin->counts.chunks >= thin->limit)
        return NULL;
    if (2 * ++thin->counts.chunks > thin->max) {
        table_grow(thin);
        chunk = place(thin, number);
    }
    chunk->number = number + 1;
    return chunk;
}

static size_t part_of(hf_off_t off, size_t len)
{
    size_t part = DEV_THIN_CHUNK - (size_t)off % DEV_THIN_CHUNK;

    return part < len ? part : len;
}

static int thin_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    struct thin *thin = to_thin(dev);
    char *to = buf;

    thin->counts.reads++;
    thin->counts.read_bytes += len;
    for (size_t part; len != 0; to += part, off += (hf_off_t)part, len -= part) {
        const struct chunk *chunk = place(thin, (uint64_t)off / DEV_THIN_CHUNK);

        part = part_of(off, len);
        if (chunk->bytes)
            memcpy(to, chunk->bytes + off % DEV_THIN_CHUNK, part);
        else
            memset(to, 0, part);
    }
    return 0;
}

static int thin_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    struct thin *thin = to_thin(dev);
    const char *from = buf;

    for (size_t part; len != 0; from += part, off += (hf_off_t)part, len -= part) {
        uint64_t before = thin->counts.chunks;
        struct chunk *chunk = chunk_get(thin, (uint64_t)off / DEV_THIN_CHUNK);

        if (!chunk)
            return -ENOSPC;
        thin->counts.late += thin->counts.chunks - before;
        if (!chunk->bytes) {
            chunk->bytes = calloc(1, DEV_THIN_CHUNK);
            assert_non_null(chunk->bytes);
        }
        part = part_of(off, len);
        memcpy(chunk->bytes + off % DEV_THIN_CHUNK, from, part);
    }
    return 0;
}

static int thin_flush(struct hf_device *dev)
{
    (void)dev;
    return 0;
}

static int thin_guarantee(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    uint64_t end = (uint64_t)(off + len + DEV_THIN_CHUNK - 1) / DEV_THIN_CHUNK;

    for (uint64_t number = (uint64_t)off / DEV_THIN_CHUNK; number < end; number++)
        if (!chunk_get(to_thin(dev), number))
            return -ENOSPC; /* like a filesystem, which keeps what it got so far */
    return 0;
}

static int thin_resize(struct hf_device *dev, hf_off_t size_bytes)
{
    __atomic_store_n(&dev->size_bytes, size_bytes, __ATOMIC_RELAXED);
    return 0;
}

static void thin_close(struct hf_device *dev)
{
    struct thin *thin = to_thin(dev);

    for (uint64_t i = 0; i < thin->max; i++)
        free(thin->table[i].bytes);
    free(thin->table);
    free(thin);
}

static const struct hf_device_ops thin_ops = {
    .read = thin_read,
    .write = thin_write,
    .flush = thin_flush,
    .guarantee = thin_guarantee,
    .resize = thin_resize,
    .close = thin_close,
};

struct hf_device *dev_thin_new(hf_off_t size_bytes, uint64_t chunks)
{
    struct thin *thin = calloc(1, sizeof(*thin));

    assert_non_null(thin);
    thin->base.ops = &thin_ops;
    thin->base.size_bytes = size_bytes;
    snprintf(thin->base.name, sizeof(thin->base.name), "thin");
    thin->limit = chunks;
    table_grow(thin);
    return &thin->base;
}

struct dev_thin_counts dev_thin_counts(struct hf_device *dev)
{
    return to_thin(dev)->counts;
}

void dev_thin_limit(struct hf_device *dev, uint64_t chunks)
{
    to_thin(dev)->limit = chunks;
}
