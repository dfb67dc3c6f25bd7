/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzz targets share: reading the input, saying what is wrong, and a volume in memory.
 *
 * A target is one LLVMFuzzerTestOneInput(). libFuzzer calls it (meson option fuzz), and so does replay.c,
 * which is a plain program: `make check` runs it on the corpus, and on every input that was once a finding.
 * An input that ends early reads as zeros, so every input means something.
 *
 * One thread; the images and the device are static, so that an execution costs little.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <holdfast/device.h>

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A finding: says what, and ends the process as libFuzzer wants it. */
#define fuzz_that(cond, ...) ((cond) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #cond, __VA_ARGS__))
void fuzz_fail(const char *file, int line, const char *cond, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* ---- the input */

struct input {
    const uint8_t *at, *end;
};

bool input_over(const struct input *in);
uint8_t input_u8(struct input *in);
uint32_t input_u32(struct input *in); /* little-endian */
/* 0 ... n - 1; n <= 2^16 takes two bytes, n <= 256 one */
uint32_t input_below(struct input *in, uint32_t n);
/* A number that such code likes least: small, large, negative, a power of two, or any. */
int64_t input_number(struct input *in);

/* ---- images: small volumes with everything in them, made once a process */

#define FUZZ_BYTES (1u << 20)
#define FUZZ_BYTES_MAX (2u << 20) /* to which a volume may grow */

enum fuzz_image {
    FUZZ_CLEAN_512 = 0, /* closed, blocks of 512 bytes */
    FUZZ_CRASHED_512,   /* open when the power went: a log to replay, orphans, a truncation half done */
    FUZZ_CLEAN_4096,
    FUZZ_CRASHED_4096,
    FUZZ_EMPTY_512, /* just formatted */
    FUZZ_EMPTY_4096,
    FUZZ_IMAGES
};

/* The bytes of an image. */
const uint8_t *fuzz_image_bytes(enum fuzz_image which);

/* ---- the device: memory that forgets */

/* The device as that image says. There is one, so the last one must have been closed. */
struct hf_device *fuzz_device_new(enum fuzz_image which);
/* The same bytes again, as they are now, for the next opener. */
struct hf_device *fuzz_device_again(void);
/* Changes bytes behind the volume's back; what lies outside is ignored. */
void fuzz_device_poke(uint64_t off, const void *bytes, size_t len);
const uint8_t *fuzz_device_bytes(void);
/* From here on a write is a finding. */
void fuzz_device_forbid_writes(bool forbid);

#endif
