/* SPDX-License-Identifier: MIT */
/*
 * space.c - space that is on its way back.
 *
 * A program removes a file and writes another: to it the space is free. The server frees it when the kernel
 * has forgotten the inode, which it says in a request of its own, before the program's next one; but another
 * worker may be at that one first. So a refusal is looked at twice.
 */
#include "server.h"

#include <errno.h>
#include <time.h>

#define PAUSES 50 /* of 2 ms: for a file that somebody holds by O_PATH, nothing is going to change */

bool hf_fuse_again(struct hf_fuse *fuse, ssize_t r, unsigned *tries)
{
    const struct timespec pause = {.tv_nsec = 2 * 1000 * 1000};

    if ((r != -ENOSPC && r != -EDQUOT) || *tries > 0)
        return false;
    for (*tries = 1; *tries < PAUSES && hf_node_any_unlinked(fuse->volume) == 1; ++*tries)
        nanosleep(&pause, NULL);
    return true;
}
