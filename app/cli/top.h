/* SPDX-License-Identifier: MIT */
/*
 * top.h - what the parts of holdfast top share: a sample is one answer of a mount's server (app/fuse/control.h).
 *
 * What a number means is known by its name only, so that a newer server's are carried on, too.
 */
#ifndef HF_CLI_TOP_H
#define HF_CLI_TOP_H

#include "latency.h"
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#define HF_TOP_NAME_LEN 40
#define HF_TOP_COUNTERS 128
#define HF_TOP_ITEM_COUNTERS 20
#define HF_TOP_ITEMS 2048

struct hf_top_counter {
    char name[HF_TOP_NAME_LEN];
    uint64_t value;
};

/* A file or a process. */
struct hf_top_item {
    struct hf_top_counter counters[HF_TOP_ITEM_COUNTERS];
    unsigned nr;
    bool is_file;
    uint64_t id; /* inode or process */
    char *name;
};

struct hf_top_sample {
    struct timespec at;
    struct hf_top_counter counters[HF_TOP_COUNTERS];
    unsigned nr; /* 0: there is none */
    char volume[256], directory[256];
    struct hf_latency latency[HF_FAULT_KINDS];
    bool has_latency[HF_FAULT_KINDS];
    struct hf_top_item *items; /* as many as nr_items; on the heap */
    size_t nr_items;
};

enum hf_top_sort {
    HF_TOP_FAULTS,
    HF_TOP_MKWRITES,
    HF_TOP_REFUSED,
    HF_TOP_CACHED,
    HF_TOP_DIRTY,
    HF_TOP_RESERVED,
    HF_TOP_SORTS,
};
extern const char *const hf_top_sort_names[HF_TOP_SORTS];

/* ---- top_sample.c */
/* Asks the server of the mount with that device number; dir is for messages. Returns HF_CLI_OK, or
 * HF_CLI_FAILED, said. What the sample held before is freed. */
int hf_top_sample_take(dev_t device, const char *dir, struct hf_top_sample *sample);
void hf_top_sample_done(struct hf_top_sample *sample);
uint64_t hf_top_value(const struct hf_top_sample *sample, const char *name);
uint64_t hf_top_item_value(const struct hf_top_item *item, const char *name);
/* By the second since the sample before; 0 without one, or if the server is another one. */
double hf_top_rate(const struct hf_top_sample *before, const struct hf_top_sample *now, const char *name);
/* What item of now had in before; NULL: it was not there. */
const struct hf_top_item *hf_top_item_before(const struct hf_top_sample *before,
                                             const struct hf_top_item *item);
double hf_top_seconds(const struct hf_top_sample *before, const struct hf_top_sample *now);
/* Puts what is busiest first. */
void hf_top_items_sort(const struct hf_top_sample *before, struct hf_top_sample *now, enum hf_top_sort sort);

/* ---- top_draw.c */
struct hf_top_view {
    enum hf_top_sort sort;
    unsigned width, rows; /* of the screen; rows 0: paper, any number */
    unsigned lines;       /* files, and processes, at most so many */
    bool keys;            /* say which keys there are */
};
/* Prints one report, no longer than the screen. */
void hf_top_draw(FILE *out, const struct hf_top_view *view, const struct hf_top_sample *before,
                 const struct hf_top_sample *now);
void hf_top_print_json(const struct hf_top_sample *before, const struct hf_top_sample *now);

#endif
