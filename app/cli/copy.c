/* SPDX-License-Identifier: MIT */
/*
 * copy.c - streams between a volume and the host, with holes, progress and interruption.
 */
#include "copy.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)256 * 1024)

static volatile sig_atomic_t interrupted;

static void note_interrupt(int signo)
{
    (void)signo;
    interrupted = 1;
}

void hf_copy_catch_signals(void)
{
    struct sigaction action = {.sa_handler = note_interrupt}; /* no SA_RESTART: a blocked read shall return */

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* EPIPE from write() is enough, and leaves time to close the volume */
}

static ssize_t end_read(const struct hf_copy_end *end, void *buf, size_t len, hf_off_t off)
{
    ssize_t got;

    if (end->file)
        return hf_pread(end->file, buf, len, off);
    got = end->seekable ? pread(end->fd, buf, len, off) : read(end->fd, buf, len);
    return got < 0 ? -errno : got;
}

static ssize_t end_write(const struct hf_copy_end *end, const void *buf, size_t len, hf_off_t off)
{
    ssize_t put;

    if (end->file)
        return hf_pwrite(end->file, buf, len, off);
    put = end->seekable ? pwrite(end->fd, buf, len, off) : write(end->fd, buf, len);
    return put < 0 ? -errno : put;
}

/* Where data begins at or after off; the size where only a hole follows; off where nobody can tell. */
static hf_off_t next_data(const struct hf_copy *copy, hf_off_t off)
{
    const struct hf_copy_end *from = &copy->from;
    hf_off_t data;

    if (!from->seekable || !copy->to.seekable || copy->size < 0)
        return off;
    data = from->file ? hf_lseek(from->file, off, SEEK_DATA) : lseek(from->fd, off, SEEK_DATA);
    if (!from->file && data < 0)
        data = -errno;
    if (data == -ENXIO)
        return copy->size > off ? copy->size : off;
    return data < off ? off : data;
}

/* A short count is not an error yet: the next call tells it. */
static int write_all(struct hf_copy *copy, const char *buf, size_t len)
{
    while (len) {
        ssize_t put = end_write(&copy->to, buf, len, copy->copied);

        if (put == -EINTR && !interrupted)
            continue;
        if (put <= 0)
            return put ? (int)put : -EIO;
        copy->copied += put;
        buf += put;
        len -= (size_t)put;
    }
    return 0;
}

static int end_truncate(const struct hf_copy_end *end, hf_off_t size)
{
    if (end->file)
        return hf_ftruncate(end->file, size);
    return ftruncate(end->fd, size) < 0 ? -errno : 0;
}

/* Returns 1 when there may be more, 0 at the end. */
static int copy_chunk(struct hf_copy *copy, char *buf)
{
    hf_off_t data = next_data(copy, copy->copied);
    ssize_t got;

    if (data > copy->copied && end_truncate(&copy->to, data) == 0)
        copy->copied = data;
    got = end_read(&copy->from, buf, CHUNK_BYTES, copy->copied);
    if (got == -EINTR && !interrupted)
        return 1;
    if (got <= 0) {
        copy->reading = got < 0;
        return (int)got;
    }
    got = write_all(copy, buf, (size_t)got);
    return got ? (int)got : 1;
}

int hf_copy_run(struct hf_copy *copy, const char *verb)
{
    struct hf_progress progress;
    char *buf = malloc(CHUNK_BYTES);
    int more = buf ? 1 : -ENOMEM;

    copy->copied = 0;
    copy->reading = false;
    hf_progress_init(&progress, verb, copy->size > 0 ? (uint64_t)copy->size : 0);
    while (more > 0) {
        more = interrupted ? -EINTR : copy_chunk(copy, buf);
        hf_progress_update(&progress, (uint64_t)copy->copied);
    }
    hf_progress_done(&progress);
    free(buf);
    return more;
}
