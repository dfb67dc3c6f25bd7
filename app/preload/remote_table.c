/* SPDX-License-Identifier: MIT */
/*
 * remote_table.c - which ranges of this address space are ours: a sorted array in memory of its own.
 */
#include "remote_conn.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct hf_remote_range *hf_remote_ranges;
_Atomic size_t hf_remote_nr_ranges;
static size_t room;

static long result(long r)
{
    return r == -1 ? -errno : r;
}

long hf_sys_mmap(uintptr_t addr, size_t len, int prot, int flags, int fd, int64_t off)
{
    return result(syscall(SYS_mmap, addr, len, prot, flags, fd, off));
}

long hf_sys_munmap(uintptr_t addr, size_t len)
{
    return result(syscall(SYS_munmap, addr, len));
}

long hf_sys_mprotect(uintptr_t addr, size_t len, int prot)
{
    return result(syscall(SYS_mprotect, addr, len, prot));
}

long hf_sys_madvise(uintptr_t addr, size_t len, int advice)
{
    return result(syscall(SYS_madvise, addr, len, advice));
}

size_t hf_remote_range_first(uintptr_t addr)
{
    size_t low = 0, high = hf_remote_nr_ranges;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (hf_remote_ranges[mid].end <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int hf_remote_table_reserve(size_t nr)
{
    size_t wanted = room == 0 ? 256 : room;
    long p;

    while (wanted < hf_remote_nr_ranges + nr)
        wanted *= 2;
    if (wanted == room)
        return 0;
    p = hf_sys_mmap(0, wanted * sizeof(struct hf_remote_range), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p < 0)
        return -ENOMEM;
    if (room > 0) {
        memcpy((void *)p, hf_remote_ranges, hf_remote_nr_ranges * sizeof(struct hf_remote_range));
        hf_sys_munmap((uintptr_t)hf_remote_ranges, room * sizeof(struct hf_remote_range));
    }
    hf_remote_ranges = (struct hf_remote_range *)p;
    room = wanted;
    return 0;
}

void hf_remote_range_insert(const struct hf_remote_range *range)
{
    size_t at = hf_remote_range_first(range->start);

    memmove(&hf_remote_ranges[at + 1], &hf_remote_ranges[at],
            (hf_remote_nr_ranges - at) * sizeof(struct hf_remote_range));
    hf_remote_ranges[at] = *range;
    hf_remote_nr_ranges++;
}

static void cut_at(uintptr_t addr)
{
    size_t i = hf_remote_range_first(addr);
    struct hf_remote_range upper;

    if (i == hf_remote_nr_ranges || hf_remote_ranges[i].start >= addr)
        return;
    upper = hf_remote_ranges[i];
    upper.off += (int64_t)(addr - upper.start);
    upper.start = addr;
    hf_remote_ranges[i].end = addr;
    hf_remote_range_insert(&upper);
}

void hf_remote_range_cut(uintptr_t start, uintptr_t end)
{
    cut_at(start);
    cut_at(end);
}

void hf_remote_range_remove(size_t index)
{
    memmove(&hf_remote_ranges[index], &hf_remote_ranges[index + 1],
            (hf_remote_nr_ranges - index - 1) * sizeof(struct hf_remote_range));
    hf_remote_nr_ranges--;
}
