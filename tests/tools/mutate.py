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
    "a slot in use is not marked WRITING at the host": (
        "runtime/replication.c", "        status = put_mark(dc);\n", "        status = DCACHE_OK;\n",
        "fault.kill_loop fault.campaign mpi.transport.n3"),
    "the replica's header is not waited for": (
        "runtime/replication.c", "        rep->phase += stored;\n", "        rep->phase += 1;\n        stored = true;\n",
        "mpi.window.n3 fault.campaign mpi.transport.n3 mpi.background.n3"),
    "the own header is written before the data": (
        "runtime/checkpoint.c", "    stage_copy(dc, ring, mode, put_now ? replication_stream : NULL);\n",
        "    stage_finish(ring);\n    stage_copy(dc, ring, mode, put_now ? replication_stream : NULL);\n",
        "mpi.roundtrip.n3 fault.failpoints fault.campaign"),
    "a failure is not agreed on": (
        "runtime/checkpoint.c", "    status = agree(&dc->world, &dc->diag, &dc->replicator.idle, status);\n"
        "    if (status == DCACHE_OK && !background)",
        "    (void)!agree(&dc->world, &dc->diag, &dc->replicator.idle, DCACHE_OK);\n"
        "    if (status == DCACHE_OK && !background)", "mpi.collective_errors.n3 fault.failpoints"),
    "a failed step is not taken back": (
        "runtime/checkpoint.c", "        take_back(dc, slot);\n        return status;\n", "        return status;\n",
        "mpi.collective_errors.n3 fault.failpoints fault.campaign"),
    "the newest step is overwritten": (
        "runtime/checkpoint.c", "claim_a < claim_b : view->worth[a] < view->worth[b]", "claim_a < claim_b : a < b",
        "mpi.when_full.n3 fault.failpoints fault.campaign"),
    "the newest step is not protected": (
        "runtime/checkpoint.c", "bool protected = k == newest && view->worth[k] > 0;", "bool protected = false;",
        "mpi.when_full.n3 mpi.calls.n4 fault.campaign"),
    "a restart does not check digests": (
        "runtime/assemble.c", "    return crc64_update(0, data, shard_chunk_length(header, index)) == "
        "header->chunk_crc[index];", "    return crc64_update(0, data, shard_chunk_length(header, index)) == "
        "header->chunk_crc[index] || data != NULL;", "mpi.corruption.n3"),
    "a drain does not check digests": (
        "io/drain.c", "    if (crc64_update(0, target, length) != image->header.chunk_crc[index])",
        "    if (crc64_update(0, target, length) != image->header.chunk_crc[index] && length == 0)", "unit.drain"),
    "what failed is not tried again": (
        "io/http.c", "        if (!again && response->failure[0] == '\\0')", "        again = false;\n"
        "        if (!again && response->failure[0] == '\\0')", "unit.object_faults"),
    "the manifest does not wait for all shards": (
        "io/manifest.c", "    if (united.shard_count == set->world_size)", "    if (united.shard_count > 0)",
        "unit.manifest unit.drain"),
    "the manifest comes before the shards": (
        "io/drain.c", "    dcache_status_t status = see_what_is_stored(drain);\n    for",
        "    dcache_status_t status = see_what_is_stored(drain);\n    for (size_t i = 0; status == DCACHE_OK && i < "
        "drain->request->item_count; i++)\n        add_to_part(drain, &(struct manifest_shard){.rank = "
        "drain->request->items[i].rank, .bytes = 1});\n    if (status == DCACHE_OK)\n        status = commit(drain, "
        "durable);\n    for", "unit.drain fault.failpoints"),
    "a resync believes that the replicas are there": (
        "runtime/resync.c", "    if (same_set && missing == 0)", "    if (missing > 0 || missing == 0)",
        "mpi.lost_nodes.n4 fault.campaign"),
    "sequences do not grow": (
        "runtime/checkpoint.c", "    return now > dc->last_sequence ? now : dc->last_sequence + 1;", "    return now;",
        "fault.hostile mpi.calls.n4"),
    "a slot of another set is taken for ours": (
        "runtime/assemble.c", "entry->slot.state == SHARD_COMPLETE && !shard_same_set(&entry->slot.set, "
        "&w->request->set);", "false;", "fault.failpoints fault.campaign"),
}


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
    targets = {"program_script", "program_values", "dcache_tool"} if any("fault." in test for test in tests) else set()
    for test in tests:
        folder, name = test.split(".")[:2]
        targets |= {f"{folder}_test_{name}"} if folder in ("unit", "mpi") else set()
    return sorted(targets)


def catch(build, tests):
    """The first test that fails, "the build", or None."""
    status, output = run(["cmake", "--build", build, "--parallel", "3", "--target", *targets_of(tests)])
    if status != 0:
        return "the build: " + output[-300:]
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
                          *([] if shutil.which("ccache") is None else ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"])])
    if status != 0:
        sys.exit(output)
    missed = 0
    for bug in sys.argv[2:] or BUGS:
        name, text, instead, tests = BUGS[bug]
        path = os.path.join(tree, name)
        with open(path, encoding="utf-8") as file:
            source = file.read()
        if source.count(text) != 1:
            sys.exit(f"{name} has changed: the text of bug \"{bug}\" is not there once")
        with open(path, "w", encoding="utf-8") as file:
            file.write(source.replace(text, instead))
        caught = catch(build, tests.split())
        with open(path, "w", encoding="utf-8") as file:
            file.write(source)
        missed += caught is None
        print(f"{bug}: {'NOT CAUGHT by ' + tests if caught is None else 'caught by ' + caught}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
