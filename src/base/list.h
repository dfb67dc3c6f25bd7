/* SPDX-License-Identifier: MIT */
/*
 * list.h - the doubly linked intrusive list; an empty head points to itself. The caller locks.
 */
#ifndef HF_BASE_LIST_H
#define HF_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct hf_list {
    struct hf_list *next, *prev;
};

#define hf_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define hf_list_entry(ptr, type, member) hf_container_of(ptr, type, member)
#define hf_list_for_each(pos, head) for (pos = (head)->next; pos != (head); pos = pos->next)
#define hf_list_for_each_safe(pos, tmp, head) \
    for (pos = (head)->next, tmp = pos->next; pos != (head); pos = tmp, tmp = pos->next)

static inline void hf_list_init(struct hf_list *l)
{
    l->next = l->prev = l;
}
static inline bool hf_list_empty(const struct hf_list *l)
{
    return l->next == l;
}
static inline void hf_list_add_tail(struct hf_list *head, struct hf_list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}
/* Also makes the entry an empty list, so that deleting twice is harmless. */
static inline void hf_list_del(struct hf_list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    hf_list_init(n);
}

#endif
