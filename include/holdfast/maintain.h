/* SPDX-License-Identifier: MIT */
/*
 * maintain.h - looking after a volume that nobody has open: checking and repairing it.
 *
 * The conventions are those of <holdfast/holdfast.h>: 0 or a negative errno, hf_volume_error_text() for
 * people.
 */
#ifndef HOLDFAST_MAINTAIN_H
#define HOLDFAST_MAINTAIN_H

#include <holdfast/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ checking */

#define HF_CHECK_REPAIR 0x1u /* mend what is found; without: nothing is written, not even a log replayed */

/* One thing that is wrong. Everything lives only until the callback returns. */
struct hf_check_problem {
    const char *kind;   /* a word that stays the same over versions, for example "extent-shared" */
    const char *text;   /* one line for people that names the thing: inode, path where known, blocks */
    const char *repair; /* what repair does about it, one line; NULL: it cannot be repaired */
    uint64_t ino;       /* the inode it is about; 0: none */
    bool left;          /* repairing: it is still there after all that could be done */
};

/* What hf_check() is to do, and whom it tells. Callbacks run in the calling thread; each may be NULL. */
struct hf_check_options {
    uint32_t flags; /* HF_CHECK_* */
    void (*report)(void *arg, const struct hf_check_problem *problem);
    /* what: for example "extents"; total 0: not known. Called some hundred times at most. */
    void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
    void *arg;
};

struct hf_check_result {
    uint64_t problems; /* found */
    uint64_t left;     /* of them still there: all of them without HF_CHECK_REPAIR */
    uint64_t inodes, names, extents;
    uint64_t blocks, blocks_used; /* of the data region; used: by extents */
    bool replayed;                /* the volume was not closed cleanly: its log was read as well */
    bool incomplete;              /* damage kept the check from comparing everything */
};

/*
 * Checks the volume at path, which nobody may have open: both headers, the database (SQLite's own check), and
 * everything that rows say of each other. Reads only, unless HF_CHECK_REPAIR is set: then what is found is
 * mended, each repair as a whole or not at all, also when the power goes; a second check finds nothing but
 * what was told as left. Memory: some 48 bytes an inode, and at most a bit a block.
 *
 * opts may be NULL. Returns 0 if the check could be made, whatever it found; -EMEDIUMTYPE: not a volume;
 * -EPROTONOSUPPORT: a newer one; -EBUSY: open; -EIO, -ENOMEM, -EROFS, -ENOSPC (no room to repair in), or what
 * opening the file returned.
 */
int hf_check(const char *path, const struct hf_check_options *opts, struct hf_check_result *ret_result);
/* The same on a device, which stays the caller's. */
int hf_check_device(struct hf_device *dev, const struct hf_check_options *opts,
                    struct hf_check_result *ret_result);

#ifdef __cplusplus
}
#endif
#endif
