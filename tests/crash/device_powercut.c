/* SPDX-License-Identifier: MIT */
/*
 * device_powercut.c - the images of cuts: what was flushed is in all of them, what was not in some, and
 * nothing else in any.
 */
#include "crash_util.h"

#include "dev/device_io.h"

#define BYTES 65536
#define SECTOR 512
#define SEEDS 64

struct shim {
    struct hf_device *dev;
    struct hf_powercut *record;
};

static struct shim shim_new(void)
{
    struct hf_device *mem;
    struct shim shim;
    uint8_t before[SECTOR];

    memset(before, 'b', sizeof(before));
    assert_ok(hf_device_mem_new(BYTES, &mem));
    assert_ok(hf_dev_write(mem, before, sizeof(before), 7 * SECTOR));
    assert_ok(hf_device_powercut_new(mem, &shim.dev, &shim.record));
    return shim;
}

static void put(struct shim *shim, unsigned sector, unsigned nr, uint8_t value)
{
    uint8_t buf[16 * SECTOR];

    memset(buf, value, nr * SECTOR);
    assert_ok(hf_dev_write(shim->dev, buf, nr * SECTOR, (hf_off_t)sector * SECTOR));
}

static void image_get(struct shim *shim, uint64_t events, enum hf_powercut_order order, uint64_t seed,
                      uint8_t ret_bytes[BYTES])
{
    const struct hf_powercut_cut cut = {.events = events, .order = order, .seed = seed};
    struct hf_device *image;

    assert_ok(hf_device_powercut_image(shim->record, &cut, &image));
    assert_int_equal(image->size_bytes, BYTES);
    assert_ok(hf_dev_read(image, ret_bytes, BYTES, 0));
    hf_dev_close(image);
}

static void the_prefix_is_exact(void **state)
{
    struct shim shim = shim_new();
    uint8_t bytes[BYTES];

    (void)state;
    put(&shim, 0, 2, 1);
    put(&shim, 1, 1, 2);
    assert_ok(hf_dev_flush(shim.dev));
    put(&shim, 0, 1, 3);
    assert_count(hf_device_powercut_count(shim.record), 4);
    hf_dev_close(shim.dev); /* the record stays */

    image_get(&shim, 0, HF_POWERCUT_ALL, 0, bytes);
    assert_bytes(bytes, 0, 7 * SECTOR);
    assert_bytes(bytes + 7 * SECTOR, 'b', SECTOR);
    image_get(&shim, 1, HF_POWERCUT_ALL, 0, bytes);
    assert_bytes(bytes, 1, 2 * SECTOR);
    image_get(&shim, 2, HF_POWERCUT_ALL, 0, bytes);
    assert_bytes(bytes + SECTOR, 2, SECTOR);
    image_get(&shim, 2, HF_POWERCUT_NONE, 0, bytes);
    assert_bytes(bytes, 0, 2 * SECTOR);
    image_get(&shim, 4, HF_POWERCUT_NONE, 0, bytes);
    assert_bytes(bytes, 1, SECTOR);
    assert_bytes(bytes + SECTOR, 2, SECTOR);
    image_get(&shim, 4, HF_POWERCUT_ALL, 0, bytes);
    assert_bytes(bytes, 3, SECTOR);
    hf_device_powercut_free(shim.record);
}

/* Sectors are whole, and the seeds show both outcomes of each. */
static void the_last_write_is_torn_between_sectors(void **state)
{
    struct shim shim = shim_new();
    unsigned arrived[4] = {0};
    uint8_t bytes[BYTES];

    (void)state;
    put(&shim, 20, 1, 8);
    put(&shim, 4, 4, 9);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        image_get(&shim, 2, HF_POWERCUT_TORN, seed, bytes);
        assert_bytes(bytes + 20 * SECTOR, 8, SECTOR);
        for (unsigned s = 0; s < 4; s++) {
            uint8_t *sector = bytes + (4 + s) * SECTOR, old = s == 3 ? 'b' : 0;

            assert_true(sector[0] == 9 || sector[0] == old);
            assert_bytes(sector, sector[0], SECTOR);
            arrived[s] += sector[0] == 9;
        }
    }
    for (unsigned s = 0; s < 4; s++)
        assert_in_range(arrived[s], 1, SEEDS - 1);
    hf_dev_close(shim.dev);
    hf_device_powercut_free(shim.record);
}

/* Of four writes after the flush every combination appears, one sector has any of its two new values, and
 * what was flushed is never missing. */
static void any_order_between_flushes_appears(void **state)
{
    struct shim shim = shim_new();
    unsigned seen[16] = {0}, older = 0;
    uint8_t bytes[BYTES];

    (void)state;
    put(&shim, 30, 2, 5);
    assert_ok(hf_dev_flush(shim.dev));
    put(&shim, 40, 1, 1);
    put(&shim, 10, 1, 1);
    put(&shim, 30, 1, 1);
    put(&shim, 50, 1, 1);
    put(&shim, 30, 1, 2);
    for (uint64_t seed = 0; seed < 16 * SEEDS; seed++) {
        image_get(&shim, 7, HF_POWERCUT_REORDER, seed, bytes);
        assert_bytes(bytes + 31 * SECTOR, 5, SECTOR);
        assert_true(bytes[30 * SECTOR] == 5 || bytes[30 * SECTOR] == 1 || bytes[30 * SECTOR] == 2);
        older += bytes[30 * SECTOR] == 1;
        seen[bytes[40 * SECTOR] + 2 * bytes[10 * SECTOR] + 4 * bytes[50 * SECTOR] +
             8 * (bytes[30 * SECTOR] != 5)]++;
    }
    for (unsigned i = 0; i < 16; i++)
        assert_that(seen[i] > 0, "combination %u never appears", i);
    assert_true(older > 0);
    hf_dev_close(shim.dev);
    hf_device_powercut_free(shim.record);
}

/* A subset is exactly what its bits say, whatever came before the flush. */
static void a_subset_is_what_its_bits_say(void **state)
{
    struct shim shim = shim_new();
    uint8_t bytes[BYTES];

    (void)state;
    put(&shim, 30, 1, 5);
    assert_count(hf_device_powercut_open(shim.record, 1), 1);
    assert_ok(hf_dev_flush(shim.dev));
    put(&shim, 40, 2, 1);
    put(&shim, 41, 1, 2);
    put(&shim, 50, 1, 3);
    assert_count(hf_device_powercut_open(shim.record, 2), 0);
    assert_count(hf_device_powercut_open(shim.record, 5), 3);
    for (uint64_t bits = 0; bits < 8; bits++) {
        image_get(&shim, 5, HF_POWERCUT_SUBSET, bits, bytes);
        assert_bytes(bytes + 30 * SECTOR, 5, SECTOR);
        assert_bytes(bytes + 40 * SECTOR, bits & 1 ? 1 : 0, SECTOR);
        assert_bytes(bytes + 41 * SECTOR, bits & 2 ? 2 : bits & 1 ? 1 : 0, SECTOR);
        assert_bytes(bytes + 50 * SECTOR, bits & 4 ? 3 : 0, SECTOR);
    }
    hf_dev_close(shim.dev);
    hf_device_powercut_free(shim.record);
}

static void the_same_seed_gives_the_same_image(void **state)
{
    struct shim shim = shim_new();
    static uint8_t one[BYTES], other[BYTES];
    unsigned different = 0;

    (void)state;
    for (unsigned i = 0; i < 8; i++)
        put(&shim, i * 8, 8, (uint8_t)(i + 1));
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        image_get(&shim, 8, HF_POWERCUT_REORDER, seed, one);
        image_get(&shim, 8, HF_POWERCUT_REORDER, seed, other);
        assert_memory_equal(one, other, BYTES);
        image_get(&shim, 8, HF_POWERCUT_REORDER, seed + 1, other);
        different += memcmp(one, other, BYTES) != 0;
    }
    assert_true(different > SEEDS / 2);
    hf_dev_close(shim.dev);
    hf_device_powercut_free(shim.record);
}

/* A write or flush that failed has made nothing durable; the write may have arrived all the same. */
static void a_failed_write_or_flush_confirms_nothing(void **state)
{
    struct hf_device *mem, *fault;
    struct shim shim;
    uint8_t bytes[BYTES];

    (void)state;
    assert_ok(hf_device_mem_new(BYTES, &mem));
    assert_ok(hf_device_fault_new(mem, &fault));
    assert_ok(hf_device_powercut_new(fault, &shim.dev, &shim.record));
    put(&shim, 0, 1, 1);
    hf_device_fault_set(fault,
                        &(struct hf_device_faults){.fail_flush_at = 1, .fail_write_at = 1, .count = 1});
    assert_err(hf_dev_flush(shim.dev), EIO);
    assert_count(hf_device_powercut_count(shim.record), 1);
    assert_err(hf_dev_write(shim.dev, "2", 1, SECTOR), EIO);
    image_get(&shim, 2, HF_POWERCUT_NONE, 0, bytes);
    assert_bytes(bytes, 0, 2 * SECTOR);
    assert_ok(hf_dev_flush(shim.dev));
    image_get(&shim, 3, HF_POWERCUT_NONE, 0, bytes);
    assert_bytes(bytes, 1, SECTOR);
    assert_bytes(bytes + SECTOR, 0, SECTOR);
    hf_dev_close(shim.dev);
    hf_device_powercut_free(shim.record);
}

static void cuts_that_never_were_are_refused(void **state)
{
    struct shim shim = shim_new();
    struct hf_powercut_cut cut = {.events = 1};
    struct hf_device *image = NULL;

    (void)state;
    assert_err(hf_device_powercut_image(shim.record, &cut, &image), EINVAL);
    cut = (struct hf_powercut_cut){.order = (enum hf_powercut_order)99};
    assert_err(hf_device_powercut_image(shim.record, &cut, &image), EINVAL);
    assert_null(image);
    hf_device_powercut_free(shim.record); /* before the device */
    put(&shim, 0, 1, 1);
    hf_dev_close(shim.dev);
    hf_device_powercut_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_prefix_is_exact),
        cmocka_unit_test(the_last_write_is_torn_between_sectors),
        cmocka_unit_test(any_order_between_flushes_appears),
        cmocka_unit_test(a_subset_is_what_its_bits_say),
        cmocka_unit_test(the_same_seed_gives_the_same_image),
        cmocka_unit_test(a_failed_write_or_flush_confirms_nothing),
        cmocka_unit_test(cuts_that_never_were_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
