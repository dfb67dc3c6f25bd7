/* SPDX-License-Identifier: MIT */
/*
 * remote.h - mappings of files whose volume another process has open: the client's side of
 * <holdfast/serve.h>.
 *
 * No part of libholdfast: it is preloaded into programs that know nothing of it. It calls the kernel directly
 * where a call could be one that it replaces itself, allocates with mmap only, and keeps three descriptors
 * and one thread a server: the helper, which drops pages when the server asks, and takes all mappings away
 * when the server is gone.
 *
 * Locks: rpc (one request at a time; held while a mapping is made or goes) -> table (which ranges are ours;
 * held for no request, so that the helper can take it while the server waits for it). Signals but those of
 * faults are blocked under both.
 */
#ifndef HF_PRELOAD_REMOTE_H
#define HF_PRELOAD_REMOTE_H

#include <holdfast/serve.h>

/*
 * mmap(2) of the file that token stands for, MAP_SHARED. flags: MAP_FIXED, MAP_FIXED_NOREPLACE and what does
 * not matter. Returns 0; -EOPNOTSUPP: no userfaultfd here; -ESTALE: no such token; -EIO: the server is gone;
 * or what mmap(2) or the server said.
 */
int hf_remote_map(const struct hf_serve_ticket *ticket, const char *name, void *addr, size_t len, int prot,
                  int flags, int64_t off, void **ret_addr);
/* True if some byte of the range is ours. Cheap while nothing is mapped. */
bool hf_remote_owns(const void *addr, size_t len);
/* What is ours in the range becomes inaccessible memory that holds the place; for the caller to unmap or map
 * over. */
int hf_remote_release(void *addr, size_t len);
/* Before mprotect(2) on the range: tells the server about what is ours. 0, -EACCES, -ENOSPC, -EIO. */
int hf_remote_protect(void *addr, size_t len, int prot);
/* msync(MS_SYNC) of what is ours. */
int hf_remote_sync(void *addr, size_t len);
/* Brings in what is ours. Returns 0 or the refusal. */
int hf_remote_fault_in(const void *addr, size_t len, bool write);
/* mremap(2) of a range that begins in one of ours; all of old must be. new_addr: with MREMAP_FIXED. */
int hf_remote_remap(void *old_addr, size_t old_len, size_t new_len, int flags, void *new_addr,
                    void **ret_addr);
/* MADV_DONTFORK and MADV_DOFORK. */
void hf_remote_inherit(void *addr, size_t len, bool inherit);

/*
 * A SIGBUS at addr. Returns 0: try the access again; 1: not ours; or the refusal, negative, which *ret_fault
 * (may be NULL) and hf_remote_last_fault() tell more of. Async-signal-safe enough: a fault in a mapping of
 * ours interrupts no code of ours.
 */
int hf_remote_sigbus(void *addr, bool write, struct hf_fault *ret_fault);
void hf_remote_last_fault(struct hf_fault *ret_fault);

/* Around fork(2), as pthread_atfork() wants them. The child has the same mappings when it returns from
 * fork(). */
void hf_remote_fork_prepare(void);
void hf_remote_fork_parent(void);
void hf_remote_fork_child(void);

/* True if fd is one of ours, which the program must not close. */
bool hf_remote_is_own_fd(int fd);
/* Moves ours away from fd, which the program wants for itself. 0 or -errno. */
int hf_remote_make_way(int fd);
/* Kernel code cannot fault our pages in: system calls on them need hf_remote_fault_in(). */
bool hf_remote_user_only(void);

#endif
