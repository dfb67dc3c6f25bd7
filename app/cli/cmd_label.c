/* SPDX-License-Identifier: MIT */
/*
 * cmd_label.c - holdfast label and holdfast uuid: what a volume is called, shown and set.
 */
#define _GNU_SOURCE
#include "cli.h"
#include "term.h"
#include <errno.h>
#include <getopt.h>
#include <holdfast/maintain.h>
#include <string.h>
#include <sys/random.h>

/* Common to both: options, operands, and showing. Returns -1: there is something to be set. */
static int parse(const struct hf_cli_command *cmd, int argc, char **argv, struct hf_header_info *ret_info)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    int opt = getopt_long(argc, argv, ":h", options, NULL);
    const char *path;

    if (opt != -1)
        return hf_cli_option(cmd, opt, argv);
    if (argc - optind < 1 || argc - optind > 2)
        return hf_cli_operands(cmd, argc, argv, 1, 2);
    path = argv[optind];
    if (argc - optind == 2)
        return -1;
    if (hf_header_read(path, ret_info))
        return hf_cli_fail(hf_cli_volume_error(path), NULL, "cannot read %s", path);
    return HF_CLI_OK;
}

static int set_status(const char *path, int error)
{
    if (!error)
        return HF_CLI_OK;
    return hf_cli_fail(hf_cli_volume_error(path),
                       error == -EUCLEAN ? "'holdfast check --repair' mends what can be mended" : NULL,
                       "cannot change %s", path);
}

static int run_label(const struct hf_cli_command *cmd, int argc, char **argv)
{
    struct hf_header_info info;
    int status = parse(cmd, argc, argv, &info);

    if (status == -1)
        return set_status(argv[optind], hf_label_set(argv[optind], argv[optind + 1]));
    if (status || optind >= argc)
        return status;
    hf_term_print_name(stdout, info.label);
    putchar('\n');
    return hf_cli_flush(HF_CLI_OK);
}

const struct hf_cli_command hf_cmd_label = {
    .name = "label",
    .synopsis = "VOLUME [LABEL]",
    .summary = "show or set what a volume is called",
    .help =
        "A label has at most 63 bytes; '' takes it away. The volume must not be open elsewhere. Both copies "
        "of\n"
        "the header are written one after the other, so that a power cut leaves the old label or the new "
        "one.\n"
        "\n"
        "Examples:\n"
        "  holdfast label box.hf\n"
        "  holdfast label box.hf backup-2\n",
    .run = run_label,
};

/* ---- uuid */

/* 32 digits with any dashes between. Returns 0 or -EINVAL. */
static int uuid_parse(const char *text, uint8_t ret_uuid[16])
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint8_t uuid[16] = {0};
    unsigned nr = 0;

    for (; *text; text++) {
        const char *digit = strchr(digits, *text);

        if (*text == '-')
            continue;
        if (!digit || nr == 32)
            return -EINVAL;
        uuid[nr / 2] = (uint8_t)(uuid[nr / 2] << 4 | (digit - digits) % 16);
        nr++;
    }
    if (nr != 32)
        return -EINVAL;
    memcpy(ret_uuid, uuid, sizeof(uuid));
    return 0;
}

static int uuid_random(uint8_t ret_uuid[16])
{
    if (getrandom(ret_uuid, 16, 0) != 16)
        return hf_cli_fail_host(errno, "no random numbers");
    ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40); /* RFC 4122: version 4 */
    ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
    return HF_CLI_OK;
}

static void uuid_print(const uint8_t uuid[16])
{
    for (int i = 0; i < 16; i++)
        printf(i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
    putchar('\n');
}

static int run_uuid(const struct hf_cli_command *cmd, int argc, char **argv)
{
    struct hf_header_info info;
    int status = parse(cmd, argc, argv, &info);

    if (status == -1) {
        status = HF_CLI_OK;
        if (strcmp(argv[optind + 1], "random") == 0)
            status = uuid_random(info.uuid);
        else if (uuid_parse(argv[optind + 1], info.uuid))
            return hf_cli_usage(cmd, "'%s' is no UUID: 32 hexadecimal digits, or 'random'", argv[optind + 1]);
        if (!status)
            status = set_status(argv[optind], hf_uuid_set(argv[optind], info.uuid));
    }
    if (status || optind >= argc)
        return status;
    uuid_print(info.uuid);
    return hf_cli_flush(HF_CLI_OK);
}

const struct hf_cli_command hf_cmd_uuid = {
    .name = "uuid",
    .synopsis = "VOLUME [UUID|random]",
    .summary = "show or set the number that no other volume has",
    .help =
        "A copy of a volume has the same UUID; 'random' draws a new one, and prints it. The volume must not "
        "be\n"
        "open elsewhere. A power cut leaves the old or the new one.\n"
        "\n"
        "Examples:\n"
        "  holdfast uuid box.hf\n"
        "  cp box.hf copy.hf && holdfast uuid copy.hf random\n"
        "  holdfast uuid box.hf 6ba7b810-9dad-41d1-80b4-00c04fd430c8\n",
    .run = run_uuid,
};
