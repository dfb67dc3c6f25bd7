/* SPDX-License-Identifier: MIT */
/*
 * serve.c - the server of mappings: its socket, who may come in, tokens. See serve.h for the contract.
 */
#include "api/server.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct hf_grant {
    struct hf_grant *next;
    struct hf_file *file;
    uint8_t token[HF_SERVE_TOKEN_LEN]; /* the bucket, then chance */
};

int hf_serve_thread(pthread_t *ret_thread, void *(*fn)(void *arg), void *arg)
{
    sigset_t all, old;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    err = pthread_create(ret_thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -err;
}

/* ------------------------------------------------------------------ tokens */

static uint8_t bucket_of(const struct hf_file *file)
{
    uintptr_t n = (uintptr_t)file >> 5;

    return (uint8_t)(n ^ n >> 8 ^ n >> 16);
}

static struct hf_grant *grant_find(struct hf_server *s, const struct hf_file *file)
{
    struct hf_grant *g = s->grants[bucket_of(file)];

    while (g != NULL && g->file != file)
        g = g->next;
    return g;
}

static struct hf_grant *grant_new(struct hf_file *file)
{
    struct hf_grant *g = calloc(1, sizeof(*g));

    if (g == NULL || getrandom(g->token, sizeof(g->token), 0) != (ssize_t)sizeof(g->token)) {
        free(g);
        return NULL;
    }
    g->file = file;
    g->token[0] = bucket_of(file);
    return g;
}

int hf_server_grant(struct hf_server *s, struct hf_file *file, uint8_t ret_token[HF_SERVE_TOKEN_LEN])
{
    struct hf_grant *g;

    if (s == NULL || file == NULL || ret_token == NULL)
        return -EINVAL;
    if (!S_ISREG(file->vnode->inode.mode))
        return -ENODEV;
    if (file->vnode->volume != s->volume)
        return -EXDEV;
    pthread_mutex_lock(&s->lock);
    g = grant_find(s, file);
    if (g == NULL) {
        g = grant_new(file);
        if (g != NULL) {
            g->next = s->grants[bucket_of(file)];
            s->grants[bucket_of(file)] = g;
        }
    }
    if (g != NULL)
        memcpy(ret_token, g->token, HF_SERVE_TOKEN_LEN);
    pthread_mutex_unlock(&s->lock);
    return g != NULL ? 0 : -ENOMEM;
}

void hf_server_revoke(struct hf_server *s, struct hf_file *file)
{
    struct hf_grant **at, *gone;

    if (s == NULL || file == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    at = &s->grants[bucket_of(file)];
    while (*at != NULL && (*at)->file != file)
        at = &(*at)->next;
    gone = *at;
    if (gone != NULL)
        *at = gone->next;
    pthread_mutex_unlock(&s->lock);
    free(gone);
}

struct hf_vm_file *hf_server_file_of(struct hf_server *s, const uint8_t token[HF_SERVE_TOKEN_LEN])
{
    struct hf_vm_file *file = NULL;
    struct hf_grant *g;

    pthread_mutex_lock(&s->lock);
    g = s->grants[token[0]];
    while (g != NULL && memcmp(g->token, token, HF_SERVE_TOKEN_LEN) != 0)
        g = g->next;
    if (g != NULL) {
        file = &g->file->vm;
        file->get(file); /* before hf_server_revoke() returns, and so before the file is closed */
    }
    pthread_mutex_unlock(&s->lock);
    return file;
}

static void grants_free(struct hf_server *s)
{
    for (unsigned i = 0; i < HF_GRANT_BUCKETS; i++)
        while (s->grants[i] != NULL) {
            struct hf_grant *g = s->grants[i];
            s->grants[i] = g->next;
            free(g);
        }
}

/* ------------------------------------------------------------------ the door */

static bool same_user(int sock)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == geteuid();
}

static void let_in(struct hf_server *s)
{
    int sock = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (sock < 0) {
        /* Out of descriptors, mostly: who knocks stays in the queue, and we do not spin. */
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            poll(NULL, 0, 10);
        return;
    }
    if (same_user(sock))
        hf_conn_start(s, sock, NULL, 0, NULL);
    else
        close(sock);
}

static void *acceptor_main(void *arg)
{
    struct hf_server *s = arg;
    struct pollfd fds[2] = {{.fd = s->stop_fd, .events = POLLIN}, {.fd = s->listen_fd, .events = POLLIN}};

    pthread_setname_np(pthread_self(), "hf-accept");
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents != 0)
            break;
        if (fds[1].revents != 0)
            let_in(s);
    }
    return NULL;
}

static int listen_at(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, err;

    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
        /* Others would be turned away after the knock; this spares us the noise. */
        if (chmod(path, 0600) == 0 && listen(fd, 64) == 0)
            return fd;
        err = -errno;
        unlink(path);
    } else {
        err = -errno;
    }
    close(fd);
    return err;
}

static int server_new(struct hf_volume *volume, const char *path, const struct hf_server_options *options,
                      struct hf_server **ret_server)
{
    struct hf_server *s = calloc(1, sizeof(*s));
    int err;

    if (s == NULL)
        return -ENOMEM;
    if (options != NULL)
        s->options = *options;
    s->volume = volume;
    s->max_clients = s->options.max_clients != 0 ? s->options.max_clients : HF_SERVE_CLIENTS_MAX;
    hf_list_init(&s->conns);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->left, NULL);
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    err = s->stop_fd < 0 ? -errno : 0;
    s->listen_fd = err ? -1 : listen_at(path);
    if (!err && s->listen_fd < 0)
        err = s->listen_fd;
    if (!err) {
        strcpy(s->path, path);
        err = hf_serve_thread(&s->acceptor, acceptor_main, s);
        if (!err) {
            *ret_server = s;
            return 0;
        }
        unlink(path);
        close(s->listen_fd);
    }
    if (s->stop_fd >= 0)
        close(s->stop_fd);
    free(s);
    return err;
}

int hf_server_new(struct hf_volume *volume, const char *path, const struct hf_server_options *options,
                  struct hf_server **ret_server)
{
    if (volume == NULL || path == NULL || path[0] == '\0' || ret_server == NULL)
        return -EINVAL;
    if (options != NULL && (unsigned)options->on_full > HF_ON_FULL_RESERVE)
        return -EINVAL;
    return HF_CALL(int, server_new(volume, path, options, ret_server));
}

void hf_server_free(struct hf_server *s)
{
    if (s == NULL)
        return;
    eventfd_write(s->stop_fd, 1);
    pthread_join(s->acceptor, NULL);
    unlink(s->path);
    close(s->listen_fd);
    pthread_mutex_lock(&s->lock);
    while (s->nr_conns > 0)
        pthread_cond_wait(&s->left, &s->lock);
    pthread_mutex_unlock(&s->lock);
    grants_free(s);
    close(s->stop_fd);
    pthread_cond_destroy(&s->left);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void hf_server_stats(struct hf_server *s, struct hf_server_stats *ret_stats)
{
    struct hf_list *at;

    pthread_mutex_lock(&s->lock);
    *ret_stats = s->past;
    hf_list_for_each (at, &s->conns) {
        struct hf_conn *c = hf_list_entry(at, struct hf_conn, link);
        struct hf_client_counts counts;

        ret_stats->clients++;
        ret_stats->mappings += atomic_load(&c->mappings);
        if (c->client == NULL)
            continue;
        hf_client_count(c->client, &counts);
        ret_stats->faults += counts.faults_load + counts.faults_store;
        ret_stats->refused += counts.refused;
        ret_stats->waits += counts.waits;
        ret_stats->areas += counts.areas;
    }
    pthread_mutex_unlock(&s->lock);
}

int hf_server_clients(struct hf_server *s, unsigned max, struct hf_client_stats *ret_clients)
{
    struct hf_list *at;
    unsigned nr = 0;

    if (s == NULL || (ret_clients == NULL && max > 0) || max > INT_MAX)
        return -EINVAL;
    pthread_mutex_lock(&s->lock);
    hf_list_for_each (at, &s->conns) {
        struct hf_conn *c = hf_list_entry(at, struct hf_conn, link);
        struct hf_client_stats client = {.pid = atomic_load(&c->pid),
                                         .connected = !atomic_load(&c->lingers),
                                         .mappings = atomic_load(&c->mappings)};
        struct hf_client_counts counts = {.areas = 0};

        if (nr == max)
            break;
        if (c->client != NULL)
            hf_client_count(c->client, &counts);
        client.areas = counts.areas;
        client.faults_store = counts.faults_store;
        client.faults_load = counts.faults_load;
        client.refused = counts.refused;
        client.waits = counts.waits;
        ret_clients[nr++] = client;
    }
    pthread_mutex_unlock(&s->lock);
    return (int)nr;
}
