/* SPDX-License-Identifier: MIT */
/*
 * wrapped_driver.h - a volume whose driver is blockfs or memfs with some operations replaced by the test's
 * own: what the framework does when a driver fails in the middle, or takes long, can be seen exactly.
 */
#ifndef TESTS_UNIT_WRAPPED_DRIVER_H
#define TESTS_UNIT_WRAPPED_DRIVER_H

#include "blockfs_util.h"

#include "api/api.h"
#include "mm/mm.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>

struct wrapped {
    struct hf_driver driver;      /* a copy; replace what you like before wrapped_open() */
    const struct hf_driver *real; /* what it is a copy of */
    struct hf_device *dev;        /* blockfs: a memory device that stays when the volume closes */
    struct hf_memfs_options memfs;
    struct hf_volume *volume;
};

/* A volume of that size, not open yet. */
void wrapped_blockfs(struct wrapped *w, hf_off_t bytes, uint32_t block_size);
void wrapped_memfs(struct wrapped *w, uint64_t bytes, uint32_t block_size);
/* opts may be NULL: nothing is written by age. A blockfs volume may be opened again after its close. */
void wrapped_open(struct wrapped *w, const struct hf_open_options *opts);
/* Returns what hf_volume_close() does. */
int wrapped_close(struct wrapped *w);
void wrapped_free(struct wrapped *w);

struct hf_file *wrapped_file(struct wrapped *w, const char *path, hf_off_t size); /* made if missing */
/* Blocks free for everybody. */
uint64_t wrapped_free_blocks(struct wrapped *w);
/* A file that leaves so many blocks free. */
void wrapped_fill_but(struct wrapped *w, const char *path, uint64_t blocks);

#endif
