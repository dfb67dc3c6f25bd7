/* SPDX-License-Identifier: MIT */
/*
 * cmd_rm.c - holdfast rm: removes names, with -r whole trees.
 *
 * A tree is removed from its leaves up. Names never leave the volume, and symbolic links are removed, not
 * followed. The first failure in a tree ends that tree, and says where.
 */
#include "cli.h"
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int remove_any(struct hf_volume *volume, char *path);

/* path is a buffer of HF_PATH_MAX bytes that holds the directory's path; it is used for those below. */
static int remove_children(struct hf_volume *volume, char *path)
{
    size_t len = strlen(path);
    struct hf_dirent entry;
    struct hf_dir *dir;
    int status = HF_CLI_OK;
    int more = hf_opendir(volume, path, &dir);

    if (more)
        return hf_cli_fail_errno(more, "cannot remove directory %s", path);
    while (!status && (more = hf_readdir(dir, &entry)) > 0) {
        if (!strcmp(entry.name, ".") || !strcmp(entry.name, ".."))
            continue;
        if (len + strlen(entry.name) + 2 > HF_PATH_MAX) {
            status = hf_cli_fail_errno(ENAMETOOLONG, "cannot remove %s/%s", path, entry.name);
            break;
        }
        sprintf(path + len, "/%s", entry.name);
        status = remove_any(volume, path);
        path[len] = '\0';
    }
    if (!status && more < 0)
        status = hf_cli_fail_errno(more, "cannot read directory %s", path);
    hf_closedir(dir);
    return status;
}

static int remove_any(struct hf_volume *volume, char *path)
{
    struct stat st;
    int error = hf_lstat(volume, path, &st);
    int status = HF_CLI_OK;

    if (!error && S_ISDIR(st.st_mode)) {
        status = remove_children(volume, path);
        if (!status)
            error = hf_rmdir(volume, path);
    } else if (!error) {
        error = hf_unlink(volume, path);
    }
    return error ? hf_cli_fail_errno(error, "cannot remove %s", path) : status;
}

static int remove_operand(struct hf_volume *volume, const char *operand, bool recursive)
{
    char path[HF_PATH_MAX];
    size_t len = strlen(operand);
    struct stat st;
    int error;

    while (len && operand[len - 1] == '/')
        len--;
    if (!len)
        return hf_cli_fail("it is the root of the volume", "name what is in it, or 'mkfs --force'",
                           "cannot remove %s", operand);
    if (len >= sizeof(path))
        return hf_cli_fail_errno(ENAMETOOLONG, "cannot remove %.60s...", operand);
    memcpy(path, operand, len);
    path[len] = '\0';
    error = hf_lstat(volume, path, &st);
    if (error)
        return hf_cli_fail_errno(error, "cannot remove %s", operand);
    if (S_ISDIR(st.st_mode) && !recursive)
        return hf_cli_fail("it is a directory", "-r removes it with all that is in it", "cannot remove %s",
                           operand);
    return remove_any(volume, path);
}

static int run_rm(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"recursive", no_argument, NULL, 'r'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct hf_volume *volume;
    bool recursive = false;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":rh", options, NULL)) != -1) {
        if (opt != 'r')
            return hf_cli_option(cmd, opt, argv);
        recursive = true;
    }
    status = hf_cli_operands(cmd, argc, argv, 2, argc);
    if (!status)
        status = hf_cli_open(argv[optind], 0, 0, &volume);
    if (status)
        return status;
    for (int i = optind + 1; i < argc; i++)
        if (remove_operand(volume, argv[i], recursive))
            status = HF_CLI_FAILED;
    return hf_cli_close(volume, argv[optind], status);
}

const struct hf_cli_command hf_cmd_rm = {
    .name = "rm",
    .synopsis = "VOLUME PATH... [-r]",
    .summary = "remove files, with -r whole directories",
    .help = "Symbolic links are removed, not followed. The space is free again when the command ends.\n"
            "\n"
            "  -r, --recursive  remove a directory and all that is in it\n"
            "\n"
            "Examples:\n"
            "  holdfast rm box.hf /letter\n"
            "  holdfast rm box.hf -r /letters\n",
    .run = run_rm,
};
