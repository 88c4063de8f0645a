#!/usr/bin/env python3
"""Every failpoint of io/failpoints.h with every action that makes sense there.

What is looked at each time: the call comes to the same status on every rank, the step before is there, the next call
works, a restart has the right bytes, nothing hangs. Errors and spoilt bytes are tried one after the other in one run,
kills in runs of their own, each of which starts with the restart after the kill before. Jobs know nothing of each other:
two of them at a time. A failpoint of the list that no case here reaches is a failure.
"""
import concurrent.futures
import itertools
import os
import re
import shutil
import subprocess
import sys

from lives import Job

RANKS = 3
AT_A_TIME = 2 # jobs; their ranks spend more time waiting than at work
TOGETHER = 12 # cases in a life: few enough for its deadline on a busy machine
MUST_FAIL, MAY_FAIL, MUST_WORK = "must fail", "may fail", "must work"

# name: scenario, rank where it happens (None: all), what an error there means for the call.
MATRIX = {
    "store.open": ("open", 1, MUST_FAIL),
    "store.lock": ("open", 1, MUST_FAIL),
    "store.sync": ("device", 1, MUST_FAIL),
    "store.read": ("restart", 1, MAY_FAIL),
    "store.write": ("open", None, MAY_FAIL),
    "store.replace": ("open", None, MAY_FAIL),
    "slot.open": ("save", 1, MUST_FAIL),
    "slot.create": ("save", 1, MUST_FAIL),
    "slot.allocate": ("save", 1, MUST_FAIL),
    "slot.sync": ("device", 1, MUST_FAIL),
    "slot.rename": ("back", 1, MUST_FAIL),
    "slot.remove": ("open one-sided", 1, MUST_WORK),
    "ssd.copy": ("both", 1, MUST_WORK),
    "ssd.write": ("both", 1, MUST_WORK),
    "ssd.header": ("both", 1, MUST_WORK),
    "checkpoint.begin": ("save", 1, MUST_FAIL),
    "checkpoint.stage": ("save", 1, MUST_FAIL),
    "checkpoint.copy": ("again", None, MUST_WORK),
    "checkpoint.data": ("save", 1, MUST_WORK),
    "checkpoint.header": ("save", 1, MUST_FAIL),
    "checkpoint.agreed": ("save", 1, MUST_WORK),
    "replicate.put": ("save", 1, MUST_FAIL),
    "replicate.flush": ("begin", 1, MUST_FAIL),
    "transport.attach": ("save two-sided", 1, MUST_FAIL),
    "restart.survey": ("restart", 1, MUST_FAIL),
    "restart.assemble": ("restart", 1, MAY_FAIL),
    "restart.header": ("restart", 1, MAY_FAIL),
    "restart.adopt": ("restart", 1, MUST_FAIL),
    "resync.start": ("resync", 1, MAY_FAIL),
    "fanin.read": ("restart", 0, MAY_FAIL),
    "drain.begin": ("drain", None, MAY_FAIL),
    "drain.read": ("drain", None, MAY_FAIL),
    "drain.shard": ("drain", None, MAY_FAIL),
    "drain.pack": ("azure", None, MAY_FAIL),
    "drain.part": ("drain", None, MAY_FAIL),
    "drain.manifest": ("drain", None, MAY_FAIL),
    "claim.take": ("open", None, MUST_WORK),
    "claim.release": ("closing", None, MUST_WORK),
    "object_file_write": ("drain", None, MAY_FAIL),
    "object_file_commit": ("drain", None, MAY_FAIL),
    "object_file_read": ("objects", 1, MAY_FAIL),
    "object_azure_whole": ("azure", None, MAY_FAIL),
    "object_azure_block": ("blocks", None, MAY_FAIL),
    "object_azure_commit": ("blocks", None, MAY_FAIL),
    "http.request": ("azure", None, MAY_FAIL),
    "http.body": ("azure", None, MAY_FAIL),
    "codec.compress": ("coded", None, MAY_FAIL),
    "codec.encrypt": ("coded", None, MAY_FAIL),
    "codec.decrypt": ("decoded", 1, MAY_FAIL),
    "codec.decompress": ("decoded", 1, MAY_FAIL),
    "tool.drain": ("tool drain", None, MUST_FAIL),
    "tool.verify": ("tool verify", None, MUST_FAIL),
    "MPI_Allgather": ("open", 1, MUST_FAIL),
    "MPI_Allgatherv": ("restart", 1, MUST_FAIL),
    "MPI_Allreduce": ("save", 1, MUST_FAIL),
    "MPI_Bcast": ("open", 1, MUST_FAIL),
    "MPI_Scatter": ("objects", 1, MUST_FAIL),
    "MPI_Waitall": ("save", 1, MUST_FAIL),
    "MPI_Win_create": ("save one-sided", 1, MUST_FAIL),
    "MPI_Win_lock_all": ("save one-sided", 1, MUST_FAIL),
    "MPI_Put": ("save one-sided", 1, MUST_FAIL),
    "MPI_Win_flush": ("save one-sided", 1, MUST_FAIL),
    "MPI_Isend": ("save two-sided", 1, MUST_FAIL),
    "MPI_Irecv": ("save two-sided", 1, MUST_FAIL),
}

# Reached only by what no scenario here does, or an error there lasts for ever: these tests have them fail.
ELSEWHERE = {
    "claim.renew": "tests/unit/test_claim.c",
    "transport.receive": "tests/mpi/test_background.c",
    "reshape.look": "tests/mpi/test_reshape.c",
    "reshape.plan": "tests/mpi/test_reshape.c",
    "reshape.fetch": "tests/mpi/test_reshape.c",
    "retention.object": "tests/unit/test_retention.c",
}


def read_registry():
    """name: set of actions, from the header."""
    with open(os.path.join(os.environ["TEST_SOURCE_DIR"], "io/failpoints.h"), encoding="utf-8") as header:
        text = header.read()
    groups = {"FAILPOINT_" + word: {word.lower()} for word in ("ERROR", "ENOSPC", "KILL", "DELAY", "CORRUPT", "SHORT")}
    for name, value in re.findall(r"^#define (FAILPOINT_[A-Z]+)\s+\((.*)\)$", text, re.M):
        groups[name] = set().union(*(groups[word] for word in value.split(" | ")))
    return {name: set().union(*(groups[word] for word in value.split(" | ")))
            for name, value in re.findall(r'^    X\("([^"]+)", ([A-Z_ |]+)\)', text, re.M)}


class Matrix:
    def __init__(self, directory):
        self.directory, self.jobs, self.failures, self.cases = directory, {}, [], []
        self.log = os.path.join(directory, "reached")
        self.steps = itertools.count(1)

    @staticmethod
    def place_of(scenario):
        """The name of its job. Some differ in nothing else, so that there are more to have going at a time."""
        kind, _, option = scenario.partition(" ")
        if kind == "tool":
            return "memory"
        places = {"both": "both", "device": "ssd", "azure": "azure", "blocks": "blocks", "drain": "drains",
                  "coded": "coded", "decoded": "coded",
                  "restart": "restarts", "resync": "restarts", "objects": "restarts", "back": "restarts"}
        return places.get(kind, "memory") + option

    def job_for(self, scenario):
        """Jobs that differ in options; each goes on from case to case."""
        kind, _, transport = scenario.partition(" ")
        place = self.place_of(scenario)
        if place not in self.jobs:
            job = Job(os.path.join(self.directory, place), RANKS, 1, job=place)
            job.environment = {"DCACHE_FAILPOINTS_LOG": self.log, "DCACHE_LOG": "error", "DCACHE_STORE_TIMEOUT": "2s"}
            if transport:
                job.environment["DCACHE_TRANSPORT"] = transport
            if kind in ("both", "device"):
                job.environment.update(DCACHE_TIER={"both": "both", "device": "ssd"}[kind], DCACHE_SSD_STORE=job.ssd)
            if kind in ("azure", "blocks"):
                job.environment["DCACHE_STORE"] = os.environ["TEST_AZURE_URL"]
                job.environment["DCACHE_DRAIN_NODES"] = "1" # one drains two shards ...
                job.preamble = ["words 20000"] # ... and they are small: a pack
            if kind in ("coded", "decoded"):
                key = os.path.join(job.directory, "key")
                with open(key, "w", encoding="ascii", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                    file.write("5a" * 32 + "\n")
                job.environment.update(DCACHE_COMPRESS="always", DCACHE_ENCRYPT_KEY_FILE=key)
            if kind == "blocks": # more than a block of 8 MiB
                job.preamble = ["words 1200000"]
                job.environment["DCACHE_STORE_TIMEOUT"] = "30s"
            self.jobs[place] = job
        return self.jobs[place]

    def next_step(self):
        return next(self.steps)

    # --- Scripts -----------------------------------------------------------------------------------------------------

    def before(self, job, kind):
        """Up to the call that is struck, and that call. All of it begins with a restart from what the case before has
        left. After it one slot of the ring fits, and the other one has to be made, which is where much can fail."""
        first, second = self.next_step(), self.next_step()
        begin, memory = ["open", "restart"], f"{job.memory}/{job.job}"
        if kind not in ("save", "device", "both"):
            begin.append(job.take(first))
        durable = [f"wait {first} 3"]
        if kind == "open":
            return begin + ["close"], ["open"]
        if kind == "closing":
            return begin + durable, ["close"]
        if kind in ("restart", "resync"): # which may go on behind the restart
            struck = ["restart"] + ([f"wait {first} 2"] if kind == "resync" else [])
            return begin + durable + ["close", f"sh rm -f {memory}/node-*/own-0-*", "open"], struck
        if kind in ("objects", "decoded"):
            return begin + durable + ["close", f"sh rm -rf {memory}", "open"], ["restart"]
        if kind == "back":
            third = self.next_step()
            more = [job.take(second), f"wait {second} 3", job.take(third), f"wait {third} 3"]
            return begin + durable + more, [f"restart {first}"]
        if kind == "again": # into a slot that has an older step of the same shape
            return begin + [job.take(second), job.take(self.next_step())], [job.take(self.next_step())]
        if kind == "begin":
            return begin, [job.take(second, "begin"), f"wait {second} 2"]
        if kind in ("drain", "azure", "blocks", "coded"):
            return begin, [job.take(second), f"wait {second} 3"]
        if kind == "both":
            return begin, [job.take(second), f"test {second}", "close"]
        return begin, [job.take(second)]

    @staticmethod
    def entry(name, action, rank):
        value = {"delay": "delay:50"}.get(action, action)
        return f"{name}={value}" + ("" if rank is None else f"@{rank}")

    def case_lines(self, job, name, action):
        scenario, rank, _ = MATRIX[name]
        before, struck = self.before(job, scenario.split()[0])
        after = ["say after", "env DCACHE_FAILPOINTS"]
        return ([f"say case {name} {action}"] + before + [f"env DCACHE_FAILPOINTS {self.entry(name, action, rank)}"] +
                struck + after + (["close"] if struck[-1] != "close" else []))

    # --- Runs --------------------------------------------------------------------------------------------------------

    def run_together(self, scenario, cases):
        """Errors, delays and spoilt bytes: some cases of a scenario in one life."""
        job = self.job_for(scenario)
        for some in (cases[i:i + TOGETHER] for i in range(0, len(cases), TOGETHER)):
            job.live([line for name, action in some for line in self.case_lines(job, name, action)])
            self.cases += some
            self.look_at_calls(job, some)
            self.collect(job, f"{scenario}: {some}")

    def look_at_calls(self, job, cases):
        """The struck calls, between their "env" and "say after": did they fail where they must?"""
        with open(os.path.join(job.directory, f"life-{job.lives}.log.0"), encoding="utf-8") as log:
            parts = log.read().split("> say case ")[1:]
        for (name, action), part in zip(cases, parts):
            struck = part.partition("< 0 env DCACHE_FAILPOINTS " + name)[2].partition("> say after")[0]
            statuses = [int(status) for status in re.findall(r"^< (-?\d+)", struck, re.M)]
            if not statuses:
                self.failures.append(f"{name}={action}: the call was not made")
            expected = MATRIX[name][2]
            if action in ("error", "enospc") and expected == MUST_FAIL and min(statuses, default=0) >= 0:
                self.failures.append(f"{name}={action}: no call failed: {statuses}")
            slow = MATRIX[name][0] in ("azure", "blocks") # and the timeout of the store is short
            if (expected == MUST_WORK or (action == "delay" and not slow)) and min(statuses, default=0) < 0:
                self.failures.append(f"{name}={action}: a call failed: {struck}")

    def run_kill(self, name):
        scenario, rank, _ = MATRIX[name]
        job = self.job_for(scenario)
        before, struck = self.before(job, scenario.split()[0])
        ended = job.live(before + [f"env DCACHE_FAILPOINTS {self.entry(name, 'kill', rank)}"] + struck + ["close"])
        if scenario.split()[0] in ("objects", "decoded") or name == "MPI_Scatter":
            job.lost_all_nodes()
        self.cases.append((name, "kill"))
        if ended:
            self.failures.append(f"{name}=kill: it lives")
        self.collect(job, f"{name}=kill")

    def run_tool(self, name, action):
        """The tool reports, and does the same without a fault the next time."""
        job = self.job_for("save")
        command = [os.path.join(job.bin, "dcache"), name.split(".")[1], "--job", job.job, "--memory-store", job.memory]
        environment = job.settings()
        environment["DCACHE_FAILPOINTS"] = self.entry(name, action, None)
        status = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60).returncode
        environment["DCACHE_FAILPOINTS"] = ""
        again = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60)
        self.cases.append((name, action))
        if status != {"error": 1, "kill": -9, "delay": 0}[action]:
            self.failures.append(f"{name}={action}: status {status}")
        if again.returncode != 0:
            self.failures.append(f"{name}={action}: the next time: {again.stdout} {again.stderr}")

    def run_place(self, wanted):
        """All cases of one job, one after the other."""
        together = {}
        for name, action in wanted:
            scenario = MATRIX[name][0]
            if not scenario.startswith("tool") and action != "kill":
                together.setdefault(scenario, []).append((name, action))
        for scenario, cases in together.items():
            self.run_together(scenario, cases)
        for name, action in wanted:
            if not MATRIX[name][0].startswith("tool") and action == "kill":
                self.run_kill(name)
        for name, action in wanted:
            if MATRIX[name][0].startswith("tool"):
                self.run_tool(name, action)

    def collect(self, job, what):
        self.failures += [f"{what}: {kind}: {text}" for kind, text in job.faults]
        job.faults.clear()

    def finish(self, wanted):
        for job in self.jobs.values():
            job.live(["open", "restart", job.take(self.next_step()), job.take(self.next_step()), "close"])
            self.collect(job, "in the end")
            job.judge_files()
            self.collect(job, "in the end")
        with open(self.log, encoding="utf-8") as log:
            reached = {tuple(line.split()[:2]) for line in log}
        for name, action in wanted:
            if (name, action.replace("delay", "delay:")) not in reached:
                self.failures.append(f"{name}={action} was never reached")


def main():
    registry = read_registry()
    only = sys.argv[2:] or [name for name in registry if name in MATRIX and ("TEST_AZURE_URL" in os.environ or MATRIX[name][0] not in ("azure", "blocks"))]
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    os.makedirs(sys.argv[1])
    matrix = Matrix(sys.argv[1])
    wanted = [(name, action) for name in only for action in sorted(registry[name])]
    places = {}
    for name, action in wanted:
        places.setdefault(matrix.place_of(MATRIX[name][0]), []).append((name, action))
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool: # what takes longest first
        list(pool.map(matrix.run_place, sorted(places.values(), key=len, reverse=True)))
    matrix.finish(wanted)
    print("\n".join(matrix.failures))
    print(f"{len(only)} of {len(registry)} failpoints, {len(matrix.cases)} cases, {len(matrix.failures)} failures")
    return 1 if matrix.failures else 0


if __name__ == "__main__":
    sys.exit(main())
