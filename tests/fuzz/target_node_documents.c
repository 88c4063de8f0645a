/* mutations: 2000
 * plan.json and run.json of a node store, and claim.json of an object store; the first byte says which. */
#include "fuzz.h"

#include "io/claim.h"
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

static void read_claim(const uint8_t *data, size_t size)
{
    struct diag *dg = fuzz_diag();
    struct claim claim;
    char text[CLAIM_HOLDER_MAX];
    dcache_status_t status = claim_decode(dg, "claim.json", (const char *)data, size, &claim);
    fuzz_require_text(dg, status);
    if (status != DCACHE_OK)
        return;
    fuzz_require(claim.lease_s >= 1 && claim.lease_s <= CLAIM_LEASE_MAX_S, "a lease is an hour at most");
    fuzz_require(claim.pid >= 0 && claim.generation >= 1, "numbers are in bounds");
    for (const char *at = claim_holder_text(&claim, text); *at != '\0'; at++)
        fuzz_require(*at >= ' ' && *at <= '~', "a holder's text is printable");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return -1;
    if (data[0] == 'c') {
        read_claim(data + 1, size - 1);
        return 0;
    }
    const struct node_store *store = open_store();
    bool plan = data[0] == 'p';
    put(store, plan ? "plan.json" : "run.json", data + 1, size - 1);
    if (plan)
        read_plan(store);
    else
        read_run(store);
    return 0;
}
