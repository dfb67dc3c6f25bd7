/* SPDX-License-Identifier: MIT */
/*
 * cmd_doctor.c - holdfast doctor: what works on this machine, what does not, and the command that would mend
 * it.
 *
 * Nothing is changed and nothing is left behind: devices are opened and closed, namespaces are tried in a
 * child that ends.
 */
#include "doctor.h"
#include "json.h"
#include "term.h"
#include <ctype.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

struct hf_finding *hf_doctor_add(struct hf_doctor *doctor, const char *name, enum hf_verdict verdict,
                                 const char *found, ...)
{
    struct hf_finding *finding = &doctor->findings[doctor->nr];
    va_list args;

    if (doctor->nr + 1 < HF_DOCTOR_MAX)
        doctor->nr++;
    *finding = (struct hf_finding){.section = doctor->section, .name = name, .verdict = verdict};
    va_start(args, found);
    vsnprintf(finding->found, sizeof(finding->found), found, args);
    va_end(args);
    return finding;
}

void hf_doctor_fix(struct hf_finding *finding, const char *fix, ...)
{
    va_list args;

    va_start(args, fix);
    vsnprintf(finding->fix, sizeof(finding->fix), fix, args);
    va_end(args);
}

bool hf_doctor_read(const char *path, char *buf, size_t size)
{
    FILE *file = fopen(path, "re");
    bool got = file && fgets(buf, (int)size, file);

    if (file)
        fclose(file);
    if (got)
        buf[strcspn(buf, "\n")] = '\0';
    return got;
}

long long hf_doctor_read_number(const char *path, long long fallback)
{
    char text[64], *end;
    long long number;

    if (!hf_doctor_read(path, text, sizeof(text)))
        return fallback;
    number = strtoll(text, &end, 10);
    return end == text ? fallback : number;
}

/* ---------------------------------------------------------------- the report */

static const struct {
    const char *name, *mark;
    enum hf_style style;
} verdicts[] = {
    [HF_VERDICT_OK] = {"ok", "ok", HF_STYLE_GOOD},
    [HF_VERDICT_NOTE] = {"note", "note", HF_STYLE_NOTE},
    [HF_VERDICT_MISSING] = {"missing", "NO", HF_STYLE_BAD},
    [HF_VERDICT_BROKEN] = {"broken", "BAD", HF_STYLE_BAD},
};

static enum hf_verdict worst(const struct hf_doctor *doctor)
{
    enum hf_verdict verdict = HF_VERDICT_OK;

    for (unsigned i = 0; i < doctor->nr; i++)
        if (doctor->findings[i].verdict > verdict)
            verdict = doctor->findings[i].verdict;
    return verdict;
}

static int status_of(const struct hf_doctor *doctor)
{
    switch (worst(doctor)) {
    case HF_VERDICT_BROKEN:
        return 2;
    case HF_VERDICT_MISSING:
        return 1;
    default:
        return 0;
    }
}

static void print_feature(const char *name, bool works, const char *what)
{
    enum hf_style style = works ? HF_STYLE_GOOD : HF_STYLE_BAD;

    printf("  %s%-4s%s %-18s %s%s%s\n", hf_term_style(style), works ? "ok" : "NO", hf_term_reset(), name,
           hf_term_style(HF_STYLE_DIM), what, hf_term_reset());
}

static void print_features(const struct hf_features *f)
{
    printf("%sWhat works here%s\n", hf_term_style(HF_STYLE_BOLD), hf_term_reset());
    print_feature("volumes", f->volumes, "the library and the commands on a volume");
    print_feature("mappings", f->volumes,
                  f->inline_ ? "hf_mmap(), quickly: faults in the storing thread"
                             : "hf_mmap(), slowly: by page protection");
    print_feature("system calls", f->volumes && f->syscalls, "mappings as their buffers: HF_MAP_SYSCALLS");
    print_feature("FUSE", f->volumes && f->mount, "volumes as directories, for any program");
    print_feature("programs", f->volumes && f->run, "a volume for one program: holdfast run");
}

static void print_text(const struct hf_doctor *doctor)
{
    const char *section = "";
    struct utsname kernel;

    uname(&kernel);
    printf("holdfast %d.%d.%d on %s %s, %s\n\n", HF_VERSION_MAJOR, HF_VERSION_MINOR, HF_VERSION_PATCH,
           kernel.sysname, kernel.release, kernel.machine);
    print_features(&doctor->features);
    for (unsigned i = 0; i < doctor->nr; i++) {
        const struct hf_finding *f = &doctor->findings[i];

        if (strcmp(section, f->section) != 0)
            printf("\n%s%s%s\n", hf_term_style(HF_STYLE_BOLD), f->section, hf_term_reset());
        section = f->section;
        printf("  %s%-4s%s %-18s ", hf_term_style(verdicts[f->verdict].style), verdicts[f->verdict].mark,
               hf_term_reset(), f->name);
        hf_term_print_name(stdout, f->found);
        putchar('\n');
        if (*f->fix)
            printf("       %18s %s->%s %s\n", "", hf_term_style(HF_STYLE_BOLD), hf_term_reset(), f->fix);
    }
    printf("\n%s\n", status_of(doctor) == 0   ? "Everything works here."
                     : status_of(doctor) == 1 ? "Usable; what says NO does not work here."
                                              : "Nothing works here; see what says BAD.");
}

static cJSON *finding_json(const struct hf_finding *f)
{
    cJSON *object = hf_json_object();
    char section[32];

    snprintf(section, sizeof(section), "%s", f->section);
    section[0] = (char)tolower((unsigned char)section[0]);
    hf_json_text(object, "section", section);
    hf_json_text(object, "name", f->name);
    hf_json_text(object, "verdict", verdicts[f->verdict].name);
    hf_json_name(object, "found", f->found);
    if (*f->fix)
        hf_json_text(object, "fix", f->fix);
    return object;
}

static void print_json(const struct hf_doctor *doctor)
{
    cJSON *root = hf_json_object(), *features = hf_json_object(), *findings = hf_json_array();
    static const char *const texts[] = {"complete", "usable", "broken"};
    char version[32];

    snprintf(version, sizeof(version), "%d.%d.%d", HF_VERSION_MAJOR, HF_VERSION_MINOR, HF_VERSION_PATCH);
    hf_json_text(root, "version", version);
    hf_json_text(root, "status", texts[status_of(doctor)]);
    hf_json_text(root, "engine", hf_engine_name());
    hf_json_bool(features, "volumes", doctor->features.volumes);
    hf_json_bool(features, "inline", doctor->features.inline_);
    hf_json_bool(features, "syscalls", doctor->features.syscalls);
    hf_json_bool(features, "fuse", doctor->features.mount);
    hf_json_bool(features, "run", doctor->features.run);
    hf_json_add(root, "features", features);
    for (unsigned i = 0; i < doctor->nr; i++)
        hf_json_append(findings, finding_json(&doctor->findings[i]));
    hf_json_add(root, "findings", findings);
    hf_json_print(root, 1);
}

static int run_doctor(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    static struct hf_doctor doctor;
    bool json = false;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt != 'j')
            return hf_cli_option(cmd, opt, argv);
        json = true;
    }
    status = hf_cli_operands(cmd, argc, argv, 0, 0);
    if (status)
        return status;
    hf_doctor_kernel(&doctor);
    hf_doctor_mount(&doctor);
    if (json)
        print_json(&doctor);
    else
        print_text(&doctor);
    return hf_cli_flush(status_of(&doctor));
}

const struct hf_cli_command hf_cmd_doctor = {
    .name = "doctor",
    .synopsis = "[--json]",
    .summary = "what works on this machine, and what would mend the rest",
    .help =
        "Looks at the kernel, userfaultfd, FUSE, namespaces and limits, as the user who runs it. Each line "
        "is\n"
        "\n"
        "  ok    as it should be\n"
        "  note  works; something about it is good to know\n"
        "  NO    a feature does not work here; '->' says what would mend it\n"
        "  BAD   nothing works here\n"
        "\n"
        "Nothing is changed.\n"
        "\n"
        "  --json  for programs\n"
        "\n"
        "Examples:\n"
        "  holdfast doctor\n"
        "  holdfast doctor --json | jq -r '.findings[].fix // empty'\n",
    .status = "0 everything works, 1 something is missing, 2 nothing works, or wrong usage",
    .run = run_doctor,
};
