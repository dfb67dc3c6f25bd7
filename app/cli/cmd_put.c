/* SPDX-License-Identifier: MIT */
/*
 * cmd_put.c - holdfast put: copies a host file into a volume, whole or not at all.
 *
 * The bytes go to a temporary name beside PATH, are made durable, and then renamed over PATH: what was there
 * before stays until the new file is complete. A failure removes the temporary file; a put that was killed
 * leaves it, and the next one removes it: the volume is open here alone, so nobody can be writing to it.
 */
#include "cli.h"
#include "copy.h"
#include "term.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEMP_NAME ".holdfast-put.partial"

struct put {
    struct hf_volume *volume;
    const char *volume_path;
    const char *source; /* "-": stdin */
    char *path, *temp;  /* in the volume */
    mode_t mode;
    struct hf_copy copy;
};

static int open_source(struct put *put)
{
    struct stat st;
    int fd = strcmp(put->source, "-") ? open(put->source, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;

    if (fd < 0)
        return hf_cli_fail_host(errno, "cannot open host file %s", put->source);
    if (fstat(fd, &st) < 0)
        return hf_cli_fail_host(errno, "cannot read host file %s", put->source);
    if (S_ISDIR(st.st_mode))
        return hf_cli_fail("it is a directory", "put copies one file; make directories with 'holdfast mkdir'",
                           "cannot put %s", put->source);
    if (hf_cli_is_volume(put->volume_path, &st))
        return hf_cli_fail("it is the volume itself", "name another file", "cannot put %s", put->source);
    put->copy.from.fd = fd;
    put->copy.from.seekable =
        S_ISREG(st.st_mode) && fd != STDIN_FILENO; /* stdin may stand anywhere in its file */
    put->copy.size = put->copy.from.seekable ? st.st_size : -1;
    put->mode = fd != STDIN_FILENO ? st.st_mode & 0777 : 0644;
    return HF_CLI_OK;
}

/* A PATH that is a directory means: the same name in there. */
static int choose_names(struct put *put, const char *path)
{
    struct stat st;
    size_t len;

    if (hf_stat(put->volume, path, &st) == 0 && S_ISDIR(st.st_mode)) {
        if (!strcmp(put->source, "-"))
            return hf_cli_fail_errno(EISDIR, "cannot put stdin at %s", path);
        put->path = hf_cli_path_join(path, strlen(path), hf_cli_basename(put->source, &len));
    } else {
        put->path = strdup(path);
    }
    if (put->path) {
        hf_cli_basename(put->path, &len);
        put->temp = hf_cli_path_join(put->path, len, TEMP_NAME);
    }
    return put->temp ? HF_CLI_OK : hf_cli_fail_errno(ENAMETOOLONG, "cannot put %s", put->source);
}

/* Bytes of data the source still has, holes left out where the host can tell. */
static uint64_t remaining_data(const struct hf_copy *copy)
{
    hf_off_t off = copy->copied;
    uint64_t bytes = 0;

    while (off < copy->size) {
        hf_off_t data = lseek(copy->from.fd, off, SEEK_DATA);
        hf_off_t hole = data < 0 ? -1 : lseek(copy->from.fd, data, SEEK_HOLE);

        if (data < 0)
            return errno == ENXIO ? bytes : bytes + (uint64_t)(copy->size - off);
        if (hole < 0 || hole > copy->size)
            hole = copy->size;
        bytes += (uint64_t)(hole - data);
        off = hole;
    }
    return bytes;
}

static int fail_no_space(struct put *put)
{
    char done[HF_CLI_SIZE_LEN], missing[HF_CLI_SIZE_LEN], why[160];
    uint64_t need = put->copy.size >= 0 ? remaining_data(&put->copy) : 0, left = 0;
    struct hf_statfs fs = {0};

    if (hf_volume_statfs(put->volume, &fs) == 0)
        left = fs.blocks_free * fs.block_size;
    hf_cli_size_format((uint64_t)put->copy.copied, done);
    hf_cli_size_format(need > left ? need - left : need, missing);
    if (fs.thin && fs.blocks_free)
        snprintf(why, sizeof(why), "the host of this thin volume had no space left after %s", done);
    else if (need)
        snprintf(why, sizeof(why), "no space left after %s: %s more would be needed", done, missing);
    else
        snprintf(why, sizeof(why), "no space left after %s", done);
    return hf_cli_fail(why, "nothing was kept of it; free some with 'holdfast rm', or use a larger volume",
                       "cannot put %s", put->path);
}

static int fail_copy(struct put *put, int error)
{
    if (error == -ENOSPC)
        return fail_no_space(put);
    if (error == -EINTR)
        return hf_cli_fail("interrupted", "nothing was kept of it", "cannot put %s", put->path);
    if (put->copy.reading)
        return hf_cli_fail_host(error, "reading host file %s", put->source);
    return hf_cli_fail_errno(error, "writing %s", put->path);
}

static int create_temp(struct put *put)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL;
    int error = hf_open(put->volume, put->temp, flags, put->mode, &put->copy.to.file);

    if (error == -EEXIST && hf_unlink(put->volume, put->temp) == 0)
        error = hf_open(put->volume, put->temp, flags, put->mode, &put->copy.to.file);
    return error;
}

/* The bytes, durable under the temporary name. */
static int copy_in(struct put *put)
{
    int status = HF_CLI_OK, error, close_error;

    error = create_temp(put);
    if (error)
        return hf_cli_fail_errno(error, "cannot create %s", put->path);
    put->copy.to.seekable = true;
    error = hf_copy_run(&put->copy, "put");
    if (!error)
        error = hf_fsync(put->copy.to.file);
    if (error)
        status = fail_copy(put, error);
    close_error = hf_close(put->copy.to.file);
    if (close_error && !status)
        status = hf_cli_fail_errno(close_error, "writing %s", put->path);
    return status;
}

static int put_file(struct put *put, const char *path)
{
    int status = open_source(put), error;

    if (!status)
        status = choose_names(put, path);
    if (status)
        return status;
    status = copy_in(put);
    if (!status) {
        error = hf_rename(put->volume, put->temp, put->path, 0);
        if (error)
            status = hf_cli_fail_errno(error, "cannot put %s", put->path);
    }
    if (status)
        hf_unlink(put->volume, put->temp); /* the failure has been told; there may be nothing to remove */
    return status;
}

static int run_put(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct put put = {0};
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        return hf_cli_option(cmd, opt, argv);
    status = hf_cli_operands(cmd, argc, argv, 3, 3);
    if (!status)
        status = hf_cli_open(argv[optind], 0, 0, &put.volume);
    if (status)
        return status;
    put.volume_path = argv[optind];
    put.source = argv[optind + 1];
    hf_copy_catch_signals();
    status = put_file(&put, argv[optind + 2]);
    free(put.path);
    free(put.temp);
    return hf_cli_close(put.volume, argv[optind], status);
}

const struct hf_cli_command hf_cmd_put = {
    .name = "put",
    .synopsis = "VOLUME HOSTFILE|- PATH",
    .summary = "copy a file into a volume",
    .help =
        "Copies HOSTFILE (or stdin) to PATH; if PATH is a directory, to the same name in it. PATH is "
        "replaced\n"
        "whole, at the end: when the volume gets full half way, or the copy is interrupted, what was there\n"
        "before is still there, and nothing of the new file is. When it returns 0 the file is durable. Holes "
        "of\n"
        "HOSTFILE stay holes.\n"
        "\n"
        "Examples:\n"
        "  holdfast put box.hf letter.txt /letter\n"
        "  tar c docs | holdfast put box.hf - /docs.tar\n",
    .run = run_put,
};
