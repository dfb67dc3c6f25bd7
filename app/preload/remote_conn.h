/* SPDX-License-Identifier: MIT */
/*
 * remote_conn.h - connections to servers, and the table of our ranges. For remote*.c only.
 */
#ifndef HF_PRELOAD_REMOTE_CONN_H
#define HF_PRELOAD_REMOTE_CONN_H

#include "remote.h"

#include <signal.h>
#include <stdatomic.h>

#define HF_REMOTE_CONNS_MAX 8

enum hf_remote_state { HF_REMOTE_FREE = 0, HF_REMOTE_LIVE, HF_REMOTE_DEAD };

/* Changed under the rpc lock. */
struct hf_remote_conn {
    _Atomic enum hf_remote_state state;
    char path[108];
    _Atomic int sock, uffd, helper;
    int child_sock;          /* between prepare and parent or child of a fork; -1 */
    _Atomic unsigned serial; /* which connection this slot holds: a helper of an older one leaves it alone */
};

struct hf_remote_range {
    uintptr_t start, end;
    int64_t off;
    uint64_t ino;
    int conn;
    int prot;
    bool inherit; /* by a forked child */
};

extern struct hf_remote_conn hf_remote_conns[HF_REMOTE_CONNS_MAX];

/* Blocks signals and takes the rpc lock. */
void hf_remote_lock(sigset_t *ret_mask);
void hf_remote_unlock(const sigset_t *mask);
/* In a child of a bare clone(2) or _Fork(3), which no handler of ours saw: it has no mapping of ours, and the
 * connections are its parent's. Forgets both. */
void hf_remote_renew(void);
/* Moves a descriptor to where a program that counts on low numbers does not notice it. Returns the new one, or
 * fd. */
int hf_remote_raise_fd(int fd);
/* After fork, in the child: locks are free and signals as they were. */
void hf_remote_lock_reset(void);
void hf_remote_table_lock(void);
void hf_remote_table_unlock(void);

/* ---- the table (remote_table.c). table lock held, but for the atomic nr. */
extern struct hf_remote_range *hf_remote_ranges;
extern _Atomic size_t hf_remote_nr_ranges;
/* The index of the first range that ends above addr. */
size_t hf_remote_range_first(uintptr_t addr);
/* Room for nr more. 0 or -ENOMEM. */
int hf_remote_table_reserve(size_t nr);
void hf_remote_range_insert(const struct hf_remote_range *range);
/* Cuts ranges at start and end, so that none crosses them: there is room for two more. */
void hf_remote_range_cut(uintptr_t start, uintptr_t end);
void hf_remote_range_remove(size_t index);

/* ---- connections (remote_conn.c). rpc lock held. */
/* The connection to the server at path, made if need be. Returns its slot or -errno. */
int hf_remote_connect(const char *path);
/* A fresh userfaultfd and helper over a socket that is there: HELLO. 0 or -errno. */
int hf_remote_hello(struct hf_remote_conn *c);
/* Starts the helper thread. 0 or -errno. */
int hf_remote_helper_start(int slot);
/* One request. ret_fd (may be NULL): the descriptor that came along, or -1. Returns the server's answer, or
 * -EIO. */
int hf_remote_call(struct hf_remote_conn *c, const struct hf_serve_request *request,
                   struct hf_serve_reply *ret_reply, int *ret_fd);
/* The server is gone: everything of this connection becomes SIGBUS. */
void hf_remote_bury(int slot);
/* Makes [start, end) memory whose touch is SIGBUS. */
void hf_remote_map_bus(uintptr_t start, uintptr_t end);

/* mmap(2) and others, not by way of libc: negative errno. */
long hf_sys_mmap(uintptr_t addr, size_t len, int prot, int flags, int fd, int64_t off);
long hf_sys_munmap(uintptr_t addr, size_t len);
long hf_sys_mprotect(uintptr_t addr, size_t len, int prot);
long hf_sys_madvise(uintptr_t addr, size_t len, int advice);

#endif
