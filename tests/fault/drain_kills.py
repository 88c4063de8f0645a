#!/usr/bin/env python3
"""Kills drainers at random, and restarts from Azure Blob alone each time: drain_kills.py --runs N --seed S [--directory D]

The stores of a job (below the container, its prefixes) become more from life to life, and those behind the first come in
another order each time, up to DRAIN_KILLS_STORES (3).

A run: a job restarts from the object store, takes some steps, and is killed at a moment of the drain (a failpoint, or
some time); `dcache drain` is killed some times while it goes on with that, then left alone; then all nodes are lost.
What was REPLICATED when the job died must be what the next run restarts from, byte by byte: tests/fault/lives.py is the
oracle. TEST_AZURE_URL and AZURE_STORAGE_CONNECTION_STRING name the container (tests/azurite/with-azurite.sh).

The last line is "runs N lost L wrong W hung H leaked K"; status 0 when the last four are 0.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile

from lives import DURABLE, REPLICATED, Job, prepare_environment

KINDS = ("lost", "wrong", "hung", "leaked")
PLACES = ("drain.begin", "drain.read", "drain.shard", "drain.pack", "drain.part", "drain.manifest", "object_azure_whole",
          "object_azure_block", "object_azure_commit", "http.request", "http.body", "claim.take", "retention.object")
SLOWLY = "drain.shard=delay:60,drain.pack=delay:60,drain.part=delay:60,drain.manifest=delay:60,object_azure_block=delay:40"
RANKS = 3
OF_A_JOB = 5
STORES = int(os.environ.get("DRAIN_KILLS_STORES", "3"))


class Killer:
    """One job, killed again and again."""

    def __init__(self, seed, number, directory):
        self.random = random.Random(f"{seed}/{number}")
        self.words = self.random.choice((200, 40000, 1200000))
        self.job = Job(os.path.join(directory, f"job-{number}"), RANKS, 1, job=f"kills-{seed}-{number}")
        self.job.environment = {"DCACHE_STORE_KEEP_LAST": "3", "DCACHE_LOG": "error", "DCACHE_CLOSE_TIMEOUT": "1s"}
        self.stores = 1
        self.choose_stores()
        self.tool = [os.path.join(self.job.bin, "dcache")]
        self.step = self.tool_kills = self.tool_runs = 0

    def choose_stores(self):
        """What was stored is in some of them, so none is ever left out again."""
        self.stores = self.random.randint(self.stores, STORES)
        home = os.environ["TEST_AZURE_URL"]
        others = [f"{home}/stripe-{number}" for number in range(1, self.stores)]
        self.random.shuffle(others)
        self.job.environment["DCACHE_STORE"] = " ".join([home] + others)

    def deadly(self):
        """A kill somewhere in a drain, or only time for one."""
        if self.random.random() < 0.3:
            return SLOWLY
        return f"{SLOWLY},{self.random.choice(PLACES)}=kill#{self.random.choice((1, 1, 2, 3, 5, 8))}"

    def one_life(self):
        lines = [f"words {self.words}", "open", "restart", f"env DCACHE_FAILPOINTS {self.deadly()}"]
        for _ in range(self.random.randint(1, 4)):
            self.step += 1
            lines += [self.job.take(self.step)] + self.random.choice(([], [], [f"wait {self.step} 3"]))
        lines += [f"wait {self.step} 3"]
        self.job.live(lines, stop_after=self.random.uniform(1.0, 6.0))

    def drain(self, failpoints, seconds):
        environment = self.job.settings()
        environment["DCACHE_FAILPOINTS"] = failpoints
        command = self.tool + ["drain", "--job", self.job.job, "--memory-store", self.job.memory]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        self.tool_runs += 1
        try:
            output, _ = process.communicate(timeout=seconds or self.job.deadline_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            if seconds is None:
                self.job.fault("hung", f"dcache drain: {output}")
        self.tool_kills += process.returncode == -9
        return process.returncode, output

    def drain_with_kills(self):
        for _ in range(self.random.randint(0, 3)):
            self.drain(self.deadly(), self.random.uniform(0.02, 1.0))
        status, output = self.drain("", None)
        newest = self.job.required()
        if status == 3 and (newest is None or newest.level >= DURABLE): # killed before it had anything new
            return
        if status != 0:
            self.job.fault("wrong", f"dcache drain ended with status {status}: {output}")
        if newest is not None and newest.level >= REPLICATED: # all shards of it are here
            newest.level = DURABLE

    def lose_all(self):
        shutil.rmtree(self.job.memory, ignore_errors=True)
        self.job.lost_all_nodes()

    def run(self):
        self.choose_stores()
        self.one_life()
        self.choose_stores()
        self.drain_with_kills()
        self.lose_all()

    def finish(self):
        """A last restart, which nothing is in the way of, and a look at every byte that is stored."""
        self.job.live([f"words {self.words}", "open", "restart", self.job.take(self.step + 1), f"wait {self.step + 1} 3", "close"])
        command = self.tool + ["verify", "--job", self.job.job, "--memory-store", os.path.join(self.job.directory, "none")]
        done = subprocess.run(command, env=self.job.settings(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            self.job.fault("wrong", f"dcache verify: {done.stdout}{done.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory")
    arguments = parser.parse_args()
    prepare_environment()
    directory = arguments.directory or tempfile.mkdtemp(prefix="dcache-kills-")
    killers = []
    for first in range(0, arguments.runs, OF_A_JOB):
        killer = Killer(arguments.seed, first // OF_A_JOB, directory)
        killers.append(killer)
        for _ in range(first, min(first + OF_A_JOB, arguments.runs)):
            killer.run()
            if killer.job.faults:
                break
        else:
            killer.finish()
        for kind, text in killer.job.faults:
            print(f"job {first // OF_A_JOB}: {kind}: {text}", flush=True)
    faults = [kind for killer in killers for kind, _ in killer.job.faults]
    counts = {kind: faults.count(kind) for kind in KINDS}
    if not any(counts.values()) and not arguments.directory:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"in {directory}")
    print(f"{sum(killer.job.kills for killer in killers)} lives of jobs and {sum(killer.tool_kills for killer in killers)} "
          f"of {sum(killer.tool_runs for killer in killers)} dcache drains were killed, "
          f"{sum(len(killer.job.attempts) for killer in killers)} checkpoints taken")
    print(f"runs {arguments.runs} " + " ".join(f"{kind} {count}" for kind, count in counts.items()))
    return 1 if any(counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
