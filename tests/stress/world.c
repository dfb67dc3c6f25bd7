/* SPDX-License-Identifier: MIT */
/*
 * world.c - the volume, the file and its two mappings; and what is checked while no thread runs.
 *
 * The space for data is cut to size by a ballast file, so that the metadata region may be as large as it
 * likes. What is checked, beside every byte by three ways: the size; that SEEK_HOLE shows no hole over data;
 * HOLD-1 by looking at the pages; after a reopen HOLD-3, HOLD-8, and that the blocks of all files together
 * are the blocks the volume counts as used. A negative control breaks such things on purpose; there only the
 * bytes are looked at, which is what a user would lose.
 */
#include "stress.h"

#include <holdfast/quota.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK_CHUNK 65536u

static uint8_t chunk[CHECK_CHUNK];

static void must(int rc, const char *call)
{
    if (rc)
        stress_fail(FAIL_CALL, -1, "%s: %d (%s); %s", call, rc, strerror(-rc), hf_volume_error_text());
}

static void open_volume(struct stress_world *world)
{
    struct hf_open_options oo = {
        .page_size = world->opt.page_size,
        .isize_sync = world->opt.isize_sync,
        .cache_bytes = world->opt.cache_bytes,
        .dirty_bytes = world->opt.dirty_bytes,
        .writeback_ms = world->opt.writeback_ms,
    };

    must(hf_volume_open(world->path, &oo, &world->volume), "hf_volume_open");
}

void stress_world_map(struct stress_world *world, unsigned which)
{
    int flags = MAP_SHARED | (which == 1 && world->opt.syscall_b ? HF_MAP_SYSCALLS : 0);
    void *addr = NULL;
    int rc =
        hf_mmap(world->file, NULL, (size_t)world->model.capacity, PROT_READ | PROT_WRITE, flags, 0, &addr);

    if (rc == -EOPNOTSUPP)
        stress_skip("this machine refuses that kind of mapping");
    must(rc, "hf_mmap");
    world->map[which] = addr;
}

static void open_file(struct stress_world *world)
{
    struct stat st;

    must(hf_open(world->volume, "/data", O_RDWR | O_CREAT, 0644, &world->file), "hf_open data");
    must(hf_fstat(world->file, &st), "hf_fstat");
    world->ino = st.st_ino;
    stress_world_map(world, 0);
    stress_world_map(world, 1);
}

/* A file that takes what is not wanted of the data space. */
static void add_ballast(struct stress_world *world)
{
    uint64_t wanted =
        (uint64_t)world->model.capacity * world->opt.space_percent / 100 / world->opt.block_size;
    struct hf_file *file = NULL;
    struct hf_statfs sf;

    must(hf_volume_statfs(world->volume, &sf), "hf_volume_statfs");
    if (sf.block_size != world->opt.block_size || sf.page_size != world->opt.page_size)
        stress_fail(FAIL_CALL, -1, "statfs says B %u P %u", sf.block_size, sf.page_size);
    if (sf.blocks_free > wanted) {
        world->ballast_bytes = (hf_off_t)((sf.blocks_free - wanted) * sf.block_size);
        must(hf_open(world->volume, "/ballast", O_RDWR | O_CREAT, 0644, &file), "hf_open ballast");
        must(hf_fallocate(file, 0, 0, world->ballast_bytes), "hf_fallocate ballast");
        must(hf_close(file), "hf_close ballast");
    }
    must(hf_volume_sync(world->volume), "hf_volume_sync");
    must(hf_volume_statfs(world->volume, &sf), "hf_volume_statfs");
    world->free_blocks_at_start = sf.blocks_free;
    if (sf.blocks_free > wanted)
        stress_fail(FAIL_SPACE, -1, "%" PRIu64 " blocks free beside the ballast, not %" PRIu64,
                    sf.blocks_free, wanted);
}

static void format(struct stress_world *world)
{
    struct hf_mkfs_options mo = {.block_size = world->opt.block_size, .force = true};
    hf_off_t space = world->model.capacity * world->opt.space_percent / 100;

    if (world->opt.memfs) {
        snprintf(world->path, sizeof(world->path), "mem:%" PRId64 ",%u",
                 space / world->opt.block_size * world->opt.block_size, world->opt.block_size);
        return;
    }
    snprintf(world->path, sizeof(world->path), "%s/holdfast-stress.%d", world->opt.dir, (int)getpid());
    mo.size_bytes = world->opt.volume_size;
    must(hf_mkfs(world->path, &mo), "hf_mkfs");
}

void stress_world_create(struct stress_world *world)
{
    pthread_rwlockattr_t attr;

    /* Else threads that use map B would starve the one that replaces it. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&world->map_b_lock, &attr);
    pthread_mutex_init(&world->filler.lock, NULL);
    format(world);
    open_volume(world);
    open_file(world);
    add_ballast(world);
}

static void add_stats(struct stress_world *world)
{
    struct hf_volume_stats st = {0};

    must(hf_volume_stats(world->volume, &st), "hf_volume_stats");
    world->stats.faults_load += st.faults_load;
    world->stats.faults_store += st.faults_store;
    world->stats.faults_refused += st.faults_refused;
    world->stats.faults_slow += st.faults_slow;
    world->stats.mkwrites += st.mkwrites;
    world->stats.mkcleans += st.mkcleans;
    world->stats.pages_written += st.pages_written;
    world->stats.pages_read += st.pages_read;
    world->stats.pages_reclaimed += st.pages_reclaimed;
    world->stats.zero_blocks_released += st.zero_blocks_released;
    if (st.writeback_errors)
        stress_fail(FAIL_CALL, -1, "%" PRIu64 " writeback errors on a sound device", st.writeback_errors);
}

/* Mappings outlive the file, so either may go first. */
static void close_file(struct stress_world *world, bool maps_first)
{
    int rc;

    if (!maps_first) {
        must(hf_close(world->file), "hf_close");
        world->file = NULL;
    }
    for (unsigned i = 0; i < 2; i++) {
        must(hf_munmap(world->map[i], (size_t)world->model.capacity), "hf_munmap");
        world->map[i] = NULL;
    }
    if (maps_first) {
        rc = hf_close(world->file);
        world->file = NULL;
        must(rc, "hf_close");
    }
}

static void check_quota(struct stress_world *world)
{
    struct hf_quota_check check;
    int rc = hf_quota_check(world->volume, &check);

    if (rc > 0)
        stress_fail(FAIL_SPACE, -1, "quotas: type %d id %u is charged for %llu blocks, a scan finds %llu",
                    (int)check.type, check.id, (unsigned long long)check.blocks_kept,
                    (unsigned long long)check.blocks_found);
    must(rc, "hf_quota_check");
}

static void close_volume(struct stress_world *world)
{
    int rc;

    add_stats(world);
    if (!world->opt.memfs)
        check_quota(world);
    rc = hf_volume_close(world->volume);
    world->volume = NULL;
    if (rc == -ENOTRECOVERABLE)
        stress_fail(FAIL_SPACE, -1, "hf_volume_close: a reservation leaked (HOLD-8)");
    must(rc, "hf_volume_close");
}

void stress_world_destroy(struct stress_world *world)
{
    close_file(world, true);
    close_volume(world);
    if (!world->opt.memfs && !world->opt.keep)
        unlink(world->path);
    stress_model_done(&world->model);
}

/* ------------------------------------------------------------------ checks */

/* Bytes that could be either are settled by the first look: from then on they may not change again. */
static void compare(struct stress_world *world, const char *via, hf_off_t off, size_t len)
{
    struct stress_model *model = &world->model;

    if (memcmp(model->val + off, chunk, len) == 0) {
        memset(model->flags + off, 0, len);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        hf_off_t at = off + (hf_off_t)i;

        if (chunk[i] == 0 && (model->flags[at] & BYTE_MAYBE_ZERO))
            model->val[at] = 0;
        if (chunk[i] != model->val[at])
            stress_fail_byte(via, at, model->val[at], model->flags[at], chunk[i], model->val + at, chunk + i,
                             len - i);
        model->flags[at] = 0;
    }
}

static void check_by_pread(struct stress_world *world, const char *when)
{
    char via[96];
    ssize_t n;

    snprintf(via, sizeof(via), "pread %s", when);
    for (hf_off_t off = 0; off < world->model.size; off += n) {
        size_t want = (size_t)(world->model.size - off < CHECK_CHUNK ? world->model.size - off : CHECK_CHUNK);

        n = hf_pread(world->file, chunk, CHECK_CHUNK, off);
        if (n != (ssize_t)want)
            stress_fail(FAIL_CALL, off, "%s: %zd bytes of %zu at %" PRId64, via, n, want, off);
        compare(world, via, off, want);
    }
    n = hf_pread(world->file, chunk, 1, world->model.size);
    if (n != 0)
        stress_fail(FAIL_CALL, world->model.size, "%s at EOF: %zd", via, n);
}

static void check_by_map(struct stress_world *world, unsigned which, const char *when)
{
    char via[96];

    snprintf(via, sizeof(via), "load from map %c %s", 'A' + which, when);
    for (hf_off_t off = 0; off < world->model.size; off += CHECK_CHUNK) {
        size_t want = (size_t)(world->model.size - off < CHECK_CHUNK ? world->model.size - off : CHECK_CHUNK);
        size_t done = 0;
        int rc = hf_load(chunk, world->map[which] + off, want, &done);

        if (rc || done != want)
            stress_fail(FAIL_CALL, off + (hf_off_t)done, "%s: %d, %zu bytes of %zu at %" PRId64, via, rc,
                        done, want, off);
        compare(world, via, off, want);
    }
}

static void check_holes(struct stress_world *world, const char *when)
{
    hf_off_t size = world->model.size, hole = 0, data;

    while (hole < size && !world->opt.must_fail) {
        data = hf_lseek(world->file, hole, SEEK_DATA);
        if (data == -ENXIO)
            data = size;
        if (data < hole || data > size)
            stress_fail(FAIL_CALL, hole, "SEEK_DATA from %" PRId64 " %s: %" PRId64, hole, when, data);
        for (hf_off_t at = hole; at < data; at++)
            if (world->model.val[at])
                stress_fail(FAIL_CALL, at, "SEEK_DATA %s says hole [%" PRId64 ", %" PRId64 ") over data",
                            when, hole, data);
        if (data == size)
            return;
        hole = hf_lseek(world->file, data, SEEK_HOLE);
        if (hole <= data || hole > size)
            stress_fail(FAIL_CALL, data, "SEEK_HOLE from %" PRId64 " %s: %" PRId64, data, when, hole);
    }
}

/*
 * HOLD-1. A negative control breaks it on purpose, and is to be caught by its consequences. Of pages larger
 * than the hardware's only some parts may be writable, and which is not told.
 */
static void check_pages(struct stress_world *world, const char *when)
{
    hf_off_t p = world->opt.page_size, b = world->opt.block_size;
    struct hf_page_info info;

    if (world->opt.must_fail || p > sysconf(_SC_PAGESIZE))
        return;
    for (hf_off_t start = 0; start < world->model.size; start += p) {
        if (hf_page_map(world->file, (uint64_t)(start / p), 1, &info) != 1)
            stress_fail(FAIL_CALL, start, "hf_page_map of page %" PRId64 " %s", start / p, when);
        for (unsigned i = 0; info.writable && i < info.nr_blocks; i++)
            if (start + b * i < world->model.size && info.block_state[i] == HF_BLOCK_HOLE)
                stress_fail(FAIL_SPACE, start + b * i, "HOLD-1 %s: a writable page has a hole in block %u",
                            when, i);
    }
}

static void check_filler(struct stress_world *world, const char *when)
{
    struct hf_file *file = NULL;
    char via[96];

    if (!world->filler.exists)
        return;
    snprintf(via, sizeof(via), "filler %s", when);
    must(hf_open(world->volume, "/filler", O_RDONLY, 0, &file), "hf_open filler");
    for (hf_off_t off = 0; off < world->filler.size; off += CHECK_CHUNK) {
        ssize_t n = hf_pread(file, chunk, CHECK_CHUNK, off);

        if (n <= 0 || (n < CHECK_CHUNK && off + n != world->filler.size))
            stress_fail(FAIL_CALL, -1, "%s: %zd at %" PRId64 " of %" PRId64, via, n, off, world->filler.size);
        for (ssize_t i = 0; i < n; i++)
            if (chunk[i] != stress_pattern(world->filler.id, off + i))
                stress_fail(FAIL_BYTES, -1, "%s: offset %" PRId64 ": expected %02x, got %02x", via, off + i,
                            stress_pattern(world->filler.id, off + i), chunk[i]);
    }
    must(hf_close(file), "hf_close filler");
}

void stress_world_check(struct stress_world *world, const char *when)
{
    struct stat st;

    must(hf_fstat(world->file, &st), "hf_fstat");
    if (st.st_size != world->model.size)
        stress_fail(FAIL_CALL, -1, "st_size %s: %" PRId64 ", expected %" PRId64, when, (hf_off_t)st.st_size,
                    (hf_off_t)world->model.size);
    check_pages(world, when);
    check_by_pread(world, when);
    check_by_map(world, 0, when);
    check_by_map(world, 1, when);
    check_holes(world, when);
    check_filler(world, when);
    world->nr_checks++;
}

static uint64_t blocks_of(struct stress_world *world, const char *path)
{
    struct stat st;
    int rc = hf_stat(world->volume, path, &st);

    if (rc == -ENOENT)
        return 0;
    must(rc, "hf_stat");
    return (uint64_t)st.st_blocks * 512 / world->opt.block_size;
}

/* Just opened: nothing is reserved, and every used block belongs to a file. */
static void check_space(struct stress_world *world)
{
    uint64_t b = world->opt.block_size, data = blocks_of(world, "/data"), size = (uint64_t)world->model.size;
    uint64_t filler = blocks_of(world, "/filler"), ballast = blocks_of(world, "/ballast");
    struct hf_statfs sf;

    if (world->opt.must_fail)
        return;
    must(hf_volume_statfs(world->volume, &sf), "hf_volume_statfs");
    if (sf.blocks_reserved)
        stress_fail(FAIL_SPACE, -1, "%" PRIu64 " blocks reserved in a volume just opened",
                    sf.blocks_reserved);
    if (sf.blocks - sf.blocks_free != data + filler + ballast)
        stress_fail(FAIL_SPACE, -1,
                    "%" PRIu64 " of %" PRIu64 " blocks used, but data has %" PRIu64 ", filler %" PRIu64
                    ", ballast %" PRIu64,
                    sf.blocks - sf.blocks_free, sf.blocks, data, filler, ballast);
    if (!world->kept_beyond && data > (size + b - 1) / b)
        stress_fail(FAIL_SPACE, -1, "HOLD-3: %" PRIu64 " blocks allocated for %" PRIu64 " bytes", data, size);
}

void stress_world_reopen(struct stress_world *world, struct stress_rng *rng, bool look)
{
    struct stress_entry *entry = stress_log(99, OP_REOPEN, 0, 0, world->model.size, world->model.size);
    bool sync_first = stress_rng_below(rng, 2), maps_first = stress_rng_below(rng, 2);

    if (sync_first)
        must(hf_fsync(world->file), "hf_fsync");
    close_file(world, maps_first);
    if (world->opt.memfs) {
        must(hf_volume_sync(world->volume), "hf_volume_sync");
    } else {
        close_volume(world);
        open_volume(world);
        check_space(world);
    }
    open_file(world);
    world->nr_reopens++;
    stress_log_end(entry, 0, 0);
    if (look)
        stress_world_check(world, "after reopen");
}

void stress_world_regrow(struct stress_world *world)
{
    hf_off_t size = world->model.size;

    must(hf_ftruncate(world->file, world->model.capacity), "hf_ftruncate to the capacity");
    stress_model_zeroed(&world->model, size, world->model.capacity, world->model.capacity);
    stress_world_check(world, "after regrow");
    must(hf_ftruncate(world->file, size), "hf_ftruncate back");
    stress_model_zeroed(&world->model, size, world->model.capacity, size);
    stress_world_check(world, "after shrinking back");
}
