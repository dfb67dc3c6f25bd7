/* SPDX-License-Identifier: MIT */
/*
 * fake_server.h - answers on the control socket of a mount that there is not: known answers, and no FUSE.
 */
#ifndef TESTS_FAKE_SERVER_H
#define TESTS_FAKE_SERVER_H

#include <sys/types.h>

/* On a device of its own, and nobody mounts a volume there. */
#define FAKE_DIR "/proc"

/* Setup and teardown of a test. Each answer adds 50 to faults_store, which begins with 100. */
int fake_server_start(void **state);
int fake_server_start_old(void **state); /* it has never heard of "top" */
int fake_server_start_as(uid_t user);    /* in a test of root's */
int fake_server_stop(void **state);

#endif
