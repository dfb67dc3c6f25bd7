/* SPDX-License-Identifier: MIT */
/*
 * cmd_grow.c - holdfast grow: a volume that nobody has open gets larger.
 */
#include "cli.h"
#include "term.h"
#include <errno.h>
#include <getopt.h>
#include <holdfast/maintain.h>
#include <inttypes.h>

static int grow(const char *path, uint64_t bytes)
{
    char from[HF_CLI_SIZE_LEN], to[HF_CLI_SIZE_LEN];
    struct hf_header_info before, after;
    int error = hf_header_read(path, &before);

    if (!error)
        error = hf_grow(path, bytes);
    if (error == -EALREADY) {
        printf("nothing to do: ");
        hf_term_print_name(stdout, path);
        printf(" has %s\n", hf_cli_size_format(before.volume_bytes, from));
        return hf_cli_flush(HF_CLI_OK);
    }
    if (!error)
        error = hf_header_read(path, &after);
    if (error)
        return hf_cli_fail(hf_cli_volume_error(path),
                           error == -EUCLEAN ? "'holdfast check --repair' mends what can be mended" : NULL,
                           "cannot grow %s", path);
    hf_term_print_name(stdout, path);
    printf(": from %s to %s, %" PRIu64 " blocks more\n", hf_cli_size_format(before.volume_bytes, from),
           hf_cli_size_format(after.volume_bytes, to), after.data_blocks - before.data_blocks);
    return hf_cli_flush(HF_CLI_OK);
}

static int run_grow(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'}, {0}};
    uint64_t bytes = 0;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":hs:", options, NULL)) != -1) {
        if (opt != 's')
            return hf_cli_option(cmd, opt, argv);
        if (hf_cli_size_parse(optarg, &bytes) || bytes == 0)
            return hf_cli_usage(cmd, "'%s' is no size", optarg);
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    return status ? status : grow(argv[optind], bytes);
}

const struct hf_cli_command hf_cmd_grow = {
    .name = "grow",
    .synopsis = "VOLUME [--size N]",
    .summary = "make a volume larger",
    .help =
        "A volume in a file gets the size N, and the file with it; one on a block device gets all that the "
        "device\n"
        "has by now, or N bytes of it. The new space of a thick volume is taken from the host at once. "
        "Nobody "
        "may\n"
        "have the volume open. A power cut leaves the old size or the new one.\n"
        "\n"
        "  -s, --size N  the new size in bytes, or with K, M, G, T; without: all of the file or device\n"
        "\n"
        "Examples:\n"
        "  holdfast grow box.hf --size 20M\n"
        "  holdfast grow /dev/sdx1\n",
    .run = run_grow,
};
