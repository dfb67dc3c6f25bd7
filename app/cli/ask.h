/* SPDX-License-Identifier: MIT */
/*
 * ask.h - asking the server of a mount (app/fuse/control.h), with what is said when there is none.
 */
#ifndef HF_CLI_ASK_H
#define HF_CLI_ASK_H

#include <sys/types.h>

/* The device number of the filesystem that path lies in. HF_CLI_OK, or HF_CLI_FAILED, said. */
int hf_cli_ask_where(const char *path, dev_t *ret_device);
/* Sends the request; the answer comes from *ret_fd. path is for messages. HF_CLI_OK, or HF_CLI_FAILED, said. */
int hf_cli_ask(dev_t device, const char *path, const char *request, int *ret_fd);

#endif
