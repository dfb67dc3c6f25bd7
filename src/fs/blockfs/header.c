/* SPDX-License-Identifier: MIT */
/*
 * header.c - the header of a volume: bytes, checks, layout.
 *
 * A header is believed only when its checksum holds, and even then no value is used before header_check() has
 * compared it with all others and with the device: a checksum says that we wrote it, not that it is right.
 * The primary is written last, so at every moment of an update one of the two copies is whole.
 * Neighbours: mkfs.c above (writes), the driver's mount (reads); dev/ below. No locks.
 */
#include "fs/blockfs/format.h"

#include "dev/device_io.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Offsets of the fields; docs/format.md has them in words. */
enum header_field {
    F_MAGIC = 0,
    F_VERSION = 8,
    F_BLOCK_SIZE = 12,
    F_COMPAT = 16,
    F_RO_COMPAT = 24,
    F_INCOMPAT = 32,
    F_FLAGS = 40,
    F_GENERATION = 48,
    F_UUID = 56,
    F_LABEL = 72,
    F_VOLUME_BYTES = 136,
    F_METADB_OFF = 144,
    F_METADB_LEN = 152,
    F_WAL_OFF = 160,
    F_WAL_LEN = 168,
    F_DATA_OFF = 176,
    F_DATA_LEN = 184,
    F_DATA_BLOCKS = 192,
    F_CREATED_NS = 200,
    F_NR_SEGMENTS = 208,
    F_SEGMENTS = 216, /* offset and length of each */
    F_CRC = HF_BLOCKFS_HEADER_BYTES - 4,
};

#define ALIGN_BYTES 4096ull
#define WAL_MIN (512ull << 10)
#define WAL_SMALL (1ull << 20)
#define WAL_MAX (64ull << 20)
#define DATA_MIN (256ull << 10)

static int fail(char *err, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

static int fail(char *err, int error, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(err, HF_BLOCKFS_ERR, format, ap);
    va_end(ap);
    return error;
}

/* CRC-32C (Castagnoli), reflected, bit by bit: two headers a mount do not ask for a table. */
static uint32_t crc32c(const uint8_t *bytes, size_t len)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void put_le(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_le(const uint8_t *from, int bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << 8 * i;
    return value;
}

void hf_blockfs_header_encode(const struct hf_blockfs_header *header,
                              uint8_t ret_bytes[HF_BLOCKFS_HEADER_BYTES])
{
    memset(ret_bytes, 0, HF_BLOCKFS_HEADER_BYTES);
    memcpy(ret_bytes + F_MAGIC, HF_BLOCKFS_MAGIC, 8);
    put_le(ret_bytes + F_VERSION, header->version, 4);
    put_le(ret_bytes + F_BLOCK_SIZE, header->block_size, 4);
    put_le(ret_bytes + F_COMPAT, header->compat, 8);
    put_le(ret_bytes + F_RO_COMPAT, header->ro_compat, 8);
    put_le(ret_bytes + F_INCOMPAT, header->incompat, 8);
    put_le(ret_bytes + F_FLAGS, header->flags, 4);
    put_le(ret_bytes + F_GENERATION, header->generation, 8);
    memcpy(ret_bytes + F_UUID, header->uuid, sizeof(header->uuid));
    memcpy(ret_bytes + F_LABEL, header->label, sizeof(header->label));
    put_le(ret_bytes + F_VOLUME_BYTES, header->volume_bytes, 8);
    put_le(ret_bytes + F_METADB_OFF, header->metadb_off, 8);
    put_le(ret_bytes + F_METADB_LEN, header->metadb_len, 8);
    put_le(ret_bytes + F_WAL_OFF, header->wal_off, 8);
    put_le(ret_bytes + F_WAL_LEN, header->wal_len, 8);
    put_le(ret_bytes + F_DATA_OFF, header->data_off, 8);
    put_le(ret_bytes + F_DATA_LEN, header->data_len, 8);
    put_le(ret_bytes + F_DATA_BLOCKS, header->data_blocks, 8);
    put_le(ret_bytes + F_CREATED_NS, (uint64_t)header->created_ns, 8);
    put_le(ret_bytes + F_NR_SEGMENTS, header->nr_segments, 4);
    for (uint32_t i = 0; i < header->nr_segments && i < HF_BLOCKFS_SEGMENTS_MAX; i++) {
        put_le(ret_bytes + F_SEGMENTS + 16 * i, header->segments[i].off, 8);
        put_le(ret_bytes + F_SEGMENTS + 16 * i + 8, header->segments[i].len, 8);
    }
    put_le(ret_bytes + F_CRC, crc32c(ret_bytes, F_CRC), 4);
}

int hf_blockfs_header_decode(const uint8_t bytes[HF_BLOCKFS_HEADER_BYTES],
                             struct hf_blockfs_header *ret_header)
{
    struct hf_blockfs_header header = {0};

    if (memcmp(bytes + F_MAGIC, HF_BLOCKFS_MAGIC, 8) != 0)
        return -EMEDIUMTYPE;
    if (get_le(bytes + F_CRC, 4) != crc32c(bytes, F_CRC))
        return -EUCLEAN;
    header.version = (uint32_t)get_le(bytes + F_VERSION, 4);
    header.block_size = (uint32_t)get_le(bytes + F_BLOCK_SIZE, 4);
    header.compat = get_le(bytes + F_COMPAT, 8);
    header.ro_compat = get_le(bytes + F_RO_COMPAT, 8);
    header.incompat = get_le(bytes + F_INCOMPAT, 8);
    header.flags = (uint32_t)get_le(bytes + F_FLAGS, 4);
    header.generation = get_le(bytes + F_GENERATION, 8);
    memcpy(header.uuid, bytes + F_UUID, sizeof(header.uuid));
    memcpy(header.label, bytes + F_LABEL, sizeof(header.label));
    header.volume_bytes = get_le(bytes + F_VOLUME_BYTES, 8);
    header.metadb_off = get_le(bytes + F_METADB_OFF, 8);
    header.metadb_len = get_le(bytes + F_METADB_LEN, 8);
    header.wal_off = get_le(bytes + F_WAL_OFF, 8);
    header.wal_len = get_le(bytes + F_WAL_LEN, 8);
    header.data_off = get_le(bytes + F_DATA_OFF, 8);
    header.data_len = get_le(bytes + F_DATA_LEN, 8);
    header.data_blocks = get_le(bytes + F_DATA_BLOCKS, 8);
    header.created_ns = (int64_t)get_le(bytes + F_CREATED_NS, 8);
    header.nr_segments = (uint32_t)get_le(bytes + F_NR_SEGMENTS, 4);
    for (uint32_t i = 0; i < header.nr_segments && i < HF_BLOCKFS_SEGMENTS_MAX; i++) {
        header.segments[i].off = get_le(bytes + F_SEGMENTS + 16 * i, 8);
        header.segments[i].len = get_le(bytes + F_SEGMENTS + 16 * i + 8, 8);
    }
    *ret_header = header;
    return 0;
}

/* ---- checking */

static bool block_size_ok(uint32_t block_size)
{
    return block_size >= HF_BLOCK_SIZE_MIN && block_size <= HF_BLOCK_SIZE_MAX &&
           (block_size & (block_size - 1)) == 0;
}

/* A region [off, off+len) has to begin at or after *floor and to end before limit; moves the floor. */
static int region_check(char *err, const char *what, uint64_t off, uint64_t len, uint64_t *floor,
                        uint64_t limit)
{
    if (off % ALIGN_BYTES != 0 || off > limit || len > limit - off)
        return fail(err, -EUCLEAN,
                    "damaged header: the %s region at %" PRIu64 ", %" PRIu64
                    " bytes, lies outside the volume or is not aligned",
                    what, off, len);
    if (off < *floor)
        return fail(err, -EUCLEAN, "damaged header: the %s region at %" PRIu64 " overlaps what precedes it",
                    what, off);
    *floor = off + len;
    return 0;
}

/* What the version and the features say; asked before anything else is believed. */
static int version_check(const struct hf_blockfs_header *header, bool read_only, char *err)
{
    uint64_t incompat = header->incompat & ~HF_BLOCKFS_INCOMPAT_KNOWN;
    uint64_t ro_compat = header->ro_compat & ~HF_BLOCKFS_RO_COMPAT_KNOWN;

    if (header->version == 0)
        return fail(err, -EUCLEAN, "damaged header: version 0");
    if (header->version > HF_BLOCKFS_VERSION)
        return fail(err, -EPROTONOSUPPORT,
                    "format version %u is newer than this Holdfast knows (%u): use a newer Holdfast",
                    header->version, HF_BLOCKFS_VERSION);
    if (incompat)
        return fail(err, -EPROTONOSUPPORT,
                    "the volume needs features unknown here (0x%" PRIx64 "): use a newer Holdfast", incompat);
    if (ro_compat && !read_only)
        return fail(err, -EPROTONOSUPPORT,
                    "features unknown here (0x%" PRIx64 ") allow reading only: open it read-only", ro_compat);
    return 0;
}

static int fields_check(const struct hf_blockfs_header *header, char *err)
{
    if (!block_size_ok(header->block_size))
        return fail(err, -EUCLEAN, "damaged header: block size %u", header->block_size);
    if (header->flags & ~HF_BLOCKFS_FLAGS_KNOWN)
        return fail(err, -EUCLEAN, "damaged header: flags 0x%x", header->flags);
    if (header->generation == 0)
        return fail(err, -EUCLEAN, "damaged header: generation 0");
    if (memchr(header->label, 0, sizeof(header->label)) == NULL)
        return fail(err, -EUCLEAN, "damaged header: the label has no end");
    if (header->volume_bytes < 2 * HF_BLOCKFS_HEADER_BYTES || header->volume_bytes > INT64_MAX ||
        header->volume_bytes % ALIGN_BYTES != 0)
        return fail(err, -EUCLEAN, "damaged header: volume of %" PRIu64 " bytes", header->volume_bytes);
    if (header->metadb_len == 0 || header->metadb_len % ALIGN_BYTES != 0)
        return fail(err, -EUCLEAN, "damaged header: metadata region of %" PRIu64 " bytes",
                    header->metadb_len);
    if (header->wal_len == 0 || header->wal_len % ALIGN_BYTES != 0)
        return fail(err, -EUCLEAN, "damaged header: WAL region of %" PRIu64 " bytes", header->wal_len);
    if (header->data_blocks == 0 || header->data_blocks > header->volume_bytes / header->block_size ||
        header->data_len != header->data_blocks * header->block_size ||
        header->data_off % header->block_size != 0)
        return fail(err, -EUCLEAN,
                    "damaged header: data region at %" PRIu64 ", %" PRIu64 " bytes, %" PRIu64 " blocks of %u",
                    header->data_off, header->data_len, header->data_blocks, header->block_size);
    return 0;
}

/* Segments lie behind the beginning of the data region, in order, and leave it at least a block. */
static int segments_check(const struct hf_blockfs_header *header, uint64_t limit, char *err)
{
    uint64_t floor = header->data_off + header->block_size;

    if (header->nr_segments > HF_BLOCKFS_SEGMENTS_MAX ||
        (header->nr_segments != 0) != ((header->incompat & HF_BLOCKFS_INCOMPAT_SEGMENTS) != 0))
        return fail(err, -EUCLEAN, "damaged header: %u metadata segments, feature flags 0x%" PRIx64,
                    header->nr_segments, header->incompat);
    for (uint32_t i = 0; i < header->nr_segments; i++) {
        const struct hf_blockfs_segment *segment = &header->segments[i];
        int ret;

        if (segment->len == 0 || segment->len % ALIGN_BYTES != 0)
            return fail(err, -EUCLEAN, "damaged header: metadata segment of %" PRIu64 " bytes", segment->len);
        ret = region_check(err, "metadata segment's", segment->off, segment->len, &floor, limit);
        if (ret)
            return ret;
    }
    return 0;
}

static int header_check(const struct hf_blockfs_header *header, const struct hf_device *dev, bool read_only,
                        char *err)
{
    uint64_t floor = HF_BLOCKFS_HEADER_BYTES;
    uint64_t limit;
    int ret;

    ret = version_check(header, read_only, err);
    if (!ret)
        ret = fields_check(header, err);
    if (ret)
        return ret;
    limit = header->volume_bytes - HF_BLOCKFS_HEADER_BYTES;
    ret = region_check(err, "metadata", header->metadb_off, header->metadb_len, &floor, limit);
    if (!ret)
        ret = region_check(err, "WAL", header->wal_off, header->wal_len, &floor, limit);
    if (!ret)
        ret = region_check(err, "data", header->data_off, header->data_len, &floor, limit);
    if (!ret)
        ret = segments_check(header, limit, err);
    if (ret)
        return ret;
    if (header->volume_bytes > (uint64_t)dev->size_bytes)
        return fail(err, -EUCLEAN, "truncated: header says %" PRIu64 " bytes, device has %" PRId64,
                    header->volume_bytes, dev->size_bytes);
    return 0;
}

/* ---- reading and writing */

static hf_off_t backup_off(const struct hf_device *dev)
{
    return (hf_off_t)((uint64_t)dev->size_bytes / ALIGN_BYTES * ALIGN_BYTES) - HF_BLOCKFS_HEADER_BYTES;
}

int hf_blockfs_header_read(struct hf_device *dev, bool read_only, struct hf_blockfs_header *ret_header,
                           enum hf_blockfs_copy *ret_copy, char err[HF_BLOCKFS_ERR])
{
    uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];
    struct hf_blockfs_header header;
    enum hf_blockfs_copy copy = HF_BLOCKFS_COPY_PRIMARY;
    int primary, backup = -EMEDIUMTYPE, ret;

    if (dev->size_bytes < HF_BLOCKFS_HEADER_BYTES)
        return fail(err, -EMEDIUMTYPE, "not a Holdfast volume: only %" PRId64 " bytes", dev->size_bytes);
    primary = hf_dev_read(dev, bytes, sizeof(bytes), 0);
    if (!primary)
        primary = hf_blockfs_header_decode(bytes, &header);
    if (primary) {
        copy = HF_BLOCKFS_COPY_BACKUP;
        backup = hf_dev_read(dev, bytes, sizeof(bytes), backup_off(dev));
        if (!backup)
            backup = hf_blockfs_header_decode(bytes, &header);
        if (backup && (primary == -EIO || backup == -EIO))
            return fail(err, -EIO, "input/output error while reading the header");
        if (primary == -EMEDIUMTYPE && backup == -EMEDIUMTYPE)
            return fail(err, -EMEDIUMTYPE, "not a Holdfast volume: no header");
        if (backup)
            return fail(err, -EUCLEAN, "damaged: neither copy of the header has a valid checksum");
    }
    ret = header_check(&header, dev, read_only, err);
    if (ret)
        return ret;
    *ret_header = header;
    if (ret_copy)
        *ret_copy = copy;
    return 0;
}

/* One copy, and a flush, so that at most one copy is ever in flight. */
static int copy_write(struct hf_device *dev, const uint8_t *bytes, hf_off_t off)
{
    int ret = hf_dev_write(dev, bytes, HF_BLOCKFS_HEADER_BYTES, off);

    return ret ? ret : hf_dev_flush(dev);
}

int hf_blockfs_header_write(struct hf_device *dev, const struct hf_blockfs_header *header)
{
    uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];
    int ret;

    hf_blockfs_header_encode(header, bytes);
    ret = copy_write(dev, bytes, (hf_off_t)(header->volume_bytes - HF_BLOCKFS_HEADER_BYTES));
    return ret ? ret : copy_write(dev, bytes, 0);
}

int hf_blockfs_header_write_copy(struct hf_device *dev, const struct hf_blockfs_header *header,
                                 enum hf_blockfs_copy copy)
{
    uint8_t bytes[HF_BLOCKFS_HEADER_BYTES];
    hf_off_t off = (hf_off_t)(header->volume_bytes - HF_BLOCKFS_HEADER_BYTES);

    hf_blockfs_header_encode(header, bytes);
    return copy_write(dev, bytes, copy == HF_BLOCKFS_COPY_PRIMARY ? 0 : off);
}

void hf_blockfs_header_mend_copy(struct hf_device *dev, const struct hf_blockfs_header *header)
{
    uint8_t wanted[HF_BLOCKFS_HEADER_BYTES], found[HF_BLOCKFS_HEADER_BYTES];
    hf_off_t off = (hf_off_t)(header->volume_bytes - HF_BLOCKFS_HEADER_BYTES);

    hf_blockfs_header_encode(header, wanted);
    if (hf_dev_read(dev, found, sizeof(found), off) == 0 && memcmp(found, wanted, sizeof(found)) != 0)
        copy_write(dev, wanted, off);
}

int hf_blockfs_header_erase(struct hf_device *dev)
{
    static const uint8_t zeros[HF_BLOCKFS_HEADER_BYTES];
    int ret = 0;

    /* The primary goes last: until then the old volume is whole, after that there is none. */
    if (backup_off(dev) >= HF_BLOCKFS_HEADER_BYTES)
        ret = copy_write(dev, zeros, backup_off(dev));
    return ret ? ret : copy_write(dev, zeros, 0);
}

int hf_blockfs_header_probe(struct hf_device *dev)
{
    char magic[8];
    int ret;

    if (dev->size_bytes < HF_BLOCKFS_HEADER_BYTES)
        return 0;
    ret = hf_dev_read(dev, magic, sizeof(magic), 0);
    if (!ret && memcmp(magic, HF_BLOCKFS_MAGIC, 8) == 0)
        return 1;
    if (!ret)
        ret = hf_dev_read(dev, magic, sizeof(magic), backup_off(dev));
    if (!ret && memcmp(magic, HF_BLOCKFS_MAGIC, 8) == 0)
        return 1;
    return ret;
}

/* ---- layout */

static uint64_t round_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) / align * align;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Small volumes give an eighth to the WAL, large ones a 64th. */
static uint64_t wal_bytes(uint64_t volume_bytes)
{
    uint64_t len = volume_bytes / 8;

    if (len > WAL_SMALL)
        len = WAL_SMALL;
    if (volume_bytes / 64 > len)
        len = volume_bytes / 64;
    if (len < WAL_MIN)
        len = WAL_MIN;
    return min_u64(len, WAL_MAX) / ALIGN_BYTES * ALIGN_BYTES;
}

static uint64_t metadb_base(uint64_t volume_bytes)
{
    return HF_BLOCKFS_BASE_BYTES + volume_bytes / HF_BLOCKFS_BASE_SHARE;
}

static int layout_options(const struct hf_mkfs_options *opts, struct hf_blockfs_header *header, char *err)
{
    header->version = HF_BLOCKFS_VERSION;
    header->block_size = 4096;
    if (!opts)
        return 0;
    if (opts->block_size)
        header->block_size = opts->block_size;
    if (!block_size_ok(header->block_size))
        return fail(err, -EINVAL, "block size %u: a power of two from %u to %u is needed", header->block_size,
                    HF_BLOCK_SIZE_MIN, HF_BLOCK_SIZE_MAX);
    if (memchr(opts->label, 0, sizeof(opts->label)) == NULL)
        return fail(err, -EINVAL, "the label is longer than %zu bytes", sizeof(opts->label) - 1);
    memcpy(header->label, opts->label, strlen(opts->label));
    header->flags = opts->thin ? HF_BLOCKFS_THIN : 0;
    return 0;
}

/* Fills the data region from off on, and says how much metadata its blocks need. */
static uint64_t layout_data(struct hf_blockfs_header *header, uint64_t off, uint64_t blocks_max)
{
    uint64_t end = header->volume_bytes - HF_BLOCKFS_HEADER_BYTES;

    header->data_off = round_up(off, header->block_size < ALIGN_BYTES ? ALIGN_BYTES : header->block_size);
    header->data_blocks = header->data_off < end ? (end - header->data_off) / header->block_size : 0;
    header->data_blocks = min_u64(header->data_blocks, blocks_max);
    header->data_len = header->data_blocks * header->block_size;
    return metadb_base(header->volume_bytes) + header->data_blocks * HF_BLOCKFS_EXTENT_BYTES;
}

int hf_blockfs_layout(uint64_t size_bytes, const struct hf_mkfs_options *opts,
                      struct hf_blockfs_header *ret_header, char err[HF_BLOCKFS_ERR])
{
    struct hf_blockfs_header header = {0};
    uint64_t fixed, room, need;
    int ret;

    ret = layout_options(opts, &header, err);
    if (ret)
        return ret;
    if (size_bytes > INT64_MAX)
        return fail(err, -EINVAL, "a volume of %" PRIu64 " bytes is too large", size_bytes);
    header.volume_bytes = size_bytes / ALIGN_BYTES * ALIGN_BYTES;
    header.metadb_off = HF_BLOCKFS_HEADER_BYTES;
    header.wal_len = wal_bytes(header.volume_bytes);
    fixed = 2ull * HF_BLOCKFS_HEADER_BYTES + header.wal_len + metadb_base(header.volume_bytes) + ALIGN_BYTES;
    if (header.volume_bytes < fixed + DATA_MIN)
        return fail(err, -ENOSPC, "%" PRIu64 " bytes are too few for a volume: 1 MiB is the least",
                    size_bytes);

    /* Every block costs itself and its share of metadata. */
    room = (header.volume_bytes - fixed) / (header.block_size + HF_BLOCKFS_EXTENT_BYTES);
    header.metadb_len =
        round_up(metadb_base(header.volume_bytes) + room * HF_BLOCKFS_EXTENT_BYTES, ALIGN_BYTES);
    if (opts && opts->metadata_bytes) {
        if (opts->metadata_bytes > header.volume_bytes)
            return fail(err, -ENOSPC, "%" PRIu64 " bytes of metadata do not fit on the volume",
                        opts->metadata_bytes);
        header.metadb_len = round_up(opts->metadata_bytes, ALIGN_BYTES);
    }
    header.wal_off = header.metadb_off + header.metadb_len;
    need = layout_data(&header, header.wal_off + header.wal_len, UINT64_MAX);
    if (!opts || !opts->metadata_bytes)
        need = layout_data(&header, header.wal_off + header.wal_len,
                           (header.metadb_len - metadb_base(header.volume_bytes)) / HF_BLOCKFS_EXTENT_BYTES);
    if (header.data_len < DATA_MIN / 2)
        return fail(err, -ENOSPC, "%" PRIu64 " bytes leave no room for data", size_bytes);
    if (header.metadb_len / ALIGN_BYTES > HF_BLOCKFS_METADB_PAGES)
        return fail(err, -EINVAL,
                    "a volume of %" PRIu64 " bytes is too large: its metadata, %" PRIu64
                    " bytes, can be 16 TiB; larger blocks need less",
                    size_bytes, header.metadb_len);
    if (header.metadb_len < need)
        return fail(err, -EINVAL,
                    "metadata of %" PRIu64 " bytes is too little: %" PRIu64 " blocks need %" PRIu64,
                    header.metadb_len, header.data_blocks, need);
    *ret_header = header;
    return 0;
}

/* ---- growing */

uint64_t hf_blockfs_hole(const struct hf_blockfs_header *header, uint32_t i, uint64_t *ret_blk)
{
    const struct hf_blockfs_segment *segment = &header->segments[i];
    uint64_t first = (segment->off - header->data_off) / header->block_size;
    uint64_t end =
        round_up(segment->off + segment->len - header->data_off, header->block_size) / header->block_size;

    *ret_blk = min_u64(first, header->data_blocks);
    return min_u64(end, header->data_blocks) - *ret_blk;
}

int hf_blockfs_layout_grown(const struct hf_blockfs_header *old, uint64_t size_bytes,
                            struct hf_blockfs_header *ret_header, char err[HF_BLOCKFS_ERR])
{
    struct hf_blockfs_header header = *old;
    uint64_t have = hf_blockfs_metadb_bytes(old), end, need;

    header.volume_bytes = size_bytes / ALIGN_BYTES * ALIGN_BYTES;
    if (size_bytes > INT64_MAX || header.volume_bytes < old->volume_bytes)
        return fail(err, -EINVAL, "a volume of %" PRIu64 " bytes cannot become one of %" PRIu64,
                    old->volume_bytes, size_bytes);
    if (header.volume_bytes == old->volume_bytes)
        return fail(err, -EALREADY, "the volume has %" PRIu64 " bytes already", old->volume_bytes);
    end = header.volume_bytes - HF_BLOCKFS_HEADER_BYTES;
    need = metadb_base(header.volume_bytes) +
           (end - header.data_off) / header.block_size * HF_BLOCKFS_EXTENT_BYTES;
    if (need > have) {
        struct hf_blockfs_segment segment = {.len = round_up(need - have, ALIGN_BYTES)};

        if (need / ALIGN_BYTES > HF_BLOCKFS_METADB_PAGES)
            return fail(err, -EINVAL,
                        "a volume of %" PRIu64 " bytes is too large: its metadata can be 16 TiB", size_bytes);
        if (header.nr_segments == HF_BLOCKFS_SEGMENTS_MAX)
            return fail(err, -ENOSPC, "the volume has grown %u times: that is all there is room for",
                        HF_BLOCKFS_SEGMENTS_MAX);
        /* The old copy of the header stays whole until the new headers are there. */
        segment.off = segment.len < end ? end - segment.len : 0;
        if (segment.off < old->volume_bytes)
            return fail(err, -EINVAL, "%" PRIu64 " bytes more are too few to grow by",
                        header.volume_bytes - old->volume_bytes);
        header.segments[header.nr_segments++] = segment;
        header.incompat |= HF_BLOCKFS_INCOMPAT_SEGMENTS;
        end = segment.off;
    }
    header.data_blocks = (end - header.data_off) / header.block_size;
    header.data_len = header.data_blocks * header.block_size;
    if (header.data_blocks <= old->data_blocks)
        return fail(err, -EINVAL, "%" PRIu64 " bytes more are too few to grow by",
                    header.volume_bytes - old->volume_bytes);
    header.generation++;
    *ret_header = header;
    return 0;
}
