/* SPDX-License-Identifier: MIT */
/*
 * puppet.h - another process that maps files over a server of mappings, and does what it is told, one order
 * at a time.
 *
 * The puppet is this program, executed again: it knows nothing of the library, only of the client's side
 * (app/preload/remote.h). Orders and answers go over a socket pair; who does not answer within a minute has
 * failed.
 */
#ifndef TESTS_PUPPET_H
#define TESTS_PUPPET_H

#include "target.h"

#include <holdfast/serve.h>

#define PUPPET_SLOTS 8

enum puppet_op {
    PUPPET_MAP, /* slot, len, prot, off, ticket */
    PUPPET_UNMAP,
    PUPPET_PROTECT,
    PUPPET_REMAP,  /* len: the new one */
    PUPPET_STORE,  /* slot, at, value */
    PUPPET_FILL,   /* slot, at, len, value: every byte */
    PUPPET_LOAD,   /* slot, at: the byte */
    PUPPET_EXPECT, /* slot, at, len, value: 1 if all bytes are that */
    PUPPET_SYNC,
    PUPPET_FORK,    /* the child takes over: it answers from now on; value: the parent ends at once */
    PUPPET_SYSCALL, /* slot, at, len: write(2) from the mapping into a pipe; what it returned */
    PUPPET_USER_ONLY,
    PUPPET_EXIT,
};

struct puppet_order {
    enum puppet_op op;
    unsigned slot;
    size_t len;
    int prot;
    int64_t off;
    size_t at;
    int value;
    struct hf_serve_ticket ticket;
};

struct puppet_answer {
    /* >= 0, or -errno: of the refusal, if a store or load was refused; -EFAULT: another signal */
    int64_t result;
    struct hf_fault fault; /* of the refusal */
    pid_t pid;
};

struct puppet {
    pid_t pid; /* the process that we are the parent of */
    int sock;
};

/* Its `--child` entry: { "puppet", puppet_main }. */
int puppet_main(int argc, char **argv);

/* Executes one. env: "NAME=VALUE" or NULL. */
struct puppet puppet_new(const char *env);
/* All assert that the puppet answers. */
struct puppet_answer puppet_do(struct puppet *p, const struct puppet_order *order);
/* Sends the order and does not wait. */
void puppet_send(struct puppet *p, const struct puppet_order *order);
/* True: an answer came within ms milliseconds. */
bool puppet_answered(struct puppet *p, int ms, struct puppet_answer *ret_answer);
/* Tells it to end, and waits. */
void puppet_end(struct puppet *p);
/* Its answers are lost; it is reaped. */
void puppet_kill(struct puppet *p);

int64_t puppet_store(struct puppet *p, unsigned slot, size_t at, int value);
int64_t puppet_load(struct puppet *p, unsigned slot, size_t at);
int64_t puppet_map(struct puppet *p, unsigned slot, const struct hf_serve_ticket *ticket, size_t len,
                   int prot, int64_t off);

/* True if this machine lets processes hand over their page faults: else says why not. */
bool puppets_work(void);

#endif
