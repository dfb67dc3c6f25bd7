/* SPDX-License-Identifier: MIT */
/*
 * mount_keeps_stores.c - what a program stores through a mapping of a mounted file: kept (mmap=reserve), or
 * an error that every opener is told (mmap=late); seen at once; and flushed by every way to end a mount.
 */
#include "mounted.h"
#include "target.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

#define BLOCK 1024
#define PAGE 4096
#define VOLUME_BYTES (8 << 20)

static int setup(void **state)
{
    return mounted_setup(state, VOLUME_BYTES, BLOCK);
}

static int open_in(const struct mounted *m, const char *name, int flags)
{
    int fd = open(mounted_path(m, name), flags | O_CLOEXEC, 0644);

    return fd < 0 ? -errno : fd;
}

static int must_open(const struct mounted *m, const char *name, int flags)
{
    return (int)assert_ok(open_in(m, name, flags));
}

static int errno_of(int result)
{
    return result < 0 ? -errno : result;
}

static uint8_t *map_fd(int fd, size_t len)
{
    void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    assert_that(map != MAP_FAILED, "mmap: %s", strerror(errno));
    return map;
}

/* A file that holds all that is free but `left` bytes. */
static void fill_volume(const struct mounted *m, uint64_t left)
{
    int fd = must_open(m, "ballast", O_WRONLY | O_CREAT | O_EXCL);
    struct statvfs fs;

    assert_ok(errno_of(fstatvfs(fd, &fs)));
    assert_true(fs.f_bavail * fs.f_frsize >= left);
    assert_ok(errno_of(posix_fallocate(fd, 0, (off_t)(fs.f_bavail * fs.f_frsize - left))));
    assert_ok(errno_of(close(fd)));
}

static void restart(struct mounted *m, const char *options)
{
    assert_count(mounted_stop(m), 0);
    mounted_start(m, options);
}

static void expect_in_volume(struct mounted *m, const char *name, hf_off_t off, char want)
{
    struct hf_volume *volume;
    struct hf_file *file;
    char byte = 0;

    assert_ok(hf_volume_open(m->volume, NULL, &volume));
    assert_ok(hf_open(volume, name, O_RDONLY, 0, &file));
    assert_count(hf_pread(file, &byte, 1, off), 1);
    assert_int_equal(byte, want);
    assert_ok(hf_close(file));
    assert_ok(hf_volume_close(volume));
}

/* ------------------------------------------------------------------ reserve */

static void closed_and_unmapped_on_a_full_volume(void **state)
{
    struct mounted *m = *state;
    const size_t len = 128 * PAGE;
    uint8_t *map, *bytes = malloc(len);
    int fd;

    assert_non_null(bytes);
    mounted_start(m, NULL);
    fd = must_open(m, "f", O_RDWR | O_CREAT);
    assert_ok(errno_of(ftruncate(fd, (off_t)len)));
    fill_volume(m, 0);
    map = map_fd(fd, len);
    assert_ok(errno_of(close(fd)));
    for (size_t at = 0; at < len; at += BLOCK)
        map[at] = (uint8_t)(at / BLOCK + 1);
    assert_ok(errno_of(munmap(map, len)));
    restart(m, NULL);
    fd = must_open(m, "f", O_RDONLY);
    assert_count(pread(fd, bytes, len, 0), len);
    for (size_t at = 0; at < len; at += BLOCK)
        assert_that(bytes[at] == (uint8_t)(at / BLOCK + 1), "byte %zu is %d", at, bytes[at]);
    assert_ok(errno_of(close(fd)));
    assert_count(mounted_stop(m), 0);
    free(bytes);
}

/* The letter that started it: a page is storable, then the file grows under it. */
static void seeds_case(void **state)
{
    struct mounted *m = *state;
    char bytes[BLOCK];
    uint8_t *map;
    int fd;

    memset(bytes, 'w', sizeof(bytes));
    mounted_start(m, NULL);
    fd = must_open(m, "f", O_RDWR | O_CREAT);
    assert_count(pwrite(fd, bytes, BLOCK, 0), BLOCK);
    map = map_fd(fd, 3 * PAGE);
    map[0] = 'a';
    fill_volume(m, 8 * BLOCK);
    assert_err(errno_of(ftruncate(fd, 10000)), ENOSPC); /* 9 blocks more */
    assert_ok(errno_of(ftruncate(fd, 9000)));           /* 8 blocks more: no store can be refused now */
    map[PAGE - 1] = 'd';
    map[8999] = 'e';
    assert_ok(errno_of(close(fd)));
    assert_ok(errno_of(munmap(map, 3 * PAGE)));
    assert_count(mounted_stop(m), 0);
    expect_in_volume(m, "f", 0, 'a');
    expect_in_volume(m, "f", PAGE - 1, 'd');
    expect_in_volume(m, "f", 8999, 'e');
}

static void refused_at_open_and_growth(void **state)
{
    struct mounted *m = *state;
    int fd;

    mounted_start(m, NULL);
    fill_volume(m, 64 * BLOCK);
    fd = must_open(m, "f", O_WRONLY | O_CREAT); /* cannot be mapped writable: nothing to promise */
    assert_ok(errno_of(ftruncate(fd, 1 << 30)));
    assert_ok(errno_of(close(fd)));
    assert_err(open_in(m, "f", O_RDWR), ENOSPC);
    fd = must_open(m, "f", O_RDONLY);
    assert_ok(errno_of(close(fd)));
    assert_ok(errno_of(truncate(mounted_path(m, "f"), 64 * BLOCK)));
    fd = must_open(m, "f", O_RDWR);
    assert_err(errno_of(ftruncate(fd, 65 * BLOCK)), ENOSPC);
    assert_err(errno_of((int)pwrite(fd, "x", 1, 64 * BLOCK)), ENOSPC);
    assert_err(open_in(m, "g", O_RDWR | O_CREAT) >= 0 ? errno_of((int)pwrite(fd, "x", 1, 70 * BLOCK)) : 0,
               ENOSPC);
    assert_ok(errno_of(close(fd)));
    fd = must_open(m, "g", O_RDWR);
    assert_count(pwrite(fd, "x", 1, 0), 1); /* what the other held is free again */
    assert_ok(errno_of(close(fd)));
}

static void removed_files_give_space_back_at_once(void **state)
{
    struct mounted *m = *state;

    mounted_start(m, NULL);
    for (int i = 0; i < 100; i++) {
        fill_volume(m, 0); /* asserts that all of it can be had, each time */
        assert_ok(errno_of(unlink(mounted_path(m, "ballast"))));
        int fd = must_open(m, "g", O_RDWR | O_CREAT | O_EXCL);
        assert_ok(errno_of(posix_fallocate(fd, 0, VOLUME_BYTES / 2)));
        assert_ok(errno_of(close(fd)));
        assert_ok(errno_of(unlink(mounted_path(m, "g"))));
    }
    assert_count(mounted_stop(m), 0);
}

/* ------------------------------------------------------------------ late */

static void lost_writes_are_told_to_everybody(void **state)
{
    struct mounted *m = *state;
    const size_t len = 128 * PAGE;
    int fd, second, third;
    uint8_t *map;

    mounted_start(m, "mmap=late");
    fd = must_open(m, "f", O_RDWR | O_CREAT);
    second = must_open(m, "f", O_RDWR);
    third = must_open(m, "f", O_RDONLY);
    assert_ok(errno_of(ftruncate(fd, (off_t)len)));
    fill_volume(m, 8 * PAGE);
    map = map_fd(fd, len);
    for (size_t at = 0; at < len; at += PAGE)
        map[at] = 'l';
    assert_err(errno_of(msync(map, len, MS_SYNC)), ENOSPC);
    assert_err(errno_of(fsync(second)), ENOSPC);
    assert_err(errno_of(close(third)), ENOSPC);
    assert_ok(errno_of(munmap(map, len)));
    /* With space, the same stores are kept. */
    assert_ok(errno_of(unlink(mounted_path(m, "ballast"))));
    map = map_fd(fd, len);
    for (size_t at = 0; at < len; at += PAGE)
        map[at] = 'm';
    (void)errno_of(fsync(second)); /* the old error may be told once more, never less */
    assert_ok(errno_of(fsync(second)));
    assert_ok(errno_of(munmap(map, len)));
    close(fd);
    close(second);
    restart(m, NULL);
    fd = must_open(m, "f", O_RDONLY);
    for (size_t at = 0; at < len; at += PAGE) {
        char byte = 0;

        assert_count(pread(fd, &byte, 1, (off_t)at), 1);
        assert_int_equal(byte, 'm');
    }
    close(fd);
    assert_count(mounted_stop(m), 0);
}

/* ------------------------------------------------------------------ coherent */

static int other_process(void *arg)
{
    const struct mounted *m = arg;
    int fd = open_in(m, "f", O_RDWR);
    char byte = 0;

    CHILD_CHECK(fd >= 0);
    CHILD_CHECK(pread(fd, &byte, 1, 5000) == 1 && byte == 's'); /* stored by the parent, not flushed */
    CHILD_CHECK(pwrite(fd, "w", 1, 5000) == 1);
    CHILD_CHECK(pwrite(fd, "v", 1, 5001) == 1);
    return 0;
}

static void seen_at_once(void **state)
{
    struct mounted *m = *state;
    const char *kinds[] = {"cache=direct", "cache=kernel", "mmap=late"};
    uint8_t *map, *again;
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        mounted_start(m, kinds[i]);
        fd = must_open(m, "f", O_RDWR | O_CREAT);
        assert_ok(errno_of(ftruncate(fd, 4 * PAGE)));
        map = map_fd(fd, 4 * PAGE);
        again = map_fd(fd, 4 * PAGE);
        for (int round = 0; round < 20; round++) {
            map[5000] = 's';
            expect_exit_0(fork_child(other_process, m));
            assert_int_equal(map[5000], 'w');
            assert_int_equal(again[5001], 'v');
        }
        assert_ok(errno_of(munmap(map, 4 * PAGE)));
        assert_ok(errno_of(munmap(again, 4 * PAGE)));
        assert_ok(errno_of(close(fd)));
        assert_count(mounted_stop(m), 0);
    }
}

/* ------------------------------------------------------------------ the ends of a mount */

static void signal_flushes(void **state)
{
    const size_t pages = 1024;
    struct mounted *m = *state;
    uint8_t *map;
    int fd;

    mounted_start(m, "writeback_ms=3600000");
    fd = must_open(m, "f", O_RDWR | O_CREAT);
    assert_ok(errno_of(ftruncate(fd, (off_t)(pages * PAGE))));
    map = map_fd(fd, pages * PAGE);
    for (size_t i = 0; i < pages; i++)
        map[i * PAGE] = 't';
    assert_ok(errno_of(close(fd)));
    assert_count(mounted_stop(m), 0); /* in use: it ends all the same */
    assert_ok(errno_of(munmap(map, pages * PAGE)));
    for (size_t i = 0; i < pages; i += 93)
        expect_in_volume(m, "f", (hf_off_t)(i * PAGE), 't');
}

static void busy_mount_stays(void **state)
{
    struct mounted *m = *state;
    const char *umount[] = {"umount", m->dir, NULL};
    char said[512];
    int fd, status;

    mounted_start(m, NULL);
    fd = must_open(m, "f", O_RDWR | O_CREAT);
    assert_count(mounted_command(umount, said, sizeof(said)), 1);
    assert_that(strstr(said, "cannot unmount"), "it says: %s", said);
    assert_count(pwrite(fd, "b", 1, 0), 1);
    assert_ok(errno_of(close(fd)));
    status = mounted_command(umount, said, sizeof(said));
    assert_that(status == 0, "it says: %s", said);
    assert_count(mounted_wait(m), 0);
    expect_in_volume(m, "f", 0, 'b');
    assert_count(mounted_command(umount, said, sizeof(said)), 1);
}

static void umount_of_the_system_flushes(void **state)
{
    struct mounted *m = *state;
    int fd;

    mounted_start(m, NULL);
    fd = must_open(m, "f", O_RDWR | O_CREAT);
    assert_count(pwrite(fd, "u", 1, 0), 1);
    assert_ok(errno_of(close(fd)));
    assert_ok(errno_of(umount2(m->dir, 0)));
    assert_count(mounted_wait(m), 0);
    expect_in_volume(m, "f", 0, 'u');
}

static void left_behind_and_asked(void **state)
{
    struct mounted *m = *state;
    const char *mount[] = {"mount", m->volume, m->dir, NULL}, *umount[] = {"umount", m->dir, NULL};
    const char *ask[] = {"stat", m->dir, "--json", NULL}, *metrics[] = {"stat", m->dir, "--prometheus", NULL};
    static char said[1 << 17];
    char below[sizeof(m->dir) + 2];
    const char *umount_below[] = {"umount", below, NULL};
    int fd;

    assert_count(mounted_command(mount, said, sizeof(said)), 0);
    fd = must_open(m, "f", O_RDWR | O_CREAT);
    assert_count(pwrite(fd, "d", 1, 0), 1);
    assert_ok(errno_of(close(fd)));
    assert_count(mounted_command(mount, said, sizeof(said)), 1); /* a second time */
    assert_that(strstr(said, "open already"), "it says: %s", said);
    assert_count(mounted_command(ask, said, sizeof(said)), 0);
    assert_that(strstr(said, "\"direct_io_allow_mmap\"") && strstr(said, "\"requests_write\":\t1,"), "%s",
                said);
    assert_count(mounted_command(metrics, said, sizeof(said)), 0);
    assert_that(strstr(said, "\nholdfast_requests_write 1\n"), "%s", said);
    snprintf(below, sizeof(below), "%s/d", m->dir);
    assert_ok(errno_of(mkdir(below, 0700)));
    assert_count(mounted_command(umount_below, said, sizeof(said)), 1);
    assert_that(strstr(said, "mounted on"), "%s", said);
    assert_count(mounted_command(umount, said, sizeof(said)), 0);
    expect_in_volume(m, "f", 0, 'd'); /* closed already when umount returns */
}

/* A mount is gone, and its server does not know it yet: the next one may have the device's number, by which
 * the server is found. */
static void a_server_that_ends_late(void **state)
{
    struct mounted *m = *state, next;
    const char *umount[] = {"umount", next.dir, NULL};
    char said[512];
    pid_t waker;

    mounted_make_named(&next, "next", VOLUME_BYTES, BLOCK);
    mounted_start(m, NULL);
    assert_ok(errno_of(kill(m->server, SIGSTOP)));
    assert_ok(errno_of(umount2(m->dir, 0)));
    waker = fork();
    if (waker == 0) { /* while the next one starts; nothing depends on when */
        usleep(200 * 1000);
        _exit(kill(m->server, SIGCONT));
    }
    mounted_start(&next, NULL);
    expect_exit_0(waker);
    assert_count(mounted_wait(m), 0);
    assert_that(mounted_command(umount, said, sizeof(said)) == 0, "it says: %s", said);
    assert_count(mounted_wait(&next), 0);
    mounted_clear(&next);
}

static void read_only(void **state)
{
    struct mounted *m = *state;

    mounted_start(m, "ro");
    assert_err(open_in(m, "f", O_RDWR | O_CREAT), EROFS);
    assert_count(mounted_stop(m), 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, mounted_teardown)

static off_t host_bytes(const struct mounted *m)
{
    struct stat st;

    assert_ok(stat(m->volume, &st));
    return st.st_blocks * 512;
}

/* A thin volume gives space back: by command, and with -o discard. */
static void unused_space_goes_back_to_the_host(void **state)
{
    struct mounted *m = *state;
    const char *const mkfs[] = {"mkfs", "--force", "--thin", m->volume, NULL};
    const char *const trim[] = {"trim", m->dir, NULL};
    static char data[4 << 20];
    off_t full;
    int fd;

    assert_int_equal(mounted_command(mkfs, NULL, 0), 0);
    for (int online = 0; online <= 1; online++) {
        mounted_start(m, online ? "discard" : NULL);
        fd = must_open(m, "data", O_RDWR | O_CREAT);
        memset(data, 'd', sizeof(data));
        assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
        assert_ok(fsync(fd));
        full = host_bytes(m);
        assert_ok(ftruncate(fd, PAGE));
        assert_ok(fsync(fd));
        if (!online)
            assert_int_equal(mounted_command(trim, NULL, 0), 0);
        /* Another thread's commit may be the one that tells the host, after this fsync has returned. */
        for (int i = 0; i < 6000 && host_bytes(m) >= full - (off_t)sizeof(data) / 2; i++)
            usleep(10000);
        assert_true(host_bytes(m) < full - (off_t)sizeof(data) / 2);
        assert_int_equal(pwrite(fd, data, sizeof(data), 0), sizeof(data));
        assert_ok(close(fd));
        assert_int_equal(mounted_stop(m), 0);
    }
}

/* ------------------------------------------------------------------ a server that is killed */

#define FAR (2 << 20) /* beyond what is read ahead */

struct orphan {
    const struct mounted *m;
    int fd, ready;
    uint8_t *map;
    void (*call)(const struct orphan *o); /* returns if it was served */
};

static void on_bus(int signo)
{
    (void)signo;
    _exit(0);
}

static void failed_if(bool failed)
{
    if (failed)
        _exit(0);
}

static void orphan_reads(const struct orphan *o)
{
    char byte;

    failed_if(pread(o->fd, &byte, 1, FAR) < 0);
}

static void orphan_writes(const struct orphan *o)
{
    failed_if(pwrite(o->fd, "w", 1, FAR) < 0);
}

static void orphan_syncs(const struct orphan *o)
{
    failed_if(fsync(o->fd) < 0);
}

static void orphan_opens(const struct orphan *o)
{
    failed_if(open_in(o->m, "f", O_RDONLY) < 0);
}

static void orphan_loads(const struct orphan *o)
{
    (void)*(volatile uint8_t *)(o->map + FAR);
}

static void orphan_stores(const struct orphan *o)
{
    *(volatile uint8_t *)(o->map + FAR + FAR / 2) = 'x';
}

/* What the kernel has is what was stored, for as long as it has it. */
static void orphan_looks_at_its_store(const struct orphan *o)
{
    failed_if(*(volatile uint8_t *)o->map == 's');
}

/* Leaves with 0 if the call, or the access, failed as it should: within a minute. */
static int orphan(void *arg)
{
    const struct orphan *o = arg;

    alarm(60);
    signal(SIGBUS, on_bus);
    if (write(o->ready, "r", 1) == 1)
        o->call(o);
    return 1;
}

static void the_server_is_killed(void **state)
{
    static void (*const calls[])(const struct orphan *o) = {orphan_reads, orphan_writes, orphan_syncs,
                                                            orphan_opens, orphan_loads,  orphan_stores};
    struct mounted *m = *state;
    struct orphan o = {.m = m};
    pid_t pids[ARRAY_LEN(calls)];
    int ready[2];
    char byte;

    mounted_start(m, NULL);
    assert_ok(errno_of(pipe(ready)));
    o.ready = ready[1];
    o.fd = must_open(m, "f", O_RDWR | O_CREAT);
    assert_count(pwrite(o.fd, "a", 1, 1), 1);
    assert_ok(errno_of(ftruncate(o.fd, 2 * FAR)));
    assert_ok(errno_of(fsync(o.fd)));
    o.map = map_fd(o.fd, 2 * FAR);
    assert_ok(errno_of(madvise(o.map, 2 * FAR, MADV_RANDOM)));
    o.map[0] = 's';
    assert_ok(errno_of(kill(m->server, SIGSTOP))); /* so that they wait for it when it dies */
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        o.call = calls[i];
        pids[i] = fork_child(orphan, &o);
        assert_count(read(ready[0], &byte, 1), 1);
    }
    assert_ok(errno_of(kill(m->server, SIGKILL)));
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        expect_exit_0(pids[i]);
    assert_count(mounted_wait(m), 128 + SIGKILL);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) { /* and those that come later */
        o.call = calls[i];
        expect_exit_0(fork_child(orphan, &o));
    }
    o.call = orphan_looks_at_its_store;
    expect_exit_0(fork_child(orphan, &o));
    assert_true(msync(o.map, PAGE, MS_SYNC) < 0);
    assert_ok(errno_of(munmap(o.map, 2 * FAR)));
    close(o.fd);
    close(ready[0]);
    close(ready[1]);
    assert_ok(errno_of(umount2(m->dir, MNT_DETACH)));
    mounted_start(m, NULL);
    o.fd = must_open(m, "f", O_RDONLY);
    assert_count(pread(o.fd, &byte, 1, 1), 1);
    assert_int_equal(byte, 'a');
    assert_ok(errno_of(close(o.fd)));
    assert_count(mounted_stop(m), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(the_server_is_killed),
        CASE(closed_and_unmapped_on_a_full_volume),
        CASE(seeds_case),
        CASE(refused_at_open_and_growth),
        CASE(removed_files_give_space_back_at_once),
        CASE(lost_writes_are_told_to_everybody),
        CASE(seen_at_once),
        CASE(signal_flushes),
        CASE(busy_mount_stays),
        CASE(umount_of_the_system_flushes),
        CASE(left_behind_and_asked),
        CASE(a_server_that_ends_late),
        CASE(read_only),
        CASE(unused_space_goes_back_to_the_host),
    };
    const char *refused = argc > 1 ? mounted_init(argv[1]) : "no holdfast command given";

    if (refused) {
        printf("skipped: nothing can be mounted: %s\n", refused);
        return 77;
    }
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return cmocka_run_group_tests_name("mount_keeps_stores", tests, NULL, NULL);
}
