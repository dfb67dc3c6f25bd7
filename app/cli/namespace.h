/* SPDX-License-Identifier: MIT */
/*
 * namespace.h - FUSE without privileges: a user namespace in which this user may mount.
 */
#ifndef HF_CLI_NAMESPACE_H
#define HF_CLI_NAMESPACE_H

#include <stdbool.h>
#include <stddef.h>

#define HF_NAMESPACE_TEXT 200

/*
 * This process goes on in a user and a mount namespace of its own, with the ids it has, and may mount there
 * and do nothing else that it could not do before. Processes it forks are in it, too; programs they exec may
 * do nothing more. It must have one thread. Returns 0, or -errno and what was refused.
 */
int hf_namespace_enter(char ret_why[HF_NAMESPACE_TEXT]);
/* Can this user open /dev/fuse? False: why not, and what would mend it. */
bool hf_namespace_device(char ret_why[HF_NAMESPACE_TEXT], char ret_fix[HF_NAMESPACE_TEXT]);
/* Whether this process can mount FUSE on directory: it does, and takes it away at once. 0, or -errno and what
 * was refused. */
int hf_namespace_try_fuse(const char *directory, char ret_why[HF_NAMESPACE_TEXT]);
/* The command that would allow namespaces to this user, or what to do. */
const char *hf_namespace_fix(void);
/* True if this process may mount without asking anybody: CAP_SYS_ADMIN. */
bool hf_namespace_privileged(void);
/*
 * Where PATH has fusermount3, and whether it could work for this user. Returns false, why not and what would
 * mend it; ret_path is "" if there is none.
 */
bool hf_namespace_helper(char *ret_path, size_t size, char ret_why[HF_NAMESPACE_TEXT],
                         char ret_fix[HF_NAMESPACE_TEXT]);

#endif
