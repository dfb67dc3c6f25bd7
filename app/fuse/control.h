/* SPDX-License-Identifier: MIT */
/*
 * control.h - asking a mount's server: an abstract socket named after the device number of the mount.
 *
 * One line is a request, and the answer is lines until the end; none at all: the server does not know the
 * request. "stat": NAME VALUE a line. "top": the same, then "file" and "client" lines (busy.c). "grow BYTES":
 * "grown BLOCKS BYTES" (more blocks, and for how much data there is room now), "same 0 BYTES" or "failed WHY".
 * "umount": unmounts, writes everything, closes the volume, and answers "done" or "failed WHY" (still mounted:
 * "busy WHY"). Peers of another user than the server's are turned away, but root.
 */
#ifndef HF_FUSE_CONTROL_H
#define HF_FUSE_CONTROL_H

#include <sys/types.h>

/* The socket of the mount with this device number. Returns a descriptor or a negative errno. */
int hf_control_listen(dev_t device);
/* Sends a request; the descriptor gives the answer. -ENOENT: nobody serves a mount with this number;
 * -EACCES: its server belongs to another user. */
int hf_control_ask(dev_t device, const char *request);
#define HF_CONTROL_LINE 64
/* Reads one line, without its end. 0; -EPROTO: the peer says none, or it is too long. */
int hf_control_request(int fd, char line[HF_CONTROL_LINE]);
/* A connection whose peer may ask, or a negative errno. */
int hf_control_accept(int listening);

#endif
