/* SPDX-License-Identifier: MIT */
/*
 * access_times.c - reading moves atime as relatime, noatime and strictatime of mount(8) say.
 */
#include "target.h"

static int64_t atime_of(struct target *t, const char *path)
{
    return ns_of(stat_at(t, path).st_atim);
}

/* Whether `step` moves the atime of path. */
#define moves(t, path, step)                     \
    __extension__({                              \
        int64_t before_ = atime_of((t), (path)); \
        wait_for_clock();                        \
        step;                                    \
        atime_of((t), (path)) > before_;         \
    })

static void need_relatime(struct target *t)
{
    if (!t->has_relatime)
        skip();
}

static void read_dir(struct target *t, const char *path)
{
    struct hf_dirent entry;
    struct target_dir dir;
    int ret;

    assert_ok(t_opendir(t, path, &dir));
    while ((ret = t_readdir(&dir, &entry)) == 1)
        ;
    assert_ok(ret);
    assert_ok(t_closedir(&dir));
}

static void files(struct target *t)
{
    struct target_file file;
    char byte;

    need_relatime(t);
    file = open_new(t, "f");
    fill_range(&file, 0, 100, 'f');
    assert_true(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    assert_false(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    assert_false(moves(t, "f", fill_range(&file, 0, 1, 'g')));
    assert_true(moves(t, "f", assert_count(t_read(&file, &byte, 1), 1)));
    assert_false(moves(t, "f", assert_count(t_read(&file, &byte, 1), 1)));
    assert_ok(t_chmod(t, "f", 0600));
    assert_true(moves(t, "f", assert_count(t_pread(&file, &byte, 1, 0), 1)));
    assert_false(moves(t, "f", assert_ok(t_fsync(&file))));
    close_ok(&file);
}

static void directories_and_symlinks(struct target *t)
{
    char buf[8];

    need_relatime(t);
    assert_ok(t_mkdir(t, "d", 0755));
    make_file(t, "d/f", 1, 'f');
    assert_ok(t_symlink(t, "d", "l"));
    assert_true(moves(t, "d", read_dir(t, "d")));
    assert_false(moves(t, "d", read_dir(t, "d")));
    assert_false(moves(t, "d", make_file(t, "d/g", 0, 0)));
    assert_true(moves(t, "d", read_dir(t, "d")));
    assert_true(moves(t, "l", assert_count(t_readlink(t, "l", buf, sizeof(buf)), 1)));
    assert_false(moves(t, "l", assert_count(t_readlink(t, "l", buf, sizeof(buf)), 1)));
}

static void mappings(struct target *t)
{
    struct target_file file;
    uint8_t *map = NULL;

    need_relatime(t);
    file = open_new(t, "f");
    fill_range(&file, 0, UNIT, 'f');
    assert_true(moves(t, "f", map = map_shared(&file, 0, UNIT)));
    unmap_ok(t, map, UNIT);
    close_ok(&file);
}

static void without_atime(struct target *t)
{
    struct target_file file;

    need_relatime(t);
    make_file(t, "f", 100, 'f');
    file = open_old(t, "f", O_RDONLY | O_NOATIME);
    assert_false(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    close_ok(&file);
    file = open_old(t, "f", O_RDONLY);
    assert_true(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    close_ok(&file);
}

static void last_over_reopen(struct target *t)
{
    struct target_file file;
    int64_t before;

    need_relatime(t);
    make_file(t, "f", 100, 'f');
    file = open_old(t, "f", O_RDONLY);
    assert_true(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    close_ok(&file);
    before = atime_of(t, "f");
    target_reopen(t);
    assert_int_equal(atime_of(t, "f"), before);
}

static void reopen_with(struct target *t, uint32_t flags)
{
    struct hf_open_options open = t->spec->open;

    open.flags |= flags;
    assert_ok(hf_volume_close(t->volume));
    t->volume = NULL;
    assert_ok(hf_volume_open(t->path, &open, &t->volume));
}

static void options_of_the_volume(struct target *t)
{
    struct hf_open_options both = {.flags = HF_OPEN_NOATIME | HF_OPEN_STRICTATIME};
    struct hf_volume *volume;
    struct target_file file;
    int64_t before;

    assert_err(hf_volume_open("mem:1M", &both, &volume), EINVAL);
    make_file(t, "f", 100, 'f');
    reopen_with(t, HF_OPEN_NOATIME);
    file = open_old(t, "f", O_RDONLY);
    assert_false(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    assert_false(moves(t, "/", read_dir(t, "/")));
    close_ok(&file);
    reopen_with(t, HF_OPEN_STRICTATIME);
    file = open_old(t, "f", O_RDONLY);
    for (int i = 0; i < 3; i++)
        assert_true(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    close_ok(&file);
    before = atime_of(t, "f");
    reopen_with(t, HF_OPEN_STRICTATIME | HF_OPEN_READ_ONLY);
    assert_int_equal(atime_of(t, "f"), before);
    file = open_old(t, "f", O_RDONLY);
    assert_false(moves(t, "f", expect_range(&file, 0, 100, 'f')));
    close_ok(&file);
}

static const struct test_body bodies[] = {
    BODY(files, ON_ALL),
    BODY(directories_and_symlinks, ON_ALL),
    BODY(mappings, ON_ALL & ~ON(TARGET_MOUNT)), /* FUSE is not told of mmap */
    BODY(without_atime, ON_ALL),
    BODY(last_over_reopen, ON_LASTING),
    BODY(options_of_the_volume, ON(TARGET_BLOCKFS)),
};

TEST_MAIN("access_times", bodies)
