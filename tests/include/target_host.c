/* SPDX-License-Identifier: MIT */
/*
 * target_host.c - the host's kernel as a target: the oracle.
 *
 * The process changes into a new directory, so that relative paths reach the kernel unchanged
 * (ENAMETOOLONG and ELOOP depend on that). A leading slash is taken off, as Holdfast's paths start at the
 * root.
 */
#include "mounted.h"
#include "target.h"

#include <dirent.h>
#include <ftw.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#define RENAME_EXCHANGE_FLAG 2u

static int errno_of(long result)
{
    return result < 0 ? -errno : (int)result;
}

static ssize_t errno_of_size(ssize_t result)
{
    return result < 0 ? -errno : result;
}

static const char *host_path(const char *path)
{
    if (path[0] != '/')
        return path;
    while (*path == '/')
        path++;
    return *path ? path : ".";
}

static bool is_tmpfs(const char *dir)
{
    struct statfs fs;

    return statfs(dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* For TARGET_DISK a directory that is not tmpfs, if there is one. */
static const char *host_base(enum target_kind kind)
{
    const char *const candidates[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};

    if (kind == TARGET_SHM)
        return "/dev/shm";
    if (kind == TARGET_MOUNT)
        return target_mount.dir;
    for (size_t i = 0; i < ARRAY_LEN(candidates); i++) {
        if (candidates[i] && access(candidates[i], W_OK) == 0 && !is_tmpfs(candidates[i]))
            return candidates[i];
    }
    return "/tmp";
}

/* What this filesystem of the host can do, found out by doing it. */
static void host_probe(struct target *t)
{
    struct stat st = {0};
    struct statvfs vfs;
    int fd = open("probe", O_RDWR | O_CREAT, 0600);

    if (fd >= 0) {
        t->has_zero_range = fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 4096) == 0;
        t->has_user_xattrs = fsetxattr(fd, "user.probe", "", 0, 0) == 0;
        t->has_root_xattrs = fsetxattr(fd, "trusted.probe", "", 0, 0) == 0;
        close(fd);
    }
    if (mkdir("probe-dir", 0700) == 0 && stat("probe-dir", &st) == 0)
        t->counts_dir_links = st.st_nlink == 2;
    t->has_exchange =
        syscall(SYS_renameat2, AT_FDCWD, "probe", AT_FDCWD, "probe-dir", RENAME_EXCHANGE_FLAG) == 0;
    t->times_stores = !is_tmpfs(t->path);
    t->has_relatime = statvfs(".", &vfs) == 0 && (vfs.f_flag & ST_RELATIME) && !(vfs.f_flag & ST_NOATIME);
    (void)!unlink(t->has_exchange ? "probe-dir" : "probe");
    (void)!rmdir(t->has_exchange ? "probe" : "probe-dir");
}

static int host_start(struct target *t)
{
    snprintf(t->path, sizeof(t->path), "%s/holdfast-test-XXXXXX", host_base(t->spec->kind));
    if (!mkdtemp(t->path) || chdir(t->path) < 0)
        return -errno;
    umask(0);
    t->block_size = t->page_size = (uint32_t)sysconf(_SC_PAGESIZE);
    host_probe(t);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int host_stop(struct target *t)
{
    if (chdir("/") < 0)
        return -errno;
    return nftw(t->path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 ? -errno : 0;
}

static int host_reopen(struct target *t)
{
    (void)t;
    return 0;
}

static int host_open(struct target *t, const char *path, int flags, mode_t mode, struct target_file *ret_file)
{
    int fd = open(host_path(path), flags | O_CLOEXEC, mode);

    if (fd < 0)
        return -errno;
    *ret_file = (struct target_file){.target = t, .fd = fd};
    return 0;
}

static int host_close(struct target_file *file)
{
    return errno_of(close(file->fd));
}

static ssize_t host_pread(struct target_file *file, void *buf, size_t len, hf_off_t off)
{
    return errno_of_size(pread(file->fd, buf, len, off));
}

static ssize_t host_pwrite(struct target_file *file, const void *buf, size_t len, hf_off_t off)
{
    return errno_of_size(pwrite(file->fd, buf, len, off));
}

static ssize_t host_read(struct target_file *file, void *buf, size_t len)
{
    return errno_of_size(read(file->fd, buf, len));
}

static ssize_t host_write(struct target_file *file, const void *buf, size_t len)
{
    return errno_of_size(write(file->fd, buf, len));
}

static hf_off_t host_lseek(struct target_file *file, hf_off_t off, int whence)
{
    off_t at = lseek(file->fd, off, whence);

    return at < 0 ? -errno : at;
}

static int host_ftruncate(struct target_file *file, hf_off_t size)
{
    return errno_of(ftruncate(file->fd, size));
}

static int host_fallocate(struct target_file *file, int mode, hf_off_t off, hf_off_t len)
{
    return errno_of(fallocate(file->fd, mode, off, len));
}

static int host_fsync(struct target_file *file)
{
    return errno_of(fsync(file->fd));
}

static int host_fdatasync(struct target_file *file)
{
    return errno_of(fdatasync(file->fd));
}

static int host_fstat(struct target_file *file, struct stat *ret_stat)
{
    return errno_of(fstat(file->fd, ret_stat));
}

static int host_fchmod(struct target_file *file, mode_t mode)
{
    return errno_of(fchmod(file->fd, mode));
}

static int host_futimens(struct target_file *file, const struct timespec times[2])
{
    return errno_of(futimens(file->fd, times));
}

static int host_mmap(struct target_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off,
                     void **ret_addr)
{
    void *at = mmap(addr, len, prot, flags, file->fd, off);

    if (at == MAP_FAILED)
        return -errno;
    *ret_addr = at;
    return 0;
}

static int host_munmap(struct target *t, void *addr, size_t len)
{
    (void)t;
    return errno_of(munmap(addr, len));
}

static int host_mremap(struct target *t, void *addr, size_t old_len, size_t new_len, int flags,
                       void **ret_addr)
{
    void *at = mremap(addr, old_len, new_len, flags);

    (void)t;
    if (at == MAP_FAILED)
        return -errno;
    *ret_addr = at;
    return 0;
}

static int host_mprotect(struct target *t, void *addr, size_t len, int prot)
{
    (void)t;
    return errno_of(mprotect(addr, len, prot));
}

static int host_msync(struct target *t, void *addr, size_t len, int flags)
{
    (void)t;
    return errno_of(msync(addr, len, flags));
}

static int host_stat(struct target *t, const char *path, struct stat *ret_stat)
{
    (void)t;
    return errno_of(stat(host_path(path), ret_stat));
}

static int host_lstat(struct target *t, const char *path, struct stat *ret_stat)
{
    (void)t;
    return errno_of(lstat(host_path(path), ret_stat));
}

static int host_truncate(struct target *t, const char *path, hf_off_t size)
{
    (void)t;
    return errno_of(truncate(host_path(path), size));
}

static int host_chmod(struct target *t, const char *path, mode_t mode)
{
    (void)t;
    return errno_of(chmod(host_path(path), mode));
}

static int host_utimens(struct target *t, const char *path, const struct timespec times[2], int flags)
{
    (void)t;
    return errno_of(utimensat(AT_FDCWD, host_path(path), times, flags));
}

static int host_mkdir(struct target *t, const char *path, mode_t mode)
{
    (void)t;
    return errno_of(mkdir(host_path(path), mode));
}

static int host_rmdir(struct target *t, const char *path)
{
    (void)t;
    return errno_of(rmdir(host_path(path)));
}

static int host_unlink(struct target *t, const char *path)
{
    (void)t;
    return errno_of(unlink(host_path(path)));
}

static int host_rename(struct target *t, const char *from, const char *to, unsigned flags)
{
    (void)t;
    return errno_of(syscall(SYS_renameat2, AT_FDCWD, host_path(from), AT_FDCWD, host_path(to), flags));
}

static int host_link(struct target *t, const char *from, const char *to)
{
    (void)t;
    return errno_of(link(host_path(from), host_path(to)));
}

static int host_symlink(struct target *t, const char *to, const char *path)
{
    (void)t;
    return errno_of(symlink(to, host_path(path)));
}

/* readlink(2) cuts silently; hf_readlink() tells the whole length, which lstat() knows here too. */
static ssize_t host_readlink(struct target *t, const char *path, char *buf, size_t size)
{
    struct stat st;
    ssize_t len = readlink(host_path(path), buf, size);

    (void)t;
    if (len < 0)
        return -errno;
    return lstat(host_path(path), &st) < 0 ? -errno : (ssize_t)st.st_size;
}

static int host_opendir(struct target *t, const char *path, struct target_dir *ret_dir)
{
    DIR *dir = opendir(host_path(path));

    if (!dir)
        return -errno;
    *ret_dir = (struct target_dir){.target = t, .host = dir};
    return 0;
}

static int host_readdir(struct target_dir *dir, struct hf_dirent *ret_entry)
{
    struct dirent *entry;

    errno = 0;
    entry = readdir(dir->host);
    if (!entry)
        return -errno;
    ret_entry->ino = entry->d_ino;
    ret_entry->cookie = (uint64_t)telldir(dir->host);
    ret_entry->type = entry->d_type;
    snprintf(ret_entry->name, sizeof(ret_entry->name), "%s", entry->d_name);
    return 1;
}

static void host_seekdir(struct target_dir *dir, uint64_t cookie)
{
    if (cookie == 0)
        rewinddir(dir->host);
    else
        seekdir(dir->host, (long)cookie);
}

static int host_closedir(struct target_dir *dir)
{
    return errno_of(closedir(dir->host));
}

/* ---- extended attributes */

static ssize_t host_getxattr(struct target *t, const char *path, int flags, const char *name, void *buf,
                             size_t size)
{
    (void)t;
    return errno_of_size(flags & AT_SYMLINK_NOFOLLOW ? lgetxattr(host_path(path), name, buf, size)
                                                     : getxattr(host_path(path), name, buf, size));
}

static ssize_t host_listxattr(struct target *t, const char *path, int flags, char *buf, size_t size)
{
    (void)t;
    return errno_of_size(flags & AT_SYMLINK_NOFOLLOW ? llistxattr(host_path(path), buf, size)
                                                     : listxattr(host_path(path), buf, size));
}

static int host_setxattr(struct target *t, const char *path, int flags, const char *name, const void *value,
                         size_t size, int how)
{
    (void)t;
    return errno_of(flags & AT_SYMLINK_NOFOLLOW ? lsetxattr(host_path(path), name, value, size, how)
                                                : setxattr(host_path(path), name, value, size, how));
}

static int host_removexattr(struct target *t, const char *path, int flags, const char *name)
{
    (void)t;
    return errno_of(flags & AT_SYMLINK_NOFOLLOW ? lremovexattr(host_path(path), name)
                                                : removexattr(host_path(path), name));
}

static ssize_t host_fgetxattr(struct target_file *file, const char *name, void *buf, size_t size)
{
    return errno_of_size(fgetxattr(file->fd, name, buf, size));
}

static ssize_t host_flistxattr(struct target_file *file, char *buf, size_t size)
{
    return errno_of_size(flistxattr(file->fd, buf, size));
}

static int host_fsetxattr(struct target_file *file, const char *name, const void *value, size_t size, int how)
{
    return errno_of(fsetxattr(file->fd, name, value, size, how));
}

static int host_fremovexattr(struct target_file *file, const char *name)
{
    return errno_of(fremovexattr(file->fd, name));
}

static int host_mknod(struct target *t, const char *path, mode_t mode, dev_t rdev)
{
    (void)t;
    return errno_of(mknod(host_path(path), mode, rdev));
}

/* Needs no capability, as AT_EMPTY_PATH does. */
static int host_flink(struct target_file *file, const char *path)
{
    char self[64];

    snprintf(self, sizeof(self), "/proc/self/fd/%d", file->fd);
    return errno_of(linkat(AT_FDCWD, self, AT_FDCWD, host_path(path), AT_SYMLINK_FOLLOW));
}

static int host_chown(struct target *t, const char *path, uid_t uid, gid_t gid)
{
    (void)t;
    return errno_of(chown(host_path(path), uid, gid));
}

const struct target_ops target_host_ops = {
    .start = host_start,
    .stop = host_stop,
    .reopen = host_reopen,
    .open = host_open,
    .close = host_close,
    .pread = host_pread,
    .pwrite = host_pwrite,
    .read = host_read,
    .write = host_write,
    .lseek = host_lseek,
    .ftruncate = host_ftruncate,
    .fallocate = host_fallocate,
    .fsync = host_fsync,
    .fdatasync = host_fdatasync,
    .fstat = host_fstat,
    .fchmod = host_fchmod,
    .futimens = host_futimens,
    .mmap = host_mmap,
    .munmap = host_munmap,
    .mremap = host_mremap,
    .mprotect = host_mprotect,
    .msync = host_msync,
    .stat = host_stat,
    .lstat = host_lstat,
    .truncate = host_truncate,
    .chmod = host_chmod,
    .utimens = host_utimens,
    .mkdir = host_mkdir,
    .rmdir = host_rmdir,
    .unlink = host_unlink,
    .rename = host_rename,
    .link = host_link,
    .symlink = host_symlink,
    .readlink = host_readlink,
    .opendir = host_opendir,
    .readdir = host_readdir,
    .seekdir = host_seekdir,
    .closedir = host_closedir,
    .getxattr = host_getxattr,
    .listxattr = host_listxattr,
    .setxattr = host_setxattr,
    .removexattr = host_removexattr,
    .fgetxattr = host_fgetxattr,
    .flistxattr = host_flistxattr,
    .fsetxattr = host_fsetxattr,
    .fremovexattr = host_fremovexattr,
    .mknod = host_mknod,
    .flink = host_flink,
    .chown = host_chown,
};
