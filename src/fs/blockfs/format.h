/* SPDX-License-Identifier: MIT */
/*
 * format.h - what a blockfs volume looks like on its device: the header and the regions.
 *
 *   0           header, 4096 bytes
 *   metadb_off  metadata region: an SQLite database file, pages of 4096 bytes
 *   wal_off     WAL region: the write-ahead log of that database
 *   data_off    data region: data_blocks blocks of block_size bytes
 *   end - 4096  copy of the header
 *
 * A volume that has grown has more metadata regions ("segments"), each where the volume then ended. The data
 * region goes on behind them: the blocks that they cover are holes of it, and never used.
 *
 * Invariants of a header that hf_blockfs_header_read() accepted: the regions lie in that order, do not
 * overlap, lie between the two headers and on the device; data_len == data_blocks * block_size; all other
 * offsets and lengths are multiples of 4096, and data_off is a multiple of block_size, too.
 * The bytes are described in docs/format.md. Nothing here takes a lock.
 */
#ifndef HF_FS_BLOCKFS_FORMAT_H
#define HF_FS_BLOCKFS_FORMAT_H

#include <holdfast/device.h>

#define HF_BLOCKFS_MAGIC "HOLDFAST" /* 8 bytes, no NUL */
#define HF_BLOCKFS_VERSION 1u
#define HF_BLOCKFS_HEADER_BYTES 4096u
#define HF_BLOCKFS_ERR 256 /* size of every err[] below: one line, no newline, NUL-terminated */

/* Feature flags that this version knows; a volume with others is refused as their kind says. */
#define HF_BLOCKFS_COMPAT_KNOWN 0ull      /* unknown ones: ignored */
#define HF_BLOCKFS_RO_COMPAT_KNOWN 0ull   /* unknown ones: read only */
#define HF_BLOCKFS_INCOMPAT_KNOWN 1ull    /* unknown ones: not at all */
#define HF_BLOCKFS_INCOMPAT_SEGMENTS 1ull /* set if and only if there are segments */

/* hf_blockfs_header.flags; others must be zero. */
#define HF_BLOCKFS_THIN 0x1u /* blocks and metadata were not preallocated: ask the device's guarantee() */
#define HF_BLOCKFS_FLAGS_KNOWN 0x1u

/*
 * Bytes of metadata region per data block, and for everything that is not an extent. One extent row takes at
 * most 26 bytes; SQLite never leaves a leaf page less than a third full, so 80 do whatever the history of
 * inserts and deletes was; the rest is for interior pages and margin.
 */
#define HF_BLOCKFS_EXTENT_BYTES 96u
#define HF_BLOCKFS_BASE_BYTES (128u << 10)
#define HF_BLOCKFS_BASE_SHARE 64u /* plus this part of the volume, for inodes and names */

#define HF_BLOCKFS_METADB_PAGES 0xfffffffeu /* pages of 4096 bytes that an SQLite database can have */

#define HF_BLOCKFS_SEGMENTS_MAX 64u /* so often a volume can grow */
/* A part of the metadata region that lies by itself: bytes. */
struct hf_blockfs_segment {
    uint64_t off, len;
};

/* The header in memory. All offsets and lengths in bytes. */
struct hf_blockfs_header {
    uint32_t version;
    uint64_t compat, ro_compat, incompat;
    uint32_t block_size; /* B */
    uint32_t flags;      /* HF_BLOCKFS_THIN */
    uint64_t generation; /* counts the writes of the header; from 1 */
    uint8_t uuid[16];
    char label[64]; /* NUL-terminated, NUL-padded */
    uint64_t volume_bytes;
    uint64_t metadb_off, metadb_len;
    uint64_t wal_off, wal_len;
    uint64_t data_off, data_len;
    uint64_t data_blocks;
    int64_t created_ns; /* since the epoch */
    uint32_t nr_segments;
    struct hf_blockfs_segment segments[HF_BLOCKFS_SEGMENTS_MAX]; /* in order of their offsets */
};

/* All of the metadata region. */
static inline uint64_t hf_blockfs_metadb_bytes(const struct hf_blockfs_header *header)
{
    uint64_t bytes = header->metadb_len;

    for (uint32_t i = 0; i < header->nr_segments; i++)
        bytes += header->segments[i].len;
    return bytes;
}

/* The blocks of the data region that segment i covers: [*ret_blk, *ret_blk + the returned number). */
uint64_t hf_blockfs_hole(const struct hf_blockfs_header *header, uint32_t i, uint64_t *ret_blk);

enum hf_blockfs_copy { HF_BLOCKFS_COPY_PRIMARY = 0, HF_BLOCKFS_COPY_BACKUP };

/*
 * Reads the primary header or, if that is damaged, the copy at the end of the device, and checks it against
 * the device. read_only: how the volume is going to be used (ro_compat features). Writes nothing. Returns 0;
 * -EMEDIUMTYPE: not a volume; -EPROTONOSUPPORT: newer version or unknown feature; -EUCLEAN: damaged or
 * truncated; -EIO. On failure err says why. ret_copy may be NULL.
 */
int hf_blockfs_header_read(struct hf_device *dev, bool read_only, struct hf_blockfs_header *ret_header,
                           enum hf_blockfs_copy *ret_copy, char err[HF_BLOCKFS_ERR]);

/* Writes both copies, the primary last, each followed by a flush. Returns 0, -EIO, -ENOSPC, -EROFS. */
int hf_blockfs_header_write(struct hf_device *dev, const struct hf_blockfs_header *header);

/* The volume was read by its primary: its copy becomes the same, unless it is. What a cut between the two
 * writes left, or damage, ends here; if it cannot, the next check tells. */
void hf_blockfs_header_mend_copy(struct hf_device *dev, const struct hf_blockfs_header *header);

/* Writes one copy, and flushes: for a repair, whose other copy must not be in flight. As above. */
int hf_blockfs_header_write_copy(struct hf_device *dev, const struct hf_blockfs_header *header,
                                 enum hf_blockfs_copy copy);

/* Overwrites both copies with zeros and flushes: from here on the device is not a volume. */
int hf_blockfs_header_erase(struct hf_device *dev);

/* True if either copy bears the magic, however damaged the rest is. Returns 1, 0, or -EIO. */
int hf_blockfs_header_probe(struct hf_device *dev);

/* Divides size_bytes into regions as opts wants it; fills everything but uuid, generation and created_ns.
 * Returns 0; -EINVAL: an option; -ENOSPC: too small. */
int hf_blockfs_layout(uint64_t size_bytes, const struct hf_mkfs_options *opts,
                      struct hf_blockfs_header *ret_header, char err[HF_BLOCKFS_ERR]);

/*
 * The header of the volume when it has grown to size_bytes; the regions of the old one stay where they are.
 * Returns 0; -EALREADY: it has that size; -EINVAL: smaller, or hardly larger; -ENOSPC: has grown too often.
 */
int hf_blockfs_layout_grown(const struct hf_blockfs_header *old, uint64_t size_bytes,
                            struct hf_blockfs_header *ret_header, char err[HF_BLOCKFS_ERR]);

/* The bytes on disk from a header (encode computes the checksum), and back without judging the values;
 * decode: 0, -EMEDIUMTYPE (no magic), -EUCLEAN (checksum). */
void hf_blockfs_header_encode(const struct hf_blockfs_header *header,
                              uint8_t ret_bytes[HF_BLOCKFS_HEADER_BYTES]);
int hf_blockfs_header_decode(const uint8_t bytes[HF_BLOCKFS_HEADER_BYTES],
                             struct hf_blockfs_header *ret_header);

/*
 * Formats dev. opts may be NULL; opts->size_bytes, if not 0, must fit on dev. A device that offers
 * guarantee() is asked for all of the volume (thick) or for the headers, the WAL and the beginning of the
 * metadata region (opts->thin). Returns 0;
 * -EEXIST: holds a volume and !opts->force; -EINVAL; -ENOSPC; -EIO; -EROFS. An interrupted or failed call
 * leaves no volume behind, except that -EEXIST, -EINVAL, and -ENOSPC for a size leave dev alone.
 */
int hf_blockfs_mkfs(struct hf_device *dev, const struct hf_mkfs_options *opts, char err[HF_BLOCKFS_ERR]);

/*
 * All of hf_mkfs(): opens path, creating a regular file if opts->size_bytes says how large, formats, closes.
 * A file that this call created is removed on failure; one that it extended gets its old size back.
 * Returns what hf_mkfs() does, or what opening the file returned.
 */
int hf_blockfs_mkfs_path(const char *path, const struct hf_mkfs_options *opts, char err[HF_BLOCKFS_ERR]);

#endif
