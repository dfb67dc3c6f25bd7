/* SPDX-License-Identifier: MIT */
/*
 * check.h - assertions that say what went wrong in words.
 *
 * Everything in the tests returns 0 or a count on success and a negative errno on failure, as the
 * library does. Only for the process that runs cmocka: a forked child uses CHILD_CHECK(), because a
 * failed cmocka assertion jumps, and would jump into the parent's copy of the test.
 */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The expression did not fail (0 or a count). */
#define assert_ok(expr) check_ok((int64_t)(expr), #expr, __FILE__, __LINE__)
/* The expression failed with exactly this errno (given positive). */
#define assert_err(expr, err) check_err((int64_t)(expr), (err), #expr, __FILE__, __LINE__)
/* The expression gave exactly this number. */
#define assert_count(expr, want) check_count((int64_t)(expr), (int64_t)(want), #expr, __FILE__, __LINE__)
/* A condition, with printf-like words about the values in it. */
#define assert_that(cond, ...) ((cond) ? (void)0 : check_fail(__FILE__, __LINE__, #cond, __VA_ARGS__))
/* All bytes of a buffer have one value; says which is the first that has not. */
#define assert_bytes(buf, value, len) check_bytes((buf), (value), (len), #buf, __FILE__, __LINE__)

int64_t check_ok(int64_t result, const char *expr, const char *file, int line);
void check_err(int64_t result, int err, const char *expr, const char *file, int line);
void check_count(int64_t result, int64_t want, const char *expr, const char *file, int line);
void check_bytes(const void *buf, int value, size_t len, const char *expr, const char *file, int line);
void check_fail(const char *file, int line, const char *cond, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* In a forked or exec'ed child: prints and leaves with status 1. */
#define CHILD_CHECK(cond)                                                                          \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: in the child: %s does not hold\n", __FILE__, __LINE__, #cond); \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#endif
