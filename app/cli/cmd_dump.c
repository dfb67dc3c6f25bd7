/* SPDX-License-Identifier: MIT */
/*
 * cmd_dump.c - holdfast dump: the header and the tables of a volume, for people, for SQL, for programs.
 */
#define _GNU_SOURCE
#include "cli.h"
#include "json.h"
#include "term.h"
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <holdfast/maintain.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum how { DUMP_TEXT, DUMP_SQL, DUMP_JSON };

struct dump {
    enum how how;
    const char *table; /* the one that was asked for, or NULL */
    uint64_t rows;     /* of the table that is being told */
    bool table_open;   /* JSON: a table's rows are not closed yet */
    bool any;          /* JSON: a table came before */
};

/* ---- values */

static bool is_time(const char *column)
{
    size_t len = strlen(column);

    return len == 5 && strcmp(column + 1, "time") == 0;
}

/* 2026-11-26T11:35:00.123456789Z */
static const char *time_text(int64_t ns, char buf[64])
{
    int64_t rest = ns % 1000000000;
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    char day[40];

    if (rest < 0) {
        rest += 1000000000;
        seconds--;
    }
    if (!gmtime_r(&seconds, &tm) || strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        snprintf(day, sizeof(day), "@%lld", (long long)seconds);
    snprintf(buf, 64, "%s.%09lldZ", day, (long long)rest);
    return buf;
}

/* Bytes that are well-formed text without control characters can be read; others are hexadecimal. */
static bool is_text(const struct hf_dump_value *value)
{
    const unsigned char *at = value->bytes, *end = at + value->len;
    char piece[8];
    uint32_t code;

    while (at < end) {
        size_t left = (size_t)(end - at), nr;

        memset(piece, 0, sizeof(piece));
        memcpy(piece, at, left < 4 ? left : 4);
        nr = hf_cli_utf8_decode((const unsigned char *)piece, &code);
        if (nr == 0 || nr > left || code < 0x20 || code == 0x7f)
            return false;
        at += nr;
    }
    return true;
}

static void print_hex(const struct hf_dump_value *value)
{
    const unsigned char *bytes = value->bytes;

    printf("x'");
    for (size_t i = 0; i < value->len; i++)
        printf("%02x", bytes[i]);
    putchar('\'');
}

static void print_bytes(const struct hf_dump_value *value)
{
    char *raw, *safe;

    if (!is_text(value)) {
        print_hex(value);
        return;
    }
    raw = strndup(value->len ? value->bytes : "", value->len);
    safe = raw ? hf_term_escape(raw) : NULL;
    printf("'%s'", safe ? safe : "");
    free(safe);
    free(raw);
}

static void print_value(const struct hf_dump_value *value)
{
    char buf[64];

    printf(" %s=", value->column);
    if (value->type == HF_DUMP_NULL)
        printf("NULL");
    else if (value->type != HF_DUMP_INTEGER)
        print_bytes(value);
    else if (is_time(value->column))
        printf("%s", time_text(value->integer, buf));
    else if (strcmp(value->column, "mode") == 0)
        printf("%#" PRIo64, (uint64_t)value->integer);
    else
        printf("%" PRId64, value->integer);
}

/* ---- rows */

static int row_text(const struct hf_dump_value *values, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++)
        print_value(&values[i]);
    putchar('\n');
    return 0;
}

static int row_sql(const char *table, const struct hf_dump_value *values, unsigned nr)
{
    printf("INSERT INTO %s VALUES(", table);
    for (unsigned i = 0; i < nr; i++) {
        if (i)
            putchar(',');
        if (values[i].type == HF_DUMP_NULL)
            printf("NULL");
        else if (values[i].type == HF_DUMP_INTEGER)
            printf("%" PRId64, values[i].integer);
        else
            print_hex(&values[i]);
    }
    printf(");\n");
    return 0;
}

static int row_json(struct dump *dump, const struct hf_dump_value *values, unsigned nr)
{
    cJSON *row = hf_json_object();
    char *text, number[24], buf[64];

    for (unsigned i = 0; i < nr; i++) {
        const struct hf_dump_value *value = &values[i];

        if (value->type == HF_DUMP_NULL) {
            hf_json_add(row, value->column, cJSON_CreateNull());
        } else if (value->type == HF_DUMP_INTEGER) {
            snprintf(number, sizeof(number), "%" PRId64, value->integer);
            hf_json_add(row, value->column, cJSON_CreateRaw(number));
            if (is_time(value->column)) {
                snprintf(number, sizeof(number), "%s_text", value->column);
                hf_json_text(row, number, time_text(value->integer, buf));
            }
        } else {
            text = strndup(value->len ? value->bytes : "", value->len);
            hf_json_name(row, value->column, text ? text : "");
            free(text);
        }
    }
    printf(dump->rows ? ",\n" : "\n");
    hf_json_print(row, 0);
    return 0;
}

static int tell_row(void *arg, const char *table, const struct hf_dump_value *values, unsigned nr)
{
    struct dump *dump = arg;
    int ret = 0;

    if (dump->how == DUMP_TEXT)
        row_text(values, nr);
    else if (dump->how == DUMP_SQL)
        row_sql(table, values, nr);
    else
        ret = row_json(dump, values, nr);
    dump->rows++;
    return ferror(stdout) ? -EIO : ret;
}

static void json_close_table(struct dump *dump)
{
    if (dump->table_open)
        printf("]");
    dump->table_open = false;
}

static int tell_object(void *arg, const char *type, const char *name, const char *sql)
{
    struct dump *dump = arg;
    bool table = strcmp(type, "table") == 0;

    dump->rows = table ? 0 : dump->rows;
    if (dump->how == DUMP_SQL) {
        printf("%s;\n", sql);
    } else if (dump->how == DUMP_TEXT) {
        printf("\n%s%s %s%s\n  %s\n", hf_term_style(HF_STYLE_BOLD), type, name, hf_term_reset(), sql);
    } else if (table) {
        json_close_table(dump);
        printf("%s\n\"%s\": [", dump->any ? "," : "", name);
        dump->any = dump->table_open = true;
    }
    return 0;
}

/* ---- the header */

static void print_region(const char *name, uint64_t off, uint64_t len)
{
    char text[HF_CLI_SIZE_LEN];

    printf("  %-13s at %" PRIu64 ", %" PRIu64 " bytes (%s)\n", name, off, len, hf_cli_size_format(len, text));
}

static int dump_header(const char *path, enum how how)
{
    struct hf_header_info info;
    char buf[64];

    if (hf_header_read(path, &info))
        return hf_cli_fail(hf_cli_volume_error(path), NULL, "cannot read %s", path);
    if (how != DUMP_TEXT)
        return HF_CLI_OK;
    printf("%sheader%s%s\n", hf_term_style(HF_STYLE_BOLD), hf_term_reset(),
           info.from_copy ? " (the copy: the primary is damaged)" : "");
    printf("  version       %u, generation %" PRIu64 "\n  features      compat %#" PRIx64
           ", ro_compat %#" PRIx64 ", incompat %#" PRIx64 "\n",
           info.version, info.generation, info.compat, info.ro_compat, info.incompat);
    printf("  created       %s\n  volume        %" PRIu64 " bytes, %s; the device has %" PRIu64 "\n",
           time_text(info.created_ns, buf), info.volume_bytes, info.thin ? "thin" : "thick",
           info.device_bytes);
    print_region("metadata", info.metadb_off, info.metadb_len);
    for (unsigned i = 0; i < info.nr_segments; i++)
        print_region("metadata, too", info.segment_off[i], info.segment_len[i]);
    print_region("log (WAL)", info.wal_off, info.wal_len);
    print_region("data", info.data_off, info.data_len);
    printf("  blocks        %" PRIu64 " of %u bytes\n", info.data_blocks, info.block_size);
    return HF_CLI_OK;
}

static int dump_tables(const char *path, struct dump *dump)
{
    static const struct hf_dump_ops ops = {.object = tell_object, .row = tell_row};
    int error;

    if (dump->how == DUMP_JSON)
        printf("{");
    if (dump->how == DUMP_SQL)
        printf("BEGIN;\n");
    error = hf_dump(path, dump->table, &ops, dump);
    json_close_table(dump);
    if (dump->how == DUMP_JSON)
        printf("\n}\n");
    if (dump->how == DUMP_SQL && !error)
        printf("COMMIT;\n");
    if (!error || ferror(stdout))
        return hf_cli_flush(HF_CLI_OK);
    return hf_cli_fail(hf_cli_volume_error(path),
                       error == -EUCLEAN ? "'holdfast check' says what is damaged" : NULL,
                       "cannot read %s on", path);
}

static int run_dump(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"table", required_argument, NULL, 't'},
                                            {"sql", no_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct dump dump = {0};
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == 't')
            dump.table = optarg;
        else if (opt == 's')
            dump.how = DUMP_SQL;
        else if (opt == 'j')
            dump.how = DUMP_JSON;
        else
            return hf_cli_option(cmd, opt, argv);
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (!status && !dump.table)
        status = dump_header(argv[optind], dump.how);
    return status ? status : dump_tables(argv[optind], &dump);
}

const struct hf_cli_command hf_cmd_dump = {
    .name = "dump",
    .synopsis = "VOLUME [--table TABLE] [--sql | --json]",
    .summary = "what the header and the tables of a volume say",
    .help =
        "Prints the header's fields, then each table with its definition and a line for each row: times as "
        "dates,\n"
        "modes in octal, names as text where they are. Reads only; a log that a crash left is read as well. "
        "What\n"
        "the tables mean is in docs/format.md.\n"
        "\n"
        "  --table TABLE  only that one, for example inodes, names, extents\n"
        "  --sql          statements that make the same tables in any SQLite\n"
        "  --json         for programs\n"
        "\n"
        "Examples:\n"
        "  holdfast dump box.hf --table names\n"
        "  holdfast dump box.hf --sql | sqlite3 copy.db\n"
        "  holdfast dump box.hf --json | jq '.inodes[] | select(.size > 1000000)'\n",
    .run = run_dump,
};
