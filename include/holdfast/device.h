/* SPDX-License-Identifier: MIT */
/*
 * device.h - for authors of devices: where a block-based driver keeps its bytes.
 *
 * A device is a struct hf_device embedded first in the author's own; the ops get that pointer
 * back. All calls may come from several threads at once. Shims (src/dev/dev_fault.c) are devices
 * that own another one.
 */
#ifndef HOLDFAST_DEVICE_H
#define HOLDFAST_DEVICE_H

#include <holdfast/holdfast.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hf_device_ops {
    /*
     * Required. Transfer exactly len bytes at off (any alignment; ranges inside size_bytes).
     * Context: may block; no user memory involved. Returns 0, -EIO, -ENOSPC (thin; write only).
     */
    int (*read)(struct hf_device *dev, void *buf, size_t len, hf_off_t off);
    int (*write)(struct hf_device *dev, const void *buf, size_t len, hf_off_t off);
    /* Required. All writes that have returned are durable when this returns. 0 or -EIO. */
    int (*flush)(struct hf_device *dev);
    /* Optional (NULL: device is thick). Promises that writes inside the range will not fail for
     * want of space (HOLD-10), for good once a flush has succeeded. Called before a reservation is taken.
     * May block; does not change what the range holds. 0, -ENOSPC, -EIO. */
    int (*guarantee)(struct hf_device *dev, hf_off_t off, hf_off_t len);
    /* Optional. The range's contents are no longer needed;
     * later reads give anything. 0, -EOPNOTSUPP, -EIO. */
    int (*discard)(struct hf_device *dev, hf_off_t off, hf_off_t len);
    /*
     * Optional (NULL: it stays as large as it is). Sets the size to size_bytes, of a disk only if it has so
     * many by now, and then size_bytes in struct hf_device; other calls may be running. Bytes that are cut
     * off are gone. 0; -ENOSPC: a disk that is smaller; -EIO.
     */
    int (*resize)(struct hf_device *dev, hf_off_t size_bytes);
    /* Optional. Called in a fork()ed child: let go of descriptors without side effects on the parent. */
    void (*forked)(struct hf_device *dev);
    /* Required. Releases locks, closes, frees dev. */
    void (*close)(struct hf_device *dev);
};

struct hf_device {
    const struct hf_device_ops *ops; /* set at init */
    hf_off_t size_bytes;             /* set at init, and by resize(); read with __atomic_load_n() */
    bool read_only;                  /* set at init: write and discard return -EROFS */
    char name[256];                  /* set at init: for messages */
};

#define HF_DEV_READ_ONLY 0x1u
#define HF_DEV_CREATE 0x2u /* a regular file: create it if missing, and set its size to create_bytes */
#define HF_DEV_THIN 0x4u   /* offer guarantee(): preallocates the range in the host filesystem */

/*
 * A regular file or block device as a device, locked against a second opener.
 * Returns 0; -EBUSY: locked by somebody; or what open(2), flock(2) returned.
 */
int hf_device_file_open(const char *path, uint32_t flags, hf_off_t create_bytes, struct hf_device **ret_dev);

/* Anonymous memory as a device; for tests. */
int hf_device_mem_new(hf_off_t size_bytes, struct hf_device **ret_dev);

/*
 * Fault injection over another device, which it owns from here on, even on failure. Every count starts at 1;
 * 0 switches that fault off. Faults stay until set again.
 */
struct hf_device_faults {
    uint64_t fail_read_at; /* the n-th read from now, and `count` - 1 after it, fail */
    uint64_t fail_write_at;
    uint64_t fail_flush_at;
    uint64_t fail_guarantee_at;
    uint64_t fail_discard_at;
    uint64_t count;                  /* how many in a row; 0: for ever */
    int error;                       /* errno, positive; default EIO */
    hf_off_t range_start, range_end; /* only I/O that touches this range counts; 0,0: all */
};
int hf_device_fault_new(struct hf_device *lower, struct hf_device **ret_dev);
void hf_device_fault_set(struct hf_device *dev, const struct hf_device_faults *faults);
/* Operations seen since hf_device_fault_new(). */
struct hf_device_counts {
    uint64_t reads, writes, flushes, guarantees, discards;
};
void hf_device_fault_counts(struct hf_device *dev, struct hf_device_counts *ret_counts);

/*
 * Power cuts: a shim over another device, which it owns from here on, even on failure. It records every write
 * and flush, and makes images of what a power cut after any number of them could have left. The record
 * outlives the device; the caller frees it, before or after the device is closed. It holds a copy of all that
 * was on the device, and of every write: for tests. A discard is recorded, too, and taken to have happened at
 * once and for good: its range holds HF_POWERCUT_JUNK until it is written anew.
 */
#define HF_POWERCUT_JUNK 0xfd
struct hf_powercut;
int hf_device_powercut_new(struct hf_device *lower, struct hf_device **ret_dev,
                           struct hf_powercut **ret_record);
void hf_device_powercut_free(struct hf_powercut *record); /* NULL is fine */
/* Events so far: writes and discards that have begun, and flushes that have returned. */
uint64_t hf_device_powercut_count(struct hf_powercut *record);

/* Writes among the first `events` events that no flush among them has made durable. */
uint64_t hf_device_powercut_open(struct hf_powercut *record, uint64_t events);

/* What became of the writes that no flush had made durable. Sectors of 512 bytes are never torn. */
enum hf_powercut_order {
    HF_POWERCUT_ALL,     /* all had arrived */
    HF_POWERCUT_NONE,    /* none had */
    HF_POWERCUT_TORN,    /* all had, but of the last one only some sectors */
    HF_POWERCUT_REORDER, /* some had, drawn by seed: any sectors, any writes, the newest, or the lowest or
                            highest addresses first */
    HF_POWERCUT_SUBSET,  /* those had whose bit is set in the seed: bit 0 is the oldest, from 64 on none */
};
struct hf_powercut_cut {
    uint64_t events; /* the cut came after so many: 0 ... hf_device_powercut_count() */
    enum hf_powercut_order order;
    uint64_t seed; /* TORN, REORDER, SUBSET: the same seed gives the same image */
};
/*
 * The image of a cut, as a new memory device of the caller's. Returns 0; -EINVAL: no such event or order;
 * -ENOMEM.
 */
int hf_device_powercut_image(struct hf_powercut *record, const struct hf_powercut_cut *cut,
                             struct hf_device **ret_image);

#ifdef __cplusplus
}
#endif
#endif
