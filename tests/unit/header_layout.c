/* SPDX-License-Identifier: MIT */
/* header_layout.c - how a volume is divided: for all sizes and block sizes the regions fit, and hold what
 * they must. */
#include "check.h"

#include "fs/blockfs/format.h"

static char err[HF_BLOCKFS_ERR];

static uint64_t end_of(uint64_t off, uint64_t len)
{
    return off + len;
}

static void check_layout(const struct hf_blockfs_header *h, uint64_t bytes)
{
    assert_true(h->volume_bytes <= bytes && bytes - h->volume_bytes < 4096);
    assert_true(h->metadb_off >= HF_BLOCKFS_HEADER_BYTES && h->metadb_off % 4096 == 0);
    assert_true(h->metadb_len % 4096 == 0 && h->wal_len % 4096 == 0);
    assert_true(end_of(h->metadb_off, h->metadb_len) <= h->wal_off && h->wal_off % 4096 == 0);
    assert_true(end_of(h->wal_off, h->wal_len) <= h->data_off);
    assert_true(h->data_off % 4096 == 0 && h->data_off % h->block_size == 0);
    assert_true(h->data_len == h->data_blocks * h->block_size && h->data_blocks > 0);
    assert_true(end_of(h->data_off, h->data_len) <= h->volume_bytes - HF_BLOCKFS_HEADER_BYTES);
    /* One extent per block, and something for names. */
    assert_true(h->metadb_len >= h->data_blocks * HF_BLOCKFS_EXTENT_BYTES + HF_BLOCKFS_BASE_BYTES);
    assert_true(h->wal_len >= 512 << 10 && h->wal_len <= 64 << 20);
    /* No more is left over than rounding takes. */
    assert_true(h->volume_bytes - end_of(h->data_off, h->data_len) <
                2 * HF_BLOCKFS_HEADER_BYTES + h->block_size + 2 * HF_BLOCKFS_EXTENT_BYTES * 128);
}

static void every_size_and_block_size_fits(void **state)
{
    uint64_t sizes[] = {1 << 20,     (1 << 20) + 4095, 3 << 20,    4 << 20,    10000000,
                        64ull << 20, 200000001,        1ull << 30, 16ull << 40};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint32_t block = 512; block <= 65536; block *= 2) {
            struct hf_mkfs_options opts = {.block_size = block};
            struct hf_blockfs_header header;
            int ret = hf_blockfs_layout(sizes[i], &opts, &header, err);

            assert_that(ret == 0, "size %llu block %u: %s", (unsigned long long)sizes[i], block, err);
            assert_int_equal(header.block_size, block);
            check_layout(&header, sizes[i]);
        }
    }
}

/* More metadata than SQLite can have pages for: the promise of an extent for each block would not hold. */
static void too_large_is_einval(void **state)
{
    static const uint64_t sizes[] = {1ull << 50, 1ull << 60, INT64_MAX};
    struct hf_mkfs_options opts = {.thin = true};
    struct hf_blockfs_header header, grown;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (opts.block_size = 512; opts.block_size <= 65536; opts.block_size *= 2) {
            assert_err(hf_blockfs_layout(sizes[i], &opts, &header, err), EINVAL);
            assert_non_null(strstr(err, "too large"));
            assert_ok(hf_blockfs_layout(1ull << 40, &opts, &header, err));
            assert_err(hf_blockfs_layout_grown(&header, sizes[i], &grown, err), EINVAL);
            assert_non_null(strstr(err, "too large"));
        }
    }
    opts.block_size = 4096;
    assert_ok(hf_blockfs_layout(400ull << 40, &opts, &header, err));
    assert_true(header.metadb_len <= HF_BLOCKFS_METADB_PAGES * 4096ull);
}

static void a_small_volume_is_mostly_data(void **state)
{
    struct hf_mkfs_options opts = {.block_size = 512};
    struct hf_blockfs_header header;

    (void)state;
    assert_ok(hf_blockfs_layout(4 << 20, &opts, &header, err));
    assert_true(header.data_len * 3 > header.volume_bytes * 2);
    assert_ok(hf_blockfs_layout(1ull << 40, NULL, &header, err));
    assert_int_equal(header.block_size, 4096);
    assert_true(header.data_len > header.volume_bytes / 100 * 95);
}

static void too_small_is_enospc(void **state)
{
    struct hf_blockfs_header header;

    (void)state;
    for (uint64_t bytes = 0; bytes < 600 << 10; bytes += 1000) {
        assert_err(hf_blockfs_layout(bytes, NULL, &header, err), ENOSPC);
        assert_non_null(strstr(err, "too few"));
    }
}

static void bad_options_are_einval(void **state)
{
    static const uint32_t bad[] = {1, 256, 511, 513, 3000, 65535, 131072, 1u << 31};
    struct hf_mkfs_options opts = {0};
    struct hf_blockfs_header header;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        opts.block_size = bad[i];
        assert_err(hf_blockfs_layout(64 << 20, &opts, &header, err), EINVAL);
        assert_non_null(strstr(err, "block size"));
    }
    opts.block_size = 0;
    memset(opts.label, 'x', sizeof(opts.label));
    assert_err(hf_blockfs_layout(64 << 20, &opts, &header, err), EINVAL);
    assert_non_null(strstr(err, "label"));
    assert_err(hf_blockfs_layout(UINT64_MAX, NULL, &header, err), EINVAL);
}

static void metadata_bytes_is_obeyed_or_refused(void **state)
{
    struct hf_mkfs_options opts = {.metadata_bytes = 20 << 20};
    struct hf_blockfs_header header;

    (void)state;
    assert_ok(hf_blockfs_layout(64 << 20, &opts, &header, err));
    assert_true(header.metadb_len == 20 << 20);
    check_layout(&header, 64 << 20);
    opts.metadata_bytes = 4096;
    assert_err(hf_blockfs_layout(64 << 20, &opts, &header, err), EINVAL);
    assert_non_null(strstr(err, "too little"));
    opts.metadata_bytes = 65 << 20;
    assert_err(hf_blockfs_layout(64 << 20, &opts, &header, err), ENOSPC);
    opts.metadata_bytes = (64 << 20) - 10000;
    assert_err(hf_blockfs_layout(64 << 20, &opts, &header, err), ENOSPC);
}

static void label_and_thin_are_kept(void **state)
{
    struct hf_mkfs_options opts = {.thin = true, .label = "my volume"};
    struct hf_blockfs_header header;

    (void)state;
    assert_ok(hf_blockfs_layout(64 << 20, &opts, &header, err));
    assert_string_equal(header.label, "my volume");
    assert_int_equal(header.flags, HF_BLOCKFS_THIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_and_block_size_fits),
        cmocka_unit_test(too_large_is_einval),
        cmocka_unit_test(a_small_volume_is_mostly_data),
        cmocka_unit_test(too_small_is_enospc),
        cmocka_unit_test(bad_options_are_einval),
        cmocka_unit_test(metadata_bytes_is_obeyed_or_refused),
        cmocka_unit_test(label_and_thin_are_kept),
    };

    return cmocka_run_group_tests_name("header_layout", tests, NULL, NULL);
}
