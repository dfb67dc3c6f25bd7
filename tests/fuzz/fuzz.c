/* SPDX-License-Identifier: MIT */
/* fuzz.c - see fuzz.h: the input, and the device. */
#include "fuzz.h"

#include "dev/device_io.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define PAGE 4096u

void fuzz_fail(const char *file, int line, const char *cond, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s:%d: %s does not hold: ", file, line, cond);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

/* ---- the input */

bool input_over(const struct input *in)
{
    return in->at == in->end;
}

uint8_t input_u8(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

uint32_t input_u32(struct input *in)
{
    uint32_t value = input_u8(in);

    value |= (uint32_t)input_u8(in) << 8;
    value |= (uint32_t)input_u8(in) << 16;
    return value | (uint32_t)input_u8(in) << 24;
}

uint32_t input_below(struct input *in, uint32_t n)
{
    uint32_t value = input_u8(in);

    if (n > 256)
        value |= (uint32_t)input_u8(in) << 8;
    if (n > 65536)
        value |= (uint32_t)input_u8(in) << 16;
    return value % n;
}

int64_t input_number(struct input *in)
{
    uint8_t kind = input_u8(in);

    switch (kind & 7) {
    case 0:
        return kind >> 3;
    case 1:
        return -(int64_t)(kind >> 3);
    case 2: /* 1, 2, 4 ... and one less */
        return (int64_t)((1ull << (kind >> 3 & 15) << (kind >> 7 ? 48 : 0)) - (kind >> 6 & 1));
    case 3:
        return (int64_t)((1ull << 63) - (kind >> 3));
    case 4:
        return (int64_t)((1ull << 55) + (kind >> 3) - 16);
    case 5:
        return (int64_t)((1ull << 32) + (kind >> 3) - 16);
    case 6:
        return (int64_t)input_below(in, 65536);
    default:
        return (int64_t)((uint64_t)input_u32(in) << 32 | input_u32(in));
    }
}

/* ---- the device */

static struct {
    struct hf_device base;
    uint8_t bytes[FUZZ_BYTES_MAX];
    bool changed[FUZZ_BYTES_MAX / PAGE]; /* pages that differ from the image */
    hf_off_t size;
    int image; /* -1: none yet */
    bool open, no_writes;
} mem = {.image = -1};

static void touch(uint64_t off, size_t len)
{
    for (uint64_t page = off / PAGE; len > 0 && page <= (off + len - 1) / PAGE; page++)
        mem.changed[page] = true;
}

static int mem_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    (void)dev;
    memcpy(buf, mem.bytes + off, len);
    return 0;
}

static int mem_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    (void)dev;
    fuzz_that(!mem.no_writes, "%zu bytes at %lld are written through a volume that is open read-only", len,
              (long long)off);
    touch((uint64_t)off, len);
    memcpy(mem.bytes + off, buf, len);
    return 0;
}

static int mem_flush(struct hf_device *dev)
{
    (void)dev;
    return 0;
}

/* What was there is gone, and what is read now is anything. */
static int mem_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    (void)dev;
    fuzz_that(!mem.no_writes, "%lld bytes at %lld are discarded through a volume that is open read-only",
              (long long)len, (long long)off);
    fuzz_that(off >= 0 && len > 0 && len <= mem.size && off <= mem.size - len,
              "%lld bytes at %lld are discarded", (long long)len, (long long)off);
    touch((uint64_t)off, (size_t)len);
    memset(mem.bytes + off, 0xd5, (size_t)len);
    return 0;
}

static int mem_resize(struct hf_device *dev, hf_off_t size_bytes)
{
    if (size_bytes > (hf_off_t)FUZZ_BYTES_MAX)
        return -ENOSPC;
    if (size_bytes < mem.size) { /* zeros, should it grow again */
        touch((uint64_t)size_bytes, (size_t)(mem.size - size_bytes));
        memset(mem.bytes + size_bytes, 0, (size_t)(mem.size - size_bytes));
    }
    mem.size = size_bytes;
    __atomic_store_n(&dev->size_bytes, size_bytes, __ATOMIC_RELAXED);
    return 0;
}

static void mem_close(struct hf_device *dev)
{
    (void)dev;
    mem.open = false;
}

struct hf_device *fuzz_device_again(void)
{
    static const struct hf_device_ops ops = {
        .read = mem_read,
        .write = mem_write,
        .flush = mem_flush,
        .discard = mem_discard,
        .resize = mem_resize,
        .close = mem_close,
    };

    fuzz_that(!mem.open, "the device of the volume before was not closed");
    mem.open = true;
    mem.base = (struct hf_device){.ops = &ops, .size_bytes = mem.size, .name = "memory"};
    return &mem.base;
}

struct hf_device *fuzz_device_new(enum fuzz_image which)
{
    const uint8_t *bytes = fuzz_image_bytes(which);

    for (size_t page = 0; page < FUZZ_BYTES / PAGE; page++)
        if (mem.changed[page] || mem.image != (int)which)
            memcpy(mem.bytes + page * PAGE, bytes + page * PAGE, PAGE);
    for (size_t page = FUZZ_BYTES / PAGE; page < FUZZ_BYTES_MAX / PAGE; page++)
        if (mem.changed[page])
            memset(mem.bytes + page * PAGE, 0, PAGE);
    memset(mem.changed, 0, sizeof(mem.changed));
    mem.size = FUZZ_BYTES;
    mem.image = (int)which;
    mem.no_writes = false;
    return fuzz_device_again();
}

void fuzz_device_poke(uint64_t off, const void *bytes, size_t len)
{
    if (off >= FUZZ_BYTES)
        return;
    if (len > FUZZ_BYTES - off)
        len = (size_t)(FUZZ_BYTES - off);
    touch(off, len);
    memcpy(mem.bytes + off, bytes, len);
}

const uint8_t *fuzz_device_bytes(void)
{
    return mem.bytes;
}

void fuzz_device_forbid_writes(bool forbid)
{
    mem.no_writes = forbid;
}
