/* SPDX-License-Identifier: MIT */
/*
 * header_damage.c - a header that is damaged, newer, or of something else is refused with one line that says
 * which, and nothing is written; one good copy of the two is enough.
 */
#include "metadb_util.h"

#define VOLUME_BYTES (1 << 20)

static char err[HF_BLOCKFS_ERR];

static struct hf_blockfs_header good_header(void)
{
    struct hf_blockfs_header header;

    assert_ok(hf_blockfs_layout(VOLUME_BYTES, NULL, &header, err));
    header.generation = 1;
    return header;
}

static struct hf_device *device_with(const struct hf_blockfs_header *header)
{
    struct hf_device *dev;

    assert_ok(hf_device_mem_new(VOLUME_BYTES, &dev));
    assert_ok(hf_blockfs_header_write(dev, header));
    return dev;
}

/* Reads through a shim that counts, and sees that nothing was written and the line is one line. */
static int read_counted(struct hf_device *lower, bool read_only, enum hf_blockfs_copy *ret_copy)
{
    struct hf_device_counts counts;
    struct hf_blockfs_header header;
    struct hf_device *copy = image_copy(lower), *dev;
    int ret;

    assert_ok(hf_device_fault_new(copy, &dev));
    err[0] = 0;
    ret = hf_blockfs_header_read(dev, read_only, &header, ret_copy, err);
    hf_device_fault_counts(dev, &counts);
    assert_int_equal(counts.writes + counts.flushes + counts.discards + counts.guarantees, 0);
    if (ret) {
        assert_true(strlen(err) > 10 && !strchr(err, '\n'));
    }
    hf_dev_close(dev);
    return ret;
}

/* Writes header with a valid checksum, and wants this error and these words. */
static void expect(const struct hf_blockfs_header *header, int error, const char *words)
{
    struct hf_device *dev;
    uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];

    assert_ok(hf_device_mem_new(VOLUME_BYTES, &dev));
    hf_blockfs_header_encode(header, bytes);
    assert_ok(hf_dev_write(dev, bytes, sizeof(bytes), 0));
    assert_err(read_counted(dev, false, NULL), error);
    assert_that(strstr(err, words), "\"%s\" is not in \"%s\"", words, err);
    hf_dev_close(dev);
}

static void what_is_written_is_read(void **state)
{
    struct hf_blockfs_header header = good_header(), back;
    enum hf_blockfs_copy copy;
    struct hf_device *dev;

    (void)state;
    snprintf(header.label, sizeof(header.label), "a label");
    header.generation = 77;
    header.compat = 1ull << 63; /* unknown and compatible: no matter */
    header.created_ns = -5;
    header.flags = HF_BLOCKFS_THIN;
    memset(header.uuid, 0xab, sizeof(header.uuid));
    dev = device_with(&header);
    assert_ok(hf_blockfs_header_read(dev, false, &back, &copy, err));
    assert_int_equal(copy, HF_BLOCKFS_COPY_PRIMARY);
    assert_memory_equal(&back.uuid, &header.uuid, 16);
    assert_string_equal(back.label, "a label");
    assert_true(back.generation == 77 && back.compat == header.compat && back.created_ns == -5);
    assert_true(back.flags == HF_BLOCKFS_THIN && back.block_size == 4096 && back.version == 1);
    assert_true(back.metadb_off == header.metadb_off && back.metadb_len == header.metadb_len);
    assert_true(back.wal_off == header.wal_off && back.wal_len == header.wal_len);
    assert_true(back.data_off == header.data_off && back.data_len == header.data_len);
    assert_true(back.data_blocks == header.data_blocks && back.volume_bytes == VOLUME_BYTES);
    hf_dev_close(dev);
}

/* Others read these bytes: docs/format.md. The checksum was computed by another program. */
static void the_bytes_are_as_documented(void **state)
{
    struct hf_blockfs_header header = {
        .version = 1, .block_size = 4096, .data_blocks = 0xdeadbeef, .label = "L"};
    uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];

    (void)state;
    hf_blockfs_header_encode(&header, bytes);
    assert_memory_equal(bytes, "HOLDFAST\1\0\0\0\0\x10\0\0", 16);
    assert_bytes(bytes + 16, 0, 72 - 16);
    assert_memory_equal(bytes + 72, "L", 2);
    assert_memory_equal(bytes + 192, "\xef\xbe\xad\xde\0\0\0\0", 8);
    assert_bytes(bytes + 200, 0, 4092 - 200);
    assert_memory_equal(bytes + 4092, "\xa1\x81\x08\xa4", 4);

    header = (struct hf_blockfs_header){.compat = 1,
                                        .ro_compat = 2,
                                        .incompat = 3,
                                        .flags = 4,
                                        .generation = 5,
                                        .volume_bytes = 6,
                                        .metadb_off = 7,
                                        .metadb_len = 8,
                                        .wal_off = 9,
                                        .wal_len = 10,
                                        .data_off = 11,
                                        .data_len = 12,
                                        .data_blocks = 13,
                                        .created_ns = 14};
    hf_blockfs_header_encode(&header, bytes);
    for (int i = 0; i < 3; i++)
        assert_int_equal(bytes[16 + 8 * i], 1 + i);
    assert_int_equal(bytes[40], 4);
    assert_int_equal(bytes[48], 5);
    for (int i = 0; i < 9; i++)
        assert_int_equal(bytes[136 + 8 * i], 6 + i);
}

static void any_flipped_bit_in_the_primary_leaves_the_backup(void **state)
{
    struct hf_blockfs_header header = good_header();
    struct hf_device *dev = device_with(&header);
    enum hf_blockfs_copy copy;

    (void)state;
    for (unsigned off = 0; off < HF_BLOCKFS_HEADER_BYTES; off += off < 216 || off >= 4088 ? 1 : 61) {
        image_flip(dev, off, (uint8_t)(1 << off % 8));
        assert_ok(hf_blockfs_header_read(dev, false, &header, &copy, err));
        assert_int_equal(copy, HF_BLOCKFS_COPY_BACKUP);
        /* And a damaged backup matters to nobody while the primary is whole. */
        image_flip(dev, off, (uint8_t)(1 << off % 8));
        image_flip(dev, VOLUME_BYTES - 4096 + off, 0xff);
        assert_ok(hf_blockfs_header_read(dev, false, &header, &copy, err));
        assert_int_equal(copy, HF_BLOCKFS_COPY_PRIMARY);
        image_flip(dev, VOLUME_BYTES - 4096 + off, 0xff);
    }
    hf_dev_close(dev);
}

static void both_copies_damaged_is_euclean(void **state)
{
    struct hf_blockfs_header header = good_header();

    (void)state;
    for (unsigned off = 8; off < HF_BLOCKFS_HEADER_BYTES; off += 37) {
        struct hf_device *dev = device_with(&header);

        image_flip(dev, off, 0x10);
        image_flip(dev, VOLUME_BYTES - 4096 + off, 0x10);
        assert_err(read_counted(dev, false, NULL), EUCLEAN);
        assert_non_null(strstr(err, "neither copy"));
        hf_dev_close(dev);
    }
}

static void no_magic_is_not_a_volume(void **state)
{
    struct hf_blockfs_header header = good_header();
    struct hf_device *dev = device_with(&header);

    (void)state;
    image_flip(dev, 0, 1);
    image_flip(dev, VOLUME_BYTES - 4096, 1);
    assert_err(read_counted(dev, false, NULL), EMEDIUMTYPE);
    assert_non_null(strstr(err, "not a Holdfast volume"));
    hf_dev_close(dev);
    for (hf_off_t bytes = 1; bytes < 20000; bytes += 1357) {
        assert_ok(hf_device_mem_new(bytes, &dev));
        assert_err(read_counted(dev, true, NULL), EMEDIUMTYPE);
        hf_dev_close(dev);
    }
}

static void newer_versions_and_features_are_refused(void **state)
{
    struct hf_blockfs_header header = good_header();
    struct hf_device *dev;

    (void)state;
    header.version = 2;
    expect(&header, EPROTONOSUPPORT, "version 2 is newer");
    header = good_header();
    header.incompat = 4;
    expect(&header, EPROTONOSUPPORT, "0x4");
    header = good_header();
    header.ro_compat = 8;
    expect(&header, EPROTONOSUPPORT, "read-only");
    dev = device_with(&header);
    assert_ok(read_counted(dev, true, NULL));
    hf_dev_close(dev);
}

#define ABSURD(field, value, words)                      \
    do {                                                 \
        struct hf_blockfs_header header = good_header(); \
        header.field = (value);                          \
        expect(&header, EUCLEAN, words);                 \
    } while (0)

static void absurd_fields_are_euclean(void **state)
{
    struct hf_blockfs_header good = good_header();

    (void)state;
    ABSURD(version, 0, "version 0");
    ABSURD(block_size, 0, "block size");
    ABSURD(block_size, 256, "block size");
    ABSURD(block_size, 4097, "block size");
    ABSURD(block_size, 131072, "block size");
    ABSURD(block_size, 512, "data region");
    ABSURD(flags, 2, "flags");
    ABSURD(generation, 0, "generation");
    ABSURD(volume_bytes, 0, "volume of");
    ABSURD(volume_bytes, VOLUME_BYTES - 1, "volume of");
    ABSURD(volume_bytes, UINT64_MAX, "volume of");
    ABSURD(volume_bytes, VOLUME_BYTES - 65536, "data region");
    ABSURD(metadb_off, 0, "metadata region");
    ABSURD(metadb_off, 4097, "metadata region");
    ABSURD(metadb_off, UINT64_MAX & ~4095ull, "metadata region");
    ABSURD(metadb_len, 0, "metadata region");
    ABSURD(metadb_len, good.metadb_len + 1, "metadata region");
    ABSURD(metadb_len, good.metadb_len + 4096, "overlaps");
    ABSURD(metadb_len, UINT64_MAX & ~4095ull, "metadata region");
    ABSURD(wal_off, 4096, "overlaps");
    ABSURD(wal_off, good.wal_off + 1, "WAL region");
    ABSURD(wal_off, INT64_MAX, "WAL region");
    ABSURD(wal_len, 0, "WAL region");
    ABSURD(wal_len, good.wal_len + 100, "WAL region");
    ABSURD(wal_len, good.wal_len + 65536, "overlaps");
    ABSURD(wal_len, 1ull << 63, "WAL region");
    ABSURD(data_off, 0, "overlaps");
    ABSURD(data_off, good.data_off + 512, "data region");
    ABSURD(data_off, 1ull << 62, "data region");
    ABSURD(data_len, good.data_len - 1, "data region");
    ABSURD(data_len, 0, "data region");
    ABSURD(data_blocks, 0, "data region");
    ABSURD(data_blocks, good.data_blocks + 1, "data region");
    ABSURD(data_blocks, good.data_blocks + (1ull << 52), "data region"); /* times 4096: overflows */
    good = good_header();
    memset(good.label, 'x', sizeof(good.label));
    expect(&good, EUCLEAN, "label");
}

/* Any values at all, checksum right: accepted or refused, and accepted only if all fits. */
static void random_fields_never_slip_through(void **state)
{
    (void)state;
    srand(4);
    for (int i = 0; i < 3000; i++) {
        struct hf_blockfs_header header = good_header(), back;
        uint64_t *fields[] = {&header.metadb_off,  &header.metadb_len,  &header.wal_off,
                              &header.wal_len,     &header.data_off,    &header.data_len,
                              &header.data_blocks, &header.volume_bytes};
        struct hf_device *dev;
        uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];
        int ret;

        for (int n = rand() % 3; n >= 0; n--)
            *fields[rand() % 8] = (uint64_t)rand() << (rand() % 40) & (rand() % 2 ? ~4095ull : ~0ull);
        assert_ok(hf_device_mem_new(VOLUME_BYTES, &dev));
        hf_blockfs_header_encode(&header, bytes);
        assert_ok(hf_dev_write(dev, bytes, sizeof(bytes), 0));
        ret = hf_blockfs_header_read(dev, false, &back, NULL, err);
        assert_true(ret == 0 || ret == -EUCLEAN);
        if (ret == 0) {
            assert_true(back.data_off + back.data_len <= VOLUME_BYTES - 4096);
            assert_true(back.metadb_off >= 4096 && back.metadb_off + back.metadb_len <= back.wal_off);
            assert_true(back.wal_off + back.wal_len <= back.data_off);
        }
        hf_dev_close(dev);
    }
}

static void a_truncated_device_is_named(void **state)
{
    struct hf_blockfs_header header = good_header();
    struct hf_device *dev, *shorter;
    uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];

    (void)state;
    dev = device_with(&header);
    assert_ok(hf_dev_read(dev, bytes, sizeof(bytes), 0));
    for (hf_off_t size = 4096; size < VOLUME_BYTES; size += 4096 * 17) {
        char words[128];

        assert_ok(hf_device_mem_new(size, &shorter));
        assert_ok(hf_dev_write(shorter, bytes, sizeof(bytes), 0));
        assert_err(read_counted(shorter, false, NULL), EUCLEAN);
        snprintf(words, sizeof(words), "truncated: header says %d bytes, device has %lld", VOLUME_BYTES,
                 (long long)size);
        assert_string_equal(err, words);
        hf_dev_close(shorter);
    }
    hf_dev_close(dev);
}

static void a_larger_device_is_fine(void **state)
{
    struct hf_blockfs_header header = good_header();
    struct hf_device *dev;

    (void)state;
    assert_ok(hf_device_mem_new(VOLUME_BYTES + 12345, &dev));
    assert_ok(hf_blockfs_header_write(dev, &header));
    assert_ok(read_counted(dev, false, NULL));
    hf_dev_close(dev);
}

static void a_read_error_uses_the_other_copy_or_is_eio(void **state)
{
    struct hf_blockfs_header header = good_header();
    enum hf_blockfs_copy copy;
    struct hf_device *dev;

    (void)state;
    assert_ok(hf_device_fault_new(device_with(&header), &dev));
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_read_at = 1, .count = 1});
    assert_ok(hf_blockfs_header_read(dev, false, &header, &copy, err));
    assert_int_equal(copy, HF_BLOCKFS_COPY_BACKUP);
    hf_device_fault_set(dev, &(struct hf_device_faults){.fail_read_at = 1});
    assert_err(hf_blockfs_header_read(dev, false, &header, &copy, err), EIO);
    hf_dev_close(dev);
}

/* At every moment of an update of the header one whole copy is on the device. */
static void an_update_can_be_cut_anywhere(void **state)
{
    struct hf_blockfs_header header = good_header(), found;
    struct hf_device *base = device_with(&header), *dev, *image;
    struct write_log *log;

    (void)state;
    header.generation = 2;
    dev = log_new(image_copy(base), &log);
    assert_ok(hf_blockfs_header_write(dev, &header));
    for (size_t nr = 0; nr <= log_count(log); nr++) {
        for (unsigned seed = 0; seed < 40; seed++) {
            image = log_image(log, base, nr, seed ? LOG_CUT_RANDOM : LOG_CUT_ALL, seed);
            assert_ok(hf_blockfs_header_read(image, false, &found, NULL, err));
            assert_true(found.generation == 1 || found.generation == 2);
            assert_true(nr < log_count(log) || found.generation == 2);
            hf_dev_close(image);
        }
    }
    hf_dev_close(dev);
    hf_dev_close(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_bytes_are_as_documented),
        cmocka_unit_test(any_flipped_bit_in_the_primary_leaves_the_backup),
        cmocka_unit_test(both_copies_damaged_is_euclean),
        cmocka_unit_test(no_magic_is_not_a_volume),
        cmocka_unit_test(newer_versions_and_features_are_refused),
        cmocka_unit_test(absurd_fields_are_euclean),
        cmocka_unit_test(random_fields_never_slip_through),
        cmocka_unit_test(a_truncated_device_is_named),
        cmocka_unit_test(a_larger_device_is_fine),
        cmocka_unit_test(a_read_error_uses_the_other_copy_or_is_eio),
        cmocka_unit_test(an_update_can_be_cut_anywhere),
    };

    return cmocka_run_group_tests_name("header_damage", tests, NULL, NULL);
}
