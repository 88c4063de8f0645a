/* mutations: 2000
 * plan.json and run.json of a node store; the first byte says which. */
#include "fuzz.h"

#include "io/drain.h"
#include "io/run_info.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static struct node_store *open_store(void)
{
    static struct node_store store;
    char root[600];
    if (store.dir_fd > 0)
        return &store;
    snprintf(root, sizeof root, "%s/root", fuzz_scratch());
    dcache_status_t status = node_store_open(fuzz_diag(), root, "job", 0, true, &store);
    fuzz_require(status == DCACHE_OK, "a node store");
    return &store;
}

static void put(const struct node_store *store, const char *name, const uint8_t *data, size_t size)
{
    int fd = openat(store->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    fuzz_require(fd >= 0 && write(fd, data, size) == (ssize_t)size, "a file");
    close(fd);
}

static void read_plan(const struct node_store *store)
{
    struct diag *dg = fuzz_diag();
    struct drain_plan plan;
    dcache_status_t status = drain_plan_read(dg, store, &plan);
    fuzz_require_text(dg, status);
    if (status != DCACHE_OK)
        return;
    for (size_t i = 0; i < plan.rank_count; i++)
        fuzz_require(plan.ranks[i] < plan.world_size, "ranks are below the world size");
    drain_plan_free(&plan);
}

static void read_run(const struct node_store *store)
{
    struct diag *dg = fuzz_diag();
    struct run_info info;
    dcache_status_t status = run_info_read(dg, store, &info);
    fuzz_require_text(dg, status);
    if (status == DCACHE_OK)
        fuzz_require(info.node < info.node_count && info.pid >= 0 && info.started >= 0, "numbers are in bounds");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return -1;
    const struct node_store *store = open_store();
    bool plan = data[0] == 'p';
    put(store, plan ? "plan.json" : "run.json", data + 1, size - 1);
    if (plan)
        read_plan(store);
    else
        read_run(store);
    return 0;
}
