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

/* What the header says besides; nothing for volumes in memory, which have none. */
static void print_header(const char *path)
{
    struct hf_header_info info;
    char text[HF_CLI_SIZE_LEN];
    uint64_t metadata;

    if (hf_header_read(path, &info))
        return;
    metadata = info.metadb_len;
    for (unsigned i = 0; i < info.nr_segments; i++)
        metadata += info.segment_len[i];
    printf("metadata    room for %s", hf_cli_size_format(metadata, text));
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

static void print_json(const char *path, const struct hf_statfs *fs)
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
    hf_json_u64(root, "blocks_free", fs->blocks_free);
    hf_json_u64(root, "blocks_reserved", fs->blocks_reserved);
    hf_json_u64(root, "inodes", fs->inodes);
    hf_json_u64(root, "inodes_free", fs->inodes_free);
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
        print_json(argv[optind], &fs);
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
