#!/usr/bin/env python3
"""Does the suite notice when the protocol is broken? Each bug of a list is planted in a copy of the tree, which is built,
and the tests that should see it are run. By hand, not in CI: a bug costs a build and a minute or more.

  tests/tools/mutate.py BUILD_DIR [BUG...]       BUILD_DIR is made, and kept for the next time

Prints for each bug which test has caught it; the exit status is 0 when all were.
"""
import os
import shutil
import subprocess
import sys

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# bug: (file, text, what stands there instead, tests that are tried one after the other until one fails)
BUGS = {
    "the replica's header is not waited for": (
        "runtime/replication.c", "        rep->phase += stored;\n", "        rep->phase += 1;\n        stored = true;\n",
        "mpi.background.n3"),
    "a failure is not agreed on": (
        "runtime/checkpoint.c", "    status = agree(&dc->world, &dc->diag, &dc->replicator.idle, status);\n"
        "    if (status == DCACHE_OK && !background)",
        "    (void)!agree(&dc->world, &dc->diag, &dc->replicator.idle, DCACHE_OK);\n"
        "    if (status == DCACHE_OK && !background)", "mpi.collective_errors.n3 fault.failpoints"),
    "a failed step is not taken back": (
        "runtime/checkpoint.c", "        take_back(dc, slot);\n        return status;\n", "        return status;\n",
        "mpi.collective_errors.n3 fault.failpoints fault.campaign"),
    "another step than the oldest is overwritten": (
        "runtime/checkpoint.c", "claim_a < claim_b : view->worth[a] < view->worth[b]", "claim_a < claim_b : a < b",
        "mpi.roundtrip.n3 mpi.when_full.n3"),
    "the newest step is not protected": (
        "runtime/checkpoint.c", "bool protected = k == newest && view->worth[k] > 0;", "bool protected = false;",
        "mpi.when_full.n3 mpi.calls.n4 fault.campaign"),
    "when_full = block does not wait": (
        "runtime/checkpoint.c", "dc->options.when_full == WHEN_FULL_REPLACE || view->stalled[oldest]",
        "dc->options.when_full != WHEN_FULL_SKIP || view->stalled[oldest]", "mpi.when_full.n2"),
    "names longer than keys are listed": (
        "io/object_file.c", "    if (length > OBJECT_KEY_MAX)\n        return DCACHE_OK;\n    memcpy", "    memcpy",
        "unit.object_store"),
    "a restart does not check digests": (
        "runtime/assemble.c", "    if (w->bad[index] && crc == w->result->header.chunk_crc[index]) {",
        "    if (w->bad[index] && (crc > 0 || w->result->header.chunk_crc[index] > 0)) {", "mpi.corruption.n3"),
    "a drain does not check digests": (
        "io/drain_image.c", "    if (crc64_update(0, target, length) != image->header.chunk_crc[index])",
        "    if (crc64_update(0, target, length) != image->header.chunk_crc[index] && length == 0)", "unit.drain"),
    "a body that turns out to be bad is sent again": (
        "io/http.c", "    if (attempt.source != DCACHE_OK)\n        return attempt.source;\n", "", "unit.pieces"),
    "what was spoilt here counts as spoilt on the way": (
        "io/azure_call.c", "call->sent_bytes != call->body_bytes || call->sent_crc == call->crc;",
        "call->sent_bytes > 0 || call->sent_crc == call->crc;", "unit.pieces"),
    "what failed is not tried again": (
        "io/http.c", "        if (!again && response->failure[0] == '\\0')", "        again = false;\n"
        "        if (!again && response->failure[0] == '\\0')", "unit.object_faults"),
    "the manifest does not wait for all shards": (
        "io/manifest.c", "    if (united.shard_count == set->world_size)", "    if (united.shard_count > 0)",
        "unit.manifest unit.drain"),
    "the manifest comes before the shards": (
        "io/drain.c", "    if (status == DCACHE_OK)\n        status = store_shards(drain);\n",
        "    for (size_t i = 0; status == DCACHE_OK && i < drain->request->item_count; i++)\n        add_to_part(drain, "
        "&(struct manifest_shard){.rank = drain->request->items[i].rank, .bytes = 1});\n    if (status == DCACHE_OK)\n"
        "        status = commit(drain, durable);\n    if (status == DCACHE_OK)\n        status = store_shards(drain);\n",
        "unit.drain fault.failpoints"),
    "a resync believes that the replicas are there": (
        "runtime/resync.c", "    if (same_set && reports->missing == 0)\n", "    if (same_set || reports->missing > 0)\n",
        "mpi.lost_nodes.n4 fault.campaign"),
    "sequences do not grow": (
        "runtime/checkpoint.c", "    return now > dc->last_sequence ? now : dc->last_sequence + 1;", "    return now;",
        "fault.hostile mpi.calls.n4"),
    "a slot of another set is taken for ours": (
        "runtime/assemble.c", "entry->slot.state == SHARD_COMPLETE && !shard_same_set(&entry->slot.set, "
        "&w->request->set);", "false;", "fault.failpoints fault.campaign"),
    # Who has what: sets, levels, the newest.
    "attempts at a step are not told apart": (
        "io/shard.c", "a->step == b->step && a->sequence == b->sequence && ", "a->step == b->step && ",
        "unit.shard unit.drain unit.slot_copy fault.failpoints"),
    "a restart takes the largest step, not the newest": (
        "runtime/survey.c", "candidate->set.sequence > best->set.sequence)\n            best = candidate;\n    }\n    return "
        "best;\n}\n\nstatic bool any_tried", "candidate->set.step > best->set.step)\n            best = candidate;\n    }\n"
        "    return best;\n}\n\nstatic bool any_tried", "mpi.roundtrip.n3 mpi.background.n3 mpi.lost_nodes.n3"),
    "a test does not ask whether all replicas are there": (
        "runtime/levels.c", "values[2] = !replication_advance(dc, false);", "values[2] = !replication_advance(dc, false) && "
        "dc->world.rank == 0 && values[0] > 1000000;", "mpi.background.n3"),
    "REPLICATED although the replication failed": (
        "runtime/levels.c", "    if (status != DCACHE_OK) /* drain ranks may count on", "    if (status == DCACHE_ERR_MPI) /* "
        "drain ranks may count on", "mpi.collective_errors.n3 mpi.background.n3"),
    "DURABLE before the manifest": (
        "io/manifest.c", "    step_objects_free(&objects);\n    if (status == DCACHE_OK)\n        *durable = found;",
        "    step_objects_free(&objects);\n    if (status == DCACHE_OK)\n        *durable = found || part->shard_count > 0;",
        "unit.manifest unit.drain"),
    "the mildest status is agreed on": (
        "mpi/agree.c", "1 + count, MPI_INT64_T, MPI_MAX, world->comm", "1 + count, MPI_INT64_T, MPI_MIN, world->comm",
        "mpi.agree.n3"),
    "the same node is its own partner": (
        "mpi/placement.c", "uint64_t next = (place + shift) % nodes;", "uint64_t next = (place + 0 * shift) % nodes;",
        "unit.placement"),
    "a replica that failed is the base of the next": (
        "runtime/checkpoint.c", "dc->options.incremental && ring->level >= DCACHE_REPLICATED;",
        "dc->options.incremental && ring->level >= DCACHE_STAGED;", "mpi.collective_errors.n3"),
    "two runs of a job may use one store": (
        "io/node_store.c", "failed = flock(opened, LOCK_EX | LOCK_NB);", "failed = flock(opened, LOCK_SH | LOCK_NB);",
        "unit.node_store fault.two_runs"),
    # Whose the name is.
    "a claim that is held is taken": (
        "io/claim.c", "    if (there.held && !is_free(&there, me, ended) && ",
        "    if (there.held && there.lease_s == 0 && !is_free(&there, me, ended) && ", "unit.claim"),
    "a holder that renews its claim counts as dead": (
        "io/claim.c", "    if (!watch->seen || strcmp(watch->etag, etag) != 0) {", "    if (!watch->seen) {", "unit.claim"),
    "a claim is written whoever was faster": (
        "io/claim.c", "store->ops->swap(store, dg, key, etag, text, bytes, cancel);",
        "object_store_put_bytes(store, dg, key, text, bytes, OBJECT_REPLACE);", "unit.claim"),
    "a run that has lost its claim renews it": (
        "io/claim.c", "        if (!gone && !is_ours(&there, me))", "        if (!gone && !is_ours(&there, me) && !held)",
        "unit.claim"),
    # Resync.
    "a resync does not compare digests": (
        "runtime/resync.c", "!digests || reports->mine[1 + i] != ring->header.chunk_crc[i];", "!digests;",
        "mpi.lost_nodes.n3 mpi.corruption.n3"),
    "a resync takes each replica for the same set's": (
        "runtime/replica_report.c", "(has_same_set(dg, slot, wanted) ? REPLICA_REPORT_SAME_SET : 0);",
        "(has_same_set(dg, slot, wanted) || slot != NULL ? REPLICA_REPORT_SAME_SET : 0);",
        "mpi.corruption.n3 mpi.lost_nodes.n3 mpi.lost_nodes.n4 mpi.roundtrip.n3"),
    # What goes to the object store and to the SSD.
    "a drain takes another step's shard": (
        "io/drain_image.c", "strcmp(header->job, origin->job) != 0 ||\n        !shard_same_set(&header->set, &origin->set))",
        "strcmp(header->job, origin->job) != 0)", "unit.drain"),
    "a manifest of another run is replaced": (
        "io/manifest.c", "put_document(dg, store, key, complete, OBJECT_IF_ABSENT);",
        "put_document(dg, store, key, complete, OBJECT_REPLACE);", "unit.manifest unit.drain"),
    "a manifest of another run counts as ours": (
        "io/manifest.c", "    bool same = shard_same_set(&found.set, set);", "    bool same = found.set.step == set->step;",
        "unit.manifest unit.drain"),
    "parts of another attempt count": (
        "io/step_objects.c", "    if (status == DCACHE_OK && shard_same_set(&part.set, &wanted->set)) {",
        "    if (part.set.step == wanted->set.step) {", "unit.manifest"),
    "the shards of all attempts at a step have one name": (
        "io/manifest.c", ".h5%s\", shard->rank, set->sequence,", ".h5%s\", shard->rank, set->step,", "unit.drain_sets"),
    "who lost the race for the manifest removes what he does not need": (
        "io/manifest.c", "    if (status == DCACHE_ERR_EXISTS)\n        return manifest_check(",
        "    if (status == DCACHE_ERR_EXISTS)\n        step_objects_remove_unused(dg, store, objects, complete);\n"
        "    if (status == DCACHE_ERR_EXISTS)\n        return manifest_check(", "unit.drain_sets"),
    "the objects of the newest step are removed": (
        "io/retention.c", "return (a->sequence < b->sequence) - (a->sequence > b->sequence);",
        "return (a->step < b->step) - (a->step > b->step);", "unit.retention"),
    "a step whose manifest cannot be read is removed": (
        "io/retention.c", "    *good = status == DCACHE_OK;\n", "    *found = (struct retention_step){.step = step};\n"
        "    *good = status == DCACHE_OK || status == DCACHE_ERR_CORRUPT;\n", "unit.retention"),
    "every shard is looked for where the manifest is": (
        "io/shard_object.c", "object->store = stripes_store(store, place->shard.store);", "object->store = store;",
        "unit.stripes mpi.stripes.n4"),
    "a manifest's stores are taken by their number": (
        "io/manifest.c", "numbers[i + 1] = stripes_find(home, manifest->stores[i]);",
        "numbers[i + 1] = (uint32_t)i + 1;", "unit.stripes mpi.stripes.n4"),
    "another job's step in a store is removed with ours": (
        "io/retention.c", "removal->store->ops->head(removal->store, removal->dg, key, &info);\n",
        "removal->store->ops->head(removal->store, removal->dg, key, &info);\n    status = DCACHE_NOT_FOUND;\n", "unit.stripes"),
    "a store of another home may be one": (
        "io/stripes.c", "    if (read_mark(&quiet, home, job, first) == DCACHE_OK)", "    if (read_mark(&quiet, home, job, first) == "
        "DCACHE_ERR_INTERNAL)", "unit.stripes mpi.stripes.n4"),
    "a step that can be removed in part only is removed": (
        "io/retention.c", "        status = manifest_check_stores(&quiet, &manifest);\n", "", "unit.stripes"),
    "what is read of an object is not pinned": (
        "io/shard_object.c", "object->key, object->info.etag, object->shard.offset", "object->key, NULL, object->shard.offset",
        "unit.coded mpi.coded.n3"),
    "a frame is not bound to its step's attempt": (
        "io/codec.c", "    at = put_number(at, object->set.sequence, 8);", "    at = put_number(at, 0 * object->set.sequence, 8);",
        "unit.codec unit.coded"),
    "a copy to the SSD is not verified": (
        "io/slot_copy.c", "crc64_update(0, c->buffer, length) != c->header.chunk_crc[index])",
        "(length == 0 && crc64_update(0, c->buffer, length) != c->header.chunk_crc[index]))", "unit.slot_copy"),
    "the SSD's header is written before the data": (
        "io/slot_copy.c", "    for (uint32_t i = 0; status == DCACHE_OK && i < c.header.chunk_count; i++)\n        status = "
        "copy_chunk(&c, i);\n    if (status == DCACHE_OK)\n        status = finish(&c);",
        "    if (status == DCACHE_OK)\n        status = finish(&c);\n    for (uint32_t i = 0; status == DCACHE_OK && i < "
        "c.header.chunk_count; i++)\n        status = copy_chunk(&c, i);", "unit.slot_copy mpi.ssd.n3 fault.failpoints"),
    "a copy to the SSD that failed is not taken back": (
        "io/slot_copy.c", "    if (status != DCACHE_OK && c.target.fd >= 0)\n        take_back(&c);",
        "    if (status == DCACHE_ERR_INTERNAL && c.target.fd >= 0)\n        take_back(&c);", "unit.slot_copy"),
}


class BuildError(Exception):
    pass


def run(command, timeout=900):
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return 1, "it has not ended"
    return result.returncode, result.stdout.decode(errors="replace")


def copy_tree(tree):
    names = subprocess.run(["git", "-C", TREE, "ls-files"], capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        target = os.path.join(tree, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(os.path.join(TREE, name), "rb") as file:
            content = file.read()
        if os.path.exists(target):
            with open(target, "rb") as file:
                if file.read() == content:
                    continue
        shutil.copy(os.path.join(TREE, name), target)


def targets_of(tests):
    """Only what they need is built."""
    programs = {"program_script", "program_values", "dcache_tool", "heat2d", "heat2d-make-field", "clock_jump"}
    targets = set(programs) if any("fault." in test for test in tests) else set()
    for test in tests:
        folder, name = test.split(".")[:2]
        targets |= {f"{folder}_test_{name}"} if folder in ("unit", "mpi") else set()
    return sorted(targets)


def catch(build, tests):
    """The first test that fails, or None."""
    status, output = run(["cmake", "--build", build, "--parallel", "2", "--target", *targets_of(tests)])
    if status != 0:
        raise BuildError(output[-600:])
    for test in tests:
        status, output = run(["ctest", "--test-dir", build, "-R", "^" + test.replace(".", r"\.") + "$"])
        if "No tests were found" in output or "Not Run" in output:
            continue
        if status != 0:
            return test
    return None


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    top = os.path.abspath(sys.argv[1])
    tree, build = os.path.join(top, "tree"), os.path.join(top, "build")
    copy_tree(tree)
    status, output = run(["cmake", "-S", tree, "-B", build, "-DDCACHE_BUILD_TESTS=ON", "-DDCACHE_FAILPOINTS=ON",
                          "-DDCACHE_WERROR=OFF", # a bug may leave a function without a use
                          *([] if shutil.which("ccache") is None else ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"])])
    if status != 0:
        sys.exit(output)
    missed = 0
    for bug in sys.argv[2:] or BUGS:
        name, text, instead, tests = BUGS[bug]
        path = os.path.join(tree, name)
        with open(path, encoding="utf-8") as file:
            source = file.read()
        if source.count(text) == 1:
            with open(path, "w", encoding="utf-8") as file:
                file.write(source.replace(text, instead))
            try:
                caught = catch(build, tests.split())
                verdict = f"NOT CAUGHT by {tests}" if caught is None else f"caught by {caught}"
            except BuildError as error:
                caught, verdict = None, f"NOT PLANTED: it does not build: {error}"
            with open(path, "w", encoding="utf-8") as file:
                file.write(source)
        else:
            caught, verdict = None, f"NOT PLANTED: {name} has changed, its text is not there once"
        missed += caught is None
        print(f"{bug}: {verdict}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
