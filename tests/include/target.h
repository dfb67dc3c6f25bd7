/* SPDX-License-Identifier: MIT */
/*
 * target.h - one test body, many filesystems.
 *
 * A test body gets a struct target and does its file calls through the t_*() functions. It is run on a
 * directory of the host, where the kernel is the oracle, and on Holdfast volumes of several drivers, block
 * sizes and page sizes; the same asserts must hold on all of them. Every call returns 0 or a count, or a
 * negative errno; outputs come last and are left alone on failure.
 *
 * target_host.c and target_holdfast.c fill struct target_ops; target.c makes one cmocka case of
 * each pair of body and target. Bodies that look inside use target->volume and say ON_HOLDFAST.
 */
#ifndef TESTS_TARGET_H
#define TESTS_TARGET_H

#include "catch.h"
#include "check.h"

#include <holdfast/holdfast.h>

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define KIB(n) ((hf_off_t)(n) << 10)
#define MIB(n) ((hf_off_t)(n) << 20)
/* Offsets that are multiples of this are multiples of every page and block size. */
#define UNIT KIB(64)

enum target_kind {
    TARGET_SHM,     /* tmpfs of the host */
    TARGET_DISK,    /* a real filesystem of the host */
    TARGET_MOUNT,   /* a volume mounted by holdfast mount, as the host sees it */
    TARGET_MEMFS,   /* Holdfast, "mem:" */
    TARGET_BLOCKFS, /* Holdfast, a volume in a temporary file */
};

/* Where a body makes sense. */
#define ON(kind) (1u << (kind))
#define ON_HOST (ON(TARGET_SHM) | ON(TARGET_DISK) | ON(TARGET_MOUNT))
#define ON_HOLDFAST (ON(TARGET_MEMFS) | ON(TARGET_BLOCKFS))
#define ON_ALL (ON_HOST | ON_HOLDFAST)
/* What outlives target_reopen(). */
#define ON_LASTING (ON_HOST | ON(TARGET_BLOCKFS))

struct target_spec {
    const char *name;
    enum target_kind kind;
    uint32_t block_size;         /* Holdfast: B */
    uint64_t size_bytes;         /* Holdfast: of the volume; 0: 32 MiB */
    uint64_t metadata_bytes;     /* blockfs; 0: default */
    struct hf_open_options open; /* Holdfast: P and the rest */
};

struct target;

struct target_file {
    struct target *target;
    int fd;             /* host */
    struct hf_file *hf; /* Holdfast */
};

struct target_dir {
    struct target *target;
    void *host;        /* DIR of the host */
    struct hf_dir *hf; /* Holdfast */
};

struct target_ops {
    int (*start)(struct target *t);
    int (*stop)(struct target *t);
    int (*reopen)(struct target *t);
    int (*open)(struct target *t, const char *path, int flags, mode_t mode, struct target_file *ret_file);
    int (*close)(struct target_file *file);
    ssize_t (*pread)(struct target_file *file, void *buf, size_t len, hf_off_t off);
    ssize_t (*pwrite)(struct target_file *file, const void *buf, size_t len, hf_off_t off);
    ssize_t (*read)(struct target_file *file, void *buf, size_t len);
    ssize_t (*write)(struct target_file *file, const void *buf, size_t len);
    hf_off_t (*lseek)(struct target_file *file, hf_off_t off, int whence);
    int (*ftruncate)(struct target_file *file, hf_off_t size);
    int (*fallocate)(struct target_file *file, int mode, hf_off_t off, hf_off_t len);
    int (*fsync)(struct target_file *file);
    int (*fdatasync)(struct target_file *file);
    int (*fstat)(struct target_file *file, struct stat *ret_stat);
    int (*fchmod)(struct target_file *file, mode_t mode);
    int (*futimens)(struct target_file *file, const struct timespec times[2]);
    int (*mmap)(struct target_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off,
                void **ret_addr);
    int (*munmap)(struct target *t, void *addr, size_t len);
    int (*mremap)(struct target *t, void *addr, size_t old_len, size_t new_len, int flags, void **ret_addr);
    int (*mprotect)(struct target *t, void *addr, size_t len, int prot);
    int (*msync)(struct target *t, void *addr, size_t len, int flags);
    int (*stat)(struct target *t, const char *path, struct stat *ret_stat);
    int (*lstat)(struct target *t, const char *path, struct stat *ret_stat);
    int (*truncate)(struct target *t, const char *path, hf_off_t size);
    int (*chmod)(struct target *t, const char *path, mode_t mode);
    int (*utimens)(struct target *t, const char *path, const struct timespec times[2], int flags);
    int (*mkdir)(struct target *t, const char *path, mode_t mode);
    int (*rmdir)(struct target *t, const char *path);
    int (*unlink)(struct target *t, const char *path);
    int (*rename)(struct target *t, const char *from, const char *to, unsigned flags);
    int (*link)(struct target *t, const char *from, const char *to);
    int (*symlink)(struct target *t, const char *to, const char *path);
    ssize_t (*readlink)(struct target *t, const char *path, char *buf, size_t size);
    int (*opendir)(struct target *t, const char *path, struct target_dir *ret_dir);
    int (*readdir)(struct target_dir *dir, struct hf_dirent *ret_entry);
    void (*seekdir)(struct target_dir *dir, uint64_t cookie);
    int (*closedir)(struct target_dir *dir);
    /* flags: 0 or AT_SYMLINK_NOFOLLOW */
    ssize_t (*getxattr)(struct target *t, const char *path, int flags, const char *name, void *buf,
                        size_t size);
    ssize_t (*listxattr)(struct target *t, const char *path, int flags, char *buf, size_t size);
    int (*setxattr)(struct target *t, const char *path, int flags, const char *name, const void *value,
                    size_t size, int how);
    int (*removexattr)(struct target *t, const char *path, int flags, const char *name);
    ssize_t (*fgetxattr)(struct target_file *file, const char *name, void *buf, size_t size);
    ssize_t (*flistxattr)(struct target_file *file, char *buf, size_t size);
    int (*fsetxattr)(struct target_file *file, const char *name, const void *value, size_t size, int how);
    int (*fremovexattr)(struct target_file *file, const char *name);
    int (*mknod)(struct target *t, const char *path, mode_t mode, dev_t rdev);
    int (*flink)(struct target_file *file, const char *path);
    int (*chown)(struct target *t, const char *path, uid_t uid, gid_t gid);
};

struct target {
    const struct target_ops *ops;
    const struct target_spec *spec;
    struct hf_volume *volume; /* Holdfast */
    uint32_t block_size;      /* Holdfast: B; host: the hardware page */
    uint32_t page_size;       /* Holdfast: P; host: the hardware page */
    char path[PATH_MAX];      /* host: the directory; blockfs: the volume file */
    bool has_exchange;        /* renameat2() flags work here */
    bool has_zero_range;      /* FALLOC_FL_ZERO_RANGE works here */
    bool counts_dir_links;    /* nlink of a directory is 2 + its subdirectories */
    bool times_stores;        /* a store through a mapping moves mtime */
    bool has_relatime;        /* reading moves atime as relatime of mount(8) says */
    bool has_user_xattrs;     /* extended attributes user.* */
    bool has_root_xattrs;     /* extended attributes trusted.* and security.* */
};

extern const struct target_ops target_host_ops;
extern const struct target_ops target_holdfast_ops;

bool target_is_host(const struct target *t);

/* Whole-volume helpers, on Holdfast; all assert. */
struct hf_statfs target_statfs(struct target *t);
struct hf_volume_stats target_stats(struct target *t);
/* Takes all free blocks but `blocks` into a file of this name. */
void target_fill_but(struct target *t, const char *ballast, uint64_t blocks);
/* Closes the volume and opens it again: only what is on the device remains. */
void target_reopen(struct target *t);

/* Calls used by most tests; all assert. */
struct target_file open_new(struct target *t, const char *path);
struct target_file open_old(struct target *t, const char *path, int flags);
void close_ok(struct target_file *file);
void make_file(struct target *t, const char *path, hf_off_t size, uint8_t fill);
void fill_range(struct target_file *file, hf_off_t off, size_t len, uint8_t fill);
void expect_range(struct target_file *file, hf_off_t off, size_t len, uint8_t fill);
struct stat stat_of(struct target_file *file);
struct stat stat_at(struct target *t, const char *path);
uint8_t *map_shared(struct target_file *file, hf_off_t off, size_t len);
uint8_t *map_with(struct target_file *file, hf_off_t off, size_t len, int prot, int flags);
void unmap_ok(struct target *t, void *addr, size_t len);
/* Nanoseconds of a timestamp, and a pause after which the clock of any target has moved. */
int64_t ns_of(struct timespec ts);
void wait_for_clock(void);

/* Re-executes this program as `--child NAME ARG...`, so that the library is in its first state. */
pid_t exec_child(const char *name, char *const args[]);
/* Runs fn in a forked child that leaves with its result. */
pid_t fork_child(int (*fn)(void *arg), void *arg);
/* Waits; returns the raw wait status. */
int wait_child(pid_t pid);
/* The child ended by exit(0); by this signal. */
void expect_exit_0(pid_t pid);
void expect_death_by(pid_t pid, int signo);

/* A new temporary file name for a volume; the caller unlinks it. */
void temp_path(const char *what, char *buf, size_t size);

/* ------------------------------------------------------------------ the program */

struct test_body {
    const char *name;
    void (*run)(struct target *t);
    unsigned where; /* ON_* */
};
#define BODY(fn, where)  \
    {                    \
#fn, fn, (where) \
    }

struct test_child {
    const char *name;
    int (*run)(int argc, char **argv); /* exit status; no cmocka in here */
};

#define NEEDS_ENGINE 0x1u /* leave with 77 where the engine that HF_ENGINE names does not work */

struct test_program {
    const char *name;
    const struct test_body *bodies;
    size_t nr_bodies;
    const struct target_spec *specs; /* NULL: target_posix_specs */
    size_t nr_specs;
    const struct test_child *children;
    size_t nr_children;
    unsigned flags;
};

/* main() of every test; argv: nothing, a cmocka filter on case names, or --child NAME. */
int target_main(int argc, char **argv, const struct test_program *program);

/* Host directories, memfs and blockfs, with small, equal and large blocks and pages. */
extern const struct target_spec target_posix_specs[];
extern const size_t target_nr_posix_specs;

/*
 * One blockfs target as the environment says: HF_TEST_P, HF_TEST_B (bytes), HF_TEST_ISIZE (page-lock or
 * hole-lock). Writeback by age is off, so that a test decides what is written when.
 */
struct target_spec target_spec_from_env(void);

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#define TEST_MAIN(program_name, bodies_array)     \
    int main(int argc, char **argv)               \
    {                                             \
        struct test_program program = {           \
            .name = (program_name),               \
            .bodies = (bodies_array),             \
            .nr_bodies = ARRAY_LEN(bodies_array), \
        };                                        \
        return target_main(argc, argv, &program); \
    }

/* ------------------------------------------------------------------ the calls */

static inline int t_open(struct target *t, const char *path, int flags, mode_t mode, struct target_file *ret)
{
    return t->ops->open(t, path, flags, mode, ret);
}

static inline int t_close(struct target_file *file)
{
    return file->target->ops->close(file);
}

static inline ssize_t t_pread(struct target_file *file, void *buf, size_t len, hf_off_t off)
{
    return file->target->ops->pread(file, buf, len, off);
}

static inline ssize_t t_pwrite(struct target_file *file, const void *buf, size_t len, hf_off_t off)
{
    return file->target->ops->pwrite(file, buf, len, off);
}

static inline ssize_t t_read(struct target_file *file, void *buf, size_t len)
{
    return file->target->ops->read(file, buf, len);
}

static inline ssize_t t_write(struct target_file *file, const void *buf, size_t len)
{
    return file->target->ops->write(file, buf, len);
}

static inline hf_off_t t_lseek(struct target_file *file, hf_off_t off, int whence)
{
    return file->target->ops->lseek(file, off, whence);
}

static inline int t_ftruncate(struct target_file *file, hf_off_t size)
{
    return file->target->ops->ftruncate(file, size);
}

static inline int t_fallocate(struct target_file *file, int mode, hf_off_t off, hf_off_t len)
{
    return file->target->ops->fallocate(file, mode, off, len);
}

static inline int t_fsync(struct target_file *file)
{
    return file->target->ops->fsync(file);
}

static inline int t_fdatasync(struct target_file *file)
{
    return file->target->ops->fdatasync(file);
}

static inline int t_fstat(struct target_file *file, struct stat *ret_stat)
{
    return file->target->ops->fstat(file, ret_stat);
}

static inline int t_fchmod(struct target_file *file, mode_t mode)
{
    return file->target->ops->fchmod(file, mode);
}

static inline int t_futimens(struct target_file *file, const struct timespec times[2])
{
    return file->target->ops->futimens(file, times);
}

static inline int t_mmap(struct target_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off,
                         void **ret_addr)
{
    return file->target->ops->mmap(file, addr, len, prot, flags, off, ret_addr);
}

static inline int t_munmap(struct target *t, void *addr, size_t len)
{
    return t->ops->munmap(t, addr, len);
}

static inline int t_mremap(struct target *t, void *addr, size_t old_len, size_t new_len, int flags,
                           void **ret)
{
    return t->ops->mremap(t, addr, old_len, new_len, flags, ret);
}

static inline int t_mprotect(struct target *t, void *addr, size_t len, int prot)
{
    return t->ops->mprotect(t, addr, len, prot);
}

static inline int t_msync(struct target *t, void *addr, size_t len, int flags)
{
    return t->ops->msync(t, addr, len, flags);
}

static inline int t_stat(struct target *t, const char *path, struct stat *ret_stat)
{
    return t->ops->stat(t, path, ret_stat);
}

static inline int t_lstat(struct target *t, const char *path, struct stat *ret_stat)
{
    return t->ops->lstat(t, path, ret_stat);
}

static inline int t_truncate(struct target *t, const char *path, hf_off_t size)
{
    return t->ops->truncate(t, path, size);
}

static inline int t_chmod(struct target *t, const char *path, mode_t mode)
{
    return t->ops->chmod(t, path, mode);
}

static inline int t_utimens(struct target *t, const char *path, const struct timespec times[2], int flags)
{
    return t->ops->utimens(t, path, times, flags);
}

static inline int t_mkdir(struct target *t, const char *path, mode_t mode)
{
    return t->ops->mkdir(t, path, mode);
}

static inline int t_rmdir(struct target *t, const char *path)
{
    return t->ops->rmdir(t, path);
}

static inline int t_unlink(struct target *t, const char *path)
{
    return t->ops->unlink(t, path);
}

static inline int t_rename(struct target *t, const char *from, const char *to, unsigned flags)
{
    return t->ops->rename(t, from, to, flags);
}

static inline int t_link(struct target *t, const char *from, const char *to)
{
    return t->ops->link(t, from, to);
}

static inline int t_symlink(struct target *t, const char *to, const char *path)
{
    return t->ops->symlink(t, to, path);
}

static inline ssize_t t_readlink(struct target *t, const char *path, char *buf, size_t size)
{
    return t->ops->readlink(t, path, buf, size);
}

static inline int t_opendir(struct target *t, const char *path, struct target_dir *ret_dir)
{
    return t->ops->opendir(t, path, ret_dir);
}

static inline int t_readdir(struct target_dir *dir, struct hf_dirent *ret_entry)
{
    return dir->target->ops->readdir(dir, ret_entry);
}

static inline void t_seekdir(struct target_dir *dir, uint64_t cookie)
{
    dir->target->ops->seekdir(dir, cookie);
}

static inline int t_closedir(struct target_dir *dir)
{
    return dir->target->ops->closedir(dir);
}

#endif
