/* SPDX-License-Identifier: MIT */
/*
 * blockfs_quota.c - the driver's quotas: what is charged and given back by each operation, limits, grace
 * times, and what of them lasts. vol_check_quota() and vol_unmount() compare with a full scan throughout.
 */
#include "blockfs_util.h"

#include "base/types.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define B 1024u
#define OWNER 7u /* as node_create() has them */
#define GROUP 8u

static struct hf_device *dev;
static struct vol vol;
static struct hf_inode *root;

static void start(void)
{
    dev = vol_format(4 << 20, B, false);
    vol_mount(&vol, dev);
    root = root_get(&vol);
}

static void again(void)
{
    inode_put(root);
    vol_unmount(&vol);
    vol_mount(&vol, dev);
    root = root_get(&vol);
}

static void stop(void)
{
    inode_put(root);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

static struct hf_quota get(enum hf_quota_type type, uint32_t id)
{
    struct hf_quota quota;

    assert_ok(vol.ops->quota_get(&vol.sb, type, id, &quota));
    assert_int_equal(quota.limits.type, type);
    assert_int_equal(quota.limits.id, id);
    return quota;
}

static void uses(enum hf_quota_type type, uint32_t id, uint64_t blocks, uint64_t inodes)
{
    struct hf_quota quota = get(type, id);

    assert_that(quota.blocks_used == blocks && quota.inodes_used == inodes,
                "type %d id %u uses %llu blocks and %llu inodes, not %llu and %llu", (int)type, id,
                (unsigned long long)quota.blocks_used, (unsigned long long)quota.inodes_used,
                (unsigned long long)blocks, (unsigned long long)inodes);
    vol_check_quota(&vol);
}

/* Of the one file of the test, or its owner, for all three types. */
static void file_uses(uint64_t blocks)
{
    uses(HF_QUOTA_USER, OWNER, blocks, 1);
    uses(HF_QUOTA_GROUP, GROUP, blocks, 1);
    uses(HF_QUOTA_PROJECT, 0, blocks, 2); /* and the root directory */
}

static void set(enum hf_quota_type type, uint32_t id, uint64_t soft, uint64_t hard)
{
    assert_ok(vol.ops->quota_set(
        &vol.sb,
        &(struct hf_quota_limits){.type = type, .id = id, .blocks_soft = soft, .blocks_hard = hard}));
}

static void set_inodes(enum hf_quota_type type, uint32_t id, uint64_t soft, uint64_t hard)
{
    assert_ok(vol.ops->quota_set(
        &vol.sb,
        &(struct hf_quota_limits){.type = type, .id = id, .inodes_soft = soft, .inodes_hard = hard}));
}

static struct hf_account *account(enum hf_quota_type type, uint32_t id)
{
    struct hf_accounts *accounts = &hf_blockfs_of(&vol.sb)->accounts;
    struct hf_account *a;

    assert_ok(hf_account_get(accounts, type, id, &a));
    hf_account_put(accounts, a);
    return a;
}

/* ---- charging */

static void each_operation_charges_once(void **state)
{
    struct hf_inode *f;

    (void)state;
    start();
    uses(HF_QUOTA_USER, OWNER, 0, 0);
    f = file_create(&vol, root, "f");
    file_uses(0);
    assert_ok(vol.ops->reserve(f, 5, 0));
    file_uses(5);
    assert_ok(vol.ops->allocate(f, 10, 3)); /* turning a promise into blocks costs nothing more */
    file_uses(5);
    vol.ops->unreserve(f, 2);
    file_uses(3);
    assert_ok(file_write(f, 0, 4, 'x'));
    file_uses(7);
    assert_ok(file_write(f, 0, 4, 'y')); /* overwriting neither */
    file_uses(7);
    assert_ok(vol.ops->fsync(f, false));
    file_uses(7);
    assert_ok(vol.ops->preallocate(f, 2, 10, 0)); /* 4 ... 9 are holes */
    file_uses(13);
    assert_ok(vol.ops->punch(f, 3, 2)); /* blocks that wait for a commit are nobody's */
    file_uses(11);
    assert_true(atomic_load(&hf_blockfs_of(&vol.sb)->space.pending) > 0);
    assert_ok(vol.ops->punch(f, 3, 2));
    file_uses(11);
    atomic_store(&f->size, 13 * B);
    assert_ok(file_truncate(f, 2));
    file_uses(2);
    assert_ok(vol.ops->reserve(f, 4, HF_NOWAIT));
    assert_ok(vol.ops->allocate(f, 50, 4)); /* never written: eviction gives it back */
    file_uses(6);
    inode_put(f);
    file_uses(2);
    f = node_find(&vol, root, "f");
    file_uses(2);
    assert_ok(vol.ops->unlink(root, "f", f, ++vol.now_ns));
    file_uses(2); /* until its last user is gone */
    inode_put(f);
    uses(HF_QUOTA_USER, OWNER, 0, 0);
    uses(HF_QUOTA_PROJECT, 0, 0, 1);
    stop();
}

static void counted_again_at_mount(void **state)
{
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(file_write(f, 0, 9, 'x'));
    assert_ok(vol.ops->preallocate(f, 100, 11, 0));
    inode_put(f);
    inode_put(node_create(&vol, root, "l", S_IFLNK | 0777, "target"));
    inode_put(node_create(&vol, root, "d", S_IFDIR | 0755, NULL));
    for (int i = 0; i < 3; i++) {
        uses(HF_QUOTA_USER, OWNER, 20, 3);
        uses(HF_QUOTA_USER, 0, 0, 1);
        uses(HF_QUOTA_GROUP, GROUP, 20, 3);
        uses(HF_QUOTA_PROJECT, 0, 20, 4);
        again();
    }
    stop();
}

/* A deleted file that a crash left is charged to nobody once it is freed. */
static void orphans_are_given_back(void **state)
{
    struct hf_device *copy;
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(file_write(f, 0, 9, 'x'));
    assert_ok(vol.ops->unlink(root, "f", f, ++vol.now_ns));
    assert_ok(vol.ops->sync(&vol.sb));
    copy = image_copy(dev);
    inode_put(f);
    stop();
    dev = copy;
    vol_mount(&vol, dev);
    root = root_get(&vol);
    uses(HF_QUOTA_USER, OWNER, 0, 0);
    uses(HF_QUOTA_GROUP, GROUP, 0, 0);
    stop();
}

/* ---- limits */

static void each_type_refuses(void **state)
{
    static const struct {
        enum hf_quota_type type;
        uint32_t id;
    } ids[] = {{HF_QUOTA_USER, OWNER}, {HF_QUOTA_GROUP, GROUP}, {HF_QUOTA_PROJECT, 0}};
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        uint64_t free_before = vol_free(&vol);

        set(ids[i].type, ids[i].id, 0, 10);
        assert_err(vol.ops->reserve(f, 11, 0), EDQUOT);
        assert_err(vol.ops->reserve(f, 11, HF_NOWAIT), EDQUOT);
        assert_err(vol.ops->reserve(f, 1ull << 40, 0), EDQUOT);
        assert_err(vol.ops->preallocate(f, 0, 11, 0), EDQUOT);
        assert_int_equal(vol_free(&vol), free_before);
        file_uses(0);
        assert_ok(vol.ops->reserve(f, 10, HF_NOWAIT));
        assert_err(vol.ops->reserve(f, 1, 0), EDQUOT);
        file_uses(10);
        set(ids[i].type, ids[i].id, 0, 11);
        assert_ok(vol.ops->reserve(f, 1, 0));
        set(ids[i].type, ids[i].id, 0, 5); /* below what is used: nothing is taken away */
        assert_err(vol.ops->reserve(f, 1, 0), EDQUOT);
        file_uses(11);
        vol.ops->unreserve(f, 7);
        assert_ok(vol.ops->reserve(f, 1, 0));
        vol.ops->unreserve(f, 5);
        set(ids[i].type, ids[i].id, 0, 0);
        assert_ok(vol.ops->reserve(f, 100, 0));
        vol.ops->unreserve(f, 100);
        file_uses(0);
    }
    inode_put(f);
    stop();
}

/* A charge that a full volume refuses is nobody's. */
static void a_full_volume_charges_nobody(void **state)
{
    struct hf_inode *f;
    uint64_t nr;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    nr = vol_free(&vol);
    for (int limited = 0; limited < 2; limited++) {
        assert_err(vol.ops->reserve(f, nr + 1, 0), ENOSPC);
        assert_err(vol.ops->preallocate(f, 0, nr + 1, 0), ENOSPC);
        file_uses(0);
        set(HF_QUOTA_USER, OWNER, 0, nr * 2);
    }
    inode_put(f);
    stop();
}

static void windows_leave_an_eighth(void **state)
{
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    for (int soft = 0; soft < 2; soft++) {
        set(HF_QUOTA_GROUP, GROUP, soft ? 80 : 0, soft ? 1000 : 80);
        assert_ok(vol.ops->reserve(f, 70, HF_NOWAIT | HF_SPECULATIVE));
        assert_err(vol.ops->reserve(f, 1, HF_NOWAIT | HF_SPECULATIVE), EDQUOT);
        assert_ok(vol.ops->reserve(f, 10, HF_NOWAIT));
        assert_int_equal(get(HF_QUOTA_GROUP, GROUP).blocks_grace_end_ns, 0);
        vol.ops->unreserve(f, 80);
    }
    inode_put(f);
    stop();
}

static void inodes_are_refused(void **state)
{
    struct hf_create how = {.mode = S_IFREG | 0644, .uid = OWNER, .gid = GROUP, .now_ns = 9};
    struct hf_inode *f;
    uint64_t ino = 0;

    (void)state;
    start();
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        uint32_t id = (uint32_t[]){OWNER, GROUP, 0}[type];
        uint64_t had = get((enum hf_quota_type)type, id).inodes_used, inodes = vol_statfs(&vol).inodes;

        set_inodes((enum hf_quota_type)type, id, 0, had + 1);
        f = file_create(&vol, root, "f");
        assert_err(vol.ops->create(root, "g", &how, &ino), EDQUOT);
        assert_null(node_find(&vol, root, "g"));
        assert_int_equal(vol_statfs(&vol).inodes, inodes + 1);
        uses((enum hf_quota_type)type, id, 0, had + 1);
        assert_ok(vol.ops->unlink(root, "f", f, ++vol.now_ns));
        assert_err(vol.ops->create(root, "g", &how, &ino), EDQUOT); /* it is open still */
        inode_put(f);
        inode_put(file_create(&vol, root, "g"));
        file_unlink(&vol, root, "g");
        uses((enum hf_quota_type)type, id, 0, had);
        set_inodes((enum hf_quota_type)type, id, 0, 0);
    }
    stop();
}

/* ---- soft limits */

static void soft_limits_have_a_grace_time(void **state)
{
    struct hf_quota quota;
    struct hf_inode *f;
    int64_t end;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    set(HF_QUOTA_USER, OWNER, 10, 20);
    assert_ok(vol.ops->reserve(f, 10, 0));
    assert_int_equal(get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns, 0);
    assert_ok(vol.ops->reserve(f, 1, 0)); /* crosses it */
    end = get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns;
    assert_that(end > hf_now_ns() + 6ll * 86400 * 1000000000 && end < hf_now_ns() + 8ll * 86400 * 1000000000,
                "the grace time ends at %lld", (long long)end);
    assert_ok(vol.ops->reserve(f, 1, 0));
    assert_int_equal(get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns, end);
    account(HF_QUOTA_USER, OWNER)->grace_end_ns[HF_ACCOUNT_BLOCKS] = 1; /* long over */
    assert_err(vol.ops->reserve(f, 1, 0), EDQUOT);
    assert_err(vol.ops->preallocate(f, 0, 1, 0), EDQUOT);
    vol.ops->unreserve(f, 1);
    assert_err(vol.ops->reserve(f, 1, 0), EDQUOT); /* 11: above it still */
    vol.ops->unreserve(f, 1);
    assert_ok(vol.ops->reserve(f, 1, 0)); /* was below: another grace time */
    quota = get(HF_QUOTA_USER, OWNER);
    assert_true(quota.blocks_grace_end_ns >= end);
    assert_ok(vol.ops->reserve(f, 9, 0));
    assert_err(vol.ops->reserve(f, 1, 0), EDQUOT); /* the hard one */
    vol.ops->unreserve(f, 20);
    assert_int_equal(get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns, 0);
    inode_put(f);
    stop();
}

static void a_new_limit_below_the_use_starts_it(void **state)
{
    struct hf_inode *f;
    int64_t end;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(vol.ops->reserve(f, 10, 0));
    set(HF_QUOTA_USER, OWNER, 5, 0);
    end = get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns;
    assert_true(end > hf_now_ns());
    set(HF_QUOTA_USER, OWNER, 6, 0); /* over as before: it goes on */
    assert_int_equal(get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns, end);
    assert_ok(vol.ops->quota_set(
        &vol.sb, &(struct hf_quota_limits){
                     .type = HF_QUOTA_USER, .id = OWNER, .blocks_soft = 6, .grace_seconds = 3600}));
    end = get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns; /* another time: from now on */
    assert_true(end > hf_now_ns() && end < hf_now_ns() + 2ll * 3600 * 1000000000);
    set(HF_QUOTA_USER, OWNER, 10, 0);
    assert_int_equal(get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns, 0);
    vol.ops->unreserve(f, 10);
    inode_put(f);
    stop();
}

static void grace_times_last(void **state)
{
    struct hf_inode *f;
    int64_t end, inodes_end;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(vol.ops->quota_set(
        &vol.sb,
        &(struct hf_quota_limits){
            .type = HF_QUOTA_GROUP, .id = GROUP, .blocks_soft = 3, .inodes_soft = 1, .grace_seconds = 1000}));
    assert_ok(file_write(f, 0, 4, 'x'));
    inode_put(file_create(&vol, root, "g"));
    end = get(HF_QUOTA_GROUP, GROUP).blocks_grace_end_ns;
    inodes_end = get(HF_QUOTA_GROUP, GROUP).inodes_grace_end_ns;
    assert_true(end > 0 && inodes_end >= end);
    inode_put(f);
    again();
    assert_int_equal(get(HF_QUOTA_GROUP, GROUP).blocks_grace_end_ns, end);
    assert_int_equal(get(HF_QUOTA_GROUP, GROUP).inodes_grace_end_ns, inodes_end);
    account(HF_QUOTA_GROUP, GROUP)->grace_end_ns[HF_ACCOUNT_BLOCKS] = 1;
    again();
    f = node_find(&vol, root, "f");
    assert_err(vol.ops->reserve(f, 1, 0), EDQUOT);
    assert_ok(file_truncate(f, 3));
    inode_put(f);
    again(); /* below it: nothing of the old time is left */
    f = node_find(&vol, root, "f");
    assert_ok(file_write(f, 3, 1, 'x'));
    assert_true(get(HF_QUOTA_GROUP, GROUP).blocks_grace_end_ns > hf_now_ns());
    inode_put(f);
    stop();
}

static void inodes_have_one_too(void **state)
{
    struct hf_create how = {.mode = S_IFREG | 0644, .uid = OWNER, .gid = GROUP, .now_ns = 9};
    uint64_t ino;

    (void)state;
    start();
    set_inodes(HF_QUOTA_USER, OWNER, 1, 9);
    inode_put(file_create(&vol, root, "a"));
    inode_put(file_create(&vol, root, "b"));
    assert_true(get(HF_QUOTA_USER, OWNER).inodes_grace_end_ns > hf_now_ns());
    assert_int_equal(get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns, 0);
    account(HF_QUOTA_USER, OWNER)->grace_end_ns[HF_ACCOUNT_INODES] = 1;
    assert_err(vol.ops->create(root, "c", &how, &ino), EDQUOT);
    file_unlink(&vol, root, "a");
    inode_put(file_create(&vol, root, "c"));
    stop();
}

/* ---- what lasts of limits */

static void limits_last(void **state)
{
    const struct hf_quota_limits all = {.type = HF_QUOTA_PROJECT,
                                        .id = UINT32_MAX,
                                        .blocks_soft = 1,
                                        .blocks_hard = 2,
                                        .inodes_soft = 3,
                                        .inodes_hard = HF_QUOTA_LIMIT_MAX,
                                        .grace_seconds = 5};
    struct hf_quota list[8], quota;
    uint64_t cursor = 0;

    (void)state;
    start();
    assert_ok(vol.ops->quota_set(&vol.sb, &all));
    set(HF_QUOTA_USER, 1000, 0, 77);
    set(HF_QUOTA_USER, 1001, 0, 78);
    set(HF_QUOTA_USER, 1001, 0, 0);
    for (int i = 0; i < 3; i++) {
        quota = get(HF_QUOTA_PROJECT, UINT32_MAX);
        assert_memory_equal(&quota.limits, &all, sizeof(all));
        assert_int_equal(get(HF_QUOTA_USER, 1000).limits.blocks_hard, 77);
        assert_int_equal(get(HF_QUOTA_USER, 1001).limits.blocks_hard, 0);
        cursor = 0;
        assert_int_equal(vol.ops->quota_list(&vol.sb, &cursor, 2, list), 2);
        assert_int_equal(list[0].limits.id, 0);
        assert_int_equal(list[1].limits.id, 1000);
        assert_int_equal(vol.ops->quota_list(&vol.sb, &cursor, 8, list), 3);
        assert_int_equal(list[0].limits.type, HF_QUOTA_GROUP);
        assert_int_equal(list[1].limits.type, HF_QUOTA_PROJECT);
        assert_int_equal(list[1].inodes_used, 1);
        assert_int_equal(list[2].limits.id, UINT32_MAX);
        assert_int_equal(vol.ops->quota_list(&vol.sb, &cursor, 8, list), 0);
        again();
    }
    assert_ok(
        vol.ops->quota_set(&vol.sb, &(struct hf_quota_limits){HF_QUOTA_PROJECT, UINT32_MAX, 0, 0, 0, 0, 9}));
    assert_int_equal(get(HF_QUOTA_PROJECT, UINT32_MAX).limits.grace_seconds, 0);
    stop();
}

static void impossible_limits(void **state)
{
    static const struct hf_quota_limits wrong[] = {
        {.type = (enum hf_quota_type)3, .blocks_hard = 1},
        {.blocks_soft = 2, .blocks_hard = 1},
        {.inodes_soft = 2, .inodes_hard = 1},
        {.blocks_hard = HF_QUOTA_LIMIT_MAX + 1},
        {.inodes_soft = UINT64_MAX},
        {.blocks_hard = 1, .grace_seconds = UINT32_MAX},
    };

    (void)state;
    start();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_err(vol.ops->quota_set(&vol.sb, &wrong[i]), EINVAL);
    stop();
}

/* ---- other owners */

static void change(struct hf_inode *f, uint32_t uid, uint32_t gid, uint32_t project)
{
    assert_ok(vol.ops->change_owner(f, uid, gid, project));
    f->uid = uid;
    f->gid = gid;
    f->project = project;
    assert_ok(vol.ops->write_inode(f, atomic_load(&f->size)));
}

static void all_that_is_charged_moves(void **state)
{
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(file_write(f, 0, 6, 'x'));
    assert_ok(vol.ops->reserve(f, 4, 0));
    change(f, 20, GROUP, 30);
    uses(HF_QUOTA_USER, OWNER, 0, 0);
    uses(HF_QUOTA_USER, 20, 10, 1);
    uses(HF_QUOTA_GROUP, GROUP, 10, 1);
    uses(HF_QUOTA_PROJECT, 30, 10, 1);
    vol.ops->unreserve(f, 4);
    uses(HF_QUOTA_USER, 20, 6, 1);
    inode_put(f);
    again();
    uses(HF_QUOTA_USER, 20, 6, 1);
    uses(HF_QUOTA_PROJECT, 30, 6, 1);
    uses(HF_QUOTA_PROJECT, 0, 0, 1);
    f = node_find(&vol, root, "f");
    assert_int_equal(f->project, 30);
    assert_int_equal(f->uid, 20);
    inode_put(f);
    stop();
}

static void or_nothing_moves(void **state)
{
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(file_write(f, 0, 6, 'x'));
    assert_ok(vol.ops->reserve(f, 4, 0));
    set(HF_QUOTA_PROJECT, 30, 0, 9);
    assert_err(vol.ops->change_owner(f, 20, 21, 30), EDQUOT);
    file_uses(10);
    uses(HF_QUOTA_USER, 20, 0, 0);
    uses(HF_QUOTA_GROUP, 21, 0, 0);
    set(HF_QUOTA_PROJECT, 30, 0, 10);
    set_inodes(HF_QUOTA_USER, 20, 0, 1);
    change(f, 20, 21, 30);
    assert_err(vol.ops->change_owner(root, 20, 0, 0), EDQUOT);
    set(HF_QUOTA_USER, 20, 0, 1); /* over its limit already; staying there costs nothing */
    change(f, 20, GROUP, 30);
    uses(HF_QUOTA_USER, 20, 10, 1);
    vol.ops->unreserve(f, 4);
    inode_put(f);
    stop();
}

static void crossing_by_a_move_starts_the_grace_time(void **state)
{
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(vol.ops->reserve(f, 4, 0));
    set(HF_QUOTA_USER, 20, 3, 0);
    change(f, 20, GROUP, 0);
    assert_true(get(HF_QUOTA_USER, 20).blocks_grace_end_ns > hf_now_ns());
    vol.ops->unreserve(f, 4);
    inode_put(f);
    stop();
}

/* ---- projects */

static void projects_are_inherited(void **state)
{
    struct hf_inode *d, *sub, *f;

    (void)state;
    start();
    d = node_create(&vol, root, "d", S_IFDIR | 0755, NULL);
    change(d, OWNER, GROUP, 30);
    f = file_create(&vol, d, "not yet");
    assert_int_equal(f->project, 0);
    inode_put(f);
    d->project_inherit = true;
    assert_ok(vol.ops->write_inode(d, atomic_load(&d->size)));
    sub = node_create(&vol, d, "sub", S_IFDIR | 0755, NULL);
    assert_true(sub->project == 30 && sub->project_inherit);
    f = file_create(&vol, sub, "f");
    assert_true(f->project == 30 && !f->project_inherit);
    assert_ok(file_write(f, 0, 5, 'x'));
    uses(HF_QUOTA_PROJECT, 30, 5, 3);
    set(HF_QUOTA_PROJECT, 30, 0, 5);
    assert_err(file_write(f, 5, 1, 'x'), EDQUOT);
    inode_put(f);
    inode_put(sub);
    inode_put(d);
    again();
    d = node_find(&vol, root, "d");
    assert_true(d->project == 30 && d->project_inherit);
    inode_put(d);
    uses(HF_QUOTA_PROJECT, 30, 5, 3);
    stop();
}

/* ---- accounts */

static void accounts_that_nobody_needs_are_freed(void **state)
{
    struct hf_accounts *accounts;
    struct hf_inode *f;

    (void)state;
    start();
    accounts = &hf_blockfs_of(&vol.sb)->accounts;
    f = file_create(&vol, root, "f");
    for (uint32_t id = 100; id < 1000; id++)
        change(f, id, id, id);
    assert_int_equal(accounts->nr, 6); /* of the root and the file */
    set(HF_QUOTA_USER, 5, 0, 1);
    assert_int_equal(accounts->nr, 7);
    set(HF_QUOTA_USER, 5, 0, 0);
    assert_int_equal(accounts->nr, 6);
    inode_put(f);
    file_unlink(&vol, root, "f");
    assert_int_equal(accounts->nr, 3);
    stop();
}

static void read_only(void **state)
{
    struct hf_quota_check check;
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(file_write(f, 0, 3, 'x'));
    set(HF_QUOTA_USER, OWNER, 1, 0);
    inode_put(f);
    inode_put(root);
    vol_unmount(&vol);
    assert_ok(vol_try_mount(&vol, dev, true));
    uses(HF_QUOTA_USER, OWNER, 3, 1);
    assert_true(get(HF_QUOTA_USER, OWNER).blocks_grace_end_ns > 0);
    assert_err(vol.ops->quota_set(&vol.sb, &(struct hf_quota_limits){.blocks_hard = 1}), EROFS);
    assert_int_equal(vol.ops->quota_check(&vol.sb, &check), 0);
    assert_int_equal(check.inodes, 2);
    vol_unmount(&vol);
    hf_dev_close(dev);
}

/* The check sees what is wrong: a count, a promise, and an owner. */
static void the_check_can_fail(void **state)
{
    struct hf_quota_check check = {0};
    struct hf_account *a;
    struct hf_inode *f;

    (void)state;
    start();
    f = file_create(&vol, root, "f");
    assert_ok(file_write(f, 0, 3, 'x'));
    a = account(HF_QUOTA_GROUP, GROUP);
    atomic_fetch_add(&a->used[HF_ACCOUNT_BLOCKS], 1);
    assert_int_equal(vol.ops->quota_check(&vol.sb, &check), 1);
    assert_true(check.type == HF_QUOTA_GROUP && check.id == GROUP && check.blocks_kept == 4 &&
                check.blocks_found == 3);
    atomic_fetch_sub(&a->used[HF_ACCOUNT_BLOCKS], 1);
    atomic_fetch_sub(&a->used[HF_ACCOUNT_INODES], 1);
    assert_int_equal(vol.ops->quota_check(&vol.sb, &check), 1);
    assert_true(check.inodes_kept == 0 && check.inodes_found == 1);
    atomic_fetch_add(&a->used[HF_ACCOUNT_INODES], 1);
    atomic_fetch_add(&hf_blockfs_of(&vol.sb)->space.reserved, 1);
    assert_int_equal(vol.ops->quota_check(&vol.sb, &check), 1);
    assert_true(check.reserved_kept == 1 && check.reserved_found == 0);
    atomic_fetch_sub(&hf_blockfs_of(&vol.sb)->space.reserved, 1);
    inode_put(f);
    stop();
}

/* ---- one moment */

#define A_WHILE 2000 /* yields: for what must not happen to show if it does */

struct other {
    struct hf_inode *inode;
    int result;
    _Atomic bool done;
    pthread_t thread;
};

static void *check_in_thread(void *arg)
{
    struct other *other = arg;
    struct hf_quota_check check;

    other->result = vol.ops->quota_check(&vol.sb, &check);
    atomic_store(&other->done, true);
    return NULL;
}

/* The check waits for a charge of which only a part has been done. */
static void charges_under_way_are_waited_for(void **state)
{
    struct other other = {0};
    struct hf_accounts *accounts;
    struct hf_charge charge;
    struct hf_account *user;
    struct hf_inode *f;

    (void)state;
    start();
    accounts = &hf_blockfs_of(&vol.sb)->accounts;
    f = file_create(&vol, root, "f");
    user = account(HF_QUOTA_USER, OWNER);
    assert_ok(hf_charge_begin(accounts, &hf_blockfs_inode_of(f)->owner, 3, 0, 0, &charge));
    atomic_fetch_add(&user->used[HF_ACCOUNT_BLOCKS], 3);
    assert_int_equal(pthread_create(&other.thread, NULL, check_in_thread, &other), 0);
    while (atomic_load(&accounts->frozen) == 0 && !atomic_load(&other.done))
        sched_yield();
    for (int i = 0; i < A_WHILE; i++)
        sched_yield();
    assert_false(atomic_load(&other.done));
    atomic_fetch_sub(&user->used[HF_ACCOUNT_BLOCKS], 3);
    hf_charge_end(&charge, false);
    pthread_join(other.thread, NULL);
    assert_int_equal(other.result, 0);
    inode_put(f);
    stop();
}

/* Some promises become blocks, which charges nobody but moves counts; and some are asked for. */
static void *take_in_thread(void *arg)
{
    struct other *other = arg;

    other->result = vol.ops->allocate(other->inode, 0, 2);
    if (other->result == 0)
        other->result = vol.ops->reserve(other->inode, 5, 0);
    atomic_store(&other->done, true);
    return NULL;
}

/* While a moment is recorded nothing is charged or turned into blocks; what came meanwhile is, afterwards. */
static void charges_wait_while_frozen(void **state)
{
    struct hf_accounts *accounts;
    struct other other = {0};
    struct hf_inode *f;

    (void)state;
    start();
    accounts = &hf_blockfs_of(&vol.sb)->accounts;
    f = other.inode = file_create(&vol, root, "f");
    assert_ok(vol.ops->reserve(f, 2, 0));
    hf_accounts_freeze(accounts);
    assert_int_equal(pthread_create(&other.thread, NULL, take_in_thread, &other), 0);
    for (int i = 0; i < A_WHILE; i++)
        sched_yield();
    assert_int_equal(hf_owner_settled(&hf_blockfs_inode_of(f)->owner), 2);
    assert_int_equal(get(HF_QUOTA_USER, OWNER).blocks_used, 2);
    assert_int_equal(vol_statfs(&vol).blocks_reserved, 2);
    assert_int_equal(file_kind(f, 0), HF_EXTENT_HOLE);
    assert_false(atomic_load(&other.done));
    hf_accounts_thaw(accounts);
    pthread_join(other.thread, NULL);
    assert_int_equal(other.result, 0);
    file_uses(7);
    vol.ops->unreserve(f, 5);
    inode_put(f);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_operation_charges_once),
        cmocka_unit_test(counted_again_at_mount),
        cmocka_unit_test(orphans_are_given_back),
        cmocka_unit_test(each_type_refuses),
        cmocka_unit_test(a_full_volume_charges_nobody),
        cmocka_unit_test(windows_leave_an_eighth),
        cmocka_unit_test(inodes_are_refused),
        cmocka_unit_test(soft_limits_have_a_grace_time),
        cmocka_unit_test(a_new_limit_below_the_use_starts_it),
        cmocka_unit_test(grace_times_last),
        cmocka_unit_test(inodes_have_one_too),
        cmocka_unit_test(limits_last),
        cmocka_unit_test(impossible_limits),
        cmocka_unit_test(all_that_is_charged_moves),
        cmocka_unit_test(or_nothing_moves),
        cmocka_unit_test(crossing_by_a_move_starts_the_grace_time),
        cmocka_unit_test(projects_are_inherited),
        cmocka_unit_test(accounts_that_nobody_needs_are_freed),
        cmocka_unit_test(read_only),
        cmocka_unit_test(the_check_can_fail),
        cmocka_unit_test(charges_under_way_are_waited_for),
        cmocka_unit_test(charges_wait_while_frozen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
