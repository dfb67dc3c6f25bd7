/* SPDX-License-Identifier: MIT */
/*
 * latency.c - see latency.h.
 */
#include "latency.h"

#include "cli.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "latency_"

static void count_at(struct hf_latency *latency, uint64_t bound, uint64_t count)
{
    unsigned bucket = 0;

    while (hf_latency_bound_ns(bucket) < bound)
        bucket++;
    latency->count[bucket] += count;
}

bool hf_cli_latency_parse(const char *name, const char *value, enum hf_fault_kind *ret_kind,
                          struct hf_latency *ret_latency)
{
    struct hf_latency latency = {0};
    int kind = 0;
    char *end;

    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
        return false;
    while (kind < HF_FAULT_KINDS &&
           strcmp(name + strlen(PREFIX), hf_fault_kind_name((enum hf_fault_kind)kind)))
        kind++;
    if (kind == HF_FAULT_KINDS)
        return false;
    latency.sum_ns = strtoull(value, &end, 10);
    while (end != value && *end == ' ') {
        uint64_t bound = strtoull(end + 1, &end, 10);

        if (*end != ':')
            return false;
        value = end + 1;
        count_at(&latency, bound, strtoull(value, &end, 10));
    }
    if (end == value || *end)
        return false;
    *ret_kind = (enum hf_fault_kind)kind;
    *ret_latency = latency;
    return true;
}

void hf_cli_latency_minus(struct hf_latency *later, const struct hf_latency *earlier)
{
    later->sum_ns = later->sum_ns > earlier->sum_ns ? later->sum_ns - earlier->sum_ns : 0;
    for (unsigned i = 0; i < HF_LATENCY_BUCKETS; i++)
        later->count[i] = later->count[i] > earlier->count[i] ? later->count[i] - earlier->count[i] : 0;
}

const char *hf_cli_time_format(uint64_t ns, char buf[HF_CLI_TIME_LEN])
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    double value = (double)ns;
    unsigned unit = 0;

    if (ns == UINT64_MAX) {
        snprintf(buf, HF_CLI_TIME_LEN, "over 34 s");
        return buf;
    }
    while (value >= 1000 && unit < 3) {
        value /= 1000;
        unit++;
    }
    snprintf(buf, HF_CLI_TIME_LEN, unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return buf;
}

const char *hf_cli_latency_format(const struct hf_latency *latency, char buf[HF_CLI_LATENCY_LEN])
{
    char half[HF_CLI_TIME_LEN], most[HF_CLI_TIME_LEN], nearly[HF_CLI_TIME_LEN];
    uint64_t count = hf_latency_count(latency);

    if (count == 0)
        snprintf(buf, HF_CLI_LATENCY_LEN, "none");
    else
        snprintf(buf, HF_CLI_LATENCY_LEN, "%" PRIu64 " faults: half within %s, 90%% %s, 99%% %s", count,
                 hf_cli_time_format(hf_latency_quantile_ns(latency, 0.5), half),
                 hf_cli_time_format(hf_latency_quantile_ns(latency, 0.9), most),
                 hf_cli_time_format(hf_latency_quantile_ns(latency, 0.99), nearly));
    return buf;
}

cJSON *hf_cli_latency_to_json(const struct hf_latency *latency)
{
    static const struct {
        const char *key;
        double part;
    } quantiles[] = {{"p50_ns", 0.5}, {"p90_ns", 0.9}, {"p99_ns", 0.99}, {"max_ns", 1}};
    cJSON *object = hf_json_object(), *buckets = hf_json_array();

    hf_json_u64(object, "count", hf_latency_count(latency));
    hf_json_u64(object, "sum_ns", latency->sum_ns);
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
        hf_json_u64(object, quantiles[i].key, hf_latency_quantile_ns(latency, quantiles[i].part));
    for (unsigned i = 0; i < HF_LATENCY_BUCKETS; i++) {
        cJSON *bucket;

        if (latency->count[i] == 0)
            continue;
        bucket = hf_json_object();
        hf_json_u64(bucket, "below_ns", hf_latency_bound_ns(i));
        hf_json_u64(bucket, "count", latency->count[i]);
        hf_json_append(buckets, bucket);
    }
    hf_json_add(object, "buckets", buckets);
    return object;
}

/* One bucket a doubling, the same ones always: a collector adds and compares them. */
void hf_cli_latency_print_prometheus(enum hf_fault_kind kind, const struct hf_latency *latency)
{
    const char *name = hf_fault_kind_name(kind);
    uint64_t seen = 0;

    for (unsigned i = 0; i < HF_LATENCY_BUCKETS - 1; i++) {
        uint64_t bound = hf_latency_bound_ns(i);

        seen += latency->count[i];
        if ((bound & (bound - 1)) == 0)
            printf("holdfast_fault_latency_seconds_bucket{kind=\"%s\",le=\"%.9g\"} %" PRIu64 "\n", name,
                   (double)bound / 1e9, seen);
    }
    seen += latency->count[HF_LATENCY_BUCKETS - 1];
    printf("holdfast_fault_latency_seconds_bucket{kind=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, seen);
    printf("holdfast_fault_latency_seconds_sum{kind=\"%s\"} %.9f\n", name, (double)latency->sum_ns / 1e9);
    printf("holdfast_fault_latency_seconds_count{kind=\"%s\"} %" PRIu64 "\n", name, seen);
}
