/**
 * One node's directory of shards on a tier: <root>/<job>/node-<index>/, index being 0, or the virtual node's number on
 * its host. In it: `lock` (held by the process that uses the store), `plan.json` (what is left to drain), and the slots
 * `own-<rank>-<slot>.h5` and `replica-<rank>-<slot>.h5`. Directories are 0700, files 0600; both must be owned by the
 * caller, and no symbolic link is ever followed below the root's parent. Knows no MPI.
 */
#ifndef DCACHE_IO_NODE_STORE_H
#define DCACHE_IO_NODE_STORE_H

#include "io/shard.h"

enum slot_kind { SLOT_OWN = 0, SLOT_REPLICA = 1 };

/** An open store: directory descriptor and path. Owned by the opener. */
struct node_store {
    int dir_fd;
    int lock_fd; /**< -1 when this process does not hold the lock */
    char path[512];
};

/** One slot, as a file descriptor and a shared read-write mapping of all of it. */
struct slot {
    int fd;
    void *base; /**< NULL when not mapped */
    uint64_t bytes;
    bool warm; /**< slot_warm() has been called for this mapping */
};

/** What a store holds in one slot, as far as its header can be believed. */
struct catalog_entry {
    enum slot_kind kind;
    uint32_t rank; /**< from the header; the file's name must agree */
    uint32_t slot;
    enum shard_state state;
    struct shard_set set;
    uint64_t header_bytes;
    uint64_t file_bytes;
    uint32_t store; /**< not set here: the caller's number of the store it listed */
};

/**
 * Make (if missing) and open the store of virtual node `index`, without locking it.
 * @return DCACHE_OK; DCACHE_ERR_PERMISSION (a part is a symbolic link, not a directory, not ours, or open to others:
 * the text names it, its owner or mode, and the remedy); DCACHE_NOT_FOUND (missing and not to be made; no text);
 * DCACHE_ERR_NO_SPACE, DCACHE_ERR_IO, DCACHE_ERR_INVALID
 */
dcache_status_t node_store_open(struct diag *dg, const char *root, const char *job, unsigned index, bool create,
                                struct node_store *store) DCACHE_MUST_CHECK;

/**
 * Take the store's lock for this process, without waiting. The lock dies with the process.
 * @param who  what holds it, for the message others get: "heat2d" or "dcache drain"
 * @return DCACHE_OK; DCACHE_ERR_BUSY (the text names job, directory, pid and who, and the remedy); DCACHE_ERR_IO
 */
dcache_status_t node_store_lock(struct diag *dg, struct node_store *store, const char *who) DCACHE_MUST_CHECK;

/** Get the names in the store to the device, and with `above` those of the directories it is in. Slots that were made
 * or renamed are there after a reboot only then. */
dcache_status_t node_store_sync(struct diag *dg, const struct node_store *store, bool above) DCACHE_MUST_CHECK;

/** Unlock (if locked) and close. The files stay. Safe on a zeroed struct whose dir_fd was never set: dir_fd <= 0. */
void node_store_close(struct node_store *store);

/** The virtual node indexes that exist below <root>/<job>, ascending; `indexes` is malloc'ed, the caller's. */
dcache_status_t node_store_list(struct diag *dg, const char *root, const char *job, unsigned **indexes,
                                size_t *count) DCACHE_MUST_CHECK;

/** The jobs below root, sorted; names and array malloc'ed, the caller's. A missing root has none. */
dcache_status_t node_store_jobs(struct diag *dg, const char *root, char ***jobs, size_t *count) DCACHE_MUST_CHECK;

/** The file name of a slot, "own-3-0.h5", into `name` (at least 48 bytes). */
void slot_name(enum slot_kind kind, uint32_t rank, uint32_t slot, char name[48]);

/**
 * Open or create a slot's file, make it `bytes` long with every block allocated (fallocate: a full tier is an error now
 * and never a SIGBUS later), and map it. What it held stays where sizes allow.
 * @return DCACHE_OK; DCACHE_ERR_NO_SPACE (the text says what was asked and what is free, and the remedy);
 *         DCACHE_ERR_PERMISSION (symlink, foreign, hard-linked, not regular); DCACHE_ERR_IO; DCACHE_ERR_NO_MEMORY
 */
dcache_status_t slot_open(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                          uint32_t index, uint64_t bytes, struct slot *slot) DCACHE_MUST_CHECK;

/** As slot_open(), not warm. */
dcache_status_t slot_open_cold(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                               uint32_t index, uint64_t bytes, struct slot *slot) DCACHE_MUST_CHECK;

/** As slot_open(), unmapped (base NULL). For those who read and write the file: a mapping costs a page fault for every
 * few pages, more than one pass over them is worth. */
dcache_status_t slot_open_file(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                               uint32_t index, uint64_t bytes, struct slot *slot) DCACHE_MUST_CHECK;

/** Map a slot that slot_open_file() opened, unless it is, and make it warm. DCACHE_ERR_NO_MEMORY, DCACHE_ERR_IO. */
dcache_status_t slot_map(struct diag *dg, const struct node_store *store, struct slot *slot) DCACHE_MUST_CHECK;

/** As slot_map(), not warm: each page is mapped when somebody comes to it. For a network that is slower than that, so
 * that it need not wait until all of them are. */
dcache_status_t slot_map_cold(struct diag *dg, const struct node_store *store, struct slot *slot) DCACHE_MUST_CHECK;

/** Map all pages of a mapped slot in one go, where the system can do that, and only once. */
void slot_warm(struct slot *slot);

/** Read or write all of a range of an open slot's file, mapped or not. DCACHE_ERR_IO (also: it ends before),
 * DCACHE_ERR_NO_SPACE. */
dcache_status_t slot_read(struct diag *dg, const struct slot *slot, uint64_t offset, void *buffer,
                          uint64_t bytes) DCACHE_MUST_CHECK;
dcache_status_t slot_write(struct diag *dg, const struct slot *slot, uint64_t offset, const void *data,
                           uint64_t bytes) DCACHE_MUST_CHECK;

/** Digest a range of an open slot's file. @return false when it cannot be read */
bool slot_digest(const struct slot *slot, uint64_t offset, uint64_t bytes, uint64_t *crc) DCACHE_MUST_CHECK;

/** Make the file of a slot that has none yet, so that its pages need not be got and cleared during a checkpoint. A file
 * that is there stays as it is. @return as slot_open() */
dcache_status_t slot_reserve(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                             uint32_t index, uint64_t bytes) DCACHE_MUST_CHECK;

/** As slot_open(), unmapped (base NULL), and what the slot held is gone: its header says EMPTY. For writers. */
dcache_status_t slot_open_write(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                                uint32_t index, uint64_t bytes, struct slot *slot) DCACHE_MUST_CHECK;

/** Get what was written to an open slot, also through a mapping, to the device: fdatasync(2). DCACHE_ERR_NO_SPACE,
 * DCACHE_ERR_IO. */
dcache_status_t slot_sync(struct diag *dg, const struct node_store *store, const struct slot *slot) DCACHE_MUST_CHECK;

/** As slot_open() for a file that exists, as it is, read-only and unmapped (base NULL): for readers and drainers.
 * DCACHE_NOT_FOUND, without a text, when there is none. */
dcache_status_t slot_open_read(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                               uint32_t index, struct slot *slot) DCACHE_MUST_CHECK;

/** Make a slot's file the image of the regions in `header` (io/shard_hdf5.h), allocate and map it. Pages it has are
 * used again; what they held is gone, and the header says EMPTY. */
dcache_status_t slot_create_image(struct diag *dg, const struct node_store *store, uint32_t rank, uint32_t index,
                                  struct shard_header *header, struct slot *slot) DCACHE_MUST_CHECK;

/** Unmap and close. The file stays. Safe on a zeroed struct. */
void slot_close(struct slot *slot);

/** Remove a slot's file; not an error when there is none. */
dcache_status_t slot_remove(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                            uint32_t index) DCACHE_MUST_CHECK;

/** Move a slot's file to another index, whose file is replaced. Mappings of it stay good. */
dcache_status_t slot_rename(struct diag *dg, const struct node_store *store, enum slot_kind kind, uint32_t rank,
                            uint32_t from, uint32_t to) DCACHE_MUST_CHECK;

/**
 * List the slots of a store whose fixed header can be believed (others are left out, with a debug line).
 * DCACHE_ERR_FORMAT when there is one of a newer dcache.
 * @param entries  malloc'ed, sorted by sequence (newest first), rank, kind; the caller's
 */
dcache_status_t node_store_catalog(struct diag *dg, const struct node_store *store, struct catalog_entry **entries,
                                   size_t *count) DCACHE_MUST_CHECK;

/**
 * Verify a slot's every byte: header and chunk digests.
 * @param bad_chunks  out: how many chunks do not match
 * @return DCACHE_OK (also with bad chunks), DCACHE_ERR_CORRUPT (header), DCACHE_ERR_IO, DCACHE_ERR_NO_MEMORY
 */
dcache_status_t slot_verify(struct diag *dg, const struct node_store *store, const struct catalog_entry *entry,
                            uint32_t *bad_chunks) DCACHE_MUST_CHECK;

/** Read or atomically replace (temporary file, rename) a small text file of the store, such as plan.json. */
dcache_status_t node_store_read_text(struct diag *dg, const struct node_store *store, const char *name, char **text,
                                     size_t *bytes) DCACHE_MUST_CHECK;
dcache_status_t node_store_write_text(struct diag *dg, const struct node_store *store, const char *name,
                                      const char *text, size_t bytes) DCACHE_MUST_CHECK;

#endif
