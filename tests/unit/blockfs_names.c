/* SPDX-License-Identifier: MIT */
/* blockfs_names.c - every op on names, on both drivers; on blockfs each survives a crash after sync, or
 * leaves no trace. */
#include "blockfs_util.h"

#include <dirent.h>
#include <sys/stat.h>

static struct hf_device *dev;

static void mount_blockfs(struct vol *vol)
{
    dev = vol_format(16 << 20, 4096, false);
    vol_mount(vol, dev);
}

static void mount_memfs(struct vol *vol)
{
    dev = NULL;
    vol_mount_memfs(vol, 16 << 20, 4096);
}

static void unmount(struct vol *vol)
{
    vol_unmount(vol);
    hf_dev_close(dev);
}

/* "name/ino name/ino ..." in order of cookies. */
static void list(struct hf_inode *dir, char *ret_text, size_t size)
{
    struct hf_dirent entry = {.cookie = 2};
    size_t len = 0;

    ret_text[0] = 0;
    while (assert_ok(dir->sb->driver->readdir(dir, entry.cookie, &entry)) == 1)
        len +=
            (size_t)snprintf(ret_text + len, size - len, "%s%s:%u", len ? " " : "", entry.name, entry.type);
}

static void names_and_links(struct vol *vol)
{
    struct hf_inode *root = root_get(vol), *a, *d, *found;
    uint64_t ino;
    char text[512];

    assert_int_equal(root->nlink, 2);
    assert_int_equal(root->parent_ino, root->ino);
    assert_true(S_ISDIR(root->mode));
    a = file_create(vol, root, "a");
    assert_int_equal(a->nlink, 1);
    assert_int_equal(a->uid, 7);
    assert_int_equal(a->gid, 8);
    assert_int_equal(a->mode, S_IFREG | 0644);
    assert_int_equal(atomic_load(&a->mtime_ns), vol->now_ns);
    assert_int_equal(atomic_load(&root->mtime_ns), vol->now_ns);
    assert_err(vol->ops->lookup(root, "b", &ino), ENOENT);
    assert_ok(vol->ops->link(root, "b", a, ++vol->now_ns));
    assert_int_equal(a->nlink, 2);
    assert_int_equal(atomic_load(&a->ctime_ns), vol->now_ns);
    assert_ok(vol->ops->lookup(root, "b", &ino));
    assert_int_equal(ino, a->ino);

    d = node_create(vol, root, "d", S_IFDIR | 0700, NULL);
    assert_int_equal(d->nlink, 2);
    assert_int_equal(d->parent_ino, root->ino);
    assert_int_equal(root->nlink, 3);
    assert_ok(vol->ops->link(d, "inside", a, ++vol->now_ns));
    assert_err(vol->ops->rmdir(root, "d", d, ++vol->now_ns), ENOTEMPTY);
    assert_int_equal(root->nlink, 3);
    list(root, text, sizeof(text));
    assert_string_equal(text, "a:8 b:8 d:4");

    assert_ok(vol->ops->unlink(d, "inside", a, ++vol->now_ns));
    assert_ok(vol->ops->rmdir(root, "d", d, ++vol->now_ns));
    assert_int_equal(d->nlink, 0);
    assert_int_equal(root->nlink, 2);
    inode_put(d);
    assert_ok(vol->ops->unlink(root, "a", a, ++vol->now_ns));
    assert_int_equal(a->nlink, 1);
    assert_err(vol->ops->unlink(root, "a", a, ++vol->now_ns), ENOENT);
    found = node_find(vol, root, "a");
    assert_null(found);
    inode_put(a);
    file_unlink(vol, root, "b");
    assert_int_equal(vol_statfs(vol).inodes, 1);
    inode_put(root);
}

static void symlinks(struct vol *vol)
{
    char target[4096], buf[4096];
    struct hf_inode *root = root_get(vol), *l;

    memset(target, 't', 4095);
    target[4095] = 0;
    l = node_create(vol, root, "l", S_IFLNK | 0777, target);
    assert_int_equal(atomic_load(&l->size), 4095);
    memset(buf, '-', sizeof(buf));
    assert_count(vol->ops->readlink(l, buf, 10), 4095);
    assert_memory_equal(buf, "tttttttttt-", 11);
    assert_count(vol->ops->readlink(l, buf, sizeof(buf)), 4095);
    assert_memory_equal(buf, target, 4095);
    inode_put(l);
    file_unlink(vol, root, "l");
    inode_put(root);
}

static void renames(struct vol *vol)
{
    struct hf_inode *root = root_get(vol), *d = node_create(vol, root, "d", S_IFDIR | 0755, NULL);
    struct hf_inode *e = node_create(vol, root, "e", S_IFDIR | 0755, NULL), *a = file_create(vol, root, "a");
    struct hf_inode *b = file_create(vol, d, "b"), *s = node_create(vol, d, "s", S_IFDIR | 0755, NULL);
    char text[512];
    uint64_t ino;

    /* in one directory: the entry keeps its place */
    assert_ok(vol->ops->rename(root, "d", d, root, "dd", NULL, 0, ++vol->now_ns));
    list(root, text, sizeof(text));
    assert_string_equal(text, "dd:4 e:4 a:8");
    assert_int_equal(root->nlink, 4);
    /* a directory into another */
    assert_ok(vol->ops->rename(d, "s", s, e, "s2", NULL, 0, ++vol->now_ns));
    assert_int_equal(s->parent_ino, e->ino);
    assert_int_equal(d->nlink, 2);
    assert_int_equal(e->nlink, 3);
    assert_int_equal(atomic_load(&s->ctime_ns), vol->now_ns);
    assert_int_equal(atomic_load(&e->mtime_ns), vol->now_ns);
    /* over a file: that one goes */
    assert_ok(vol->ops->rename(root, "a", a, d, "b", b, 0, ++vol->now_ns));
    assert_int_equal(b->nlink, 0);
    assert_int_equal(a->nlink, 1);
    list(d, text, sizeof(text));
    assert_string_equal(text, "b:8");
    inode_put(b);
    assert_ok(vol->ops->lookup(d, "b", &ino));
    assert_int_equal(ino, a->ino);
    /* a directory over one that is not empty, then over an empty one */
    assert_err(vol->ops->rename(e, "s2", s, root, "dd", d, 0, ++vol->now_ns), ENOTEMPTY);
    assert_int_equal(e->nlink, 3);
    assert_ok(vol->ops->unlink(d, "b", a, ++vol->now_ns));
    assert_ok(vol->ops->rename(e, "s2", s, root, "dd", d, 0, ++vol->now_ns));
    assert_int_equal(d->nlink, 0);
    assert_int_equal(e->nlink, 2);
    assert_int_equal(root->nlink, 4);
    list(root, text, sizeof(text));
    assert_true(strcmp(text, "e:4 dd:4") == 0);
    inode_put(d);
    inode_put(a);
    /* exchange of a file and a directory between directories */
    a = file_create(vol, e, "f");
    assert_ok(vol->ops->rename(root, "dd", s, e, "f", a, RENAME_EXCHANGE, ++vol->now_ns));
    assert_int_equal(root->nlink, 3);
    assert_int_equal(e->nlink, 3);
    assert_int_equal(s->parent_ino, e->ino);
    list(root, text, sizeof(text));
    assert_string_equal(text, "e:4 dd:8");
    list(e, text, sizeof(text));
    assert_string_equal(text, "f:4");
    /* two names of one file: nothing happens */
    assert_ok(vol->ops->link(root, "g", a, ++vol->now_ns));
    assert_ok(vol->ops->rename(root, "dd", a, root, "g", a, 0, ++vol->now_ns));
    assert_int_equal(a->nlink, 2);
    inode_put(a);
    inode_put(s);
    inode_put(e);
    inode_put(root);
}

static void long_names_and_many(struct vol *vol)
{
    struct hf_inode *root = root_get(vol);
    struct hf_dirent entry = {.cookie = 0};
    char name[256], odd[2] = {(char)0xff, 0};
    int seen = 0;

    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "%0255d", i);
        inode_put(file_create(vol, root, name));
    }
    inode_put(file_create(vol, root, odd));
    /* A reader is not disturbed by what leaves behind it or ahead of it. */
    while (assert_ok(vol->ops->readdir(root, entry.cookie, &entry)) == 1) {
        assert_true(entry.cookie >= 3);
        seen++;
        if (entry.name[0] != odd[0])
            file_unlink(vol, root, entry.name);
    }
    assert_int_equal(seen, 301);
    assert_int_equal(vol_statfs(vol).inodes, 2);
    file_unlink(vol, root, odd);
    inode_put(root);
}

static void data(struct vol *vol)
{
    struct hf_inode *root = root_get(vol), *a = file_create(vol, root, "a");
    uint64_t free_blocks = vol_free(vol), ino = a->ino;
    struct hf_extent extent;

    assert_ok(vol->ops->map(a, 5, HF_NOWAIT, &extent));
    assert_int_equal(extent.kind, HF_EXTENT_HOLE);
    assert_true(extent.nr > 1ull << 50);
    assert_ok(file_write(a, 100, 200, 'a'));
    assert_ok(file_write(a, 70, 10, 'b'));
    assert_ok(vol->ops->map(a, 3, HF_NOWAIT, &extent));
    assert_int_equal(extent.kind, HF_EXTENT_HOLE);
    assert_int_equal(extent.nr, 67);
    assert_int_equal(atomic_load(&a->blocks), 210);
    assert_int_equal(vol_free(vol), free_blocks - 210);
    file_check(a, 0, 70, 0);
    file_check(a, 70, 10, 'b');
    file_check(a, 100, 200, 'a');
    assert_ok(vol->ops->punch(a, 110, 50));
    file_check(a, 109, 1, 'a');
    file_check(a, 110, 50, 0);
    file_check(a, 160, 1, 'a');
    assert_ok(vol->ops->preallocate(a, 105, 20, 0));
    assert_int_equal(file_kind(a, 110), HF_EXTENT_UNWRITTEN);
    assert_int_equal(file_kind(a, 109), HF_EXTENT_WRITTEN);
    assert_int_equal(file_kind(a, 125), HF_EXTENT_HOLE);
    assert_int_equal(atomic_load(&a->blocks), 175);
    assert_ok(vol->ops->reserve(a, 3, 0));
    assert_ok(vol->ops->allocate(a, 400, 3)); /* and never written */
    inode_put(a);
    a = inode_get(vol, ino);
    assert_int_equal(atomic_load(&a->blocks), 175);
    assert_int_equal(file_blocks(a), 300);
    file_check(a, 110, 50, 0);
    assert_ok(file_truncate(a, 120));
    assert_int_equal(atomic_load(&a->blocks), 10 + 10 + 10);
    assert_ok(file_truncate(a, 300));
    file_check(a, 120, 180, 0);
    inode_put(a);
    file_unlink(vol, root, "a");
    assert_int_equal(vol_free(vol), free_blocks);
    inode_put(root);
}

static void (*const bodies[])(struct vol *) = {names_and_links, symlinks, renames, long_names_and_many, data};

static void on_blockfs(void **state)
{
    struct vol vol;

    mount_blockfs(&vol);
    bodies[*(int *)*state](&vol);
    unmount(&vol);
}

static void on_memfs(void **state)
{
    struct vol vol;

    mount_memfs(&vol);
    bodies[*(int *)*state](&vol);
    unmount(&vol);
}

static void names_survive_when_synced_and_leave_no_trace_when_not(void **state)
{
    struct hf_inode *root, *d, *a;
    struct vol vol, later;
    struct hf_device *image;
    char text[512];

    (void)state;
    mount_blockfs(&vol);
    root = root_get(&vol);
    d = node_create(&vol, root, "d", S_IFDIR | 0755, NULL);
    a = file_create(&vol, d, "a");
    assert_ok(vol.ops->fsync(a, false));
    assert_ok(vol.ops->rename(d, "a", a, root, "moved", NULL, 0, ++vol.now_ns));
    inode_put(node_create(&vol, root, "l", S_IFLNK | 0777, "target"));

    image = image_copy(dev);
    vol_mount(&later, image);
    root = (inode_put(root), root_get(&later));
    list(root, text, sizeof(text));
    assert_string_equal(text, "d:4");
    assert_int_equal(root->nlink, 3);
    inode_put(root);
    vol_unmount(&later);
    hf_dev_close(image);

    assert_ok(vol.ops->fsync(a, false));
    image = image_copy(dev);
    vol_mount(&later, image);
    root = root_get(&later);
    list(root, text, sizeof(text));
    assert_string_equal(text, "d:4 moved:8 l:10");
    inode_put(root);
    /* Numbers are not used twice, even after the newest is gone. */
    root = root_get(&later);
    {
        struct hf_inode *new = file_create(&later, root, "new");

        assert_true(new->ino > a->ino);
        inode_put(new);
    }
    inode_put(root);
    vol_unmount(&later);
    hf_dev_close(image);
    inode_put(d);
    inode_put(a);
    unmount(&vol);
}

int main(void)
{
    static int indexes[] = {0, 1, 2, 3, 4};
    const struct CMUnitTest tests[] = {
        {"names_and_links, blockfs", on_blockfs, NULL, NULL, &indexes[0]},
        {"names_and_links, memfs", on_memfs, NULL, NULL, &indexes[0]},
        {"symlinks, blockfs", on_blockfs, NULL, NULL, &indexes[1]},
        {"symlinks, memfs", on_memfs, NULL, NULL, &indexes[1]},
        {"renames, blockfs", on_blockfs, NULL, NULL, &indexes[2]},
        {"renames, memfs", on_memfs, NULL, NULL, &indexes[2]},
        {"long_names_and_many, blockfs", on_blockfs, NULL, NULL, &indexes[3]},
        {"long_names_and_many, memfs", on_memfs, NULL, NULL, &indexes[3]},
        {"data, blockfs", on_blockfs, NULL, NULL, &indexes[4]},
        {"data, memfs", on_memfs, NULL, NULL, &indexes[4]},
        cmocka_unit_test(names_survive_when_synced_and_leave_no_trace_when_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
