/* SPDX-License-Identifier: MIT */
/*
 * quota_changes.c - the power goes while limits are set and files change: each limit is found whole, none
 * that was confirmed is lost, and what everybody is charged for agrees with a scan.
 */
#include "check.h"

#include <fcntl.h>
#include <holdfast/device.h>
#include <holdfast/quota.h>

#define CHANGES 24
#define USER 77u

/* Limits number i: all four follow from it, so that half of one would show. */
static struct hf_quota_limits limits_of(uint64_t i)
{
    return (struct hf_quota_limits){.type = HF_QUOTA_USER,
                                    .id = USER,
                                    .blocks_soft = 100 * i,
                                    .blocks_hard = 1000 * i,
                                    .inodes_soft = 10 * i,
                                    .inodes_hard = 20 * i,
                                    .grace_seconds = (uint32_t)i};
}

static struct hf_powercut *record;
static uint64_t set_at[CHANGES + 2], confirmed_at[CHANGES + 2]; /* counts of events; 0: never */

static void change(struct hf_volume *volume, struct hf_file *file, uint64_t i)
{
    struct hf_quota_limits limits = limits_of(i);
    char bytes[3000];

    memset(bytes, (int)('a' + i), sizeof(bytes));
    assert_count(hf_pwrite(file, bytes, sizeof(bytes), (hf_off_t)(i * 2500)), sizeof(bytes));
    if (i % 4 == 1)
        assert_ok(hf_fchown(file, i % 8 == 1 ? USER : 3, 3));
    if (i % 5 == 2)
        assert_ok(hf_ftruncate(file, 1000));
    set_at[i] = hf_device_powercut_count(record);
    assert_ok(hf_quota_set(volume, &limits));
    if (i % 3 == 0)
        assert_ok(hf_volume_sync(volume));
    else if (i % 3 == 1)
        assert_ok(hf_fsync(file));
    if (i % 3 != 2)
        confirmed_at[i] = hf_device_powercut_count(record);
}

static void image_check(const struct hf_powercut_cut *cut)
{
    struct hf_quota_check check;
    struct hf_volume *volume;
    struct hf_device *image;
    struct hf_quota quota;
    uint64_t low = 0, high = 0;

    for (uint64_t i = 1; i <= CHANGES; i++) {
        if (confirmed_at[i] != 0 && confirmed_at[i] <= cut->events)
            low = i;
        if (set_at[i] <= cut->events)
            high = i;
    }
    assert_ok(hf_device_powercut_image(record, cut, &image));
    assert_ok(hf_volume_open_device(image, NULL, &volume));
    assert_ok(hf_quota_get(volume, HF_QUOTA_USER, USER, &quota));
    assert_that(quota.limits.inodes_hard / 20 >= low && quota.limits.inodes_hard / 20 <= high,
                "limits number %llu after %llu events; %llu was confirmed, %llu set",
                (unsigned long long)quota.limits.inodes_hard / 20, (unsigned long long)cut->events,
                (unsigned long long)low, (unsigned long long)high);
    if (quota.limits.inodes_hard != 0) {
        struct hf_quota_limits want = limits_of(quota.limits.inodes_hard / 20);

        assert_memory_equal(&quota.limits, &want, sizeof(want));
    }
    assert_count(hf_quota_check(volume, &check), 0);
    assert_ok(hf_volume_close(volume));
}

static void limits_survive_power_cuts(void **state)
{
    static const enum hf_powercut_order orders[] = {HF_POWERCUT_ALL, HF_POWERCUT_NONE, HF_POWERCUT_REORDER};
    struct hf_device *dev, *shim;
    struct hf_volume *volume;
    struct hf_file *file;
    uint64_t events;
    char path[] = "/tmp/holdfast-quota-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_ok(
        hf_mkfs(path, &(struct hf_mkfs_options){.size_bytes = 1 << 20, .block_size = 1024, .force = true}));
    assert_ok(hf_device_file_open(path, 0, 0, &dev));
    assert_ok(hf_device_powercut_new(dev, &shim, &record));
    assert_ok(hf_volume_open_device(shim, NULL, &volume));
    assert_ok(hf_open(volume, "f", O_RDWR | O_CREAT, 0600, &file));
    for (uint64_t i = 1; i <= CHANGES; i++)
        change(volume, file, i);
    assert_ok(hf_close(file));
    assert_ok(hf_volume_close(volume));
    events = hf_device_powercut_count(record);
    for (uint64_t i = 0; i <= events; i++) {
        struct hf_powercut_cut cut = {.events = i, .order = orders[i % 3], .seed = i};

        image_check(&cut);
    }
    hf_device_powercut_free(record);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits_survive_power_cuts)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
