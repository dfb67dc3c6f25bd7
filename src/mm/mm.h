/* SPDX-License-Identifier: MIT */
/*
 * mm.h - what mm/ gives to api/: mappings of files in this process.
 *
 * Context of every call: no lock held, any thread, not a signal handler. Each blocks asynchronous signals
 * itself for as long as it holds locks. After fork they return -ESTALE in the child.
 */
#ifndef HF_MM_MM_H
#define HF_MM_MM_H

#include "cache/mm_ops.h"

/* Once a process, before anything else here. Installs no handler and opens nothing: the first map does. */
int hf_mm_init(void);

/* For hf_mm_ops_set(). */
extern const struct hf_mm_ops hf_local_mm_ops;

/*
 * hf_mmap() on an open file: all its checks that need no more than hf_vm_file. Takes a reference of file,
 * which goes with the last piece of the mapping. Returns 0; -EINVAL, -EACCES, -EOVERFLOW (off + len),
 * -ENOMEM, -EEXIST, -EOPNOTSUPP, -ESTALE.
 */
int hf_mm_map(struct hf_vm_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off,
              void **ret_addr);

/* As hf_munmap(): whatever of ours lies in the range
 * goes, the rest is left alone; -EINVAL: nothing of ours. */
int hf_mm_unmap(void *addr, size_t len);

/* As hf_mremap(). -EFAULT: the old range is not in one
 * mapping. -ENOMEM: no room, or it would have to move. */
int hf_mm_remap(void *old_addr, size_t old_len, size_t new_len, int flags, void **ret_addr);

/* As hf_mprotect(). -ENOMEM: a part is not mapped; -EACCES: the file is not open for it. */
int hf_mm_protect(void *addr, size_t len, int prot);

/*
 * Calls fn for every mapped piece of [addr, addr + len), in order, without locks, with a reference of file. A
 * piece of a private mapping comes too (shared is false). Stops at the first negative return and returns it;
 * -ENOMEM at the end if some part was not mapped; -EINVAL: addr is not page-aligned.
 */
int hf_mm_walk(void *addr, size_t len,
               int (*fn)(struct hf_vm_file *file, hf_off_t off, size_t len, int prot, bool shared, void *arg),
               void *arg);

/* In the child of a fork: forgets everything. From then on the handlers only pass signals on. */
void hf_mm_forked_child(void);

#endif
