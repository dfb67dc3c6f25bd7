/* SPDX-License-Identifier: MIT */
/*
 * metadb_vfs.c - two regions of a device as the two files SQLite needs: the database and its WAL.
 *
 * There are no names and no file sizes on the device, so:
 *   database  Its size is what page 1 says (bytes 28..31, trusted as SQLite trusts them). Too small a size,
 * as a crash in the middle of a checkpoint leaves it, does no harm: all that lies beyond is in the WAL still.
 *   WAL       Its size is always the whole region. What lies after the last commit is garbage to SQLite
 * anyway: each frame bears the salts of the WAL header, drawn anew at each reset, and a checksum chained from
 * there. To truncate or delete the WAL is to overwrite its header with zeros; that need not be durable, for
 * the log it hides has been checkpointed and may be replayed any number of times. Anything else SQLite might
 * open (rollback journals, temporary files) is refused: it would have no place.
 *
 * Honesty: no I/O capability is claimed. Without POWERSAFE_OVERWRITE SQLite pads each commit up to a sector
 * boundary, so that a sector torn by the next commit never held a frame that had been promised; the price is
 * one more frame a commit. Writes past a region are SQLITE_FULL and reach nobody else's bytes. Exclusive
 * locking makes the locking and shared-memory methods needless: the device is locked as a whole.
 */
#include "fs/blockfs/metadb_vfs.h"

#include "fs/blockfs/testing.h"

#include "dev/device_io.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 4096

struct vfs_file {
    sqlite3_file base;
    struct hf_metadb_vfs *vfs;
    bool is_wal;
};

static struct hf_metadb_vfs *to_vfs(sqlite3_vfs *base)
{
    return (struct hf_metadb_vfs *)base;
}

static struct vfs_file *to_file(sqlite3_file *base)
{
    return (struct vfs_file *)base;
}

static int64_t file_max(const struct vfs_file *file)
{
    return file->is_wal ? file->vfs->wal.len : file->vfs->db_max;
}

/* Where on the device a byte of the file is, inside file_max(). SQLite never crosses a page's border. */
static hf_off_t file_addr(const struct vfs_file *file, int64_t off)
{
    const struct hf_metadb_region *region = file->is_wal ? &file->vfs->wal : file->vfs->db;

    for (uint32_t i = 1; !file->is_wal && i < file->vfs->nr_db && off >= region->len; i++) {
        off -= region->len;
        region++;
    }
    return region->off + off;
}

static int64_t file_bytes(const struct vfs_file *file)
{
    return file->is_wal ? file->vfs->wal.len : file->vfs->db_bytes;
}

/* ---- the methods of a file */

static int file_close(sqlite3_file *base)
{
    (void)base;
    return SQLITE_OK;
}

/* Reads of the WAL count as use, too: recovery reads each frame it believes, and one more. */
static void wal_used(struct hf_metadb_vfs *vfs, int64_t end)
{
    if (vfs->wal_end < end)
        vfs->wal_end = end;
}

static int file_read(sqlite3_file *base, void *buf, int amount, sqlite3_int64 off)
{
    struct vfs_file *file = to_file(base);
    int64_t bytes = file_bytes(file);
    int64_t there = off >= bytes ? 0 : bytes - off;
    size_t len = (size_t)(there < amount ? there : amount);

    if (hf_dev_read(file->vfs->dev, buf, len, file_addr(file, off)))
        return SQLITE_IOERR_READ;
    if (file->is_wal)
        wal_used(file->vfs, off + (int64_t)len);
    if (len == (size_t)amount)
        return SQLITE_OK;
    memset((char *)buf + len, 0, (size_t)amount - len);
    return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *buf, int amount, sqlite3_int64 off)
{
    struct vfs_file *file = to_file(base);
    struct hf_metadb_vfs *vfs = file->vfs;
    int ret;

    if (vfs->read_only)
        return SQLITE_READONLY;
    if (off > file_max(file) || amount > file_max(file) - off)
        return SQLITE_FULL;
    /* A new WAL header starts a new log. Before the write: if it fails, SQLite starts at 0 again. */
    if (file->is_wal && off == 0)
        vfs->wal_end = 0;
    ret = hf_dev_write(vfs->dev, buf, (size_t)amount, file_addr(file, off));
    if (ret)
        return ret == -ENOSPC ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    if (file->is_wal)
        wal_used(vfs, off + amount);
    else if (vfs->db_bytes < off + amount)
        vfs->db_bytes = off + amount;
    return SQLITE_OK;
}

static int wal_reset(struct hf_metadb_vfs *vfs)
{
    static const char zeros[SECTOR];

    if (vfs->read_only)
        return SQLITE_READONLY;
    if (hf_dev_write(vfs->dev, zeros, sizeof(zeros), vfs->wal.off))
        return SQLITE_IOERR_TRUNCATE;
    vfs->wal_end = 0;
    return SQLITE_OK;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct vfs_file *file = to_file(base);

    if (file->is_wal)
        return size == 0 ? wal_reset(file->vfs) : SQLITE_OK;
    if (file->vfs->read_only)
        return SQLITE_READONLY;
    if (size > file->vfs->db_max)
        return SQLITE_FULL;
    file->vfs->db_bytes = size;
    return SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags)
{
    (void)flags;
    if (to_file(base)->is_wal ? HF_BROKEN(skip_log_flush) : HF_BROKEN(skip_checkpoint_flush))
        return SQLITE_OK;
    return hf_dev_flush(to_file(base)->vfs->dev) ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret_size)
{
    *ret_size = file_bytes(to_file(base));
    return SQLITE_OK;
}

static int file_lock(sqlite3_file *base, int level)
{
    (void)base;
    (void)level;
    return SQLITE_OK;
}

static int file_check_reserved(sqlite3_file *base, int *ret_reserved)
{
    (void)base;
    *ret_reserved = 0;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int op, void *arg)
{
    (void)base;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *base)
{
    (void)base;
    return SECTOR;
}

static int file_characteristics(sqlite3_file *base)
{
    (void)base;
    return 0;
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 1, /* no shared memory, no memory mapping */
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
};

/* ---- the methods of the vfs */

static bool is_wal_name(const char *name)
{
    return strcmp(name, HF_METADB_FILE "-wal") == 0;
}

static int vfs_open(sqlite3_vfs *base, const char *name, sqlite3_file *ret_file, int flags, int *ret_flags)
{
    struct vfs_file *file = to_file(ret_file);
    bool is_wal = flags & SQLITE_OPEN_WAL;

    file->base.pMethods = NULL;
    if (!(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) || !name)
        return SQLITE_CANTOPEN;
    if (is_wal ? !is_wal_name(name) : strcmp(name, HF_METADB_FILE) != 0)
        return SQLITE_CANTOPEN;
    file->vfs = to_vfs(base);
    file->is_wal = is_wal;
    file->base.pMethods = &file_methods;
    if (is_wal)
        file->vfs->wal_exists = true;
    if (ret_flags) {
        *ret_flags = flags;
        if (file->vfs->read_only)
            *ret_flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *name, int sync_dir)
{
    (void)sync_dir;
    return is_wal_name(name) ? wal_reset(to_vfs(base)) : SQLITE_IOERR_DELETE_NOENT;
}

static int vfs_access(sqlite3_vfs *base, const char *name, int flags, int *ret_yes)
{
    (void)flags;
    *ret_yes = is_wal_name(name) ? to_vfs(base)->wal_exists : strcmp(name, HF_METADB_FILE) == 0;
    return SQLITE_OK;
}

static int vfs_full_pathname(sqlite3_vfs *base, const char *name, int size, char *ret_path)
{
    (void)base;
    return snprintf(ret_path, (size_t)size, "%s", name) < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_randomness(sqlite3_vfs *base, int len, char *ret_bytes)
{
    sqlite3_vfs *host = to_vfs(base)->host;

    return host->xRandomness(host, len, ret_bytes);
}

static int vfs_sleep(sqlite3_vfs *base, int microseconds)
{
    sqlite3_vfs *host = to_vfs(base)->host;

    return host->xSleep(host, microseconds);
}

static int vfs_current_time(sqlite3_vfs *base, double *ret_julian_day)
{
    sqlite3_vfs *host = to_vfs(base)->host;

    return host->xCurrentTime(host, ret_julian_day);
}

static int vfs_last_error(sqlite3_vfs *base, int size, char *ret_text)
{
    (void)base;
    (void)size;
    (void)ret_text;
    return 0;
}

/* ---- making one */

static uint32_t get_be32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* The size page 1 claims; where it cannot be trusted, the region's, and SQLite finds out the rest. */
static int vfs_read_size(struct hf_metadb_vfs *vfs)
{
    uint8_t head[100];
    int64_t bytes;
    int ret;

    ret = hf_dev_read(vfs->dev, head, sizeof(head), vfs->db[0].off);
    if (ret)
        return ret;
    bytes = (int64_t)get_be32(head + 28) * HF_METADB_PAGE;
    if (bytes == 0 || bytes > vfs->db_max || memcmp(head + 24, head + 92, 4) != 0)
        bytes = vfs->db_max;
    vfs->db_bytes = bytes;
    return 0;
}

static void vfs_fill(struct hf_metadb_vfs *vfs)
{
    static atomic_uint counter;

    snprintf(vfs->name, sizeof(vfs->name), "holdfast-%u", atomic_fetch_add(&counter, 1));
    vfs->base = (sqlite3_vfs){
        .iVersion = 1,
        .szOsFile = sizeof(struct vfs_file),
        .mxPathname = 64,
        .zName = vfs->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_current_time,
        .xGetLastError = vfs_last_error,
    };
}

void hf_metadb_vfs_regions(struct hf_metadb_vfs *vfs, const struct hf_blockfs_header *header)
{
    vfs->db[0] = (struct hf_metadb_region){(hf_off_t)header->metadb_off, (hf_off_t)header->metadb_len};
    for (uint32_t i = 0; i < header->nr_segments; i++)
        vfs->db[i + 1] =
            (struct hf_metadb_region){(hf_off_t)header->segments[i].off, (hf_off_t)header->segments[i].len};
    vfs->nr_db = 1 + header->nr_segments;
    vfs->db_max = (int64_t)hf_blockfs_metadb_bytes(header);
}

int hf_metadb_vfs_guarantee(struct hf_metadb_vfs *vfs, int64_t from, int64_t to)
{
    int64_t start = 0;
    int ret = 0;

    for (uint32_t i = 0; i < vfs->nr_db && ret == 0; i++) {
        const struct hf_metadb_region *region = &vfs->db[i];
        int64_t first = from > start ? from - start : 0;
        int64_t end = to - start < region->len ? to - start : region->len;

        if (first < end)
            ret = hf_dev_guarantee(vfs->dev, region->off + first, end - first);
        start += region->len;
    }
    return ret;
}

int hf_metadb_vfs_new(struct hf_device *dev, const struct hf_blockfs_header *header, bool read_only,
                      bool make, struct hf_metadb_vfs **ret_vfs)
{
    struct hf_metadb_vfs *vfs;
    int ret = 0;

    if (sqlite3_initialize() != SQLITE_OK)
        return -ENOMEM;
    vfs = calloc(1, sizeof(*vfs));
    if (!vfs)
        return -ENOMEM;
    vfs->dev = dev;
    vfs->read_only = read_only;
    vfs->wal_exists = !make;
    hf_metadb_vfs_regions(vfs, header);
    vfs->wal = (struct hf_metadb_region){(hf_off_t)header->wal_off, (hf_off_t)header->wal_len};
    vfs->host = sqlite3_vfs_find(NULL);
    vfs_fill(vfs);
    if (!make)
        ret = vfs_read_size(vfs);
    if (!ret && (!vfs->host || sqlite3_vfs_register(&vfs->base, 0) != SQLITE_OK))
        ret = -ENOMEM;
    if (ret) {
        free(vfs);
        return ret;
    }
    *ret_vfs = vfs;
    return 0;
}

void hf_metadb_vfs_free(struct hf_metadb_vfs *vfs)
{
    if (!vfs)
        return;
    sqlite3_vfs_unregister(&vfs->base);
    free(vfs);
}
