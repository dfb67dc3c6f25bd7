/* SPDX-License-Identifier: MIT */
/*
 * maps.c - public calls on mappings: where the address space (mm/) and the file (vfs/) meet.
 *
 * hf_guard(), hf_store(), hf_load(), hf_fault_in(), hf_last_fault() and hf_engine_name() are mm/'s own.
 */
#include "api/api.h"
#include "mm/mm.h"

#include <errno.h>
#include <sys/mman.h>

static struct hf_file *file_of(struct hf_vm_file *vm)
{
    return hf_container_of(vm, struct hf_file, vm);
}

static int map(struct hf_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off,
               void **ret_addr)
{
    void *at;
    int r = hf_mm_map(&file->vm, addr, len, prot, flags, off, &at);

    if (r < 0)
        return r;
    r = hf_api_hand_over(ret_addr, &at, sizeof(at));
    if (r < 0)
        hf_mm_unmap(at, len);
    else
        hf_file_accessed(file); /* as the kernel has it: later loads are not seen */
    return r;
}

/* A move cannot be undone for certain: so it is tried first whether the place can be stored to. */
static int remap(void *old_addr, size_t old_len, size_t new_len, int flags, void **ret_addr)
{
    void *at = *ret_addr;
    int r = hf_api_hand_over(ret_addr, &at, sizeof(at));

    if (r == 0)
        r = hf_mm_remap(old_addr, old_len, new_len, flags, &at);
    return r < 0 ? r : hf_api_hand_over(ret_addr, &at, sizeof(at));
}

int hf_mmap(struct hf_file *file, void *addr, size_t len, int prot, int flags, hf_off_t off, void **ret_addr)
{
    if (file == NULL || ret_addr == NULL)
        return file == NULL ? -EBADF : -EINVAL;
    if (!S_ISREG(file->vnode->inode.mode))
        return -ENODEV;
    return HF_CALL(int, map(file, addr, len, prot, flags, off, ret_addr));
}

int hf_munmap(void *addr, size_t len)
{
    return HF_CALL(int, hf_mm_unmap(addr, len));
}

int hf_mremap(void *old_addr, size_t old_len, size_t new_len, int flags, void **ret_addr)
{
    if (ret_addr == NULL)
        return -EINVAL;
    return HF_CALL(int, remap(old_addr, old_len, new_len, flags, ret_addr));
}

int hf_mprotect(void *addr, size_t len, int prot)
{
    return HF_CALL(int, hf_mm_protect(addr, len, prot));
}

static int sync_piece(struct hf_vm_file *vm, hf_off_t off, size_t len, int prot, bool shared, void *arg)
{
    int flags = *(const int *)arg;

    (void)prot;
    if (!shared)
        return 0;
    if (flags & MS_SYNC)
        return hf_vfs_fsync(file_of(vm), off, off + (hf_off_t)len, true);
    hf_mapping_writeback(vm->mapping, off, off + (hf_off_t)len, 0, UINT64_MAX); /* its errors: at MS_SYNC */
    return 0;
}

int hf_msync(void *addr, size_t len, int flags)
{
    if ((flags & ~(MS_SYNC | MS_ASYNC | MS_INVALIDATE)) ||
        (flags & (MS_SYNC | MS_ASYNC)) == (MS_SYNC | MS_ASYNC))
        return -EINVAL;
    return HF_CALL(int, hf_mm_walk(addr, len, sync_piece, &flags));
}

struct reserve {
    bool apply;
    unsigned pieces;
};

static int reserve_piece(struct hf_vm_file *vm, hf_off_t off, size_t len, int prot, bool shared, void *arg)
{
    struct reserve *r = arg;

    if (!shared || !(prot & PROT_WRITE))
        return -EINVAL;
    if (r->apply)
        return hf_mapping_reserve_range(vm->mapping, off, (hf_off_t)len);
    return ++r->pieces > 1 ? -EINVAL : 0; /* all or nothing needs one mapping */
}

static int reserve(void *addr, size_t len)
{
    uintptr_t hw = hf_hw_page_size(), start = (uintptr_t)addr & ~(hw - 1);
    struct reserve arg = {.apply = false};
    int r;

    len += (uintptr_t)addr - start;
    r = hf_mm_walk((void *)start, len, reserve_piece, &arg);
    if (r < 0)
        return r == -ENOMEM ? -EINVAL : r;
    arg.apply = true;
    return hf_mm_walk((void *)start, len, reserve_piece, &arg);
}

int hf_reserve(void *addr, size_t len)
{
    return len == 0 ? 0 : HF_CALL(int, reserve(addr, len));
}
