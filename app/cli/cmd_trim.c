/* SPDX-License-Identifier: MIT */
/*
 * cmd_trim.c - holdfast trim: space that a volume does not use goes back to the host or the device.
 */
#include "cli.h"
#include "term.h"
#include <errno.h>
#include <getopt.h>
#include <holdfast/maintain.h>

static int run_trim(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    int opt = getopt_long(argc, argv, ":h", options, NULL), status, error;
    char text[HF_CLI_SIZE_LEN];
    uint64_t bytes = 0;

    if (opt != -1)
        return hf_cli_option(cmd, opt, argv);
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (status)
        return status;
    error = hf_trim(argv[optind], &bytes);
    if (error)
        return hf_cli_fail(hf_cli_volume_error(argv[optind]), NULL, "cannot trim %s", argv[optind]);
    hf_term_print_name(stdout, argv[optind]);
    printf(": %s are free, and the device knows it\n", hf_cli_size_format(bytes, text));
    return hf_cli_flush(HF_CLI_OK);
}

const struct hf_cli_command hf_cmd_trim = {
    .name = "trim",
    .synopsis = "VOLUME",
    .summary = "give space that a thin volume does not use back",
    .help =
        "Tells the device which blocks of the volume hold nothing: a thin volume in a file gives their space "
        "back\n"
        "to the host's filesystem, a disk may erase them. A thick volume in a file is refused: its space is "
        "its\n"
        "own. Nobody may have the volume open.\n"
        "\n"
        "Examples:\n"
        "  holdfast trim box.hf\n",
    .run = run_trim,
};
