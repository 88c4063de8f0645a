/**
 * Every failpoint there is: its name, and what a test can make happen there. One that the code names and this list does
 * not, or the other way round, is found by tests/tools/gate_failpoints.py; what a test asks for that is not in it, when
 * it is asked for. tests/fault/failpoints.py walks all of them.
 */
#ifndef DCACHE_IO_FAILPOINTS_H
#define DCACHE_IO_FAILPOINTS_H

enum failpoint_action {
    FAILPOINT_ERROR = 1,    /**< DCACHE_ERR_IO and a text that names the failpoint */
    FAILPOINT_ENOSPC = 2,   /**< DCACHE_ERR_NO_SPACE: a full device, or a quota that is used up */
    FAILPOINT_KILL = 4,     /**< SIGKILL to this process */
    FAILPOINT_DELAY = 8,    /**< nothing, for a while */
    FAILPOINT_CORRUPT = 16, /**< a bit of the bytes that go by here is flipped, and nobody is told */
    FAILPOINT_SHORT = 32    /**< only the first half of the bytes goes by here, and nobody is told */
};

#define FAILPOINT_MOMENT (FAILPOINT_KILL | FAILPOINT_DELAY)
#define FAILPOINT_STEP   (FAILPOINT_MOMENT | FAILPOINT_ERROR)
#define FAILPOINT_WRITE  (FAILPOINT_STEP | FAILPOINT_ENOSPC)
#define FAILPOINT_BYTES  (FAILPOINT_STEP | FAILPOINT_CORRUPT)
#define FAILPOINT_DATA   (FAILPOINT_BYTES | FAILPOINT_SHORT)

/* clang-format off */
#define FAILPOINT_MAP(X)                                                                                               \
    X("store.open", FAILPOINT_WRITE)           /* a node store's directory is opened or made */                        \
    X("store.lock", FAILPOINT_STEP)            /* ... and locked */                                                    \
    X("store.sync", FAILPOINT_WRITE)           /* names in it get to the device */                                     \
    X("store.read", FAILPOINT_DATA)            /* bytes of a file in it have been read */                              \
    X("store.write", FAILPOINT_WRITE | FAILPOINT_SHORT) /* a text in it (run.json, plan.json) is about to be written */ \
    X("store.replace", FAILPOINT_WRITE)        /* ... is written, and about to get its name */                         \
    X("slot.open", FAILPOINT_WRITE)            /* a slot is opened or made */                                          \
    X("slot.create", FAILPOINT_WRITE)          /* HDF5 makes an image in a slot */                                     \
    X("slot.allocate", FAILPOINT_WRITE)        /* a slot gets its room */                                              \
    X("slot.sync", FAILPOINT_WRITE)            /* a slot's bytes get to the device */                                  \
    X("slot.rename", FAILPOINT_WRITE)          /* an image made beside a slot takes its place */                       \
    X("slot.remove", FAILPOINT_STEP)           /* a slot of a former placement is removed */                           \
    X("ssd.copy", FAILPOINT_WRITE)             /* a chunk is about to be copied to the SSD */                          \
    X("ssd.write", FAILPOINT_WRITE | FAILPOINT_DATA) /* ... is verified and about to be written */                     \
    X("ssd.header", FAILPOINT_WRITE)           /* all chunks are there, the header is not */                           \
    X("checkpoint.begin", FAILPOINT_STEP)      /* the first agreement is about to be made */                           \
    X("checkpoint.stage", FAILPOINT_STEP)      /* a slot is chosen and fits; nothing in it has been touched */         \
    X("checkpoint.copy", FAILPOINT_MOMENT)     /* both copies say WRITING; the first byte is about to be copied */      \
    X("checkpoint.data", FAILPOINT_MOMENT | FAILPOINT_CORRUPT) /* a chunk is in the own copy, and its digest taken */  \
    X("checkpoint.header", FAILPOINT_STEP)     /* all data is in the own copy, which still says WRITING */             \
    X("checkpoint.agreed", FAILPOINT_MOMENT)   /* all ranks have agreed that the step is there; nobody was told */     \
    X("replicate.put", FAILPOINT_STEP)         /* mark, chunk or header goes to the host */                            \
    X("replicate.flush", FAILPOINT_STEP)       /* ... and must have arrived */                                         \
    X("transport.attach", FAILPOINT_STEP)      /* two-sided: memory for replicas is exposed */                         \
    X("transport.receive", FAILPOINT_ERROR)    /* two-sided: what guests send is about to be received: it is not yet */ \
    X("restart.survey", FAILPOINT_STEP)        /* a node's stores are listed */                                        \
    X("restart.assemble", FAILPOINT_STEP)      /* a rank is about to put its shard together */                         \
    X("restart.header", FAILPOINT_STEP)        /* all of it is there, its header is not */                             \
    X("restart.adopt", FAILPOINT_STEP)         /* all ranks have theirs; about to become the own copy */               \
    X("reshape.look", FAILPOINT_STEP)          /* other ranks' shards: headers are about to be read */                 \
    X("reshape.plan", FAILPOINT_STEP)          /* all regions are known; which parts are wanted is worked out */       \
    X("reshape.fetch", FAILPOINT_STEP)         /* the parts are about to be read */                                    \
    X("resync.start", FAILPOINT_STEP)          /* it is the own copy; the second copies are about to be looked at */   \
    X("fanin.read", FAILPOINT_BYTES)           /* a piece of a shard has come from another node */                     \
    X("drain.begin", FAILPOINT_STEP)           /* a drainer turns to a step */                                         \
    X("drain.read", FAILPOINT_BYTES)           /* it has read and verified a piece of a shard */                       \
    X("drain.shard", FAILPOINT_STEP)           /* it is about to put a shard */                                        \
    X("drain.pack", FAILPOINT_STEP)            /* it is about to put several small ones in one object */               \
    X("drain.part", FAILPOINT_STEP)            /* all its shards are stored, its part is not */                        \
    X("drain.manifest", FAILPOINT_STEP)        /* all parts are stored, the manifest is not */                         \
    X("object_file_write", FAILPOINT_WRITE | FAILPOINT_DATA) /* file://: a block is about to be written */             \
    X("object_file_commit", FAILPOINT_WRITE)   /* file://: all is written, the file has no name yet */                 \
    X("object_file_read", FAILPOINT_BYTES)     /* file://: a range has been read */                                    \
    X("object_azure_whole", FAILPOINT_BYTES)   /* a small object is about to be sent */                                \
    X("object_azure_block", FAILPOINT_BYTES)   /* a block is about to be sent */                                       \
    X("object_azure_commit", FAILPOINT_STEP)   /* all blocks are sent, the list is not */                              \
    X("http.request", FAILPOINT_STEP)          /* a request is about to be made: error is one of the network */        \
    X("http.body", FAILPOINT_DATA)             /* an answer's body has come: error is one of the network */            \
    X("codec.compress", FAILPOINT_BYTES)       /* a frame has been compressed */                                       \
    X("codec.encrypt", FAILPOINT_BYTES)        /* ... and encrypted */                                                 \
    X("codec.decrypt", FAILPOINT_BYTES)        /* a frame has been decrypted, and its tag fits */                      \
    X("codec.decompress", FAILPOINT_BYTES)     /* ... and decompressed */                                              \
    X("claim.take", FAILPOINT_STEP)            /* the job's claim is about to be taken */                             \
    X("claim.renew", FAILPOINT_STEP)           /* ... renewed */                                                       \
    X("claim.release", FAILPOINT_STEP)         /* ... given back */                                                    \
    X("retention.object", FAILPOINT_STEP)      /* an object of a step that is not kept is about to be removed */       \
    X("tool.drain", FAILPOINT_STEP)            /* `dcache drain` has the lock and knows what is there */               \
    X("tool.verify", FAILPOINT_STEP)           /* `dcache verify` is about to read a copy */                           \
    X("MPI_Allgather", FAILPOINT_STEP)         /* what an MPI call came to: error is DCACHE_ERR_MPI */                 \
    X("MPI_Allgatherv", FAILPOINT_STEP)                                                                                \
    X("MPI_Allreduce", FAILPOINT_STEP)                                                                                 \
    X("MPI_Bcast", FAILPOINT_STEP)                                                                                     \
    X("MPI_Scatter", FAILPOINT_STEP)                                                                                   \
    X("MPI_Waitall", FAILPOINT_STEP)                                                                                   \
    X("MPI_Win_create", FAILPOINT_STEP)                                                                                \
    X("MPI_Win_lock_all", FAILPOINT_STEP)                                                                              \
    X("MPI_Put", FAILPOINT_STEP)                                                                                       \
    X("MPI_Win_flush", FAILPOINT_STEP)                                                                                 \
    X("MPI_Isend", FAILPOINT_STEP)                                                                                     \
    X("MPI_Irecv", FAILPOINT_STEP)
/* clang-format on */

#endif
