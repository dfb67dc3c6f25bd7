/* SPDX-License-Identifier: MIT */
/*
 * fuzz_damage.c - see fuzz_damage.h. Up to MAX_DAMAGES of: bytes anywhere in a region, fields of the header,
 * sectors from another image (a torn checkpoint, a log that is not this database's), and rows by SQL.
 */
#include "fuzz_damage.h"

#include "fs/blockfs/metadb.h"

#include <string.h>

#define MAX_DAMAGES 6
#define SECTOR 512u
#define MAX_COLUMNS 96

enum kind { BYTES, FIELD, SECTORS, ROWS, OBJECTS, NR_KINDS };
enum region { HEADER, COPY, METADB, WAL, DATA, NR_REGIONS };

struct damage {
    struct input *in;
    struct hf_blockfs_header header; /* as it was */
    struct hf_metadb *db;            /* NULL: not opened yet, or not to be opened any more */
    bool tried_sql;
};

/* ---- bytes */

static void region_of(const struct damage *d, enum region region, uint64_t *ret_off, uint64_t *ret_len)
{
    const struct hf_blockfs_header *h = &d->header;
    const uint64_t offs[NR_REGIONS] = {0, FUZZ_BYTES - HF_BLOCKFS_HEADER_BYTES, h->metadb_off, h->wal_off,
                                       h->data_off};
    const uint64_t lens[NR_REGIONS] = {HF_BLOCKFS_HEADER_BYTES, HF_BLOCKFS_HEADER_BYTES, h->metadb_len,
                                       h->wal_len, h->data_len};

    *ret_off = offs[region];
    *ret_len = lens[region];
}

/* A place in the region: most of what matters lies at the beginning of pages, and in the first pages. */
static uint64_t place_in(struct input *in, uint64_t len)
{
    uint64_t page = input_below(in, 32), at = input_below(in, 4096);

    if (page >= 24)
        page = input_below(in, 4096);
    return (page * 4096 + at) % len;
}

static void damage_bytes(struct damage *d)
{
    enum region region = (enum region)input_below(d->in, NR_REGIONS);
    uint64_t off, len;
    uint8_t bytes[8];
    size_t nr = 1 + input_below(d->in, sizeof(bytes));

    region_of(d, region, &off, &len);
    off += place_in(d->in, len);
    for (size_t i = 0; i < nr; i++)
        bytes[i] = input_u8(d->in);
    fuzz_device_poke(off, bytes, nr);
}

/* ---- the header */

/* Offsets of docs/format.md. */
static const struct {
    uint16_t off, size;
} fields[] = {
    {0, 8},   {8, 4},   {12, 4},  {16, 8},  {24, 8},  {32, 8},  {40, 4},  {44, 4},
    {48, 8},  {56, 8},  {72, 8},  {128, 8}, {136, 8}, {144, 8}, {152, 8}, {160, 8},
    {168, 8}, {176, 8}, {184, 8}, {192, 8}, {200, 8}, {208, 8},
};

/* Puts the checksum right, as encode() does for a header that says what these bytes say. */
static void header_seal(uint8_t bytes[HF_BLOCKFS_HEADER_BYTES])
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < HF_BLOCKFS_HEADER_BYTES - 4; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    crc = ~crc;
    for (int i = 0; i < 4; i++)
        bytes[HF_BLOCKFS_HEADER_BYTES - 4 + i] = (uint8_t)(crc >> 8 * i);
}

static void damage_field(struct damage *d)
{
    uint8_t how = input_u8(d->in), bytes[HF_BLOCKFS_HEADER_BYTES];
    size_t field = input_below(d->in, sizeof(fields) / sizeof(fields[0]));
    uint64_t value = (uint64_t)input_number(d->in), old = 0;

    memcpy(bytes, fuzz_device_bytes(), sizeof(bytes));
    memcpy(&old, bytes + fields[field].off, fields[field].size);
    if (how & 4) /* a little less or more */
        value = old + value;
    if (how & 8)
        value &= ~4095ull;
    memcpy(bytes + fields[field].off, &value, fields[field].size);
    if (how & 1)
        header_seal(bytes);
    fuzz_device_poke(0, bytes, sizeof(bytes));
    if (how & 2)
        fuzz_device_poke(FUZZ_BYTES - sizeof(bytes), bytes, sizeof(bytes));
}

/* ---- sectors of another time */

static void damage_sectors(struct damage *d)
{
    const uint8_t *other = fuzz_image_bytes((enum fuzz_image)input_below(d->in, FUZZ_IMAGES));
    enum region region = (enum region)input_below(d->in, NR_REGIONS);
    uint64_t off, len, nr = 1 + input_below(d->in, 16), start;

    region_of(d, region, &off, &len);
    start = off + place_in(d->in, len) / SECTOR * SECTOR;
    if (start + nr * SECTOR > FUZZ_BYTES)
        nr = 1;
    fuzz_device_poke(start, other + start, nr * SECTOR);
}

/* ---- rows. Columns are looked up once: the schema is not repeated here. */

static struct column {
    char table[24], name[24];
    char others[160]; /* all columns of the table, but a ? for this one */
} columns[MAX_COLUMNS];
static unsigned nr_columns;

static int collect(void *arg, int nr, char **values, char **names)
{
    struct column *c = &columns[nr_columns];

    (void)arg;
    (void)nr;
    (void)names;
    if (nr_columns == MAX_COLUMNS)
        return 0;
    snprintf(c->table, sizeof(c->table), "%s", values[0]);
    snprintf(c->name, sizeof(c->name), "%s", values[1]);
    nr_columns++;
    return 0;
}

static void columns_find(sqlite3 *sql)
{
    if (nr_columns)
        return;
    sqlite3_exec(
        sql,
        "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' "
        "ORDER BY m.name, c.cid",
        collect, NULL, NULL);
    for (unsigned i = 0; i < nr_columns; i++)
        for (unsigned k = 0; k < nr_columns; k++)
            if (strcmp(columns[i].table, columns[k].table) == 0) {
                size_t len = strlen(columns[i].others);

                snprintf(columns[i].others + len, sizeof(columns[i].others) - len, "%s%s", len ? "," : "",
                         i == k ? "?1" : columns[k].name);
            }
}

static sqlite3 *sql_open(struct damage *d)
{
    char err[HF_BLOCKFS_ERR];
    struct hf_device *dev;

    if (!d->tried_sql) {
        d->tried_sql = true;
        dev = fuzz_device_again();
        if (hf_metadb_open(dev, &d->header, false, err, &d->db))
            d->db = NULL;
        dev->ops->close(dev);
    }
    if (!d->db)
        return NULL;
    sqlite3_db_config(hf_metadb_handle(d->db), SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
    columns_find(hf_metadb_handle(d->db));
    return nr_columns ? hf_metadb_handle(d->db) : NULL;
}

static void sql_run(struct damage *d, const char *text)
{
    sqlite3 *sql = sql_open(d);
    sqlite3_stmt *stmt;
    uint8_t kind = input_u8(d->in);
    char bytes[300];

    if (!sql || sqlite3_prepare_v2(sql, text, -1, &stmt, NULL) != SQLITE_OK || !stmt)
        return;
    if (kind < 192) {
        sqlite3_bind_int64(stmt, 1, input_number(d->in));
    } else if (kind < 224) { /* a name, likely too long */
        size_t len = input_below(d->in, sizeof(bytes));

        memset(bytes, kind & 1 ? 'x' : '/', sizeof(bytes));
        sqlite3_bind_blob(stmt, 1, bytes, (int)len, SQLITE_STATIC);
    } else {
        for (size_t i = 0; i < 4; i++)
            bytes[i] = (char)input_u8(d->in);
        sqlite3_bind_blob(stmt, 1, bytes, kind & 3, SQLITE_TRANSIENT);
    }
    sqlite3_step(stmt);
    sqlite3_finalize(stmt);
}

static void damage_rows(struct damage *d)
{
    uint8_t how = input_u8(d->in);
    const struct column *c;
    char text[512];
    unsigned row = input_below(d->in, 32);

    if (!sql_open(d))
        return;
    c = &columns[input_below(d->in, nr_columns)];
    switch (how & 3) {
    case 0:
    case 1:
        snprintf(text, sizeof(text),
                 "UPDATE %s SET %s = ?1 WHERE %s IN (SELECT %s FROM %s LIMIT 1 OFFSET %u)", c->table, c->name,
                 c->name, c->name, c->table, row);
        break;
    case 2:
        snprintf(text, sizeof(text), "INSERT OR REPLACE INTO %s SELECT %s FROM %s LIMIT 1 OFFSET %u",
                 c->table, c->others, c->table, row);
        break;
    default:
        snprintf(text, sizeof(text), "DELETE FROM %s WHERE %s IN (SELECT %s FROM %s LIMIT 1 OFFSET %u)",
                 c->table, c->name, c->name, c->table, row);
        break;
    }
    sql_run(d, text);
}

/* Tables, indexes and what else a database can have. */
static void damage_objects(struct damage *d)
{
    static const char *const texts[] = {
        "DROP INDEX names_by_name",
        "DROP TABLE %s",
        "ALTER TABLE %s RENAME TO elsewhere",
        "ALTER TABLE %s RENAME COLUMN %s TO other",
        "CREATE TRIGGER t AFTER INSERT ON %s BEGIN DELETE FROM inodes; END",
        "CREATE TRIGGER t AFTER UPDATE ON %s BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        "CREATE TEMP TABLE t AS SELECT * FROM %s",
        "CREATE INDEX another ON %s(%s)",
        "PRAGMA user_version = 7",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = ?1 WHERE name = '%s'",
        "UPDATE sqlite_schema SET rootpage = ?1 WHERE name = '%s'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = '%s'",
        "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = '%s'",
        "CREATE VIEW v AS SELECT %2$s FROM %1$s",
        "PRAGMA journal_mode = DELETE",
    };
    const char *format = texts[input_below(d->in, sizeof(texts) / sizeof(texts[0]))];
    const struct column *c;
    char text[256];

    if (!sql_open(d))
        return;
    c = &columns[input_below(d->in, nr_columns)];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof(text), format, c->table, c->name);
#pragma GCC diagnostic pop
    sql_run(d, text);
}

void damage(struct input *in)
{
    struct damage d = {.in = in};
    unsigned nr = input_below(in, MAX_DAMAGES + 1);

    fuzz_that(hf_blockfs_header_decode(fuzz_device_bytes(), &d.header) == 0, "the image has no header");
    for (unsigned i = 0; i < nr && !input_over(in); i++) {
        switch ((enum kind)input_below(in, NR_KINDS)) {
        case BYTES:
            damage_bytes(&d);
            break;
        case FIELD:
            damage_field(&d);
            break;
        case SECTORS:
            damage_sectors(&d);
            break;
        case ROWS:
            damage_rows(&d);
            break;
        default:
            damage_objects(&d);
            break;
        }
    }
    hf_metadb_close(d.db);
}
