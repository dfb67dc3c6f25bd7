/* SPDX-License-Identifier: MIT */
/*
 * cmd_trim.c - holdfast trim: space that a volume does not use goes back to the host or the device; of a
 * volume that nobody has open, or through its mount.
 */
#include "../fuse/control.h"
#include "cli.h"
#include "term.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <holdfast/maintain.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0: a mount of ours: other filesystems have FITRIM, too. */
static int mount_check(int fd)
{
    struct stat st;
    int asked;

    if (fstat(fd, &st) < 0)
        return -errno;
    asked = hf_control_ask(st.st_dev, "stat");
    if (asked < 0)
        return asked;
    close(asked);
    return 0;
}

/* As fstrim(8); 0 or a status, said. */
static int trim_mount(const char *dir, uint64_t min_bytes, uint64_t *ret_bytes)
{
    struct fstrim_range range = {.len = UINT64_MAX, .minlen = min_bytes};
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

    if (fd < 0)
        return hf_cli_fail_host(errno, "cannot trim %s", dir);
    error = mount_check(fd);
    if (error == 0 && ioctl(fd, FITRIM, &range) < 0)
        error = -errno;
    close(fd);
    *ret_bytes = range.len;
    if (error == -ENOENT)
        return hf_cli_fail("no volume is mounted there by 'holdfast mount'", NULL, "cannot trim %s", dir);
    if (error == -EOPNOTSUPP)
        return hf_cli_fail(
            "the volume is thick, and its space stays its own, or the device has no use for it", NULL,
            "cannot trim %s", dir);
    return error ? hf_cli_fail_host(error, "cannot trim %s", dir) : 0;
}

static int trim_volume(const char *path, uint64_t min_bytes, uint64_t *ret_bytes)
{
    struct hf_volume *volume;
    int status = hf_cli_open(path, 0, 0, &volume);

    if (status)
        return status;
    if (hf_volume_trim(volume, min_bytes, ret_bytes))
        status = hf_cli_fail(hf_cli_volume_error(path), NULL, "cannot trim %s", path);
    return hf_cli_close(volume, path, status);
}

static int run_trim(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"minimum", required_argument, NULL, 'm'}, {"help", no_argument, NULL, 'h'}, {0}};
    char text[HF_CLI_SIZE_LEN];
    uint64_t bytes = 0, min_bytes = 0;
    const char *path;
    struct stat st;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":hm:", options, NULL)) != -1) {
        if (opt != 'm')
            return hf_cli_option(cmd, opt, argv);
        if (hf_cli_size_parse(optarg, &min_bytes))
            return hf_cli_usage(cmd, "'%s' is no size", optarg);
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 1);
    if (status)
        return status;
    path = argv[optind];
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        status = trim_mount(path, min_bytes, &bytes);
    else
        status = trim_volume(path, min_bytes, &bytes);
    if (status)
        return status;
    hf_term_print_name(stdout, path);
    printf(": %s are free, and the device knows it\n", hf_cli_size_format(bytes, text));
    return hf_cli_flush(HF_CLI_OK);
}

const struct hf_cli_command hf_cmd_trim = {
    .name = "trim",
    .synopsis = "VOLUME|DIR [--minimum N]",
    .summary = "give space that a thin volume does not use back",
    .help =
        "Tells the device which blocks of the volume hold nothing: a thin volume in a file gives their space "
        "back\n"
        "to the host's filesystem, a disk may erase them. A thick volume in a file is refused: its space is "
        "its\n"
        "own. A volume that is mounted is named by its directory, as for fstrim(8); 'holdfast mount -o "
        "discard'\n"
        "does it all the time. Otherwise nobody may have it open.\n"
        "\n"
        "  -m, --minimum N  only runs of at least N bytes, or with K, M, G\n"
        "\n"
        "Examples:\n"
        "  holdfast trim box.hf\n"
        "  holdfast trim /mnt/box --minimum 1M\n",
    .run = run_trim,
};
