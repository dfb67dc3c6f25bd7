/* SPDX-License-Identifier: MIT */
/*
 * client.h - what mm/ gives to api/ for mappings in other processes: one struct hf_client is the part of one
 * other address space that maps files of ours. Its areas are struct hf_vma like those of this process, on the
 * lists of the same mappings, so that page_mkclean reaches them; they differ in the engine, which works on
 * the client's userfaultfd and on the client's addresses.
 *
 * The process on the other side is not trusted: it may unmap, map over and close what it likes, at any time.
 * What we rely on is only what we did ourselves (UFFDIO_API, UFFDIO_REGISTER). Whatever it does, it can only
 * lose stores of its own.
 *
 * Lock order: client.lock (rank MM: shared while a fault is decided, exclusive to map, unmap, protect,
 * refuse)
 *   -> what hf_mapping_fault() takes -> i_mmap lock. A thread holds the lock of one client at a time.
 */
#ifndef HF_MM_CLIENT_H
#define HF_MM_CLIENT_H

#include "cache/mm_ops.h"

#include <sys/types.h>

struct hf_client;

/* What a client needs of whoever talks with its process.
 * Called with client.lock held unless said otherwise. */
struct hf_client_ops {
    /* Before a store is decided: 0, or -errno to refuse it (fault injection). */
    int (*inject)(void *arg, const struct hf_fault *access);
    /* An access was refused. waits: its thread sleeps until there is space. No locks held. */
    void (*refused)(void *arg, const struct hf_fault *refusal, bool waits);
    /* Asks the process to take [page, page + hardware page) out of its page table (MADV_DONTNEED). Blocks,
     * for a bounded time. 0, or -errno: it did not. */
    int (*drop)(void *arg, uintptr_t page);
    /* The process cannot be kept honest (no memory to write-protect its page): it must end. */
    void (*condemn)(void *arg);
};

/* Areas a client may have: as many as the kernel lets a process have. */
#define HF_CLIENT_AREAS_MAX 65536u

/*
 * A fresh userfaultfd of another process, on which nobody has called UFFDIO_API: checked, made ours. waits: a
 * store for which there is no space sleeps until there is. Takes over uffd on success. Returns 0; -EINVAL:
 * not such a descriptor; -EOPNOTSUPP: the kernel lacks what we need; -ENOMEM.
 */
int hf_client_new(int uffd, bool waits, const struct hf_client_ops *ops, void *arg,
                  struct hf_client **ret_client);
/*
 * No thread is in it any more. If its process still lives, what it could store to is write-protected and
 * written first: its next store sleeps until the last copy of the userfaultfd is closed. NULL is fine. Blocks
 * on I/O.
 */
void hf_client_free(struct hf_client *client);
/* False: its address space is gone, or it has no mappings. */
bool hf_client_alive(struct hf_client *client);

/*
 * [addr, addr + len) of the process maps file from off, PROT_NONE so far: registered, and part of the file's
 * mappings. Takes a reference of file. Returns 0; -EINVAL (alignment, overflow), -EEXIST (overlaps an area),
 * -EACCES, -ENOMEM, or what UFFDIO_REGISTER said.
 */
int hf_client_map(struct hf_client *client, struct hf_vm_file *file, uintptr_t addr, size_t len, int prot,
                  hf_off_t off);
/* The process has taken the range out of its address space. 0 or -EINVAL, -ENOMEM. */
int hf_client_unmap(struct hf_client *client, uintptr_t addr, size_t len);
/* The process is about to call mprotect(2). 0; -EINVAL; -ENOMEM: not mapped; -EACCES: not opened for that. */
int hf_client_protect(struct hf_client *client, uintptr_t addr, size_t len, int prot);
/* The area at addr: its file, referenced, and how far it goes. 0 or -ENOENT. */
struct hf_client_area {
    struct hf_vm_file *file;
    uintptr_t start, end;
    hf_off_t off; /* of start */
    int prot;
};
int hf_client_area_at(struct hf_client *client, uintptr_t addr, struct hf_client_area *ret_area);
/* The first area that ends above addr, not referenced; for who knows that nothing is unmapped meanwhile. */
bool hf_client_area_next(struct hf_client *client, uintptr_t addr, struct hf_client_area *ret_area);

/*
 * Brings [addr, addr + len) in. Returns 0; -EFAULT: not mapped, or not for that; or the refusal, with
 * *ret_refusal filled. No locks held; blocks.
 */
int hf_client_fault_in(struct hf_client *client, uintptr_t addr, size_t len, bool write, pid_t tid,
                       struct hf_fault *ret_refusal);
/* Serves faults until stop_fd becomes readable. All signals blocked. One thread a client. */
void hf_client_serve(struct hf_client *client, int stop_fd);

struct hf_client_counts {
    uint64_t faults_load, faults_store, refused, waits;
    uint32_t areas;
};
void hf_client_count(struct hf_client *client, struct hf_client_counts *ret_counts);

#endif
