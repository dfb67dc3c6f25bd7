/* SPDX-License-Identifier: MIT */
/*
 * quota.c - quotas of a volume: what is stored of them, counting at mount, setting, and counting again.
 *
 * Stored are limits, grace times, and each inode's project; never what is used: that is counted at mount from
 * inodes and extents, and so cannot disagree with them. A grace time that began is stored by the next commit.
 *
 * Counting again (quota_check) holds sql_lock, so that rows and the tables in memory stand still, and freezes
 * the accounts for as long as it takes to note them and what each inode in memory is charged for. Stores go
 * on after that; the scan compares with what was noted. Lock order: sql_lock > extents.lock > accounts.lock.
 */
#include "fs/blockfs/blockfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows */

const char *hf_blockfs_quota_row_fault(const struct hf_blockfs_quota_row *row)
{
    struct hf_quota_limits limits;

    if (row->type < 0 || row->type >= HF_QUOTA_TYPES)
        return "there is no such type";
    if (row->id < 0 || row->id > UINT32_MAX)
        return "there is no such id";
    if (row->blocks_soft < 0 || row->blocks_hard < 0 || row->inodes_soft < 0 || row->inodes_hard < 0)
        return "a limit is negative";
    if (row->grace < 0 || row->grace > HF_QUOTA_GRACE_MAX)
        return "the grace time is impossible";
    if (row->blocks_end < 0 || row->inodes_end < 0)
        return "a grace time ends before the epoch";
    limits = hf_blockfs_quota_row_limits(row);
    return hf_quota_limits_fault(&limits);
}

struct hf_quota_limits hf_blockfs_quota_row_limits(const struct hf_blockfs_quota_row *row)
{
    return (struct hf_quota_limits){
        .type = (enum hf_quota_type)row->type,
        .id = (uint32_t)row->id,
        .blocks_soft = (uint64_t)row->blocks_soft,
        .blocks_hard = (uint64_t)row->blocks_hard,
        .inodes_soft = (uint64_t)row->inodes_soft,
        .inodes_hard = (uint64_t)row->inodes_hard,
        .grace_seconds = (uint32_t)row->grace,
    };
}

struct hf_blockfs_quota_row hf_blockfs_quota_row_read(sqlite3_stmt *stmt)
{
    return (struct hf_blockfs_quota_row){
        .type = sqlite3_column_int64(stmt, 0),
        .id = sqlite3_column_int64(stmt, 1),
        .blocks_soft = sqlite3_column_int64(stmt, 2),
        .blocks_hard = sqlite3_column_int64(stmt, 3),
        .inodes_soft = sqlite3_column_int64(stmt, 4),
        .inodes_hard = sqlite3_column_int64(stmt, 5),
        .grace = sqlite3_column_int64(stmt, 6),
        .blocks_end = sqlite3_column_int64(stmt, 7),
        .inodes_end = sqlite3_column_int64(stmt, 8),
    };
}

static int row_load(struct hf_blockfs *fs, const struct hf_blockfs_quota_row *row)
{
    const char *fault = hf_blockfs_quota_row_fault(row);
    struct hf_quota_limits limits;
    struct hf_account *account;
    int rc;

    if (fault != NULL)
        return hf_blockfs_damaged(fs, "table quotas: type %lld, id %lld: %s", (long long)row->type,
                                  (long long)row->id, fault);
    limits = hf_blockfs_quota_row_limits(row);
    rc = hf_account_get(&fs->accounts, limits.type, limits.id, &account);
    if (rc != 0)
        return rc;
    hf_account_load_limits(&fs->accounts, account, &limits, (int64_t[]){row->blocks_end, row->inodes_end});
    hf_account_put(&fs->accounts, account);
    return 0;
}

/* ---- mount */

int hf_blockfs_owner_load(struct hf_blockfs *fs, uint64_t ino, struct hf_owner *owner)
{
    struct hf_owner_ids ids = {{0}};
    sqlite3_stmt *stmt;
    int rc = hf_txn_query(&fs->txn, HF_STMT_INODE_OWNER, HF_ARGS(HF_INT(ino)), &stmt);

    if (rc != 0)
        return rc;
    rc = hf_txn_step(stmt);
    for (int type = 0; type < HF_QUOTA_TYPES && rc > 0; type++)
        ids.id[type] = (uint32_t)sqlite3_column_int64(stmt, type);
    sqlite3_reset(stmt);
    if (rc <= 0)
        return rc != 0 ? rc : -ENOENT;
    return hf_blockfs_owner_switch(fs, &ids, owner);
}

int hf_blockfs_owner_switch(struct hf_blockfs *fs, const struct hf_owner_ids *ids, struct hf_owner *owner)
{
    bool same = owner->of[0] != NULL;

    for (int type = 0; type < HF_QUOTA_TYPES && same; type++)
        same = owner->of[type]->id == ids->id[type];
    if (same)
        return 0;
    hf_owner_put(&fs->accounts, owner);
    return hf_owner_get(&fs->accounts, ids, owner);
}

/* Every inode is one of its owner's. */
static int inodes_count(struct hf_blockfs *fs)
{
    struct hf_owner owner = {0};
    sqlite3_stmt *stmt;
    int rc = hf_txn_query(&fs->txn, HF_STMT_INODE_OWNERS, NULL, 0, &stmt);

    if (rc != 0)
        return rc;
    while ((rc = hf_txn_step(stmt)) > 0) {
        struct hf_owner_ids ids;

        for (int type = 0; type < HF_QUOTA_TYPES; type++)
            ids.id[type] = (uint32_t)sqlite3_column_int64(stmt, type);
        rc = hf_blockfs_owner_switch(fs, &ids, &owner);
        if (rc != 0)
            break;
        hf_owner_count(&owner, 0, 1);
    }
    sqlite3_reset(stmt);
    hf_owner_put(&fs->accounts, &owner);
    return rc;
}

int hf_blockfs_quota_load(struct hf_blockfs *fs)
{
    sqlite3_stmt *stmt;
    int rc = inodes_count(fs);

    if (rc == 0)
        rc = hf_txn_query(&fs->txn, HF_STMT_QUOTA_ALL, NULL, 0, &stmt);
    if (rc != 0)
        return rc;
    while ((rc = hf_txn_step(stmt)) > 0) {
        struct hf_blockfs_quota_row row = hf_blockfs_quota_row_read(stmt);

        rc = row_load(fs, &row);
        if (rc != 0)
            break;
    }
    sqlite3_reset(stmt);
    return rc;
}

/* ---- commit: grace times that began or ended */

static bool grace_moved(struct hf_blockfs *fs, struct hf_account *account, int64_t ret_end[HF_ACCOUNT_WHATS])
{
    hf_account_grace(&fs->accounts, account, ret_end);
    return memcmp(ret_end, account->stored_end_ns, sizeof(account->stored_end_ns)) != 0;
}

bool hf_blockfs_quota_has_news(struct hf_blockfs *fs)
{
    int64_t end[HF_ACCOUNT_WHATS];
    struct hf_list *l;

    hf_list_for_each (l, &fs->accounts.with_limits) {
        if (grace_moved(fs, hf_list_entry(l, struct hf_account, limited_link), end))
            return true;
    }
    return false;
}

int hf_blockfs_quota_store(struct hf_blockfs *fs)
{
    struct hf_list *l;

    hf_list_for_each (l, &fs->accounts.with_limits) { /* sql_lock is held: it stands still */
        struct hf_account *account = hf_list_entry(l, struct hf_account, limited_link);
        int64_t end[HF_ACCOUNT_WHATS];
        int rc;

        if (!grace_moved(fs, account, end))
            continue;
        rc = hf_blockfs_room_inside(fs, NULL, 0);
        if (rc == 0)
            rc = hf_txn_post(&fs->txn, HF_STMT_QUOTA_GRACE,
                             HF_ARGS(HF_INT(account->type), HF_INT(account->id),
                                     HF_INT(end[HF_ACCOUNT_BLOCKS]), HF_INT(end[HF_ACCOUNT_INODES])));
        if (rc != 0)
            return rc;
        memcpy(account->stored_end_ns, end, sizeof(end));
    }
    return 0;
}

/* ---- the ops */

int hf_blockfs_quota_get(struct hf_super *sb, enum hf_quota_type type, uint32_t id,
                         struct hf_quota *ret_quota)
{
    hf_account_read(&hf_blockfs_of(sb)->accounts, type, id, ret_quota);
    return 0;
}

int hf_blockfs_quota_list(struct hf_super *sb, uint64_t *cursor, unsigned max, struct hf_quota *ret_quotas)
{
    return hf_accounts_list(&hf_blockfs_of(sb)->accounts, cursor, max, ret_quotas);
}

static int limits_store(struct hf_blockfs *fs, const struct hf_quota_limits *l, bool any)
{
    if (!any)
        return hf_txn_exec(&fs->txn, HF_STMT_QUOTA_DELETE, HF_ARGS(HF_INT(l->type), HF_INT(l->id)));
    return hf_txn_exec(&fs->txn, HF_STMT_QUOTA_SET,
                       HF_ARGS(HF_INT(l->type), HF_INT(l->id), HF_INT(l->blocks_soft), HF_INT(l->blocks_hard),
                               HF_INT(l->inodes_soft), HF_INT(l->inodes_hard), HF_INT(l->grace_seconds)));
}

int hf_blockfs_quota_set(struct hf_super *sb, const struct hf_quota_limits *limits)
{
    struct hf_blockfs *fs = hf_blockfs_of(sb);
    bool any = limits->blocks_soft != 0 || limits->blocks_hard != 0 || limits->inodes_soft != 0 ||
               limits->inodes_hard != 0;
    struct hf_account *account;
    size_t mark;
    int rc;

    if (fs->read_only)
        return -EROFS;
    if (hf_quota_limits_fault(limits) != NULL)
        return -EINVAL;
    rc = hf_account_get(&fs->accounts, limits->type, limits->id, &account);
    if (rc != 0)
        return rc;
    rc = hf_blockfs_op_begin(fs, 2, any ? 1 : 0, &mark);
    if (rc == 0)
        rc = limits_store(fs, limits, any);
    if (rc == 0) { /* the row has no grace times now: the next commit brings them */
        memset(account->stored_end_ns, 0, sizeof(account->stored_end_ns));
        hf_account_set_limits(&fs->accounts, account, limits);
    }
    rc = hf_blockfs_op_end(fs, mark, rc);
    hf_account_put(&fs->accounts, account);
    return rc;
}

int hf_blockfs_change_owner(struct hf_inode *inode, uint32_t uid, uint32_t gid, uint32_t project)
{
    struct hf_blockfs *fs = hf_blockfs_of(inode->sb);
    struct hf_blockfs_inode *fi = hf_blockfs_inode_of(inode);
    struct hf_owner next = {0};
    int rc;

    if (fs->read_only)
        return -EROFS;
    rc = hf_owner_get(&fs->accounts, &(struct hf_owner_ids){{uid, gid, project}}, &next);
    if (rc != 0)
        return rc;
    rc = hf_owner_move(&fs->accounts, &fi->owner, &next);
    hf_owner_put(&fs->accounts, &next);
    return rc;
}

/* ---- counting again */

/* An id, and what an inode in memory is charged for, at one moment. */
struct noted_id {
    uint64_t key; /* type and id */
    uint64_t kept[HF_ACCOUNT_WHATS], found[HF_ACCOUNT_WHATS];
};
struct noted_inode {
    uint64_t ino, blocks, allocated;
    struct hf_owner_ids ids;
};
struct notes {
    struct noted_id *ids;
    struct noted_inode *inodes;
    uint64_t nr_ids, max_ids, nr_inodes, reserved;
    uint64_t strangers; /* owners that have no account */
};

static int compare_u64(const void *a, const void *b) /* both structs begin with what they are sorted by */
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t inodes_in_memory(struct hf_blockfs *fs)
{
    struct hf_list *l;
    uint64_t nr = 0;

    for (size_t b = 0; b < HF_BLOCKFS_BUCKETS; b++)
        hf_list_for_each (l, &fs->buckets[b])
            nr++;
    return nr;
}

/* Frozen, accounts locked. */
static void note_accounts(struct hf_blockfs *fs, struct notes *notes)
{
    struct hf_list *l;
    uint64_t nr = 0;

    for (size_t b = 0; b < HF_ACCOUNT_BUCKETS; b++) {
        hf_list_for_each (l, &fs->accounts.buckets[b]) {
            struct hf_account *a = hf_list_entry(l, struct hf_account, bucket);

            notes->ids[nr++] = (struct noted_id){
                .key = (uint64_t)a->type << 32 | a->id,
                .kept = {atomic_load(&a->used[HF_ACCOUNT_BLOCKS]), atomic_load(&a->used[HF_ACCOUNT_INODES])}};
        }
    }
    notes->nr_ids = nr;
    nr = 0;
    for (size_t b = 0; b < HF_BLOCKFS_BUCKETS; b++)
        hf_list_for_each (l, &fs->buckets[b])
            notes->inodes[nr++].ids = hf_owner_ids(&hf_list_entry(l, struct hf_blockfs_inode, bucket)->owner);
    notes->reserved = atomic_load(&fs->space.reserved);
}

/* Frozen. What inodes in memory are charged for, and have. */
static void note_inodes(struct hf_blockfs *fs, struct notes *notes)
{
    uint64_t nr = 0;

    for (size_t b = 0; b < HF_BLOCKFS_BUCKETS; b++) {
        struct hf_list *l;

        hf_list_for_each (l, &fs->buckets[b]) {
            struct hf_blockfs_inode *fi = hf_list_entry(l, struct hf_blockfs_inode, bucket);

            notes->inodes[nr++] = (struct noted_inode){.ino = fi->ino,
                                                       .blocks = hf_owner_settled(&fi->owner),
                                                       .allocated = hf_blockfs_count_blocks(fi)};
        }
    }
    notes->nr_inodes = nr;
}

/* sql_lock held: rows and the table of inodes stand still. */
static int notes_take(struct hf_blockfs *fs, struct notes *notes) HF_NO_TSA
{
    bool fits = false;

    notes->inodes = calloc(inodes_in_memory(fs) + 1, sizeof(*notes->inodes));
    if (notes->inodes == NULL)
        return -ENOMEM;
    while (!fits) {
        hf_mutex_lock(&fs->accounts.lock);
        notes->max_ids = fs->accounts.nr + 64;
        hf_mutex_unlock(&fs->accounts.lock);
        free(notes->ids);
        notes->ids = calloc(notes->max_ids, sizeof(*notes->ids));
        if (notes->ids == NULL)
            return -ENOMEM;
        hf_accounts_freeze(&fs->accounts);
        note_inodes(fs, notes);
        hf_mutex_lock(&fs->accounts.lock);
        fits = fs->accounts.nr <= notes->max_ids;
        if (fits)
            note_accounts(fs, notes);
        hf_mutex_unlock(&fs->accounts.lock);
        hf_accounts_thaw(&fs->accounts);
    }
    qsort(notes->ids, notes->nr_ids, sizeof(*notes->ids), compare_u64);
    qsort(notes->inodes, notes->nr_inodes, sizeof(*notes->inodes), compare_u64);
    return 0;
}

static void notes_free(struct notes *notes)
{
    free(notes->ids);
    free(notes->inodes);
}

static void notes_add(struct notes *notes, const struct hf_owner_ids *ids, uint64_t blocks)
{
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        uint64_t key = (uint64_t)type << 32 | ids->id[type];
        struct noted_id *id = bsearch(&key, notes->ids, notes->nr_ids, sizeof(*id), compare_u64);

        if (id == NULL) {
            notes->strangers++;
            continue;
        }
        id->found[HF_ACCOUNT_BLOCKS] += blocks;
        id->found[HF_ACCOUNT_INODES]++;
    }
}

/* Every row of "inodes": one that was in memory counts as noted, the others as their rows say. */
static int scan_rows(struct hf_blockfs *fs, struct notes *notes, struct hf_quota_check *check)
{
    sqlite3_stmt *stmt;
    int rc = hf_txn_query(&fs->txn, HF_STMT_INODE_CHARGES, NULL, 0, &stmt);

    if (rc != 0)
        return rc;
    while ((rc = hf_txn_step(stmt)) > 0) {
        uint64_t ino = (uint64_t)sqlite3_column_int64(stmt, 3);
        uint64_t blocks = (uint64_t)sqlite3_column_int64(stmt, 4);
        const struct noted_inode *noted =
            bsearch(&ino, notes->inodes, notes->nr_inodes, sizeof(*noted), compare_u64);
        struct hf_owner_ids ids;

        for (int type = 0; type < HF_QUOTA_TYPES; type++)
            ids.id[type] = (uint32_t)sqlite3_column_int64(stmt, type);
        if (noted != NULL)
            notes_add(notes, &noted->ids, noted->blocks);
        else
            notes_add(notes, &ids, blocks);
        check->inodes++;
    }
    sqlite3_reset(stmt);
    return rc;
}

static void compare(const struct notes *notes, struct hf_quota_check *check)
{
    check->ids = notes->nr_ids;
    check->differences = notes->strangers;
    check->reserved_kept = notes->reserved;
    for (uint64_t i = 0; i < notes->nr_inodes; i++)
        check->reserved_found += notes->inodes[i].blocks - notes->inodes[i].allocated;
    check->differences += check->reserved_kept != check->reserved_found;
    for (uint64_t i = notes->nr_ids; i-- > 0;) {
        const struct noted_id *id = &notes->ids[i];

        if (memcmp(id->kept, id->found, sizeof(id->kept)) == 0)
            continue;
        check->differences++;
        check->type = (enum hf_quota_type)(id->key >> 32);
        check->id = (uint32_t)id->key;
        check->blocks_kept = id->kept[HF_ACCOUNT_BLOCKS];
        check->blocks_found = id->found[HF_ACCOUNT_BLOCKS];
        check->inodes_kept = id->kept[HF_ACCOUNT_INODES];
        check->inodes_found = id->found[HF_ACCOUNT_INODES];
    }
}

int hf_blockfs_quota_check(struct hf_super *sb, struct hf_quota_check *ret_check)
{
    struct hf_blockfs *fs = hf_blockfs_of(sb);
    struct hf_quota_check check = {0};
    struct notes notes = {0};
    int rc;

    hf_mutex_lock(&fs->sql_lock);
    rc = notes_take(fs, &notes);
    if (rc == 0)
        rc = scan_rows(fs, &notes, &check);
    hf_mutex_unlock(&fs->sql_lock);
    if (rc == 0) {
        compare(&notes, &check);
        *ret_check = check;
        rc = check.differences > INT32_MAX ? INT32_MAX : (int)check.differences;
    }
    notes_free(&notes);
    return rc;
}
