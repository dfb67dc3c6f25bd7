/* SPDX-License-Identifier: MIT */
/*
 * map_source.h - a file whose pages can be looked at: of a volume that this process has open, or of a mount,
 * whose server tells them.
 */
#ifndef HF_CLI_MAP_SOURCE_H
#define HF_CLI_MAP_SOURCE_H

#include <holdfast/holdfast.h>

struct hf_map_source {
    struct hf_file *file; /* of this process; NULL: fd is a mount's */
    int fd;
    uint32_t page_size, block_size; /* bytes */
};

/* The open file of a mount. Returns 0; -ENOTTY: it is on no mount of a volume; or what the server said. */
int hf_map_source_mounted(int fd, struct hf_map_source *ret_source);
/* As hf_fstat(), hf_page_map(), and hf_lseek() with SEEK_DATA. */
int hf_map_source_stat(const struct hf_map_source *source, struct stat *ret_stat);
int hf_map_source_pages(const struct hf_map_source *source, uint64_t first, unsigned count,
                        struct hf_page_info *ret_pages);
hf_off_t hf_map_source_data(const struct hf_map_source *source, hf_off_t off);

#endif
