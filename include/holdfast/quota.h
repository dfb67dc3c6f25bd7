/* SPDX-License-Identifier: MIT */
/*
 * quota.h - who may use how much of a volume: users, groups, and projects (directory trees).
 *
 * Blocks and inodes are charged to the owner, the group and the project of a file. A block is charged when it
 * is promised, so a limit is met where the promise is asked for: -EDQUOT at the store to a mapping, at write,
 * create, fallocate, hf_reserve(), and at a change of owner. Nothing that was accepted is refused later.
 *
 *   hard limit   never exceeded
 *   soft limit   may be exceeded for the grace time; after that it is a hard one, until the use has fallen
 *                below it again
 *
 * 0 means no limit. Ids without limits may use what there is. There is no exception for privileged users:
 * who opens a volume may set its limits. What is used is counted from the files when a volume is opened, and
 * exact from then on. All calls here return -EOPNOTSUPP if the volume's driver has no quotas (memfs).
 */
#ifndef HOLDFAST_QUOTA_H
#define HOLDFAST_QUOTA_H

#include <holdfast/holdfast.h>

#ifdef __cplusplus
extern "C" {
#endif

enum hf_quota_type { HF_QUOTA_USER = 0, HF_QUOTA_GROUP = 1, HF_QUOTA_PROJECT = 2 };
#define HF_QUOTA_TYPES 3

#define HF_QUOTA_LIMIT_MAX ((uint64_t)1 << 62)
#define HF_QUOTA_GRACE_DEFAULT (7u * 24 * 3600) /* seconds */
#define HF_QUOTA_GRACE_MAX (100u * 366 * 24 * 3600)

/* Limits of one id; a soft limit is not above its hard one. Blocks are of B bytes (hf_statfs.block_size). */
struct hf_quota_limits {
    enum hf_quota_type type;
    uint32_t id;
    uint64_t blocks_soft, blocks_hard; /* 0: none */
    uint64_t inodes_soft, inodes_hard; /* 0: none */
    uint32_t grace_seconds;            /* for both soft limits; 0: HF_QUOTA_GRACE_DEFAULT */
};

/* What one id may use, and does. */
struct hf_quota {
    struct hf_quota_limits limits;
    uint64_t blocks_used; /* allocated, or promised to files in use */
    uint64_t inodes_used;
    /* When the grace time ends, in nanoseconds since the epoch; 0: the use is not above the soft limit. */
    int64_t blocks_grace_end_ns, inodes_grace_end_ns;
};

/* One id, which need not have limits or files. Returns 0; -EINVAL: no such type. */
int hf_quota_get(struct hf_volume *volume, enum hf_quota_type type, uint32_t id, struct hf_quota *ret_quota);

/*
 * Sets all limits of an id; all zero takes them away. Holds for every store from now on; durable with the
 * next hf_volume_sync() or fsync. A limit below what is used refuses what would use more. Returns 0; -EINVAL:
 * type, a soft limit above the hard one, or a value above its MAX; -EROFS; -ENOSPC: no room for metadata.
 */
int hf_quota_set(struct hf_volume *volume, const struct hf_quota_limits *limits);

/*
 * Ids that have limits or use something, by type, then id. *cursor is 0 to begin with; the call moves it.
 * Returns how many were written to ret_quotas, at most max; 0 at the end.
 */
int hf_quota_list(struct hf_volume *volume, uint64_t *cursor, unsigned max, struct hf_quota *ret_quotas);

/* Result of hf_quota_check(). */
struct hf_quota_check {
    uint64_t ids, inodes; /* compared, scanned */
    uint64_t differences; /* ids whose sums are wrong */
    /* The first of them: what was kept, and what the scan found. */
    enum hf_quota_type type;
    uint32_t id;
    uint64_t blocks_kept, blocks_found, inodes_kept, inodes_found;
    /* Blocks promised: the volume's count, and what inodes are charged above what they have. Equal, or there
     * is one difference more. */
    uint64_t reserved_kept, reserved_found;
};

/*
 * Counts again what every id uses, by a scan of all inodes and extents, and compares. Stores, writes and
 * other calls may go on meanwhile: they are held up only while one moment is recorded, and creating and
 * deleting while the scan runs. Returns the number of differences, 0 if all is well; -EIO, -ENOMEM.
 */
int hf_quota_check(struct hf_volume *volume, struct hf_quota_check *ret_check);

/*
 * A project is a number that files carry, 0 unless set; its quota is that of a directory tree. A directory
 * with HF_PROJECT_INHERIT gives its project, and subdirectories the flag, to what is made in it, and refuses
 * links and renames of other projects' files into it (-EXDEV).
 */
#define HF_PROJECT_INHERIT 0x1u

/*
 * Moves one file to a project; what it uses is charged there. flags: 0 or HF_PROJECT_INHERIT. Does not follow
 * symbolic links, and does not go into directories. Returns 0; -EDQUOT: nothing has changed; -ENOTDIR: the
 * flag is for directories; -EINVAL; -EROFS.
 */
int hf_set_project(struct hf_volume *volume, const char *path, uint32_t project, unsigned flags);
int hf_get_project(struct hf_volume *volume, const char *path, uint32_t *ret_project, unsigned *ret_flags);
int hf_fset_project(struct hf_file *file, uint32_t project, unsigned flags);
int hf_fget_project(struct hf_file *file, uint32_t *ret_project, unsigned *ret_flags);

#ifdef __cplusplus
}
#endif
#endif
