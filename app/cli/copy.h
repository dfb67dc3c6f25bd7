/* SPDX-License-Identifier: MIT */
/*
 * copy.h - streams between a volume and the host, with holes, progress and interruption.
 *
 * One loop serves cat, put and get: it knows two ends, each either a file of a volume or a descriptor.
 */
#ifndef HF_CLI_COPY_H
#define HF_CLI_COPY_H

#include "term.h"
#include <holdfast/holdfast.h>

struct hf_copy_end {
    struct hf_file *file; /* NULL: the descriptor */
    int fd;
    bool seekable; /* a regular file: holes are kept, and I/O is at offsets */
};

struct hf_copy {
    struct hf_copy_end from, to;
    hf_off_t size;   /* of the source; -1: not known */
    hf_off_t copied; /* how far it came, out: bytes from the start */
    bool reading;    /* the error came from the source, out */
};

/* SIGINT, SIGTERM and SIGHUP end a copy with -EINTR instead of the program, so that nothing half is left. */
void hf_copy_catch_signals(void);

/* Copies to the end of the source. Returns 0, -EINTR after a signal, or what reading or writing said. */
int hf_copy_run(struct hf_copy *copy, const char *verb);

#endif
