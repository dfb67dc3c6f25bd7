/* SPDX-License-Identifier: MIT */
/*
 * other_processes.c - mappings in other processes, served over a socket: the same promise at each of their
 * stores.
 */
#include "mmap_test.h"
#include "puppet.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

struct fixture {
    struct target *t;
    struct target_file file;
    struct hf_server *server;
    struct hf_serve_ticket ticket;
    size_t pages, len;
};

static _Atomic int nr_refused;
static pthread_mutex_t event_lock = PTHREAD_MUTEX_INITIALIZER;
static struct hf_serve_event last_event; /* guarded by event_lock, like its name */
static char last_name[HF_SERVE_NAME_LEN];

static struct target_file *_Atomic shrinks_when_refused; /* set before anybody stores */

static void on_refused(const struct hf_serve_event *event, void *arg)
{
    (void)arg;
    if (shrinks_when_refused != NULL)
        t_ftruncate(shrinks_when_refused, 0);
    pthread_mutex_lock(&event_lock);
    last_event = *event;
    snprintf(last_name, sizeof(last_name), "%s", event->name);
    pthread_mutex_unlock(&event_lock);
    atomic_fetch_add(&nr_refused, 1);
}

static struct hf_serve_event event_seen(void)
{
    static char name[HF_SERVE_NAME_LEN];
    struct hf_serve_event event;

    pthread_mutex_lock(&event_lock);
    event = last_event;
    memcpy(name, last_name, sizeof(name));
    pthread_mutex_unlock(&event_lock);
    event.name = name;
    return event;
}

static struct fixture serve(struct target *t, size_t pages, enum hf_on_full on_full)
{
    struct hf_server_options options = {.on_full = on_full, .refused = on_refused};
    struct fixture f = {.t = t, .pages = pages, .len = pages * t->page_size};

    atomic_store(&nr_refused, 0);
    f.file = open_new(t, "f");
    assert_ok(t_ftruncate(&f.file, (hf_off_t)f.len));
    temp_path("serve", f.ticket.socket, sizeof(f.ticket.socket));
    assert_ok(hf_server_new(t->volume, f.ticket.socket, &options, &f.server));
    assert_ok(hf_server_grant(f.server, f.file.hf, f.ticket.token));
    return f;
}

static void stop(struct fixture *f)
{
    hf_server_revoke(f->server, f->file.hf);
    hf_server_free(f->server);
    assert_err(access(f->ticket.socket, F_OK) < 0 ? -errno : 0, ENOENT);
    close_ok(&f->file);
}

static struct puppet mapper(struct fixture *f)
{
    struct puppet p = puppet_new(NULL);

    assert_ok(puppet_map(&p, 0, &f->ticket, f->len, PROT_READ | PROT_WRITE, 0));
    return p;
}

static uint64_t reserved(struct target *t)
{
    return target_statfs(t).blocks_reserved;
}

static int64_t filled(struct puppet *p, size_t at, size_t len, int value)
{
    return puppet_do(p, &(struct puppet_order){.op = PUPPET_FILL, .at = at, .len = len, .value = value})
        .result;
}

static int64_t reads(struct puppet *p, size_t at, size_t len, int value)
{
    return puppet_do(p, &(struct puppet_order){.op = PUPPET_EXPECT, .at = at, .len = len, .value = value})
        .result;
}

static void stores_meet(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f), b = mapper(&f);
    uint8_t *map = map_shared(&f.file, 0, f.len);

    assert_ok(puppet_store(&a, 0, 5, 'a'));
    assert_count(puppet_load(&b, 0, 5), 'a');
    assert_count(byte_at(map + 5), 'a');
    expect_range(&f.file, 5, 1, 'a');
    assert_ok(puppet_store(&b, 0, 6, 'b'));
    map[t->page_size] = 'm';
    fill_range(&f.file, (hf_off_t)t->page_size + 1, 1, 'w');
    assert_count(puppet_load(&a, 0, 6), 'b');
    assert_count(puppet_load(&a, 0, t->page_size), 'm');
    assert_count(puppet_load(&a, 0, t->page_size + 1), 'w');
    assert_ok(filled(&a, 2 * t->page_size, t->page_size, 'f'));
    assert_count(reads(&b, 2 * t->page_size, t->page_size, 'f'), 1);
    expect_range(&f.file, (hf_off_t)(2 * t->page_size), t->page_size, 'f');
    unmap_ok(t, map, f.len);
    puppet_end(&a);
    puppet_end(&b);
    stop(&f);
}

/* page_mkclean reaches them: after fsync the next store asks again. */
static void protected_after_fsync(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f), b = mapper(&f);

    assert_ok(puppet_store(&a, 0, 0, '1'));
    assert_ok(puppet_store(&b, 0, 1, '1'));
    assert_true(page_info(&f.file, 0).writable);
    assert_ok(t_fsync(&f.file));
    assert_false(page_info(&f.file, 0).writable);
    for (int i = 0; i < 3; i++) {
        assert_ok(puppet_store(&b, 0, 2, '0' + i));
        assert_true(page_info(&f.file, 0).writable);
        assert_true(page_info(&f.file, 0).block_dirty[0]);
        assert_ok(puppet_do(&a, &(struct puppet_order){.op = PUPPET_SYNC}).result);
        assert_false(page_info(&f.file, 0).writable);
    }
    puppet_end(&a);
    puppet_end(&b);
    stop(&f);
}

static void refused_at_the_store(struct target *t)
{
    struct fixture f = serve(t, 8, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f);
    struct puppet_answer answer;
    struct hf_serve_event event;
    size_t at = 3 * t->page_size + 7;

    assert_count(puppet_load(&a, 0, at), 0); /* stands there, protected, when the store comes */
    target_fill_but(t, "ballast", 0);
    for (int i = 0; i < 3; i++) {
        answer = puppet_do(&a, &(struct puppet_order){.op = PUPPET_STORE, .at = at, .value = 'x'});
        assert_err(answer.result, ENOSPC);
        assert_count(answer.fault.offset, at);
        assert_true(answer.fault.write);
        assert_count(atomic_load(&nr_refused), i + 1);
        event = event_seen();
        assert_count(event.fault.error, ENOSPC);
        assert_count(event.pid, a.pid);
        assert_count(event.fault.tid, a.pid);
        assert_string_equal(event.name, "puppet's file");
    }
    assert_err(puppet_store(&a, 0, 5 * t->page_size, 'x'), ENOSPC); /* nothing stood there */
    assert_count(puppet_load(&a, 0, at), 0);
    assert_ok(t_truncate(t, "ballast", 0));
    assert_ok(puppet_store(&a, 0, at, 'y'));
    assert_ok(puppet_store(&a, 0, 5 * t->page_size, 'z'));
    assert_ok(t_fsync(&f.file));
    expect_range(&f.file, (hf_off_t)at, 1, 'y');
    puppet_end(&a);
    stop(&f);
    assert_count(reserved(t), 0);
}

static void waits_for_space(struct target *t)
{
    struct fixture f = serve(t, 8, HF_ON_FULL_WAIT);
    struct puppet a = mapper(&f);
    struct puppet_answer answer;

    target_fill_but(t, "ballast", 0);
    puppet_send(&a, &(struct puppet_order){.op = PUPPET_STORE, .at = 9, .value = 'w'});
    while (atomic_load(&nr_refused) == 0)
        assert_false(puppet_answered(&a, 5, &answer));
    assert_true(event_seen().waits);
    assert_ok(t_truncate(t, "ballast", 0));
    assert_true(puppet_answered(&a, 60000, &answer));
    assert_ok(answer.result);
    assert_count(atomic_load(&nr_refused), 1); /* said once */
    expect_range(&f.file, 9, 1, 'w');
    puppet_end(&a);
    stop(&f);
}

static void reserves_what_it_maps(struct target *t)
{
    struct fixture f = serve(t, 8, HF_ON_FULL_RESERVE);
    struct puppet a = puppet_new(NULL);

    target_fill_but(t, "ballast", 4 * blocks_per_page(t));
    assert_err(puppet_map(&a, 0, &f.ticket, f.len, PROT_READ | PROT_WRITE, 0), ENOSPC);
    assert_count(reserved(t), 0);
    assert_ok(puppet_map(&a, 0, &f.ticket, f.len, PROT_READ, 0));
    assert_err(
        puppet_do(&a, &(struct puppet_order){.op = PUPPET_PROTECT, .prot = PROT_READ | PROT_WRITE}).result,
        ENOSPC);
    assert_ok(puppet_map(&a, 1, &f.ticket, 4 * t->page_size, PROT_READ | PROT_WRITE, 0));
    assert_count(reserved(t), 4 * blocks_per_page(t));
    for (size_t i = 0; i < 4; i++)
        assert_ok(puppet_store(&a, 1, i * t->page_size, 'r'));
    puppet_end(&a);
    stop(&f);
}

/* The letter's case, with the store in one process and the growth in another. */
static void grows_under_them(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f);
    size_t last = t->page_size - 1;

    assert_ok(t_ftruncate(&f.file, 0));
    fill_range(&f.file, 0, t->block_size, 'k');
    assert_ok(puppet_store(&a, 0, 0, 'a'));
    assert_ok(t_ftruncate(&f.file, 2 * (hf_off_t)t->page_size));
    assert_ok(puppet_store(&a, 0, last, 'd'));
    assert_true(page_info(&f.file, 0).block_state[blocks_per_page(t) - 1] != HF_BLOCK_HOLE);
    assert_ok(t_fsync(&f.file));
    assert_false(page_info(&f.file, 0).writable);
    expect_range(&f.file, 0, 1, 'a');
    expect_range(&f.file, (hf_off_t)last, 1, 'd');
    puppet_end(&a);
    stop(&f);
}

static void shrinks_under_them(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f);
    size_t hw = (size_t)sysconf(_SC_PAGESIZE);

    for (size_t i = 0; i < f.pages; i++)
        assert_ok(puppet_store(&a, 0, i * t->page_size, 'x'));
    assert_ok(t_ftruncate(&f.file, 10));
    assert_true(puppet_store(&a, 0, hw, 'y') < 0);
    assert_true(puppet_load(&a, 0, 2 * t->page_size) < 0);
    assert_count(puppet_load(&a, 0, 0), 'x');
    assert_count(puppet_load(&a, 0, 10), 0);
    assert_ok(t_ftruncate(&f.file, (hf_off_t)f.len));
    assert_ok(puppet_store(&a, 0, hw, 'z'));
    assert_count(puppet_load(&a, 0, 2 * t->page_size), 0);
    assert_ok(t_fallocate(&f.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (hf_off_t)t->page_size));
    assert_count(puppet_load(&a, 0, 0), 0);
    assert_count(puppet_load(&a, 0, hw), t->page_size > hw ? 0 : 'z');
    puppet_end(&a);
    stop(&f);
}

/* Between the decision to refuse a store and its delivery the page leaves the file: the thread must wake. */
static void shrinks_under_a_refusal(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f);

    target_fill_but(t, "ballast", 0);
    shrinks_when_refused = &f.file;
    assert_true(puppet_store(&a, 0, 2 * t->page_size, 'x') < 0);
    shrinks_when_refused = NULL;
    assert_count(stat_of(&f.file).st_size, 0);
    puppet_end(&a);
    stop(&f);
}

/* hf_server_clients() has one entry a process, as long as it lives. */
static void each_client_is_counted(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f), b = mapper(&f);
    struct hf_client_stats clients[3], one;

    assert_count(puppet_load(&a, 0, 0), 0);
    target_fill_but(t, "ballast", 0);
    assert_err((int)puppet_store(&b, 0, 3 * t->page_size, 'b'), ENOSPC);
    assert_int_equal(hf_server_clients(f.server, 3, clients), 2);
    assert_int_equal(hf_server_clients(f.server, 1, &one), 1);
    assert_err(hf_server_clients(NULL, 1, &one), EINVAL);
    for (int i = 0; i < 2; i++) {
        const struct hf_client_stats *c = &clients[i];

        assert_true(c->pid == a.pid || c->pid == b.pid);
        assert_true(c->pid != clients[1 - i].pid && c->connected);
        assert_count(c->areas, 1);
        assert_count(c->mappings, 1);
        assert_true(c->pid == a.pid ? c->faults_load >= 1 && c->faults_store == 0 : c->faults_store >= 1);
        assert_true(c->pid == a.pid ? c->refused == 0 : c->refused >= 1);
    }
    puppet_kill(&b);
    while (hf_server_clients(f.server, 3, clients) != 1)
        sched_yield();
    assert_int_equal(clients[0].pid, a.pid);
    puppet_end(&a);
    stop(&f);
}

static void killed_with_dirty_pages(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f), b = mapper(&f);
    struct hf_server_stats stats;

    assert_ok(puppet_store(&a, 0, 3, 'k'));
    puppet_kill(&a);
    do {
        hf_server_stats(f.server, &stats);
        sched_yield();
    } while (stats.clients != 1);
    assert_count(stats.areas, 1);
    expect_range(&f.file, 3, 1, 'k');
    assert_count(puppet_load(&b, 0, 3), 'k');
    assert_ok(t_fsync(&f.file));
    puppet_end(&b);
    stop(&f);
    if (t->spec->kind == TARGET_BLOCKFS) {
        target_reopen(t);
        f.file = open_old(t, "f", O_RDONLY);
        expect_range(&f.file, 3, 1, 'k');
        close_ok(&f.file);
    }
}

/* The child of a client has the mappings when fork() returns, and its stores are seen, whatever its parent
 * does. */
static void forked_client(struct target *t, int parent_ends)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f);
    struct puppet_answer answer;

    assert_ok(puppet_store(&a, 0, 0, 'p'));
    assert_ok(t_unlink(t, "f"));
    hf_server_revoke(f.server, f.file.hf);
    answer = puppet_do(&a, &(struct puppet_order){.op = PUPPET_FORK, .value = parent_ends});
    assert_ok(answer.result);
    assert_true(answer.pid != a.pid);
    assert_count(puppet_load(&a, 0, 0), 'p');
    assert_ok(puppet_store(&a, 0, 1, 'c'));
    assert_true(page_info(&f.file, 0).writable);
    assert_ok(t_fsync(&f.file));
    assert_false(page_info(&f.file, 0).writable);
    assert_ok(puppet_store(&a, 0, 2, 'd'));
    assert_true(page_info(&f.file, 0).writable);
    expect_range(&f.file, 2, 1, 'd');
    assert_ok(puppet_do(&a, &(struct puppet_order){.op = PUPPET_FORK}).result); /* and its child's child */
    assert_ok(puppet_store(&a, 0, t->page_size, 'e'));
    assert_true(page_info(&f.file, 1).writable);
    puppet_end(&a);
    stop(&f);
}

static void forked(struct target *t)
{
    forked_client(t, 0);
}

static void forked_and_orphaned(struct target *t)
{
    forked_client(t, 1);
}

static void remapped_and_protected(struct target *t)
{
    struct fixture f = serve(t, 8, HF_ON_FULL_SIGBUS);
    struct puppet a = puppet_new(NULL);

    assert_ok(puppet_map(&a, 0, &f.ticket, 2 * t->page_size, PROT_READ | PROT_WRITE, 0));
    assert_ok(puppet_map(&a, 1, &f.ticket, 2 * t->page_size, PROT_READ, (int64_t)t->page_size));
    assert_ok(puppet_store(&a, 0, t->page_size, 'm'));
    assert_count(puppet_load(&a, 1, 0), 'm');
    assert_err(puppet_store(&a, 1, 0, 'n'), EFAULT);
    for (size_t pages = 4; pages <= 8; pages++) {
        assert_ok(
            puppet_do(&a, &(struct puppet_order){.op = PUPPET_REMAP, .len = pages * t->page_size}).result);
        assert_ok(puppet_store(&a, 0, (pages - 1) * t->page_size, (int)pages));
        assert_count(puppet_load(&a, 0, t->page_size), 'm');
        expect_range(&f.file, (hf_off_t)((pages - 1) * t->page_size), 1, (uint8_t)pages);
    }
    assert_ok(puppet_do(&a, &(struct puppet_order){.op = PUPPET_PROTECT, .prot = PROT_READ}).result);
    assert_err(puppet_store(&a, 0, 0, 'n'), EFAULT);
    assert_ok(
        puppet_do(&a, &(struct puppet_order){.op = PUPPET_PROTECT, .prot = PROT_READ | PROT_WRITE}).result);
    assert_ok(t_fsync(&f.file));
    assert_ok(puppet_store(&a, 0, 0, 'o'));
    assert_true(page_info(&f.file, 0).writable);
    assert_ok(puppet_do(&a, &(struct puppet_order){.op = PUPPET_UNMAP}).result);
    assert_err(puppet_load(&a, 0, 0), EFAULT);
    expect_range(&f.file, 0, 1, 'o');
    puppet_end(&a);
    stop(&f);
}

/* When the server stops, nothing hangs, nothing reads as zeros, and what was stored by then is there. */
static void server_stops(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f);

    assert_ok(puppet_store(&a, 0, 0, 's'));
    hf_server_revoke(f.server, f.file.hf);
    hf_server_free(f.server);
    assert_false(page_info(&f.file, 0).writable); /* nobody could store unseen */
    assert_true(puppet_store(&a, 0, 1, 't') < 0);
    assert_true(puppet_store(&a, 0, t->page_size, 't') < 0);
    assert_err(puppet_map(&a, 1, &f.ticket, f.len, PROT_READ, 0), EIO);
    assert_true(puppet_load(&a, 0, 0) < 0);
    expect_range(&f.file, 0, 1, 's');
    expect_range(&f.file, 1, 1, 0);
    puppet_end(&a);
    close_ok(&f.file);
}

static void system_calls(struct target *t)
{
    struct fixture f = serve(t, 4, HF_ON_FULL_SIGBUS);
    struct puppet a = mapper(&f);
    struct puppet_order order = {.op = PUPPET_SYSCALL, .at = 100, .len = 1000};
    bool user_only = puppet_do(&a, &(struct puppet_order){.op = PUPPET_USER_ONLY}).result != 0;

    if (user_only) {
        assert_err(puppet_do(&a, &order).result, EFAULT);
        assert_count(puppet_load(&a, 0, 100), 0);
    }
    assert_count(puppet_do(&a, &order).result, 1000);
    puppet_end(&a);
    stop(&f);
}

static void who_is_let_in(struct target *t)
{
    struct fixture f = serve(t, 2, HF_ON_FULL_SIGBUS);
    struct target_file reader = open_old(t, "f", O_RDONLY);
    struct hf_serve_ticket ticket = f.ticket;
    struct puppet a = puppet_new(NULL);
    uint8_t again[HF_SERVE_TOKEN_LEN];

    assert_ok(hf_server_grant(f.server, f.file.hf, again));
    assert_memory_equal(again, f.ticket.token, sizeof(again));
    assert_ok(hf_server_grant(f.server, reader.hf, ticket.token));
    assert_err(puppet_map(&a, 0, &ticket, f.len, PROT_READ | PROT_WRITE, 0), EACCES);
    assert_ok(puppet_map(&a, 0, &ticket, f.len, PROT_READ, 0));
    assert_err(
        puppet_do(&a, &(struct puppet_order){.op = PUPPET_PROTECT, .prot = PROT_READ | PROT_WRITE}).result,
        EACCES);
    hf_server_revoke(f.server, reader.hf);
    assert_err(puppet_map(&a, 1, &ticket, f.len, PROT_READ, 0), ESTALE);
    ticket.token[5] ^= 1;
    assert_err(puppet_map(&a, 1, &ticket, f.len, PROT_READ, 0), ESTALE);
    close_ok(&reader);
    puppet_end(&a);
    stop(&f);
}

static const struct test_body bodies[] = {
    BODY(stores_meet, ON_HOLDFAST),
    BODY(protected_after_fsync, ON_HOLDFAST),
    BODY(refused_at_the_store, ON_HOLDFAST),
    BODY(waits_for_space, ON_HOLDFAST),
    BODY(reserves_what_it_maps, ON_HOLDFAST),
    BODY(grows_under_them, ON_HOLDFAST),
    BODY(shrinks_under_them, ON_HOLDFAST),
    BODY(shrinks_under_a_refusal, ON_HOLDFAST),
    BODY(each_client_is_counted, ON_HOLDFAST),
    BODY(killed_with_dirty_pages, ON_HOLDFAST),
    BODY(forked, ON_HOLDFAST),
    BODY(forked_and_orphaned, ON_HOLDFAST),
    BODY(remapped_and_protected, ON_HOLDFAST),
    BODY(server_stops, ON_HOLDFAST),
    BODY(system_calls, ON_HOLDFAST),
    BODY(who_is_let_in, ON_HOLDFAST),
};

static const struct test_child children[] = {{"puppet", puppet_main}};

int main(int argc, char **argv)
{
    struct target_spec specs[NR_MMAP_SPECS];
    struct test_program program = {
        .name = "other_processes",
        .bodies = bodies,
        .nr_bodies = ARRAY_LEN(bodies),
        .children = children,
        .nr_children = ARRAY_LEN(children),
        .specs = specs,
        .nr_specs = NR_MMAP_SPECS,
    };
    bool child = argc >= 2 && strcmp(argv[1], "--child") == 0;

    if (!child && !puppets_work())
        return 77;
    if (!child)
        mmap_specs(specs);
    return target_main(argc, argv, &program);
}
