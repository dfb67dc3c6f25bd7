/* SPDX-License-Identifier: MIT */
/*
 * json.c - output for programs: cJSON with exact 64-bit numbers and names of any bytes.
 */
#include "json.h"
#include "cli.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static cJSON *checked(cJSON *item)
{
    if (!item) {
        fputs("holdfast: out of memory\n", stderr);
        exit(HF_CLI_FAILED);
    }
    return item;
}

cJSON *hf_json_object(void)
{
    return checked(cJSON_CreateObject());
}

cJSON *hf_json_array(void)
{
    return checked(cJSON_CreateArray());
}

void hf_json_add(cJSON *object, const char *key, cJSON *value)
{
    if (!cJSON_AddItemToObject(object, key, checked(value)))
        checked(NULL);
}

void hf_json_append(cJSON *array, cJSON *value)
{
    if (!cJSON_AddItemToArray(array, checked(value)))
        checked(NULL);
}

void hf_json_u64(cJSON *object, const char *key, uint64_t value)
{
    char digits[24];

    snprintf(digits, sizeof(digits), "%" PRIu64, value);
    hf_json_add(object, key, cJSON_CreateRaw(digits));
}

void hf_json_bool(cJSON *object, const char *key, int value)
{
    hf_json_add(object, key, cJSON_CreateBool(value));
}

void hf_json_text(cJSON *object, const char *key, const char *value)
{
    hf_json_add(object, key, cJSON_CreateString(value));
}

void hf_json_name(cJSON *object, const char *key, const char *name)
{
    const unsigned char *s = (const unsigned char *)name;
    size_t len = strlen(name);
    char *text = malloc(len * 3 + 1), *hex = malloc(len * 2 + 1), *hex_key = NULL;
    char *out = text;
    bool exact = true;

    if (!text || !hex || asprintf(&hex_key, "%s_hex", key) < 0)
        checked(NULL);
    hex[0] = '\0';
    for (size_t i = 0; i < len; i++)
        sprintf(hex + i * 2, "%02x", s[i]);
    while (*s) {
        uint32_t code;
        size_t n = hf_cli_utf8_decode(s, &code);

        exact = exact && n;
        memcpy(out, n ? (const char *)s : "\xef\xbf\xbd", n ? n : 3);
        out += n ? n : 3;
        s += n ? n : 1;
    }
    *out = '\0';
    hf_json_text(object, key, text);
    if (!exact)
        hf_json_text(object, hex_key, hex);
    free(text);
    free(hex);
    free(hex_key);
}

void hf_json_print(cJSON *root, int pretty)
{
    char *text = pretty ? cJSON_Print(root) : cJSON_PrintUnformatted(root);

    if (!text)
        checked(NULL);
    puts(text);
    free(text);
    cJSON_Delete(root);
}

int64_t hf_json_get_int(const cJSON *object, const char *key, int64_t fallback)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsNumber(item) ? (int64_t)item->valuedouble : fallback;
}

const char *hf_json_get_text(const cJSON *object, const char *key, const char *fallback)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

    return cJSON_IsString(item) ? item->valuestring : fallback;
}
