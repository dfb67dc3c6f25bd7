/* SPDX-License-Identifier: MIT */
/*
 * demo.h - what the parts of `holdfast demo` share.
 *
 * demo.c sets the stage (a real volume file, a place for the control's) and calls one function a step; each
 * step prints drawings and explanations, and every claim through hf_demo_check(), which counts. The demo
 * exits with 0 only if every check held.
 */
#ifndef HF_CLI_DEMO_H
#define HF_CLI_DEMO_H

#include "draw.h"
#include "json.h"
#include "term.h"
#include <holdfast/holdfast.h>
#include <limits.h>

#define HF_DEMO_VOLUME_BYTES (8u * 1024 * 1024)
#define HF_DEMO_BLOCK_SIZE 1024u
#define HF_DEMO_WRITEBACK_MS 600000u /* nothing is written behind the drawings' back */

struct hf_demo {
    char dir[PATH_MAX];            /* temporary, removed at the end */
    char volume[PATH_MAX];         /* the volume file */
    char control_volume[PATH_MAX]; /* the control's, in dir */
    const char *control;           /* program, or NULL */
    uint32_t page_size;            /* P */
    unsigned held, failed;         /* checks */
};

/* ---------------------------------------------------------------- demo_report.c */

void hf_demo_heading(unsigned number, const char *title);
/* Explanation: words, wrapped and indented. */
void hf_demo_say(const char *text);
/* A step within a part: what is done, in bold. */
void hf_demo_step(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints ok or FAILED and the claim with its figures; counts. Returns ok. */
bool hf_demo_check(struct hf_demo *demo, bool ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The check that a call returned 0. */
bool hf_demo_check_error(struct hf_demo *demo, int error, const char *what);
/* Opens the demo's volume; a failure is a failed check. */
int hf_demo_open(struct hf_demo *demo, uint32_t flags, struct hf_volume **ret_volume);

/* What every test byte of the file at off is: never zero, so that a lost one shows. */
unsigned char hf_demo_byte(hf_off_t off);

/* Pages between processes: as cJSON objects in an array, and back. */
#define HF_DEMO_PAGES 4u
struct hf_demo_pages {
    unsigned nr;
    struct hf_page_info info[HF_DEMO_PAGES];
    char state[HF_DEMO_PAGES][HF_PAGE_STATE_LEN];
};
int hf_demo_pages_take(struct hf_file *file, uint64_t first, struct hf_demo_pages *ret_pages);
cJSON *hf_demo_pages_to_json(const struct hf_demo_pages *pages);
int hf_demo_pages_from_json(const cJSON *array, struct hf_demo_pages *ret_pages);

/* ---------------------------------------------------------------- demo_seed.c */

enum hf_seed_grow { HF_SEED_FTRUNCATE, HF_SEED_PWRITE };
#define HF_SEED_FRAMES 6
#define HF_SEED_STORES 4

/* What happened, step by step; made here or read from the control. */
struct hf_seed_story {
    struct hf_demo_pages frame[HF_SEED_FRAMES];
    int error[HF_SEED_FRAMES]; /* of each step; the story ends at the first */
    unsigned nr_frames;
    struct {
        hf_off_t offset;
        unsigned char stored, found;
    } store[HF_SEED_STORES];
    int64_t size, differing; /* bytes of the file after reopening, and how many are not what they must be */
    int close_error;         /* of the volume, after fsync */
};

/* The letter's case on the volume at path. Returns 0 if all steps ran, or the first error. */
int hf_seed_tell(const char *path, enum hf_isize_sync sync, enum hf_seed_grow grow,
                 struct hf_seed_story *ret_story);
cJSON *hf_seed_story_to_json(const struct hf_seed_story *story);
int hf_seed_story_from_json(const cJSON *root, struct hf_seed_story *ret_story);
const char *hf_seed_sync_name(enum hf_isize_sync sync);
const char *hf_seed_grow_name(enum hf_seed_grow grow);

/* ---------------------------------------------------------------- the steps */

void hf_demo_grow(struct hf_demo *demo, unsigned number, enum hf_seed_grow grow); /* demo_grow.c: 1 and 2 */
void hf_demo_full(struct hf_demo *demo, unsigned number);                         /* demo_full.c: 3 */
void hf_demo_kill(struct hf_demo *demo, unsigned number);                         /* demo_kill.c: 4 */
void hf_demo_run(struct hf_demo *demo, unsigned number);                          /* demo_run.c: 5 */

#endif
