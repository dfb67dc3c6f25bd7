/* SPDX-License-Identifier: MIT */
/*
 * ops_ioctl.c - mappings in other processes: the server of <holdfast/serve.h> beside the mount's, and the
 * ticket that tells a program where it is and which open file it means. And FITRIM, as fstrim(8) says it.
 */
#include "server.h"

#include <errno.h>
#include <holdfast/maintain.h>
#include <linux/fs.h>
#include <string.h>
#include <unistd.h>

/* Of the whole volume: it has no addresses that a part could be told by. For root and whoever serves. */
static void trim(fuse_req_t req, const void *in, size_t in_size, size_t out_size)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    uid_t uid = fuse_req_ctx(req)->uid;
    struct fstrim_range range;
    uint64_t bytes = 0;
    int r;

    if (in_size < sizeof(range) || out_size < sizeof(range)) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    memcpy(&range, in, sizeof(range));
    if (uid != 0 && uid != geteuid())
        r = -EPERM;
    else if (range.start != 0 || range.len != UINT64_MAX)
        r = -EINVAL;
    else
        r = hf_volume_trim(fuse->volume, range.minlen, &bytes);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    range.len = bytes;
    fuse_reply_ioctl(req, 0, &range, sizeof(range));
}

void hf_fuse_op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
                      unsigned flags, const void *in, size_t in_size, size_t out_size)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    struct hf_serve_ticket ticket = {.socket = ""};
    int r;

    (void)ino;
    (void)arg;
    if (cmd == FITRIM) {
        trim(req, in, in_size, out_size);
        return;
    }
    if (cmd != HF_SERVE_IOC_TICKET || fuse->server == NULL || (flags & FUSE_IOCTL_DIR) ||
        out_size < sizeof(ticket)) {
        fuse_reply_err(req, ENOTTY);
        return;
    }
    r = hf_server_grant(fuse->server, hf_fuse_file(fi), ticket.token);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    strncpy(ticket.socket, fuse->opts->serve_at, sizeof(ticket.socket) - 1);
    fuse_reply_ioctl(req, 0, &ticket, sizeof(ticket));
}

int hf_fuse_mappings_start(struct hf_fuse *fuse)
{
    struct hf_server_options serve = fuse->opts->serve;

    hf_fuse_inject_serve(fuse, &serve);
    return fuse->opts->serve_at == NULL
               ? 0
               : hf_server_new(fuse->volume, fuse->opts->serve_at, &serve, &fuse->server);
}

void hf_fuse_mappings_stop(struct hf_fuse *fuse)
{
    struct hf_server_stats stats;

    if (fuse->server == NULL)
        return;
    if (fuse->opts->served != NULL) {
        hf_server_stats(fuse->server, &stats);
        fuse->opts->served(&stats, fuse->opts->arg);
    }
    hf_server_free(fuse->server);
    fuse->server = NULL;
}
