/* SPDX-License-Identifier: MIT */
/*
 * seek.c - SEEK_DATA and SEEK_HOLE: where data is goes by what mappings stored, too, and the kernel may still
 * hold that.
 *
 * So it is called in first. The kernel answers that call only when workers have taken its writes; a worker
 * that waited for it could be the last one. Therefore seeks have a thread of their own, which ends before the
 * workers do.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

struct hf_fuse_seek {
    fuse_req_t req;
    fuse_ino_t ino;
    struct hf_file *file;
    off_t off;
    int whence;
    struct hf_fuse_seek *next;
};

static void answer(const struct hf_fuse_seek *s)
{
    hf_off_t at = hf_lseek(s->file, s->off, s->whence);

    if (at < 0)
        fuse_reply_err(s->req, (int)-at);
    else
        fuse_reply_lseek(s->req, at);
}

static void *seek_thread(void *arg)
{
    struct hf_fuse *fuse = arg;
    struct hf_fuse_seek *s;

    prctl(PR_SET_NAME, "hf-fuse-seek");
    pthread_mutex_lock(&fuse->seek_lock);
    while (fuse->seeks != NULL || !fuse->seek_stop) {
        s = fuse->seeks;
        if (s == NULL) {
            pthread_cond_wait(&fuse->seek_more, &fuse->seek_lock);
            continue;
        }
        fuse->seeks = s->next;
        pthread_mutex_unlock(&fuse->seek_lock);
        fuse_lowlevel_notify_inval_inode(fuse->session, s->ino, 0, 0);
        answer(s);
        free(s);
        pthread_mutex_lock(&fuse->seek_lock);
    }
    pthread_mutex_unlock(&fuse->seek_lock);
    return NULL;
}

int hf_fuse_seek_start(struct hf_fuse *fuse)
{
    pthread_mutex_init(&fuse->seek_lock, NULL);
    pthread_cond_init(&fuse->seek_more, NULL);
    fuse->seek_stop = false;
    return -pthread_create(&fuse->seeker, NULL, seek_thread, fuse);
}

void hf_fuse_seek_stop(struct hf_fuse *fuse)
{
    pthread_mutex_lock(&fuse->seek_lock);
    fuse->seek_stop = true;
    pthread_cond_signal(&fuse->seek_more);
    pthread_mutex_unlock(&fuse->seek_lock);
    pthread_join(fuse->seeker, NULL);
}

void hf_fuse_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    struct hf_fuse_seek here = {
        .req = req, .ino = ino, .file = hf_fuse_file(fi), .off = off, .whence = whence};
    struct hf_fuse *fuse = hf_fuse_of(req);
    struct hf_fuse_seek *s = fuse->read_only ? NULL : malloc(sizeof(*s));
    bool queued = false;

    hf_fuse_count(fuse, lseek, 1);
    pthread_mutex_lock(&fuse->seek_lock);
    if (s != NULL && !fuse->seek_stop) {
        *s = here;
        s->next = fuse->seeks;
        fuse->seeks = s;
        queued = true;
        pthread_cond_signal(&fuse->seek_more);
    }
    pthread_mutex_unlock(&fuse->seek_lock);
    if (queued)
        return;
    free(s);
    answer(&here);
}
