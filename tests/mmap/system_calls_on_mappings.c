/* SPDX-License-Identifier: MIT */
/*
 * system_calls_on_mappings.c - mappings as buffers: of the kernel's calls, and of Holdfast's own.
 *
 * hf_pwrite() from a mapping of the very page it writes is the case of xfstests generic/647: the source
 * must be faulted in while no lock is held that the fault needs.
 */
#include "mmap_test.h"

#include <pthread.h>

#define RW (PROT_READ | PROT_WRITE)

static uint8_t *must_map_for_calls(struct target *t, struct target_file *file, size_t len)
{
    void *map = NULL;
    int ret = hf_mmap(file->hf, NULL, len, RW, MAP_SHARED | HF_MAP_SYSCALLS, 0, &map);

    if (ret == -EOPNOTSUPP) {
        close_ok(file);
        print_message("HF_MAP_SYSCALLS is refused on this machine\n");
        skip();
    }
    assert_ok(ret);
    (void)t;
    return map;
}

/* Sends len bytes through a pipe, from src to dst, by write(2) and read(2). */
static void through_a_pipe(const uint8_t *src, uint8_t *dst, size_t len)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    for (size_t done = 0; done < len;) {
        size_t piece = len - done < 4096 ? len - done : 4096;

        assert_int_equal(write(ends[1], src + done, piece), piece);
        assert_int_equal(read(ends[0], dst + done, piece), piece);
        done += piece;
    }
    close(ends[0]);
    close(ends[1]);
}

static void check_calls_both_ways(struct target *t, struct target_file *file, uint8_t *map, bool fault_in)
{
    uint8_t *buf = malloc(UNIT);

    assert_non_null(buf);
    memset(buf, 0, UNIT);
    if (fault_in)
        assert_ok(hf_fault_in(map, UNIT, false));
    through_a_pipe(map, buf, UNIT);
    assert_bytes(buf, 'f', UNIT);
    memset(buf, 'k', UNIT);
    if (fault_in)
        assert_ok(hf_fault_in(map + UNIT, UNIT, true));
    through_a_pipe(buf, map + UNIT, UNIT);
    expect_range(file, UNIT, UNIT, 'k');
    assert_ok(t_fsync(file));
    if (fault_in)
        assert_ok(hf_fault_in(map + UNIT, UNIT, true));
    memset(buf, 'l', UNIT);
    through_a_pipe(buf, map + UNIT, UNIT);
    expect_range(file, UNIT, UNIT, 'l');
    (void)t;
    free(buf);
}

static void fault_in_before_the_call(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    fill_range(&file, 0, UNIT, 'f');
    assert_ok(t_ftruncate(&file, 2 * UNIT));
    if (t->spec->kind == TARGET_BLOCKFS) {
        close_ok(&file);
        target_reopen(t);
        file = open_old(t, "f", O_RDWR);
    }
    map = map_shared(&file, 0, 2 * UNIT);
    check_calls_both_ways(t, &file, map, true);
    unmap_ok(t, map, 2 * UNIT);
    close_ok(&file);
}

static void fault_in_tells_the_refusal(struct target *t)
{
    struct target_file file;
    uint8_t *map = map_sparse(t, "f", 4, &file);

    target_fill_but(t, "ballast", 0);
    assert_ok(hf_fault_in(map, 4 * t->page_size, false));
    assert_err(hf_fault_in(map, 4 * t->page_size, true), ENOSPC);
    assert_ok(t_ftruncate(&file, t->page_size));
    assert_err(hf_fault_in(map, 4 * t->page_size, false), ENXIO);
    assert_ok(t_unlink(t, "ballast"));
    assert_ok(hf_fault_in(map, t->page_size, true));
    unmap_ok(t, map, 4 * t->page_size);
    close_ok(&file);
}

static void calls_on_untouched_pages(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *map;

    fill_range(&file, 0, UNIT, 'f');
    assert_ok(t_ftruncate(&file, 2 * UNIT));
    map = must_map_for_calls(t, &file, 2 * UNIT);
    check_calls_both_ways(t, &file, map, false);
    unmap_ok(t, map, 2 * UNIT);
    close_ok(&file);
}

static void calls_on_a_full_volume(struct target *t)
{
    struct target_file file = open_new(t, "f");
    int ends[2];
    uint8_t *map;

    assert_ok(t_ftruncate(&file, 2 * UNIT));
    map = must_map_for_calls(t, &file, 4 * UNIT);
    target_fill_but(t, "ballast", 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "xyz", 3), 3);
    /* No block, and beyond the end: an error in time, and the process lives. */
    assert_int_equal(read(ends[0], map + 100, 3), -1);
    assert_int_equal(errno, EFAULT);
    assert_int_equal(read(ends[0], map + 3 * UNIT, 3), -1);
    assert_int_equal(errno, EFAULT);
    assert_err(store_byte(map + 200, 'a'), ENOSPC);
    /* For a few milliseconds a refusal may meet every call on that page. */
    wait_for_clock();
    assert_int_equal(write(ends[1], map, 3), 3);
    assert_ok(t_unlink(t, "ballast"));
    assert_int_equal(read(ends[0], map + 100, 3), 3);
    expect_range(&file, 103, 10, 0);
    close(ends[0]);
    close(ends[1]);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

struct caller {
    uint8_t *map;
    int id;
    int error;
};

static void *pipe_into_mapping(void *arg)
{
    struct caller *me = arg;
    uint8_t bytes[512];
    int ends[2];

    memset(bytes, 'a' + me->id, sizeof(bytes));
    me->error = pipe(ends);
    for (int i = 0; i < 100 && !me->error; i++) {
        uint8_t *at = me->map + (i * 4 + me->id) * 2048;

        if (write(ends[1], bytes, sizeof(bytes)) != sizeof(bytes) ||
            read(ends[0], at, sizeof(bytes)) != sizeof(bytes))
            me->error = errno;
    }
    close(ends[0]);
    close(ends[1]);
    return NULL;
}

static void calls_from_several_threads(struct target *t)
{
    struct target_file file = open_new(t, "f");
    struct caller callers[4];
    pthread_t threads[4];
    uint8_t *map;

    assert_ok(t_ftruncate(&file, MIB(1)));
    map = must_map_for_calls(t, &file, MIB(1));
    for (int i = 0; i < 4; i++) {
        callers[i] = (struct caller){.map = map, .id = i};
        assert_int_equal(pthread_create(&threads[i], NULL, pipe_into_mapping, &callers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(callers[i].error, 0);
    }
    for (int i = 0; i < 400; i++)
        expect_range(&file, i * 2048, 512, (uint8_t)('a' + i % 4));
    unmap_ok(t, map, MIB(1));
    close_ok(&file);
}

/* ------------------------------------------------------------------ our own calls */

/* A file of which nothing is in memory, where that can be had. */
static struct target_file cold_file(struct target *t, hf_off_t size)
{
    struct target_file file = open_new(t, "cold");

    for (hf_off_t off = 0; off < size; off += 1024)
        fill_range(&file, off, 1024, (uint8_t)('a' + off / 1024 % 26));
    if (ON(t->spec->kind) & ON_LASTING) {
        close_ok(&file);
        target_reopen(t);
        file = open_old(t, "cold", O_RDWR);
    }
    return file;
}

static void expect_cold(struct target_file *file, hf_off_t at, hf_off_t from, hf_off_t len)
{
    for (hf_off_t off = 0; off < len; off += 1024)
        expect_range(file, at + off, 1024, (uint8_t)('a' + (from + off) / 1024 % 26));
}

static void pwrite_from_the_same_page(struct target *t)
{
    struct target_file file = cold_file(t, 4 * UNIT);
    uint8_t *map = map_shared(&file, 0, 4 * UNIT);

    /* Within one page; across pages; source and target overlapping in pages, not in bytes. */
    assert_count(t_pwrite(&file, map, 1024, 2048), 1024);
    expect_cold(&file, 2048, 0, 1024);
    assert_count(t_pwrite(&file, map + UNIT + 1024, 2048, UNIT + 3072), 2048);
    expect_cold(&file, UNIT + 3072, UNIT + 1024, 2048);
    assert_count(t_pwrite(&file, map + 2 * UNIT, UNIT, 3 * UNIT), UNIT);
    expect_cold(&file, 3 * UNIT, 2 * UNIT, UNIT);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static void pread_into_the_same_page(struct target *t)
{
    struct target_file file = cold_file(t, 4 * UNIT);
    uint8_t *map = map_shared(&file, 0, 4 * UNIT);

    assert_count(t_pread(&file, map + 2048, 1024, 0), 1024);
    expect_cold(&file, 2048, 0, 1024);
    assert_count(t_pread(&file, map + 3 * UNIT, UNIT, 2 * UNIT), UNIT);
    expect_cold(&file, 3 * UNIT, 2 * UNIT, UNIT);
    unmap_ok(t, map, 4 * UNIT);
    close_ok(&file);
}

static void pwrite_past_the_end_from_the_mapping(struct target *t)
{
    struct target_file file = cold_file(t, 2 * UNIT);
    uint8_t *map = map_shared(&file, 0, 8 * UNIT);

    /* Each write doubles the file with what is mapped of it. */
    assert_count(t_pwrite(&file, map, 2 * UNIT, 2 * UNIT), 2 * UNIT);
    assert_count(t_pwrite(&file, map, 4 * UNIT, 4 * UNIT), 4 * UNIT);
    assert_count(stat_of(&file).st_size, 8 * UNIT);
    for (int i = 1; i < 4; i++)
        expect_cold(&file, i * 2 * UNIT, 0, 2 * UNIT);
    unmap_ok(t, map, 8 * UNIT);
    close_ok(&file);
}

static void between_two_files(struct target *t)
{
    struct target_file from = cold_file(t, 4 * UNIT), to = open_new(t, "to");
    uint8_t *src = map_with(&from, 0, 4 * UNIT, PROT_READ, MAP_SHARED), *dst;

    assert_ok(t_ftruncate(&to, 4 * UNIT));
    dst = map_shared(&to, 0, 4 * UNIT);
    assert_count(t_pwrite(&to, src + 512, 2 * UNIT, 512), 2 * UNIT);
    expect_cold(&to, 1024, 1024, UNIT);
    assert_count(t_pread(&from, dst + 2 * UNIT + 1024, UNIT, 2 * UNIT + 1024), UNIT);
    expect_cold(&to, 2 * UNIT + 1024, 2 * UNIT + 1024, UNIT);
    memcpy(dst, src, 1024);
    assert_memory_equal(dst, src, 1024);
    unmap_ok(t, src, 4 * UNIT);
    unmap_ok(t, dst, 4 * UNIT);
    close_ok(&from);
    close_ok(&to);
}

static void bad_buffers_are_efault(struct target *t)
{
    struct target_file file = open_new(t, "f");
    uint8_t *half = mmap(NULL, 2 * UNIT, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ssize_t done;

    assert_ptr_not_equal(half, MAP_FAILED);
    memset(half, 'h', UNIT);
    assert_int_equal(mprotect(half + UNIT, UNIT, PROT_NONE), 0);
    assert_err(t_pwrite(&file, half + UNIT, 100, 0), EFAULT);
    assert_count(stat_of(&file).st_size, 0);
    fill_range(&file, 0, 4 * UNIT, 'f');
    assert_err(t_pread(&file, half + UNIT, 100, 0), EFAULT);
    done = t_pwrite(&file, half, 2 * UNIT, 0);
    assert_that(done > 0 && done <= UNIT, "%zd", done);
    expect_range(&file, 0, (size_t)done, 'h');
    expect_range(&file, done, (size_t)(4 * UNIT - done), 'f');
    done = t_pread(&file, half, 2 * UNIT, 2 * UNIT);
    assert_that(done > 0 && done <= UNIT, "%zd", done);
    assert_bytes(half, 'f', (size_t)done);
    munmap(half, 2 * UNIT);
    close_ok(&file);
}

/* Buffers in a mapping that gets no block: a short count or an error, and no signal. */
static void buffers_that_are_refused(struct target *t)
{
    size_t page = t->page_size;
    struct target_file file = open_new(t, "src"), sparse;
    uint8_t *map;
    ssize_t done;

    fill_range(&file, 0, 4 * page, 's');
    map = map_sparse(t, "f", 4, &sparse);
    target_fill_but(t, "ballast", blocks_per_store(t));
    assert_ok(store_byte(map, 'a'));
    assert_count(target_statfs(t).blocks_free, 0);
    done = t_pread(&file, map + page, page, 0);
    assert_that(done == -EFAULT || done == -ENOSPC, "%zd", done);
    done = t_pread(&file, map, 2 * page, 0);
    assert_that(done > 0 && done <= (ssize_t)page, "%zd", done);
    assert_bytes(map, 's', (size_t)done);
    /* From a hole it reads zeros, for which a load needs no block; the target has its blocks. */
    assert_count(t_pwrite(&file, map + 2 * page, page, 0), page);
    expect_range(&file, 0, page, 0);
    unmap_ok(t, map, 4 * page);
    close_ok(&sparse);
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(fault_in_before_the_call, ON_HOLDFAST),
    BODY(fault_in_tells_the_refusal, ON_HOLDFAST),
    BODY(calls_on_untouched_pages, ON_HOLDFAST),
    BODY(calls_on_a_full_volume, ON_HOLDFAST),
    BODY(calls_from_several_threads, ON_HOLDFAST),
    BODY(pwrite_from_the_same_page, ON_ALL),
    BODY(pread_into_the_same_page, ON_ALL),
    BODY(pwrite_past_the_end_from_the_mapping, ON_ALL),
    BODY(between_two_files, ON_ALL),
    BODY(bad_buffers_are_efault, ON_ALL),
    BODY(buffers_that_are_refused, ON_HOLDFAST),
};

MMAP_TEST_MAIN("system_calls_on_mappings", bodies)
