/* SPDX-License-Identifier: MIT */
/*
 * quota_at_the_store.c - a store that its user's, group's or project's quota does not allow is refused there
 * and then with EDQUOT, exactly to the block, and can be repeated once the limit has been raised. So are
 * write, fallocate, hf_reserve() and a change of owner.
 */
#include "mmap_test.h"

#include <holdfast/quota.h>

#define PAGES 8
#define OTHER_UID 4242u

static struct hf_quota quota_of(struct target *t, enum hf_quota_type type, uint32_t id)
{
    struct hf_quota quota;

    assert_ok(hf_quota_get(t->volume, type, id, &quota));
    return quota;
}

/* The id of that type that files of this test are charged to. */
static uint32_t own_id(enum hf_quota_type type)
{
    return type == HF_QUOTA_USER ? geteuid() : type == HF_QUOTA_GROUP ? getegid() : 0;
}

/* So many blocks more than now. */
static void allow(struct target *t, enum hf_quota_type type, uint32_t id, uint64_t blocks)
{
    struct hf_quota quota = quota_of(t, type, id);

    quota.limits.blocks_hard = quota.blocks_used + blocks;
    if (quota.limits.blocks_hard == 0)
        quota.limits.blocks_hard = 1; /* 0 would be none: a file with a block of its own is not needed */
    assert_ok(hf_quota_set(t->volume, &quota.limits));
}

/* What one store needs at least: the hardware page, or the block if that is larger. */
static size_t unit_of(const struct target *t)
{
    size_t hw = (size_t)sysconf(_SC_PAGESIZE);

    return hw > t->block_size ? hw : t->block_size;
}

/* A sparse mapping; its owner has one block elsewhere already, and may use so many more. */
static uint8_t *map_limited(struct target *t, struct target_file *ret_file, enum hf_quota_type type,
                            uint64_t blocks)
{
    make_file(t, "other", t->block_size, 'o');
    assert_ok(hf_volume_sync(t->volume)); /* nothing is promised any more */
    allow(t, type, own_id(type), blocks);
    return map_sparse(t, "f", PAGES, ret_file);
}

static void unmap_limited(struct target *t, uint8_t *map, struct target_file *file)
{
    unmap_ok(t, map, PAGES * t->page_size);
    close_ok(file);
}

static void check_sums(struct target *t)
{
    struct hf_quota_check check;

    assert_count(hf_quota_check(t->volume, &check), 0);
}

static void do_store(void *arg)
{
    *(volatile uint8_t *)arg = 'x';
}

static void refused_and_repeated(struct target *t, enum hf_quota_type type)
{
    struct target_file file;
    uint8_t *map = map_limited(t, &file, type, 0), *at = map + 2 * t->page_size + 77;
    struct hf_fault fault;
    struct caught caught;

    memset(&fault, 0, sizeof(fault));
    assert_err(hf_guard(do_store, at, &fault), EDQUOT);
    assert_int_equal(fault.error, EDQUOT);
    assert_true(fault.write);
    assert_ptr_equal(fault.addr, at);
    assert_int_equal(fault.offset, 2 * t->page_size + 77);
    assert_int_equal(catch_fault(do_store, at, &caught), SIGBUS);
    assert_int_equal(caught.fault.error, EDQUOT);
    assert_err(store_byte(at, 'x'), EDQUOT);
    assert_bytes(map, 0, PAGES * t->page_size);
    assert_count(stat_of(&file).st_blocks, 0);
    assert_count(target_statfs(t).blocks_reserved, 0);
    check_sums(t);
    allow(t, type, own_id(type), unit_of(t) / t->block_size);
    assert_ok(hf_guard(do_store, at, NULL));
    assert_int_equal(byte_at(at), 'x');
    check_sums(t);
    assert_ok(t_fsync(&file));
    assert_int_equal(byte_at(at), 'x');
    check_sums(t);
    unmap_limited(t, map, &file);
}

static void by_user(struct target *t)
{
    refused_and_repeated(t, HF_QUOTA_USER);
}

static void by_group(struct target *t)
{
    refused_and_repeated(t, HF_QUOTA_GROUP);
}

static void by_project(struct target *t)
{
    refused_and_repeated(t, HF_QUOTA_PROJECT);
}

/* One in each page, in order, so that windows are tried: what they took is given back before a refusal. */
static void as_many_stores_as_blocks_allowed(struct target *t)
{
    size_t pages = 64, allowed = 29, left = blocks_per_store(t) - 1, done = 0;
    struct target_file file;
    uint8_t *map;

    make_file(t, "other", t->block_size, 'o');
    map = map_sparse(t, "f", pages, &file);
    allow(t, HF_QUOTA_USER, geteuid(), allowed);
    while (done < pages && store_byte(map + done * t->page_size + 3, (uint8_t)(done + 1)) == 0)
        done++;
    assert_count(done, allowed - left);
    assert_err(store_byte(map + done * t->page_size + 3, 'z'), EDQUOT);
    assert_count(quota_of(t, HF_QUOTA_USER, geteuid()).blocks_used, done + 1);
    check_sums(t);
    assert_ok(t_fsync(&file));
    assert_count(quota_of(t, HF_QUOTA_USER, geteuid()).blocks_used, done + 1);
    for (size_t i = 0; i < pages; i++)
        assert_int_equal(byte_at(map + i * t->page_size + 3), i < done ? i + 1 : 0);
    unmap_ok(t, map, pages * t->page_size);
    close_ok(&file);
}

/* Nor do they cost a store to another file. */
static void windows_cost_nobody_a_store(struct target *t)
{
    size_t pages = 64, stores = 20;
    struct target_file file, other;
    struct hf_quota quota;
    uint8_t *map, *late = map_sparse(t, "late", 1, &other);

    map = map_sparse(t, "f", pages, &file);
    for (size_t i = 0; i < stores; i++)
        assert_ok(store_byte(map + i * t->page_size, 'w'));
    quota = quota_of(t, HF_QUOTA_USER, geteuid());
    quota.limits.blocks_hard = stores + blocks_per_store(t);
    if (quota.limits.blocks_hard < quota.blocks_used)
        quota.limits.blocks_hard = quota.blocks_used; /* with all that windows hold */
    assert_ok(hf_quota_set(t->volume, &quota.limits));
    assert_ok(store_byte(late, 'l'));
    assert_int_equal(byte_at(late), 'l');
    check_sums(t);
    unmap_ok(t, late, t->page_size);
    unmap_ok(t, map, pages * t->page_size);
    close_ok(&other);
    close_ok(&file);
}

static void reserve_is_all_or_nothing(struct target *t)
{
    struct target_file file;
    uint64_t per_page = blocks_per_page(t);
    uint8_t *map = map_limited(t, &file, HF_QUOTA_GROUP, 2 * per_page);

    assert_err(hf_reserve(map, 3 * t->page_size), EDQUOT);
    assert_count(target_statfs(t).blocks_reserved, 0);
    check_sums(t);
    assert_ok(hf_reserve(map + t->page_size, 2 * t->page_size));
    check_sums(t);
    assert_err(store_byte(map, 'x'), EDQUOT);
    for (size_t at = t->page_size; at < 3 * t->page_size; at += t->block_size)
        assert_ok(store_byte(map + at, 'r'));
    assert_ok(t_fsync(&file));
    check_sums(t);
    unmap_limited(t, map, &file);
}

static void writes_stop_where_the_quota_ends(struct target *t)
{
    struct target_file file = open_new(t, "f");
    size_t len = 6 * t->block_size;
    uint8_t *buf = malloc(len);
    struct stat st;

    assert_non_null(buf);
    memset(buf, 'w', len);
    make_file(t, "other", t->block_size, 'o');
    allow(t, HF_QUOTA_USER, geteuid(), 4);
    assert_count(t_pwrite(&file, buf, len, 0), 4 * t->block_size);
    assert_err(t_pwrite(&file, buf, 1, (hf_off_t)(4 * t->block_size)), EDQUOT);
    assert_err(t_fallocate(&file, FALLOC_FL_KEEP_SIZE, 0, (hf_off_t)len), EDQUOT);
    assert_count(t_pwrite(&file, buf, len, 0), 4 * t->block_size); /* overwriting is free */
    st = stat_of(&file);
    assert_count(st.st_size, 4 * t->block_size);
    check_sums(t);
    assert_ok(t_ftruncate(&file, 2 * (hf_off_t)t->block_size));
    assert_ok(t_fallocate(&file, 0, 3 * (hf_off_t)t->block_size, 2 * (hf_off_t)t->block_size));
    assert_err(t_pwrite(&file, buf, 1, 2 * (hf_off_t)t->block_size), EDQUOT);
    assert_ok(t_fallocate(&file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (hf_off_t)t->block_size));
    assert_count(t_pwrite(&file, buf, 1, 2 * (hf_off_t)t->block_size), 1);
    check_sums(t);
    free(buf);
    close_ok(&file);
}

/* The promises of stored-to pages go to the new owner, or all stays, and the stores with it. */
static void owners_change_with_promises(struct target *t)
{
    struct hf_quota_limits limits = {.type = HF_QUOTA_USER, .id = OTHER_UID, .blocks_hard = 1};
    struct target_file file;
    size_t unit = unit_of(t);
    uint64_t used;
    uint8_t *map = map_sparse(t, "f", PAGES, &file);

    for (size_t i = 0; i < 2; i++)
        assert_ok(store_byte(map + i * unit, 's'));
    assert_ok(t_pwrite(&file, "w", 1, (hf_off_t)(3 * t->page_size)));
    used = quota_of(t, HF_QUOTA_USER, geteuid()).blocks_used;
    assert_ok(hf_quota_set(t->volume, &limits));
    assert_err(hf_fchown(file.hf, OTHER_UID, (gid_t)-1), EDQUOT);
    assert_int_equal(stat_of(&file).st_uid, geteuid());
    assert_count(quota_of(t, HF_QUOTA_USER, geteuid()).blocks_used, used);
    check_sums(t);
    limits.blocks_hard = used;
    assert_ok(hf_quota_set(t->volume, &limits));
    assert_ok(hf_fchown(file.hf, OTHER_UID, (gid_t)-1));
    assert_int_equal(stat_of(&file).st_uid, OTHER_UID);
    assert_count(quota_of(t, HF_QUOTA_USER, OTHER_UID).blocks_used, used);
    assert_count(quota_of(t, HF_QUOTA_USER, geteuid()).blocks_used, 0);
    check_sums(t);
    for (size_t i = 0; i < 2; i++)
        assert_ok(store_byte(map + i * unit + 1, 't'));
    limits.blocks_hard = 3; /* what it has stored; the rest is given back when asked for */
    assert_ok(hf_quota_set(t->volume, &limits));
    assert_err(store_byte(map + 5 * t->page_size, 'x'), EDQUOT);
    assert_ok(t_fsync(&file));
    check_sums(t);
    unmap_limited(t, map, &file);
}

static void memfs_has_none(struct target *t)
{
    struct hf_quota quota;
    struct hf_quota_check check;
    uint64_t cursor = 0;

    make_file(t, "f", 1, 'x');
    assert_err(hf_quota_get(t->volume, HF_QUOTA_USER, 0, &quota), EOPNOTSUPP);
    assert_err(hf_quota_set(t->volume, &(struct hf_quota_limits){.blocks_hard = 1}), EOPNOTSUPP);
    assert_err(hf_quota_list(t->volume, &cursor, 1, &quota), EOPNOTSUPP);
    assert_err(hf_quota_check(t->volume, &check), EOPNOTSUPP);
    assert_err(hf_set_project(t->volume, "f", 1, 0), EOPNOTSUPP);
    assert_ok(hf_chown(t->volume, "f", OTHER_UID, OTHER_UID));
}

static const struct test_body bodies[] = {
    BODY(by_user, ON(TARGET_BLOCKFS)),
    BODY(by_group, ON(TARGET_BLOCKFS)),
    BODY(by_project, ON(TARGET_BLOCKFS)),
    BODY(as_many_stores_as_blocks_allowed, ON(TARGET_BLOCKFS)),
    BODY(windows_cost_nobody_a_store, ON(TARGET_BLOCKFS)),
    BODY(reserve_is_all_or_nothing, ON(TARGET_BLOCKFS)),
    BODY(writes_stop_where_the_quota_ends, ON(TARGET_BLOCKFS)),
    BODY(owners_change_with_promises, ON(TARGET_BLOCKFS)),
    BODY(memfs_has_none, ON(TARGET_MEMFS)),
};

MMAP_TEST_MAIN("quota_at_the_store", bodies)
