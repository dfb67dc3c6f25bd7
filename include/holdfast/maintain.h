/* SPDX-License-Identifier: MIT */
/*
 * maintain.h - looking after a volume: checking and repairing it, its label and UUID, what its tables hold.
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

/* ------------------------------------------------------------------ the header */

/* What the header of a volume says; docs/format.md. Offsets and lengths in bytes. */
struct hf_header_info {
    uint32_t version, block_size;
    uint64_t compat, ro_compat, incompat; /* feature flags */
    bool thin;
    bool from_copy;      /* the primary is damaged: this is what its copy says */
    uint64_t generation; /* counts the writes of the header */
    uint8_t uuid[16];
    char label[64];
    uint64_t volume_bytes, device_bytes;
    uint64_t metadb_off, metadb_len, wal_off, wal_len, data_off, data_len;
    uint64_t data_blocks;
    int64_t created_ns;   /* since the epoch */
    unsigned nr_segments; /* more parts of the metadata region: one for each time it has grown */
    uint64_t segment_off[64], segment_len[64];
};

/* Reads the header alone; the volume may be open elsewhere for reading. Returns 0, or as hf_volume_open(). */
int hf_header_read(const char *path, struct hf_header_info *ret_info);

/*
 * Give a volume that nobody has open another label (at most 63 bytes) or UUID. Both copies of the header are
 * written, one after the other: a power cut leaves the old or the new one. Returns 0; -EINVAL: too long;
 * -EBUSY, -EROFS, -EIO, -EUCLEAN (damaged: check it first), or as hf_volume_open().
 */
int hf_label_set(const char *path, const char *label);
int hf_uuid_set(const char *path, const uint8_t uuid[16]);
/* The same on a device, which stays the caller's; NULL: as it is. */
int hf_header_set_device(struct hf_device *dev, const char *label, const uint8_t *uuid);

/* ------------------------------------------------------------------ growing */

/*
 * The volume gets new_bytes: of a regular file that becomes so large, of a block device that has so many. 0:
 * all that the file or device has. A thick volume's new space is allocated now. A volume can grow 64 times,
 * and not by less than its metadata then need.
 *
 * hf_volume_grow() while it is in use: stores and writes go on; hf_grow() when nobody has it open. A power
 * cut leaves the old size or the new one. Returns 0; -EALREADY: it has that size; -EINVAL: smaller, or hardly
 * larger; -ENOSPC: the host or the device has not so much; -EROFS, -EUCLEAN, -ENOMEM, -EIO, -EOPNOTSUPP (the
 * driver cannot): the volume is as it was.
 */
int hf_volume_grow(struct hf_volume *volume, uint64_t new_bytes);
int hf_grow(const char *path, uint64_t new_bytes);
/* hf_grow() on a device, which stays the caller's. */
int hf_grow_device(struct hf_device *dev, uint64_t new_bytes);

/* ------------------------------------------------------------------ trimming */

/*
 * Tells the device which blocks hold nothing: a thin volume in a file gives their space back to the host, a
 * disk may erase them. *ret_bytes: how many bytes that were. What is promised or preallocated stays.
 *
 * hf_volume_trim() while the volume is in use, after a commit, and only runs of at least min_bytes: stores
 * and writes go on, and those that need the last blocks wait for them. hf_trim() when nobody has it open.
 * Returns 0; -EOPNOTSUPP: the device has no use for it, or the volume is thick and in a file, whose space is
 * its own; -EIO: the device failed, some of it may have been told, the volume is none the worse for it;
 * -EUCLEAN: damaged, nothing was told; -EROFS, -ENOMEM, or as hf_volume_open().
 */
int hf_volume_trim(struct hf_volume *volume, uint64_t min_bytes, uint64_t *ret_bytes);
int hf_trim(const char *path, uint64_t *ret_bytes);
/* The same on a device, which stays the caller's. */
int hf_trim_device(struct hf_device *dev, uint64_t *ret_bytes);

/* ------------------------------------------------------------------ the tables */

enum hf_dump_type { HF_DUMP_NULL, HF_DUMP_INTEGER, HF_DUMP_TEXT, HF_DUMP_BYTES };
/* One column of one row. */
struct hf_dump_value {
    const char *column;
    enum hf_dump_type type;
    int64_t integer;
    const void *bytes; /* TEXT, BYTES; not NUL-terminated */
    size_t len;
};
/* Callbacks of hf_dump(); each may be NULL. Everything lives only until they return. Not 0: stop, and return
 * that. */
struct hf_dump_ops {
    int (*object)(void *arg, const char *type, const char *name, const char *sql); /* a table, or an index */
    int (*row)(void *arg, const char *table, const struct hf_dump_value *values, unsigned nr_values);
};
/*
 * Tells what the metadata of a volume holds, table after table, read-only; a log that a crash left is read as
 * well. table: only that one; NULL: all. Returns 0; -ENOENT: no such table; -EUCLEAN: it could not be read
 * on; or as hf_volume_open().
 */
int hf_dump(const char *path, const char *table, const struct hf_dump_ops *ops, void *arg);

#ifdef __cplusplus
}
#endif
#endif
