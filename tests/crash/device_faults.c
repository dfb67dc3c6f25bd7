/* SPDX-License-Identifier: MIT */
/*
 * device_faults.c - a device fails at the n-th operation of a workload, for every n: once, or until it comes
 * back.
 *
 * Calls may be refused meanwhile. Nothing else may happen: no crash, no hang. When the device is well again
 * an error that nobody was told is told once to each open file, the next fsync succeeds, and then all that
 * was accepted is durable: what the volume shows is what a copy of the device shows that is opened beside it
 * (HOLD-7).
 *
 * The same below the device of a volume in a file: the host's n-th pread(2) or pwrite(2) is short, and goes on
 * with the next call, as if nothing had happened; or that one fails, or transfers nothing.
 */
#include "check.h"

#include "dev/dev_file.h"
#include "dev/device_io.h"
#include "fs/blockfs/format.h"

#include <holdfast/maintain.h>

#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sys/mman.h>

#define DEVICE_BYTES (1 << 20)
#define LEN 32768
#define OLD_SIZE 17500 /* of the first file at the beginning */
#define NR_FILES 3

static const char *const paths[NR_FILES] = {"/a", "/b", "/c"};

struct content {
    bool there;
    hf_off_t size;
    uint8_t bytes[LEN];
};

struct run {
    struct hf_device *mem, *fault; /* mem is below fault */
    struct hf_volume *vol;
    struct hf_file *a[2], *b; /* the first file twice, and another; b: NULL if it could not be made */
    void *map;                /* of a */
    uint8_t want[LEN];        /* a's bytes */
    bool unsure[LEN];         /* a refused call may have changed these */
    hf_off_t size;            /* of a */
};

/* ---- the host below a volume in a file */

enum then { THEN_GOES_ON, THEN_NOTHING, THEN_FAILS };

static struct {
    bool used; /* the volume lies in a file */
    pthread_mutex_t lock;
    /* guarded by lock */
    bool writes; /* pwrite is meant, not pread */
    uint64_t at, seen;
    enum then then;
    int error;
    bool next_fails;
} host = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void host_set(bool writes, uint64_t at, enum then then, int error)
{
    pthread_mutex_lock(&host.lock);
    host.writes = writes;
    host.at = at;
    host.seen = 0;
    host.then = then;
    host.error = error;
    host.next_fails = false;
    pthread_mutex_unlock(&host.lock);
}

/* How much of a call is done; 0 and less is its result. */
static ssize_t host_part(bool writes, size_t len)
{
    ssize_t part = (ssize_t)len;

    pthread_mutex_lock(&host.lock);
    if (writes == host.writes && host.next_fails) {
        host.next_fails = false;
        part = host.then == THEN_FAILS ? -1 : 0;
        errno = host.error;
    } else if (writes == host.writes && ++host.seen == host.at) {
        part = part > 1 ? part / 2 : part;
        host.next_fails = host.then != THEN_GOES_ON;
    }
    pthread_mutex_unlock(&host.lock);
    return part;
}

static ssize_t host_pread(int fd, void *buf, size_t len, off_t off)
{
    ssize_t part = host_part(false, len);

    return part <= 0 ? part : pread(fd, buf, (size_t)part, off);
}

static ssize_t host_pwrite(int fd, const void *buf, size_t len, off_t off)
{
    ssize_t part = host_part(true, len);

    return part <= 0 ? part : pwrite(fd, buf, (size_t)part, off);
}

static int host_fdatasync(int fd)
{
    (void)fd;
    return 0;
}

/* Calls of the kind that was set last. */
static uint64_t host_seen(void)
{
    uint64_t seen;

    pthread_mutex_lock(&host.lock);
    seen = host.seen;
    pthread_mutex_unlock(&host.lock);
    return seen;
}

/* ---- the volume. A copy of a formatted device each time. */

static struct hf_device *device_copy(struct hf_device *from)
{
    struct hf_device *copy;
    char *buf = malloc(DEVICE_BYTES);

    assert_non_null(buf);
    assert_ok(hf_device_mem_new(DEVICE_BYTES, &copy));
    assert_ok(hf_dev_read(from, buf, DEVICE_BYTES, 0));
    assert_ok(hf_dev_write(copy, buf, DEVICE_BYTES, 0));
    free(buf);
    return copy;
}

/* The same in a file without a name. */
static struct hf_device *file_copy(struct hf_device *from)
{
    char path[] = "/tmp/holdfast-faults-XXXXXX", *buf = malloc(DEVICE_BYTES);
    int fd = mkostemp(path, O_CLOEXEC);
    struct hf_device *copy;

    assert_non_null(buf);
    assert_true(fd >= 0);
    assert_ok(ftruncate(fd, DEVICE_BYTES));
    close(fd);
    assert_ok(hf_device_file_open(path, HF_DEV_THIN, 0, &copy));
    unlink(path);
    assert_ok(hf_dev_read(from, buf, DEVICE_BYTES, 0));
    assert_ok(hf_dev_write(copy, buf, DEVICE_BYTES, 0));
    free(buf);
    return copy;
}

/* The first file is there, and no cache holds it. */
static struct hf_device *formatted(bool thin)
{
    const struct hf_mkfs_options mkfs = {.block_size = 1024, .thin = thin};
    struct hf_device *mem, *copy;
    struct hf_volume *vol;
    struct hf_file *file;
    uint8_t buf[OLD_SIZE];
    char err[HF_BLOCKFS_ERR];

    assert_ok(hf_device_mem_new(DEVICE_BYTES, &mem));
    assert_ok(hf_blockfs_mkfs(mem, &mkfs, err));
    assert_ok(hf_volume_open_device(mem, NULL, &vol));
    assert_ok(hf_open(vol, paths[0], O_RDWR | O_CREAT, 0600, &file));
    memset(buf, 'o', sizeof(buf));
    assert_count(hf_pwrite(file, buf, sizeof(buf), 0), sizeof(buf));
    assert_ok(hf_close(file));
    assert_ok(hf_volume_sync(vol));
    copy = device_copy(mem);
    assert_ok(hf_volume_close(vol));
    return copy;
}

static void run_begin(struct run *run, struct hf_device *image)
{
    const struct hf_open_options opts = {.flags = HF_OPEN_DISCARD, .writeback_ms = 3600000};

    memset(run, 0, sizeof(*run));
    run->mem = host.used ? file_copy(image) : device_copy(image);
    assert_ok(hf_device_fault_new(run->mem, &run->fault));
    assert_ok(hf_volume_open_device(run->fault, &opts, &run->vol));
    for (int i = 0; i < 2; i++)
        assert_ok(hf_open(run->vol, paths[0], O_RDWR, 0, &run->a[i]));
    run->size = OLD_SIZE;
    memset(run->want, 'o', OLD_SIZE);
    assert_ok(hf_mmap(run->a[0], NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &run->map));
    assert_ok(hf_volume_sync(run->vol));
}

/* ---- the workload. Each step notes what was accepted. */

static bool must_succeed;

static void refused(int64_t ret)
{
    assert_that(ret >= 0 || !must_succeed, "a call fails with %lld, and nothing did below it",
                (long long)ret);
    assert_that(ret >= 0 || ret == -EIO || ret == -ENOSPC, "a call fails with %lld", (long long)ret);
}

static void took(struct run *run, hf_off_t off, hf_off_t len, uint8_t value)
{
    for (hf_off_t i = off; i < off + len; i++) {
        run->want[i] = value;
        run->unsure[i] = false;
    }
    if (len > 0 && run->size < off + len)
        run->size = off + len;
}

static void do_write(struct run *run, hf_off_t off, hf_off_t len, uint8_t value)
{
    uint8_t buf[LEN];
    ssize_t ret;

    memset(buf, value, (size_t)len);
    ret = hf_pwrite(run->a[0], buf, (size_t)len, off);
    refused(ret);
    took(run, off, ret > 0 ? ret : 0, value);
}

static void do_store(struct run *run, hf_off_t off, hf_off_t len, uint8_t value)
{
    uint8_t buf[LEN];
    size_t done = 0;

    if (off + len > run->size)
        return;
    memset(buf, value, (size_t)len);
    refused(hf_store((char *)run->map + off, buf, (size_t)len, &done));
    took(run, off, (hf_off_t)done, value);
}

/* A refused shrink may have happened all the same, if blocks could not be freed: the size says which. */
static void do_truncate(struct run *run, hf_off_t size)
{
    struct stat st;

    refused(hf_ftruncate(run->a[0], size));
    assert_ok(hf_fstat(run->a[0], &st));
    assert_that(st.st_size == size || st.st_size == run->size, "%lld bytes, neither the old nor the new size",
                (long long)st.st_size);
    for (hf_off_t i = st.st_size; i < run->size; i++) {
        run->want[i] = 0;
        run->unsure[i] = false;
    }
    run->size = st.st_size;
}

static void do_punch(struct run *run, hf_off_t off, hf_off_t len)
{
    int ret = hf_fallocate(run->a[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);

    refused(ret);
    for (hf_off_t i = off; i < off + len; i++) {
        run->unsure[i] = ret < 0 && run->want[i] != 0;
        if (ret == 0)
            run->want[i] = 0;
    }
}

static void many_calls(struct run *run)
{
    do_write(run, 0, 9000, 'a');
    refused(hf_fsync(run->a[0]));
    refused(hf_open(run->vol, paths[1], O_RDWR | O_CREAT, 0600, &run->b));
    do_write(run, 16100, 200, 'p');
    do_truncate(run, 20000);
    do_store(run, 8000, 6000, 'b');
    refused(hf_msync(run->map, LEN, MS_SYNC));
    do_punch(run, 2048, 5000);
    do_store(run, 3000, 100, 'c');
    if (run->b)
        refused(hf_pwrite(run->b, "second", 6, 100));
    do_truncate(run, 5000);
    refused(hf_fdatasync(run->a[0]));
    do_write(run, 15000, 4000, 'd');
    if (run->b)
        refused(hf_rename(run->vol, paths[1], paths[2], 0));
    do_truncate(run, 12000);
    refused(hf_volume_sync(run->vol));
    do_write(run, 11000, 3000, 'e');
}

static void calls_that_all_succeed(struct run *run)
{
    do_write(run, 0, 9000, 'a');
    do_truncate(run, 12000);
    assert_ok(hf_volume_sync(run->vol));
    do_punch(run, 2048, 5000);
    assert_ok(hf_fsync(run->a[0]));
    do_store(run, 3000, 100, 'c');
    do_truncate(run, 5000);
    assert_ok(hf_fdatasync(run->a[0]));
    do_write(run, 15000, 4000, 'd');
    assert_ok(hf_fsync(run->a[0]));
}

/* The first to touch the tables: it fails where nothing else would, and nothing comes after it. */
static void a_shrink(struct run *run)
{
    do_truncate(run, 5000);
}

/* ---- afterwards */

static void content_get(struct hf_volume *vol, unsigned nr, struct content *ret)
{
    struct hf_file *file;
    int r = hf_open(vol, paths[nr], O_RDONLY, 0, &file);

    memset(ret, 0, sizeof(*ret));
    assert_true(r == 0 || r == -ENOENT);
    if (r < 0)
        return;
    ret->there = true;
    ret->size = hf_lseek(file, 0, SEEK_END);
    assert_count(hf_pread(file, ret->bytes, LEN, 0), ret->size);
    assert_ok(hf_close(file));
}

static void told_once(struct hf_file *file)
{
    refused(hf_fsync(file));
    assert_ok(hf_fsync(file));
    assert_ok(hf_fsync(file));
}

/* What the volume shows is in this device, too. It is used up. */
static void same_on(struct run *run, struct hf_device *dev)
{
    struct hf_check_result result;
    struct hf_volume *vol;
    int ret;

    assert_ok(hf_check_device(dev, NULL, &result));
    assert_that(result.problems == 0, "the check finds %llu problems", (unsigned long long)result.problems);
    ret = hf_volume_open_device(dev, NULL, &vol);
    assert_that(ret == 0, "%s", hf_volume_error_text());
    for (unsigned nr = 0; nr < NR_FILES; nr++) {
        struct content live, later;

        content_get(run->vol, nr, &live);
        content_get(vol, nr, &later);
        assert_that(live.there == later.there, "%s: there %d, later %d", paths[nr], live.there, later.there);
        assert_that(live.size == later.size, "%s: %lld bytes, later %lld", paths[nr], (long long)live.size,
                    (long long)later.size);
        assert_memory_equal(live.bytes, later.bytes, LEN);
    }
    assert_ok(hf_volume_close(vol));
}

static void run_end(struct run *run)
{
    struct content a;

    told_once(run->a[0]);
    told_once(run->a[1]);
    assert_ok(hf_volume_sync(run->vol));
    content_get(run->vol, 0, &a);
    assert_that(a.size == run->size, "%lld bytes, not %lld", (long long)a.size, (long long)run->size);
    for (hf_off_t i = 0; i < a.size; i++)
        assert_that(a.bytes[i] == run->want[i] || (run->unsure[i] && a.bytes[i] == 0),
                    "byte %lld is %#x, not %#x", (long long)i, a.bytes[i], run->want[i]);
    same_on(run, device_copy(run->mem));
    assert_ok(hf_munmap(run->map, LEN));
    assert_ok(hf_close(run->a[0]));
    assert_ok(hf_close(run->a[1]));
    if (run->b)
        refused(hf_close(run->b)); /* it was not asked before */
    assert_ok(hf_volume_close(run->vol));
}

/* ---- every n */

enum op { READ, WRITE, FLUSH, GUARANTEE, DISCARD };

static void fail_at(struct hf_device *dev, enum op op, uint64_t n, uint64_t count, int error)
{
    struct hf_device_faults faults = {.count = count, .error = error};

    *(op == READ        ? &faults.fail_read_at
      : op == WRITE     ? &faults.fail_write_at
      : op == FLUSH     ? &faults.fail_flush_at
      : op == GUARANTEE ? &faults.fail_guarantee_at
                        : &faults.fail_discard_at) = n;
    hf_device_fault_set(dev, &faults);
}

static uint64_t ops_of(struct hf_device *dev, enum op op)
{
    struct hf_device_counts counts;

    hf_device_fault_counts(dev, &counts);
    return op == READ        ? counts.reads
           : op == WRITE     ? counts.writes
           : op == FLUSH     ? counts.flushes
           : op == GUARANTEE ? counts.guarantees
                             : counts.discards;
}

static void every_n_of(void (*workload)(struct run *run), enum op op, bool thin, int error)
{
    struct hf_device *image = formatted(thin);
    uint64_t nr, before;
    struct run *run = malloc(sizeof(*run));

    assert_non_null(run);
    run_begin(run, image);
    before = ops_of(run->fault, op);
    workload(run);
    nr = ops_of(run->fault, op) - before;
    run_end(run);
    assert_true(nr > 0 || workload == a_shrink);
    for (uint64_t n = 1; n <= nr; n++) {
        for (uint64_t count = 0; count < 2; count++) { /* 0: until it comes back */
            run_begin(run, image);
            fail_at(run->fault, op, n, count, error);
            workload(run);
            hf_device_fault_set(run->fault, &(struct hf_device_faults){0});
            run_end(run);
        }
    }
    free(run);
    hf_dev_close(image);
}

static void every_n(enum op op, bool thin, int error)
{
    every_n_of(many_calls, op, thin, error);
    every_n_of(a_shrink, op, thin, error);
}

static void reads(void **state)
{
    (void)state;
    every_n(READ, false, EIO);
}

static void writes(void **state)
{
    (void)state;
    every_n(WRITE, false, EIO);
}

static void flushes(void **state)
{
    (void)state;
    every_n(FLUSH, false, EIO);
}

static void writes_of_a_thin_device_that_is_full(void **state)
{
    (void)state;
    every_n(WRITE, true, ENOSPC);
}

static void guarantees_of_a_thin_device(void **state)
{
    (void)state;
    every_n(GUARANTEE, true, ENOSPC);
    every_n(GUARANTEE, true, EIO);
}

/* Nobody asked for them, so nobody is told. */
static void discards_of_a_thin_device(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EOPNOTSUPP};

    (void)state;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        every_n_of(calls_that_all_succeed, DISCARD, true, errors[i]);
}

/* Each n-th call of the host is short. */
static void every_short(bool writes, enum then then, bool thin, int error)
{
    struct hf_device *image = formatted(thin);
    struct run *run = malloc(sizeof(*run));
    uint64_t nr = 0;

    assert_non_null(run);
    host.used = true;
    hf_test_dev_host = (struct hf_dev_host){host_pread, host_pwrite, host_fdatasync};
    must_succeed = then == THEN_GOES_ON;
    for (uint64_t n = 0; n <= nr; n++) { /* 0: none is, and they are counted */
        run_begin(run, image);
        host_set(writes, n, then, error);
        many_calls(run);
        nr = n == 0 ? host_seen() : nr;
        assert_true(n == 0 || host_seen() >= n || then != THEN_GOES_ON);
        host_set(writes, 0, THEN_GOES_ON, 0);
        run_end(run);
    }
    assert_true(nr > 0);
    must_succeed = false;
    hf_test_dev_host = (struct hf_dev_host){pread, pwrite, fdatasync};
    host.used = false;
    free(run);
    hf_dev_close(image);
}

static void short_reads_of_the_host(void **state)
{
    (void)state;
    every_short(false, THEN_GOES_ON, false, 0);
    every_short(false, THEN_NOTHING, false, 0);
    every_short(false, THEN_FAILS, false, EIO);
}

static void short_writes_of_the_host(void **state)
{
    (void)state;
    every_short(true, THEN_GOES_ON, false, 0);
    every_short(true, THEN_NOTHING, false, 0);
    every_short(true, THEN_FAILS, false, EIO);
    every_short(true, THEN_FAILS, true, ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(writes),
        cmocka_unit_test(flushes),
        cmocka_unit_test(writes_of_a_thin_device_that_is_full),
        cmocka_unit_test(guarantees_of_a_thin_device),
        cmocka_unit_test(discards_of_a_thin_device),
        cmocka_unit_test(short_reads_of_the_host),
        cmocka_unit_test(short_writes_of_the_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
