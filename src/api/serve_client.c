/* SPDX-License-Identifier: MIT */
/*
 * serve_client.c - one connection of the server of mappings: its requests, one at a time.
 *
 * Nothing that comes in is believed: lengths, descriptors and ranges are checked here or in mm/client.c; a
 * request that is none ends the connection. A connection lives as long as the address space behind it: a
 * process that closes all its descriptors keeps its mappings, and they stay tracked.
 */
#include "api/server.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* How long a client's helper may take to drop a page. A
 * client that is slower is not told of its refusal yet. */
#define DROP_MS 5000
/* A client without a socket is looked at this often: does its address space still exist? */
#define ALIVE_MS 100
#define FDS_MAX 4

static struct hf_file *file_of(struct hf_vm_file *vm)
{
    return hf_container_of(vm, struct hf_file, vm);
}

/* ------------------------------------------------------------------ what mm/ asks of us */

static void name_of(struct hf_conn *c, uint64_t ino, char ret_name[HF_SERVE_NAME_LEN])
{
    ret_name[0] = '\0';
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < HF_CONN_NAMES; i++)
        if (c->names[i].ino == ino)
            memcpy(ret_name, c->names[i].name, HF_SERVE_NAME_LEN);
    pthread_mutex_unlock(&c->lock);
}

static void tell_refused(struct hf_conn *c, const struct hf_fault *refusal, bool waits)
{
    const struct hf_server_options *o = &c->server->options;
    char name[HF_SERVE_NAME_LEN];
    struct hf_serve_event event = {.fault = *refusal, .pid = c->pid, .name = name, .waits = waits};

    if (o->refused == NULL)
        return;
    name_of(c, refusal->ino, name);
    o->refused(&event, o->arg);
}

/*
 * From the thread that serves faults. Told once for each access: its thread may fault again before it has got
 * its signal, and its handler will ask about it.
 */
static void on_refused(void *arg, const struct hf_fault *refusal, bool waits)
{
    struct hf_conn *c = arg;
    uintptr_t page = (uintptr_t)refusal->addr;
    bool told;

    pthread_mutex_lock(&c->lock);
    told = !waits && c->refused_tid == refusal->tid && c->refused_page == page;
    c->refused_tid = waits ? 0 : refusal->tid;
    c->refused_page = page;
    pthread_mutex_unlock(&c->lock);
    if (!told)
        tell_refused(c, refusal, waits);
}

static int on_inject(void *arg, const struct hf_fault *store)
{
    struct hf_conn *c = arg;
    const struct hf_server_options *o = &c->server->options;
    char name[HF_SERVE_NAME_LEN];
    struct hf_serve_event event = {.fault = *store, .pid = c->pid, .name = name};

    int err = 0;

    if (o->inject == NULL)
        return 0;
    pthread_mutex_lock(&c->lock);
    if (c->injected_tid == store->tid && c->injected_page == (uintptr_t)store->addr)
        err = c->injected;
    pthread_mutex_unlock(&c->lock);
    if (err)
        return err;
    name_of(c, store->ino, name);
    err = o->inject(&event, o->arg);
    if (err && (o->on_full != HF_ON_FULL_WAIT || err == -EIO)) {
        pthread_mutex_lock(&c->lock);
        c->injected_tid = store->tid;
        c->injected_page = (uintptr_t)store->addr;
        c->injected = err;
        pthread_mutex_unlock(&c->lock);
    }
    return err;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int on_drop(void *arg, uintptr_t page)
{
    struct hf_conn *c = arg;
    struct hf_serve_drop ask = {.addr = page}, answer;
    struct pollfd fds[3] = {{.fd = c->helper, .events = POLLIN},
                            {.fd = c->stop_fd, .events = POLLIN},
                            {.fd = c->server->stop_fd, .events = POLLIN}};
    int64_t until = now_ms() + DROP_MS, left;

    if (send(c->helper, &ask, sizeof(ask), MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof(ask))
        return -EPIPE;
    while ((left = until - now_ms()) > 0) {
        if (poll(fds, 3, (int)left) < 0 && errno != EINTR)
            return -EIO;
        if (fds[1].revents != 0 || fds[2].revents != 0)
            return -ECANCELED;
        if (fds[0].revents == 0)
            continue;
        if (recv(c->helper, &answer, sizeof(answer), MSG_DONTWAIT) != (ssize_t)sizeof(answer))
            return -EPIPE;
        if (answer.addr == page) /* else a late answer to an earlier question */
            return 0;
    }
    return -ETIMEDOUT;
}

static void on_condemn(void *arg)
{
    struct hf_conn *c = arg;

    if (c->pid > 0)
        kill(c->pid, SIGKILL);
}

static const struct hf_client_ops client_ops = {
    .inject = on_inject,
    .refused = on_refused,
    .drop = on_drop,
    .condemn = on_condemn,
};

static void *faults_main(void *arg)
{
    struct hf_conn *c = arg;

    pthread_setname_np(pthread_self(), "hf-client-fault");
    hf_client_serve(c->client, c->stop_fd);
    return NULL;
}

/* ------------------------------------------------------------------ requests */

struct call {
    struct hf_serve_request req;
    struct hf_serve_reply reply;
    int fds[FDS_MAX]; /* that came along; -1: taken or none */
    unsigned nr_fds;
    pid_t sender;
    int send_fd; /* goes along with the reply; -1: none */
    bool close_send_fd;
};

static int do_hello(struct hf_conn *c, struct call *call)
{
    bool waits = c->server->options.on_full == HF_ON_FULL_WAIT;
    struct hf_client *client;
    int err;

    if (c->client != NULL || call->req.flags != HF_SERVE_VERSION || call->nr_fds != 2)
        return c->client != NULL || call->nr_fds != 2 ? -EPROTO : -EPROTONOSUPPORT;
    err = hf_client_new(call->fds[0], waits, &client_ops, c, &client);
    if (err)
        return err;
    call->fds[0] = -1;
    if (c->helper >= 0) /* of a HELLO that failed */
        close(c->helper);
    c->helper = call->fds[1];
    call->fds[1] = -1;
    if (call->sender > 0)
        c->pid = call->sender; /* a child over its parent's connection; before, who had connected */
    pthread_mutex_lock(&c->server->lock);
    c->client = client;
    pthread_mutex_unlock(&c->server->lock);
    err = hf_serve_thread(&c->faults, faults_main, c);
    if (err) {
        pthread_mutex_lock(&c->server->lock);
        c->client = NULL;
        pthread_mutex_unlock(&c->server->lock);
        hf_client_free(client);
        return err;
    }
    call->reply.value = (uint64_t)c->server->options.on_full;
    return 0;
}

static void opened_drop(struct hf_conn *c)
{
    if (c->opened != NULL)
        c->opened->put(c->opened);
    c->opened = NULL;
}

/* Control characters have no place in messages. */
static void name_remember(struct hf_conn *c, uint64_t ino, const char *name)
{
    unsigned slot = HF_CONN_NAMES;
    size_t len = strnlen(name, HF_SERVE_NAME_LEN - 1);

    if (len == 0)
        return;
    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < HF_CONN_NAMES; i++)
        if (c->names[i].ino == ino)
            slot = i;
    if (slot == HF_CONN_NAMES)
        slot = c->next_name++ % HF_CONN_NAMES;
    c->names[slot].ino = ino;
    for (size_t i = 0; i < len; i++)
        c->names[slot].name[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
    c->names[slot].name[len] = '\0';
    pthread_mutex_unlock(&c->lock);
}

/* Takes over the reference of file. */
static int open_file(struct hf_conn *c, struct hf_vm_file *file, struct call *call)
{
    int memfd = hf_mapping_memfd(file->mapping);

    opened_drop(c);
    if (memfd < 0) {
        file->put(file);
        return memfd;
    }
    c->opened = file;
    name_remember(c, hf_mapping_ino(file->mapping), call->req.name);
    call->send_fd = memfd;
    call->reply.flags = (file->readable ? 1u : 0) | (file->writable ? 2u : 0);
    call->reply.value = hf_mapping_ino(file->mapping);
    return 0;
}

static int do_open(struct hf_conn *c, struct call *call)
{
    struct hf_vm_file *file = hf_server_file_of(c->server, call->req.token);

    return file != NULL ? open_file(c, file, call) : -ESTALE;
}

static int do_open_at(struct hf_conn *c, struct call *call)
{
    struct hf_client_area area;

    for (size_t i = 0; i < c->nr_heirs; i++)
        if (c->heirs[i].start <= call->req.addr && call->req.addr < c->heirs[i].end) {
            c->heirs[i].file->get(c->heirs[i].file);
            return open_file(c, c->heirs[i].file, call);
        }
    if (hf_client_area_at(c->client, (uintptr_t)call->req.addr, &area) != 0)
        return -ENOENT;
    return open_file(c, area.file, call);
}

/* HF_ON_FULL_RESERVE: all blocks of the range now, or none. */
static int reserve(struct hf_conn *c, struct hf_vm_file *file, hf_off_t off, uint64_t len, int prot)
{
    hf_off_t size = hf_mapping_size(file->mapping);

    if (c->server->options.on_full != HF_ON_FULL_RESERVE || !(prot & PROT_WRITE) || !file->writable ||
        off >= size)
        return 0;
    return hf_mapping_reserve_range(file->mapping, off,
                                    len < (uint64_t)(size - off) ? (hf_off_t)len : size - off);
}

static int do_map(struct hf_conn *c, struct call *call)
{
    const struct hf_serve_request *r = &call->req;
    int err;

    if (c->opened == NULL)
        return -EBADF;
    err = hf_client_map(c->client, c->opened, (uintptr_t)r->addr, r->len, (int)r->prot, r->off);
    if (!err) {
        atomic_fetch_add(&c->mappings, 1);
        err = reserve(c, c->opened, r->off, r->len, (int)r->prot);
        if (err)
            hf_client_unmap(c->client, (uintptr_t)r->addr, r->len);
    }
    opened_drop(c);
    return err;
}

/* Calls fn for what is mapped of [addr, addr + len), referenced. -ENOMEM at the end if a part was not. */
static int each_area(struct hf_conn *c, uintptr_t addr, size_t len,
                     int (*fn)(struct hf_conn *c, struct hf_vm_file *file, hf_off_t off, size_t len,
                               int prot),
                     int prot)
{
    uintptr_t end = addr + len;
    struct hf_client_area area;
    int err = end < addr ? -EINVAL : 0;

    while (!err && addr < end) {
        if (hf_client_area_at(c->client, addr, &area) != 0)
            return -ENOMEM;
        err = fn(c, area.file, area.off + (hf_off_t)(addr - area.start),
                 (area.end < end ? area.end : end) - addr, prot);
        area.file->put(area.file);
        addr = area.end;
    }
    return err;
}

static int reserve_area(struct hf_conn *c, struct hf_vm_file *file, hf_off_t off, size_t len, int prot)
{
    return reserve(c, file, off, len, prot);
}

static int do_protect(struct hf_conn *c, struct call *call)
{
    const struct hf_serve_request *r = &call->req;
    int err = 0;

    if (c->server->options.on_full == HF_ON_FULL_RESERVE && (r->prot & PROT_WRITE))
        err = each_area(c, (uintptr_t)r->addr, r->len, reserve_area, (int)r->prot);
    return err ? err : hf_client_protect(c->client, (uintptr_t)r->addr, r->len, (int)r->prot);
}

static int sync_area(struct hf_conn *c, struct hf_vm_file *file, hf_off_t off, size_t len, int prot)
{
    const struct hf_server_options *o = &c->server->options;
    char name[HF_SERVE_NAME_LEN];
    struct hf_serve_event event = {
        .fault = {.ino = hf_mapping_ino(file->mapping), .offset = off}, .pid = c->pid, .name = name};
    int err = 0;

    (void)prot;
    if (o->inject_sync != NULL) {
        name_of(c, event.fault.ino, name);
        err = o->inject_sync(&event, o->arg);
    }
    return err ? err : hf_vfs_fsync(file_of(file), off, off + (hf_off_t)len, true);
}

static int do_fault_in(struct hf_conn *c, struct call *call)
{
    const struct hf_serve_request *r = &call->req;
    pid_t tid = (pid_t)r->off;
    uintptr_t page = (uintptr_t)r->addr & ~((uintptr_t)hf_hw_page_size() - 1);
    struct hf_fault refusal = {.error = 0};
    bool waits = false, told;
    int err;

    if (r->len > HF_IO_BYTES)
        return -EINVAL;
    err =
        hf_client_fault_in(c->client, (uintptr_t)r->addr, r->len, (r->prot & PROT_WRITE) != 0, tid, &refusal);
    pthread_mutex_lock(&c->lock);
    if (c->injected_tid == tid)
        c->injected_tid = 0;
    pthread_mutex_unlock(&c->lock);
    if (err == 0 || err == -EFAULT)
        return err;
    call->reply.value = (uint64_t)refusal.offset;
    waits = c->server->options.on_full == HF_ON_FULL_WAIT && (err == -ENOSPC || err == -EDQUOT);
    call->reply.flags = waits ? 1 : 0;
    pthread_mutex_lock(&c->lock);
    told = c->refused_tid == tid && c->refused_page == page;
    c->refused_tid = 0;
    pthread_mutex_unlock(&c->lock);
    if (!told && !waits)
        tell_refused(c, &refusal, false);
    return err;
}

static void heirs_free(struct hf_heir *heirs, size_t nr)
{
    for (size_t i = 0; i < nr; i++)
        heirs[i].file->put(heirs[i].file);
    free(heirs);
}

/* What is mapped now. This thread is the one that maps and unmaps. */
static int heirs_new(struct hf_conn *c, struct hf_heir **ret_heirs, size_t *ret_nr)
{
    struct hf_client_counts counts;
    struct hf_client_area area;
    struct hf_heir *heirs;
    size_t nr = 0;

    hf_client_count(c->client, &counts);
    heirs = calloc(counts.areas + 1u, sizeof(*heirs));
    if (heirs == NULL)
        return -ENOMEM;
    for (uintptr_t at = 0; nr < counts.areas && hf_client_area_next(c->client, at, &area); at = area.end) {
        heirs[nr++] = (struct hf_heir){.file = area.file, .start = area.start, .end = area.end};
        area.file->get(area.file);
    }
    *ret_heirs = heirs;
    *ret_nr = nr;
    return 0;
}

static int do_fork(struct hf_conn *c, struct call *call)
{
    struct hf_heir *heirs;
    size_t nr;
    int pair[2], err;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    err = heirs_new(c, &heirs, &nr);
    if (err) {
        close(pair[0]);
    } else {
        err = hf_conn_start(c->server, pair[0], heirs, nr, c);
        if (err)
            heirs_free(heirs, nr);
    }
    if (err) {
        close(pair[1]);
        return err;
    }
    call->send_fd = pair[1];
    call->close_send_fd = true;
    return 0;
}

static int do_forked(struct hf_conn *c)
{
    heirs_free(c->heirs, c->nr_heirs);
    c->heirs = NULL;
    c->nr_heirs = 0;
    return 0;
}

/* Fills the reply. False: that was no request. */
static bool serve(struct hf_conn *c, struct call *call)
{
    struct hf_serve_request *r = &call->req;
    int err;

    r->name[HF_SERVE_NAME_LEN - 1] = '\0';
    if ((r->op == HF_SERVE_HELLO) != (c->client == NULL))
        return false;
    if (r->op == HF_SERVE_HELLO)
        err = do_hello(c, call);
    else if (r->op == HF_SERVE_OPEN)
        err = do_open(c, call);
    else if (r->op == HF_SERVE_OPEN_AT)
        err = do_open_at(c, call);
    else if (r->op == HF_SERVE_MAP)
        err = do_map(c, call);
    else if (r->op == HF_SERVE_UNMAP)
        err = hf_client_unmap(c->client, (uintptr_t)r->addr, r->len);
    else if (r->op == HF_SERVE_PROTECT)
        err = do_protect(c, call);
    else if (r->op == HF_SERVE_SYNC)
        err = each_area(c, (uintptr_t)r->addr, r->len, sync_area, 0);
    else if (r->op == HF_SERVE_FAULT_IN)
        err = do_fault_in(c, call);
    else if (r->op == HF_SERVE_FORK)
        err = do_fork(c, call);
    else if (r->op == HF_SERVE_FORKED)
        err = do_forked(c);
    else
        return false;
    call->reply.error = err;
    return true;
}

/* ------------------------------------------------------------------ the socket */

static void take_control(struct call *call, struct msghdr *msg)
{
    for (struct cmsghdr *m = CMSG_FIRSTHDR(msg); m != NULL; m = CMSG_NXTHDR(msg, m)) {
        if (m->cmsg_level != SOL_SOCKET)
            continue;
        if (m->cmsg_type == SCM_RIGHTS) {
            call->nr_fds = (unsigned)((m->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            assert(call->nr_fds <= FDS_MAX); /* the credentials come first: there was no more room */
            memcpy(call->fds, CMSG_DATA(m), call->nr_fds * sizeof(int));
        } else if (m->cmsg_type == SCM_CREDENTIALS) {
            struct ucred cred;
            memcpy(&cred, CMSG_DATA(m), sizeof(cred));
            call->sender = cred.pid;
        }
    }
}

/* 1: a request; 0: nothing yet; -1: the end. */
static int receive(struct hf_conn *c, struct call *call, bool *ret_lied)
{
    union {
        char room[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = &call->req, .iov_len = sizeof(call->req)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof(control.room)};
    ssize_t n;

    memset(call, 0, sizeof(*call));
    call->send_fd = -1;
    n = recvmsg(c->sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        return -1;
    take_control(call, &msg);
    if (n == 0 && call->nr_fds == 0 &&
        call->sender == 0) /* an empty message has a sender, the end has none */
        return -1;
    if (n == (ssize_t)sizeof(call->req) && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return 1;
    *ret_lied = true;
    return -1;
}

static bool reply(struct hf_conn *c, struct call *call)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = &call->reply, .iov_len = sizeof(call->reply)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (call->send_fd >= 0) {
        struct cmsghdr *m;

        memset(&control, 0, sizeof(control));
        msg.msg_control = control.room;
        msg.msg_controllen = sizeof(control.room);
        m = CMSG_FIRSTHDR(&msg);
        m->cmsg_level = SOL_SOCKET;
        m->cmsg_type = SCM_RIGHTS;
        m->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(m), &call->send_fd, sizeof(int));
    }
    return sendmsg(c->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(call->reply);
}

static bool handle_one(struct hf_conn *c, bool *ret_lied)
{
    struct call call;
    int got = receive(c, &call, ret_lied);
    bool stay = got >= 0;

    if (got > 0) {
        stay = serve(c, &call);
        *ret_lied = !stay;
        stay = stay && reply(c, &call);
        if (call.close_send_fd)
            close(call.send_fd);
    }
    for (unsigned i = 0; i < call.nr_fds; i++)
        if (call.fds[i] >= 0)
            close(call.fds[i]);
    return stay;
}

/* ------------------------------------------------------------------ the life of a connection */

/* Until the process, or the server, is gone. */
static void linger(struct hf_conn *c)
{
    struct pollfd stop = {.fd = c->server->stop_fd, .events = POLLIN};

    atomic_store(&c->lingers, true);
    shutdown(c->sock, SHUT_RDWR); /* who still waits for a reply learns that none comes */
    while (c->client != NULL && hf_client_alive(c->client))
        if (poll(&stop, 1, ALIVE_MS) > 0)
            return;
}

static void conn_end(struct hf_conn *c)
{
    struct hf_server *s = c->server;
    struct hf_client *client = c->client;
    struct hf_client_counts counts = {.areas = 0};

    if (client != NULL) {
        eventfd_write(c->stop_fd, 1);
        pthread_join(c->faults, NULL);
        hf_client_count(client, &counts);
    }
    opened_drop(c);
    heirs_free(c->heirs, c->nr_heirs);
    pthread_mutex_lock(&s->lock);
    c->client = NULL;
    hf_list_del(&c->link);
    s->past.mappings += atomic_load(&c->mappings);
    s->past.protocol_errors += atomic_load(&c->protocol_errors);
    s->past.faults += counts.faults_load + counts.faults_store;
    s->past.refused += counts.refused;
    s->past.waits += counts.waits;
    pthread_mutex_unlock(&s->lock);
    hf_client_free(client);
    if (c->helper >= 0)
        close(c->helper);
    close(c->sock);
    close(c->stop_fd);
    pthread_mutex_destroy(&c->lock);
    free(c);
    pthread_mutex_lock(&s->lock);
    s->nr_conns--;
    pthread_cond_signal(&s->left);
    pthread_mutex_unlock(&s->lock);
}

static void *conn_main(void *arg)
{
    struct hf_conn *c = arg;
    struct pollfd fds[2] = {{.fd = c->server->stop_fd, .events = POLLIN}, {.fd = c->sock, .events = POLLIN}};
    bool lied = false;

    pthread_setname_np(pthread_self(), "hf-client");
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            break;
        if (fds[0].revents != 0 || (fds[1].revents != 0 && !handle_one(c, &lied)))
            break;
    }
    if (lied)
        atomic_fetch_add(&c->protocol_errors, 1);
    else
        linger(c);
    conn_end(c);
    return NULL;
}

/* A place among the clients: true, or there is none. */
static bool admit(struct hf_server *s, struct hf_conn *c)
{
    bool room;

    pthread_mutex_lock(&s->lock);
    room = s->nr_conns < s->max_clients;
    if (room) {
        s->nr_conns++;
        s->past.clients_seen++;
        hf_list_add_tail(&s->conns, &c->link);
    }
    pthread_mutex_unlock(&s->lock);
    return room;
}

static struct hf_conn *conn_new(struct hf_server *s, int sock, const struct hf_conn *parent)
{
    struct hf_conn *c = calloc(1, sizeof(*c));
    struct ucred cred;
    socklen_t len = sizeof(cred);
    const int on = 1;

    if (c == NULL)
        return NULL;
    if (parent == NULL && getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
        c->pid = cred.pid;
    c->server = s;
    c->sock = sock;
    c->helper = -1;
    c->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (c->stop_fd < 0 || setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) {
        if (c->stop_fd >= 0)
            close(c->stop_fd);
        free(c);
        return NULL;
    }
    pthread_mutex_init(&c->lock, NULL);
    if (parent != NULL)
        memcpy(c->names, parent->names, sizeof(c->names)); /* the caller is the thread that writes them */
    return c;
}

int hf_conn_start(struct hf_server *s, int sock, struct hf_heir *heirs, size_t nr_heirs,
                  const struct hf_conn *parent)
{
    struct hf_conn *c = conn_new(s, sock, parent);
    pthread_t thread;
    int err = c == NULL ? -ENOMEM : 0;

    if (!err && !admit(s, c))
        err = -EAGAIN;
    if (!err) {
        c->heirs = heirs;
        c->nr_heirs = nr_heirs;
        err = hf_serve_thread(&thread, conn_main, c);
        if (!err) {
            pthread_detach(thread);
            return 0;
        }
        pthread_mutex_lock(&s->lock);
        hf_list_del(&c->link);
        s->nr_conns--;
        pthread_mutex_unlock(&s->lock);
    }
    if (c != NULL) {
        pthread_mutex_destroy(&c->lock);
        close(c->stop_fd);
        free(c);
    }
    close(sock);
    return err;
}
