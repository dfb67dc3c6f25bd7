/* SPDX-License-Identifier: MIT */
/*
 * cmd_get.c - holdfast get: copies a file out of a volume, whole or not at all.
 *
 * A regular HOSTFILE is written under a temporary name beside it, made durable, and renamed: nobody ever
 * sees a truncated file. Pipes and devices are written as they are.
 */
#include "cli.h"
#include "copy.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct get {
    struct hf_volume *volume;
    const char *volume_path, *path;
    char *target, *temp; /* host; temp NULL: the target is written itself */
    struct hf_copy copy;
    mode_t mode;
};

/* A HOSTFILE that is a directory means: the same name in there; a symbolic link: where it points. */
static char *resolve_target(const struct get *get, const char *target)
{
    struct stat st;
    size_t len;

    if (stat(target, &st) < 0)
        return strdup(target);
    if (S_ISDIR(st.st_mode))
        return hf_cli_path_join(target, strlen(target), hf_cli_basename(get->path, &len));
    return realpath(target, NULL);
}

static int open_temp(struct get *get)
{
    mode_t mask = umask(0);
    size_t len;
    int fd;

    umask(mask);
    hf_cli_basename(get->target, &len);
    get->temp = hf_cli_path_join(get->target, len, ".holdfast-get-XXXXXX");
    if (!get->temp)
        return hf_cli_fail_host(ENAMETOOLONG, "cannot write host file %s", get->target);
    fd = mkostemp(get->temp, O_CLOEXEC);
    if (fd < 0) {
        free(get->temp);
        get->temp = NULL;
        return hf_cli_fail_host(errno, "cannot write host file %s", get->target);
    }
    get->copy.to.fd = fd;
    get->copy.to.seekable = true;
    if (fchmod(fd, get->mode & ~mask & 0777) < 0)
        return hf_cli_fail_host(errno, "cannot write host file %s", get->target);
    return HF_CLI_OK;
}

static int open_target(struct get *get, const char *target)
{
    struct stat st;

    if (!strcmp(target, "-")) {
        get->target = strdup("stdout");
        get->copy.to.fd = STDOUT_FILENO;
        return get->target ? HF_CLI_OK : hf_cli_fail_errno(ENOMEM, "cannot get %s", get->path);
    }
    get->target = resolve_target(get, target);
    if (!get->target)
        return hf_cli_fail_host(ENAMETOOLONG, "cannot write host file %s", target);
    if (stat(get->target, &st) < 0 || S_ISREG(st.st_mode)) {
        if (stat(get->target, &st) == 0 && hf_cli_is_volume(get->volume_path, &st))
            return hf_cli_fail("it is the volume itself", "name another file", "cannot write host file %s",
                               target);
        return open_temp(get);
    }
    get->copy.to.fd = open(get->target, O_WRONLY | O_CLOEXEC);
    if (get->copy.to.fd < 0)
        return hf_cli_fail_host(errno, "cannot write host file %s", get->target);
    return HF_CLI_OK;
}

static int open_source(struct get *get)
{
    struct stat st;
    int error = hf_open(get->volume, get->path, O_RDONLY, 0, &get->copy.from.file);

    if (error)
        return hf_cli_fail_errno(error, "cannot open %s", get->path);
    error = hf_fstat(get->copy.from.file, &st);
    if (!error && S_ISDIR(st.st_mode))
        error = -EISDIR;
    if (error)
        return hf_cli_fail_errno(error, "cannot get %s", get->path);
    get->copy.from.seekable = true;
    get->copy.size = st.st_size;
    get->mode = st.st_mode;
    return HF_CLI_OK;
}

static int copy_out(struct get *get)
{
    int error = hf_copy_run(&get->copy, "get");

    if (error == -EINTR)
        return hf_cli_fail("interrupted", "nothing was kept of it", "cannot get %s", get->path);
    if (error && get->copy.reading)
        return hf_cli_fail_errno(error, "reading %s at byte %lld", get->path, (long long)get->copy.copied);
    if (!error && get->temp && fsync(get->copy.to.fd) < 0)
        error = -errno;
    if (!error && get->copy.to.fd != STDOUT_FILENO) {
        int fd = get->copy.to.fd;

        get->copy.to.fd = -1;
        error = close(fd) < 0 ? -errno : 0;
    }
    if (!error && get->temp && rename(get->temp, get->target) < 0)
        error = -errno;
    return error ? hf_cli_fail(strerror(-error), get->temp ? "nothing was kept of it" : NULL,
                               "cannot write host file %s", get->target)
                 : HF_CLI_OK;
}

static int run_get(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct get get = {.copy = {.to = {.fd = -1}}};
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1)
        return hf_cli_option(cmd, opt, argv);
    status = hf_cli_operands(cmd, argc, argv, 3, 3);
    if (!status)
        status = hf_cli_open(argv[optind], HF_OPEN_READ_ONLY, 0, &get.volume);
    if (status)
        return status;
    get.volume_path = argv[optind];
    get.path = argv[optind + 1];
    hf_copy_catch_signals();
    status = open_source(&get);
    if (!status)
        status = open_target(&get, argv[optind + 2]);
    if (!status)
        status = copy_out(&get);
    if (status && get.temp)
        unlink(get.temp);
    if (get.copy.from.file)
        hf_close(get.copy.from.file); /* opened read-only: it has nothing to report */
    free(get.temp);
    free(get.target);
    return hf_cli_close(get.volume, get.volume_path, status);
}

const struct hf_cli_command hf_cmd_get = {
    .name = "get",
    .synopsis = "VOLUME PATH HOSTFILE|-",
    .summary = "copy a file out of a volume",
    .help = "Copies PATH to HOSTFILE (or stdout); if HOSTFILE is a directory, to the same name in it. An "
            "existing\n"
            "HOSTFILE is replaced whole, at the end: a copy that fails leaves no truncated file. When it "
            "returns 0\n"
            "the file is durable. Holes stay holes.\n"
            "\n"
            "Examples:\n"
            "  holdfast get box.hf /letter letter.txt\n"
            "  holdfast get box.hf /docs.tar - | tar x\n",
    .run = run_get,
};
