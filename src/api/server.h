/* SPDX-License-Identifier: MIT */
/*
 * server.h - a server of mappings and its connections. For serve*.c only.
 *
 * Each connection has two threads: one that answers requests (serve_client.c), and, after HELLO, one that
 * serves page faults (mm/client_faults.c), so that a fault never waits for an fsync. What one process can
 * cost is bounded: two threads, HF_CLIENT_AREAS_MAX areas, one opened file, one request at a time.
 *
 * Locks: server.lock and conn.lock are pthread mutexes and never held together with each other or with any
 * lock of the library.
 */
#ifndef HF_API_SERVER_H
#define HF_API_SERVER_H

#include "api/api.h"
#include "mm/client.h"
#include <holdfast/serve.h>

#include <pthread.h>

#define HF_CONN_NAMES 32
#define HF_GRANT_BUCKETS 256u

struct hf_grant;

struct hf_server {
    /* set at init */
    struct hf_volume *volume;
    struct hf_server_options options;
    uint32_t max_clients;
    char path[108];
    int listen_fd;
    int stop_fd; /* an eventfd: readable from hf_server_free() on */
    pthread_t acceptor;

    pthread_mutex_t lock;
    pthread_cond_t left; /* a connection is gone */
    struct hf_list conns;
    uint32_t nr_conns;
    struct hf_grant *grants[HF_GRANT_BUCKETS];
    struct hf_server_stats past; /* what connections that are gone have counted */
};

/* What a forked child may open. */
struct hf_heir {
    struct hf_vm_file *file; /* referenced */
    uintptr_t start, end;
};

struct hf_conn {
    /* set at init */
    struct hf_server *server;
    int sock;
    int stop_fd; /* an eventfd: the thread that serves faults must end */

    struct hf_list link; /* guarded by server.lock */

    /* the request thread's own */
    struct hf_vm_file *opened; /* referenced */
    struct hf_heir *heirs;
    size_t nr_heirs;
    pthread_t faults;

    _Atomic uint64_t mappings, protocol_errors;
    _Atomic bool lingers; /* its socket is done with; its address space is not */

    /* set at HELLO, client under server.lock */
    struct hf_client *client;
    int helper;
    _Atomic pid_t pid;

    pthread_mutex_t lock;
    struct {
        uint64_t ino; /* 0: free */
        char name[HF_SERVE_NAME_LEN];
    } names[HF_CONN_NAMES]; /* guarded by lock, like the rest */
    unsigned next_name;
    pid_t refused_tid; /* whose refusal was told already, and where */
    uintptr_t refused_page;
    pid_t injected_tid; /* the same for a refusal that was injected: the handler that asks gets it again */
    uintptr_t injected_page;
    int injected;
};

/* Starts a connection over sock, which is taken over in
 * any case. heirs too, on success. 0, -EAGAIN, -ENOMEM. */
int hf_conn_start(struct hf_server *server, int sock, struct hf_heir *heirs, size_t nr_heirs,
                  const struct hf_conn *parent);
/* The file of a token, referenced; NULL: none. */
struct hf_vm_file *hf_server_file_of(struct hf_server *server, const uint8_t token[HF_SERVE_TOKEN_LEN]);
/* pthread_create() with all signals blocked. 0 or -errno. */
int hf_serve_thread(pthread_t *ret_thread, void *(*fn)(void *arg), void *arg);

#endif
