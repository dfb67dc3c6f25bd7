/* SPDX-License-Identifier: MIT */
/*
 * target_holdfast.c - Holdfast as a target: memfs in memory, or blockfs in a temporary volume file.
 *
 * The calls pass straight through; nothing is translated, so that what a body sees is what a program sees.
 */
#include "target.h"

#include <holdfast/quota.h>

#include <inttypes.h>

#define DEFAULT_VOLUME_BYTES ((uint64_t)32 << 20)

static int hold_open_volume(struct target *t)
{
    int ret = hf_volume_open(t->path, &t->spec->open, &t->volume);

    if (ret < 0)
        print_error("hf_volume_open(%s): %s\n", t->path, hf_volume_error_text());
    return ret;
}

static int hold_start(struct target *t)
{
    const struct target_spec *spec = t->spec;
    struct hf_statfs sfs;
    int ret;

    t->has_exchange = t->has_zero_range = t->counts_dir_links = t->times_stores = true;
    t->has_user_xattrs = t->has_root_xattrs = true;
    t->has_relatime = (spec->open.flags & (HF_OPEN_NOATIME | HF_OPEN_STRICTATIME)) == 0;
    if (spec->kind == TARGET_MEMFS) {
        snprintf(t->path, sizeof(t->path), "mem:%" PRIu64 ",%" PRIu32,
                 spec->size_bytes ? spec->size_bytes : DEFAULT_VOLUME_BYTES, spec->block_size);
    } else {
        struct hf_mkfs_options opts = {
            .size_bytes = spec->size_bytes ? spec->size_bytes : DEFAULT_VOLUME_BYTES,
            .block_size = spec->block_size,
            .metadata_bytes = spec->metadata_bytes,
            .force = true, /* a killed run may have left one under this name */
        };

        temp_path("volume", t->path, sizeof(t->path));
        ret = hf_mkfs(t->path, &opts);
        if (ret < 0) {
            print_error("hf_mkfs(%s): %s\n", t->path, hf_volume_error_text());
            return ret;
        }
    }
    ret = hold_open_volume(t);
    if (ret < 0)
        return ret;
    ret = hf_volume_statfs(t->volume, &sfs);
    if (ret < 0)
        return ret;
    t->block_size = sfs.block_size;
    t->page_size = sfs.page_size;
    return 0;
}

/* Whatever a test did: what every user, group and project is charged for agrees with a full scan. */
static int check_quota(struct target *t)
{
    struct hf_quota_check check;
    int ret = t->spec->kind == TARGET_BLOCKFS ? hf_quota_check(t->volume, &check) : 0;

    if (ret <= 0)
        return ret;
    fprintf(stderr,
            "# quota type %d id %u: %llu blocks kept, %llu found; %llu inodes kept, %llu found; %llu blocks "
            "reserved, %llu promised\n",
            (int)check.type, check.id, (unsigned long long)check.blocks_kept,
            (unsigned long long)check.blocks_found, (unsigned long long)check.inodes_kept,
            (unsigned long long)check.inodes_found, (unsigned long long)check.reserved_kept,
            (unsigned long long)check.reserved_found);
    return -EUCLEAN;
}

static int close_volume(struct target *t)
{
    int ret = check_quota(t), ret_close = hf_volume_close(t->volume);

    t->volume = NULL;
    return ret < 0 ? ret : ret_close;
}

static int hold_stop(struct target *t)
{
    int ret = t->volume ? close_volume(t) : 0;

    if (t->spec->kind == TARGET_BLOCKFS)
        unlink(t->path);
    return ret;
}

static int hold_reopen(struct target *t)
{
    int ret;

    if (t->spec->kind == TARGET_MEMFS)
        return -EOPNOTSUPP;
    ret = close_volume(t);
    return ret < 0 ? ret : hold_open_volume(t);
}

static int hold_open(struct target *t, const char *path, int flags, mode_t mode, struct target_file *ret_file)
{
    struct hf_file *file = NULL;
    int ret = hf_open(t->volume, path, flags, mode, &file);

    if (ret == 0)
        *ret_file = (struct target_file){.target = t, .fd = -1, .hf = file};
    return ret;
}

static int hold_close(struct target_file *file)
{
    return hf_close(file->hf);
}

static ssize_t hold_pread(struct target_file *file, void *buf, size_t len, hf_off_t off)
{
    return hf_pread(file->hf, buf, len, off);
}

static ssize_t hold_pwrite(struct target_file *file, const void *buf, size_t len, hf_off_t off)
{
    return hf_pwrite(file->hf, buf, len, off);
}

static ssize_t hold_read(struct target_file *file, void *buf, size_t len)
{
    return hf_read(file->hf, buf, len);
}

static ssize_t hold_write(struct target_file *file, const void *buf, size_t len)
{
    return hf_write(file->hf, buf, len);
}

static hf_off_t hold_lseek(struct target_file *file, hf_off_t off, int whence)
{
    return hf_lseek(file->hf, off, whence);
}

static int hold_ftruncate(struct target_file *file, hf_off_t size)
{
    return hf_ftruncate(file->hf, size);
}

static int hold_fallocate(struct target_file *file, int mode, hf_off_t off, hf_off_t len)
{
    return hf_fallocate(file->hf, mode, off, len);
}

static int hold_fsync(struct target_file *file)
{
    return hf_fsync(file->hf);
}

static int hold_fdatasync(struct target_file *file)
{
    return hf_fdatasync(file->hf);
}

static int hold_fstat(struct target_file *file, struct stat *ret_stat)
{
    return hf_fstat(file->hf, ret_stat);
}

static int hold_fchmod(struct target_file *file, mode_t mode)
{
    return hf_fchmod(file->hf, mode);
}

static int hold_futimens(struct target_file *file, const struct timespec times[2])
{
    return hf_futimens(file->hf, times);
}

static int hold_mmap(struct target_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off,
                     void **ret_addr)
{
    return hf_mmap(file->hf, addr, len, prot, flags, off, ret_addr);
}

static int hold_munmap(struct target *t, void *addr, size_t len)
{
    (void)t;
    return hf_munmap(addr, len);
}

static int hold_mremap(struct target *t, void *addr, size_t old_len, size_t new_len, int flags,
                       void **ret_addr)
{
    (void)t;
    return hf_mremap(addr, old_len, new_len, flags, ret_addr);
}

static int hold_mprotect(struct target *t, void *addr, size_t len, int prot)
{
    (void)t;
    return hf_mprotect(addr, len, prot);
}

static int hold_msync(struct target *t, void *addr, size_t len, int flags)
{
    (void)t;
    return hf_msync(addr, len, flags);
}

static int hold_stat(struct target *t, const char *path, struct stat *ret_stat)
{
    return hf_stat(t->volume, path, ret_stat);
}

static int hold_lstat(struct target *t, const char *path, struct stat *ret_stat)
{
    return hf_lstat(t->volume, path, ret_stat);
}

static int hold_truncate(struct target *t, const char *path, hf_off_t size)
{
    return hf_truncate(t->volume, path, size);
}

static int hold_chmod(struct target *t, const char *path, mode_t mode)
{
    return hf_chmod(t->volume, path, mode);
}

static int hold_utimens(struct target *t, const char *path, const struct timespec times[2], int flags)
{
    return hf_utimens(t->volume, path, times, flags);
}

static int hold_mkdir(struct target *t, const char *path, mode_t mode)
{
    return hf_mkdir(t->volume, path, mode);
}

static int hold_rmdir(struct target *t, const char *path)
{
    return hf_rmdir(t->volume, path);
}

static int hold_unlink(struct target *t, const char *path)
{
    return hf_unlink(t->volume, path);
}

static int hold_rename(struct target *t, const char *from, const char *to, unsigned flags)
{
    return hf_rename(t->volume, from, to, flags);
}

static int hold_link(struct target *t, const char *from, const char *to)
{
    return hf_link(t->volume, from, to);
}

static int hold_symlink(struct target *t, const char *to, const char *path)
{
    return hf_symlink(t->volume, to, path);
}

static ssize_t hold_readlink(struct target *t, const char *path, char *buf, size_t size)
{
    return hf_readlink(t->volume, path, buf, size);
}

static int hold_opendir(struct target *t, const char *path, struct target_dir *ret_dir)
{
    struct hf_dir *dir = NULL;
    int ret = hf_opendir(t->volume, path, &dir);

    if (ret == 0)
        *ret_dir = (struct target_dir){.target = t, .hf = dir};
    return ret;
}

static int hold_readdir(struct target_dir *dir, struct hf_dirent *ret_entry)
{
    return hf_readdir(dir->hf, ret_entry);
}

static void hold_seekdir(struct target_dir *dir, uint64_t cookie)
{
    hf_seekdir(dir->hf, cookie);
}

static int hold_closedir(struct target_dir *dir)
{
    return hf_closedir(dir->hf);
}

/* ---- extended attributes */

static ssize_t hold_getxattr(struct target *t, const char *path, int flags, const char *name, void *buf,
                             size_t size)
{
    return flags & AT_SYMLINK_NOFOLLOW ? hf_lgetxattr(t->volume, path, name, buf, size)
                                       : hf_getxattr(t->volume, path, name, buf, size);
}

static ssize_t hold_listxattr(struct target *t, const char *path, int flags, char *buf, size_t size)
{
    return flags & AT_SYMLINK_NOFOLLOW ? hf_llistxattr(t->volume, path, buf, size)
                                       : hf_listxattr(t->volume, path, buf, size);
}

static int hold_setxattr(struct target *t, const char *path, int flags, const char *name, const void *value,
                         size_t size, int how)
{
    return flags & AT_SYMLINK_NOFOLLOW ? hf_lsetxattr(t->volume, path, name, value, size, how)
                                       : hf_setxattr(t->volume, path, name, value, size, how);
}

static int hold_removexattr(struct target *t, const char *path, int flags, const char *name)
{
    return flags & AT_SYMLINK_NOFOLLOW ? hf_lremovexattr(t->volume, path, name)
                                       : hf_removexattr(t->volume, path, name);
}

static ssize_t hold_fgetxattr(struct target_file *file, const char *name, void *buf, size_t size)
{
    return hf_fgetxattr(file->hf, name, buf, size);
}

static ssize_t hold_flistxattr(struct target_file *file, char *buf, size_t size)
{
    return hf_flistxattr(file->hf, buf, size);
}

static int hold_fsetxattr(struct target_file *file, const char *name, const void *value, size_t size, int how)
{
    return hf_fsetxattr(file->hf, name, value, size, how);
}

static int hold_fremovexattr(struct target_file *file, const char *name)
{
    return hf_fremovexattr(file->hf, name);
}

static int hold_mknod(struct target *t, const char *path, mode_t mode, dev_t rdev)
{
    return hf_mknod(t->volume, path, mode, rdev);
}

static int hold_flink(struct target_file *file, const char *path)
{
    return hf_flink(file->hf, path);
}

static int hold_chown(struct target *t, const char *path, uid_t uid, gid_t gid)
{
    return hf_chown(t->volume, path, uid, gid);
}

const struct target_ops target_holdfast_ops = {
    .start = hold_start,
    .stop = hold_stop,
    .reopen = hold_reopen,
    .open = hold_open,
    .close = hold_close,
    .pread = hold_pread,
    .pwrite = hold_pwrite,
    .read = hold_read,
    .write = hold_write,
    .lseek = hold_lseek,
    .ftruncate = hold_ftruncate,
    .fallocate = hold_fallocate,
    .fsync = hold_fsync,
    .fdatasync = hold_fdatasync,
    .fstat = hold_fstat,
    .fchmod = hold_fchmod,
    .futimens = hold_futimens,
    .mmap = hold_mmap,
    .munmap = hold_munmap,
    .mremap = hold_mremap,
    .mprotect = hold_mprotect,
    .msync = hold_msync,
    .stat = hold_stat,
    .lstat = hold_lstat,
    .truncate = hold_truncate,
    .chmod = hold_chmod,
    .utimens = hold_utimens,
    .mkdir = hold_mkdir,
    .rmdir = hold_rmdir,
    .unlink = hold_unlink,
    .rename = hold_rename,
    .link = hold_link,
    .symlink = hold_symlink,
    .readlink = hold_readlink,
    .opendir = hold_opendir,
    .readdir = hold_readdir,
    .seekdir = hold_seekdir,
    .closedir = hold_closedir,
    .getxattr = hold_getxattr,
    .listxattr = hold_listxattr,
    .setxattr = hold_setxattr,
    .removexattr = hold_removexattr,
    .fgetxattr = hold_fgetxattr,
    .flistxattr = hold_flistxattr,
    .fsetxattr = hold_fsetxattr,
    .fremovexattr = hold_fremovexattr,
    .mknod = hold_mknod,
    .flink = hold_flink,
    .chown = hold_chown,
};
