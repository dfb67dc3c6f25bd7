/* SPDX-License-Identifier: MIT */
/*
 * directories.c - mkdir, rmdir and readdir, also while names come and go.
 */
#include "target.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#define NR_KEPT 300

static void make_and_remove(struct target *t)
{
    assert_ok(t_mkdir(t, "d", 0750));
    assert_int_equal(stat_at(t, "d").st_mode, S_IFDIR | 0750);
    assert_err(t_mkdir(t, "d", 0755), EEXIST);
    assert_err(t_mkdir(t, "none/d", 0755), ENOENT);
    make_file(t, "f", 1, 'f');
    assert_err(t_mkdir(t, "f", 0755), EEXIST);
    assert_err(t_mkdir(t, "f/d", 0755), ENOTDIR);
    assert_ok(t_mkdir(t, "e/", 0755));
    assert_ok(t_rmdir(t, "e/"));
    assert_ok(t_mkdir(t, "d/sub", 0755));
    assert_err(t_rmdir(t, "d"), ENOTEMPTY);
    assert_err(t_rmdir(t, "f"), ENOTDIR);
    assert_err(t_rmdir(t, "none"), ENOENT);
    assert_err(t_rmdir(t, "d/."), EINVAL);
    assert_err(t_rmdir(t, "d/sub/.."), ENOTEMPTY);
    assert_err(t_unlink(t, "d"), EISDIR);
    assert_ok(t_rmdir(t, "d/sub"));
    assert_ok(t_rmdir(t, "d"));
    assert_err(t_rmdir(t, "d"), ENOENT);
    assert_err(t_mkdir(t, "/", 0755), EEXIST);
    assert_err(t_rmdir(t, "/"), target_is_host(t) ? EINVAL : EBUSY);
}

static void link_counts(struct target *t)
{
    nlink_t before;

    if (!t->counts_dir_links)
        skip();
    before = stat_at(t, "/").st_nlink;
    assert_ok(t_mkdir(t, "d", 0755));
    assert_int_equal(stat_at(t, "d").st_nlink, 2);
    assert_int_equal(stat_at(t, "/").st_nlink, before + 1);
    assert_ok(t_mkdir(t, "d/e", 0755));
    make_file(t, "d/f", 0, 0);
    assert_int_equal(stat_at(t, "d").st_nlink, 3);
    assert_ok(t_rmdir(t, "d/e"));
    assert_int_equal(stat_at(t, "d").st_nlink, 2);
    assert_ok(t_unlink(t, "d/f"));
    assert_ok(t_rmdir(t, "d"));
    assert_int_equal(stat_at(t, "/").st_nlink, before);
}

static void entries_and_types(struct target *t)
{
    struct target_dir dir;
    struct hf_dirent entry;
    unsigned seen = 0;

    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_mkdir(t, "d/sub", 0755));
    make_file(t, "d/file", 1, 'f');
    assert_ok(t_symlink(t, "file", "d/sym"));
    assert_ok(t_opendir(t, "d", &dir));
    while (assert_ok(t_readdir(&dir, &entry)) == 1) {
        char path[300];

        snprintf(path, sizeof(path), "d/%s", entry.name);
        assert_int_equal(entry.ino, stat_at(t, path).st_ino);
        if (strcmp(entry.name, ".") == 0)
            seen |= entry.type == DT_DIR ? 1 : 0;
        else if (strcmp(entry.name, "..") == 0)
            seen |= entry.type == DT_DIR ? 2 : 0;
        else if (strcmp(entry.name, "sub") == 0)
            seen |= entry.type == DT_DIR ? 4 : 0;
        else if (strcmp(entry.name, "file") == 0)
            seen |= entry.type == DT_REG ? 8 : 0;
        else if (strcmp(entry.name, "sym") == 0)
            seen |= entry.type == DT_LNK ? 16 : 0;
        else
            fail_msg("unknown entry %s", entry.name);
    }
    assert_int_equal(seen, 31);
    assert_count(t_readdir(&dir, &entry), 0);
    assert_ok(t_closedir(&dir));
    assert_err(t_opendir(t, "d/file", &dir), ENOTDIR);
    assert_err(t_opendir(t, "d/none", &dir), ENOENT);
}

static void dots_come_first(struct target *t)
{
    struct target_dir dir;
    struct hf_dirent entry;

    make_file(t, "!before-dot", 0, 0);
    assert_ok(t_opendir(t, "/", &dir));
    assert_count(t_readdir(&dir, &entry), 1);
    assert_string_equal(entry.name, ".");
    assert_count(t_readdir(&dir, &entry), 1);
    assert_string_equal(entry.name, "..");
    assert_int_equal(entry.ino, stat_at(t, "/").st_ino);
    assert_ok(t_closedir(&dir));
}

static void make_kept(struct target *t, const char *dir)
{
    char path[300];

    assert_ok(t_mkdir(t, dir, 0755));
    for (int i = 0; i < NR_KEPT; i++) {
        snprintf(path, sizeof(path), "%s/keep-%d", dir, i);
        make_file(t, path, 0, 0);
    }
}

/* Every kept name exactly once, whatever else there is. */
static void check_kept_once(struct target_dir *dir)
{
    int seen[NR_KEPT] = {0};
    struct hf_dirent entry;
    int nr;

    while (assert_ok(t_readdir(dir, &entry)) == 1) {
        if (sscanf(entry.name, "keep-%d", &nr) == 1)
            seen[nr]++;
    }
    for (nr = 0; nr < NR_KEPT; nr++)
        assert_that(seen[nr] == 1, "keep-%d was read %d times", nr, seen[nr]);
}

static void seeking_back(struct target *t)
{
    struct target_dir dir;
    struct hf_dirent entry, again;
    uint64_t cookie = 0;

    make_kept(t, "d");
    assert_ok(t_opendir(t, "d", &dir));
    check_kept_once(&dir);
    t_seekdir(&dir, 0);
    for (int i = 0; i < 100; i++)
        assert_count(t_readdir(&dir, &entry), 1);
    cookie = entry.cookie;
    assert_count(t_readdir(&dir, &entry), 1);
    for (int i = 0; i < 50; i++)
        assert_count(t_readdir(&dir, &again), 1);
    t_seekdir(&dir, cookie);
    assert_count(t_readdir(&dir, &again), 1);
    assert_string_equal(again.name, entry.name);
    t_seekdir(&dir, 0);
    check_kept_once(&dir);
    assert_ok(t_closedir(&dir));
}

static void removing_while_reading(struct target *t)
{
    struct target_dir dir;
    struct hf_dirent entry;
    char path[300];
    int removed = 0;

    make_kept(t, "d");
    assert_ok(t_opendir(t, "d", &dir));
    while (assert_ok(t_readdir(&dir, &entry)) == 1) {
        if (entry.name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "d/%s", entry.name);
        assert_ok(t_unlink(t, path));
        removed++;
    }
    assert_ok(t_closedir(&dir));
    assert_int_equal(removed, NR_KEPT);
    assert_ok(t_rmdir(t, "d"));
}

struct churn {
    struct target *target;
    atomic_bool stop;
    atomic_int error, rounds;
};

static int churn_once(struct target *t, int i)
{
    struct target_file file;
    char path[64];
    int ret;

    snprintf(path, sizeof(path), "d/temp-%d", i % 97);
    ret = t_open(t, path, O_RDWR | O_CREAT, 0600, &file);
    if (ret < 0)
        return ret;
    ret = t_close(&file);
    snprintf(path, sizeof(path), "d/temp-%d", (i + 48) % 97);
    (void)t_unlink(t, path);
    return ret;
}

static void *churn_names(void *arg)
{
    struct churn *churn = arg;

    for (int i = 0; !atomic_load(&churn->stop); i++) {
        int ret = churn_once(churn->target, i);

        if (ret < 0)
            atomic_store(&churn->error, ret);
        atomic_fetch_add(&churn->rounds, 1);
    }
    return NULL;
}

static void complete_while_names_change(struct target *t)
{
    struct churn churn = {.target = t};
    struct target_dir dir;
    pthread_t thread;

    make_kept(t, "d");
    assert_int_equal(pthread_create(&thread, NULL, churn_names, &churn), 0);
    while (atomic_load(&churn.rounds) == 0)
        wait_for_clock();
    for (int i = 0; i < 20; i++) {
        assert_ok(t_opendir(t, "d", &dir));
        check_kept_once(&dir);
        assert_ok(t_closedir(&dir));
    }
    atomic_store(&churn.stop, true);
    pthread_join(thread, NULL);
    assert_ok(atomic_load(&churn.error));
}

static void removed_while_open(struct target *t)
{
    struct target_dir dir;
    struct target_file file;
    struct hf_dirent entry;

    assert_ok(t_mkdir(t, "d", 0755));
    assert_ok(t_opendir(t, "d", &dir));
    file = open_old(t, "d", O_RDONLY | O_DIRECTORY);
    assert_ok(t_rmdir(t, "d"));
    assert_count(stat_of(&file).st_nlink, 0);
    while (assert_ok(t_readdir(&dir, &entry)) == 1)
        assert_int_equal(entry.name[0], '.');
    assert_ok(t_closedir(&dir));
    close_ok(&file);
    assert_ok(t_mkdir(t, "d", 0755));
}

static void deep_trees(struct target *t)
{
    char path[512] = "";
    size_t len = 0;

    for (int i = 0; i < 100; i++) {
        len += (size_t)snprintf(path + len, sizeof(path) - len, "%sd%d", i ? "/" : "", i % 10);
        assert_ok(t_mkdir(t, path, 0755));
    }
    make_file(t, strcat(path, "/f"), 5, 'f');
    assert_count(stat_at(t, path).st_size, 5);
}

static const struct test_body bodies[] = {
    BODY(make_and_remove, ON_ALL),
    BODY(link_counts, ON_ALL),
    BODY(entries_and_types, ON_ALL),
    BODY(dots_come_first, ON_HOLDFAST),
    BODY(seeking_back, ON_ALL),
    BODY(removing_while_reading, ON_ALL),
    BODY(complete_while_names_change, ON_ALL),
    BODY(removed_while_open, ON_ALL),
    BODY(deep_trees, ON_ALL),
};

TEST_MAIN("directories", bodies)
