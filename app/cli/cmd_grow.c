/* SPDX-License-Identifier: MIT */
/*
 * cmd_grow.c - holdfast grow: a volume gets larger: one that nobody has open, or one that is mounted, by its
 * server.
 */
#include "ask.h"
#include "cli.h"
#include "term.h"
#include <errno.h>
#include <getopt.h>
#include <holdfast/maintain.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

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

/* The answer: as control.h. */
static int report(int fd, const char *dir)
{
    char answer[512] = "", word[8] = "", text[HF_CLI_SIZE_LEN];
    uint64_t blocks = 0, bytes = 0;
    FILE *in = fdopen(fd, "r");

    if (in && !fgets(answer, sizeof(answer), in))
        answer[0] = '\0';
    if (in)
        fclose(in);
    answer[strcspn(answer, "\n")] = '\0';
    if (!strncmp(answer, "failed ", 7))
        return hf_cli_fail(answer + 7, NULL, "cannot grow %s", dir);
    if (sscanf(answer, "%7s %" SCNu64 " %" SCNu64, word, &blocks, &bytes) != 3)
        return hf_cli_fail("its server does not know how, or ended", NULL, "cannot grow %s", dir);
    hf_cli_size_format(bytes, text);
    if (strcmp(word, "grown") != 0)
        printf("nothing to do: ");
    hf_term_print_name(stdout, dir);
    if (strcmp(word, "grown") == 0)
        printf(": %" PRIu64 " blocks more, now room for %s of data\n", blocks, text);
    else
        printf(" has that size, with room for %s of data\n", text);
    return hf_cli_flush(HF_CLI_OK);
}

static int grow_mount(const char *dir, uint64_t bytes)
{
    char request[64];
    dev_t device;
    int fd, status = hf_cli_ask_where(dir, &device);

    snprintf(request, sizeof(request), "grow %" PRIu64, bytes);
    if (!status)
        status = hf_cli_ask(device, dir, request, &fd);
    return status ? status : report(fd, dir);
}

/* Where its mount lies; also one whose server is gone, which is said later. */
static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? S_ISDIR(st.st_mode) : errno == ENOTCONN;
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
    if (status)
        return status;
    return is_directory(argv[optind]) ? grow_mount(argv[optind], bytes) : grow(argv[optind], bytes);
}

const struct hf_cli_command hf_cmd_grow = {
    .name = "grow",
    .synopsis = "VOLUME|DIR [--size N]",
    .summary = "make a volume larger, also while it is mounted",
    .help =
        "A volume in a file gets the size N, and the file with it; one on a block device gets all that the "
        "device\n"
        "has by now, or N bytes of it. The new space of a thick volume is taken from the host at once. "
        "Nobody may\n"
        "have the volume open, but the server of a mount: DIR names one that lies there, stores and writes "
        "go on,\n"
        "and what waits for space (holdfast run --on-full=wait) gets it. A power cut leaves the old size or "
        "the new.\n"
        "\n"
        "  -s, --size N  the new size in bytes, or with K, M, G, T; without: all of the file or device\n"
        "\n"
        "Examples:\n"
        "  holdfast grow box.hf --size 20M\n"
        "  holdfast grow /mnt/box --size 20M\n"
        "  holdfast grow /dev/sdx1\n",
    .run = run_grow,
};
