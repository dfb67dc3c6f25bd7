/* SPDX-License-Identifier: MIT */
/*
 * cmd_umount.c - holdfast umount: unmounts, and waits until the volume is closed and says how that went.
 */
#include "ask.h"
#include "cli.h"
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int report(int fd, const char *dir)
{
    char answer[512] = "", *why = answer;
    FILE *in = fdopen(fd, "r");

    if (!in || !fgets(answer, sizeof(answer), in)) {
        if (in)
            fclose(in);
        return hf_cli_fail("its server ended without a word", "see the system's log", "%s", dir);
    }
    fclose(in);
    answer[strcspn(answer, "\n")] = '\0';
    why += strcspn(answer, " ");
    why += *why == ' ';
    if (!strcmp(answer, "done"))
        return HF_CLI_OK;
    if (!strncmp(answer, "busy ", 5))
        return hf_cli_fail(why, "fuser -m names who uses it", "cannot unmount %s", dir);
    return hf_cli_fail(why, "it is unmounted, but not everything could be written", "%s", dir);
}

/* So that naming a file or directory of the volume does not take all of it away. */
static bool is_where_it_is_mounted(const char *dir, dev_t device)
{
    char above[PATH_MAX];
    struct stat st;

    if (snprintf(above, sizeof(above), "%s/..", dir) >= (int)sizeof(above))
        return true;
    return stat(above, &st) < 0 ? errno != ENOTDIR : st.st_dev != device;
}

static int run_umount(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    const char *dir;
    dev_t device;
    int opt, status, fd;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        return hf_cli_option(cmd, opt, argv);
    opt = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (opt)
        return opt;
    dir = argv[optind];
    status = hf_cli_ask_where(dir, &device);
    if (!status && !is_where_it_is_mounted(dir, device))
        status = hf_cli_fail("it is no place where a volume is mounted",
                             "name the directory that it is mounted on", "cannot unmount %s", dir);
    if (!status)
        status = hf_cli_ask(device, dir, "umount", &fd);
    return status ? status : report(fd, dir);
}

const struct hf_cli_command hf_cmd_umount = {
    .name = "umount",
    .synopsis = "DIR",
    .summary = "unmount, and wait until everything is written",
    .help = "Unmounts what 'holdfast mount' mounted on DIR, waits until its volume is closed, and fails if "
            "something\n"
            "could not be written. A mount that is in use stays.\n"
            "\n"
            "Examples:\n"
            "  holdfast umount /mnt/box\n",
    .run = run_umount,
};
