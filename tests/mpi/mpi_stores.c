#include "mpi_stores.h"

#include "mpi_support.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void node_path(const char *job, unsigned index, char *path, size_t room)
{
    snprintf(path, room, "%s/%s/node-%u", support_stores(), job, index);
}

void stores_lose_node(const char *job, unsigned index)
{
    char path[512];

    MPI_Barrier(MPI_COMM_WORLD);
    node_path(job, index, path, sizeof path);
    if (support_rank == 0)
        support_remove_tree(path);
    MPI_Barrier(MPI_COMM_WORLD);
}

void stores_lose_all(const char *job)
{
    char path[512];

    MPI_Barrier(MPI_COMM_WORLD);
    snprintf(path, sizeof path, "%s/%s", support_stores(), job);
    if (support_rank == 0)
        support_remove_tree(path);
    MPI_Barrier(MPI_COMM_WORLD);
}

void stores_lose_shard(const char *job, uint32_t rank, uint64_t step)
{
    size_t count = 0;
    struct stored *list = stores_list(job, &count);
    char path[600];

    for (size_t i = 0; support_rank == 0 && i < count; i++) {
        if (list[i].entry.rank != rank || list[i].entry.set.step != step)
            continue;
        stores_path(job, &list[i], path, sizeof path);
        CHECK(unlink(path) == 0);
    }
    free(list);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Copy a directory tree over another one. */
static void copy_tree(const char *from, const char *to)
{
    char command[1200];

    support_remove_tree(to);
    snprintf(command, sizeof command, "cp -a '%s' '%s'", from, to);
    CHECK(system(command) == 0);
}

static void kept_paths(const char *job, char *here, char *kept, size_t room)
{
    snprintf(here, room, "%s/%s", support_stores(), job);
    snprintf(kept, room, "%s/kept-%s", support_scratch(), job);
}

void stores_keep(const char *job)
{
    char here[512], kept[512];

    kept_paths(job, here, kept, sizeof here);
    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0)
        copy_tree(here, kept);
    MPI_Barrier(MPI_COMM_WORLD);
}

void stores_bring_back(const char *job)
{
    char here[512], kept[512];

    kept_paths(job, here, kept, sizeof here);
    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0)
        copy_tree(kept, here);
    MPI_Barrier(MPI_COMM_WORLD);
}

void stores_mark_writing(const char *job, const struct stored *stored)
{
    unsigned char fixed[SHARD_FIXED_BYTES];
    struct shard_header header;
    struct diag dg;
    char path[600];

    diag_init(&dg, job, support_rank, DIAG_ERROR);
    stores_path(job, stored, path, sizeof path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && pread(fd, fixed, sizeof fixed, 0) == (ssize_t)sizeof fixed);
    memset(&header, 0, sizeof header);
    CHECK(shard_decode_fixed(&dg, fixed, sizeof fixed, &header) == DCACHE_OK);
    header.state = SHARD_WRITING;
    shard_encode_fixed(&header, fixed);
    CHECK(pwrite(fd, fixed, sizeof fixed, 0) == (ssize_t)sizeof fixed);
    close(fd);
}

static void add_node(struct diag *dg, const char *job, unsigned index, struct stored **list, size_t *count)
{
    struct node_store store;
    struct catalog_entry *entries = NULL;
    size_t more = 0;

    CHECK(node_store_open(dg, support_stores(), job, index, false, &store) == DCACHE_OK);
    CHECK(node_store_catalog(dg, &store, &entries, &more) == DCACHE_OK);
    *list = realloc(*list, (*count + more + 1) * sizeof **list);
    CHECK(*list != NULL);
    for (size_t i = 0; i < more; i++)
        (*list)[(*count)++] = (struct stored){index, entries[i]};
    free(entries);
    node_store_close(&store);
}

static struct stored *list_here(const char *job, size_t *count)
{
    struct diag dg;
    struct stored *list = malloc(sizeof *list);
    unsigned *indexes = NULL;
    size_t nodes = 0;

    *count = 0;
    diag_init(&dg, job, support_rank, DIAG_ERROR);
    CHECK(node_store_list(&dg, support_stores(), job, &indexes, &nodes) == DCACHE_OK);
    for (size_t i = 0; i < nodes; i++)
        add_node(&dg, job, indexes[i], &list, count);
    free(indexes);
    return list;
}

struct stored *stores_list(const char *job, size_t *count)
{
    struct stored *list = NULL;
    uint64_t bytes = 0;

    MPI_Barrier(MPI_COMM_WORLD);
    if (support_rank == 0) {
        list = list_here(job, count);
        bytes = *count * sizeof *list;
    }
    MPI_Bcast(&bytes, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (support_rank != 0)
        list = malloc(bytes + 1);
    CHECK(list != NULL);
    MPI_Bcast(list, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
    *count = bytes / sizeof *list;
    return list;
}

static bool is_copy(const struct stored *stored, enum slot_kind kind, uint32_t rank, uint64_t step)
{
    return stored->entry.kind == kind && stored->entry.rank == rank && stored->entry.set.step == step &&
           stored->entry.state == SHARD_COMPLETE;
}

const struct stored *stores_find(const struct stored *list, size_t count, enum slot_kind kind, uint32_t rank,
                                 uint64_t step)
{
    const struct stored *best = NULL;

    for (size_t i = 0; i < count; i++) {
        if (is_copy(&list[i], kind, rank, step) &&
            (best == NULL || list[i].entry.set.sequence > best->entry.set.sequence))
            best = &list[i];
    }
    return best;
}

void stores_path(const char *job, const struct stored *stored, char *path, size_t room)
{
    char name[48];

    slot_name(stored->entry.kind, stored->entry.rank, stored->entry.slot, name);
    snprintf(path, room, "%s/%s/node-%u/%s", support_stores(), job, stored->node, name);
}

static bool verify(const char *job, const struct stored *stored)
{
    struct diag dg;
    struct node_store store;
    uint32_t bad = 0;

    diag_init(&dg, job, support_rank, DIAG_ERROR);
    CHECK(node_store_open(&dg, support_stores(), job, stored->node, false, &store) == DCACHE_OK);
    dcache_status_t status = slot_verify(&dg, &store, &stored->entry, &bad);
    node_store_close(&store);
    return status == DCACHE_OK && bad == 0;
}

/* Former placements' copies may lie about, too: any own copy with any replica on another node will do. */
static bool redundant(const char *job, const struct stored *list, size_t count, uint32_t rank, uint64_t step)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_copy(&list[i], SLOT_OWN, rank, step) || !verify(job, &list[i]))
            continue;
        for (size_t k = 0; k < count; k++) {
            if (is_copy(&list[k], SLOT_REPLICA, rank, step) && list[k].node != list[i].node &&
                shard_same_set(&list[k].entry.set, &list[i].entry.set) && verify(job, &list[k]))
                return true;
        }
    }
    return false;
}

bool stores_redundant(const char *job, uint64_t step, uint32_t ranks)
{
    size_t count = 0;
    struct stored *list = stores_list(job, &count);
    int good = 1;

    for (uint32_t r = 0; support_rank == 0 && good && r < ranks; r++) {
        good = redundant(job, list, count, r, step);
        if (!good)
            fprintf(stderr, "step %llu of rank %u is not redundant\n", (unsigned long long)step, r);
    }
    free(list);
    MPI_Bcast(&good, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return good != 0;
}

static size_t count_files_in(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *item;
    size_t count = 0;

    while (directory != NULL && (item = readdir(directory)) != NULL)
        count += strstr(item->d_name, ".h5") != NULL;
    if (directory != NULL)
        closedir(directory);
    return count;
}

size_t stores_count_files(const char *job)
{
    uint64_t count = 0;
    char path[512];

    MPI_Barrier(MPI_COMM_WORLD);
    for (unsigned index = 0; support_rank == 0 && index < 64; index++) {
        node_path(job, index, path, sizeof path);
        count += count_files_in(path);
    }
    MPI_Bcast(&count, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    return count;
}
