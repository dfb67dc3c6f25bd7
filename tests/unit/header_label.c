/* SPDX-License-Identifier: MIT */
/* header_label.c - label and UUID: set in both copies of the header, and a power cut leaves the old or the
 * new. */
#include "blockfs_util.h"

#include <holdfast/maintain.h>

static const uint8_t other_uuid[16] = {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16};

static struct hf_blockfs_header header_of(struct hf_device *dev)
{
    struct hf_blockfs_header header;
    char err[HF_BLOCKFS_ERR] = "";
    int ret = hf_blockfs_header_read(dev, false, &header, NULL, err);

    assert_that(ret == 0, "header: %s (%d)", err, ret);
    return header;
}

static void both_copies_say_it(void **state)
{
    struct hf_blockfs_header before, after;
    struct hf_device *dev = volume_new(2 << 20, 4096, &before);
    struct hf_check_result result;

    (void)state;
    assert_ok(hf_header_set_device(dev, "letters", NULL));
    after = header_of(dev);
    assert_string_equal(after.label, "letters");
    assert_memory_equal(after.uuid, before.uuid, 16);
    assert_int_equal(after.generation, before.generation + 1);
    assert_ok(hf_header_set_device(dev, NULL, other_uuid));
    assert_string_equal(header_of(dev).label, "letters");
    assert_memory_equal(header_of(dev).uuid, other_uuid, 16);
    assert_ok(hf_header_set_device(dev, "", NULL));
    assert_string_equal(header_of(dev).label, "");
    assert_ok(hf_check_device(dev, NULL, &result));
    assert_int_equal(result.problems, 0);
    /* The copy says the same. */
    image_flip(dev, 80, 1);
    assert_memory_equal(header_of(dev).uuid, other_uuid, 16);
    /* With one copy left, it is not written. */
    assert_err(hf_header_set_device(dev, "x", NULL), EUCLEAN);
    hf_dev_close(dev);
}

static void refusals(void **state)
{
    struct hf_blockfs_header before;
    struct hf_device *dev = volume_new(2 << 20, 4096, &before), *copy = image_copy(dev);
    char label[65];

    (void)state;
    memset(label, 'x', 64);
    label[64] = 0;
    assert_err(hf_header_set_device(dev, label, NULL), EINVAL);
    assert_err(hf_header_set_device(NULL, "a", NULL), EINVAL);
    assert_err(hf_label_set("/nonexistent/volume", "a"), ENOENT);
    assert_err(hf_label_set("", "a"), EINVAL);
    assert_err(hf_uuid_set("/nonexistent/volume", NULL), EINVAL);
    dev->read_only = true;
    assert_err(hf_header_set_device(dev, "a", NULL), EROFS);
    dev->read_only = false;
    assert_true(image_same(dev, copy));
    label[63] = 0;
    assert_ok(hf_header_set_device(dev, label, NULL));
    hf_dev_close(copy);
    hf_dev_close(dev);
}

static void power_cuts(void **state)
{
    struct hf_blockfs_header before, after;
    struct hf_device *dev = volume_new(2 << 20, 4096, &before), *shim;
    struct hf_powercut *record;
    unsigned nr_new = 0;

    (void)state;
    assert_ok(hf_device_powercut_new(dev, &shim, &record));
    assert_ok(hf_header_set_device(shim, "new", NULL));
    assert_int_equal(hf_device_powercut_count(record), 4);
    for (uint64_t events = 0; events <= 4; events++) {
        for (int i = 0; i < 8; i++) {
            struct hf_powercut_cut cut = {.events = events,
                                          .order = i < HF_POWERCUT_REORDER ? (enum hf_powercut_order)i
                                                                           : HF_POWERCUT_REORDER,
                                          .seed = (uint64_t)i};
            struct hf_device *image;
            struct hf_check_options opts = {.flags = HF_CHECK_REPAIR};
            struct hf_check_result result;

            assert_ok(hf_device_powercut_image(record, &cut, &image));
            after = header_of(image);
            assert_true(strcmp(after.label, "new") == 0 || (after.label[0] == 0 && events < 4));
            nr_new += after.label[0] != 0;
            assert_ok(hf_check_device(image, &opts, &result));
            assert_int_equal(result.left, 0);
            assert_string_equal(header_of(image).label, after.label);
            hf_dev_close(image);
        }
    }
    assert_true(nr_new >= 8);
    hf_dev_close(shim);
    hf_device_powercut_free(record);
}

/* A cut between the two writes leaves a copy that says something else: the next mount that may write ends
 * that, unless the primary is the damaged one. */
static void mounting_mends_the_copy(void **state)
{
    struct hf_blockfs_header before, stale;
    struct hf_device *dev = volume_new(2 << 20, 4096, &before), *image;
    struct hf_check_result result;
    struct vol vol;

    (void)state;
    stale = before;
    stale.generation++;
    strcpy(stale.label, "half");
    assert_ok(hf_blockfs_header_write_copy(dev, &stale, HF_BLOCKFS_COPY_BACKUP));
    image = image_copy(dev);
    assert_ok(vol_try_mount(&vol, dev, true));
    vol_unmount(&vol);
    assert_true(image_same(dev, image));
    vol_mount(&vol, dev);
    vol_unmount(&vol);
    assert_ok(hf_check_device(dev, NULL, &result));
    assert_int_equal(result.problems, 0);
    assert_string_equal(header_of(dev).label, "");
    image_flip(dev, 80, 1);
    assert_string_equal(header_of(dev).label, "");
    vol_mount(&vol, dev);
    vol_unmount(&vol);
    assert_ok(hf_check_device(dev, NULL, &result));
    assert_int_equal(result.problems, 1);
    hf_dev_close(image);
    hf_dev_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_copies_say_it),
        cmocka_unit_test(refusals),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(mounting_mends_the_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
