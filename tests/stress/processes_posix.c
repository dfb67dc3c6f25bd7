/* SPDX-License-Identifier: MIT */
/*
 * processes_posix.c - the files lie in a directory, and all is done by system calls: under `holdfast run`,
 * whose directory is $HOLDFAST_DIR. How much space there is, and why SIGBUS came, is not known here. (On
 * tmpfs it fails soon: bytes stored beyond EOF show when the file grows.)
 */
#include "processes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CHUNK 65536

static int files[MP_FILES], filler;

static int64_t result(int64_t r)
{
    return r < 0 ? -errno : r;
}

static void must(int64_t rc, const char *call)
{
    if (rc < 0)
        mp_fail(false, "%s: %s", call, strerror(errno));
}

static int open_in(const char *dir, const char *name)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
}

static void open_files(const char *dir)
{
    char name[16];

    for (unsigned i = 0; i < MP_FILES; i++) {
        snprintf(name, sizeof(name), "f%u", i);
        files[i] = open_in(dir, name);
    }
}

static void open_all(void)
{
    open_files(mp_options.dir);
    for (unsigned i = 0; i < MP_FILES; i++)
        must(files[i], "open");
    filler = open_in(mp_options.dir, "filler");
    must(filler, "open filler");
}

static void close_all(void)
{
    for (unsigned i = 0; i < MP_FILES; i++)
        must(close(files[i]), "close");
    must(close(filler), "close filler");
}

/* ------------------------------------------------------------------ the master */

void mp_back_create(void)
{
    uint64_t wanted = MP_FILES * (uint64_t)mp_shared->cap * mp_options.space_percent / 100, free_bytes;
    struct statvfs fs;
    int ballast;

    open_all();
    must(fstatvfs(filler, &fs), "statvfs");
    free_bytes = fs.f_bavail * fs.f_frsize;
    ballast = open_in(mp_options.dir, "ballast");
    must(ballast, "open ballast");
    if (free_bytes > wanted)
        must(fallocate(ballast, 0, 0, (off_t)(free_bytes - wanted)), "fallocate ballast");
    must(close(ballast), "close ballast");
}

void mp_back_reopen(void)
{
    close_all();
    open_all();
}

void mp_back_destroy(void)
{
    close_all();
}

void mp_back_remove(void)
{
}

bool mp_back_serve_no_more(void)
{
    return false;
}

void mp_back_serve_again(void)
{
}

int64_t mp_back_pread(unsigned file, void *buf, size_t len, int64_t off)
{
    return result(pread(files[file], buf, len, off));
}

int64_t mp_back_pwrite(unsigned file, const void *buf, size_t len, int64_t off)
{
    return result(pwrite(files[file], buf, len, off));
}

int mp_back_truncate(unsigned file, int64_t size)
{
    return (int)result(ftruncate(files[file], size));
}

int mp_back_punch(unsigned file, int64_t off, int64_t len)
{
    return (int)result(fallocate(files[file], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len));
}

int mp_back_allocate(unsigned file, int64_t off, int64_t len)
{
    return (int)result(fallocate(files[file], 0, off, len));
}

int mp_back_fsync(unsigned file)
{
    return (int)result(fsync(files[file]));
}

int mp_back_sync(void)
{
    return (int)result(syncfs(filler));
}

int64_t mp_back_size(unsigned file)
{
    struct stat st;

    must(fstat(files[file], &st), "fstat");
    return st.st_size;
}

void mp_back_fill(int64_t size)
{
    static const uint8_t chunk[CHUNK];
    int64_t off = 0, n = 1;

    must(ftruncate(filler, 0), "truncate filler");
    for (; off < size && n > 0; off += n) {
        n = pwrite(filler, chunk, (size_t)(size - off < CHUNK ? size - off : CHUNK), off);
        if (n < 0 && errno == ENOSPC)
            return;
        must(n, "write filler");
    }
}

bool mp_back_space(struct mp_space *ret_space)
{
    (void)ret_space;
    return false;
}

uint64_t mp_back_need(unsigned file, int64_t off, int64_t end, bool pages)
{
    (void)file;
    (void)off;
    (void)end;
    (void)pages;
    return 0;
}

/* ------------------------------------------------------------------ in a worker */

void mp_map_init(const char *dir)
{
    open_files(dir);
}

int mp_map(unsigned file, int64_t off, size_t len, int prot, void **ret_addr)
{
    void *map = mmap(NULL, len, prot, MAP_SHARED, files[file], off);

    if (map == MAP_FAILED)
        return -errno;
    *ret_addr = map;
    return 0;
}

int mp_unmap(void *addr, size_t len)
{
    return (int)result(munmap(addr, len));
}

int mp_remap(void *addr, size_t old_len, size_t new_len, void **ret_addr)
{
    void *map = mremap(addr, old_len, new_len, MREMAP_MAYMOVE);

    if (map == MAP_FAILED)
        return -errno;
    *ret_addr = map;
    return 0;
}

int mp_protect(void *addr, size_t len, int prot)
{
    return (int)result(mprotect(addr, len, prot));
}

int mp_msync(void *addr, size_t len)
{
    return (int)result(msync(addr, len, MS_SYNC));
}

/* Beyond the end, or no space: the signal does not say. */
int mp_map_fault(void *addr, bool write)
{
    (void)addr;
    (void)write;
    return -ENOSPC;
}
