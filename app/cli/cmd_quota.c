/* SPDX-License-Identifier: MIT */
/*
 * cmd_quota.c - holdfast quota: who may use how much of a volume, and does.
 */
#include "cli.h"
#include "json.h"
#include "term.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <holdfast/quota.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define BATCH 256u

static const char *const type_names[HF_QUOTA_TYPES] = {"user", "group", "project"};

enum { OPT_BLOCKS_SOFT = 256, OPT_BLOCKS_HARD, OPT_INODES_SOFT, OPT_INODES_HARD, OPT_GRACE, OPT_JSON };

struct quota_args {
    const struct hf_cli_command *cmd;
    const char *volume_path;
    int argc; /* operands after VOLUME */
    char **argv;
    const char *given[5]; /* values of OPT_BLOCKS_SOFT ... OPT_GRACE */
    bool json;
    uint32_t block_size; /* of the volume, once it is open */
};

/* ---------------------------------------------------------------- words to numbers */

static int parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;
    unsigned long long n;

    if (!isdigit((unsigned char)*text))
        return -EINVAL;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (*end)
        return -EINVAL;
    if (errno || n > max)
        return -ERANGE;
    *ret = n;
    return 0;
}

static int parse_type(const struct quota_args *args, const char *text, enum hf_quota_type *ret)
{
    for (int type = 0; type < HF_QUOTA_TYPES; type++) {
        if (strcmp(text, type_names[type]) != 0)
            continue;
        *ret = (enum hf_quota_type)type;
        return HF_CLI_OK;
    }
    return hf_cli_usage(args->cmd, "'%s' is not one of user, group, project", text);
}

/* A number, or the name of a user or group of this machine. */
static int parse_id(const struct quota_args *args, enum hf_quota_type type, const char *text, uint32_t *ret)
{
    struct passwd *user = type == HF_QUOTA_USER ? getpwnam(text) : NULL;
    struct group *group = type == HF_QUOTA_GROUP ? getgrnam(text) : NULL;
    uint64_t id = 0;

    if (user)
        *ret = user->pw_uid;
    else if (group)
        *ret = group->gr_gid;
    else if (parse_number(text, UINT32_MAX, &id) == 0)
        *ret = (uint32_t)id;
    else
        return hf_cli_usage(args->cmd, "there is no %s '%s': %s from 0 to 4294967295", type_names[type], text,
                            type == HF_QUOTA_PROJECT ? "a number" : "a name of this machine, or a number");
    return HF_CLI_OK;
}

/* "none", or a size; in whole blocks, a part of one counting as one. */
static int parse_space(const struct quota_args *args, const char *text, uint64_t *ret_blocks)
{
    uint64_t bytes = 0;

    if (strcmp(text, "none") != 0 && hf_cli_size_parse(text, &bytes) != 0)
        return hf_cli_usage(args->cmd, "'%s' is no size: say it like 10M, or none", text);
    *ret_blocks = bytes / args->block_size + (bytes % args->block_size != 0);
    return HF_CLI_OK;
}

static int parse_count(const struct quota_args *args, const char *text, uint64_t *ret)
{
    *ret = 0;
    if (strcmp(text, "none") == 0 || parse_number(text, HF_QUOTA_LIMIT_MAX, ret) == 0)
        return HF_CLI_OK;
    return hf_cli_usage(args->cmd, "'%s' is no number of inodes, nor none", text);
}

/* "90s", "15m", "12h", "7d", "2w"; a bare number is seconds. */
static int parse_grace(const struct quota_args *args, const char *text, uint32_t *ret_seconds)
{
    static const char units[] = "smhdw";
    static const uint32_t seconds[] = {1, 60, 3600, 86400, 604800};
    char number[24];
    size_t len = strlen(text);
    const char *unit = len ? strchr(units, text[len - 1]) : NULL;
    uint64_t n, factor = unit ? seconds[unit - units] : 1;

    if (len && len < sizeof(number)) {
        memcpy(number, text, len + 1);
        number[len - (unit != NULL)] = '\0';
        if (parse_number(number, HF_QUOTA_GRACE_MAX / factor, &n) == 0 && n > 0) {
            *ret_seconds = (uint32_t)(n * factor);
            return HF_CLI_OK;
        }
    }
    return hf_cli_usage(args->cmd,
                        "'%s' is no grace time: say it like 90s, 15m, 12h, 7d or 2w, up to 100 years", text);
}

/* ---------------------------------------------------------------- showing */

/* The name of an id on this machine, or its number. */
static const char *id_name(const struct hf_quota_limits *l, char buf[64])
{
    struct passwd *user = l->type == HF_QUOTA_USER ? getpwuid(l->id) : NULL;
    struct group *group = l->type == HF_QUOTA_GROUP ? getgrgid(l->id) : NULL;

    if (user || group)
        snprintf(buf, 64, "%s (%u)", user ? user->pw_name : group->gr_name, l->id);
    else
        snprintf(buf, 64, "%u", l->id);
    return buf;
}

/* What is left of a grace time that runs, rounded up; "over" when nothing is. */
static const char *grace_left(int64_t end_ns, char buf[32])
{
    struct timespec now;
    int64_t left;

    if (end_ns == 0)
        return "";
    clock_gettime(CLOCK_REALTIME, &now);
    left = (end_ns - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec) + 999999999) / 1000000000;
    if (left <= 0)
        return "over";
    if (left >= 2 * 86400)
        snprintf(buf, 32, "%" PRId64 " days", (left + 86399) / 86400);
    else if (left >= 2 * 3600)
        snprintf(buf, 32, "%" PRId64 " hours", (left + 3599) / 3600);
    else if (left >= 120)
        snprintf(buf, 32, "%" PRId64 " min", (left + 59) / 60);
    else
        snprintf(buf, 32, "%" PRId64 " s", left);
    return buf;
}

/* One resource: used, soft, hard, grace time, right-aligned. */
static void put_amounts(struct hf_line *line, unsigned column, uint64_t used, uint64_t soft, uint64_t hard,
                        int64_t end_ns, uint64_t unit)
{
    bool at_hard = hard && used >= hard, over = soft && used > soft;
    char text[HF_CLI_SIZE_LEN], left[32];
    const uint64_t values[] = {used, soft, hard};
    const char *grace;

    for (unsigned i = 0; i < 3; i++) {
        if (i > 0 && values[i] == 0)
            snprintf(text, sizeof(text), "-");
        else if (unit)
            hf_cli_size_format(values[i] > UINT64_MAX / unit ? UINT64_MAX : values[i] * unit, text);
        else
            snprintf(text, sizeof(text), "%" PRIu64, values[i]);
        hf_line_pad(line, column + (i + 1) * 10 - (unsigned)strlen(text));
        hf_line_put(line,
                    i == 0 && at_hard ? HF_STYLE_BAD
                    : i == 0 && over  ? HF_STYLE_NOTE
                                      : HF_STYLE_PLAIN,
                    "%s", text);
    }
    grace = grace_left(end_ns, left);
    hf_line_pad(line, column + 40 - (unsigned)strlen(grace));
    hf_line_put(line, end_ns ? HF_STYLE_BAD : HF_STYLE_PLAIN, "%s", grace);
}

static void print_heads(enum hf_quota_type type)
{
    struct hf_line line;

    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_BOLD, "%-8s %-16s %9s %9s %9s %9s  %9s %9s %9s %9s", type_names[type], "",
                "space", "soft", "hard", "grace", "inodes", "soft", "hard", "grace");
    hf_line_print(&line, stdout);
}

static void print_quota(const struct hf_quota *q, uint32_t block_size)
{
    const struct hf_quota_limits *l = &q->limits;
    struct hf_line line;
    char name[64];

    hf_line_init(&line);
    hf_line_put(&line, HF_STYLE_PLAIN, "  %s", id_name(l, name));
    put_amounts(&line, 25, q->blocks_used, l->blocks_soft, l->blocks_hard, q->blocks_grace_end_ns,
                block_size);
    put_amounts(&line, 66, q->inodes_used, l->inodes_soft, l->inodes_hard, q->inodes_grace_end_ns, 0);
    hf_line_print(&line, stdout);
}

static cJSON *amounts_json(uint64_t used, uint64_t soft, uint64_t hard, int64_t end_ns)
{
    cJSON *object = hf_json_object();

    hf_json_u64(object, "used", used);
    hf_json_u64(object, "soft", soft);
    hf_json_u64(object, "hard", hard);
    hf_json_bool(object, "over_soft", soft && used > soft);
    hf_json_u64(object, "grace_end_ns", (uint64_t)end_ns);
    return object;
}

static cJSON *quota_json(const struct hf_quota *q)
{
    const struct hf_quota_limits *l = &q->limits;
    cJSON *object = hf_json_object();

    hf_json_text(object, "type", type_names[l->type]);
    hf_json_u64(object, "id", l->id);
    hf_json_add(object, "blocks",
                amounts_json(q->blocks_used, l->blocks_soft, l->blocks_hard, q->blocks_grace_end_ns));
    hf_json_add(object, "inodes",
                amounts_json(q->inodes_used, l->inodes_soft, l->inodes_hard, q->inodes_grace_end_ns));
    hf_json_u64(object, "grace_seconds", l->grace_seconds ? l->grace_seconds : HF_QUOTA_GRACE_DEFAULT);
    return object;
}

static int show(struct hf_volume *volume, const struct quota_args *args)
{
    cJSON *root = args->json ? hf_json_object() : NULL, *array = args->json ? hf_json_array() : NULL;
    int type = -1, n;
    uint64_t cursor = 0;
    struct hf_quota *quotas = malloc(BATCH * sizeof(*quotas));

    if (!quotas)
        return hf_cli_fail_errno(ENOMEM, "cannot list quotas");
    while ((n = hf_quota_list(volume, &cursor, BATCH, quotas)) > 0) {
        for (int i = 0; i < n; i++) {
            if (args->json) {
                hf_json_append(array, quota_json(&quotas[i]));
                continue;
            }
            if ((int)quotas[i].limits.type != type)
                print_heads(quotas[i].limits.type);
            type = (int)quotas[i].limits.type;
            print_quota(&quotas[i], args->block_size);
        }
    }
    free(quotas);
    if (args->json) {
        hf_json_u64(root, "block_size", args->block_size);
        hf_json_add(root, "quotas", array);
        hf_json_print(root, 1);
    }
    return n < 0 ? hf_cli_fail_errno(n, "cannot list quotas of %s", args->volume_path) : HF_CLI_OK;
}

/* ---------------------------------------------------------------- set */

static int limits_parse(const struct quota_args *args, struct hf_quota_limits *l)
{
    uint64_t *const space[] = {&l->blocks_soft, &l->blocks_hard}, *const counts[] = {&l->inodes_soft,
                                                                                     &l->inodes_hard};
    int status = HF_CLI_OK;

    for (int i = 0; i < 2 && !status; i++) {
        if (args->given[i])
            status = parse_space(args, args->given[i], space[i]);
        if (!status && args->given[2 + i])
            status = parse_count(args, args->given[2 + i], counts[i]);
    }
    if (!status && args->given[4])
        status = parse_grace(args, args->given[4], &l->grace_seconds);
    if (status)
        return status;
    if (l->blocks_hard && l->blocks_soft > l->blocks_hard)
        return hf_cli_usage(args->cmd, "the soft limit of blocks would be above the hard one");
    if (l->inodes_hard && l->inodes_soft > l->inodes_hard)
        return hf_cli_usage(args->cmd, "the soft limit of inodes would be above the hard one");
    return HF_CLI_OK;
}

static int run_set(struct hf_volume *volume, const struct quota_args *args)
{
    enum hf_quota_type type = HF_QUOTA_USER;
    struct hf_quota quota;
    uint32_t id = 0;
    int error, status = parse_type(args, args->argv[1], &type);

    if (!status)
        status = parse_id(args, type, args->argv[2], &id);
    if (status)
        return status;
    error = hf_quota_get(volume, type, id, &quota);
    if (!error)
        status = limits_parse(args, &quota.limits);
    if (!error && !status)
        error = hf_quota_set(volume, &quota.limits);
    if (!error && !status)
        error = hf_quota_get(volume, type, id, &quota);
    if (error)
        return hf_cli_fail_errno(error, "cannot set the quota of %s %s", args->argv[1], args->argv[2]);
    if (status)
        return status;
    print_heads(type);
    print_quota(&quota, args->block_size);
    return HF_CLI_OK;
}

/* ---------------------------------------------------------------- project */

struct walk {
    struct hf_volume *volume;
    uint32_t project;
    uint64_t changed;
};

static int tree_set(struct walk *walk, const char *path);

static int dir_set(struct walk *walk, const char *path)
{
    struct hf_dirent entry;
    struct hf_dir *dir;
    int more = hf_opendir(walk->volume, path, &dir), status = HF_CLI_OK;

    if (more)
        return hf_cli_fail_errno(more, "cannot read directory %s", path);
    while (!status && (more = hf_readdir(dir, &entry)) > 0) {
        char *below;

        if (!strcmp(entry.name, ".") || !strcmp(entry.name, ".."))
            continue;
        below = hf_cli_path_join(path, strlen(path), entry.name);
        status = below ? tree_set(walk, below) : hf_cli_fail_errno(ENAMETOOLONG, "cannot go into %s", path);
        free(below);
    }
    if (!status && more < 0)
        status = hf_cli_fail_errno(more, "cannot read directory %s", path);
    hf_closedir(dir);
    return status;
}

/* The directory first, so that what is made in it meanwhile has the project, too. */
static int tree_set(struct walk *walk, const char *path)
{
    struct stat st;
    int error = hf_lstat(walk->volume, path, &st);
    bool dir = !error && S_ISDIR(st.st_mode);

    if (!error)
        error =
            hf_set_project(walk->volume, path, walk->project, dir && walk->project ? HF_PROJECT_INHERIT : 0);
    if (error)
        return hf_cli_fail_errno(error, "cannot move %s to project %u", path, walk->project);
    walk->changed++;
    return dir ? dir_set(walk, path) : HF_CLI_OK;
}

static int run_project(struct hf_volume *volume, const struct quota_args *args)
{
    struct walk walk = {.volume = volume};
    int status = parse_id(args, HF_QUOTA_PROJECT, args->argv[1], &walk.project);

    if (!status)
        status = tree_set(&walk, args->argv[2]);
    if (!status)
        printf("%" PRIu64 " inodes are in project %u\n", walk.changed, walk.project);
    else if (walk.changed)
        fprintf(stderr, "holdfast: %" PRIu64 " inodes were moved before; the same command goes on there\n",
                walk.changed);
    return status;
}

/* ---------------------------------------------------------------- check */

static int run_check(struct hf_volume *volume, const struct quota_args *args)
{
    struct hf_quota_check check;
    int n = hf_quota_check(volume, &check);
    char what[160];

    if (n < 0)
        return hf_cli_fail_errno(n, "cannot count again in %s", args->volume_path);
    if (n == 0) {
        printf("%" PRIu64 " inodes counted: the sums of all %" PRIu64 " ids agree\n", check.inodes,
               check.ids);
        return HF_CLI_OK;
    }
    snprintf(what, sizeof(what),
             "%s %u is charged for %" PRIu64 " blocks and %" PRIu64 " inodes, but has %" PRIu64
             " and %" PRIu64,
             type_names[check.type], check.id, check.blocks_kept, check.inodes_kept, check.blocks_found,
             check.inodes_found);
    return hf_cli_fail(what, "this is a bug in Holdfast: please report it", "%d sums are wrong", n);
}

/* ---------------------------------------------------------------- the command */

static const struct verb {
    const char *name;
    int operands; /* with its name */
    bool writes;
    int (*run)(struct hf_volume *volume, const struct quota_args *args);
} verbs[] = {{"show", 1, false, show},
             {"set", 3, true, run_set},
             {"project", 3, true, run_project},
             {"check", 1, false, run_check}};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (!strcmp(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

/* What does not depend on the volume. */
static int check_usage(const struct quota_args *args, const struct verb *verb)
{
    bool limits = false;

    for (int i = 0; i < 5; i++)
        limits = limits || args->given[i];
    if (!verb)
        return hf_cli_usage(args->cmd, "'%s' is not one of show, set, project, check", args->argv[0]);
    if (verb->operands != (args->argc ? args->argc : 1))
        return hf_cli_usage(args->cmd, "%s wants %s", verb->name,
                            verb->run == run_set       ? "a type, an id, and limits"
                            : verb->run == run_project ? "a number and a directory"
                                                       : "no operands");
    if (limits != (verb->run == run_set))
        return hf_cli_usage(args->cmd, limits ? "limits go with set"
                                              : "set wants a limit, for example --blocks-hard 10M");
    if (args->json && verb->run != show)
        return hf_cli_usage(args->cmd, "--json goes with show");
    return HF_CLI_OK;
}

static int run_verb(const struct verb *verb, struct quota_args *args)
{
    struct hf_volume *volume;
    struct hf_statfs fs;
    int error, status = hf_cli_open(args->volume_path, verb->writes ? 0 : HF_OPEN_READ_ONLY, 0, &volume);

    if (status)
        return status;
    error = hf_volume_statfs(volume, &fs);
    if (error) {
        status = hf_cli_fail_errno(error, "reading volume %s", args->volume_path);
    } else {
        args->block_size = fs.block_size;
        status = verb->run(volume, args);
    }
    return hf_cli_flush(hf_cli_close(volume, args->volume_path, status));
}

static int run_quota(const struct hf_cli_command *cmd, int argc, char **argv)
{
    static const struct option options[] = {{"blocks-soft", required_argument, NULL, OPT_BLOCKS_SOFT},
                                            {"blocks-hard", required_argument, NULL, OPT_BLOCKS_HARD},
                                            {"inodes-soft", required_argument, NULL, OPT_INODES_SOFT},
                                            {"inodes-hard", required_argument, NULL, OPT_INODES_HARD},
                                            {"grace", required_argument, NULL, OPT_GRACE},
                                            {"json", no_argument, NULL, OPT_JSON},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct quota_args args = {.cmd = cmd};
    const struct verb *verb;
    int opt, status;

    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == OPT_JSON)
            args.json = true;
        else if (opt >= OPT_BLOCKS_SOFT && opt <= OPT_GRACE)
            args.given[opt - OPT_BLOCKS_SOFT] = optarg;
        else
            return hf_cli_option(cmd, opt, argv);
    }
    status = hf_cli_operands(cmd, argc, argv, 1, 4);
    if (status)
        return status;
    args.volume_path = argv[optind];
    args.argc = argc - optind - 1;
    args.argv = argv + optind + 1;
    verb = find_verb(args.argc ? args.argv[0] : "show");
    status = check_usage(&args, verb);
    return status ? status : run_verb(verb, &args);
}

const struct hf_cli_command hf_cmd_quota = {
    .name = "quota",
    .synopsis = "VOLUME [show | set TYPE ID LIMITS | project NUMBER DIR | check] [--json]",
    .summary = "who may use how much, and does",
    .help =
        "A quota limits what a user, a group or a project may use of the volume: space in blocks, and "
        "inodes.\n"
        "What is beyond is refused when it is asked for: at the store to a mapping, at write, at create, "
        "with\n"
        "'Disk quota exceeded' (EDQUOT). A hard limit is never exceeded; a soft one may be for the grace "
        "time.\n"
        "A project is a number that a directory gives to all that is made in it: the quota of a tree.\n"
        "\n"
        "  show                 all who have limits or use something; yellow: over the soft limit, red: at "
        "the\n"
        "                       hard one, or its grace time runs\n"
        "  set TYPE ID LIMITS   TYPE: user, group or project; ID: a number, or the name of a user or group\n"
        "  project NUMBER DIR   moves DIR and all below it to project NUMBER; 0: to none. What is made "
        "there\n"
        "                       later belongs to it, too\n"
        "  check                counts everything again and compares\n"
        "\n"
        "Limits; those not given stay as they are, 'none' takes one away:\n"
        "  --blocks-soft SIZE, --blocks-hard SIZE  space, like 10M or 2G, in whole blocks\n"
        "  --inodes-soft N, --inodes-hard N        files, directories, links\n"
        "  --grace TIME                            90s, 15m, 12h, 7d, 2w; 7d unless it is set\n"
        "\n"
        "  --json  show for programs; space in blocks of block_size bytes\n"
        "\n"
        "Examples:\n"
        "  holdfast quota box.hf\n"
        "  holdfast quota box.hf set user alice --blocks-soft 8M --blocks-hard 10M --inodes-hard 1000\n"
        "  holdfast quota box.hf project 7 /letters && holdfast quota box.hf set project 7 --blocks-hard 5M\n"
        "  holdfast quota box.hf set user alice --blocks-soft none --blocks-hard none --inodes-hard none\n",
    .run = run_quota,
};
