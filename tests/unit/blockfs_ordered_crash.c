/* SPDX-License-Identifier: MIT */
/*
 * blockfs_ordered_crash.c - what was fsynced survives a crash, what was not never shows another file's bytes.
 *
 * Images of the device are taken at some moment, as a killed process leaves them, or made of a log of writes
 * as a power cut at any of them leaves them, and are then mounted.
 */
#include "blockfs_util.h"

#define B 4096u
#define GARBAGE 0xee /* what lies on blocks that nobody has written: bytes that no file may ever show */

/* Fills the data region with bytes that look like somebody's secrets. */
static void soil(struct hf_device *dev)
{
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR], *buf = malloc(B);

    assert_non_null(buf);
    memset(buf, GARBAGE, B);
    assert_ok(hf_blockfs_header_read(dev, false, &header, NULL, err));
    for (uint64_t off = 0; off + B <= header.data_len; off += B)
        assert_ok(hf_dev_write(dev, buf, B, (hf_off_t)(header.data_off + off)));
    free(buf);
}

static struct hf_device *soiled(hf_off_t bytes)
{
    struct hf_device *dev = vol_format(bytes, B, false);

    soil(dev);
    return dev;
}

/* Mounts a copy of dev as it is now. */
static struct hf_device *after_kill(struct vol *vol, struct hf_device *dev)
{
    struct hf_device *image = image_copy(dev);

    vol_mount(vol, image);
    return image;
}

static void fsynced_data_is_there_and_unsynced_is_not(void **state)
{
    struct hf_device *dev = soiled(8 << 20), *image;
    struct hf_inode *root, *a, *b, *found;
    struct vol vol, later;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 0, 3, 'a'));
    assert_ok(vol.ops->fsync(a, false));
    b = file_create(&vol, root, "b");
    assert_ok(file_write(b, 0, 5, 'b'));
    assert_ok(file_write(a, 3, 2, 'A'));

    image = after_kill(&later, dev);
    found = root_get(&later);
    assert_null(node_find(&later, found, "b"));
    inode_put(found);
    found = inode_get(&later, a->ino);
    assert_int_equal(file_blocks(found), 3);
    assert_int_equal(atomic_load(&found->blocks), 3);
    file_check(found, 0, 3, 'a');
    assert_int_equal(file_kind(found, 3), HF_EXTENT_HOLE);
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);

    /* fsync of one file does not hold back what it found
     * of the other: name, blocks and size are consistent. */
    assert_ok(vol.ops->fsync(a, true));
    image = after_kill(&later, dev);
    found = root_get(&later);
    inode_put(found);
    found = inode_get(&later, b->ino);
    assert_int_equal(file_blocks(found), 5);
    file_check(found, 0, 5, 'b');
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);

    inode_put(a);
    inode_put(b);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void fdatasync_of_an_overwrite_is_one_flush(void **state)
{
    struct hf_device *mem = soiled(8 << 20), *dev;
    struct hf_device_counts before, after;
    struct hf_inode *root, *a;
    struct vol vol;

    (void)state;
    assert_ok(hf_device_fault_new(mem, &dev));
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 0, 8, 'a'));
    assert_ok(vol.ops->fsync(a, false));
    assert_ok(file_write(a, 2, 3, 'b'));
    atomic_store(&a->mtime_ns, ++vol.now_ns);
    assert_ok(vol.ops->write_inode(a, atomic_load(&a->size)));
    hf_device_fault_counts(dev, &before);
    assert_ok(vol.ops->fsync(a, true));
    hf_device_fault_counts(dev, &after);
    assert_int_equal(after.flushes - before.flushes, 1);
    assert_int_equal(after.writes - before.writes, 0);
    /* fsync has times to store; and a new block is news even for fdatasync. */
    assert_ok(vol.ops->fsync(a, false));
    hf_device_fault_counts(dev, &before);
    assert_true(before.writes > after.writes);
    assert_ok(file_write(a, 8, 1, 'c'));
    hf_device_fault_counts(dev, &before);
    assert_ok(vol.ops->fsync(a, true));
    hf_device_fault_counts(dev, &after);
    assert_true(after.writes > before.writes);
    assert_int_equal(after.flushes - before.flushes, 2); /* the data before the rows that name it */
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void allocated_and_never_written_blocks_go_back(void **state)
{
    struct hf_device *dev = soiled(8 << 20), *image;
    struct hf_inode *root, *a;
    struct vol vol, later;
    uint64_t before;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    before = vol_free(&vol);
    assert_ok(file_write(a, 0, 1, 'a'));
    assert_ok(vol.ops->reserve(a, 10, 0));
    assert_int_equal(vol_free(&vol), before - 11);
    assert_ok(vol.ops->allocate(a, 5, 10));
    assert_int_equal(file_kind(a, 7), HF_EXTENT_UNWRITTEN);
    file_check(a, 5, 10, 0);
    assert_int_equal(atomic_load(&a->blocks), 11);
    assert_ok(vol.ops->fsync(a, false));
    image = after_kill(&later, dev);
    assert_int_equal(vol_free(&later), before - 1);
    vol_unmount(&later);
    hf_dev_close(image);
    inode_put(a);
    assert_int_equal(vol_free(&vol), before - 1);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void preallocated_blocks_read_zero_and_survive(void **state)
{
    struct hf_device *dev = soiled(8 << 20), *image;
    struct hf_inode *root, *a, *found;
    struct vol vol, later;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    assert_ok(file_write(a, 10, 2, 'a'));
    assert_ok(vol.ops->preallocate(a, 0, 40, 0));
    assert_int_equal(atomic_load(&a->blocks), 40);
    assert_int_equal(file_kind(a, 0), HF_EXTENT_UNWRITTEN);
    assert_int_equal(file_kind(a, 11), HF_EXTENT_WRITTEN);
    assert_ok(file_write(a, 20, 4, 'b')); /* a piece of an unwritten row becomes written */
    assert_ok(vol.ops->fsync(a, false));
    assert_ok(file_write(a, 30, 1, 'c')); /* this one does not */

    image = after_kill(&later, dev);
    found = inode_get(&later, a->ino);
    assert_int_equal(atomic_load(&found->blocks), 40);
    file_check(found, 0, 10, 0);
    file_check(found, 10, 2, 'a');
    file_check(found, 12, 8, 0);
    file_check(found, 20, 4, 'b');
    file_check(found, 24, 16, 0);
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);

    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = node_find(&vol, root, "a");
    file_check(a, 30, 1, 'c');
    file_check(a, 31, 9, 0);
    inode_put(a);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static void deleted_and_truncated_files_are_freed_after_a_crash(void **state)
{
    struct hf_device *dev = soiled(8 << 20), *image;
    struct hf_inode *root, *a, *b, *found;
    struct vol vol, later;
    uint64_t empty;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    b = file_create(&vol, root, "b");
    assert_ok(vol.ops->sync(&vol.sb));
    empty = vol_free(&vol);
    assert_ok(file_write(a, 0, 100, 'a'));
    assert_ok(file_write(b, 0, 100, 'b'));
    assert_ok(vol.ops->sync(&vol.sb));
    /* a has no name any more, but a user: its blocks stay until the crash. */
    assert_ok(vol.ops->unlink(root, "a", a, ++vol.now_ns));
    assert_int_equal(a->nlink, 0);
    assert_ok(file_truncate(b, 40));
    assert_int_equal(atomic_load(&b->blocks), 40);
    file_check(a, 0, 100, 'a');
    assert_ok(vol.ops->sync(&vol.sb));

    image = after_kill(&later, dev);
    assert_int_equal(vol_free(&later), empty - 40);
    found = inode_get(&later, b->ino);
    assert_int_equal(file_blocks(found), 40);
    file_check(found, 0, 40, 'b');
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);

    inode_put(a);
    assert_int_equal(vol_free(&vol), empty - 40);
    inode_put(b);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* A detached inode: evicted before its data was committed. */
static void evicting_does_not_lose_what_waits_for_a_commit(void **state)
{
    struct hf_device *dev = soiled(8 << 20), *image;
    struct hf_inode *root, *a, *found;
    struct vol vol, later;
    uint64_t ino;

    (void)state;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    a = file_create(&vol, root, "a");
    ino = a->ino;
    assert_ok(file_write(a, 0, 20, 'a'));
    inode_put(a);
    a = inode_get(&vol, ino);
    assert_int_equal(file_blocks(a), 20);
    assert_int_equal(atomic_load(&a->blocks), 20);
    file_check(a, 0, 20, 'a');
    inode_put(a);
    assert_ok(vol.ops->sync(&vol.sb));
    image = after_kill(&later, dev);
    found = inode_get(&later, ino);
    assert_int_equal(file_blocks(found), 20);
    file_check(found, 0, 20, 'a');
    inode_put(found);
    vol_unmount(&later);
    hf_dev_close(image);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* ---- power cuts */

#define SECTOR 512u
#define FILES 4
#define FILE_BLOCKS 24

/* What a file is known to have had at its last fsync, and what every block has had since. */
struct shadow {
    struct hf_inode *inode;
    uint64_t synced_blocks;            /* size */
    unsigned char synced[FILE_BLOCKS]; /* byte of each block; 0: zeros */
    uint32_t since[FILE_BLOCKS];       /* bit n: the block may be what generation n of the byte is */
    bool dirty;                        /* changed since the fsync */
};

static void shadow_check(struct vol *vol, const struct shadow *shadow, const char *name, uint64_t *seen)
{
    struct hf_inode *root = root_get(vol), *inode = node_find(vol, root, name);

    assert_non_null(inode);
    if (!shadow->dirty)
        assert_int_equal(file_blocks(inode), shadow->synced_blocks);
    for (uint64_t b = 0; b < file_blocks(inode); b++) {
        unsigned char buf[B];

        assert_ok(vol->ops->read(inode, buf, B, (hf_off_t)(b * B)));
        for (unsigned s = 0; s < B; s += SECTOR) {
            int byte = buf[s];

            /* A sector is whole; blocks may be torn between them, where they were overwritten in place. */
            assert_bytes(buf + s, byte, SECTOR);
            assert_that(byte != GARBAGE, "file %s shows at block %llu what nobody wrote there", name,
                        (unsigned long long)b);
            assert_that(byte == shadow->synced[b] || (shadow->since[b] & (1u << byte)),
                        "file %s, block %llu: %d, synced was %d, since then %#x", name, (unsigned long long)b,
                        byte, shadow->synced[b], shadow->since[b]);
            *seen += byte != 0;
        }
    }
    inode_put(inode);
    inode_put(root);
}

static void shadow_step(struct shadow *shadow, uint64_t *seed, int step)
{
    uint64_t blk = random_below(seed, FILE_BLOCKS - 6), nr = 1 + random_below(seed, 6);
    int byte = 1 + step % 31;
    const struct hf_driver *ops = shadow->inode->sb->driver;

    switch (random_below(seed, 8)) {
    case 0:
        assert_ok(file_truncate(shadow->inode, blk));
        shadow->dirty = true;
        for (uint64_t b = blk; b < FILE_BLOCKS; b++)
            shadow->since[b] |= 1; /* zeros */
        break;
    case 1:
        assert_ok(ops->punch(shadow->inode, blk, nr));
        shadow->dirty = true;
        for (uint64_t b = blk; b < blk + nr; b++)
            shadow->since[b] |= 1;
        break;
    case 2:
        assert_ok(ops->preallocate(shadow->inode, blk, nr, 0));
        break;
    case 3:
    case 4:
        assert_ok(ops->fsync(shadow->inode, false));
        shadow->dirty = false;
        shadow->synced_blocks = file_blocks(shadow->inode);
        memset(shadow->since, 0, sizeof(shadow->since));
        for (uint64_t b = 0; b < FILE_BLOCKS; b++)
            shadow->synced[b] = (unsigned char)file_byte(shadow->inode, b);
        break;
    default:
        assert_ok(file_write(shadow->inode, blk, nr, byte));
        shadow->dirty = true;
        for (uint64_t b = blk; b < blk + nr; b++)
            shadow->since[b] |= 1u << byte;
        break;
    }
}

/* The worst order a disk can choose: since the last flush all metadata has arrived, and no data. */
static struct hf_device *metadata_first(const struct write_log *log, struct hf_device *base, size_t cut)
{
    struct hf_device *image = log_image(log, base, cut, LOG_CUT_ALL, 1);
    struct hf_device *data = log_image(log, base, cut, LOG_CUT_NONE, 1);
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR], *buf;

    assert_ok(hf_blockfs_header_read(base, false, &header, NULL, err));
    buf = malloc(header.data_len);
    assert_non_null(buf);
    assert_ok(hf_dev_read(data, buf, header.data_len, (hf_off_t)header.data_off));
    assert_ok(hf_dev_write(image, buf, header.data_len, (hf_off_t)header.data_off));
    free(buf);
    hf_dev_close(data);
    return image;
}

static void check_cuts(const struct write_log *log, struct hf_device *base, size_t from, size_t to,
                       const struct shadow *shadows, uint64_t *seen)
{
    for (size_t cut = from; cut <= to; cut++) {
        for (int kind = LOG_CUT_ALL; kind <= LOG_CUT_RANDOM + 1; kind++) {
            struct hf_device *image = kind <= LOG_CUT_RANDOM
                                          ? log_image(log, base, cut, (enum log_cut)kind, (unsigned)cut + 1)
                                          : metadata_first(log, base, cut);
            struct vol vol;

            vol_mount(&vol, image);
            for (int f = 0; f < FILES; f++)
                shadow_check(&vol, &shadows[f], (char[]){(char)('a' + f), 0}, seen);
            vol_free(&vol);
            vol_unmount(&vol);
            hf_dev_close(image);
        }
    }
}

/* Both before and after each operation its outcome is allowed, so the shadows of both are merged for the cuts
 * in it. */
static void merge(struct shadow *to, const struct shadow *after)
{
    for (int b = 0; b < FILE_BLOCKS; b++)
        to->since[b] |= after->since[b] | (1u << (after->synced[b] & 31));
    if (to->synced_blocks != after->synced_blocks ||
        memcmp(to->synced, after->synced, sizeof(to->synced)) != 0)
        to->dirty = true;
    to->dirty = to->dirty || after->dirty;
}

static void a_power_cut_at_any_write_keeps_what_was_synced(void **state)
{
    struct hf_device *base = soiled(2 << 20), *dev;
    struct shadow shadows[FILES] = {0}, before[FILES];
    struct write_log *log;
    uint64_t seed = 7, seen = 0;
    struct hf_inode *root;
    struct vol vol;
    size_t done;

    (void)state;
    vol_mount(&vol, base);
    root = root_get(&vol);
    for (int f = 0; f < FILES; f++)
        inode_put(file_create(&vol, root, (char[]){(char)('a' + f), 0}));
    inode_put(root);
    vol_unmount(&vol);

    dev = log_new(image_copy(base), &log);
    vol_mount(&vol, dev);
    root = root_get(&vol);
    for (int f = 0; f < FILES; f++)
        shadows[f].inode = node_find(&vol, root, (char[]){(char)('a' + f), 0});
    done = log_count(log);
    for (int step = 0; step < 120; step++) {
        memcpy(before, shadows, sizeof(before));
        shadow_step(&shadows[random_below(&seed, FILES)], &seed, step);
        for (int f = 0; f < FILES; f++)
            merge(&before[f], &shadows[f]);
        check_cuts(log, base, done, log_count(log), before, &seen);
        done = log_count(log);
    }
    assert_true(seen > 1000);
    for (int f = 0; f < FILES; f++)
        inode_put(shadows[f].inode);
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
    hf_dev_close(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fsynced_data_is_there_and_unsynced_is_not),
        cmocka_unit_test(fdatasync_of_an_overwrite_is_one_flush),
        cmocka_unit_test(allocated_and_never_written_blocks_go_back),
        cmocka_unit_test(preallocated_blocks_read_zero_and_survive),
        cmocka_unit_test(deleted_and_truncated_files_are_freed_after_a_crash),
        cmocka_unit_test(evicting_does_not_lose_what_waits_for_a_commit),
        cmocka_unit_test(a_power_cut_at_any_write_keeps_what_was_synced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
