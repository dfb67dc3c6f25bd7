/* SPDX-License-Identifier: MIT */
/*
 * serve.h - mappings of a volume's files in other processes, with the promise of <holdfast/holdfast.h>.
 *
 * The process that has the volume open runs a server on a Unix socket. Another process of the same user maps
 * the memfd that holds a file's pages, and hands over a userfaultfd for the range: its page faults are
 * decided by the server, one by one, as those of the server's own mappings are. So stores of all processes
 * meet in one cache, page_mkwrite runs before the first store to a page anywhere, and page_mkclean reaches
 * everybody.
 *
 * Needs Linux 6.6 on the client's side of things: UFFDIO_POISON delivers a refusal. A client's userfaultfd
 * may be one for user mode only (no privilege); then system calls on pages that were not touched yet give
 * EFAULT.
 *
 * Who may connect: the user of the server process, nobody else. Who has a token (hf_server_grant()) may map
 * that file as it was opened. What a client holds is the file's memfd: a hostile program of the same user can
 * scribble into a file that it was given a token for, and lose its own stores; nothing else.
 */
#ifndef HOLDFAST_SERVE_H
#define HOLDFAST_SERVE_H

#include <holdfast/holdfast.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ the server */

struct hf_server;

/* What happens to a store of a client for which there is no space. */
enum hf_on_full {
    HF_ON_FULL_SIGBUS = 0, /* SIGBUS at the store */
    HF_ON_FULL_WAIT,       /* the thread sleeps until there is space */
    HF_ON_FULL_RESERVE,    /* mapping a range for writing reserves all of it, or fails with -ENOSPC; then as
                              SIGBUS */
};

/* An access of a client that was refused, or waits. */
struct hf_serve_event {
    struct hf_fault fault; /* addr and tid are the client's */
    pid_t pid;
    const char *name; /* what the client calls the file; "" if it did not say; no control characters */
    bool waits;       /* HF_ON_FULL_WAIT: said once a client */
};

#define HF_SERVE_CLIENTS_MAX 256u

struct hf_server_options {
    enum hf_on_full on_full;
    uint32_t max_clients; /* 0: HF_SERVE_CLIENTS_MAX. More are turned away */
    /* Called from threads of the server, with all signals blocked; may be NULL. */
    void (*refused)(const struct hf_serve_event *event, void *arg);
    /* Before a store of a client is decided: 0, or -ENOSPC, -EDQUOT, -EIO to refuse it. May be NULL. */
    int (*inject)(const struct hf_serve_event *store, void *arg);
    /* Before msync(MS_SYNC) of a range of a file by a client, of which fault tells inode and offset: 0, or
     * -errno that it gets; then nothing was written. May be NULL. */
    int (*inject_sync)(const struct hf_serve_event *sync, void *arg);
    void *arg;
};

/*
 * Serves volume on a new socket at path, which must not exist and is for this user alone. volume must stay
 * open until hf_server_free(). options may be NULL. Returns 0; -EADDRINUSE: path exists; -ENAMETOOLONG: 107
 * bytes are the limit; or what socket calls returned.
 */
int hf_server_new(struct hf_volume *volume, const char *path, const struct hf_server_options *options,
                  struct hf_server **ret_server);

/*
 * Takes leave of all clients: what they could store to is write-protected and stays dirty in the cache, their
 * connections are closed, and what they touch from then on is SIGBUS. NULL is fine. Not with calls still
 * running.
 */
void hf_server_free(struct hf_server *server);

#define HF_SERVE_TOKEN_LEN 16

/*
 * A token for file: who shows it to the server may map the file as it was opened. The same for each call on a
 * file. Good until hf_server_revoke(), which must come before the file's hf_close(). Returns 0, -ENOMEM,
 * -ENODEV (not a regular file), -EXDEV (of another volume).
 */
int hf_server_grant(struct hf_server *server, struct hf_file *file, uint8_t ret_token[HF_SERVE_TOKEN_LEN]);
/* Forgets the file's token, if it has one. What is mapped already stays mapped. */
void hf_server_revoke(struct hf_server *server, struct hf_file *file);

struct hf_server_stats {
    uint64_t clients_seen, mappings, faults, refused, waits, protocol_errors; /* since the start */
    uint32_t clients, areas;                                                  /* now */
};
void hf_server_stats(struct hf_server *server, struct hf_server_stats *ret_stats);

/* A process that maps files of the volume, as long as its address space exists. */
struct hf_client_stats {
    pid_t pid;      /* 0: not known yet */
    bool connected; /* false: it has closed its connection; what it has mapped is served on */
    uint32_t areas; /* pieces of its address space, now */
    uint64_t mappings, faults_load, faults_store, refused, waits; /* since it came */
};
/*
 * Fills at most max clients. Returns how many there were: max, if there may be more. Any context but a signal
 * handler; blocks only as long as somebody comes or goes.
 */
int hf_server_clients(struct hf_server *server, unsigned max, struct hf_client_stats *ret_clients);

/* ------------------------------------------------------------------ the protocol */

/*
 * A SOCK_SEQPACKET socket. Each request is one struct hf_serve_request, answered by one struct
 * hf_serve_reply, in order. All numbers are of the machine. A request that is no such struct, or an op before
 * HELLO, ends the connection.
 *
 *   op       sent along           asks
 *   HELLO    userfaultfd, helper  first; flags is HF_SERVE_VERSION, addr the process id. The userfaultfd must
 * be fresh: the server calls UFFDIO_API. helper is one end of a SOCK_SEQPACKET pair, see below. Reply: value
 * is enum hf_on_full OPEN     -                    token: the file that MAP will map; name: for messages.
 * Reply: its memfd comes along; flags: 1 readable, 2 writable OPEN_AT  -                    the same with the
 * file that is mapped, or was inherited, at addr MAP      -                    [addr, addr + len) maps the
 * opened file from off with prot; it must be mapped PROT_NONE by now and get its protection after the reply
 *   UNMAP    -                    the range has left the address space (inaccessible memory keeps its place)
 *   PROTECT  -                    mprotect(2) to prot is about to be called
 *   SYNC     -                    msync(MS_SYNC) of the range
 *   FAULT_IN -                    bring the range in, for writing if prot says so; off: the thread id. Reply:
 * error, and value: the offset in the file where it was refused; flags 1: wait a little and ask again FORK -
 * a child is about to be forked. Reply: a connection for it comes along; over it, after a HELLO of its own,
 * the child may OPEN_AT what is mapped now FORKED   -                    the child has mapped what it wanted
 * of that
 *
 * Over the helper socket the server sends struct hf_serve_drop; the process calls madvise(MADV_DONTNEED) for
 * that page, if it lies in one of its mappings, and sends the same struct back. When that socket, or the
 * other, is closed by the server, nobody serves faults any more: the process must take all its mappings away,
 * and wake who sleeps.
 */
#define HF_SERVE_VERSION 1u
#define HF_SERVE_NAME_LEN 128

enum hf_serve_op {
    HF_SERVE_HELLO = 1,
    HF_SERVE_OPEN,
    HF_SERVE_OPEN_AT,
    HF_SERVE_MAP,
    HF_SERVE_UNMAP,
    HF_SERVE_PROTECT,
    HF_SERVE_SYNC,
    HF_SERVE_FAULT_IN,
    HF_SERVE_FORK,
    HF_SERVE_FORKED,
};

struct hf_serve_request {
    uint32_t op; /* enum hf_serve_op */
    uint32_t flags;
    uint64_t addr, len; /* in the client */
    int64_t off;        /* in the file, bytes */
    uint32_t prot;
    uint32_t reserved; /* 0 */
    uint8_t token[HF_SERVE_TOKEN_LEN];
    char name[HF_SERVE_NAME_LEN]; /* NUL-terminated */
};

struct hf_serve_reply {
    int32_t error; /* 0 or negative errno */
    uint32_t flags;
    uint64_t value;
};

struct hf_serve_drop {
    uint64_t addr;
};

/* ioctl(2) on a file of a mount that serves mappings: where the server is, and a token for this open file. */
struct hf_serve_ticket {
    uint8_t token[HF_SERVE_TOKEN_LEN];
    char socket[108]; /* NUL-terminated */
};
#define HF_SERVE_IOC_TICKET 0x807c6801u /* _IOR('h', 1, struct hf_serve_ticket) */

#ifdef __cplusplus
}
#endif
#endif
