/* SPDX-License-Identifier: MIT */
/*
 * seed_on_each_frontend.c - what seed.c is told, and what of its stores is on the volume afterwards, on the
 * mount with late and with reserve and under holdfast run: each time what the table in docs/semantics.md
 * says.
 */
#include "mounted.h"
#include "target.h"

#define BLOCK 1024
#define SAID_MAX 1024

static char *table; /* docs/semantics.md */
static char row[SAID_MAX], said_path[256];
static const char *run_refused; /* NULL: holdfast run works */
static struct mounted m;

static int teardown(void **state)
{
    (void)state;
    mounted_clear(&m);
    unlink(said_path);
    return 0;
}

/* Leaves one block, for the write. */
static void fill_volume(void)
{
    struct hf_volume *volume;
    struct hf_statfs fs;
    struct hf_file *file;

    assert_ok(hf_volume_open(m.volume, NULL, &volume));
    assert_ok(hf_open(volume, "ballast", O_RDWR | O_CREAT, 0644, &file));
    assert_ok(hf_volume_statfs(volume, &fs));
    assert_ok(hf_fallocate(file, 0, 0, (hf_off_t)(fs.blocks_free - 1) * BLOCK));
    assert_ok(hf_close(file));
    assert_ok(hf_volume_close(volume));
}

/* How many of the stores are there. */
static int kept(void)
{
    static const int places[] = {0, 1024, 2048, 4095};
    struct hf_volume *volume;
    struct hf_file *file;
    char page[4096] = "";
    int n = 0;

    assert_ok(hf_volume_open(m.volume, NULL, &volume));
    assert_ok(hf_open(volume, "f", O_RDONLY, 0, &file));
    assert_ok(hf_pread(file, page, sizeof(page), 0));
    for (int i = 0; i < 4; i++)
        n += page[places[i]] == 'a' + i;
    assert_ok(hf_close(file));
    assert_ok(hf_volume_close(volume));
    return n;
}

static int mount_status; /* with which holdfast mount has ended */

static const char script[] = "exec \"$SEED\" \"$WAY\" f >\"$SAID\"";

static void on_mount(const char *options)
{
    const char *const argv[] = {"sh", "-c", script, NULL};

    mounted_start(&m, options);
    assert_count(mounted_run(argv, m.dir, 120), 0);
    mount_status = mounted_stop(&m);
}

static void under_run(const char *option)
{
    const char *args[] = {"run", "--volume", m.volume, "--inside", option, "--", "sh", "-c", script, NULL};
    char errors[SAID_MAX];
    int status = mounted_command(args, errors, sizeof(errors));

    assert_that(status == 0, "run left with %d; it said: %s", status, errors);
}

/* One frontend's cell is added to the row. */
static void add_cell(bool full, void (*serve)(const char *option), const char *option)
{
    size_t used = strlen(row);
    FILE *file;

    mounted_make(&m, 1 << 20, BLOCK);
    if (full)
        fill_volume();
    mount_status = 0;
    serve(option);
    file = fopen(said_path, "re");
    assert_non_null(file);
    assert_non_null(fgets(row + used, (int)(sizeof(row) - used), file));
    fclose(file);
    used += strcspn(row + used, "\n");
    snprintf(row + used, sizeof(row) - used, ", %d kept%s |", kept(),
             mount_status != 0 ? ", mount fails" : "");
    mounted_clear(&m);
}

static void expect_row(const char *name, bool full, const char *way)
{
    setenv("WAY", way, 1);
    snprintf(row, sizeof(row), "| %s | ", name);
    add_cell(full, on_mount, "mmap=late");
    strcat(row, " ");
    add_cell(full, on_mount, "mmap=reserve");
    strcat(row, " ");
    if (run_refused == NULL)
        add_cell(full, under_run, "--on-full=sigbus");
    assert_that(strstr(table, row) != NULL, "docs/semantics.md has no row that begins with: %s", row);
}

static void space_for_all(void **state)
{
    (void)state;
    expect_row("space for all, then `msync`", false, "msync");
}

static void space_for_one_block(void **state)
{
    (void)state;
    expect_row("space for one block, then `msync`", true, "msync");
}

static void closed_before_it_stores(void **state)
{
    (void)state;
    expect_row("space for one block, closed before it stores", true, "close");
}

static char *read_all(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = calloc(1, 1 << 20);

    if (file == NULL || text == NULL || fread(text, 1, (1 << 20) - 1, file) == 0)
        return NULL;
    fclose(file);
    return text;
}

#define CASE(fn) cmocka_unit_test_teardown(fn, teardown)

/* HOLDFAST SEED SEMANTICS.MD */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        CASE(space_for_all),
        CASE(space_for_one_block),
        CASE(closed_before_it_stores),
    };
    char *seed = argc == 4 ? realpath(argv[2], NULL) : NULL; /* it is run elsewhere */
    const char *refused;

    table = argc == 4 ? read_all(argv[3]) : NULL;
    if (seed == NULL || table == NULL)
        return 99;
    temp_path("seed-said", said_path, sizeof(said_path));
    setenv("SEED", seed, 1);
    free(seed);
    setenv("SAID", said_path, 1);
    run_refused = mounted_serves_mappings();
    refused = mounted_init(argv[1]);
    if (refused) {
        printf("skipped: %s\n", refused);
        return 77;
    }
    return cmocka_run_group_tests_name("seed_on_each_frontend", tests, NULL, NULL);
}
