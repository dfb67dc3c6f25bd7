/* SPDX-License-Identifier: MIT */
/*
 * cmd_mkdir.c - holdfast mkdir: makes directories.
 */
#include "cli.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int make_one(struct hf_volume *volume, const char *path, bool may_exist)
{
    int error = hf_mkdir(volume, path, 0755);
    struct stat st;

    if (error == -EEXIST && may_exist && hf_stat(volume, path, &st) == 0)
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    return error;
}

/* Makes what is missing of path, from the root down. */
static int make_parents(struct hf_volume *volume, char *path)
{
    for (char *slash = path + strspn(path, "/"); (slash = strchr(slash, '/')); slash++) {
        int error;

        *slash = '\0';
        error = make_one(volume, path, true);
        *slash = '/';
        if (error)
            return error;
    }
    return 0;
}

static int make_path(struct hf_volume *volume, const char *path, bool parents)
{
    char *copy = strdup(path);
    int error = copy ? 0 : -ENOMEM;

    if (copy && parents)
        error = make_parents(volume, copy);
    free(copy);
    if (!error)
        error = make_one(volume, path, parents);
    if (error == -ENOENT && !parents)
        return hf_cli_fail("the directory it would be in does not exist", "-p makes that, too",
                           "cannot make directory %s", path);
    return error ? hf_cli_fail_errno(error, "cannot make directory %s", path) : HF_CLI_OK;
}

static int run_mkdir(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"parents", no_argument, NULL, 'p'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct hf_volume *volume;
    bool parents = false;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":ph", options, NULL)) != -1) {
        if (opt != 'p')
            return hf_cli_option(cmd, opt, argv);
        parents = true;
    }
    status = hf_cli_operands(cmd, argc, argv, 2, argc);
    if (!status)
        status = hf_cli_open(argv[optind], 0, 0, &volume);
    if (status)
        return status;
    for (int i = optind + 1; i < argc; i++)
        if (make_path(volume, argv[i], parents))
            status = HF_CLI_FAILED;
    return hf_cli_close(volume, argv[optind], status);
}

const struct hf_cli_command hf_cmd_mkdir = {
    .name = "mkdir",
    .synopsis = "VOLUME PATH... [-p]",
    .summary = "make directories",
    .help = "  -p, --parents  make missing directories above PATH, too; an existing one is no error\n"
            "\n"
            "Examples:\n"
            "  holdfast mkdir box.hf /letters\n"
            "  holdfast mkdir box.hf -p /letters/2009/june\n",
    .run = run_mkdir,
};
