/* SPDX-License-Identifier: MIT */
/*
 * stats.c - <holdfast/stats.h>: what a volume is doing. Nothing here blocks on I/O, or on who stores.
 */
#include "api/api.h"

#include <errno.h>

static int latency(struct hf_volume *volume, enum hf_fault_kind kind, struct hf_latency *ret_latency)
{
    hf_vfs_latency(volume, kind, ret_latency);
    return 0;
}

int hf_volume_latency(struct hf_volume *volume, enum hf_fault_kind kind, struct hf_latency *ret_latency)
{
    if (volume == NULL || (unsigned)kind >= HF_FAULT_KINDS || ret_latency == NULL)
        return -EINVAL;
    return HF_CALL(int, latency(volume, kind, ret_latency));
}

int hf_volume_each_file(struct hf_volume *volume, int (*fn)(const struct hf_file_stats *file, void *arg),
                        void *arg)
{
    return volume == NULL || fn == NULL ? -EINVAL : HF_CALL(int, hf_vfs_each_file(volume, fn, arg));
}
