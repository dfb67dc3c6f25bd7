/* SPDX-License-Identifier: MIT */
/*
 * holdfast.h - files and mappings whose stores are never lost.
 *
 * A volume holds files. A file can be read, written and mapped; one cache stands behind
 * all three, so they agree at once. A store to a mapping either has its blocks (allocated
 * or reserved) or is refused at that store, with ENOSPC, EDQUOT or EIO: see hf_guard(),
 * hf_store(), hf_reserve() and hf_last_fault().
 *
 * Conventions
 *   Errors   0 or a count on success, a negative errno on failure. Outputs are the last
 *            arguments, named ret_*, and are left alone on failure.
 *   Paths    are UTF-8-agnostic bytes, resolved from the volume's root; a leading slash
 *            is optional. A name is at most 255 bytes, a path at most 4095.
 *   Threads  every call may be made from any thread at any time. Calls may block on I/O
 *            unless they say otherwise. No call may be made from a signal handler unless
 *            it says so; a *store* to a mapping may be made there.
 *   fork     the child does not inherit mappings (a touch is SIGSEGV), and every call in
 *            the child that names a parent's volume, file or mapping returns -ESTALE.
 *   Signals  asynchronous signals stay pending while a call runs; SIGBUS and SIGSEGV of
 *            mappings are handled, all others are passed on to the handlers that were
 *            installed before the first hf_mmap().
 */
#ifndef HOLDFAST_HOLDFAST_H
#define HOLDFAST_HOLDFAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HF_VERSION_MAJOR 0
#define HF_VERSION_MINOR 1
#define HF_VERSION_PATCH 0

#define HF_NAME_MAX 255
#define HF_PATH_MAX 4096
#define HF_LINK_MAX 2147483647u
#define HF_BLOCK_SIZE_MIN 512u
#define HF_BLOCK_SIZE_MAX 65536u
#define HF_PAGE_SIZE_MAX 65536u
/* The largest i_size, in bytes: 2^55. Beyond it the answer is -EFBIG. */
#define HF_FILE_SIZE_MAX ((hf_off_t)1 << 55)

/* A byte offset or size in a file. */
typedef int64_t hf_off_t;

struct hf_volume; /* an open volume */
struct hf_file;   /* an open file description, as of open(2) */
struct hf_dir;    /* an open directory stream */
struct hf_device; /* where a volume's bytes are kept: <holdfast/device.h> */

/* ------------------------------------------------------------------ volumes */

/* How hf_mkfs() formats. Zero in a field means its default. */
struct hf_mkfs_options {
    uint64_t size_bytes;     /* of the volume; 0: the whole of an existing file or device */
    uint32_t block_size;     /* B, bytes: a power of two, 512 ... 65536; default 4096 */
    uint64_t metadata_bytes; /* of the metadata region; default: holds one extent per block */
    bool thin;               /* do not preallocate; space is asked of the device as it is reserved */
    bool force;              /* overwrite something that already holds a volume */
    char label[64];          /* NUL-terminated */
};

/*
 * Formats a regular file (created if missing) or a block device as a blockfs volume.
 * opts may be NULL. Returns 0; -EEXIST: holds a volume and !force; -EINVAL: bad block size
 * or label; -ENOSPC: too small, or the host has no room for a thick volume; -EBUSY: open.
 */
int hf_mkfs(const char *path, const struct hf_mkfs_options *opts);

/* How i_size and the straddling page are kept together (DESIGN 5). */
enum hf_isize_sync {
    HF_ISIZE_DEFAULT = 0, /* page-lock */
    HF_ISIZE_PAGE_LOCK,   /* Piggin: the page lock of the straddling page */
    HF_ISIZE_HOLE_LOCK,   /* Kara: a lock of its own on the straddling index */
    HF_ISIZE_NONE,        /* negative control; -EINVAL except in test builds */
};

#define HF_OPEN_READ_ONLY 0x1u /* nothing is written to the device, not even a mount mark */
/* When reading moves atime. Default, as "relatime" of mount(8): if it is not after mtime and ctime, or a day
 * old. It is written to the device with the inode's other attributes, or when the inode leaves memory. */
#define HF_OPEN_NOATIME 0x2u     /* never; also by O_NOATIME of an open file */
#define HF_OPEN_STRICTATIME 0x4u /* always; -EINVAL together with HF_OPEN_NOATIME */
/* Whoever writes has CAP_FSETID: set-user-ID and set-group-ID bits stay when a file's content changes.
 * Otherwise write, truncate and fallocate take them, as the kernel does for unprivileged writers. For
 * frontends whose kernel asks for that itself. chown always takes them. */
#define HF_OPEN_KEEP_SUID 0x8u
/* Blocks that files give back are told to the device as soon as the commit that freed them is durable, before
 * somebody else gets them: a thin volume in a file gives their space back to the host, and asks for it anew.
 * Without effect where hf_volume_trim() cannot work. What the device answers is not reported. */
#define HF_OPEN_DISCARD 0x10u

/* How hf_volume_open() opens. Zero in a field means its default. */
struct hf_open_options {
    uint32_t flags;     /* HF_OPEN_* */
    uint32_t page_size; /* P, bytes: hardware page ... 65536, power of two, >= B; default
                           the larger of the hardware page and B */
    enum hf_isize_sync isize_sync;
    uint64_t cache_bytes;  /* limit of cached pages; default an eighth of RAM, least 64 P */
    uint64_t dirty_bytes;  /* writers wait above this many dirty bytes; default cache/4 */
    uint32_t writeback_ms; /* age at which a dirty page is written, and names are committed; default 5000 */
};

/*
 * Opens the blockfs volume at path ("mem:SIZE" with an optional K, M or G: an empty memfs volume, for tests
 * and scratch; its B is mem:SIZE,BLOCKSIZE or 4096). ret_volume: owned by the caller, freed by
 * hf_volume_close(). Returns 0; -EBUSY: open elsewhere; -EUCLEAN: damaged (hf_volume_error_text() says what);
 * -EPROTONOSUPPORT: newer version; -EMEDIUMTYPE: not a volume; -EINVAL: an option;
 * or what opening the file returned.
 */
int hf_volume_open(const char *path, const struct hf_open_options *opts, struct hf_volume **ret_volume);

/*
 * The same on a device of the caller's; the volume owns dev from here on, even on failure.
 */
int hf_volume_open_device(struct hf_device *dev, const struct hf_open_options *opts,
                          struct hf_volume **ret_volume);

/* The last hf_mkfs() or hf_volume_open*() failure of this thread as one line for people; never NULL. */
const char *hf_volume_error_text(void);

/*
 * Writes everything, commits, checks for leaked reservations, and frees the volume.
 * Returns 0; -EBUSY: files, directories or mappings are still open, nothing was done;
 * -EIO: something could not be written (the volume is closed all the same);
 * -ENOTRECOVERABLE: a reservation leaked (HOLD-8; a bug in Holdfast).
 */
int hf_volume_close(struct hf_volume *volume);

/* Makes everything accepted so far durable. Returns 0, or the first error met. */
int hf_volume_sync(struct hf_volume *volume);

/* Space in blocks and inodes; free and avail do not count what is reserved. */
struct hf_statfs {
    uint32_t block_size;      /* B, bytes */
    uint32_t page_size;       /* P, bytes */
    uint64_t blocks;          /* data blocks of the volume */
    uint64_t blocks_free;     /* neither allocated nor reserved */
    uint64_t blocks_reserved; /* promised and not yet allocated */
    uint64_t inodes;          /* in use */
    uint64_t inodes_free;
    uint8_t uuid[16];
    char label[64];
    char driver[16];
    bool thin;
};
int hf_volume_statfs(struct hf_volume *volume, struct hf_statfs *ret_statfs);

/* Counters since open; pages are of P bytes. */
struct hf_volume_stats {
    uint64_t faults_load, faults_store; /* faults decided */
    uint64_t faults_refused;            /* of them refused */
    uint64_t faults_slow;               /* handed to a service thread */
    uint64_t mkwrites, mkcleans;        /* pages made writable, write-protected */
    uint64_t pages_read, pages_written; /* from and to the driver */
    uint64_t zero_blocks_released;      /* hole blocks found all zero at writeback */
    uint64_t pages_reclaimed;
    uint64_t cached_pages, dirty_pages; /* now */
    uint64_t writeback_errors;
};
int hf_volume_stats(struct hf_volume *volume, struct hf_volume_stats *ret_stats);

/* ------------------------------------------------------------------ files */

/*
 * Opens path. flags: O_RDONLY, O_WRONLY, O_RDWR with O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW,
 * O_DIRECTORY, O_SYNC, O_DSYNC, O_TMPFILE, O_NOATIME as of open(2). mode: permission bits of a new file (no
 * umask). Fifos, sockets and devices can be named, not opened (-ENXIO): their drivers are a kernel's.
 */
int hf_open(struct hf_volume *volume, const char *path, int flags, mode_t mode, struct hf_file **ret_file);

/*
 * Closes. Mappings of the file live on. Returns 0, or the writeback error that this open
 * file has not been told yet (the file is closed all the same).
 */
int hf_close(struct hf_file *file);

/* As pread(2), pwrite(2). A short count means: the next byte had the error. Buffers may lie in mappings. */
ssize_t hf_pread(struct hf_file *file, void *buf, size_t len, hf_off_t off);
ssize_t hf_pwrite(struct hf_file *file, const void *buf, size_t len, hf_off_t off);
/* At and with the file position, as read(2) and write(2); O_APPEND writes are atomic. */
ssize_t hf_read(struct hf_file *file, void *buf, size_t len);
ssize_t hf_write(struct hf_file *file, const void *buf, size_t len);
/* As lseek(2), with SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE. */
hf_off_t hf_lseek(struct hf_file *file, hf_off_t off, int whence);

/* As ftruncate(2): the size changes, or nothing does (HOLD-6); one exception: an error from freeing
 * blocks is reported although the new size stands, and they are freed at the next open. */
int hf_ftruncate(struct hf_file *file, hf_off_t size);
/* As fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]; else -EOPNOTSUPP. */
int hf_fallocate(struct hf_file *file, int mode, hf_off_t off, hf_off_t len);

/* As fsync(2), fdatasync(2). A writeback error is reported once to each open file; the pages stay dirty. */
int hf_fsync(struct hf_file *file);
int hf_fdatasync(struct hf_file *file);

/* Gives an open file a (further) name, as linkat(2) with AT_EMPTY_PATH. One whose last name is gone gets none
 * (-ENOENT), but one of O_TMPFILE without O_EXCL does, once. */
int hf_flink(struct hf_file *file, const char *path);

/* st_blocks counts what the file has and what is promised to it and not stored yet, so data that was only
 * written or stored is never taken for a hole. After a sync it is exact, but for ranges of hf_reserve(). */
int hf_fstat(struct hf_file *file, struct stat *ret_stat);
int hf_fchmod(struct hf_file *file, mode_t mode);
int hf_fchown(struct hf_file *file, uid_t uid, gid_t gid); /* (uid_t)-1: leave alone */
int hf_futimens(struct hf_file *file, const struct timespec times[2]);

/* ------------------------------------------------------------------ names */

int hf_stat(struct hf_volume *volume, const char *path, struct stat *ret_stat);
int hf_lstat(struct hf_volume *volume, const char *path, struct stat *ret_stat);
int hf_truncate(struct hf_volume *volume, const char *path, hf_off_t size);
int hf_chmod(struct hf_volume *volume, const char *path, mode_t mode);
int hf_chown(struct hf_volume *volume, const char *path, uid_t uid, gid_t gid); /* follows symlinks */
int hf_lchown(struct hf_volume *volume, const char *path, uid_t uid, gid_t gid);
/* flags: 0 or AT_SYMLINK_NOFOLLOW */
int hf_utimens(struct hf_volume *volume, const char *path, const struct timespec times[2], int flags);
int hf_mkdir(struct hf_volume *volume, const char *path, mode_t mode);
/* As mknod(2): mode has S_IFREG (or no type), S_IFIFO, S_IFSOCK, S_IFCHR or S_IFBLK, and permissions; rdev is
 * for the last two. Who may make devices is the caller's affair. -EPERM: a directory. */
int hf_mknod(struct hf_volume *volume, const char *path, mode_t mode, dev_t rdev);
int hf_rmdir(struct hf_volume *volume, const char *path);
int hf_unlink(struct hf_volume *volume, const char *path);
/* As renameat2(2): flags 0, RENAME_NOREPLACE or RENAME_EXCHANGE. */
int hf_rename(struct hf_volume *volume, const char *from, const char *to, unsigned flags);
/* An inode has HF_LINK_MAX names at most, a directory so many subdirectories: -EMLINK. */
int hf_link(struct hf_volume *volume, const char *from, const char *to);
int hf_symlink(struct hf_volume *volume, const char *target, const char *path);
/* Writes at most size bytes, no NUL. Returns the target's length (which may exceed size). */
ssize_t hf_readlink(struct hf_volume *volume, const char *path, char *buf, size_t size);

struct hf_dirent {
    uint64_t ino;
    uint64_t cookie;    /* hf_seekdir() to here continues after this entry */
    unsigned char type; /* DT_* */
    char name[HF_NAME_MAX + 1];
};
int hf_opendir(struct hf_volume *volume, const char *path, struct hf_dir **ret_dir);
/* Returns 1 and an entry, 0 at the end. "." and ".." come first. Stable under change, as POSIX asks. */
int hf_readdir(struct hf_dir *dir, struct hf_dirent *ret_entry);
void hf_seekdir(struct hf_dir *dir, uint64_t cookie);
int hf_closedir(struct hf_dir *dir);

/* ------------------------------------------------------------------ permissions */

/* On whose behalf something is asked; user 0 may do what CAP_DAC_OVERRIDE and CAP_FOWNER allow. */
struct hf_caller {
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* supplementary; may be NULL if nr_groups is 0 */
    size_t nr_groups;
};
/*
 * Whether the permission bits allow it, as access(2) for that caller: mask is F_OK, or R_OK, W_OK, X_OK
 * or'ed. Directories on the way must be searchable; symlinks are followed. The library enforces nothing by
 * itself; access control lists are not looked at. Returns 0; -EACCES; -EROFS; -EINVAL: mask; or why the path
 * leads nowhere.
 */
int hf_access(struct hf_volume *volume, const char *path, const struct hf_caller *who, int mask);

/* ------------------------------------------------------------------ extended attributes */

#define HF_XATTR_NAME_MAX 255   /* bytes, without the NUL */
#define HF_XATTR_SIZE_MAX 65536 /* bytes of a value */

/*
 * As of xattr(7). Names begin with user. (on regular files and directories only), trusted., security. or
 * system.; the last three are kept as they are given: what they mean, and who may see or set them, is the
 * caller's affair. The l variants do not follow a symlink in the last component.
 *
 * get and list return the length; with size 0 nothing is written. -ENODATA: there is no such attribute;
 * -ERANGE: size is too small, or the name empty or too long; -EOPNOTSUPP: another namespace, or a driver
 * without attributes; -EINVAL: a namespace and nothing after it. A list is names with their NULs, in no
 * order.
 */
ssize_t hf_getxattr(struct hf_volume *volume, const char *path, const char *name, void *buf, size_t size);
ssize_t hf_lgetxattr(struct hf_volume *volume, const char *path, const char *name, void *buf, size_t size);
ssize_t hf_fgetxattr(struct hf_file *file, const char *name, void *buf, size_t size);
ssize_t hf_listxattr(struct hf_volume *volume, const char *path, char *buf, size_t size);
ssize_t hf_llistxattr(struct hf_volume *volume, const char *path, char *buf, size_t size);
ssize_t hf_flistxattr(struct hf_file *file, char *buf, size_t size);
/*
 * flags: 0, XATTR_CREATE (-EEXIST if it is there), XATTR_REPLACE (-ENODATA if it is not). -E2BIG: the value
 * is too long; -ENOSPC: no room for it in the metadata; -EPERM: user. on something else than a file or
 * directory; -EROFS. Atomic; durable with hf_fsync() of the file or hf_volume_sync().
 */
int hf_setxattr(struct hf_volume *volume, const char *path, const char *name, const void *value, size_t size,
                int flags);
int hf_lsetxattr(struct hf_volume *volume, const char *path, const char *name, const void *value, size_t size,
                 int flags);
int hf_fsetxattr(struct hf_file *file, const char *name, const void *value, size_t size, int flags);
/* -ENODATA, -EPERM, -EROFS. */
int hf_removexattr(struct hf_volume *volume, const char *path, const char *name);
int hf_lremovexattr(struct hf_volume *volume, const char *path, const char *name);
int hf_fremovexattr(struct hf_file *file, const char *name);

/* ------------------------------------------------------------------ mappings */

/*
 * STORE-PATH 1/9: the application stores to a mapping, with an ordinary instruction. The way from there to
 * durable bytes is marked STORE-PATH 2/9 ... 9/9 in the sources; ARCHITECTURE.md follows it.
 */

/* The mapping may be handed to system calls: faults are served by a thread, not by the faulting one. */
#define HF_MAP_SYSCALLS 0x1000000

/*
 * Maps len bytes of the file at off. addr: a hint (exact with MAP_FIXED_NOREPLACE, replaced mappings with
 * MAP_FIXED). prot: PROT_READ, PROT_WRITE. flags: MAP_SHARED or MAP_PRIVATE, MAP_FIXED, MAP_FIXED_NOREPLACE,
 * HF_MAP_SYSCALLS. off: bytes, a multiple of the hardware page. The mapping outlives hf_close() and
 * hf_unlink(). Returns 0; -EINVAL; -EACCES: file not opened for it; -ENODEV: not a regular file; -ENOMEM;
 * -EEXIST (MAP_FIXED_NOREPLACE); -EOPNOTSUPP: HF_MAP_SYSCALLS, and this machine refuses what it needs (then
 * call hf_fault_in() before the system call). A touch beyond the hardware page that holds EOF is SIGBUS, as
 * POSIX says (hf_last_fault(): ENXIO), whatever P is.
 */
int hf_mmap(struct hf_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off, void **ret_addr);
/* Unmaps; may cut mappings in pieces. Ranges that are not Holdfast's give -EINVAL. */
int hf_munmap(void *addr, size_t len);
/* As mremap(2): flags 0, MREMAP_MAYMOVE. old_len must lie in one mapping. */
int hf_mremap(void *old_addr, size_t old_len, size_t new_len, int flags, void **ret_addr);
/* As mprotect(2) on mappings of Holdfast: PROT_READ, PROT_WRITE, PROT_NONE. */
int hf_mprotect(void *addr, size_t len, int prot);
/* As msync(2): MS_SYNC makes the range durable and reports as hf_fsync() does; MS_ASYNC starts writing. */
int hf_msync(void *addr, size_t len, int flags);

/* ------------------------------------------------------------------ refused stores and loads */

/* What a refused store or load was refused for. */
struct hf_fault {
    int error;       /* ENOSPC, EDQUOT, EIO; ENXIO: beyond EOF; 0: none yet */
    bool write;      /* a store */
    void *addr;      /* where, in this process */
    hf_off_t offset; /* where, in the file, bytes */
    uint64_t ino;
    pid_t tid; /* the thread that stored */
};

/* The last refused access of the calling thread. Async-signal-safe: meant for SIGBUS handlers. */
void hf_last_fault(struct hf_fault *ret_fault);

/*
 * Calls fn(arg); if a store or load in it is refused, fn is left at once (by siglongjmp: no cleanup in
 * frames between) and the refusal's errno is returned, negative, with *ret_fault filled (may be NULL).
 * Nests; per thread; the signal mask is restored. Otherwise returns 0. The refused store changed nothing,
 * and the same store succeeds once there is space.
 */
int hf_guard(void (*fn)(void *arg), void *arg, struct hf_fault *ret_fault);

/*
 * memcpy to a mapping (hf_store) or from one (hf_load) that stops at the first refusal.
 * ret_done (may be NULL) is always written: how many bytes from the start were copied.
 * Returns 0 or the refusal's errno.
 */
int hf_store(void *dst, const void *src, size_t len, size_t *ret_done);
int hf_load(void *dst, const void *src, size_t len, size_t *ret_done);

/*
 * Reserves blocks for [addr, addr+len) of a shared writable mapping, so that no store in it is refused for
 * want of space until the range is truncated, punched, or the file's last user is gone. All or nothing.
 * Returns 0; -ENOSPC, -EDQUOT, -EIO; -ENXIO: beyond EOF; -EINVAL: not such a mapping.
 */
int hf_reserve(void *addr, size_t len);
/* Brings the range in (write: ready to be stored to), so that a system call on it does not fail.
 * Best effort: pages may leave again. Returns 0 or the refusal's errno. */
int hf_fault_in(void *addr, size_t len, bool write);

/* Which engine a default mapping gets here: "inline", "mprotect"; "thread" only if forced. */
const char *hf_engine_name(void);

/*
 * Does an engine work in this process? name: "inline", "thread" (mappings with HF_MAP_SYSCALLS) or
 * "mprotect"; what HF_ENGINE forces has no say. ret_why (may be NULL): one static line, written on failure
 * too: what the engine is built on, or what of it is missing here. Returns 0; -ENOSYS: the kernel has no
 * userfaultfd; -EPERM: it is refused (privilege, sysctl, sandbox); -EOPNOTSUPP: it lacks a feature; -EINVAL:
 * no such engine, ret_why is left alone; or what making a descriptor returned. Asked once, remembered
 * afterwards.
 */
int hf_engine_probe(const char *name, const char **ret_why);

/* ------------------------------------------------------------------ looking inside */

#define HF_BLOCKS_PER_PAGE_MAX 128
enum hf_block_state {
    HF_BLOCK_HOLE = 0,
    HF_BLOCK_RESERVED,
    HF_BLOCK_WRITTEN,
    HF_BLOCK_UNWRITTEN,
    HF_BLOCK_BEYOND
};
/* One page as the cache sees it now. */
struct hf_page_info {
    uint64_t index;                              /* in pages of P bytes */
    const char *state;                           /* name of the page state */
    uint16_t nr_blocks;                          /* P / B */
    bool straddling;                             /* holds the last byte, EOF not at its end */
    bool writable;                               /* some mapping can store to it without a fault */
    uint8_t block_state[HF_BLOCKS_PER_PAGE_MAX]; /* enum hf_block_state */
    bool block_dirty[HF_BLOCKS_PER_PAGE_MAX];
    bool block_uptodate[HF_BLOCKS_PER_PAGE_MAX];
};
/* Fills at most count pages from page index first. Returns how many there were up to EOF. */
int hf_page_map(struct hf_file *file, uint64_t first, unsigned count, struct hf_page_info *ret_pages);

#ifdef __cplusplus
}
#endif
#endif
