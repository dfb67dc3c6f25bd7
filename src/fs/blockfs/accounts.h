/* SPDX-License-Identifier: MIT */
/*
 * accounts.h - how much each user, group and project uses, and may use.
 *
 * One account per (type, id) that has files or limits. Every inode in memory keeps references to its three in
 * a struct hf_owner, beside the number of blocks it is charged for (allocated or reserved), so that charging
 * in a fault finds everything by pointer.
 *
 * Invariants
 *   1. used[blocks] of an account == the sum of the blocks charged over the inodes it owns; used[inodes] ==
 *      their number. Charges that are under way (owner.word says so) aside.
 *   2. Accounts, the volume's reserved count and the owner's own move between hf_charge_begin() and
 *      hf_charge_end(), so that hf_accounts_freeze() sees them agree.
 *   3. A hard limit is checked and charged as one step for all three accounts and the volume's free space: no
 *      charge is refused because of another that is refused itself.
 *
 * Locking: an account without limits is charged by atomics alone. If one of the three has limits,
 * accounts.lock (rank SPACE, never held during I/O or malloc) makes check and charge one step. An owner's
 * accounts change only while nothing charges that inode (change_owner(): map_lock exclusive).
 */
#ifndef HF_FS_BLOCKFS_ACCOUNTS_H
#define HF_FS_BLOCKFS_ACCOUNTS_H

#include "base/list.h"
#include "base/lock.h"

#include <holdfast/driver.h>

#define HF_ACCOUNT_BUCKETS 1024u

enum hf_account_what { HF_ACCOUNT_BLOCKS, HF_ACCOUNT_INODES, HF_ACCOUNT_WHATS };

struct hf_account {
    /* set at init */
    enum hf_quota_type type;
    uint32_t id;
    /* guarded by accounts.lock */
    struct hf_list bucket;
    uint64_t refs;
    uint64_t soft[HF_ACCOUNT_WHATS], hard[HF_ACCOUNT_WHATS]; /* 0: none */
    uint32_t grace_s;                                        /* as set; 0: the default */
    int64_t grace_end_ns[HF_ACCOUNT_WHATS];                  /* means something while used > soft */
    /* guarded by sql_lock; the list by accounts.lock, too */
    struct hf_list limited_link;             /* in accounts.with_limits if limited */
    int64_t stored_end_ns[HF_ACCOUNT_WHATS]; /* what the row says */
    /* atomic */
    _Atomic bool limited; /* some limit is set */
    _Atomic uint64_t used[HF_ACCOUNT_WHATS];
};

struct hf_accounts {
    struct hf_mutex lock; /* rank SPACE */
    /* guarded by lock */
    struct hf_list buckets[HF_ACCOUNT_BUCKETS];
    struct hf_list with_limits; /* changed under sql_lock as well: either is enough to read it */
    uint64_t nr;
    /* atomic */
    _Atomic uint32_t frozen; /* futex: charges wait until it is 0 */
};

/* Whom an inode is charged to. */
struct hf_owner {
    struct hf_account *of[HF_QUOTA_TYPES]; /* referenced */
    _Atomic uint64_t word; /* blocks charged, and above HF_OWNER_BLOCK_BITS how many charges are under way */
};
#define HF_OWNER_BLOCK_BITS 48
#define HF_OWNER_BLOCKS(word) ((word) & (((uint64_t)1 << HF_OWNER_BLOCK_BITS) - 1))

struct hf_owner_ids {
    uint32_t id[HF_QUOTA_TYPES]; /* uid, gid, project */
};

void hf_accounts_init(struct hf_accounts *accounts);
/* Frees all accounts, whatever they hold. */
void hf_accounts_done(struct hf_accounts *accounts);

/* A reference, to be put; the account is made if it is not there. 0, -ENOMEM. */
int hf_account_get(struct hf_accounts *accounts, enum hf_quota_type type, uint32_t id,
                   struct hf_account **ret_account);
/* An account that nobody refers to, that has no limits and no use is freed. */
void hf_account_put(struct hf_accounts *accounts, struct hf_account *account);
/* Fills ret_quota; an account that is not there uses nothing. */
void hf_account_read(struct hf_accounts *accounts, enum hf_quota_type type, uint32_t id,
                     struct hf_quota *ret_quota);
/* Up to max accounts with limits or use, whose key (type and id) is not below *cursor, in order. The number,
 * or -ENOMEM. */
int hf_accounts_list(struct hf_accounts *accounts, uint64_t *cursor, unsigned max,
                     struct hf_quota *ret_quotas);

/* NULL, or what is wrong with the limits in a few words. */
const char *hf_quota_limits_fault(const struct hf_quota_limits *limits);
/* sql_lock held. Grace times begin now if the use is above a soft limit and was not before. */
void hf_account_set_limits(struct hf_accounts *accounts, struct hf_account *account,
                           const struct hf_quota_limits *limits);
/* sql_lock held, at mount, after what is used was counted: limits as stored, with the ends of grace times. */
void hf_account_load_limits(struct hf_accounts *accounts, struct hf_account *account,
                            const struct hf_quota_limits *limits,
                            const int64_t stored_end_ns[HF_ACCOUNT_WHATS]);
/* The ends of the grace times that run; 0 for those that
 * do not. One that should run and does not is begun. */
void hf_account_grace(struct hf_accounts *accounts, struct hf_account *account,
                      int64_t ret_end_ns[HF_ACCOUNT_WHATS]);

/* References to the three accounts; the word is left alone. 0, -ENOMEM. */
int hf_owner_get(struct hf_accounts *accounts, const struct hf_owner_ids *ids, struct hf_owner *owner);
void hf_owner_put(struct hf_accounts *accounts, struct hf_owner *owner); /* of an owner never got: nothing */
struct hf_owner_ids hf_owner_ids(const struct hf_owner *owner);

/* What is there already (at mount) is counted, whatever the limits. */
void hf_owner_count(struct hf_owner *owner, uint64_t blocks, uint64_t inodes);

/* A charge: begun, then ended by whether it was taken. Nothing that blocks in between. */
struct hf_charge {
    struct hf_accounts *accounts;
    struct hf_owner *owner;
    uint64_t blocks, inodes;
    bool locked;
};
/* flags: HF_SPECULATIVE: leaves an eighth of each limit to others. 0: hf_charge_end() is due; -EDQUOT: it is
 * not. Async-signal-safe. */
int hf_charge_begin(struct hf_accounts *accounts, struct hf_owner *owner, uint64_t blocks, uint64_t inodes,
                    unsigned flags, struct hf_charge *ret_charge);
void hf_charge_end(struct hf_charge *charge, bool taken);
/* The same for giving back: cannot be refused. */
void hf_release_begin(struct hf_accounts *accounts, struct hf_owner *owner);
void hf_release_end(struct hf_owner *owner, uint64_t blocks, uint64_t inodes);
static inline void hf_owner_release(struct hf_accounts *accounts, struct hf_owner *owner, uint64_t blocks,
                                    uint64_t inodes)
{
    hf_release_begin(accounts, owner);
    hf_release_end(owner, blocks, inodes);
}

/* The inode, with all that it is charged for, goes to next's accounts, whose references it takes over; next
 * gets the old ones. 0; -EDQUOT: nothing has changed. Nothing charges the owner meanwhile. */
int hf_owner_move(struct hf_accounts *accounts, struct hf_owner *owner, struct hf_owner *next);

/* sql_lock held. New charges wait from here on. Then hf_owner_settled() of every owner waits for those under
 * way, and then accounts.lock keeps changes of owner away. */
void hf_accounts_freeze(struct hf_accounts *accounts);
void hf_accounts_thaw(struct hf_accounts *accounts);
uint64_t hf_owner_settled(struct hf_owner *owner); /* returns the blocks charged */

#endif
