/* SPDX-License-Identifier: MIT */
/*
 * fsize.h - RLIMIT_FSIZE: the program's limit is for the program's files.
 *
 * The kernel applies it to every write(2) and ftruncate(2) of the process, so also to those by which the
 * cache keeps pages in memory and a device keeps its blocks. vfs/ applies the limit to the volume's files, as
 * POSIX says; where it meets what is ours, it is lifted to the hard limit for that one call. Beyond that one:
 * -EFBIG.
 */
#ifndef HF_BASE_FSIZE_H
#define HF_BASE_FSIZE_H

#include <stdbool.h>
#include <sys/resource.h>

/* The soft limit, bytes; INT64_MAX: none. */
long hf_fsize_limit(void);
/* SIGXFSZ for this thread, which may be in the middle of a call: it comes when signals are open again. */
void hf_fsize_exceeded(void);

/*
 * A call on a file of ours has failed with EFBIG: takes back the SIGXFSZ that came with it (this thread
 * blocks asynchronous signals), and lifts the limit. True: try again, then hf_fsize_restore().
 * Async-signal-safe.
 */
bool hf_fsize_lift(struct rlimit *ret_old);
void hf_fsize_restore(const struct rlimit *old);

#endif
