/* SPDX-License-Identifier: MIT */
/*
 * permission_checks.c - hf_access() and the sticky rule say what the kernel says, for owners, groups and
 * others.
 *
 * The oracle needs root: a child takes on each caller's identity and asks the host about the same modes.
 */
#include "target.h"

#include <grp.h>
#include <holdfast/node.h>

#define OWNER 1001
#define GROUP 2001
#define OTHER 3001

static const gid_t groups[] = {7, GROUP};
static const struct hf_caller callers[] = {
    {.uid = OWNER, .gid = OTHER},
    {.uid = OTHER, .gid = GROUP},
    {.uid = OTHER, .gid = OTHER, .groups = groups, .nr_groups = 2},
    {.uid = OTHER, .gid = OTHER},
    {.uid = 0, .gid = 0},
};

struct answers {
    char dir[64];
    int at; /* the same, open: who cannot search the way there is asked about what lies below all the same */
    int8_t file[ARRAY_LEN(callers)][512][8];
    int8_t search[ARRAY_LEN(callers)][512];
};

/* In a child: becomes the caller, asks the host. */
static int ask(void *arg)
{
    struct answers *a = arg;
    char path[128];

    for (size_t c = ARRAY_LEN(callers); c-- > 0;) {
        CHILD_CHECK(seteuid(0) == 0);
        CHILD_CHECK(setgroups(callers[c].nr_groups, callers[c].groups) == 0);
        CHILD_CHECK(setegid(callers[c].gid) == 0);
        CHILD_CHECK(seteuid(callers[c].uid) == 0);
        for (int mode = 0; mode < 512; mode++) {
            snprintf(path, sizeof(path), "f%03o", mode);
            for (int mask = 0; mask < 8; mask++)
                a->file[c][mode][mask] = (int8_t)(faccessat(a->at, path, mask, AT_EACCESS) < 0 ? -errno : 0);
            snprintf(path, sizeof(path), "d%03o/x", mode);
            a->search[c][mode] = (int8_t)(faccessat(a->at, path, F_OK, AT_EACCESS) < 0 ? -errno : 0);
        }
    }
    return 0;
}

static void make_host(struct answers *a, bool remove)
{
    char path[128];
    int fd;

    for (int mode = 0; mode < 512; mode++) {
        snprintf(path, sizeof(path), "%s/d%03o/x", a->dir, mode);
        if (remove)
            unlink(path);
        snprintf(path, sizeof(path), "%s/d%03o", a->dir, mode);
        if (remove) {
            rmdir(path);
        } else {
            assert_int_equal(mkdir(path, 0700), 0);
            strcat(path, "/x");
            fd = open(path, O_CREAT | O_WRONLY, 0600);
            assert_true(fd >= 0);
            close(fd);
            *strrchr(path, '/') = '\0';
            assert_int_equal(chown(path, OWNER, GROUP), 0);
            assert_int_equal(chmod(path, (mode_t)mode), 0);
        }
        snprintf(path, sizeof(path), "%s/f%03o", a->dir, mode);
        if (remove) {
            unlink(path);
            continue;
        }
        fd = open(path, O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        assert_int_equal(fchown(fd, OWNER, GROUP), 0);
        assert_int_equal(fchmod(fd, (mode_t)mode), 0);
        close(fd);
    }
}

static void as_the_kernel_says(struct target *t)
{
    struct answers *a;
    char path[32];

    if (geteuid() != 0)
        skip();
    a = mmap(NULL, sizeof(*a), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(a != MAP_FAILED);
    strcpy(a->dir, "/dev/shm/holdfast-access-XXXXXX");
    assert_non_null(mkdtemp(a->dir));
    assert_int_equal(chmod(a->dir, 0755), 0);
    a->at = open(a->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(a->at >= 0);
    make_host(a, false);
    expect_exit_0(fork_child(ask, a));
    close(a->at);
    make_host(a, true);
    assert_int_equal(rmdir(a->dir), 0);
    make_file(t, "f", 0, 0);
    assert_ok(t->ops->chown(t, "f", OWNER, GROUP));
    assert_ok(t_mkdir(t, "d", 0700));
    make_file(t, "d/x", 0, 0);
    assert_ok(t->ops->chown(t, "d", OWNER, GROUP));
    for (int mode = 0; mode < 512; mode++) {
        assert_ok(t_chmod(t, "f", (mode_t)mode));
        assert_ok(t_chmod(t, "d", (mode_t)mode));
        for (size_t c = 0; c < ARRAY_LEN(callers); c++) {
            for (int mask = 0; mask < 8; mask++) {
                int got = hf_access(t->volume, "f", &callers[c], mask);

                assert_that(got == a->file[c][mode][mask], "mode %03o, caller %zu, mask %d: %d", mode, c,
                            mask, got);
            }
            assert_int_equal(hf_access(t->volume, "d/x", &callers[c], F_OK), a->search[c][mode]);
        }
    }
    munmap(a, sizeof(*a));
    snprintf(path, sizeof(path), "none");
    assert_err(hf_access(t->volume, path, &callers[0], F_OK), ENOENT);
    assert_err(hf_access(t->volume, "f", &callers[0], 8), EINVAL);
}

static void sticky_directories(struct target *t)
{
    const struct hf_caller root = {.uid = 0}, dir_owner = {.uid = 5}, file_owner = {.uid = 6},
                           other = {.uid = 7};
    struct hf_node *top, *dir, *node;

    assert_ok(t_mkdir(t, "d", 0777));
    make_file(t, "d/f", 0, 0);
    assert_ok(t->ops->chown(t, "d", 5, 5));
    assert_ok(t->ops->chown(t, "d/f", 6, 6));
    assert_ok(hf_node_root(t->volume, &top));
    assert_ok(hf_node_lookup(top, "d", &dir));
    assert_ok(hf_node_lookup(dir, "f", &node));
    assert_ok(hf_node_may_delete(dir, node, &other));
    assert_ok(t_chmod(t, "d", 01777));
    assert_err(hf_node_may_delete(dir, node, &other), EPERM);
    assert_ok(hf_node_may_delete(dir, node, &dir_owner));
    assert_ok(hf_node_may_delete(dir, node, &file_owner));
    assert_ok(hf_node_may_delete(dir, node, &root));
    assert_ok(t_chmod(t, "d", 01755));
    assert_err(hf_node_may_delete(dir, node, &file_owner), EACCES);
    assert_ok(hf_node_access(node, &file_owner, R_OK | W_OK));
    hf_node_put(node, 1);
    hf_node_put(dir, 1);
    hf_node_put(top, 1);
}

static void read_only_volumes(struct target *t)
{
    const struct hf_caller root = {.uid = 0};
    struct hf_open_options open = t->spec->open;

    make_file(t, "f", 0, 0);
    assert_ok(hf_access(t->volume, "f", &root, W_OK));
    open.flags |= HF_OPEN_READ_ONLY;
    assert_ok(hf_volume_close(t->volume));
    t->volume = NULL;
    assert_ok(hf_volume_open(t->path, &open, &t->volume));
    assert_err(hf_access(t->volume, "f", &root, W_OK), EROFS);
    assert_ok(hf_access(t->volume, "f", &root, R_OK));
}

static const struct test_body bodies[] = {
    BODY(as_the_kernel_says, ON(TARGET_MEMFS)),
    BODY(sticky_directories, ON_HOLDFAST),
    BODY(read_only_volumes, ON(TARGET_BLOCKFS)),
};

TEST_MAIN("permission_checks", bodies)
