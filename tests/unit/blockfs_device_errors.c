/* SPDX-License-Identifier: MIT */
/*
 * blockfs_device_errors.c - a device that fails for a while costs errors, not data: what an op was told to
 * have succeeded is there when the device works again, what failed has changed nothing, and space stays
 * exact.
 */
#include "blockfs_util.h"

#include <sys/stat.h>

#define FILES 6
#define FILE_BLOCKS 40  /* where ops work */
#define MODEL_BLOCKS 64 /* and where sizes may grow to */

struct model {
    bool there[FILES];
    uint64_t nr_blocks[FILES];
    int byte[FILES][MODEL_BLOCKS]; /* 0: hole or zeros; -1: a write failed, old or new */
    int old[FILES][MODEL_BLOCKS];
};

struct world {
    struct vol vol;
    struct hf_inode *root, *inode[FILES];
    struct model model;
    uint64_t seed;
    uint64_t orphaned; /* blocks of deleted files that the next mount frees */
    unsigned failed;
};

static const char *name_of(int f)
{
    static const char *const names[FILES] = {"f0", "f1", "f2", "f3", "f4", "f5"};

    return names[f];
}

/* Whether the op succeeded; an error must be one that a device can cause. */
static bool went_well(struct world *w, int rc)
{
    if (rc == 0)
        return true;
    assert_that(rc == -EIO, "an op failed with %d", rc);
    w->failed++;
    return false;
}

static void op_create_or_unlink(struct world *w, int f)
{
    struct hf_create how = {.mode = S_IFREG | 0600, .now_ns = ++w->vol.now_ns};
    struct model *m = &w->model;
    uint64_t ino;

    if (!m->there[f]) {
        if (!went_well(w, w->vol.ops->create(w->root, name_of(f), &how, &ino)))
            return;
        m->there[f] = true;
        m->nr_blocks[f] = 0;
        memset(m->byte[f], 0, sizeof(m->byte[f]));
        memset(m->old[f], 0, sizeof(m->old[f]));
        w->inode[f] = calloc(1, sizeof(*w->inode[f]));
        assert_non_null(w->inode[f]);
        w->inode[f]->sb = &w->vol.sb;
        w->inode[f]->ino = ino;
        assert_ok(w->vol.ops->read_inode(w->inode[f]));
        return;
    }
    if (!went_well(w, w->vol.ops->unlink(w->root, name_of(f), w->inode[f], ++w->vol.now_ns)))
        return;
    m->there[f] = false;
    if (!went_well(w, w->vol.ops->evict_inode(w->inode[f])))
        w->orphaned += atomic_load(&w->inode[f]->blocks);
    free(w->inode[f]);
    w->inode[f] = NULL;
}

static void op_write(struct world *w, int f, uint64_t blk, uint64_t nr, int byte)
{
    hf_off_t size = atomic_load(&w->inode[f]->size);
    bool ok = went_well(w, file_write(w->inode[f], blk, nr, byte));

    if (!ok)
        atomic_store(&w->inode[f]->size, size); /* the framework moves it when the data is there */
    for (uint64_t b = blk; b < blk + nr; b++) {
        int *now = &w->model.byte[f][b];

        if (!ok && *now != -1)
            w->model.old[f][b] = *now;
        *now = ok ? byte : -1;
    }
    if (ok && blk + nr > w->model.nr_blocks[f])
        w->model.nr_blocks[f] = blk + nr;
}

/* i_size moves even when freeing fails. */
static void op_truncate(struct world *w, int f, uint64_t nr)
{
    hf_off_t old = atomic_load(&w->inode[f]->size), new = (hf_off_t)(nr * w->vol.sb.block_size);

    if (!went_well(w, w->vol.ops->setattr_prepare(w->inode[f], old, new)))
        return;
    atomic_store(&w->inode[f]->size, new);
    went_well(w, new < old ? w->vol.ops->truncate(w->inode[f], old, new)
                           : w->vol.ops->write_inode(w->inode[f], new));
    for (uint64_t b = nr; b < MODEL_BLOCKS; b++)
        w->model.byte[f][b] = w->model.old[f][b] = 0;
    w->model.nr_blocks[f] = nr;
}

static void op_punch(struct world *w, int f, uint64_t blk, uint64_t nr)
{
    if (!went_well(w, w->vol.ops->punch(w->inode[f], blk, nr)))
        return;
    memset(&w->model.byte[f][blk], 0, nr * sizeof(int));
    memset(&w->model.old[f][blk], 0, nr * sizeof(int));
}

static void step(struct world *w, int i)
{
    int f = (int)random_below(&w->seed, FILES);
    uint64_t blk = random_below(&w->seed, FILE_BLOCKS - 8), nr = 1 + random_below(&w->seed, 8);
    uint64_t kind = random_below(&w->seed, 12);

    if (!w->model.there[f] || kind == 0) {
        op_create_or_unlink(w, f);
        return;
    }
    switch (kind) {
    case 1:
        op_truncate(w, f, blk);
        break;
    case 2:
        op_punch(w, f, blk, nr);
        break;
    case 3:
        went_well(w, w->vol.ops->preallocate(w->inode[f], blk, nr, 0));
        break;
    case 4:
    case 5:
        went_well(w, w->vol.ops->fsync(w->inode[f], kind == 5));
        break;
    case 6:
        went_well(w, w->vol.ops->sync(&w->vol.sb));
        break;
    default:
        op_write(w, f, blk, nr, 1 + i % 250);
        break;
    }
}

static void check(struct world *w)
{
    uint64_t blocks = w->orphaned;

    for (int f = 0; f < FILES; f++) {
        struct hf_inode *inode = w->inode[f];

        assert_true((inode != NULL) == w->model.there[f]);
        if (inode == NULL)
            continue;
        assert_int_equal(file_blocks(inode), w->model.nr_blocks[f]);
        for (uint64_t b = 0; b < w->model.nr_blocks[f]; b++) {
            int byte = file_byte(inode, b), want = w->model.byte[f][b];

            assert_that(want == -1 || byte == want, "%s, block %d: %d, not %d", name_of(f), (int)b, byte,
                        want);
        }
        blocks += atomic_load(&inode->blocks);
    }
    assert_int_equal(vol_free(&w->vol) + blocks, vol_statfs(&w->vol).blocks);
}

static void world_open(struct world *w, struct hf_device *dev)
{
    vol_mount(&w->vol, dev);
    w->orphaned = 0;
    w->root = root_get(&w->vol);
    for (int f = 0; f < FILES; f++) {
        w->inode[f] = node_find(&w->vol, w->root, name_of(f));
        assert_true((w->inode[f] != NULL) == w->model.there[f]);
    }
}

static void world_close(struct world *w)
{
    for (int f = 0; f < FILES; f++) {
        if (w->inode[f] != NULL)
            inode_put(w->inode[f]);
        w->inode[f] = NULL;
    }
    inode_put(w->root);
    vol_unmount(&w->vol);
}

/* Faults of one kind come and go during many ops. */
static void run(struct hf_device_faults *faults, uint64_t *which, uint64_t seed)
{
    struct hf_device *mem = vol_format(4 << 20, 4096, false), *dev;
    struct hf_device_faults none = {0};
    struct world w = {.seed = seed};

    assert_ok(hf_device_fault_new(mem, &dev));
    world_open(&w, dev);
    for (int i = 0; i < 1500; i++) {
        if (i % 10 == 0) {
            *which = 1 + random_below(&w.seed, 30);
            faults->count = 1 + random_below(&w.seed, 6);
            hf_device_fault_set(dev, faults);
        }
        step(&w, i);
        if (i % 300 == 299) {
            hf_device_fault_set(dev, &none);
            for (int f = 0; f < FILES; f++) /* what an interrupted truncate left */
                if (w.inode[f] != NULL)
                    op_truncate(&w, f, w.model.nr_blocks[f] + 1);
            assert_ok(w.vol.ops->sync(&w.vol.sb));
            check(&w);
        }
    }
    hf_device_fault_set(dev, &none);
    assert_true(w.failed > 20);
    for (int f = 0; f < FILES; f++)
        if (w.inode[f] != NULL)
            op_truncate(&w, f, w.model.nr_blocks[f] + 1);
    world_close(&w);
    world_open(&w, dev);
    check(&w);
    world_close(&w);
    hf_dev_close(dev);
}

static void failing_writes(void **state)
{
    struct hf_device_faults faults = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        run(&faults, &faults.fail_write_at, seed);
}

static void failing_flushes(void **state)
{
    struct hf_device_faults faults = {0};

    (void)state;
    for (uint64_t seed = 11; seed <= 14; seed++)
        run(&faults, &faults.fail_flush_at, seed);
}

/* Only what SQLite writes fails: every commit may be lost, and is done again from the log. */
static void failing_metadata(void **state)
{
    struct hf_device *mem = vol_format(4 << 20, 4096, false);
    struct hf_device_faults faults = {0};
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR];

    (void)state;
    assert_ok(hf_blockfs_header_read(mem, false, &header, NULL, err));
    hf_dev_close(mem);
    faults.range_end = (hf_off_t)header.data_off;
    for (uint64_t seed = 21; seed <= 24; seed++)
        run(&faults, &faults.fail_write_at, seed);
}

static void a_failed_commit_is_made_up_for_by_the_next(void **state)
{
    struct hf_device *mem = vol_format(4 << 20, 4096, false), *dev, *image;
    struct hf_device_faults faults = {.fail_write_at = 1}, none = {0};
    struct hf_inode *root, *a, *b;
    struct vol vol, later;

    (void)state;
    assert_ok(hf_device_fault_new(mem, &dev));
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 0, 10, 'a'));
    hf_device_fault_set(dev, &faults);
    assert_err(vol.ops->fsync(a, false), EIO);
    assert_err(vol.ops->fsync(a, false), EIO);
    b = file_create(&vol, root, "b"); /* the database is in memory enough for that */
    hf_device_fault_set(dev, &none);
    assert_ok(vol.ops->fsync(b, false));
    image = image_copy(mem);
    vol_mount(&later, image);
    inode_put(root);
    root = root_get(&later);
    inode_put(a);
    a = node_find(&later, root, "a");
    assert_non_null(a);
    file_check(a, 0, 10, 'a');
    assert_int_equal(file_blocks(a), 10);
    inode_put(a);
    a = node_find(&later, root, "b");
    assert_non_null(a);
    inode_put(a);
    inode_put(root);
    vol_unmount(&later);
    hf_dev_close(image);
    inode_put(b);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* DESIGN 6: the size stands, the caller is told, the blocks go later; and growing over them is refused until
 * then. */
static void a_truncate_that_cannot_free_keeps_old_data_away(void **state)
{
    struct hf_device *mem = vol_format(32 << 20, 512, false), *dev, *image;
    struct hf_device_faults faults = {.fail_write_at = 1}, none = {0};
    struct hf_inode *root, *a, *found;
    uint64_t before, nr = 40000;
    struct vol vol, later;
    int rc;

    (void)state;
    assert_ok(hf_device_fault_new(mem, &dev));
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(vol.ops->sync(&vol.sb));
    before = vol_free(&vol);
    for (uint64_t b = 0; b < nr; b++) /* so many extents that one transaction cannot free them */
        assert_ok(file_write(a, 2 * b, 1, 'a'));
    assert_ok(vol.ops->fsync(a, false));
    assert_ok(vol.ops->setattr_prepare(a, atomic_load(&a->size), 512));
    hf_device_fault_set(dev, &faults);
    rc = vol.ops->truncate(a, atomic_load(&a->size), 512);
    assert_err(rc, EIO);
    atomic_store(&a->size, 512);
    assert_err(vol.ops->setattr_prepare(a, 512, 8192), EIO);
    assert_true(atomic_load(&a->blocks) > 1);
    /* As the device is now, the next mount finishes it. */
    hf_device_fault_set(dev, &none);
    image = image_copy(mem);
    vol_mount(&later, image);
    found = inode_get(&later, a->ino);
    if (file_blocks(found) == 1) /* the commit with the new size had come through */
        assert_int_equal(atomic_load(&found->blocks), 1);
    else
        assert_int_equal(atomic_load(&found->blocks), nr);
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);
    assert_ok(vol.ops->setattr_prepare(a, 512, 8192));
    assert_int_equal(atomic_load(&a->blocks), 1);
    atomic_store(&a->size, 8192);
    file_check(a, 0, 1, 'a');
    file_check(a, 1, 15, 0);
    assert_ok(vol.ops->sync(&vol.sb));
    assert_int_equal(vol_free(&vol), before - 1);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void a_failed_read_is_an_error(void **state)
{
    struct hf_device *mem = vol_format(4 << 20, 4096, false), *dev;
    struct hf_device_faults faults = {.fail_read_at = 1}, none = {0};
    struct hf_inode *root, *a;
    struct vol vol;
    char buf[4096];

    (void)state;
    assert_ok(hf_device_fault_new(mem, &dev));
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 0, 1, 'a'));
    hf_device_fault_set(dev, &faults);
    assert_err(vol.ops->read(a, buf, sizeof(buf), 0), EIO);
    assert_ok(vol.ops->read(a, buf, sizeof(buf), 4096)); /* a hole needs no device */
    hf_device_fault_set(dev, &none);
    file_check(a, 0, 1, 'a');
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_device_fault_set(dev, &faults);
    assert_err(vol_try_mount(&vol, dev, false), EIO);
    assert_true(vol.sb.error_text[0] != 0);
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_writes),
        cmocka_unit_test(failing_flushes),
        cmocka_unit_test(failing_metadata),
        cmocka_unit_test(a_failed_commit_is_made_up_for_by_the_next),
        cmocka_unit_test(a_truncate_that_cannot_free_keeps_old_data_away),
        cmocka_unit_test(a_failed_read_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
