/* SPDX-License-Identifier: MIT */
/*
 * fuzz_api.h - the model of fuzz_api.c, and what its parts share.
 *
 *   fuzz_api.c       names and bytes of files: what each call does to them, and the comparison
 *   fuzz_api_more.c  owners, projects, limits and what is charged; attributes; special files; upkeep
 */
#ifndef TESTS_FUZZ_FUZZ_API_H
#define TESTS_FUZZ_FUZZ_API_H

#include "fuzz.h"

#include <holdfast/quota.h>

#define FILE_MAX 49152
#define MAX_FILES 24 /* made in one run */

/* Two directories of three names each. */
#define NR_NAMES 6
#define NR_IN_ROOT 3
extern const char *const names[NR_NAMES];

#define NR_XATTRS 2   /* of a file */
#define NR_SPECIALS 3 /* names of symlinks and special files */
#define NR_IDS 3      /* of each type: 0, 1, 2 */

struct file {
    uint8_t bytes[FILE_MAX]; /* zero beyond size */
    hf_off_t size;
    unsigned nlink;
    struct hf_file *open; /* NULL: no */
    uint8_t *map;         /* NULL: not mapped; else FILE_MAX bytes of it */
    uint8_t value;
    uint32_t ids[HF_QUOTA_TYPES]; /* owner, group, project */
    mode_t mode;                  /* permission bits */
    bool linkable;                /* made without a name: may get one, once */
    bool promised;                /* the whole of it, while it is open */
    struct {
        bool there;
        uint8_t value;
        uint16_t len;
    } xattrs[NR_XATTRS];
};

struct world {
    struct input *in;
    struct hf_volume *vol;
    struct hf_open_options opts;
    struct file files[MAX_FILES];
    unsigned nr_files;
    struct file *shown[NR_NAMES]; /* NULL: the name is free */
    mode_t specials[NR_SPECIALS]; /* type; 0: the name is free */
    uint32_t special_projects[NR_SPECIALS];
    uint32_t owner[2];  /* of what this process makes: user, group */
    uint32_t d_project; /* of /d */
    bool d_inherits;
    bool limited; /* some id has a limit: calls may be refused with -EDQUOT */
    struct hf_quota_limits limits[HF_QUOTA_TYPES][NR_IDS];
    uint64_t blocks_used[HF_QUOTA_TYPES][NR_IDS], inodes_used[HF_QUOTA_TYPES][NR_IDS]; /* when last seen */
};
extern struct world world;

/* ---- fuzz_api.c */

#define must(expr) fuzz_must((int64_t)(expr), #expr, __LINE__)
int64_t fuzz_must(int64_t ret, const char *expr, int line);

/* Returns whether it was done; refused for want of space is an answer, anything else is not. */
#define or_full(expr) fuzz_or_full((expr), #expr, __LINE__)
bool fuzz_or_full(int64_t ret, const char *expr, int line);

/* A range of a file, not empty unless limit is 0. */
void range_take(struct input *in, hf_off_t limit, hf_off_t *ret_off, hf_off_t *ret_len);
/* A file that is open now, with a name or without; NULL: there is none like that. */
struct file *any_file(void);
void name_set(unsigned n, struct file *f);
void file_compare(struct file *f);
void volume_open(void);
void volume_close(void);

/* ---- fuzz_api_more.c */

/* What world begins with, once the volume is open and has /d. */
void more_begin(void);
/* One call of those. */
void more_do(void);
/* What a new file is, and is charged to. below: in /d. */
void more_file_made(struct file *f, bool below);
/* Attributes and owners of an open file. */
void more_file_compare(struct file *f);
/* Whether a directory refuses the file of another project: below: it is /d. */
bool more_is_refused(const struct file *f, bool below);
/* After each call: no id has got above its limits. */
void more_limits_hold(void);
/* Everything is counted again. */
void more_compare(void);

#endif
