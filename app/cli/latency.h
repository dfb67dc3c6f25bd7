/* SPDX-License-Identifier: MIT */
/*
 * latency.h - how long faults took, as a mount's server says it (app/fuse/status.c), and as it is printed.
 */
#ifndef HF_CLI_LATENCY_H
#define HF_CLI_LATENCY_H

#include "json.h"
#include <holdfast/stats.h>
#include <stdbool.h>

/* A line "latency_KIND SUM BOUND:COUNT ...", in two parts. False: it is something else. */
bool hf_cli_latency_parse(const char *name, const char *value, enum hf_fault_kind *ret_kind,
                          struct hf_latency *ret_latency);
/* What later has more than earlier; nothing if it has less, which is another server's. */
void hf_cli_latency_minus(struct hf_latency *later, const struct hf_latency *earlier);

#define HF_CLI_TIME_LEN 16
/* "640 ns", "2.5 us", "34 s"; UINT64_MAX: "over 34 s". Returns buf. */
const char *hf_cli_time_format(uint64_t ns, char buf[HF_CLI_TIME_LEN]);
#define HF_CLI_LATENCY_LEN 128
/* Count, median, and what 9 of 10 and 99 of 100 took at most. Returns buf. */
const char *hf_cli_latency_format(const struct hf_latency *latency, char buf[HF_CLI_LATENCY_LEN]);
cJSON *hf_cli_latency_to_json(const struct hf_latency *latency);
/* The series of one kind, for Prometheus. */
void hf_cli_latency_print_prometheus(enum hf_fault_kind kind, const struct hf_latency *latency);

#endif
