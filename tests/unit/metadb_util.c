/* SPDX-License-Identifier: MIT */
/* metadb_util.c - see metadb_util.h. */
#include "metadb_util.h"

#define COPY_CHUNK (1 << 20)
#define LOG_SECTOR 512
#define LOG_SECTOR_LARGE 4096 /* of the disks that spoil a whole one */

struct hf_device *volume_new(hf_off_t bytes, uint32_t block_size, struct hf_blockfs_header *ret_header)
{
    struct hf_mkfs_options opts = {.block_size = block_size};
    struct hf_device *dev;
    char err[HF_BLOCKFS_ERR] = "";
    int ret;

    assert_ok(hf_device_mem_new(bytes, &dev));
    ret = hf_blockfs_mkfs(dev, &opts, err);
    assert_that(ret == 0, "mkfs: %s (%d)", err, ret);
    ret = hf_blockfs_header_read(dev, false, ret_header, NULL, err);
    assert_that(ret == 0, "header: %s (%d)", err, ret);
    return dev;
}

struct hf_device *image_copy(struct hf_device *dev)
{
    char *buf = malloc(COPY_CHUNK);
    struct hf_device *copy;

    assert_non_null(buf);
    assert_ok(hf_device_mem_new(dev->size_bytes, &copy));
    for (hf_off_t off = 0; off < dev->size_bytes; off += COPY_CHUNK) {
        size_t len = (size_t)(dev->size_bytes - off < COPY_CHUNK ? dev->size_bytes - off : COPY_CHUNK);

        assert_ok(hf_dev_read(dev, buf, len, off));
        assert_ok(hf_dev_write(copy, buf, len, off));
    }
    free(buf);
    return copy;
}

bool image_same(struct hf_device *a, struct hf_device *b)
{
    char bytes_a[4096], bytes_b[4096];

    assert_true(a->size_bytes == b->size_bytes);
    for (hf_off_t off = 0; off < a->size_bytes; off += (hf_off_t)sizeof(bytes_a)) {
        assert_ok(hf_dev_read(a, bytes_a, sizeof(bytes_a), off));
        assert_ok(hf_dev_read(b, bytes_b, sizeof(bytes_b), off));
        if (memcmp(bytes_a, bytes_b, sizeof(bytes_a)) != 0)
            return false;
    }
    return true;
}

void image_flip(struct hf_device *dev, uint64_t off, uint8_t mask)
{
    uint8_t byte;

    assert_ok(hf_dev_read(dev, &byte, 1, (hf_off_t)off));
    byte ^= mask;
    assert_ok(hf_dev_write(dev, &byte, 1, (hf_off_t)off));
}

struct hf_metadb *metadb_open(struct hf_device *dev, const struct hf_blockfs_header *header)
{
    struct hf_metadb *db = NULL;
    char err[HF_BLOCKFS_ERR] = "";
    int ret = hf_metadb_open(dev, header, false, err, &db);

    assert_that(ret == 0, "open: %s (%d)", err, ret);
    return db;
}

int sql_rc(struct hf_metadb *db, const char *text)
{
    return sqlite3_exec(hf_metadb_handle(db), text, NULL, NULL, NULL);
}

void sql(struct hf_metadb *db, const char *text)
{
    int rc = sql_rc(db, text);

    assert_that(rc == SQLITE_OK, "%s: %s", text, sqlite3_errmsg(hf_metadb_handle(db)));
}

int64_t sql_number(struct hf_metadb *db, const char *text)
{
    sqlite3_stmt *stmt;
    int64_t number;

    assert_int_equal(sqlite3_prepare_v2(hf_metadb_handle(db), text, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    number = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return number;
}

/* ---- rows that agree */

void rows_create(struct hf_metadb *db, int nr_rows)
{
    char text[256];

    snprintf(text, sizeof(text),
             "CREATE TABLE rows(k INTEGER PRIMARY KEY, generation INTEGER, pad BLOB);"
             "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < %d) "
             "INSERT INTO rows SELECT k, 0, zeroblob(1000) FROM n",
             nr_rows);
    assert_ok(hf_metadb_begin(db));
    sql(db, text);
    assert_ok(hf_metadb_commit(db));
}

int rows_step(struct hf_metadb *db, int64_t generation)
{
    char text[128];
    int ret = hf_metadb_begin(db);
    int rc;

    if (ret)
        return ret;
    snprintf(text, sizeof(text), "UPDATE rows SET generation = %lld, pad = randomblob(1000)",
             (long long)generation);
    rc = sql_rc(db, text);
    if (rc != SQLITE_OK) {
        hf_metadb_rollback(db);
        return hf_metadb_errno(rc);
    }
    return hf_metadb_commit(db);
}

int64_t rows_generation(struct hf_metadb *db)
{
    if (sql_number(db, "SELECT count(DISTINCT generation) FROM rows") != 1)
        return -1;
    return sql_number(db, "SELECT min(generation) FROM rows");
}

/* ---- the log */

struct log_entry {
    char *bytes; /* NULL: a flush */
    size_t len;
    hf_off_t off;
};

struct write_log {
    struct hf_device base;
    struct hf_device *lower;
    struct log_entry *entries;
    size_t nr, capacity;
};

static void log_add(struct write_log *log, const void *buf, size_t len, hf_off_t off)
{
    struct log_entry *entry;

    if (log->nr == log->capacity) {
        log->capacity = log->capacity ? 2 * log->capacity : 64;
        log->entries = realloc(log->entries, log->capacity * sizeof(*log->entries));
        assert_non_null(log->entries);
    }
    entry = &log->entries[log->nr++];
    *entry = (struct log_entry){.len = len, .off = off};
    if (buf) {
        entry->bytes = malloc(len);
        assert_non_null(entry->bytes);
        memcpy(entry->bytes, buf, len);
    }
}

static int log_read(struct hf_device *dev, void *buf, size_t len, hf_off_t off)
{
    return hf_dev_read(((struct write_log *)dev)->lower, buf, len, off);
}

static int log_write(struct hf_device *dev, const void *buf, size_t len, hf_off_t off)
{
    struct write_log *log = (struct write_log *)dev;

    log_add(log, buf, len, off);
    return hf_dev_write(log->lower, buf, len, off);
}

static int log_flush(struct hf_device *dev)
{
    struct write_log *log = (struct write_log *)dev;

    log_add(log, NULL, 0, 0);
    return hf_dev_flush(log->lower);
}

static void log_close(struct hf_device *dev)
{
    struct write_log *log = (struct write_log *)dev;

    for (size_t i = 0; i < log->nr; i++)
        free(log->entries[i].bytes);
    free(log->entries);
    hf_dev_close(log->lower);
    free(log);
}

struct hf_device *log_new(struct hf_device *lower, struct write_log **ret_log)
{
    static const struct hf_device_ops ops = {
        .read = log_read,
        .write = log_write,
        .flush = log_flush,
        .close = log_close,
    };
    struct write_log *log = calloc(1, sizeof(*log));

    assert_non_null(log);
    log->base.ops = &ops;
    log->base.size_bytes = lower->size_bytes;
    log->lower = lower;
    *ret_log = log;
    return &log->base;
}

size_t log_count(const struct write_log *log)
{
    return log->nr;
}

static unsigned next_random(unsigned *state)
{
    *state = *state * 1103515245u + 12345u;
    return *state >> 16;
}

/* A torn write: each sector it touches gets its part of it, or not. */
static void apply_torn(struct hf_device *image, const struct log_entry *entry, unsigned *state)
{
    hf_off_t end = entry->off + (hf_off_t)entry->len;
    hf_off_t next;

    for (hf_off_t off = entry->off; off < end; off = next) {
        next = (off / LOG_SECTOR + 1) * LOG_SECTOR;
        if (next > end)
            next = end;
        if (next_random(state) & 1)
            assert_ok(hf_dev_write(image, entry->bytes + (off - entry->off), (size_t)(next - off), off));
    }
}

/* A sector in flight takes with it what stood next to the bytes being written. */
static void apply_garbage(struct hf_device *image, const struct log_entry *entry, unsigned *state)
{
    hf_off_t end = entry->off + (hf_off_t)entry->len;
    unsigned char garbage[LOG_SECTOR_LARGE];

    for (hf_off_t sector = entry->off / LOG_SECTOR_LARGE * LOG_SECTOR_LARGE; sector < end;
         sector += LOG_SECTOR_LARGE) {
        hf_off_t from = sector < entry->off ? entry->off : sector;
        hf_off_t to = end < sector + LOG_SECTOR_LARGE ? end : sector + LOG_SECTOR_LARGE;
        unsigned what = next_random(state) % 3;

        if (what == 0) {
            for (size_t i = 0; i < sizeof(garbage); i++)
                garbage[i] = (unsigned char)next_random(state);
            assert_ok(hf_dev_write(image, garbage, sizeof(garbage), sector));
        } else if (what == 1) {
            assert_ok(hf_dev_write(image, entry->bytes + (from - entry->off), (size_t)(to - from), from));
        }
    }
}

struct hf_device *log_image(const struct write_log *log, struct hf_device *base, size_t nr, enum log_cut cut,
                            unsigned seed)
{
    struct hf_device *image = image_copy(base);
    unsigned state = seed;
    size_t flushed = 0;

    for (size_t i = 0; i < nr; i++)
        if (!log->entries[i].bytes)
            flushed = i;
    for (size_t i = 0; i < nr; i++) {
        const struct log_entry *entry = &log->entries[i];

        if (!entry->bytes)
            continue;
        if (i < flushed || cut == LOG_CUT_ALL)
            assert_ok(hf_dev_write(image, entry->bytes, entry->len, entry->off));
        else if (cut == LOG_CUT_RANDOM)
            apply_torn(image, entry, &state);
        else if (cut == LOG_CUT_GARBAGE)
            apply_garbage(image, entry, &state);
    }
    return image;
}
