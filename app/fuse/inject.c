/* SPDX-License-Identifier: MIT */
/*
 * inject.c - errors that programs are to meet: opts->inject is asked before each of their stores, writes and
 * syncs, with the file's path.
 *
 * The kernel names inodes by number, so each name that it is told of is kept, the last one of each inode, and
 * its directory; only where opts->inject is set. What is forgotten stays in the table until its number is
 * used again.
 *
 * Lock: names->lock, innermost.
 */
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024u
#define DEPTH_MAX 256 /* of directories: a rename may be noted in two steps, and make a ring for a moment */

struct name {
    struct name *next;
    uint64_t ino, dir_ino;
    char text[];
};

struct hf_fuse_names {
    pthread_mutex_t lock;
    struct name *buckets[BUCKETS]; /* guarded by lock */
};

int hf_fuse_names_new(struct hf_fuse *fuse)
{
    if (fuse->opts->inject == NULL)
        return 0;
    fuse->names = calloc(1, sizeof(*fuse->names));
    if (fuse->names == NULL)
        return -ENOMEM;
    pthread_mutex_init(&fuse->names->lock, NULL);
    return 0;
}

void hf_fuse_names_free(struct hf_fuse *fuse)
{
    if (fuse->names == NULL)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        while (fuse->names->buckets[i] != NULL) {
            struct name *name = fuse->names->buckets[i];

            fuse->names->buckets[i] = name->next;
            free(name);
        }
    pthread_mutex_destroy(&fuse->names->lock);
    free(fuse->names);
    fuse->names = NULL;
}

/* Where the pointer to the name of ino is, or would be. */
static struct name **find_locked(struct hf_fuse_names *names, uint64_t ino)
{
    struct name **at = &names->buckets[ino % BUCKETS];

    while (*at != NULL && (*at)->ino != ino)
        at = &(*at)->next;
    return at;
}

void hf_fuse_name_note(struct hf_fuse *fuse, struct hf_node *dir, const char *text, uint64_t ino)
{
    struct name *name, **at, *old;
    struct stat st;

    if (fuse->names == NULL || text[0] == '/' || hf_node_stat(dir, &st) < 0) /* "/": without a name */
        return;
    name = malloc(sizeof(*name) + strlen(text) + 1);
    if (name == NULL)
        return;
    name->ino = ino;
    name->dir_ino = st.st_ino;
    strcpy(name->text, text);
    pthread_mutex_lock(&fuse->names->lock);
    at = find_locked(fuse->names, ino);
    old = *at;
    name->next = old != NULL ? old->next : NULL;
    *at = name;
    pthread_mutex_unlock(&fuse->names->lock);
    free(old);
}

void hf_fuse_name_look(struct hf_fuse *fuse, struct hf_node *dir, const char *text)
{
    struct hf_node *node;
    struct stat st;

    if (fuse->names == NULL || hf_node_lookup(dir, text, &node) < 0)
        return;
    if (hf_node_stat(node, &st) == 0)
        hf_fuse_name_note(fuse, dir, text, st.st_ino);
    hf_node_put(node, 1);
}

/* Below the mount, from the end of buf; "" if it has no name. */
static const char *path_of(struct hf_fuse *fuse, uint64_t ino, char *buf, size_t size)
{
    char *at = buf + size - 1;
    int depth = 0;

    *at = '\0';
    pthread_mutex_lock(&fuse->names->lock);
    for (struct name *n; (n = *find_locked(fuse->names, ino)) != NULL && depth < DEPTH_MAX; depth++) {
        size_t len = strlen(n->text);

        if ((size_t)(at - buf) <= len)
            break;
        at -= len;
        memcpy(at, n->text, len);
        *--at = '/';
        ino = n->dir_ino;
    }
    pthread_mutex_unlock(&fuse->names->lock);
    return at;
}

static int inject(struct hf_fuse *fuse, enum hf_fuse_call call, uint64_t ino)
{
    char buf[4096], whole[sizeof(fuse->directory) + sizeof(buf)];
    const char *path = path_of(fuse, ino, buf, sizeof(buf));

    snprintf(whole, sizeof(whole), "%s%s", path[0] != '\0' ? fuse->directory : "", path);
    return fuse->opts->inject(call, whole, fuse->opts->arg);
}

bool hf_fuse_refuse(fuse_req_t req, enum hf_fuse_call call, fuse_ino_t ino)
{
    struct hf_fuse *fuse = hf_fuse_of(req);
    struct stat st;
    int r;

    if (fuse->names == NULL)
        return false;
    r = hf_node_stat(hf_fuse_node(req, ino), &st);
    if (r == 0)
        r = inject(fuse, call, st.st_ino);
    if (r < 0)
        fuse_reply_err(req, -r);
    return r < 0;
}

/* ---- mappings in other processes */

static int on_store(const struct hf_serve_event *event, void *arg)
{
    return inject(arg, HF_FUSE_CALL_STORE, event->fault.ino);
}

static int on_sync(const struct hf_serve_event *event, void *arg)
{
    return inject(arg, HF_FUSE_CALL_FSYNC, event->fault.ino);
}

static void on_refused(const struct hf_serve_event *event, void *arg)
{
    const struct hf_server_options *given = &((struct hf_fuse *)arg)->opts->serve;

    if (given->refused != NULL)
        given->refused(event, given->arg);
}

void hf_fuse_inject_serve(struct hf_fuse *fuse, struct hf_server_options *serve)
{
    if (fuse->names == NULL)
        return;
    serve->inject = on_store;
    serve->inject_sync = on_sync;
    serve->refused = on_refused;
    serve->arg = fuse;
}
