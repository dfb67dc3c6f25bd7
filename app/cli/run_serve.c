/* SPDX-License-Identifier: MIT */
/*
 * run_serve.c - the server's half of holdfast run: a mount that serves its mappings, and says what was
 * refused.
 */
#ifdef HF_HAVE_FUSE
#include "run.h"
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ injection */

bool hf_run_inject_parse(char *text, struct hf_run_inject *ret_inject)
{
    static const struct {
        const char *name;
        int error;
    } errors[] = {{"ENOSPC", -ENOSPC}, {"EDQUOT", -EDQUOT}, {"EIO", -EIO}};
    static const char *const places[] = {"store", "write", "fsync"};
    char *where = strchr(text, '@'), *nth = where != NULL ? strchr(where, ':') : NULL, *glob, *end;

    if (nth == NULL)
        return false;
    *where++ = '\0';
    *nth++ = '\0';
    glob = strchr(nth, ':');
    if (glob != NULL)
        *glob++ = '\0';
    ret_inject->error = 0;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (strcmp(text, errors[i].name) == 0)
            ret_inject->error = errors[i].error;
    ret_inject->where = HF_FUSE_CALL_FSYNC + 1;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (strcmp(where, places[i]) == 0)
            ret_inject->where = (enum hf_fuse_call)i;
    errno = 0;
    ret_inject->nth = strtoull(nth, &end, 10);
    ret_inject->glob = glob;
    return ret_inject->error != 0 && ret_inject->where <= HF_FUSE_CALL_FSYNC && errno == 0 && *end == '\0' &&
           end != nth && nth[0] != '-' && ret_inject->nth > 0;
}

/* A pattern is one for paths or for the last part of them. */
static bool named(const char *path, const char *glob)
{
    const char *slash = strrchr(path, '/');

    return glob == NULL || fnmatch(glob, path, 0) == 0 || (slash != NULL && fnmatch(glob, slash + 1, 0) == 0);
}

static int inject(enum hf_fuse_call call, const char *path, void *arg)
{
    struct hf_run_inject *in = &((struct hf_run *)arg)->inject;

    if (call != in->where || !named(path, in->glob))
        return 0;
    return atomic_fetch_add(&in->seen, 1) + 1 == in->nth ? in->error : 0;
}

/* ------------------------------------------------------------------ what is said */

static void say_refused(const struct hf_serve_event *event, void *arg)
{
    const struct hf_fault *f = &event->fault;

    (void)arg;
    fprintf(stderr, "holdfast: %s %s: %s: %s at offset %lld, process %d, thread %d\n",
            f->write ? "store" : "load", event->waits ? "waits for space" : "refused",
            hf_cli_errno_name(f->error), event->name[0] != '\0' ? event->name : "a file without a name",
            (long long)f->offset, (int)event->pid, (int)f->tid);
}

/* Once for each: a program without what is preloaded stores by the rules of the mount. */
static void say_kernel_wrote(int error, void *arg)
{
    static atomic_flag said = ATOMIC_FLAG_INIT, said_lost = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&said))
        hf_cli_fail("what is preloaded is not in it (a static program, one that changes its user, an emptied "
                    "environment?)",
                    "its stores are as under 'holdfast mount -o mmap=late'",
                    "a program maps files of %s by itself", ((struct hf_run *)arg)->dir);
    if (error < 0 && !atomic_flag_test_and_set(&said_lost))
        hf_cli_fail(strerror(-error), "its msync, fsync or close says so, too",
                    "stores of such a program are lost");
}

static int ready_fd; /* -1: it has been told */

static void say_stats(const struct hf_server_stats *s, void *arg)
{
    struct hf_run *run = arg;

    if (!run->stats || ready_fd >= 0) /* it was never ready */
        return;
    fprintf(stderr, "holdfast: processes %llu, mappings %llu, faults %llu, refused %llu, waited %llu\n",
            (unsigned long long)s->clients_seen, (unsigned long long)s->mappings,
            (unsigned long long)s->faults, (unsigned long long)s->refused, (unsigned long long)s->waits);
}

/* ------------------------------------------------------------------ serving */

static void tell_ready(void *arg)
{
    (void)arg;
    while (write(ready_fd, "", 1) < 0 && errno == EINTR)
        ;
    close(ready_fd);
    ready_fd = -1;
}

int hf_run_serve(struct hf_run *run, bool by_helper, int ready)
{
    struct hf_mkfs_options mkfs = {.size_bytes = run->size_bytes,
                                   .block_size = run->block_size,
                                   .force = true /* a second way to mount */};
    bool refused = false;
    struct hf_fuse_options opts = {
        .mmap = run->on_full == HF_ON_FULL_RESERVE ? HF_FUSE_MMAP_RESERVE : HF_FUSE_MMAP_LATE,
        .serve_at = run->socket,
        .serve = {.on_full = run->on_full, .refused = say_refused, .arg = run},
        .served = say_stats,
        .kernel_wrote = run->on_full == HF_ON_FULL_RESERVE ? NULL : say_kernel_wrote,
        .arg = run,
        .by_helper = by_helper,
        .ret_refused = &refused,
    };
    char error[HF_FUSE_TEXT] = "";

    ready_fd = ready;
    if (run->inject.error != 0)
        opts.inject = inject;
    if (run->volume == NULL && hf_mkfs(run->volume_path, &mkfs) < 0)
        return hf_cli_fail(hf_cli_volume_error(run->volume_path), NULL, "cannot make a temporary volume");
    if (hf_fuse_serve(&opts, run->volume_path, run->dir, tell_ready, NULL, error) == 0)
        return HF_CLI_OK;
    if (refused && write(ready, error, strlen(error)) > 0)
        return HF_CLI_FAILED;
    return hf_cli_fail(error, NULL, "serving %s", run->volume_path);
}
#endif
