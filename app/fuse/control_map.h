/* SPDX-License-Identifier: MIT */
/*
 * control_map.h - an ioctl on an open file of a mount: what the server's cache knows of some of its pages, as
 * hf_page_map() tells it. Whoever may open the file may ask.
 */
#ifndef HF_FUSE_CONTROL_MAP_H
#define HF_FUSE_CONTROL_MAP_H

#include <holdfast/holdfast.h>
#include <linux/ioctl.h>

#define HF_CONTROL_MAP_PAGES 64u /* in one call: an ioctl carries 16 KiB at most */
#define HF_CONTROL_MAP_STATE 20
#define HF_CONTROL_MAP_BLOCK 0x0fu /* enum hf_block_state; the other bits of a block: */
#define HF_CONTROL_MAP_DIRTY 0x10u
#define HF_CONTROL_MAP_UPTODATE 0x20u

struct hf_control_page {
    char state[HF_CONTROL_MAP_STATE]; /* NUL-terminated */
    uint8_t straddling, writable;
    uint16_t nr_blocks;
    uint8_t blocks[HF_BLOCKS_PER_PAGE_MAX];
};

struct hf_control_map {
    uint64_t first;      /* in: page index */
    uint32_t count;      /* in: how many are wanted; out: how many there were up to EOF */
    uint32_t page_size;  /* out: bytes */
    uint32_t block_size; /* out: bytes */
    uint32_t reserved;   /* 0 */
    struct hf_control_page pages[HF_CONTROL_MAP_PAGES];
};

#define HF_CONTROL_IOC_MAP _IOWR('h', 2, struct hf_control_map)

#endif
