/* SPDX-License-Identifier: MIT */
/*
 * cmd_cat.c - holdfast cat: a file's bytes on stdout.
 */
#include "cli.h"
#include "copy.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>
#include <unistd.h>

static int cat_file(struct hf_volume *volume, const char *path)
{
    struct hf_copy copy = {.to = {.fd = STDOUT_FILENO}};
    struct stat st;
    int error = hf_open(volume, path, O_RDONLY, 0, &copy.from.file);

    if (error)
        return hf_cli_fail_errno(error, "cannot open %s", path);
    error = hf_fstat(copy.from.file, &st);
    if (!error && S_ISDIR(st.st_mode))
        error = -EISDIR;
    if (!error) {
        copy.size = st.st_size;
        error = hf_copy_run(&copy, "cat");
    }
    hf_close(copy.from.file); /* opened read-only: it has nothing to report */
    if (!error)
        return HF_CLI_OK;
    if (error == -EPIPE)
        return HF_CLI_FAILED; /* the reader went away: it knows */
    if (copy.copied == 0 && copy.size == 0)
        return hf_cli_fail_errno(error, "cannot read %s", path);
    if (copy.reading)
        return hf_cli_fail_errno(error, "reading %s at byte %lld", path, (long long)copy.copied);
    return hf_cli_fail_host(error, "writing out %s at byte %lld", path, (long long)copy.copied);
}

static int run_cat(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct hf_volume *volume;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        return hf_cli_option(cmd, opt, argv);
    status = hf_cli_operands(cmd, argc, argv, 2, argc);
    if (!status)
        status = hf_cli_open(argv[optind], HF_OPEN_READ_ONLY, 0, &volume);
    if (status)
        return status;
    hf_copy_catch_signals();
    for (int i = optind + 1; i < argc; i++)
        if (cat_file(volume, argv[i]))
            status = HF_CLI_FAILED;
    return hf_cli_close(volume, argv[optind], status);
}

const struct hf_cli_command hf_cmd_cat = {
    .name = "cat",
    .synopsis = "VOLUME PATH...",
    .summary = "print files",
    .help = "The bytes go to stdout as they are, in pieces: a file of any size needs little memory.\n"
            "\n"
            "Examples:\n"
            "  holdfast cat box.hf /letter\n"
            "  holdfast cat box.hf /letters.tar | tar t\n",
    .run = run_cat,
};
