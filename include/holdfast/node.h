/* SPDX-License-Identifier: MIT */
/*
 * node.h - for frontends: a volume by inodes instead of paths, as a FUSE server or an NFS server needs it.
 *
 * A struct hf_node is one inode, held by a count of references; while the count is not zero the inode stays,
 * also after its last name is gone. All references to one inode are the same pointer. hf_volume_close() is
 * -EBUSY while a node is held.
 *
 * Names are single components: 1 ... 255 bytes without '/' (-EINVAL, -ENAMETOOLONG). No symlink is followed,
 * no permission is checked, no umask is applied: that is the frontend's, or its kernel's. Conventions are
 * those of <holdfast/holdfast.h>; the calls return what the calls on paths return.
 */
#ifndef HOLDFAST_NODE_H
#define HOLDFAST_NODE_H

#include <holdfast/holdfast.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hf_node; /* an inode, referenced */

/* Who owns what a call makes. */
struct hf_cred {
    uid_t uid;
    gid_t gid;
};

/* The volume's root directory, referenced. */
int hf_node_root(struct hf_volume *volume, struct hf_node **ret_node);
/* One more reference. Returns node. */
struct hf_node *hf_node_get(struct hf_node *node);
/* Gives count references back; the last may write and free (blocks on I/O). node may be NULL. */
void hf_node_put(struct hf_node *node, uint64_t count);
/* Gives back every reference of every node of the volume: for a frontend whose kernel forgot without saying.
 * No other call may be running. */
void hf_node_put_all(struct hf_volume *volume);
/* 1 if nodes alone hold a file that has no name any more: its space comes back when they are put. Else 0. */
int hf_node_any_unlinked(struct hf_volume *volume);
/* What name means in dir ("." and ".." too), referenced. */
int hf_node_lookup(struct hf_node *dir, const char *name, struct hf_node **ret_node);

/* ------------------------------------------------------------------ attributes */

#define HF_ATTR_MODE 0x1u
#define HF_ATTR_OWNER 0x2u
#define HF_ATTR_TIMES 0x4u
#define HF_ATTR_SIZE 0x8u
/* What to change. */
struct hf_attr {
    unsigned valid;           /* HF_ATTR_* */
    mode_t mode;              /* permission bits */
    uid_t uid;                /* (uid_t)-1: leave alone; likewise gid */
    gid_t gid;                /* */
    struct timespec times[2]; /* atime, mtime; UTIME_NOW, UTIME_OMIT */
    hf_off_t size;            /* bytes */
};
int hf_node_stat(struct hf_node *node, struct stat *ret_stat);
/* The size first: if it cannot change, nothing else does. */
int hf_node_setattr(struct hf_node *node, const struct hf_attr *attr);

/* As hf_getxattr() and its family; trusted. is for the frontend to keep from the unprivileged. */
ssize_t hf_node_getxattr(struct hf_node *node, const char *name, void *buf, size_t size);
ssize_t hf_node_listxattr(struct hf_node *node, char *buf, size_t size);
int hf_node_setxattr(struct hf_node *node, const char *name, const void *value, size_t size, int flags);
int hf_node_removexattr(struct hf_node *node, const char *name);

/* As hf_access(), of one inode. */
int hf_node_access(struct hf_node *node, const struct hf_caller *who, int mask);
/* Whether who may take a name of node out of dir (unlink, rmdir, rename): dir must be writable and
 * searchable, -EACCES; in a sticky one, -EPERM for all but the owners of dir and of node. */
int hf_node_may_delete(struct hf_node *dir, struct hf_node *node, const struct hf_caller *who);

/* ------------------------------------------------------------------ names */

/* Makes a file of any type but symlinks: mode has S_IF* and permissions; rdev for devices. ret_node may be
 * NULL. */
int hf_node_mknod(struct hf_node *dir, const char *name, mode_t mode, dev_t rdev, const struct hf_cred *cred,
                  struct hf_node **ret_node);
int hf_node_symlink(struct hf_node *dir, const char *name, const char *target, const struct hf_cred *cred,
                    struct hf_node **ret_node);
int hf_node_link(struct hf_node *node, struct hf_node *dir, const char *name);
int hf_node_unlink(struct hf_node *dir, const char *name);
int hf_node_rmdir(struct hf_node *dir, const char *name);
/* flags as hf_rename(). */
int hf_node_rename(struct hf_node *dir, const char *name, struct hf_node *newdir, const char *newname,
                   unsigned flags);
ssize_t hf_node_readlink(struct hf_node *node, char *buf, size_t size);

/* ------------------------------------------------------------------ opening */

/* Opens a file, or a directory for hf_fsync(). flags as hf_open(); O_CREAT, O_EXCL and O_NOFOLLOW are
 * ignored. The file holds the inode by itself. */
int hf_node_open(struct hf_node *node, int flags, struct hf_file **ret_file);
/* A file without a name (O_TMPFILE), opened; hf_node_link() gives it one, once, unless flags have O_EXCL. */
int hf_node_tmpfile(struct hf_node *dir, int flags, mode_t mode, const struct hf_cred *cred,
                    struct hf_node **ret_node, struct hf_file **ret_file);
/* Creates a regular file and opens it; without O_EXCL, opens what is there. */
int hf_node_create(struct hf_node *dir, const char *name, int flags, mode_t mode, const struct hf_cred *cred,
                   struct hf_node **ret_node, struct hf_file **ret_file);

/* ------------------------------------------------------------------ open files */

#define HF_WRITE_APPEND 0x1u /* at the end, whatever off says */
/* What a kernel's page cache hands over, that mappings have stored there. Only inside i_size, and never
 * short: what cannot be kept is an error here, and one that every open file is told (fsync, close). */
#define HF_WRITE_CACHED 0x2u
#define HF_WRITE_KILL_SUID 0x4u /* the writer has no CAP_FSETID, whatever HF_OPEN_KEEP_SUID says */
/* As hf_pwrite(), with flags for this write instead of the file's O_APPEND. */
ssize_t hf_file_write(struct hf_file *file, const void *buf, size_t len, hf_off_t off, unsigned flags);

/* The writeback error that this open file has not been told yet, or 0: what hf_close() would return. */
int hf_file_error(struct hf_file *file);

/*
 * Promises the whole file: as long as this file, or a mapping made with it, is open, every hole inside i_size
 * has its space, and growing (ftruncate, write, fallocate) promises more or is refused. So nothing that is
 * stored through another cache than Holdfast's can be without space when it is handed over. A sparse file
 * costs its holes; the time goes with its extents. All or nothing. Returns 0; -ENOSPC, -EDQUOT, -EIO; -EBADF:
 * not a regular file open for writing.
 */
int hf_file_promise(struct hf_file *file);

/* A directory, for hf_readdir(), hf_seekdir(), hf_closedir(). */
int hf_node_opendir(struct hf_node *node, struct hf_dir **ret_dir);

#ifdef __cplusplus
}
#endif
#endif
