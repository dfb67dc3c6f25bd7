/* SPDX-License-Identifier: MIT */
/*
 * bare.h - the least that can resolve faults of a memfd mapping in the faulting thread: userfaultfd in
 * SIGBUS mode, and a handler that does the ioctls and nothing else. Holdfast's faults are compared to it.
 */
#ifndef BENCH_BARE_H
#define BENCH_BARE_H

#include <stddef.h>
#include <stdint.h>

struct bare {
    int uffd, memfd;
    size_t len;
    uint8_t *map[2];
};

/* Opens the userfaultfd and installs the handler. Returns 0, or -errno if this machine refuses. */
int bare_init(struct bare *bare);
/* A new, empty memfd of len bytes, mapped twice and registered MISSING | WP | MINOR. */
int bare_map(struct bare *bare, size_t len);
void bare_unmap(struct bare *bare);
/* What a flush does to the mapping: write-protects every page of the first one. */
int bare_clean(struct bare *bare);
void bare_done(struct bare *bare);

#endif
