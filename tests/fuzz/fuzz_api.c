/* SPDX-License-Identifier: MIT */
/*
 * fuzz_api.c - calls in any order on a tiny volume, against a simple model of names and bytes.
 *
 * Files are bytes in memory; what the library reads, maps, lists and stats must be what the model says, also
 * after fsync, eviction and opening the volume anew. Space or somebody's quota may run out: then a call may
 * be refused, and what it had accepted (a count) must be there, and a store for which space was promised is
 * never refused. Nothing else may fail, and nothing may be reserved at the end.
 */
#define _GNU_SOURCE
#include "fuzz_api.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_OPS 48
#define HW_PAGE 4096 /* steps in which EOF counts for mappings */

const char *const names[NR_NAMES] = {"/a", "/b", "/c", "/d/a", "/d/b", "/d/c"};
struct world world;

static uint8_t buf[FILE_MAX + 1];

int64_t fuzz_must(int64_t ret, const char *expr, int line)
{
    if (ret < 0)
        fuzz_fail(__FILE__, line, expr, "%s", strerror((int)-ret));
    return ret;
}

bool fuzz_or_full(int64_t ret, const char *expr, int line)
{
    if (ret < 0 && ret != -ENOSPC && !(ret == -EDQUOT && world.limited))
        fuzz_fail(__FILE__, line, expr, "%s", strerror((int)-ret));
    return ret >= 0;
}

/* ---- what must be the same */

static void bytes_compare(const struct file *f, const uint8_t *found, hf_off_t off, hf_off_t len,
                          const char *how)
{
    for (hf_off_t i = 0; i < len; i++)
        fuzz_that(found[i] == f->bytes[off + i], "%s: file %d of %lld bytes has %#x at %lld, not %#x", how,
                  (int)(f - world.files), (long long)f->size, found[i], (long long)(off + i),
                  f->bytes[off + i]);
}

void file_compare(struct file *f)
{
    struct stat st;

    must(hf_fstat(f->open, &st));
    fuzz_that(st.st_size == f->size, "the size is %lld, not %lld", (long long)st.st_size, (long long)f->size);
    fuzz_that(st.st_nlink == f->nlink, "%u links, not %u", (unsigned)st.st_nlink, f->nlink);
    fuzz_that(hf_pread(f->open, buf, sizeof(buf), 0) == f->size, "the file is not read whole");
    bytes_compare(f, buf, 0, f->size, "pread");
    more_file_compare(f);
}

static void name_compare(unsigned n)
{
    struct file *f = world.shown[n];
    struct stat st;
    int ret = hf_stat(world.vol, names[n], &st);

    fuzz_that(f ? ret == 0 : ret == -ENOENT, "stat %s says %d", names[n], ret);
    if (f && !f->open) {
        must(hf_open(world.vol, names[n], O_RDWR, 0, &f->open));
        file_compare(f);
        must(hf_close(f->open));
        f->open = NULL;
    } else if (f) {
        file_compare(f);
    }
}

static unsigned entries_count(const char *path)
{
    struct hf_dirent entry;
    struct hf_dir *dir;
    unsigned nr = 0;

    must(hf_opendir(world.vol, path, &dir));
    while (must(hf_readdir(dir, &entry)) == 1)
        nr += entry.type == DT_REG;
    must(hf_closedir(dir));
    return nr;
}

static void world_compare(void)
{
    unsigned in_root = 0, below = 0;

    for (unsigned n = 0; n < NR_NAMES; n++) {
        name_compare(n);
        if (world.shown[n])
            (n < NR_IN_ROOT ? in_root++ : below++);
    }
    fuzz_that(entries_count("/") == in_root, "the root does not list %u files", in_root);
    fuzz_that(entries_count("/d") == below, "/d does not list %u files", below);
    more_compare();
}

/* ---- opening and closing */

void volume_open(void)
{
    int ret = hf_volume_open_device(fuzz_device_again(), &world.opts, &world.vol);

    fuzz_that(ret == 0, "%s (%d)", hf_volume_error_text(), ret);
}

static void file_unmap(struct file *f)
{
    if (f->map)
        must(hf_munmap(f->map, FILE_MAX));
    f->map = NULL;
}

static void file_close(struct file *f)
{
    file_unmap(f);
    if (f->open)
        must(hf_close(f->open));
    f->open = NULL;
    f->promised = false;
}

void volume_close(void)
{
    struct hf_statfs st;
    int ret;

    for (unsigned i = 0; i < world.nr_files; i++)
        file_close(&world.files[i]);
    must(hf_volume_sync(world.vol));
    must(hf_volume_statfs(world.vol, &st));
    ret = hf_volume_close(world.vol);
    fuzz_that(ret == 0, "the volume closes with %d, and %llu blocks were reserved", ret,
              (unsigned long long)st.blocks_reserved);
}

/* ---- the calls */

/* A file with a name or without; NULL: there is none like that. */
struct file *any_file(void)
{
    struct file *f = world.nr_files ? &world.files[input_below(world.in, world.nr_files)] : NULL;

    for (unsigned n = 0; f && !f->open && n < NR_NAMES; n++)
        if (world.shown[n] == f) {
            must(hf_open(world.vol, names[n], O_RDWR, 0, &f->open));
            break;
        }
    return f && f->open ? f : NULL;
}

static void name_drop(unsigned n)
{
    if (world.shown[n])
        world.shown[n]->nlink--;
    world.shown[n] = NULL;
}

void name_set(unsigned n, struct file *f)
{
    world.shown[n] = f;
    if (f)
        f->nlink++;
}

static void do_create(void)
{
    unsigned n = input_below(world.in, NR_NAMES);
    struct file *f = world.shown[n];
    int flags = O_RDWR | O_CREAT | (input_u8(world.in) & 1 ? O_TRUNC : 0);

    if (f && f->open)
        return;
    if (!f && world.nr_files == MAX_FILES)
        return;
    if (!f)
        f = &world.files[world.nr_files];
    if (!or_full(hf_open(world.vol, names[n], flags, 0600, &f->open)))
        return;
    if (!world.shown[n]) {
        world.nr_files++;
        name_set(n, f);
        more_file_made(f, n >= NR_IN_ROOT);
    } else if (flags & O_TRUNC) {
        memset(f->bytes, 0, sizeof(f->bytes));
        f->size = 0;
    }
}

void range_take(struct input *in, hf_off_t limit, hf_off_t *ret_off, hf_off_t *ret_len)
{
    uint8_t how = input_u8(in);
    hf_off_t off = input_below(in, FILE_MAX), len = 1 + input_below(in, FILE_MAX);

    if (how & 1)
        off = off / 512 * 512;
    if (how & 2)
        len = len % 700 + 1;
    if (how & 4)
        len = (len + 511) / 512 * 512;
    if (off >= limit)
        off = limit ? off % limit : 0;
    *ret_off = off;
    *ret_len = len > limit - off ? limit - off : len;
}

static void model_write(struct file *f, hf_off_t off, hf_off_t len)
{
    if (len <= 0)
        return;
    memset(f->bytes + off, f->value, (size_t)len);
    if (f->size < off + len)
        f->size = off + len;
}

static void do_write(struct file *f)
{
    hf_off_t off, len, done;

    range_take(world.in, FILE_MAX, &off, &len);
    f->value = (uint8_t)(f->value % 255 + 1);
    memset(buf, f->value, (size_t)len);
    done = hf_pwrite(f->open, buf, (size_t)len, off);
    fuzz_that(!f->promised || off + len > f->size || done == len, "%lld of %lld bytes written to a promise",
              (long long)done, (long long)len);
    if (or_full(done))
        model_write(f, off, done);
}

static void range_store(struct file *f, hf_off_t off, hf_off_t len, bool promised)
{
    size_t done = 0;
    int ret;

    f->value = (uint8_t)(f->value % 255 + 1);
    memset(buf, f->value, (size_t)len);
    ret = hf_store(f->map + off, buf, (size_t)len, &done);
    fuzz_that(!promised || ret == 0, "a store is refused, and its space was promised: %d", ret);
    or_full(ret);
    model_write(f, off, (hf_off_t)done);
}

static void do_store(struct file *f)
{
    hf_off_t off, len;
    void *map = f->map;

    if (!map)
        must(hf_mmap(f->open, NULL, FILE_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &map));
    f->map = map;
    range_take(world.in, f->size, &off, &len);
    if (f->size && len > 0)
        range_store(f, off, len, f->promised);
}

/* The mapping shows the file, zeros up to the end of its page, and nothing beyond. */
static void do_load(struct file *f)
{
    hf_off_t end = (f->size + HW_PAGE - 1) / HW_PAGE * HW_PAGE;
    size_t done;

    if (!f->map)
        return;
    if (f->size) {
        or_full(hf_load(buf, f->map, (size_t)f->size, &done));
        bytes_compare(f, buf, 0, (hf_off_t)done, "mapping");
    }
    if (end < FILE_MAX) {
        int ret = hf_load(buf, f->map + end, 1, &done);

        fuzz_that(ret == -ENXIO, "a load beyond the last page gives %d", ret);
    }
}

static void do_truncate(struct file *f)
{
    hf_off_t size = input_below(world.in, FILE_MAX + 1);

    if (input_u8(world.in) & 1)
        size = size / 512 * 512;
    if (!or_full(hf_ftruncate(f->open, size)))
        return;
    if (size < f->size)
        memset(f->bytes + size, 0, (size_t)(f->size - size));
    f->size = size;
}

static void do_fallocate(struct file *f)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    int mode = modes[input_below(world.in, sizeof(modes) / sizeof(modes[0]))];
    hf_off_t off, len;

    range_take(world.in, FILE_MAX, &off, &len);
    if (!or_full(hf_fallocate(f->open, mode, off, len)))
        return;
    if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > f->size)
        f->size = off + len;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        memset(f->bytes + off, 0, (size_t)len);
}

static void do_seek(struct file *f)
{
    hf_off_t at = input_below(world.in, FILE_MAX), data, hole;

    if (at >= f->size)
        return;
    data = hf_lseek(f->open, at, SEEK_DATA);
    hole = hf_lseek(f->open, at, SEEK_HOLE);
    fuzz_that(hole >= at && hole <= f->size, "SEEK_HOLE from %lld gives %lld", (long long)at,
              (long long)hole);
    if (data == -ENXIO)
        data = f->size;
    fuzz_that(data >= at && data <= f->size, "SEEK_DATA from %lld gives %lld", (long long)at,
              (long long)data);
    for (hf_off_t i = at; i < data; i++)
        fuzz_that(f->bytes[i] == 0, "SEEK_DATA from %lld passes over data at %lld", (long long)at,
                  (long long)i);
}

static void do_reserve(struct file *f)
{
    hf_off_t off, len;

    if (!f->map || !f->size)
        return;
    range_take(world.in, f->size, &off, &len);
    if (len > 0 && or_full(hf_reserve(f->map + off, (size_t)len)) && input_u8(world.in) & 1)
        range_store(f, off, len, true);
}

static void do_sync(struct file *f)
{
    switch (input_below(world.in, 4)) {
    case 0:
        must(hf_fsync(f->open));
        break;
    case 1:
        must(hf_fdatasync(f->open));
        break;
    case 2:
        if (f->map)
            must(hf_msync(f->map, FILE_MAX, input_u8(world.in) & 1 ? MS_SYNC : MS_ASYNC));
        break;
    default:
        must(hf_volume_sync(world.vol));
        break;
    }
}

static void do_unlink(void)
{
    unsigned n = input_below(world.in, NR_NAMES);
    int ret = hf_unlink(world.vol, names[n]);

    fuzz_that(ret == (world.shown[n] ? 0 : -ENOENT), "unlink %s gives %d", names[n], ret);
    name_drop(n);
}

static void do_link(void)
{
    unsigned from = input_below(world.in, NR_NAMES), to = input_below(world.in, NR_NAMES);
    int ret = hf_link(world.vol, names[from], names[to]);

    if (world.shown[from] && !world.shown[to] && ret == -ENOSPC)
        return;
    fuzz_that(ret == (!world.shown[from]                                     ? -ENOENT
                      : world.shown[to]                                      ? -EEXIST
                      : more_is_refused(world.shown[from], to >= NR_IN_ROOT) ? -EXDEV
                                                                             : 0),
              "link %s %s gives %d", names[from], names[to], ret);
    if (ret == 0)
        name_set(to, world.shown[from]);
}

static void do_rename(void)
{
    static const unsigned all[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    unsigned flags = all[input_below(world.in, 3)];
    unsigned from = input_below(world.in, NR_NAMES), to = input_below(world.in, NR_NAMES);
    struct file *a = world.shown[from], *b = world.shown[to];
    int want = !a ? -ENOENT : 0, ret = hf_rename(world.vol, names[from], names[to], flags);

    if (a && flags == RENAME_NOREPLACE && b)
        want = -EEXIST;
    if (a && flags == RENAME_EXCHANGE && !b)
        want = -ENOENT;
    if (want == 0 && a != b &&
        (more_is_refused(a, to >= NR_IN_ROOT) ||
         (flags == RENAME_EXCHANGE && more_is_refused(b, from >= NR_IN_ROOT))))
        want = -EXDEV;
    if (want == 0 && ret == -ENOSPC)
        return;
    fuzz_that(ret == want, "rename %s %s with %#x gives %d, not %d", names[from], names[to], flags, ret,
              want);
    if (ret != 0 || a == b) /* two names of one file stay */
        return;
    if (flags == RENAME_EXCHANGE) {
        world.shown[from] = b;
        world.shown[to] = a;
        return;
    }
    name_drop(to);
    world.shown[to] = a;
    world.shown[from] = NULL;
}

static void do_reopen(void)
{
    volume_close();
    volume_open();
}

static void do_file(unsigned op)
{
    static void (*const ops[])(struct file *) = {
        do_write, do_write,   do_store, do_store, do_load,      do_truncate, do_truncate, do_fallocate,
        do_seek,  do_reserve, do_sync,  do_sync,  file_compare, file_close,  file_unmap};
    struct file *f = any_file();

    if (f)
        ops[op % (sizeof(ops) / sizeof(ops[0]))](f);
}

static void do_op(void)
{
    unsigned op = input_u8(world.in);

    if (op >= 112) {
        do_file(op);
    } else if (op >= 52) {
        more_do();
    } else if (op < 16) {
        do_create();
    } else if (op < 24) {
        do_rename();
    } else if (op < 30) {
        do_link();
    } else if (op < 40) {
        do_unlink();
    } else if (op < 46) {
        do_reopen();
    } else {
        world_compare();
    }
    more_limits_hold();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint8_t how = input_u8(&in);
    struct hf_device *dev = fuzz_device_new(how & 1 ? FUZZ_EMPTY_512 : FUZZ_EMPTY_4096);

    dev->ops->close(dev);
    memset(world.files, 0, world.nr_files * sizeof(world.files[0]));
    memset(world.shown, 0, sizeof(world.shown));
    world.nr_files = 0;
    world.in = &in;
    world.opts = (struct hf_open_options){.flags = how & 16 ? HF_OPEN_DISCARD : 0,
                                          .writeback_ms = 3600000,
                                          .page_size = how & 2 ? 16384 : 4096,
                                          .isize_sync = how & 4 ? HF_ISIZE_HOLE_LOCK : HF_ISIZE_PAGE_LOCK,
                                          .cache_bytes = how & 8 ? 1 : 0 /* the least there is */};
    volume_open();
    must(hf_mkdir(world.vol, "/d", 0700));
    more_begin();
    for (unsigned i = 0; i < MAX_OPS && !input_over(&in); i++)
        do_op();
    world_compare();
    do_reopen();
    world_compare();
    volume_close();
    return 0;
}
