/* SPDX-License-Identifier: MIT */
/*
 * isize_model.c - every interleaving of stores, growth and writeback on one straddling page, under both size
 * protocols, and under none.
 *
 * The model is one page of three blocks of two bytes; EOF is in the first block. Two threads store through
 * mappings, one grows the file (by ftruncate and by a write beyond EOF; io_lock lets only one thread do
 * that), one writes back. A step is what runs between two moments at which another thread can see or change
 * something; each bears the name of the function it stands for. All states that the threads can reach are
 * visited, breadth first, so that the first trace that breaks a promise is a shortest one; `isize_model
 * --show VARIANT` prints it.
 *
 * Not in the model: map_lock (all four take it shared), filling from the device, more than one page or
 * hardware page, failures of the device. The states of a page and what may follow are the library's own list.
 */
#include "cache/page.h"
#include "check.h"

enum { PER_BLOCK = 2, BLOCKS = 3, BYTES = PER_BLOCK * BLOCKS };
enum { STORE_A, STORE_B, GROWER, WRITEBACK, THREADS };
enum { ROUNDS = 2, NR_STORES = 2, NR_GROWS = 2 };

/* X(step, what it is) */
#define STEPS(X)                                                                                          \
    X(DONE, "ended")                                                                                      \
    X(STORE, "the store itself: through the page table, or a fault")                                      \
    X(S_EARLY, "a broken fault reads i_size before it has the page")                                      \
    X(S_LOCK, "attempt() (fault.c): hf_mutex_lock(&page->lock)")                                          \
    X(S_MAY, "attempt() (fault.c): isize->may_mkwrite(), else unlock")                                    \
    X(S_WAIT, "attempt() (fault.c): isize->wait(): hole_lock_wait() (isize.c)")                           \
    X(S_SIZE, "hf_page_mkwrite() (mkwrite.c): hf_isize_read()")                                           \
    X(S_MKWRITE, "hf_page_mkwrite() (mkwrite.c): hf_page_reserve(), dirty, WRITABLE, HF_PAGE_TAIL")       \
    X(S_INSTALL, "install() (fault.c): the page table entry becomes writable")                            \
    X(S_UNLOCK, "attempt() (fault.c): hf_mutex_unlock(&page->lock)")                                      \
    X(G_BEGIN, "hf_isize_grow_begin() (isize.c): old_size = hf_isize_read()")                             \
    X(G_HOLE, "hole_lock_begin() (isize.c): hf_mutex_lock(&hole_lock)")                                   \
    X(G_INDEX, "hole_lock_begin() (isize.c): hole_index = index + 1")                                     \
    X(G_PAGE, "straddle_lock() (isize.c): hf_mutex_lock(&page->lock)")                                    \
    X(G_MKCLEAN, "straddle_close() (isize.c): hf_page_mkclean()")                                         \
    X(G_ZERO, "straddle_close() (isize.c): HF_PAGE_TAIL: hf_memfd_zero() from old_size")                  \
    X(G_RELEASE, "hole_lock_begin() (isize.c): hf_mutex_unlock(&page->lock)")                             \
    X(G_SET, "hf_isize_grow_to() (isize.c): hf_isize_set()")                                              \
    X(G_W_LOCK, "write_locked() (rw.c): chunk_lock()")                                                    \
    X(G_W_COPY, "write_prepare() (rw.c): hf_page_reserve(); pwrite() to the memfd")                       \
    X(G_W_COMMIT, "write_commit() (rw.c): hf_page_dirty(), hf_isize_set()")                               \
    X(G_W_UNLOCK, "write_locked() (rw.c): chunk_unlock()")                                                \
    X(G_END, "grow_end() (isize.c): page_lock_end(), or hole_index = 0")                                  \
    X(G_HOLE_END, "hole_lock_end() (isize.c): hf_mutex_unlock(&hole_lock)")                               \
    X(W_SCAN, "wb_walk() (writeback.c): find_dirty_group()")                                              \
    X(W_LOCK, "page_lock_dirty() (writeback.c)")                                                          \
    X(W_MKCLEAN, "run_submit() (writeback.c): hf_pages_mkclean()")                                        \
    X(W_READ, "run_submit() (writeback.c): hf_memfd_read()")                                              \
    X(W_BEYOND, "page_begin() (writeback.c): beyond, by hf_isize_read()")                                 \
    X(W_SIZE, "page_bytes_inside() (writeback.c): hf_isize_read(), zeros beyond it")                      \
    X(W_BEGIN, "page_begin() (writeback.c): hf_page_undirty(), release_zero_blocks(), hf_page_convert()") \
    X(W_UNLOCK, "run_submit() (writeback.c): hf_mutex_unlock(&page->lock)")                               \
    X(W_WRITE, "run_write() (writeback.c): driver->write()")                                              \
    X(W_END_LOCK, "run_end_page() (writeback.c): hf_mutex_lock(&page->lock)")                             \
    X(W_END, "run_end_page() (writeback.c): CLEAN, DIRTY or WRITABLE; unlock")

enum step {
#define X(step, text) step,
    STEPS(X)
#undef X
};
static const char *const step_texts[] = {
#define X(step, text) text,
    STEPS(X)
#undef X
};
static const char *const thread_names[] = {"store A", "store B", "grower", "writeback"};

/* Everything is bytes, so that two states are the same
 * if their bytes are. Locals are 0 where they are dead. */
struct state {
    uint8_t pc[THREADS], at[THREADS];              /* where each thread is; which store, growth or round */
    uint8_t size;                                  /* i_size */
    uint8_t page_lock, hole_lock;                  /* 1 + the thread that holds it */
    uint8_t hole_index;                            /* set or not */
    uint8_t writable;                              /* the page table entries: a store does not fault */
    uint8_t page_state, tail;                      /* enum hf_page_state; HF_PAGE_TAIL */
    uint8_t reserved, allocated, dirty, writeback; /* sets of blocks */
    uint8_t free;                                  /* blocks of the volume */
    uint8_t memfd[BYTES], disk[BYTES];
    uint8_t want[BYTES]; /* what the file holds: the last accepted store or write, or 0 */
    uint8_t f_size[2];   /* hf_page_mkwrite(): size */
    uint8_t old_size;    /* struct hf_isize_grow */
    uint8_t wb_inside, wb_bytes[BYTES];
};

/* Which protocol, and what is broken in it on purpose. */
struct variant {
    const char *name;
    bool page_lock, hole_lock;
    bool no_mkclean, no_zero, no_wait, early_size;
    bool only_loss; /* look at the end only: is a byte that was accepted missing after the last fsync? */
    uint8_t free;
};

static const uint8_t store_at[2][NR_STORES] = {{4, 0}, {2, 4}}; /* byte offsets; the values are 1 ... 4 */
static const struct {
    bool write; /* of one byte at size - 1, else ftruncate */
    uint8_t size;
} grows[NR_GROWS] = {{false, 3}, {true, 5}};
#define WRITTEN_VALUE 9
#define FIRST_VALUE 7

static const uint32_t may_follow[] = {
#define S(state) (1u << HF_PAGE_##state)
#define X(state, meaning, next) [HF_PAGE_##state] = (next),
    HF_PAGE_STATES(X)
#undef X
#undef S
};

/* ---------------------------------------------------------------- what the steps are made of */

static const char *broken; /* what a step found wrong, or NULL */

static void holds(bool condition, const char *what)
{
    if (!condition && !broken)
        broken = what;
}

static uint8_t inside(uint8_t size)
{
    return (uint8_t)((1u << ((size + PER_BLOCK - 1) / PER_BLOCK)) - 1);
}

static unsigned count(uint8_t blocks)
{
    return (unsigned)__builtin_popcount(blocks);
}

static void page_move(struct state *s, enum hf_page_state next)
{
    holds(may_follow[s->page_state] & (1u << next), "a page state follows that may not");
    s->page_state = (uint8_t)next;
}

static bool lock(uint8_t *mutex, int thread)
{
    if (*mutex)
        return false;
    *mutex = (uint8_t)(thread + 1);
    return true;
}

static bool reserve(struct state *s, uint8_t need)
{
    uint8_t missing = (uint8_t)(need & ~s->allocated & ~s->reserved);

    if (count(missing) > s->free)
        return false;
    s->free = (uint8_t)(s->free - count(missing));
    s->reserved |= missing;
    return true;
}

static void mkclean(struct state *s)
{
    s->writable = 0;
    if (s->page_state == HF_PAGE_WRITABLE)
        page_move(s, HF_PAGE_DIRTY);
    else if (s->page_state == HF_PAGE_WB_WRITABLE)
        page_move(s, HF_PAGE_WB_DIRTY);
}

static void mkwrite(struct state *s, uint8_t size)
{
    s->dirty |= inside(size);
    if (s->page_state == HF_PAGE_CLEAN || s->page_state == HF_PAGE_DIRTY) {
        page_move(s, HF_PAGE_WRITABLE);
    } else if (s->page_state == HF_PAGE_WRITEBACK || s->page_state == HF_PAGE_WB_DIRTY) {
        if (s->page_state == HF_PAGE_WRITEBACK)
            page_move(s, HF_PAGE_WB_DIRTY);
        page_move(s, HF_PAGE_WB_WRITABLE);
    }
    if (size < BYTES)
        s->tail = 1;
}

static void undirty(struct state *s, uint8_t blocks)
{
    s->dirty &= (uint8_t)~blocks;
    if (s->dirty)
        return;
    if (s->page_state == HF_PAGE_DIRTY)
        page_move(s, HF_PAGE_CLEAN);
    else if (s->page_state == HF_PAGE_WB_DIRTY)
        page_move(s, HF_PAGE_WRITEBACK);
}

static void page_dirty(struct state *s, uint8_t blocks)
{
    s->dirty |= blocks;
    if (s->page_state == HF_PAGE_CLEAN)
        page_move(s, HF_PAGE_DIRTY);
    else if (s->page_state == HF_PAGE_WRITEBACK)
        page_move(s, HF_PAGE_WB_DIRTY);
}

static bool block_is_zero(const uint8_t *bytes, unsigned block)
{
    for (unsigned i = 0; i < PER_BLOCK; i++)
        if (bytes[block * PER_BLOCK + i])
            return false;
    return true;
}

/* page_begin(): bytes are the page's, as they will be written. */
static void page_begin(struct state *s, uint8_t blocks_inside, const uint8_t *bytes)
{
    uint8_t zero = 0, convert;

    undirty(s, (uint8_t)(s->dirty & ~blocks_inside));
    for (unsigned b = 0; b < BLOCKS; b++)
        if ((s->dirty & s->reserved & (1u << b)) && block_is_zero(bytes, b))
            zero |= (uint8_t)(1u << b);
    s->reserved &= (uint8_t)~zero;
    s->free = (uint8_t)(s->free + count(zero));
    undirty(s, zero);
    convert = s->dirty & s->reserved;
    s->reserved &= (uint8_t)~convert;
    s->allocated |= convert;
    holds((s->dirty & ~s->allocated) == 0, "HOLD-2: writeback of a block that has no space");
    s->writeback = s->dirty;
    s->dirty = 0;
    if (s->writeback)
        page_move(s, HF_PAGE_WRITEBACK);
}

static void write_blocks(struct state *s, const uint8_t *bytes)
{
    for (unsigned i = 0; i < BYTES; i++)
        if (s->writeback & (1u << (i / PER_BLOCK)))
            s->disk[i] = bytes[i];
}

static void end_writeback(struct state *s)
{
    s->writeback = 0;
    page_move(s, s->page_state == HF_PAGE_WRITEBACK  ? HF_PAGE_CLEAN
                 : s->page_state == HF_PAGE_WB_DIRTY ? HF_PAGE_DIRTY
                                                     : HF_PAGE_WRITABLE);
}

static bool is_dirty(const struct state *s)
{
    return s->page_state == HF_PAGE_DIRTY || s->page_state == HF_PAGE_WRITABLE ||
           s->page_state > HF_PAGE_WRITEBACK;
}

/* ---------------------------------------------------------------- the threads. false: it must wait */

static void next_store(struct state *s, int t)
{
    s->at[t]++;
    s->f_size[t] = 0;
    s->pc[t] = s->at[t] < NR_STORES ? STORE : DONE;
}

static void do_store(const struct variant *v, struct state *s, int t)
{
    uint8_t at = store_at[t][s->at[t]];

    if (!s->writable) {
        s->pc[t] = v->early_size ? S_EARLY : S_LOCK;
        return;
    }
    s->memfd[at] = (uint8_t)(1 + t * NR_STORES + s->at[t]);
    if (at < s->size)
        s->want[at] = s->memfd[at]; /* accepted: it must last. Beyond EOF it must never show */
    next_store(s, t);
}

static bool step_store(const struct variant *v, struct state *s, int t)
{
    switch ((enum step)s->pc[t]) {
    case STORE:
        do_store(v, s, t);
        return true;
    case S_EARLY:
        s->f_size[t] = s->size;
        s->pc[t] = S_LOCK;
        return true;
    case S_LOCK:
        s->pc[t] = S_MAY;
        return lock(&s->page_lock, t);
    case S_MAY:
        s->pc[t] = v->early_size ? S_MKWRITE : S_SIZE;
        if (v->hole_lock && !v->no_wait && s->hole_index) {
            s->page_lock = 0;
            s->pc[t] = S_WAIT;
        }
        return true;
    case S_WAIT: /* hole_lock is taken and given back */
        s->pc[t] = S_LOCK;
        return !s->hole_lock;
    case S_SIZE:
        s->f_size[t] = s->size;
        s->pc[t] = S_MKWRITE;
        return true;
    case S_MKWRITE:
        s->pc[t] = S_INSTALL;
        if (reserve(s, inside(s->f_size[t]))) {
            mkwrite(s, s->f_size[t]);
            s->f_size[t] = 0;
            return true;
        }
        s->page_lock = 0; /* refused: the program is told */
        next_store(s, t);
        return true;
    case S_INSTALL:
        s->writable = 1;
        s->pc[t] = S_UNLOCK;
        return true;
    default: /* S_UNLOCK: and the store is repeated */
        s->page_lock = 0;
        s->pc[t] = STORE;
        return true;
    }
}

static void next_grow(struct state *s)
{
    s->at[GROWER]++;
    s->old_size = 0;
    s->pc[GROWER] = s->at[GROWER] < NR_GROWS ? G_BEGIN : DONE;
}

/* grow_begin(); then what the growth is for. */
static bool step_grow_begin(const struct variant *v, struct state *s)
{
    enum step act = grows[s->at[GROWER]].write ? G_W_LOCK : G_SET;

    switch ((enum step)s->pc[GROWER]) {
    case G_BEGIN:
        s->old_size = s->size;
        s->pc[GROWER] = (uint8_t)(v->hole_lock ? G_HOLE : v->page_lock ? G_PAGE : act);
        return true;
    case G_HOLE:
        s->pc[GROWER] = G_INDEX;
        return lock(&s->hole_lock, GROWER);
    case G_INDEX:
        s->hole_index = 1;
        s->pc[GROWER] = G_PAGE;
        return true;
    case G_PAGE:
        s->pc[GROWER] = v->no_mkclean ? G_ZERO : G_MKCLEAN;
        return lock(&s->page_lock, GROWER);
    case G_MKCLEAN:
        mkclean(s);
        s->pc[GROWER] = G_ZERO;
        return true;
    case G_ZERO:
        if (s->tail && !v->no_zero)
            memset(s->memfd + s->old_size, 0, (size_t)(BYTES - s->old_size));
        s->tail = 0;
        s->pc[GROWER] = (uint8_t)(v->hole_lock ? G_RELEASE : act);
        return true;
    default: /* G_RELEASE */
        s->page_lock = 0;
        s->pc[GROWER] = (uint8_t)act;
        return true;
    }
}

static bool step_grow(const struct variant *v, struct state *s)
{
    uint8_t size = grows[s->at[GROWER]].size, last = (uint8_t)(size - 1);
    uint8_t block = (uint8_t)(1u << (last / PER_BLOCK));

    switch ((enum step)s->pc[GROWER]) {
    case G_SET:
        s->size = size;
        s->pc[GROWER] = G_END;
        return true;
    case G_W_LOCK: /* with page-lock chunk_lock() finds the page locked by its own growth */
        s->pc[GROWER] = G_W_COPY;
        return v->page_lock || lock(&s->page_lock, GROWER);
    case G_W_COPY:
        s->pc[GROWER] = G_W_UNLOCK;
        if (!reserve(s, block))
            return true; /* -ENOSPC */
        s->memfd[last] = WRITTEN_VALUE;
        s->pc[GROWER] = G_W_COMMIT;
        return true;
    case G_W_COMMIT:
        page_dirty(s, block);
        s->size = size;
        s->want[last] = WRITTEN_VALUE;
        s->pc[GROWER] = G_W_UNLOCK;
        return true;
    case G_W_UNLOCK:
        if (!v->page_lock)
            s->page_lock = 0;
        s->pc[GROWER] = G_END;
        return true;
    case G_END:
        if (v->page_lock)
            s->page_lock = 0;
        s->hole_index = 0;
        if (v->hole_lock)
            s->pc[GROWER] = G_HOLE_END;
        else
            next_grow(s);
        return true;
    case G_HOLE_END:
        s->hole_lock = 0;
        next_grow(s);
        return true;
    default:
        return step_grow_begin(v, s);
    }
}

static void next_round(struct state *s)
{
    s->at[WRITEBACK]++;
    s->wb_inside = 0;
    memset(s->wb_bytes, 0, BYTES);
    s->pc[WRITEBACK] = s->at[WRITEBACK] < ROUNDS ? W_SCAN : DONE;
}

static void cut_bytes(uint8_t size, uint8_t *bytes)
{
    memset(bytes + size, 0, (size_t)(BYTES - size)); /* HOLD-9 */
}

static bool step_writeback(struct state *s)
{
    uint8_t *pc = &s->pc[WRITEBACK];

    switch ((enum step) * pc) {
    case W_SCAN:
        *pc = W_LOCK;
        if (s->page_state == HF_PAGE_CLEAN)
            next_round(s);
        return true;
    case W_LOCK:
        if (!lock(&s->page_lock, WRITEBACK))
            return false;
        *pc = W_MKCLEAN;
        if (is_dirty(s))
            return true;
        s->page_lock = 0;
        next_round(s);
        return true;
    case W_MKCLEAN:
        mkclean(s);
        *pc = W_READ;
        return true;
    case W_READ:
        memcpy(s->wb_bytes, s->memfd, BYTES);
        *pc = W_BEYOND;
        return true;
    case W_BEYOND:
        s->wb_inside = inside(s->size);
        *pc = W_SIZE;
        return true;
    case W_SIZE:
        cut_bytes(s->size, s->wb_bytes);
        *pc = W_BEGIN;
        return true;
    case W_BEGIN:
        page_begin(s, s->wb_inside, s->wb_bytes);
        *pc = W_UNLOCK;
        return true;
    case W_UNLOCK:
        s->page_lock = 0;
        *pc = W_WRITE;
        if (!s->writeback)
            next_round(s);
        return true;
    case W_WRITE:
        write_blocks(s, s->wb_bytes);
        *pc = W_END_LOCK;
        return true;
    case W_END_LOCK:
        *pc = W_END;
        return lock(&s->page_lock, WRITEBACK);
    default: /* W_END */
        end_writeback(s);
        s->page_lock = 0;
        next_round(s);
        return true;
    }
}

/* One step of thread t from *s. False: it has ended, or must wait. */
static bool step(const struct variant *v, struct state *s, int t)
{
    if (s->pc[t] == DONE)
        return false;
    if (t == GROWER)
        return step_grow(v, s);
    return t == WRITEBACK ? step_writeback(s) : step_store(v, s, t);
}

/* ---------------------------------------------------------------- what must hold */

static void check_state(const struct state *s)
{
    uint8_t in = inside(s->size), promised = s->reserved | s->allocated;

    holds(!s->writable || (in & ~promised) == 0,
          "HOLD-1: a block inside i_size can be stored to without a fault, and is not promised");
    holds((s->dirty & in & ~promised) == 0, "HOLD-1: a dirty block is not promised");
    holds((s->reserved & s->allocated) == 0, "a block is reserved and allocated");
    holds((promised & ~in) == 0 || s->pc[GROWER] == G_W_COMMIT || s->pc[GROWER] == G_W_UNLOCK,
          "HOLD-3: a block beyond i_size is promised");
    for (unsigned i = 0; i < BYTES; i++) {
        if (i < s->size)
            holds(s->memfd[i] == s->want[i],
                  "HOLD-9: a byte inside i_size is not what was stored or written");
        else
            holds(s->disk[i] == 0, "HOLD-9: a byte beyond i_size reached the device");
    }
}

/* All threads have ended: the last fsync, and what is on the device after it. */
static void check_end(struct state s, bool only_loss)
{
    uint8_t bytes[BYTES];

    if (is_dirty(&s)) {
        mkclean(&s);
        memcpy(bytes, s.memfd, BYTES);
        cut_bytes(s.size, bytes);
        page_begin(&s, inside(s.size), bytes);
        write_blocks(&s, bytes);
        if (s.writeback)
            end_writeback(&s);
    }
    if (only_loss)
        broken = NULL;
    for (unsigned i = 0; i < s.size; i++)
        holds(s.disk[i] == s.want[i], "LOST: fsync returned 0, and an accepted byte is not on the device");
    holds(only_loss || s.reserved == 0, "HOLD-8: a promise leaked");
}

/* ---------------------------------------------------------------- the search */

struct node {
    struct state state;
    uint32_t parent;
    uint8_t thread;
};

struct search {
    struct node *nodes;
    uint32_t nr, room;
    uint32_t *table; /* 1 + index of a node */
    uint32_t mask;
    uint32_t ends; /* states in which all threads have ended */
    const char *broken;
    uint32_t broken_at; /* the node in which it was found */
};

static uint32_t hash_of(const struct state *s)
{
    const uint8_t *p = (const uint8_t *)s;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < sizeof(*s); i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ (h >> 32));
}

static void *checked(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static void table_insert(struct search *x, uint32_t index)
{
    uint32_t at = hash_of(&x->nodes[index].state) & x->mask;

    while (x->table[at])
        at = (at + 1) & x->mask;
    x->table[at] = index + 1;
}

static void grow_room(struct search *x)
{
    x->room = x->room ? x->room * 2 : 1u << 14;
    x->mask = x->room * 2 - 1;
    x->nodes = checked(realloc(x->nodes, x->room * sizeof(*x->nodes)));
    free(x->table);
    x->table = checked(calloc(x->mask + 1u, sizeof(*x->table)));
    for (uint32_t i = 0; i < x->nr; i++)
        table_insert(x, i);
}

/* Takes the state in unless it is known. */
static void visit(struct search *x, const struct state *s, uint32_t parent, int thread)
{
    uint32_t at;

    if (x->nr == x->room)
        grow_room(x);
    for (at = hash_of(s) & x->mask; x->table[at]; at = (at + 1) & x->mask)
        if (memcmp(&x->nodes[x->table[at] - 1].state, s, sizeof(*s)) == 0)
            return;
    x->nodes[x->nr] = (struct node){.state = *s, .parent = parent, .thread = (uint8_t)thread};
    x->table[at] = ++x->nr;
}

static struct state first_state(const struct variant *v)
{
    struct state s = {.size = 1, .page_state = HF_PAGE_CLEAN, .allocated = 1, .free = v->free};

    s.memfd[0] = s.disk[0] = s.want[0] = FIRST_VALUE;
    s.pc[STORE_A] = s.pc[STORE_B] = STORE;
    s.pc[GROWER] = G_BEGIN;
    s.pc[WRITEBACK] = W_SCAN;
    return s;
}

/* Every step that can be taken from node i; what breaks is left in `broken`. */
static void expand(const struct variant *v, struct search *x, uint32_t i)
{
    bool moved = false, ended = true;

    for (int t = 0; t < THREADS && !broken; t++) {
        struct state s = x->nodes[i].state;

        ended = ended && s.pc[t] == DONE;
        if (!step(v, &s, t))
            continue;
        moved = true;
        if (v->only_loss)
            broken = NULL;
        visit(x, &s, i, t);
    }
    if (broken)
        return;
    if (!v->only_loss)
        check_state(&x->nodes[i].state);
    holds(moved || ended, "all threads wait for each other");
    if (ended) {
        x->ends++;
        check_end(x->nodes[i].state, v->only_loss);
    }
}

/* Visits all that can be reached, until a promise is broken. */
static struct search explore(const struct variant *v)
{
    struct search x = {.nodes = NULL};
    struct state first = first_state(v);

    broken = NULL;
    visit(&x, &first, 0, 0);
    for (uint32_t i = 0; i < x.nr && !broken; i++) {
        expand(v, &x, i);
        x.broken_at = i;
    }
    x.broken = broken;
    return x;
}

static void search_done(struct search *x)
{
    free(x->nodes);
    free(x->table);
}

/* ---------------------------------------------------------------- the variants */

static const struct variant variants[] = {
    {.name = "page-lock", .page_lock = true, .free = 3},
    {.name = "hole-lock", .hole_lock = true, .free = 3},
    {.name = "page-lock-full", .page_lock = true, .free = 1},
    {.name = "hole-lock-full", .hole_lock = true, .free = 1},
    {.name = "none", .free = 3},
    {.name = "none-loses", .free = 3, .only_loss = true},
    {.name = "page-lock-no-mkclean", .page_lock = true, .no_mkclean = true, .free = 3},
    {.name = "page-lock-no-zero", .page_lock = true, .no_zero = true, .free = 3},
    {.name = "page-lock-early-size", .page_lock = true, .early_size = true, .free = 3},
    {.name = "hole-lock-no-wait", .hole_lock = true, .no_wait = true, .free = 3},
    {.name = "hole-lock-no-mkclean", .hole_lock = true, .no_mkclean = true, .free = 3},
};
#define NR_VARIANTS (sizeof(variants) / sizeof(variants[0]))
#define NR_SOUND 4 /* of them, the first */

static void print_trace(const struct search *x, uint32_t node)
{
    const struct state *s = &x->nodes[node].state;

    if (node) {
        print_trace(x, x->nodes[node].parent);
        printf("%-10s %-84s", thread_names[x->nodes[node].thread],
               step_texts[x->nodes[x->nodes[node].parent].state.pc[x->nodes[node].thread]]);
    } else {
        printf("%-95s", "in the beginning");
    }
    printf(" | size %u %s %s promised %x dirty %x, memfd", s->size, s->writable ? "rw" : "r-",
           hf_page_state_name((enum hf_page_state)s->page_state), s->reserved | s->allocated, s->dirty);
    for (unsigned i = 0; i < BYTES; i++)
        printf(" %u", s->memfd[i]);
    printf("\n");
}

static int show(const char *name)
{
    for (size_t i = 0; i < NR_VARIANTS; i++) {
        struct search x;

        if (strcmp(variants[i].name, name) != 0)
            continue;
        x = explore(&variants[i]);
        if (x.broken)
            print_trace(&x, x.broken_at);
        printf("%s: %u states, %u of them ends: %s\n", name, x.nr, x.ends,
               x.broken ? x.broken : "every promise holds");
        search_done(&x);
        return 0;
    }
    for (size_t i = 0; i < NR_VARIANTS; i++)
        printf("%s\n", variants[i].name);
    return 2;
}

static void promises_hold(void **state)
{
    const struct variant *v = *state;
    struct search x = explore(v);

    if (x.broken)
        print_trace(&x, x.broken_at);
    assert_that(!x.broken, "%s: %s", v->name, x.broken);
    assert_that(x.ends > 0 && x.nr > 1000, "%s: %u states, %u ends", v->name, x.nr, x.ends);
    search_done(&x);
}

/* A model that cannot fail shows nothing. */
static void broken_is_found(void **state)
{
    const struct variant *v = *state;
    struct search x = explore(v);

    assert_that(x.broken, "%s: nothing was found in %u states", v->name, x.nr);
    search_done(&x);
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[NR_VARIANTS];

    if (argc == 3 && strcmp(argv[1], "--show") == 0)
        return show(argv[2]);
    for (size_t i = 0; i < NR_VARIANTS; i++)
        tests[i] = (struct CMUnitTest){
            .name = variants[i].name,
            .test_func = i < NR_SOUND ? promises_hold : broken_is_found,
            .initial_state = (void *)(uintptr_t)&variants[i],
        };
    return cmocka_run_group_tests_name("isize_model", tests, NULL, NULL);
}
