/**
 * What the object store holds of one step for one set: which shards and packs, which parts, a manifest or not, from one
 * listing; and what the parts say together. A part's word for a shard counts only where the shard is there in that
 * size. Other sets of the step have objects of other names: they are known as such, and left alone until a manifest
 * says that nobody needs them.
 */
#ifndef DCACHE_IO_STEP_OBJECTS_H
#define DCACHE_IO_STEP_OBJECTS_H

#include "io/manifest.h"

#define STEP_OBJECT_PACK UINT32_MAX

/** One object with shards in it, as listed. */
struct step_object {
    char name[MANIFEST_OBJECT_MAX + 1]; /**< below the step's prefix */
    uint64_t bytes;
    uint32_t rank;  /**< whose shard it is; STEP_OBJECT_PACK: several ranks' */
    bool foreign;   /**< another set's, as its name says */
    uint32_t store; /**< which of the stores it is in */
};

/** One step as listed. Owned by the caller; step_objects_free(). */
struct step_objects {
    struct shard_set set; /**< of which one looks for shards here */
    bool manifest;
    size_t count;
    struct step_object *list; /**< ascending names */
    size_t pack_count;        /**< so many of them are packs */
    size_t foreign_count;     /**< and so many another set's shards */
    uint32_t store_count;
    uint32_t other_home; /**< a store that has a manifest of this step though it is not the home; 0: none */
    size_t part_count;
    char **parts; /**< keys */
};

dcache_status_t step_objects_list(struct diag *dg, struct object_store *store, const char *job,
                                  const struct shard_set *set, struct step_objects *objects) DCACHE_MUST_CHECK;
void step_objects_free(struct step_objects *objects);

/** The object of that name in that store, or NULL. */
const struct step_object *step_objects_find(const struct step_objects *objects, uint32_t store, const char *name);

/** False when no object can have the set's shard of `rank`, in whatever form. */
bool step_objects_may_have(const struct step_objects *objects, uint32_t rank);

/** How many shards of the set there can be at most, as far as names tell; SIZE_MAX: any number. */
size_t step_objects_most(const struct step_objects *objects);

/** Remove what the set's manifest, which is there and can never be replaced, says nothing of: packs of drainers that
 * were killed before they told of them, and the shards and parts of other attempts at the step. What cannot be removed
 * is left, with a warning. */
void step_objects_remove_unused(struct diag *dg, struct object_store *store, const struct step_objects *objects,
                                const struct manifest *manifest);

/**
 * Unite the parts of the set; other sets' parts and parts that cannot be decoded are left out (the latter with a
 * warning).
 * @param united  out: job, set and shards; drainer is ""; owned by the caller
 * @return DCACHE_OK; DCACHE_ERR_CORRUPT (two parts disagree about a shard: the text names them); errors of the store
 */
dcache_status_t step_objects_unite(struct diag *dg, struct object_store *store, const struct step_objects *objects,
                                   const char *job, struct manifest *united) DCACHE_MUST_CHECK;

#endif
