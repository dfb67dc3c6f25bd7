/* SPDX-License-Identifier: MIT */
/*
 * fallocate_fails_half_way.c - a driver that fails after it has freed some of the blocks: the cache believes
 * what the driver then says, so no store is accepted into a block that is not there, and none that was
 * accepted into one that is there gets lost.
 */
#include "wrapped_driver.h"

#include <holdfast/holdfast.h>

#define B 1024
#define BLOCKS 32 /* of the file */
#define SIZE ((size_t)BLOCKS * B)
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static const struct hf_driver *real;

/* The first half is freed, the second is not. */
static int punch_half(struct hf_inode *inode, hf_blk_t blk, uint64_t nr)
{
    assert_ok(real->punch(inode, blk, nr / 2));
    return -EIO;
}

static int punch_nothing(struct hf_inode *inode, hf_blk_t blk, uint64_t nr)
{
    (void)inode;
    (void)blk;
    (void)nr;
    return -EIO;
}

static int truncate_then_fail(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size)
{
    assert_ok(real->truncate(inode, old_size, new_size));
    return -EIO;
}

static int truncate_not_at_all(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size)
{
    (void)inode;
    (void)old_size;
    (void)new_size;
    return -EIO;
}

struct mapped {
    struct hf_file *file;
    uint8_t *map;
};

static struct mapped map_file(struct wrapped *w, const char *path, hf_off_t size)
{
    struct mapped m = {.file = wrapped_file(w, path, size)};
    void *at;

    assert_ok(hf_mmap(m.file, NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at));
    m.map = at;
    return m;
}

static void unmap_file(struct mapped *m)
{
    assert_ok(hf_munmap(m->map, SIZE));
    assert_ok(hf_close(m->file));
}

static void store(uint8_t *at, uint8_t value, size_t len)
{
    uint8_t *bytes = malloc(len);
    size_t done;

    assert_non_null(bytes);
    memset(bytes, value, len);
    assert_ok(hf_store(at, bytes, len, &done));
    assert_int_equal(done, len);
    free(bytes);
}

static int store_one(uint8_t *at, uint8_t value)
{
    return hf_store(at, &value, 1, NULL);
}

/* Blocks [2, 30) are punched, of which [2, 16) go. All were dirty, and written before if `written`. */
static void half_a_punch(struct wrapped *w, bool written)
{
    struct mapped m = map_file(w, "/f", SIZE);

    store(m.map, 'a', SIZE);
    if (written) {
        assert_ok(hf_fsync(m.file));
        store(m.map, 'b', SIZE);
    }
    w->driver.punch = punch_half;
    assert_err(hf_fallocate(m.file, PUNCH, 2 * B, 28 * B), EIO);
    w->driver.punch = real->punch;
    assert_bytes(m.map, written ? 'b' : 'a', 2 * B);
    if (written)
        assert_bytes(m.map + 2 * B, 0, 14 * B);
    else /* promised, not allocated: there was nothing to free, so nothing has changed */
        assert_bytes(m.map + 2 * B, 'a', 14 * B);
    assert_bytes(m.map + 16 * B, written ? 'b' : 'a', 16 * B);
    assert_ok(hf_fsync(m.file));
    /* What is a hole now asks again. */
    store(m.map + B, 'c', 10 * B);
    assert_ok(hf_fsync(m.file));
    unmap_file(&m);
    assert_ok(wrapped_close(w));
    if (w->dev == NULL)
        return;
    wrapped_open(w, NULL);
    m = map_file(w, "/f", -1);
    assert_bytes(m.map, written ? 'b' : 'a', B);
    assert_bytes(m.map + B, 'c', 10 * B);
    assert_bytes(m.map + 11 * B, written ? 0 : 'a', 5 * B);
    assert_bytes(m.map + 16 * B, written ? 'b' : 'a', 16 * B);
    unmap_file(&m);
    assert_ok(wrapped_close(w));
}

static void each_driver(void (*fn)(struct wrapped *w, bool written))
{
    for (int i = 0; i < 4; i++) {
        struct wrapped w;

        if (i & 1)
            wrapped_blockfs(&w, 4 << 20, B);
        else
            wrapped_memfs(&w, 1 << 20, B);
        real = w.real;
        wrapped_open(&w, NULL);
        fn(&w, (i & 2) != 0);
        wrapped_free(&w);
    }
}

static void what_the_driver_freed_is_a_hole_to_the_cache(void **state)
{
    (void)state;
    each_driver(half_a_punch);
}

/* No space is left: freed blocks refuse, the others take stores, and nothing accepted fails later. */
static void half_a_punch_when_full(struct wrapped *w, bool written)
{
    struct mapped m = map_file(w, "/f", SIZE);

    store(m.map, 'a', SIZE);
    assert_ok(hf_fsync(m.file));
    if (written)
        store(m.map, 'b', SIZE);
    w->driver.punch = punch_half;
    assert_err(hf_fallocate(m.file, PUNCH, 0, SIZE), EIO);
    w->driver.punch = real->punch;
    assert_ok(hf_fsync(m.file));
    wrapped_fill_but(w, "/ballast", 0);
    assert_err(store_one(m.map, 'c'), ENOSPC);
    assert_err(store_one(m.map + SIZE / 2 - 1, 'c'), ENOSPC);
    assert_ok(store_one(m.map + SIZE / 2, 'c'));
    assert_ok(hf_fsync(m.file));
    assert_bytes(m.map, 0, SIZE / 2);
    assert_bytes(m.map + SIZE / 2 + 1, written ? 'b' : 'a', SIZE / 2 - 1);
    unmap_file(&m);
    assert_ok(wrapped_close(w));
}

static void a_freed_block_is_not_stored_to_without_space(void **state)
{
    (void)state;
    each_driver(half_a_punch_when_full);
}

static void nothing_punched(struct wrapped *w, bool written)
{
    struct mapped m = map_file(w, "/f", SIZE);

    store(m.map, 'a', SIZE);
    if (written)
        assert_ok(hf_fsync(m.file));
    w->driver.punch = punch_nothing;
    assert_err(hf_fallocate(m.file, PUNCH, 100, SIZE - 200), EIO);
    w->driver.punch = real->punch;
    assert_bytes(m.map, 'a', SIZE);
    assert_ok(hf_fsync(m.file));
    unmap_file(&m);
    assert_ok(wrapped_close(w));
}

static void a_punch_that_frees_nothing_changes_nothing(void **state)
{
    (void)state;
    each_driver(nothing_punched);
}

/* The error is told, the size stands (DESIGN 6), and no sync brings the old one back. */
static void size_after_failed_shrink(int (*op)(struct hf_inode *inode, hf_off_t old_size, hf_off_t new_size))
{
    struct wrapped w;
    struct mapped m;
    struct stat st;

    wrapped_blockfs(&w, 4 << 20, B);
    real = w.real;
    wrapped_open(&w, NULL);
    m = map_file(&w, "/f", SIZE);
    store(m.map, 'a', SIZE);
    assert_ok(hf_fsync(m.file));
    w.driver.truncate = op;
    assert_err(hf_ftruncate(m.file, 3 * B), EIO);
    w.driver.truncate = real->truncate;
    assert_ok(hf_fstat(m.file, &st));
    assert_int_equal(st.st_size, 3 * B);
    assert_ok(hf_fdatasync(m.file));
    unmap_file(&m);
    assert_ok(wrapped_close(&w));
    wrapped_open(&w, NULL);
    assert_ok(hf_stat(w.volume, "/f", &st));
    assert_int_equal(st.st_size, 3 * B);
    assert_ok(wrapped_close(&w));
    wrapped_free(&w);
}

static void a_failed_shrink_stays(void **state)
{
    (void)state;
    size_after_failed_shrink(truncate_then_fail);
    size_after_failed_shrink(truncate_not_at_all);
}

/* Driven directly: the driver's own answer. */
static void hole_written(struct vol *vol)
{
    struct hf_inode *root = root_get(vol), *a = file_create(vol, root, "a");
    char bytes[4 * B];

    memset(bytes, 'x', sizeof(bytes));
    assert_err(vol->ops->write(a, bytes, sizeof(bytes), 0), EIO);
    assert_ok(file_write(a, 0, 2, 'a'));
    assert_err(vol->ops->write(a, bytes, sizeof(bytes), 0), EIO);
    assert_err(vol->ops->write(a, bytes, B, 2 * B), EIO);
    assert_ok(vol->ops->write(a, bytes, 2 * B, 0));
    inode_put(a);
    inode_put(root);
    vol_unmount(vol);
}

static void writing_to_a_hole_is_an_error(void **state)
{
    struct hf_device *dev = vol_format(4 << 20, B, false);
    struct vol vol;

    (void)state;
    vol_mount(&vol, dev);
    hole_written(&vol);
    dev->ops->close(dev);
    vol_mount_memfs(&vol, 1 << 20, B);
    hole_written(&vol);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_driver_freed_is_a_hole_to_the_cache),
        cmocka_unit_test(a_freed_block_is_not_stored_to_without_space),
        cmocka_unit_test(a_punch_that_frees_nothing_changes_nothing),
        cmocka_unit_test(a_failed_shrink_stays),
        cmocka_unit_test(writing_to_a_hole_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
