/**
 * What a host tells a guest of the replica that it keeps of it: whether it is of the same set, and the digest of each
 * chunk that is there now. Plain files and digests; no MPI.
 */
#ifndef DCACHE_RUNTIME_REPLICA_REPORT_H
#define DCACHE_RUNTIME_REPLICA_REPORT_H

#include "io/node_store.h"
#include "mpi/replicate.h"

#include <stdatomic.h>

/** The first word; behind it the digest of each chunk. */
#define REPLICA_REPORT_SAME_SET (1ull << 0) /**< the header is that of the set: it need not be marked WRITING */
#define REPLICA_REPORT_DIGESTS  (1ull << 1) /**< digests follow */

/** What to expect of a replica. */
struct replica_wanted {
    struct shard_set set;
    uint32_t rank; /**< whose it is */
    uint64_t header_bytes;
};

/** Digest what is in an open slot, whose size is that of the image. A file that cannot be read, or no memory, gives a
 * report of nothing (count 0): then all chunks travel.
 * @param stop  looked at between two chunks, by any thread: true gives it up; may be NULL
 * @param report  `words` is malloc'ed, the caller's */
void replica_report_make(const struct diag *dg, const struct slot *slot, const struct replica_wanted *wanted,
                         const atomic_bool *stop, struct replica_report *report);

#endif
