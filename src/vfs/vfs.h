/* SPDX-License-Identifier: MIT */
/*
 * vfs.h - volumes, names, inodes, files: what stands between the API and the cache.
 *
 * Locks, top to bottom: names_lock (one name-changing op at a time) > io_lock of inodes (several only under
 * names_lock) > pos_lock of a file > the cache's > icache_lock (the inode table, references).
 * References: a vnode is held by files, directories, nodes, path walks and the flusher; a file by its handle
 * and by each vma.
 */
#ifndef HF_VFS_VFS_H
#define HF_VFS_VFS_H

#include "base/list.h"
#include "base/lock.h"
#include "cache/mapping.h"
#include <holdfast/driver.h>
#include <holdfast/node.h>
#include <pthread.h>

#define HF_ICACHE_BUCKETS 1024u
#define HF_SEEN_NAME 48u        /* of a name, what is remembered for people, bytes with the NUL */
#define HF_ICACHE_IDLE_MAX 256u /* inodes that nobody uses and that stay, with their pages */

enum hf_vnode_state { HF_VNODE_NEW, HF_VNODE_LIVE, HF_VNODE_EVICTING, HF_VNODE_DEAD };

enum hf_file_caps { HF_CAPS_UNKNOWN, HF_CAPS_NONE, HF_CAPS_SOME };

struct hf_vnode {
    struct hf_inode inode; /* fields as driver.h says, under io_lock */
    struct hf_mapping mapping;
    struct hf_volume *volume;       /* set at init */
    struct hf_rwlock io_lock;       /* rank IO */
    struct hf_mutex tell_lock;      /* rank FILE: one thread at a time tells the driver a size */
    _Atomic hf_off_t disk_size;     /* the size that the driver was told last; -1: it must be told */
    _Atomic int64_t disk_mtime_ns;  /* likewise */
    bool linkable;                  /* O_TMPFILE, may get a name; guarded by names_lock once it is seen */
    _Atomic bool atime_dirty;       /* it moved; the driver is told with the rest, or at the end */
    _Atomic uint32_t file_caps;     /* enum hf_file_caps: is there a security.capability? */
    _Atomic bool attr_dirty;        /* attributes that the driver has not been told */
    _Atomic uint32_t state;         /* enum hf_vnode_state; futex; changed under icache_lock */
    _Atomic uint32_t state_waiters; /* who sleeps on it */
    uint64_t refs;                  /* guarded by icache_lock */
    uint64_t nodes;                 /* guarded by icache_lock: of refs, those held as a struct hf_node */
    unsigned users;                 /* guarded by icache_lock: files open, with their vmas */
    bool leaving;                   /* guarded by icache_lock: the last user is gone, new ones wait */
    _Atomic uint32_t left;          /* futex: bumped when that is over */
    struct hf_list hash, idle;      /* guarded by icache_lock */
    uint64_t seen_dir;              /* guarded by icache_lock, likewise seen_name: where it was last seen; 0:
                                       nowhere (seen.c) */
    char seen_name[HF_SEEN_NAME];
};

struct hf_volume {
    struct hf_super sb; /* set at mount */
    struct hf_cache *cache;
    struct hf_vnode *root;
    uint32_t writeback_ms, open_flags;         /* HF_OPEN_* */
    struct hf_mutex names_lock;                /* rank VOLUME */
    struct hf_mutex icache_lock;               /* rank ICACHE */
    struct hf_list buckets[HF_ICACHE_BUCKETS]; /* guarded by icache_lock, like the next three */
    _Atomic uint32_t unlinked_put; /* futex: bumped when a reference to a file without names is put */
    struct hf_list idle;
    unsigned nr_idle;
    unsigned nr_handles; /* files (with those only mappings hold), directories, vnodes held as nodes */
    pthread_t flusher;
    bool has_flusher;
    _Atomic uint32_t flusher_stop; /* futex */
    struct hf_list all_link;       /* guarded by the API's lock */
};

/* An open file description. */
struct hf_file {
    struct hf_vm_file vm;     /* what mm/ holds */
    struct hf_vnode *vnode;   /* set at open */
    int flags;                /* set at open: O_* */
    hf_errseq_t wb_since;     /* writeback errors that it has been told */
    bool promised;            /* guarded by io_lock: it keeps the whole file promised */
    _Atomic uint32_t refs;    /* the handle, and each vma */
    struct hf_mutex pos_lock; /* rank FILE */
    hf_off_t pos;             /* guarded by pos_lock */
};

struct hf_dir {
    struct hf_vnode *vnode;
    uint64_t cookie;
};

/* ---- mount.c */
struct hf_mount_options {
    const struct hf_driver *driver;
    struct hf_device *dev; /* owned by the volume from here on, even on failure; may be NULL */
    void *driver_options;  /* in sb->fs at mount() */
    const struct hf_open_options *open;
    char *error_text; /* 256 bytes */
};
int hf_vfs_mount(const struct hf_mount_options *how, struct hf_volume **ret_volume);
int hf_vfs_unmount(struct hf_volume *volume);
int hf_vfs_statfs(struct hf_volume *volume, struct hf_statfs *ret_statfs);
int hf_vfs_grow(struct hf_volume *volume, uint64_t size_bytes, char error_text[256]);
int hf_vfs_trim(struct hf_volume *volume, uint64_t min_bytes, uint64_t *ret_bytes, char error_text[256]);
int hf_vfs_stats(struct hf_volume *volume, struct hf_volume_stats *ret_stats);
void hf_vfs_latency(struct hf_volume *volume, enum hf_fault_kind kind, struct hf_latency *ret_latency);

/* ---- icache.c */
int hf_vnode_iget(struct hf_volume *volume, uint64_t ino, struct hf_vnode **ret_vnode);
struct hf_vnode *hf_vnode_get(struct hf_vnode *vnode);
void hf_vnode_put(struct hf_vnode *vnode); /* NULL is fine; may evict: call without locks */
/* For a file whose last name the caller has just removed: like put, but if nobody has it open, waits for
 * references that are only passing by (the flusher, path walks): its space is free when this returns. */
void hf_vnode_put_unlinked(struct hf_vnode *vnode);
/* The caller's reference becomes one of a struct hf_node; and count of those are put. */
struct hf_node *hf_vnode_to_node(struct hf_vnode *vnode);
void hf_vnode_put_nodes(struct hf_vnode *vnode, uint64_t count);
void hf_icache_put_all_nodes(struct hf_volume *volume);
/* Is there a file without names that only nodes hold? */
bool hf_icache_has_unlinked_nodes(struct hf_volume *volume);
void hf_vnode_user_add(struct hf_vnode *vnode);    /* a file opened it */
void hf_vnode_user_remove(struct hf_vnode *vnode); /* and is gone */
/* Evicts every inode that nobody uses. Returns the first error; inodes that could not be written are dropped
 * if force. */
int hf_icache_drain(struct hf_volume *volume, bool force);
/* Calls fn for each live inode, referenced, with no locks. Returns the first error. */
int hf_icache_each(struct hf_volume *volume, int (*fn)(struct hf_vnode *vnode, void *arg), void *arg);
void hf_volume_handles_add(struct hf_volume *volume, int n);

/* icache_lock held. NULL: not in memory. */
struct hf_vnode *hf_icache_find_locked(struct hf_volume *volume, uint64_t ino);

/* ---- seen.c: for people only: names change, and nobody waits for this. */
/* The name in dir has just been seen to mean vnode. */
void hf_vnode_seen(struct hf_vnode *vnode, const struct hf_vnode *dir, const char *name);
/* It means it no longer. */
void hf_vnode_unseen(struct hf_vnode *vnode, const struct hf_vnode *dir, const char *name);
int hf_vfs_each_file(struct hf_volume *volume, int (*fn)(const struct hf_file_stats *file, void *arg),
                     void *arg);

/* ---- namei.c: paths */
#define HF_WALK_FOLLOW 0x1u /* follow a symlink in the last component */
/* A name in a directory: what operations on names are given, whether a path led there or a node. */
struct hf_name {
    struct hf_vnode *dir;       /* a directory, referenced */
    char name[HF_NAME_MAX + 1]; /* "": dir itself */
    bool must_be_dir;           /* a slash came after it */
};
struct hf_walk {
    struct hf_volume *volume;
    const struct hf_caller *who; /* must be allowed to search each directory; NULL: anybody is */
    struct hf_name at;           /* the last component */
    char rest[HF_PATH_MAX];
    int links;
};
/* Resolves all but the last component. On success hf_walk_done() is due. */
int hf_walk_parent(struct hf_volume *volume, const char *path, struct hf_walk *walk);
/* The last component turned out to be this symlink: goes on with its target, up to its last component. */
int hf_walk_symlink(struct hf_walk *walk, struct hf_vnode *link);
void hf_walk_done(struct hf_walk *walk);
/* What name (".." too) means in dir. Takes its io_lock shared. */
int hf_vnode_lookup(struct hf_vnode *dir, const char *name, struct hf_vnode **ret_vnode);
/* Looks the last component up in its directory. Takes the directory's io_lock shared. */
int hf_walk_last(struct hf_walk *walk, struct hf_vnode **ret_vnode);
/* who may be NULL: as struct hf_walk. */
int hf_vfs_lookup_as(struct hf_volume *volume, const char *path, unsigned flags, const struct hf_caller *who,
                     struct hf_vnode **ret_vnode);
int hf_vfs_lookup(struct hf_volume *volume, const char *path, unsigned flags, struct hf_vnode **ret_vnode);

/* ---- access.c: as hf_node_access(), hf_node_may_delete() */
int hf_vnode_access(struct hf_vnode *vnode, const struct hf_caller *who, int mask);
int hf_vnode_may_delete(struct hf_vnode *dir, struct hf_vnode *vnode, const struct hf_caller *who);

/* ---- names.c */
/* ret_vnode may be NULL. -EEXIST */
int hf_name_create(const struct hf_name *at, const struct hf_create *how, struct hf_vnode **ret_vnode);
/* A file without a name, on the volume of dir; linkable: it may be given one. */
int hf_vnode_tmpfile(struct hf_vnode *dir, const struct hf_create *how, bool linkable,
                     struct hf_vnode **ret_vnode);
int hf_name_unlink(const struct hf_name *at, bool directory);
int hf_name_link(const struct hf_name *at, struct hf_vnode *from);
int hf_name_rename(const struct hf_name *from, const struct hf_name *to, unsigned flags);
ssize_t hf_vnode_readlink(struct hf_vnode *vnode, char *buf, size_t size);
int hf_vfs_mknod(struct hf_volume *volume, const char *path, const struct hf_create *how);
int hf_vfs_unlink(struct hf_volume *volume, const char *path, bool directory);
int hf_vfs_link_vnode(struct hf_vnode *from, const char *to);
int hf_vfs_link(struct hf_volume *volume, const char *from, const char *to);
int hf_vfs_rename(struct hf_volume *volume, const char *from, const char *to, unsigned flags);
ssize_t hf_vfs_readlink(struct hf_volume *volume, const char *path, char *buf, size_t size);

/* ---- file.c */
int hf_vfs_open(struct hf_volume *volume, const char *path, int flags, mode_t mode,
                struct hf_file **ret_file);
int hf_vnode_open(struct hf_vnode *vnode, int flags, struct hf_file **ret_file);
int hf_vfs_close(struct hf_file *file);
int hf_vfs_promise(struct hf_file *file);
int hf_vfs_error(struct hf_file *file); /* the writeback error that it has not been told yet, or 0 */
hf_off_t hf_vfs_lseek(struct hf_file *file, hf_off_t off, int whence);
/* ---- io.c */
ssize_t hf_vfs_pread(struct hf_file *file, void *buf, size_t len, hf_off_t off);
ssize_t hf_vfs_write_at(struct hf_file *file, const void *buf, size_t len, hf_off_t off,
                        unsigned flags); /* HF_WRITE_* */
ssize_t hf_vfs_pwrite(struct hf_file *file, const void *buf, size_t len, hf_off_t off);
ssize_t hf_vfs_read(struct hf_file *file, void *buf, size_t len);
ssize_t hf_vfs_write(struct hf_file *file, const void *buf, size_t len);
/* ---- setattr.c */
int hf_vnode_setattr(struct hf_vnode *vnode, const struct hf_attr *attr);
int hf_vnode_truncate(struct hf_vnode *vnode, hf_off_t size);
/* Asks the driver whether i_size may become new_size (HOLD-6). Caller: io x. Nothing has changed. */
int hf_vnode_size_prepare(struct hf_vnode *vnode, hf_off_t new_size);
void hf_vnode_stat(struct hf_vnode *vnode, struct stat *ret_stat);
void hf_vnode_touch(struct hf_vnode *vnode); /* mtime and ctime are now */
/* Its content was read: atime moves as the volume's options say. Any lock or none. */
void hf_vnode_accessed(struct hf_vnode *vnode);
void hf_file_accessed(struct hf_file *file); /* likewise, unless it was opened with O_NOATIME */
/* Its content is going to change: set-ID bits and capabilities go, as file_remove_privs() of the kernel takes
 * them. Caller: io x. */
int hf_vnode_drop_privileges(struct hf_vnode *vnode);
void hf_vnode_drop_set_ids(struct hf_vnode *vnode); /* only the bits, whatever the volume was opened with */
/* ---- quota.c: as the calls of quota.h; -EOPNOTSUPP if the driver has no quotas */
int hf_vfs_quota_get(struct hf_volume *volume, enum hf_quota_type type, uint32_t id,
                     struct hf_quota *ret_quota);
int hf_vfs_quota_set(struct hf_volume *volume, const struct hf_quota_limits *limits);
int hf_vfs_quota_list(struct hf_volume *volume, uint64_t *cursor, unsigned max, struct hf_quota *ret_quotas);
int hf_vfs_quota_check(struct hf_volume *volume, struct hf_quota_check *ret_check);
int hf_vnode_set_project(struct hf_vnode *vnode, uint32_t project, unsigned flags);
void hf_vnode_get_project(struct hf_vnode *vnode, uint32_t *ret_project, unsigned *ret_flags);
/* May dir get a name for this inode? -EXDEV: it belongs to another project. Caller: io of both. */
int hf_vnode_project_check(const struct hf_vnode *dir, const struct hf_vnode *vnode);
/* Owner and project change, and with them who is charged. Caller: io x. -EDQUOT: nothing has changed. */
int hf_vnode_change_owner(struct hf_vnode *vnode, uint32_t uid, uint32_t gid, uint32_t project);
/* ---- fallocate.c */
int hf_vfs_fallocate(struct hf_file *file, int mode, hf_off_t off, hf_off_t len);
/* ---- seek.c */
hf_off_t hf_vnode_seek(struct hf_vnode *vnode, hf_off_t off, int whence);
/* ---- sync.c */
/* Data of [start, end), and the size, durable. */
int hf_vnode_sync(struct hf_vnode *vnode, hf_off_t start, hf_off_t end, bool datasync);
/* Data and attributes to the driver, not yet durable. wb_flags: HF_WB_SYNC
 * always (a size may be told only when the data below it has been written),
 * and HF_WB_DATA: attributes may stay behind if the size is known. */
#define HF_WB_DATA 0x100u
bool hf_vnode_is_dirty(struct hf_vnode *vnode);
int hf_vnode_write(struct hf_vnode *vnode, hf_off_t start, hf_off_t end, unsigned wb_flags);
int hf_vfs_fsync(struct hf_file *file, hf_off_t start, hf_off_t end, bool datasync);
int hf_vfs_sync(struct hf_volume *volume);
int hf_flusher_start(struct hf_volume *volume);
void hf_flusher_stop(struct hf_volume *volume);
/* ---- xattr.c: as the public calls. Buffers may lie in mappings. */
/* What can be said of the arguments alone; copies the name. */
int hf_xattr_check(const char *name, size_t size, int flags, char ret_copy[HF_XATTR_NAME_MAX + 1]);
ssize_t hf_vnode_getxattr(struct hf_vnode *vnode, const char *name, void *buf, size_t size);
ssize_t hf_vnode_listxattr(struct hf_vnode *vnode, char *buf, size_t size);
int hf_vnode_setxattr(struct hf_vnode *vnode, const char *name, const void *value, size_t size, int flags);
int hf_vnode_removexattr(struct hf_vnode *vnode, const char *name);
/* ---- dir.c */
int hf_vnode_opendir(struct hf_vnode *vnode, struct hf_dir **ret_dir);
int hf_vfs_opendir(struct hf_volume *volume, const char *path, struct hf_dir **ret_dir);
int hf_vfs_readdir(struct hf_dir *dir, struct hf_dirent *ret_entry);
void hf_vfs_closedir(struct hf_dir *dir);

static inline struct hf_vnode *hf_vnode_of(struct hf_inode *inode)
{
    return hf_container_of(inode, struct hf_vnode, inode);
}
static inline const struct hf_driver *hf_vnode_driver(const struct hf_vnode *vnode)
{
    return vnode->inode.sb->driver;
}

#endif
