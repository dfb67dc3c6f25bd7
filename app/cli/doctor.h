/* SPDX-License-Identifier: MIT */
/*
 * doctor.h - what holdfast doctor found: one finding a line, collected by the files that look.
 */
#ifndef HF_CLI_DOCTOR_H
#define HF_CLI_DOCTOR_H

#include "cli.h"

enum hf_verdict {
    HF_VERDICT_OK,      /* as it should be */
    HF_VERDICT_NOTE,    /* works; something about it is good to know */
    HF_VERDICT_MISSING, /* a feature does not work here */
    HF_VERDICT_BROKEN,  /* nothing works here */
};

#define HF_FINDING_LEN 200
struct hf_finding {
    const char *section, *name; /* static */
    enum hf_verdict verdict;
    char found[HF_FINDING_LEN];
    char fix[HF_FINDING_LEN]; /* a command, or what to do; "" if there is nothing to be done */
};

/* What works here, for the first lines. */
struct hf_features {
    bool volumes;  /* a volume can be opened at all */
    bool inline_;  /* the storing thread serves its own faults */
    bool syscalls; /* mappings may be handed to system calls (HF_MAP_SYSCALLS) */
    bool mount;    /* FUSE can be had by this user */
    bool run;      /* at least in a namespace: for holdfast run */
};

#define HF_DOCTOR_MAX 48
struct hf_doctor {
    struct hf_finding findings[HF_DOCTOR_MAX];
    unsigned nr;
    const char *section; /* of the findings that come */
    struct hf_features features;
};

/* A finding; found and fix are printf-like. fix: NULL for none. */
struct hf_finding *hf_doctor_add(struct hf_doctor *doctor, const char *name, enum hf_verdict verdict,
                                 const char *found, ...) HF_PRINTF(4, 5);
void hf_doctor_fix(struct hf_finding *finding, const char *fix, ...) HF_PRINTF(2, 3);

/* The first line of a file of /proc or /sys, without its end. False: it is not there or cannot be read. */
bool hf_doctor_read(const char *path, char *buf, size_t size);
/* The number in such a file, or fallback. */
long long hf_doctor_read_number(const char *path, long long fallback);

/* The collectors. */
void hf_doctor_kernel(struct hf_doctor *doctor); /* kernel, engines, memory, limits: doctor_kernel.c */
void hf_doctor_mount(struct hf_doctor *doctor);  /* FUSE, namespaces: doctor_mount.c */

#endif
