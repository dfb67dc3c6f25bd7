/* SPDX-License-Identifier: MIT */
/*
 * accounts.c - users, groups and projects: charged, refused, given back; see accounts.h.
 *
 * A charge refused for one of its three accounts must not have been seen by anybody, or it could cost
 * another thread a refusal that it alone would not have had. So with limits all three are looked at before
 * the first is charged, under accounts.lock. Releases take no lock: they only make room.
 *
 * Grace times: the charge that crosses the soft limit starts the time; what stands there while the use is
 * below means nothing. So a release has nothing to do for them.
 */
#include "fs/blockfs/accounts.h"

#include "base/types.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>

#define UNDER_WAY ((uint64_t)1 << HF_OWNER_BLOCK_BITS)

void hf_accounts_init(struct hf_accounts *accounts)
{
    hf_mutex_init(&accounts->lock, HF_RANK_SPACE);
    for (size_t b = 0; b < HF_ACCOUNT_BUCKETS; b++)
        hf_list_init(&accounts->buckets[b]);
    hf_list_init(&accounts->with_limits);
    accounts->nr = 0;
    atomic_init(&accounts->frozen, 0u);
}

void hf_accounts_done(struct hf_accounts *accounts)
{
    for (size_t b = 0; b < HF_ACCOUNT_BUCKETS; b++) {
        while (!hf_list_empty(&accounts->buckets[b])) {
            struct hf_account *a = hf_list_entry(accounts->buckets[b].next, struct hf_account, bucket);

            hf_list_del(&a->bucket);
            free(a);
        }
    }
}

/* ---- the table */

static struct hf_list *bucket_of(struct hf_accounts *accounts, enum hf_quota_type type, uint32_t id)
{
    return &accounts->buckets[(id * HF_QUOTA_TYPES + (uint32_t)type) % HF_ACCOUNT_BUCKETS];
}

static struct hf_account *find_locked(struct hf_accounts *accounts, enum hf_quota_type type, uint32_t id)
    HF_REQUIRES(accounts->lock)
{
    struct hf_list *l, *bucket = bucket_of(accounts, type, id);

    hf_list_for_each (l, bucket) {
        struct hf_account *a = hf_list_entry(l, struct hf_account, bucket);

        if (a->type == type && a->id == id)
            return a;
    }
    return NULL;
}

static struct hf_account *account_new(enum hf_quota_type type, uint32_t id)
{
    struct hf_account *a = calloc(1, sizeof(*a));

    if (a == NULL)
        return NULL;
    a->type = type;
    a->id = id;
    hf_list_init(&a->bucket);
    hf_list_init(&a->limited_link);
    return a;
}

int hf_account_get(struct hf_accounts *accounts, enum hf_quota_type type, uint32_t id,
                   struct hf_account **ret_account)
{
    struct hf_account *a, *fresh = NULL;

    hf_mutex_lock(&accounts->lock);
    a = find_locked(accounts, type, id);
    if (a == NULL) {
        hf_mutex_unlock(&accounts->lock);
        fresh = account_new(type, id);
        if (fresh == NULL)
            return -ENOMEM;
        hf_mutex_lock(&accounts->lock);
        a = find_locked(accounts, type, id);
    }
    if (a == NULL) {
        hf_list_add_tail(bucket_of(accounts, type, id), &fresh->bucket);
        accounts->nr++;
        a = fresh;
        fresh = NULL;
    }
    a->refs++;
    hf_mutex_unlock(&accounts->lock);
    free(fresh);
    *ret_account = a;
    return 0;
}

static bool is_used(struct hf_account *a)
{
    return atomic_load(&a->limited) || atomic_load(&a->used[HF_ACCOUNT_BLOCKS]) != 0 ||
           atomic_load(&a->used[HF_ACCOUNT_INODES]) != 0;
}

void hf_account_put(struct hf_accounts *accounts, struct hf_account *a)
{
    bool unused;

    hf_mutex_lock(&accounts->lock);
    assert(a->refs > 0);
    unused = --a->refs == 0 && !is_used(a);
    if (unused) {
        hf_list_del(&a->bucket);
        accounts->nr--;
    }
    hf_mutex_unlock(&accounts->lock);
    if (unused)
        free(a);
}

/* ---- limits */

const char *hf_quota_limits_fault(const struct hf_quota_limits *limits)
{
    if ((unsigned)limits->type >= HF_QUOTA_TYPES)
        return "there is no such type";
    if (limits->blocks_soft > HF_QUOTA_LIMIT_MAX || limits->blocks_hard > HF_QUOTA_LIMIT_MAX ||
        limits->inodes_soft > HF_QUOTA_LIMIT_MAX || limits->inodes_hard > HF_QUOTA_LIMIT_MAX)
        return "a limit is too large";
    if ((limits->blocks_hard != 0 && limits->blocks_soft > limits->blocks_hard) ||
        (limits->inodes_hard != 0 && limits->inodes_soft > limits->inodes_hard))
        return "a soft limit is above the hard one";
    if (limits->grace_seconds > HF_QUOTA_GRACE_MAX)
        return "the grace time is too long";
    return NULL;
}

static int64_t grace_end(const struct hf_account *a)
{
    int64_t seconds = a->grace_s != 0 ? a->grace_s : HF_QUOTA_GRACE_DEFAULT;

    return hf_now_ns() + seconds * 1000000000;
}

static bool is_over(struct hf_account *a, enum hf_account_what what)
{
    return a->soft[what] != 0 && atomic_load(&a->used[what]) > a->soft[what];
}

void hf_account_set_limits(struct hf_accounts *accounts, struct hf_account *a,
                           const struct hf_quota_limits *limits)
{
    bool limited = limits->blocks_soft != 0 || limits->blocks_hard != 0 || limits->inodes_soft != 0 ||
                   limits->inodes_hard != 0;
    bool was_over[HF_ACCOUNT_WHATS], other_grace;

    hf_mutex_lock(&accounts->lock);
    for (int what = 0; what < HF_ACCOUNT_WHATS; what++)
        was_over[what] = is_over(a, (enum hf_account_what)what) && a->grace_end_ns[what] != 0;
    other_grace = a->grace_s != limits->grace_seconds;
    a->soft[HF_ACCOUNT_BLOCKS] = limits->blocks_soft;
    a->hard[HF_ACCOUNT_BLOCKS] = limits->blocks_hard;
    a->soft[HF_ACCOUNT_INODES] = limits->inodes_soft;
    a->hard[HF_ACCOUNT_INODES] = limits->inodes_hard;
    a->grace_s = limited ? limits->grace_seconds : 0;
    for (int what = 0; what < HF_ACCOUNT_WHATS; what++)
        if (!was_over[what] || other_grace)
            a->grace_end_ns[what] = is_over(a, (enum hf_account_what)what) ? grace_end(a) : 0;
    atomic_store(&a->limited, limited);
    hf_list_del(&a->limited_link);
    if (limited)
        hf_list_add_tail(&accounts->with_limits, &a->limited_link);
    hf_mutex_unlock(&accounts->lock);
}

void hf_account_load_limits(struct hf_accounts *accounts, struct hf_account *a,
                            const struct hf_quota_limits *limits,
                            const int64_t stored_end_ns[HF_ACCOUNT_WHATS])
{
    hf_account_set_limits(accounts, a, limits);
    hf_mutex_lock(&accounts->lock);
    for (int what = 0; what < HF_ACCOUNT_WHATS; what++) {
        a->stored_end_ns[what] = stored_end_ns[what];
        if (is_over(a, (enum hf_account_what)what) && stored_end_ns[what] != 0)
            a->grace_end_ns[what] = stored_end_ns[what];
    }
    hf_mutex_unlock(&accounts->lock);
}

void hf_account_grace(struct hf_accounts *accounts, struct hf_account *a,
                      int64_t ret_end_ns[HF_ACCOUNT_WHATS])
{
    hf_mutex_lock(&accounts->lock);
    for (int what = 0; what < HF_ACCOUNT_WHATS; what++) {
        bool over = is_over(a, (enum hf_account_what)what);

        if (over && a->grace_end_ns[what] == 0)
            a->grace_end_ns[what] = grace_end(a);
        ret_end_ns[what] = over ? a->grace_end_ns[what] : 0;
    }
    hf_mutex_unlock(&accounts->lock);
}

/* ---- reading */

static void read_locked(struct hf_account *a, struct hf_quota *ret)
{
    *ret = (struct hf_quota){
        .limits = {.type = a->type,
                   .id = a->id,
                   .blocks_soft = a->soft[HF_ACCOUNT_BLOCKS],
                   .blocks_hard = a->hard[HF_ACCOUNT_BLOCKS],
                   .inodes_soft = a->soft[HF_ACCOUNT_INODES],
                   .inodes_hard = a->hard[HF_ACCOUNT_INODES],
                   .grace_seconds = a->grace_s},
        .blocks_used = atomic_load(&a->used[HF_ACCOUNT_BLOCKS]),
        .inodes_used = atomic_load(&a->used[HF_ACCOUNT_INODES]),
        .blocks_grace_end_ns = is_over(a, HF_ACCOUNT_BLOCKS) ? a->grace_end_ns[HF_ACCOUNT_BLOCKS] : 0,
        .inodes_grace_end_ns = is_over(a, HF_ACCOUNT_INODES) ? a->grace_end_ns[HF_ACCOUNT_INODES] : 0,
    };
}

void hf_account_read(struct hf_accounts *accounts, enum hf_quota_type type, uint32_t id,
                     struct hf_quota *ret_quota)
{
    struct hf_account *a;

    *ret_quota = (struct hf_quota){.limits = {.type = type, .id = id}};
    hf_mutex_lock(&accounts->lock);
    a = find_locked(accounts, type, id);
    if (a != NULL)
        read_locked(a, ret_quota);
    hf_mutex_unlock(&accounts->lock);
}

static uint64_t key_of(enum hf_quota_type type, uint32_t id)
{
    return (uint64_t)type << 32 | id;
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Up to max keys >= from of accounts that are used, in no order. Returns how many there are, perhaps more. */
static uint64_t keys_locked(struct hf_accounts *accounts, uint64_t from, uint64_t max, uint64_t *ret_keys)
{
    uint64_t nr = 0;

    for (size_t b = 0; b < HF_ACCOUNT_BUCKETS; b++) {
        struct hf_list *l;

        hf_list_for_each (l, &accounts->buckets[b]) {
            struct hf_account *a = hf_list_entry(l, struct hf_account, bucket);
            uint64_t key = key_of(a->type, a->id);

            if (key < from || !is_used(a))
                continue;
            if (nr < max)
                ret_keys[nr] = key;
            nr++;
        }
    }
    return nr;
}

int hf_accounts_list(struct hf_accounts *accounts, uint64_t *cursor, unsigned max,
                     struct hf_quota *ret_quotas)
{
    uint64_t room = 0, nr = 1, *keys = NULL;

    while (nr > room) { /* others may make more accounts meanwhile */
        free(keys);
        room = nr + 64;
        keys = malloc(room * sizeof(*keys));
        if (keys == NULL)
            return -ENOMEM;
        hf_mutex_lock(&accounts->lock);
        nr = keys_locked(accounts, *cursor, room, keys);
        hf_mutex_unlock(&accounts->lock);
    }
    qsort(keys, nr, sizeof(*keys), compare_keys);
    if (nr > max)
        nr = max;
    if (nr > INT_MAX)
        nr = INT_MAX;
    for (uint64_t i = 0; i < nr; i++) {
        hf_account_read(accounts, (enum hf_quota_type)(keys[i] >> 32), (uint32_t)keys[i], &ret_quotas[i]);
        *cursor = keys[i] + 1;
    }
    free(keys);
    return (int)nr;
}

/* ---- owners */

int hf_owner_get(struct hf_accounts *accounts, const struct hf_owner_ids *ids, struct hf_owner *owner)
{
    struct hf_account *of[HF_QUOTA_TYPES];

    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        int rc = hf_account_get(accounts, (enum hf_quota_type)type, ids->id[type], &of[type]);

        if (rc != 0) {
            while (type-- > 0)
                hf_account_put(accounts, of[type]);
            return rc;
        }
    }
    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        owner->of[type] = of[type];
    return 0;
}

void hf_owner_put(struct hf_accounts *accounts, struct hf_owner *owner)
{
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        if (owner->of[type] != NULL)
            hf_account_put(accounts, owner->of[type]);
        owner->of[type] = NULL;
    }
}

struct hf_owner_ids hf_owner_ids(const struct hf_owner *owner)
{
    struct hf_owner_ids ids;

    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        ids.id[type] = owner->of[type]->id;
    return ids;
}

void hf_owner_count(struct hf_owner *owner, uint64_t blocks, uint64_t inodes)
{
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        atomic_fetch_add(&owner->of[type]->used[HF_ACCOUNT_BLOCKS], blocks);
        atomic_fetch_add(&owner->of[type]->used[HF_ACCOUNT_INODES], inodes);
    }
}

/* ---- charging */

/* The owner's word says that something is under way; not while the accounts are frozen. */
static void enter(struct hf_accounts *accounts, struct hf_owner *owner)
{
    for (;;) {
        atomic_fetch_add(&owner->word, UNDER_WAY);
        if (atomic_load(&accounts->frozen) == 0)
            return;
        atomic_fetch_sub(&owner->word, UNDER_WAY);
        hf_futex_wait(&accounts->frozen, 1, -1);
    }
}

/* Accounts locked. Whether nr more would be admitted. spare: an eighth of the limit stays for others. */
static bool admits(struct hf_account *a, enum hf_account_what what, uint64_t nr, bool spare)
{
    uint64_t soft = a->soft[what], hard = a->hard[what], used = atomic_load(&a->used[what]);
    uint64_t least = soft != 0 ? soft : hard;

    if (nr == 0)
        return true;
    if (hard != 0 && (used > hard || nr > hard - used))
        return false;
    if (spare && least != 0 && used + nr > least - least / 8)
        return false;
    if (soft == 0 || used <= soft || a->grace_end_ns[what] == 0)
        return true;
    return hf_now_ns() < a->grace_end_ns[what];
}

/* locked: the accounts are; then the grace time starts if this crosses the soft limit. */
static void add(struct hf_account *a, enum hf_account_what what, uint64_t nr, bool locked)
{
    uint64_t used;

    if (nr == 0)
        return;
    used = atomic_fetch_add(&a->used[what], nr);
    if (locked && a->soft[what] != 0 && used + nr > a->soft[what] &&
        (used <= a->soft[what] || a->grace_end_ns[what] == 0))
        a->grace_end_ns[what] = grace_end(a);
}

static void take(struct hf_account *a, enum hf_account_what what, uint64_t nr)
{
    uint64_t had;

    if (nr == 0)
        return;
    had = atomic_fetch_sub(&a->used[what], nr);
    assert(had >= nr && "more is given back than was charged");
    (void)had;
}

int hf_charge_begin(struct hf_accounts *accounts, struct hf_owner *owner, uint64_t blocks, uint64_t inodes,
                    unsigned flags, struct hf_charge *ret_charge) HF_NO_TSA
{
    bool limited = false, spare = flags & HF_SPECULATIVE, ok = true;

    enter(accounts, owner);
    for (int type = 0; type < HF_QUOTA_TYPES; type++)
        limited = limited || atomic_load(&owner->of[type]->limited);
    if (limited) {
        hf_mutex_lock(&accounts->lock);
        for (int type = 0; type < HF_QUOTA_TYPES && ok; type++)
            ok = admits(owner->of[type], HF_ACCOUNT_BLOCKS, blocks, spare) &&
                 admits(owner->of[type], HF_ACCOUNT_INODES, inodes, spare);
        if (!ok) {
            hf_mutex_unlock(&accounts->lock);
            atomic_fetch_sub(&owner->word, UNDER_WAY);
            return -EDQUOT;
        }
    }
    *ret_charge = (struct hf_charge){accounts, owner, blocks, inodes, limited};
    return 0;
}

void hf_charge_end(struct hf_charge *charge, bool taken) HF_NO_TSA
{
    uint64_t blocks = taken ? charge->blocks : 0, inodes = taken ? charge->inodes : 0;

    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        add(charge->owner->of[type], HF_ACCOUNT_BLOCKS, blocks, charge->locked);
        add(charge->owner->of[type], HF_ACCOUNT_INODES, inodes, charge->locked);
    }
    if (charge->locked)
        hf_mutex_unlock(&charge->accounts->lock);
    atomic_fetch_add(&charge->owner->word, blocks - UNDER_WAY);
}

void hf_release_begin(struct hf_accounts *accounts, struct hf_owner *owner)
{
    enter(accounts, owner);
}

void hf_release_end(struct hf_owner *owner, uint64_t blocks, uint64_t inodes)
{
    assert(HF_OWNER_BLOCKS(atomic_load(&owner->word)) >= blocks);
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        take(owner->of[type], HF_ACCOUNT_BLOCKS, blocks);
        take(owner->of[type], HF_ACCOUNT_INODES, inodes);
    }
    atomic_fetch_sub(&owner->word, blocks + UNDER_WAY);
}

/* ---- another owner */

int hf_owner_move(struct hf_accounts *accounts, struct hf_owner *owner, struct hf_owner *next)
{
    uint64_t blocks = HF_OWNER_BLOCKS(atomic_load(&owner->word));
    bool ok = true;

    assert(atomic_load(&owner->word) < UNDER_WAY && "charged during a change of owner");
    hf_mutex_lock(&accounts->lock);
    for (int type = 0; type < HF_QUOTA_TYPES && ok; type++)
        ok = owner->of[type] == next->of[type] || (admits(next->of[type], HF_ACCOUNT_BLOCKS, blocks, false) &&
                                                   admits(next->of[type], HF_ACCOUNT_INODES, 1, false));
    for (int type = 0; type < HF_QUOTA_TYPES && ok; type++) {
        struct hf_account *from = owner->of[type], *to = next->of[type];

        if (from == to)
            continue;
        add(to, HF_ACCOUNT_BLOCKS, blocks, true);
        add(to, HF_ACCOUNT_INODES, 1, true);
        take(from, HF_ACCOUNT_BLOCKS, blocks);
        take(from, HF_ACCOUNT_INODES, 1);
        owner->of[type] = to;
        next->of[type] = from;
    }
    hf_mutex_unlock(&accounts->lock);
    return ok ? 0 : -EDQUOT;
}

/* ---- one moment */

void hf_accounts_freeze(struct hf_accounts *accounts)
{
    atomic_store(&accounts->frozen, 1u);
}

void hf_accounts_thaw(struct hf_accounts *accounts)
{
    atomic_store(&accounts->frozen, 0u);
    hf_futex_wake(&accounts->frozen, INT_MAX);
}

uint64_t hf_owner_settled(struct hf_owner *owner)
{
    uint64_t word = atomic_load(&owner->word);

    while (word >= UNDER_WAY) {
        sched_yield();
        word = atomic_load(&owner->word);
    }
    return HF_OWNER_BLOCKS(word);
}
