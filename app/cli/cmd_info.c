/* SPDX-License-Identifier: MIT */
/*
 * cmd_info.c - holdfast info: what a volume is and how full.
 */
#include "cli.h"
#include "draw.h"
#include "json.h"
#include "term.h"
#include <getopt.h>
#include <holdfast/maintain.h>
#include <holdfast/quota.h>
#include <inttypes.h>

static void format_uuid(const uint8_t uuid[16], char text[37])
{
    char *out = text;

    for (int i = 0; i < 16; i++)
        out += sprintf(out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

static void print_amount(const char *name, uint64_t blocks, uint32_t block_size)
{
    char text[HF_CLI_SIZE_LEN];

    printf("%-11s %s (%" PRIu64 " blocks)\n", name, hf_cli_size_format(blocks * block_size, text), blocks);
}

static uint64_t metadata_bytes(const struct hf_header_info *info)
{
    uint64_t bytes = info->metadb_len;

    for (unsigned i = 0; i < info->nr_segments; i++)
        bytes += info->segment_len[i];
    return bytes;
}

/* What the header says besides; nothing for volumes in memory, which have none. */
static void print_header(const char *path)
{
    struct hf_header_info info;
    char text[HF_CLI_SIZE_LEN];

    if (hf_header_read(path, &info))
        return;
    printf("metadata    room for %s", hf_cli_size_format(metadata_bytes(&info), text));
    if (info.nr_segments)
        printf(" in %u parts: the volume has grown", 1 + info.nr_segments);
    if (info.device_bytes > info.volume_bytes)
        printf("; %s more on the device ('holdfast grow')",
               hf_cli_size_format(info.device_bytes - info.volume_bytes, text));
    printf("%s\n", info.from_copy ? "; the primary header is damaged ('holdfast check')" : "");
}

static void print_text(const char *path, const struct hf_statfs *fs)
{
    char uuid[37];

    format_uuid(fs->uuid, uuid);
    printf("volume      ");
    hf_term_print_name(stdout, path);
    printf("\nlabel       ");
    hf_term_print_name(stdout, *fs->label ? fs->label : "(none)");
    printf("\nuuid        %s\ndriver      %s, %s\n", uuid, fs->driver, fs->thin ? "thin" : "thick");
    printf("block, page %u, %u bytes\n", fs->block_size, fs->page_size);
    print_amount("size", fs->blocks, fs->block_size);
    print_amount("used", fs->blocks - fs->blocks_free - fs->blocks_reserved, fs->block_size);
    print_amount("free", fs->blocks_free, fs->block_size);
    printf("inodes      %" PRIu64 " used, %" PRIu64 " free\n", fs->inodes, fs->inodes_free);
    print_header(path);
    printf("faults      engine %s on this machine\n", hf_engine_name());
    hf_draw_space(stdout, fs, 0);
}

/* One part of the device. */
static cJSON *json_range(uint64_t off, uint64_t len)
{
    cJSON *range = hf_json_object();

    hf_json_u64(range, "offset", off);
    hf_json_u64(range, "bytes", len);
    return range;
}

/* What the header says besides; nothing for volumes in memory, which have none. */
static void json_header(cJSON *root, const char *path)
{
    cJSON *features, *segments;
    struct hf_header_info info;

    if (hf_header_read(path, &info))
        return;
    hf_json_u64(root, "version", info.version);
    features = hf_json_object();
    hf_json_u64(features, "compat", info.compat);
    hf_json_u64(features, "ro_compat", info.ro_compat);
    hf_json_u64(features, "incompat", info.incompat);
    hf_json_add(root, "features", features);
    hf_json_u64(root, "generation", info.generation);
    hf_json_bool(root, "primary_header_damaged", info.from_copy);
    hf_json_u64(root, "created_ns", info.created_ns < 0 ? 0 : (uint64_t)info.created_ns);
    hf_json_u64(root, "volume_bytes", info.volume_bytes);
    hf_json_u64(root, "device_bytes", info.device_bytes);
    hf_json_u64(root, "metadata_bytes", metadata_bytes(&info));
    segments = hf_json_array();
    hf_json_append(segments, json_range(info.metadb_off, info.metadb_len));
    for (unsigned i = 0; i < info.nr_segments; i++)
        hf_json_append(segments, json_range(info.segment_off[i], info.segment_len[i]));
    hf_json_add(root, "metadata", segments);
    hf_json_add(root, "log", json_range(info.wal_off, info.wal_len));
    hf_json_add(root, "data", json_range(info.data_off, info.data_len));
}

/* How many ids have a limit. */
static uint64_t limits_set(struct hf_volume *volume, enum hf_quota_type type)
{
    struct hf_quota quotas[32];
    uint64_t cursor = 0, set = 0;
    int nr;

    while ((nr = hf_quota_list(volume, &cursor, 32, quotas)) > 0) {
        for (int i = 0; i < nr; i++) {
            const struct hf_quota_limits *l = &quotas[i].limits;

            set +=
                l->type == type && (l->blocks_soft | l->blocks_hard | l->inodes_soft | l->inodes_hard) != 0;
        }
    }
    return set;
}

static void json_quota(cJSON *root, struct hf_volume *volume)
{
    static const struct {
        enum hf_quota_type type;
        const char *name;
    } types[] = {{HF_QUOTA_USER, "user"}, {HF_QUOTA_GROUP, "group"}, {HF_QUOTA_PROJECT, "project"}};
    cJSON *quota = hf_json_object();

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        hf_json_u64(quota, types[i].name, limits_set(volume, types[i].type));
    hf_json_add(root, "quota_limits", quota);
}

static void print_json(const char *path, struct hf_volume *volume, const struct hf_statfs *fs)
{
    cJSON *root = hf_json_object();
    char uuid[37];

    format_uuid(fs->uuid, uuid);
    hf_json_name(root, "volume", path);
    hf_json_name(root, "label", fs->label);
    hf_json_text(root, "uuid", uuid);
    hf_json_text(root, "driver", fs->driver);
    hf_json_bool(root, "thin", fs->thin);
    hf_json_u64(root, "block_size", fs->block_size);
    hf_json_u64(root, "page_size", fs->page_size);
    hf_json_u64(root, "blocks", fs->blocks);
    hf_json_u64(root, "blocks_used", fs->blocks - fs->blocks_free - fs->blocks_reserved);
    hf_json_u64(root, "blocks_free", fs->blocks_free);
    hf_json_u64(root, "blocks_reserved", fs->blocks_reserved);
    hf_json_u64(root, "inodes", fs->inodes);
    hf_json_u64(root, "inodes_free", fs->inodes_free);
    json_quota(root, volume);
    json_header(root, path);
    hf_json_text(root, "engine", hf_engine_name());
    hf_json_print(root, 1);
}

static int run_info(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct hf_volume *volume;
    struct hf_statfs fs;
    bool json = false;
    int opt, status, error;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt != 'j')
            return hf_cli_option(cmd, opt, argv);
        json = true;
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (!status)
        status = hf_cli_open(argv[optind], HF_OPEN_READ_ONLY, 0, &volume);
    if (status)
        return status;
    error = hf_volume_statfs(volume, &fs);
    if (error)
        status = hf_cli_fail_errno(error, "reading volume %s", argv[optind]);
    else if (json)
        print_json(argv[optind], volume, &fs);
    else
        print_text(argv[optind], &fs);
    return hf_cli_flush(hf_cli_close(volume, argv[optind], status));
}

const struct hf_cli_command hf_cmd_info = {
    .name = "info",
    .synopsis = "VOLUME [--json]",
    .summary = "what a volume is, and how full",
    .help =
        "Opens the volume read-only and prints its label, sizes and free space. 'faults' says how a store "
        "to\n"
        "a mapping is noticed on this machine: inline (userfaultfd) or mprotect (slower, works everywhere).\n"
        "\n"
        "  --json  for programs\n"
        "\n"
        "Examples:\n"
        "  holdfast info box.hf\n"
        "  holdfast info box.hf --json | jq .blocks_free\n",
    .run = run_info,
};
