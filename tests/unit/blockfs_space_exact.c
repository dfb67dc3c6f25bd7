/* SPDX-License-Identifier: MIT */
/* blockfs_space_exact.c - space is promised down to the last block, and a promise is kept, however
 * fragmented. */
#include "blockfs_util.h"

#include <pthread.h>

static void the_last_block_can_be_had_and_not_one_more(uint32_t block_size)
{
    struct hf_device *dev = vol_format(4 << 20, block_size, false);
    struct hf_inode *root, *a;
    uint64_t total, nr = 0;
    struct vol vol;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    total = vol_free(&vol);
    assert_int_equal(total, vol_statfs(&vol).blocks);
    assert_err(vol.ops->reserve(a, total + 1, 0), ENOSPC);
    assert_err(vol.ops->reserve(a, total + 1, HF_NOWAIT), ENOSPC);
    assert_int_equal(vol_free(&vol), total); /* all or nothing */
    while (vol.ops->reserve(a, 1, HF_NOWAIT) == 0)
        nr++;
    assert_int_equal(nr, total);
    assert_int_equal(vol_free(&vol), 0);
    assert_int_equal(vol_statfs(&vol).blocks_reserved, total);
    /* Every promise is kept: as single blocks far apart, each an extent of its own, and all are committed. */
    for (uint64_t i = 0; i < total; i++)
        assert_ok(vol.ops->allocate(a, 2 * ((i * 7919) % total), 1));
    for (uint64_t i = 0; i < total; i++)
        assert_ok(file_write(a, 2 * i, 1, (int)(1 + i % 200)));
    assert_ok(vol.ops->fsync(a, false));
    assert_int_equal(hf_blockfs_of(&vol.sb)->txn.nr_extents, total);
    assert_int_equal(vol_statfs(&vol).blocks_reserved, 0);
    assert_err(file_write(a, 1, 1, 1), ENOSPC);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);

    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = node_find(&vol, root, "a");
    assert_int_equal(vol_free(&vol), 0);
    for (uint64_t i = 0; i < total; i++)
        assert_int_equal(file_byte(a, 2 * i), 1 + i % 200);
    inode_put(a);
    file_unlink(&vol, root, "a");
    assert_int_equal(vol_free(&vol), total);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void the_last_block_512(void **state)
{
    (void)state;
    the_last_block_can_be_had_and_not_one_more(512);
}

static void the_last_block_4096(void **state)
{
    (void)state;
    the_last_block_can_be_had_and_not_one_more(4096);
}

/* A full volume in one file, every second block of it punched, those filled again by another file: twice. */
static void worst_fragmentation_commits(uint32_t block_size)
{
    struct hf_device *dev = vol_format(6 << 20, block_size, false);
    struct hf_inode *root, *a, *b;
    struct vol vol;
    uint64_t total;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    b = file_create(&vol, root, "b");
    total = vol_free(&vol);
    assert_ok(file_write(a, 0, total, 'a'));
    assert_ok(vol.ops->fsync(a, false));
    assert_true(hf_blockfs_of(&vol.sb)->txn.nr_extents <= 3);
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < total; i += 2)
            assert_ok(vol.ops->punch(a, i, 1));
        assert_int_equal(vol_free(&vol), total / 2 + total % 2);
        for (uint64_t i = 0; i < total / 2; i++)
            assert_ok(file_write(b, 3 * i, 1, 'b'));
        assert_ok(vol.ops->sync(&vol.sb));
        assert_true(hf_blockfs_of(&vol.sb)->txn.nr_extents >= total - 1);
        if (round == 1)
            break;
        assert_ok(file_truncate(b, 0));
        for (uint64_t i = 0; i < total; i += 2)
            assert_ok(file_write(a, i, 1, 'A'));
        assert_ok(vol.ops->sync(&vol.sb));
    }
    inode_put(a);
    inode_put(b);
    inode_put(root);
    vol_unmount(&vol);
    vol_mount(&vol, dev);
    assert_int_equal(vol_free(&vol), total % 2);
    root = root_get(&vol);
    a = node_find(&vol, root, "a");
    b = node_find(&vol, root, "b");
    for (uint64_t i = 0; i < total / 2; i++) {
        assert_int_equal(file_byte(a, 2 * i + 1), 'a');
        assert_int_equal(file_byte(b, 3 * i), 'b');
    }
    assert_ok(file_truncate(a, 1)); /* half of the volume leaves, block by block */
    assert_ok(vol.ops->sync(&vol.sb));
    assert_int_equal(vol_free(&vol), total / 2 + total % 2);
    inode_put(a);
    inode_put(b);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void worst_fragmentation_512(void **state)
{
    (void)state;
    worst_fragmentation_commits(512);
}

static void worst_fragmentation_4096(void **state)
{
    (void)state;
    worst_fragmentation_commits(4096);
}

static void names_never_eat_the_metadata_of_blocks(void **state)
{
    struct hf_device *dev = vol_format(2 << 20, 512, false);
    struct hf_create how = {.mode = 0100644, .now_ns = 5};
    struct hf_inode *root, *a;
    uint64_t total, ino, nr = 0;
    char name[256];
    struct vol vol;
    int rc;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    total = vol_free(&vol);
    memset(name, 'n', 255);
    do {
        snprintf(name, sizeof(name), "%0250llu", (unsigned long long)nr);
        rc = vol.ops->create(root, name, &how, &ino);
    } while (rc == 0 && ++nr < 100000);
    assert_err(rc, ENOSPC);
    assert_true(nr > 40); /* with names this long */
    assert_int_equal(vol_statfs(&vol).inodes, nr + 2);
    for (uint64_t i = 0; i < total; i++)
        assert_ok(file_write(a, 2 * i, 1, 'x'));
    assert_ok(vol.ops->sync(&vol.sb));
    assert_int_equal(vol_free(&vol), 0);
    /* Names can go, and come again. */
    for (uint64_t i = 0; i < nr; i++) {
        snprintf(name, sizeof(name), "%0250llu", (unsigned long long)i);
        file_unlink(&vol, root, name);
    }
    assert_ok(vol.ops->create(root, "again", &how, &ino));
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void freed_blocks_wait_for_the_commit(void **state)
{
    struct hf_device *dev = vol_format(4 << 20, 4096, false);
    struct hf_inode *root, *a, *b;
    struct vol vol;
    uint64_t total;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    b = file_create(&vol, root, "b");
    total = vol_free(&vol);
    assert_ok(file_write(a, 0, total, 'a'));
    assert_ok(vol.ops->sync(&vol.sb));
    assert_ok(file_truncate(a, total - 10));
    assert_int_equal(vol_free(&vol), 10);
    /* In a fault nobody can wait for it; else the commit is made. */
    assert_err(vol.ops->reserve(b, 1, HF_NOWAIT), EAGAIN);
    assert_err(vol.ops->reserve(b, 11, HF_NOWAIT), ENOSPC);
    assert_err(vol.ops->reserve(b, 11, 0), ENOSPC);
    assert_ok(vol.ops->reserve(b, 10, 0));
    assert_int_equal(vol_free(&vol), 0);
    vol.ops->unreserve(b, 10);
    assert_ok(vol.ops->reserve(b, 10, HF_NOWAIT));
    vol.ops->unreserve(b, 10);
    inode_put(a);
    inode_put(b);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void speculation_leaves_an_eighth(void **state)
{
    struct hf_device *dev = vol_format(4 << 20, 4096, false);
    struct hf_inode *root, *a;
    struct vol vol;
    uint64_t total, nr = 0;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    total = vol_free(&vol);
    while (vol.ops->reserve(a, 1, HF_SPECULATIVE | HF_NOWAIT) == 0)
        nr++;
    assert_int_equal(nr, total - total / 8);
    assert_ok(vol.ops->reserve(a, total / 8, HF_NOWAIT));
    vol.ops->unreserve(a, total);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void preallocation_is_all_or_nothing(void **state)
{
    struct hf_device *dev = vol_format(4 << 20, 4096, false);
    struct hf_inode *root, *a;
    struct vol vol;
    uint64_t total;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    total = vol_free(&vol);
    assert_ok(file_write(a, 5, 1, 'a'));
    assert_err(vol.ops->preallocate(a, 0, total + 1, 0), ENOSPC);
    assert_int_equal(vol_free(&vol), total - 1);
    assert_int_equal(file_kind(a, 0), HF_EXTENT_HOLE);
    assert_ok(vol.ops->preallocate(a, 0, total, 0));
    assert_int_equal(vol_free(&vol), 0);
    assert_int_equal(atomic_load(&a->blocks), total);
    file_check(a, 5, 1, 'a');
    file_check(a, 6, total - 6, 0);
    assert_ok(file_write(a, 0, total, 'b')); /* needs nothing more */
    assert_ok(vol.ops->fsync(a, false));
    assert_ok(vol.ops->punch(a, 0, total));
    assert_int_equal(vol_free(&vol), total);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* ---- thin */

/* A device that has promised some of its blocks, and refuses once its budget is used up. */
struct thin_dev {
    struct hf_device base;
    struct hf_device *lower;
    hf_off_t budget;
    unsigned char *promised; /* per 512 bytes */
    unsigned broken;         /* writes where nothing was promised */
    hf_off_t data_off;
};

static int thin_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    return hf_dev_read(((struct thin_dev *)dev)->lower, buf, len, off);
}
static int thin_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    struct thin_dev *thin = (struct thin_dev *)dev;

    for (hf_off_t o = off; o < off + (hf_off_t)len; o += 512)
        thin->broken += o >= thin->data_off && o < dev->size_bytes - 4096 && !thin->promised[o / 512];
    return hf_dev_write(thin->lower, buf, len, off);
}
static int thin_flush(struct hf_device *dev)
{
    return hf_dev_flush(((struct thin_dev *)dev)->lower);
}
static int thin_guarantee(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    struct thin_dev *thin = (struct thin_dev *)dev;
    hf_off_t news = 0;

    for (hf_off_t o = off; o < off + len; o += 512)
        news += thin->promised[o / 512] ? 0 : 512;
    if (news > thin->budget)
        return -ENOSPC;
    thin->budget -= news;
    memset(thin->promised + off / 512, 1, (size_t)len / 512);
    return 0;
}
static void thin_close(struct hf_device *dev)
{
    struct thin_dev *thin = (struct thin_dev *)dev;

    hf_dev_close(thin->lower);
    free(thin->promised);
    free(thin);
}

static struct thin_dev *thin_new(struct hf_device *lower, hf_off_t budget)
{
    static const struct hf_device_ops ops = {.read = thin_read,
                                             .write = thin_write,
                                             .flush = thin_flush,
                                             .guarantee = thin_guarantee,
                                             .close = thin_close};
    struct thin_dev *thin = calloc(1, sizeof(*thin));
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR];

    assert_non_null(thin);
    assert_ok(hf_blockfs_header_read(lower, false, &header, NULL, err));
    thin->base.ops = &ops;
    thin->base.size_bytes = lower->size_bytes;
    thin->lower = lower;
    thin->budget = budget;
    thin->promised = calloc(1, (size_t)lower->size_bytes / 512);
    thin->data_off = (hf_off_t)header.data_off;
    assert_non_null(thin->promised);
    memset(thin->promised, 1, header.data_off / 512); /* metadata is a matter of thin_metadata.c */
    return thin;
}

static void a_thin_device_is_asked_before_anything_is_promised(void **state)
{
    struct thin_dev *thin = thin_new(vol_format(16 << 20, 4096, true), 1000 * 4096);
    struct hf_inode *root, *a;
    struct vol vol;
    uint64_t nr = 0, total;

    (void)state;
    vol_mount(&vol, &thin->base);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    total = vol_free(&vol);
    assert_true(vol_statfs(&vol).thin);
    assert_true(total > 2000);
    assert_err(vol.ops->reserve(a, 1, HF_NOWAIT), EAGAIN); /* nothing asked for yet */
    assert_err(vol.ops->reserve(a, 1, HF_NOWAIT | HF_SPECULATIVE), ENOSPC);
    while (nr < total && file_write(a, 2 * nr, 1, 't') == 0)
        nr++;
    assert_int_equal(nr, 1000); /* to the last block the device had */
    assert_int_equal(thin->broken, 0);
    assert_ok(vol.ops->sync(&vol.sb));
    /* Blocks that were promised once can be had again. */
    assert_ok(vol.ops->punch(a, 0, 20));
    for (uint64_t i = 0; i < 10; i++)
        assert_ok(file_write(a, 3000 + i, 1, 'u'));
    assert_err(file_write(a, 4000, 1, 'u'), ENOSPC);
    thin->budget += 5 * 4096;
    assert_ok(file_write(a, 4000, 5, 'u'));
    assert_err(file_write(a, 5000, 1, 'u'), ENOSPC);
    assert_int_equal(thin->broken, 0);
    vol_free(&vol);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    thin->budget += 1 << 20;
    vol_mount(&vol, &thin->base);
    assert_int_equal(vol_free(&vol), total - 1005);
    vol_unmount(&vol);
    hf_dev_close(&thin->base);
}

/* ---- many at once */

#define THREADS 4

struct worker {
    struct hf_inode *inode;
    int id;
    uint64_t written;
};

/* Writes until the volume is full, cuts the file, and again; commits in between. */
static void *work(void *arg)
{
    struct worker *w = arg;
    const struct hf_driver *ops = w->inode->sb->driver;
    uint64_t seed = (uint64_t)w->id + 99, nr = 0;

    for (int round = 0; round < 400; round++) {
        uint64_t len = 1 + random_below(&seed, 30);
        int rc = file_write(w->inode, nr, len, 'a' + w->id);

        if (rc == 0)
            nr += len;
        else if (rc != -ENOSPC)
            return (void *)"write";
        if (random_below(&seed, 10) == 0 && ops->fsync(w->inode, random_below(&seed, 2)) != 0)
            return (void *)"fsync";
        /* A failed write may have allocated some of its blocks: they go with the cut. */
        if ((rc != 0 || random_below(&seed, 20) == 0) && file_truncate(w->inode, nr / 2) != 0)
            return (void *)"truncate";
        if (rc != 0 && ops->punch(w->inode, nr / 2, len + nr) != 0)
            return (void *)"punch";
        if (file_blocks(w->inode) < nr)
            nr = file_blocks(w->inode);
    }
    w->written = nr;
    return NULL;
}

static void threads_share_the_space(bool thin)
{
    struct hf_device *dev = vol_format(4 << 20, 4096, thin);
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    uint64_t total, sum = 0;
    struct hf_inode *root;
    struct vol vol;

    vol_mount(&vol, dev);
    root = root_get(&vol);
    total = vol_free(&vol);
    for (int t = 0; t < THREADS; t++) {
        workers[t] = (struct worker){.inode = file_create(&vol, root, (char[]){(char)('a' + t), 0}), .id = t};
        assert_int_equal(pthread_create(&threads[t], NULL, work, &workers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        void *what;

        pthread_join(threads[t], &what);
        assert_that(what == NULL, "thread %d failed in %s", t, (char *)what);
        sum += atomic_load(&workers[t].inode->blocks);
    }
    assert_int_equal(vol_free(&vol) + sum, total);
    for (int t = 0; t < THREADS; t++)
        inode_put(workers[t].inode);
    inode_put(root);
    vol_unmount(&vol);
    vol_mount(&vol, dev);
    root = root_get(&vol);
    assert_int_equal(vol_free(&vol) + sum, total);
    for (int t = 0; t < THREADS; t++) {
        struct hf_inode *inode = node_find(&vol, root, (char[]){(char)('a' + t), 0});

        assert_int_equal(file_blocks(inode), workers[t].written);
        if (workers[t].written != 0)
            file_check(inode, 0, workers[t].written, 'a' + t);
        inode_put(inode);
    }
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void threads_share_the_space_exactly(void **state)
{
    (void)state;
    threads_share_the_space(false);
    threads_share_the_space(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_block_512),
        cmocka_unit_test(the_last_block_4096),
        cmocka_unit_test(worst_fragmentation_512),
        cmocka_unit_test(worst_fragmentation_4096),
        cmocka_unit_test(names_never_eat_the_metadata_of_blocks),
        cmocka_unit_test(freed_blocks_wait_for_the_commit),
        cmocka_unit_test(speculation_leaves_an_eighth),
        cmocka_unit_test(preallocation_is_all_or_nothing),
        cmocka_unit_test(a_thin_device_is_asked_before_anything_is_promised),
        cmocka_unit_test(threads_share_the_space_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
