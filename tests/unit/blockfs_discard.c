/* SPDX-License-Identifier: MIT */
/*
 * blockfs_discard.c - a volume in use tells its device what is free: of a thin one every block that is
 * written was guaranteed since it was last discarded (HOLD-10), nobody gets a block that is on its way, and
 * nobody is told that the volume is full because blocks are.
 */
#include "blockfs_util.h"

#include "dev/device_io.h"

#include <holdfast/maintain.h>
#include <pthread.h>

#define B 4096
#define FILES 3
#define FILE_BLOCKS 60

/* A device that remembers what it has guaranteed. */
struct host {
    struct hf_device base;
    struct hf_device *lower;
    struct hf_device_ops ops;
    struct vol *vol; /* NULL: not mounted, or not looked at */
    struct hf_blockfs_header header;
    bool *promised; /* by block of the data region */
    uint64_t nr_discarded;
    void (*during)(struct host *host); /* while something is discarded */
    int error;                         /* of discard */
    struct hf_inode *file;             /* for during() */
    pthread_t thread;
    int result;
};

static struct host *host_of(struct hf_device *dev)
{
    return (struct host *)dev;
}

/* The blocks of a range of bytes; none below the data region. */
static void host_range(struct host *host, hf_off_t off, hf_off_t len, uint64_t *ret_blk, uint64_t *ret_end)
{
    hf_off_t data = (hf_off_t)host->header.data_off;

    *ret_blk = off < data ? 0 : (uint64_t)(off - data) / B;
    *ret_end = off + len <= data ? 0 : (uint64_t)(off + len - data + B - 1) / B;
}

static int host_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    return hf_dev_read(host_of(dev)->lower, buf, len, off);
}

static int host_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    struct host *host = host_of(dev);
    uint64_t blk, end;

    host_range(host, off, (hf_off_t)len, &blk, &end);
    for (; host->promised != NULL && blk < end && blk < host->header.data_blocks; blk++)
        assert_that(host->promised[blk], "block %llu is written, and nobody has asked for it",
                    (unsigned long long)blk);
    return hf_dev_write(host->lower, buf, len, off);
}

static int host_flush(struct hf_device *dev)
{
    return hf_dev_flush(host_of(dev)->lower);
}

static int host_guarantee(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    uint64_t blk, end;

    host_range(host_of(dev), off, len, &blk, &end);
    for (; blk < end; blk++)
        host_of(dev)->promised[blk] = true;
    return 0;
}

/* Whoever takes all that can be had gets nothing of it. */
static void nobody_can_get(struct host *host, uint64_t blk, uint64_t end)
{
    struct hf_space *space = &hf_blockfs_of(&host->vol->sb)->space;
    uint64_t nr = atomic_load(&space->available);
    struct hf_runs runs;

    if (nr == 0 || !hf_space_try_reserve(space, nr, 0))
        return;
    hf_runs_init(&runs);
    assert_ok(hf_space_alloc(space, blk, nr, &runs));
    for (size_t i = 0; i < runs.nr; i++)
        assert_true(runs.v[i].blk >= end || runs.v[i].blk + runs.v[i].nr <= blk);
    hf_space_unalloc(space, nr, &runs);
    hf_space_unreserve(space, nr);
    hf_runs_done(&runs);
}

static int host_discard(struct hf_device *dev, hf_off_t off, hf_off_t len)
{
    struct host *host = host_of(dev);
    uint64_t blk, end;
    char *junk = malloc((size_t)len);

    assert_non_null(junk);
    memset(junk, 0xfd, (size_t)len);
    host_range(host, off, len, &blk, &end);
    host->nr_discarded += end - blk;
    nobody_can_get(host, blk, end);
    if (host->during != NULL)
        host->during(host);
    assert_ok(hf_dev_write(host->lower, junk, (size_t)len, off));
    free(junk);
    for (; host->promised != NULL && blk < end; blk++)
        host->promised[blk] = false;
    return -host->error;
}

static void host_init(struct host *host, struct vol *vol, bool thin, bool discard)
{
    char err[HF_BLOCKFS_ERR];

    memset(host, 0, sizeof(*host));
    host->lower = vol_format(2 << 20, B, thin);
    assert_ok(hf_blockfs_header_read(host->lower, false, &host->header, NULL, err));
    host->promised = thin ? calloc(host->header.data_blocks, sizeof(bool)) : NULL;
    host->ops = (struct hf_device_ops){.read = host_read,
                                       .write = host_write,
                                       .flush = host_flush,
                                       .guarantee = thin ? host_guarantee : NULL,
                                       .discard = host_discard};
    host->base = *host->lower;
    host->base.ops = &host->ops;
    host->vol = vol;
    if (discard)
        vol_mount_discard(vol, &host->base);
    else
        vol_mount(vol, &host->base);
}

static void host_done(struct host *host)
{
    assert_ok(hf_check_device(host->lower, NULL, NULL));
    hf_dev_close(host->lower);
    free(host->promised);
}

static uint64_t trim(struct vol *vol, uint64_t min_bytes)
{
    uint64_t bytes = UINT64_MAX;
    char err[256];

    assert_ok(vol->ops->trim(&vol->sb, min_bytes, &bytes, err));
    return bytes / B;
}

/* ---- any order of things */

struct model {
    struct hf_inode *file[FILES];
    uint8_t bytes[FILES][FILE_BLOCKS]; /* of each block; 0: a hole */
};

static void step(struct model *m, struct vol *vol, uint64_t *random)
{
    unsigned f = (unsigned)random_below(random, FILES);
    uint64_t blk = random_below(random, FILE_BLOCKS - 1),
             nr = 1 + random_below(random, FILE_BLOCKS - blk - 1);
    uint64_t size = file_blocks(m->file[f]);
    int value = 1 + (int)random_below(random, 200);

    switch (random_below(random, 8)) {
    case 0:
        blk = random_below(random, size + 1);
        assert_ok(file_truncate(m->file[f], blk));
        memset(&m->bytes[f][blk], 0, FILE_BLOCKS - blk);
        break;
    case 1:
        if (blk + nr > size)
            break;
        assert_ok(vol->ops->punch(m->file[f], blk, nr));
        memset(&m->bytes[f][blk], 0, nr);
        break;
    case 2:
        trim(vol, random_below(random, 2) * B * random_below(random, 40));
        break;
    case 3:
    case 4:
        assert_ok(vol->ops->sync(&vol->sb));
        break;
    default:
        assert_ok(file_write(m->file[f], blk, nr, value));
        memset(&m->bytes[f][blk], value, nr);
        break;
    }
}

static void any_order_of(bool thin, bool discard)
{
    static const char *const names[FILES] = {"a", "b", "c"};
    uint64_t random = 88172645463325252u;
    struct hf_inode *root;
    struct host host;
    struct model m;
    struct vol vol;

    host_init(&host, &vol, thin, discard);
    memset(&m, 0, sizeof(m));
    root = root_get(&vol);
    for (int f = 0; f < FILES; f++)
        m.file[f] = file_create(&vol, root, names[f]);
    for (int i = 0; i < 400; i++)
        step(&m, &vol, &random);
    for (int f = 0; f < FILES; f++) {
        for (uint64_t blk = 0; blk < file_blocks(m.file[f]); blk++)
            assert_int_equal(file_byte(m.file[f], blk), m.bytes[f][blk]);
        inode_put(m.file[f]);
    }
    vol_free(&vol);
    assert_true(host.nr_discarded > 0);
    inode_put(root);
    vol_unmount(&vol);
    host_done(&host);
}

static void any_order(void **state)
{
    (void)state;
    any_order_of(true, true);
    any_order_of(true, false);
    any_order_of(false, true);
}

/* ---- what is told, and when */

static void what_commits_free(void **state)
{
    struct hf_inode *root, *file;
    struct host host;
    struct vol vol;
    uint64_t free;

    (void)state;
    host_init(&host, &vol, true, true);
    root = root_get(&vol);
    file = file_create(&vol, root, "a");
    free = vol_free(&vol);
    assert_ok(file_write(file, 0, 40, 'a'));
    assert_ok(vol.ops->sync(&vol.sb));
    assert_ok(file_truncate(file, 10));
    assert_int_equal(host.nr_discarded, 0); /* rows that are durable name them */
    assert_ok(vol.ops->sync(&vol.sb));
    assert_int_equal(host.nr_discarded, 30);
    assert_int_equal(vol_free(&vol), free - 10);
    file_check(file, 0, 10, 'a');
    /* A device that fails, or has no use for it, is no concern of the files. */
    for (int error = EIO; error != 0; error = error == EIO ? ENOSPC : error == ENOSPC ? EOPNOTSUPP : 0) {
        host.error = error;
        assert_ok(file_write(file, 0, 40, 'b'));
        assert_ok(vol.ops->sync(&vol.sb));
        assert_ok(file_truncate(file, 10));
        assert_ok(vol.ops->sync(&vol.sb));
        file_check(file, 0, 10, 'b');
        assert_int_equal(vol_free(&vol), free - 10);
    }
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    host_done(&host);
}

/* All of it, or what comes in runs of so many. */
static void long_runs_only(void **state)
{
    struct hf_inode *root, *file;
    struct host host;
    struct vol vol;
    uint64_t free, bytes = 7;
    char err[256];

    (void)state;
    host_init(&host, &vol, true, false);
    root = root_get(&vol);
    file = file_create(&vol, root, "a");
    assert_ok(file_write(file, 0, 40, 'a'));
    assert_ok(vol.ops->punch(file, 10, 4));
    assert_ok(vol.ops->sync(&vol.sb));
    free = vol_free(&vol);
    assert_int_equal(host.nr_discarded, 0);
    assert_int_equal(trim(&vol, 5 * B), free - 4);
    assert_int_equal(trim(&vol, 4 * B), free);
    assert_int_equal(trim(&vol, 0), free);
    assert_int_equal(trim(&vol, (host.header.data_blocks + 1) * B), 0);
    assert_int_equal(vol_free(&vol), free);
    assert_int_equal(atomic_load(&hf_blockfs_of(&vol.sb)->space.available), 0); /* all asked for anew */
    host.error = EIO;
    assert_err(vol.ops->trim(&vol.sb, 0, &bytes, err), EIO);
    assert_int_equal(bytes, 7);
    assert_int_equal(vol_free(&vol), free);
    host.error = 0;
    assert_ok(file_write(file, 10, 4, 'n'));
    file_check(file, 0, 10, 'a');
    file_check(file, 10, 4, 'n');
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    host_done(&host);
}

/* Free space in many pieces is all to be had, at once: the device is asked for as many pieces as it takes. */
static void free_space_in_pieces(void **state)
{
    struct hf_inode *root, *file, *other;
    struct host host;
    struct vol vol;
    uint64_t nr;

    (void)state;
    host_init(&host, &vol, true, true);
    root = root_get(&vol);
    file = file_create(&vol, root, "a");
    other = file_create(&vol, root, "b");
    nr = host.header.data_blocks / 2;
    assert_true(nr > 100);
    assert_ok(file_write(file, 0, host.header.data_blocks, 'a'));
    assert_ok(vol.ops->sync(&vol.sb));
    for (uint64_t i = 0; i < nr; i++)
        assert_ok(vol.ops->punch(file, 2 * i, 1));
    assert_ok(vol.ops->sync(&vol.sb));
    assert_int_equal(host.nr_discarded, nr);
    assert_int_equal(vol_free(&vol), nr);
    assert_ok(file_write(other, 0, nr, 'b'));
    assert_int_equal(vol_free(&vol), 0);
    file_check(other, 0, nr, 'b');
    inode_put(other);
    inode_put(file);
    inode_put(root);
    vol_unmount(&vol);
    host_done(&host);
}

/* ---- the last blocks are on their way */

static void *reserve_all(void *arg)
{
    struct host *host = arg;

    host->result = host->vol->ops->reserve(host->file, host->header.data_blocks / 2, 0);
    return NULL;
}

static void ask_for_all(struct host *host)
{
    host->during = NULL;
    assert_int_equal(vol_statfs(host->vol).blocks_free, host->header.data_blocks);
    assert_err(host->vol->ops->reserve(host->file, host->header.data_blocks, HF_NOWAIT), EAGAIN);
    assert_err(host->vol->ops->reserve(host->file, host->header.data_blocks + 1, HF_NOWAIT), ENOSPC);
    assert_int_equal(pthread_create(&host->thread, NULL, reserve_all, host), 0);
}

static void the_last_blocks(void **state)
{
    (void)state;
    for (int thin = 0; thin <= 1; thin++) {
        struct hf_inode *root;
        struct host host;
        struct vol vol;

        host_init(&host, &vol, thin, false);
        root = root_get(&vol);
        host.file = file_create(&vol, root, "a");
        assert_ok(vol.ops->sync(&vol.sb));
        host.during = ask_for_all;
        assert_true(trim(&vol, 0) >= host.header.data_blocks / 2);
        assert_int_equal(pthread_join(host.thread, NULL), 0);
        assert_ok(host.result);
        vol.ops->unreserve(host.file, host.header.data_blocks / 2);
        assert_ok(vol.ops->reserve(host.file, host.header.data_blocks, 0));
        assert_int_equal(trim(&vol, 0), 0); /* what is promised stays */
        vol.ops->unreserve(host.file, host.header.data_blocks);
        inode_put(host.file);
        inode_put(root);
        vol_unmount(&vol);
        host_done(&host);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order),       cmocka_unit_test(what_commits_free),
        cmocka_unit_test(long_runs_only),  cmocka_unit_test(free_space_in_pieces),
        cmocka_unit_test(the_last_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
