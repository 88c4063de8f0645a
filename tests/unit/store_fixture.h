/**
 * What the tests of the node store share: a store in a root of its own, and hostile things in the place of its files.
 */
#ifndef DCACHE_TESTS_UNIT_STORE_FIXTURE_H
#define DCACHE_TESTS_UNIT_STORE_FIXTURE_H

#include "io/node_store.h"

/** Where the calls under test report to; cleared by fixture_root(). */
struct diag *fixture_diag(void);

/** A path below the scratch directory; the result lasts for four more calls. */
const char *fixture_path(const char *name);

/** A root for node stores that no one used before; lasts until the next call. */
const char *fixture_root(void);

/** Open the store of node 0 of job "sample" in a new root. */
void fixture_open(struct node_store *store);

/** Fail the test unless the status is the expected one and the text has `word` (NULL: any text). */
void fixture_expect(dcache_status_t found, dcache_status_t expected, const char *word);

/** Write a file of the store, past the library. */
void fixture_write(const struct node_store *store, const char *name, const void *data, size_t bytes);

/** Put one thing after the other in the place of file `name` (links, a FIFO, a directory, a foreign file ...) of a new
 * store, and check that `use` refuses each of them, and that the target of a link is as it was. */
void fixture_try_hostile(const char *name, dcache_status_t (*use)(struct node_store *store));

/** Run `work` in a process of its own, which ends by exit(). Its exit status, or 1000 + the signal that ended it. */
int fixture_in_child(int (*work)(const char *), const char *argument);

#endif
