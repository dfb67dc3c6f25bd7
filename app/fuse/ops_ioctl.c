/* SPDX-License-Identifier: MIT */
/*
 * ops_ioctl.c - mappings in other processes: the server of <holdfast/serve.h> beside the mount's, and the
 * ticket that tells a program where it is and which open file it means. FITRIM, as fstrim(8) says it. And
 * what the cache knows of a file's pages (control_map.h).
 */
#include "control_map.h"
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <holdfast/maintain.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As linux/userfaultfd.h has them; that of the machine where this is compiled may be older. */
#define FEATURE_WP_HUGETLBFS_SHMEM (1u << 12)
#define FEATURE_POISON (1u << 14)
#define FLAG_USER_MODE_ONLY 1

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

static void tell_page(const struct hf_page_info *page, struct hf_control_page *ret_page)
{
    strncpy(ret_page->state, page->state, sizeof(ret_page->state) - 1);
    ret_page->straddling = page->straddling;
    ret_page->writable = page->writable;
    ret_page->nr_blocks = page->nr_blocks;
    for (unsigned i = 0; i < page->nr_blocks; i++)
        ret_page->blocks[i] =
            (uint8_t)(page->block_state[i] | (page->block_dirty[i] ? HF_CONTROL_MAP_DIRTY : 0) |
                      (page->block_uptodate[i] ? HF_CONTROL_MAP_UPTODATE : 0));
}

static int map_pages(struct hf_fuse *fuse, struct hf_file *file, struct hf_control_map *map)
{
    struct hf_page_info *pages;
    struct hf_statfs fs;
    int r = hf_volume_statfs(fuse->volume, &fs);

    if (r < 0)
        return r;
    if (map->count > HF_CONTROL_MAP_PAGES)
        map->count = HF_CONTROL_MAP_PAGES;
    pages = calloc(HF_CONTROL_MAP_PAGES, sizeof(*pages));
    if (pages == NULL)
        return -ENOMEM;
    r = map->count > 0 ? hf_page_map(file, map->first, map->count, pages) : 0;
    for (int i = 0; i < r; i++)
        tell_page(&pages[i], &map->pages[i]);
    free(pages);
    if (r < 0)
        return r;
    map->count = (uint32_t)r;
    map->page_size = fs.page_size;
    map->block_size = fs.block_size;
    return 0;
}

static void map(fuse_req_t req, struct fuse_file_info *fi, const void *in, size_t in_size, size_t out_size)
{
    struct hf_control_map *answer = calloc(1, sizeof(*answer));
    int r = answer == NULL ? -ENOMEM : 0;

    if (r == 0 && (in_size < sizeof(*answer) || out_size < sizeof(*answer)))
        r = -EINVAL;
    if (r == 0) {
        memcpy(answer, in, offsetof(struct hf_control_map, page_size)); /* first, count */
        r = map_pages(hf_fuse_of(req), hf_fuse_file(fi), answer);
    }
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_ioctl(req, 0, answer, sizeof(*answer));
    free(answer);
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
    if (cmd == (unsigned)HF_CONTROL_IOC_MAP && !(flags & FUSE_IOCTL_DIR)) {
        map(req, fi, in, in_size, out_size);
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

/* Whether a process of this user can hand over its page faults on this machine. */
static bool faults_can_be_served(void)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_THREAD_ID |
                                         FEATURE_WP_HUGETLBFS_SHMEM | FEATURE_POISON};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | FLAG_USER_MODE_ONLY);
    bool can = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

    if (fd >= 0)
        close(fd);
    return can;
}

/* Where that cannot be had, programs are left with the kernel's mappings, and are told so. */
int hf_fuse_mappings_start(struct hf_fuse *fuse)
{
    struct hf_server_options serve = fuse->opts->serve;
    int r;

    if (fuse->opts->serve_at == NULL)
        return 0;
    hf_fuse_inject_serve(fuse, &serve);
    r = hf_server_new(fuse->volume, fuse->opts->serve_at, &serve, &fuse->server);
    fuse->serves_mappings = r == 0 && faults_can_be_served();
    return r;
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
