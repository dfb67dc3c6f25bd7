/* SPDX-License-Identifier: MIT */
/*
 * json.h - output for programs: cJSON with exact 64-bit numbers and names of any bytes.
 *
 * cJSON keeps numbers as double, which is exact only to 2^53; sizes here reach 2^55.
 */
#ifndef HF_CLI_JSON_H
#define HF_CLI_JSON_H

#include <cjson/cJSON.h>
#include <stdint.h>

/* Each exits with a message when memory is gone, so that no caller prints half an answer. */
cJSON *hf_json_object(void);
cJSON *hf_json_array(void);
void hf_json_add(cJSON *object, const char *key, cJSON *value);
void hf_json_append(cJSON *array, cJSON *value);
void hf_json_u64(cJSON *object, const char *key, uint64_t value);
void hf_json_bool(cJSON *object, const char *key, int value);
void hf_json_text(cJSON *object, const char *key, const char *value);
/* A name: as it is if it is UTF-8; otherwise with U+FFFD for the rest, and KEY_hex with its exact bytes. */
void hf_json_name(cJSON *object, const char *key, const char *name);

/* Prints it on stdout with a line's end, and frees it. */
void hf_json_print(cJSON *root, int pretty);

/* Reading: the number or text under key; missing or of another type gives fallback. */
int64_t hf_json_get_int(const cJSON *object, const char *key, int64_t fallback);
const char *hf_json_get_text(const cJSON *object, const char *key, const char *fallback);

#endif
