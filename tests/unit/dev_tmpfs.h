/* SPDX-License-Identifier: MIT */
/*
 * dev_tmpfs.h - a small host filesystem of one's own, to fill up.
 */
#ifndef TESTS_UNIT_DEV_TMPFS_H
#define TESTS_UNIT_DEV_TMPFS_H

#define TMPFS_DIR "/mnt"
#define TMPFS_REFUSED 77 /* exit status of a child that could not have one */

/* In a forked child: mounts a tmpfs of that size ("1m") on TMPFS_DIR, for this process alone; as root or in a
 * user namespace. Leaves with TMPFS_REFUSED if this machine lets us have none. */
void tmpfs_mount(const char *size);

/* Runs fn in a child; the test is skipped if that left with TMPFS_REFUSED, and failed by any other status
 * than 0. */
void tmpfs_run(void (*fn)(void));

#endif
