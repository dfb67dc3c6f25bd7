/* SPDX-License-Identifier: MIT */
/*
 * lmdb_client.c - a small client of LMDB with MDB_WRITEMAP: stores go straight into the file's mapping. Knows
 * nothing of Holdfast.
 *
 *   lmdb_client put DIR FROM TO    one transaction a key; prints each number when its commit has returned
 *   lmdb_client check DIR TO       0: the keys 1 ... TO have the values that put gave them
 */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAP_BYTES (16u << 20)
#define VALUE_BYTES 3000u

static void must(int err, const char *what)
{
    if (err == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, mdb_strerror(err));
    exit(3);
}

static void value_of(unsigned key, unsigned char ret_value[VALUE_BYTES])
{
    for (unsigned i = 0; i < VALUE_BYTES; i++)
        ret_value[i] = (unsigned char)(key * 31 + i * 7 + (i >> 8));
}

static MDB_env *env_open(const char *dir)
{
    MDB_env *env;

    must(mdb_env_create(&env), "create");
    must(mdb_env_set_mapsize(env, MAP_BYTES), "mapsize");
    must(mdb_env_open(env, dir, MDB_WRITEMAP, 0600), "open");
    return env;
}

static void put(MDB_env *env, unsigned key)
{
    unsigned char bytes[VALUE_BYTES];
    MDB_val k = {sizeof(key), &key}, v = {sizeof(bytes), bytes};
    MDB_txn *txn;
    MDB_dbi dbi;

    value_of(key, bytes);
    must(mdb_txn_begin(env, NULL, 0, &txn), "begin");
    must(mdb_dbi_open(txn, NULL, 0, &dbi), "dbi");
    must(mdb_put(txn, dbi, &k, &v, 0), "put");
    must(mdb_txn_commit(txn), "commit");
    printf("%u\n", key);
    fflush(stdout);
}

static void check(MDB_env *env, unsigned key)
{
    unsigned char bytes[VALUE_BYTES];
    MDB_val k = {sizeof(key), &key}, v;
    MDB_txn *txn;
    MDB_dbi dbi;

    value_of(key, bytes);
    must(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), "begin");
    must(mdb_dbi_open(txn, NULL, 0, &dbi), "dbi");
    must(mdb_get(txn, dbi, &k, &v), "get");
    if (v.mv_size != sizeof(bytes) || memcmp(v.mv_data, bytes, sizeof(bytes)) != 0) {
        fprintf(stderr, "key %u has another value\n", key);
        exit(4);
    }
    mdb_txn_abort(txn);
}

int main(int argc, char **argv)
{
    unsigned from = 1, to;
    MDB_env *env;

    if (argc < 4)
        return 2;
    to = (unsigned)strtoul(argv[argc - 1], NULL, 10);
    if (argc > 4)
        from = (unsigned)strtoul(argv[3], NULL, 10);
    env = env_open(argv[2]);
    for (unsigned key = from; key <= to; key++)
        if (strcmp(argv[1], "put") == 0)
            put(env, key);
        else
            check(env, key);
    mdb_env_close(env);
    return 0;
}
