#!/usr/bin/env python3
"""Environments that turn against a job, each judged by the oracle of lives.py; `hostile.py DIRECTORY [CASE...]`.

Out of descriptors or memory on one rank, a store that cannot be written, clocks that jump by a day, a drainer that is
stopped for longer than every timeout, a store that a newer version has written.
"""
import os
import re
import struct
import subprocess
import sys

from lives import Job, read_log

RANKS = 3


def new_job(root, name, environment=None):
    return Job(os.path.join(root, name), RANKS, 1, environment)


def is_sanitized():
    with open(os.path.join(os.environ["TEST_BUILD_DIR"], "CMakeCache.txt"), encoding="utf-8") as cache:
        return re.search(r"^DCACHE_SANITIZE:\w+=ON$", cache.read(), re.M) is not None


def texts(job):
    base = os.path.join(job.directory, f"life-{job.lives}.log")
    return [line for rank in range(job.ranks) for line in read_log(f"{base}.{rank}") if line.startswith("text ")]


def last_output(job):
    with open(os.path.join(job.directory, f"life-{job.lives}.out"), encoding="utf-8", errors="replace") as output:
        return output.read()


def statuses(job, command):
    log = read_log(os.path.join(job.directory, f"life-{job.lives}.log.0"))
    return [int(line.split()[1]) for line in log if line.startswith("< ") and line.split(" ", 2)[2].startswith(command)]


def expect(job, truth, text):
    if not truth:
        job.fault("wrong", f"{text}: {texts(job)[:3]}, {last_output(job)[-400:]}")


def case_descriptors(root):
    """One rank has 0 to 8 descriptors left, in every call."""
    job = new_job(root, "descriptors")
    lines = ["open", "restart", job.take(1), "close"]
    for left in range(0, 9):
        lines += [f"limit files {left} 1", "open", "restart", job.take(2 + left), "close", "limit files -1 1"]
    lines += ["open", "restart", job.take(20), "restart", "close"]
    expect(job, job.live(lines), "it dies without descriptors")
    expect(job, min(statuses(job, "open")) < 0, "no open has failed: nothing was tried")
    expect(job, statuses(job, "take 20") == [0], "no checkpoint after the limit has gone")
    return job


def case_memory(root):
    """One rank may have no more addresses than it has, or a little more."""
    job = new_job(root, "memory")
    if is_sanitized():
        print("memory: not tried, sanitizers need addresses without end")
        return job
    lines = ["open", "restart", job.take(1), "close"]
    for step, kib in enumerate((0, 200, 1000, 3000, 20000)):
        lines += ["open", "restart", f"limit memory {kib} 1", job.take(2 + 2 * step), "restart",
                  job.take(3 + 2 * step, "begin"), "wait last 2", "limit memory -1 1", "close"]
    lines += ["open", "restart", job.take(20), "restart", "close"]
    expect(job, job.live(lines), "it dies without memory")
    expect(job, min(statuses(job, "take")) < 0, "no checkpoint has failed: nothing was tried")
    expect(job, statuses(job, "take 20") == [0], "no checkpoint after the limit has gone")
    return job


def mount(*arguments):
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


def case_read_only(root):
    """The node stores' file system has become read-only between two launches; and is writable again."""
    job = new_job(root, "readonly")
    os.makedirs(job.memory, mode=0o700)
    if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", job.memory):
        print("read-only: not tried, nothing can be mounted here")
        return job
    try:
        job.live(["open", job.take(1), "wait last 3", "close"])
        mount("-o", "remount,ro", job.memory)
        job.live(["open"])
        expect(job, statuses(job, "open")[0] < 0 and "Read-only" in last_output(job), "no open was refused")
        mount("-o", "remount,rw", job.memory)
        job.live(["open", "restart", job.take(2), "close"])
        expect(job, statuses(job, "take") == [0], "no checkpoint after it was writable again")
    finally:
        subprocess.run(["umount", "-l", job.memory], check=False)
    return job


def case_clock(root):
    """The wall clock jumps by a day, forwards and back, between launches and under a running job. What is newest must
    not be decided by it, and nothing may wait for a day."""
    job = new_job(root, "clock")
    library = os.path.join(job.bin, "clock_jump.so")
    offset = os.path.join(job.directory, "offset")
    if not os.path.exists(library):
        print("clock: not tried, nothing can be preloaded in this build")
        return job
    job.wrapper = ["env", f"LD_PRELOAD={library}", f"CLOCK_JUMP_FILE={offset}"] # and not for mpirun

    def jump(seconds):
        return f"sh echo {seconds} > {offset}"
    for launch, seconds in enumerate((0, -86400, 86400, 0, -86400)):
        first = 10 * launch
        with open(offset, "w", encoding="ascii") as file:
            file.write(str(seconds))
        job.live(["open", "restart", "test last", job.take(first + 1), jump(-seconds - 3600), job.take(first + 2),
                  "wait last 3", jump(86400), job.take(first + 3, "begin"), "wait last 2", jump(-86400),
                  job.take(first + 4), "wait last 3", "restart", "close"])
        expect(job, statuses(job, "wait") == [0, 0, 0], "a step did not get its level")
    return job


def case_stopped(root):
    """Each rank in turn is stopped, with its drain, for longer than all timeouts."""
    url = os.environ.get("TEST_AZURE_URL")
    job = new_job(root, "stopped", {"DCACHE_STORE_TIMEOUT": "1s", "DCACHE_STORE_STALL": "500ms",
                                    "DCACHE_CLOSE_TIMEOUT": "30s"})
    job.environment["DCACHE_STORE"] = url or job.environment.get("DCACHE_STORE", "file://" + job.objects)
    lines = ["open", "restart"]
    for rank in range(RANKS):
        lines += [job.take(2 * rank + 1), f"stop 2500 {rank}", job.take(2 * rank + 2), "wait last 3"]
    job.live(lines + ["close"])
    expect(job, statuses(job, "take") == [0] * 2 * RANKS, "a checkpoint has failed")
    expect(job, statuses(job, "wait")[-1:] == [0], "the last step is not durable")
    return job


def crc64(data):
    crc = 0xffffffffffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return crc ^ 0xffffffffffffffff


def make_newer(path):
    """The header says that a format came which we do not know, with a good digest (docs/formats.md)."""
    with open(path, "r+b") as file:
        fixed = bytearray(file.read(256))
        struct.pack_into("<I", fixed, 8, 99)
        struct.pack_into("<Q", fixed, 16, 0)
        struct.pack_into("<Q", fixed, 16, crc64(bytes(fixed)))
        file.seek(0)
        file.write(fixed)


def case_newer(root):
    """A newer version's node stores are refused with a sentence, also when the object store has an older step."""
    job = new_job(root, "newer")
    job.live(["open", job.take(1), "wait last 3", job.take(2), "close"])
    for store in job.node_stores():
        for name in os.listdir(store):
            if name.endswith(".h5"):
                make_newer(os.path.join(store, name))
    for attempt in job.attempts.values(): # nobody can read them
        attempt.excused = True
    job.live(["open", "restart"])
    told = " ".join(texts(job)) + last_output(job)
    refused = statuses(job, "restart")[0] == -11 and "format version 99" in told and "newer" in told
    expect(job, refused, "it was not refused in words")
    return job


CASES = {"descriptors": case_descriptors, "memory": case_memory, "read-only": case_read_only, "clock": case_clock,
         "stopped": case_stopped, "newer": case_newer}


def main():
    root = sys.argv[1]
    failed = 0
    for name in sys.argv[2:] or CASES:
        job = CASES[name](root)
        print(f"{name}: {job.lives} lives, {len(job.attempts)} saves, {len(job.faults)} faults", flush=True)
        for kind, text in job.faults:
            print(f"  {kind}: {text}", flush=True)
        failed += len(job.faults)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
