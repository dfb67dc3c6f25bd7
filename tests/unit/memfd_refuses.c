/* SPDX-License-Identifier: MIT */
/*
 * memfd_refuses.c - the host has no memory for the cache: that is -ENOMEM, not a full volume, nothing has
 * changed, and it goes on when there is memory again.
 */
#include "wrapped_driver.h"

#include <stdatomic.h>
#include <sys/syscall.h>

#define B 4096

/* In front of the C library's, for the calls that this program and the library in it make. */
static _Atomic bool no_memory;
static _Atomic unsigned refused;

static bool is_memfd(int fd)
{
    char link[64], name[64] = "";
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, name, sizeof(name) - 1);
    return n > 0 && strncmp(name, "/memfd:holdfast", 15) == 0;
}

static bool refuse(int fd)
{
    if (!atomic_load(&no_memory) || !is_memfd(fd))
        return false;
    atomic_fetch_add(&refused, 1u);
    errno = ENOSPC;
    return true;
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t off)
{
    return refuse(fd) ? -1 : syscall(SYS_pwrite64, fd, buf, len, off);
}

int ftruncate64(int fd, off64_t size)
{
    return refuse(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

static void a_write_without_memory(void **state)
{
    struct hf_file *file;
    struct wrapped w;
    struct stat st;
    uint64_t free_blocks;
    char bytes[2 * B], back[2 * B];

    (void)state;
    memset(bytes, 'x', sizeof(bytes));
    wrapped_memfs(&w, 1 << 20, B);
    wrapped_open(&w, NULL);
    file = wrapped_file(&w, "/f", B);
    assert_int_equal(hf_pwrite(file, bytes, 100, 0), 100);
    free_blocks = wrapped_free_blocks(&w);

    atomic_store(&no_memory, true);
    assert_err(hf_pwrite(file, bytes, 100, 200), ENOMEM);
    assert_err(hf_pwrite(file, bytes, sizeof(bytes), 0), ENOMEM);
    assert_err(hf_ftruncate(file, 10 * B), ENOMEM);
    assert_err(hf_fallocate(file, 0, 0, 10 * B), ENOMEM);
    /* What takes away needs none. */
    assert_ok(hf_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50, 10));
    assert_ok(hf_ftruncate(file, 90));
    atomic_store(&no_memory, false);
    assert_true(atomic_load(&refused) >= 4);

    assert_ok(hf_fstat(file, &st));
    assert_int_equal(st.st_size, 90);
    assert_int_equal(wrapped_free_blocks(&w), free_blocks);
    assert_ok(hf_ftruncate(file, B));
    assert_int_equal(hf_pread(file, back, B, 0), B);
    assert_bytes(back, 'x', 50);
    assert_bytes(back + 50, 0, 10);
    assert_bytes(back + 60, 'x', 30);
    assert_bytes(back + 90, 0, B - 90);
    assert_int_equal(hf_pwrite(file, bytes, sizeof(bytes), 0), (ssize_t)sizeof(bytes));
    assert_ok(hf_fsync(file));
    assert_int_equal(hf_pread(file, back, sizeof(back), 0), (ssize_t)sizeof(back));
    assert_bytes(back, 'x', sizeof(back));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&w));
}

/* The first page of a file that is on the device: filling it needs memory. */
static void a_load_without_memory(void **state)
{
    struct hf_file *file;
    struct wrapped w;
    char bytes[B];
    void *at;

    (void)state;
    memset(bytes, 'x', sizeof(bytes));
    wrapped_blockfs(&w, 4 << 20, B);
    wrapped_open(&w, NULL);
    file = wrapped_file(&w, "/f", 0);
    assert_int_equal(hf_pwrite(file, bytes, B, 0), B);
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&w));
    wrapped_open(&w, NULL);
    file = wrapped_file(&w, "/f", -1);
    assert_ok(hf_mmap(file, NULL, B, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    atomic_store(&no_memory, true);
    assert_err(hf_pread(file, bytes, B, 0), ENOMEM);
    assert_err(hf_load(bytes, at, B, NULL), ENOMEM);
    assert_err(hf_store(at, "y", 1, NULL), ENOMEM);
    atomic_store(&no_memory, false);
    assert_ok(hf_load(bytes, at, B, NULL));
    assert_bytes(bytes, 'x', B);
    assert_ok(hf_munmap(at, B));
    assert_ok(hf_close(file));
    assert_ok(wrapped_close(&w));
    wrapped_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_write_without_memory),
        cmocka_unit_test(a_load_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
