"""Jobs that die and are launched again, and an oracle that knows every value written and every level reported.

A job has lives: runs of bin/program_script under mpirun, which may be killed. Each rank writes down what it does; the
oracle reads it and says what docs/design.md forbids: a wrong byte, ranks that come to different statuses, a step older
than what was reported, something that hangs, something left behind.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STAGED, REPLICATED, DURABLE = 1, 2, 3
OK, NOT_FOUND = 0, 1
COLLECTIVE = ("open", "take", "begin", "wait", "test", "restart", "close")
NODE_FILES = re.compile(r"(own|replica)-(\d+)-(\d+)\.h5|lock|run\.json|plan\.json|\.(run|plan)\.json\.tmp")
OBJECTS = re.compile(r"\d+/(shard-\d+-\d+\.h5(\.zst)?(\.aes)?|part-[\w.-]+\.json|pack-[\w.-]+|manifest\.json)|claim\.json|(\d+/)?\.dcache~\w+")


class Attempt:
    """One call that was to save `step`; its values were made from `tag`, which no other attempt has."""

    def __init__(self, step, tag, order):
        self.step, self.tag, self.order = step, tag, order
        self.level = 0        # the highest that any rank was told
        self.losses = 0       # of nodes, since REPLICATED was told last
        self.failed = False   # told so on every rank: the step does not exist
        self.excused = False  # it need not be there: spoilt on purpose in all copies, given up, its slot taken

    def must_survive(self):
        if self.excused:
            return False
        return (self.level >= DURABLE or (self.level == REPLICATED and self.losses <= 1) or
                (self.level == STAGED and self.losses == 0))


class Job:
    """`faults` is what the oracle has found, a list of (kind, text); kinds are lost, wrong, hung and leaked."""

    def __init__(self, directory, ranks, node_size, environment=None, job="faulty"):
        self.directory, self.ranks, self.node_size, self.job = directory, ranks, node_size, job
        self.environment = dict(environment or {})
        self.bin = os.path.join(os.environ["TEST_BUILD_DIR"], "bin")
        self.memory = os.path.join(directory, "memory")
        self.objects = os.path.join(directory, "objects")
        self.ssd = os.path.join(directory, "ssd")
        self.attempts, self.faults, self.lives = {}, [], 0
        self.next_tag = 1
        self.current, self.last_step = {}, 0 # step: the attempt that a level of it is about
        self.kills = 0
        self.preamble = [] # of each script
        self.wrapper = [] # in front of the program
        self.deadline_s = 240 * float(os.environ.get("FAULT_PATIENCE", "1"))
        os.makedirs(directory, exist_ok=True)

    # --- What the script of a life is made of ------------------------------------------------------------------------

    def take(self, step, verb="take"):
        self.next_tag += 1
        return f"{verb} {step} {self.next_tag}"

    @property
    def nodes(self):
        return (self.ranks + self.node_size - 1) // self.node_size

    def newest_step(self):
        return max((a.step for a in self.attempts.values()), default=0)

    # --- One life ----------------------------------------------------------------------------------------------------

    def settings(self):
        environment = dict(os.environ)
        environment.update({"DCACHE_JOB": self.job, "DCACHE_MEMORY_STORE": self.memory,
                            "DCACHE_STORE": "file://" + self.objects, "DCACHE_NODE_SIZE": str(self.node_size),
                            "OMPI_MCA_btl_vader_backing_directory": self.directory,
                            "OMPI_MCA_orte_tmpdir_base": self.directory})
        environment.update(self.environment)
        return environment

    def live(self, lines, stop_after=None):
        """Run a script to its end, or until `stop_after` seconds, when all of it is killed; True: it got to its end."""
        self.lives += 1
        base = os.path.join(self.directory, f"life-{self.lives}")
        with open(base + ".script", "w", encoding="utf-8") as script:
            script.write("\n".join(self.preamble + lines) + "\n")
        command = ["mpirun", "-np", str(self.ranks), *self.wrapper, os.path.join(self.bin, "program_script"), base + ".script",
                   base + ".log"]
        with open(base + ".out", "wb") as output:
            process = subprocess.Popen(command, env=self.settings(), stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT, start_new_session=True)
            try:
                status = process.wait(stop_after if stop_after is not None else self.deadline_s)
            except subprocess.TimeoutExpired:
                status = None
        end_session(process)
        if status is None and stop_after is None:
            self.fault("hung", f"life {self.lives} has not ended after {self.deadline_s:.0f} s; " + self.last_words(base))
        self.kills += status != 0
        self.judge([read_log(f"{base}.log.{rank}") for rank in range(self.ranks)], status == 0)
        if status not in (0, None, 137, 205) and not self.was_killed(base):
            self.fault("wrong", f"life {self.lives} ended with status {status}; " + self.last_words(base))
        return status == 0

    def was_killed(self, base):
        with open(base + ".out", encoding="utf-8", errors="replace") as output:
            return "signal 9" in output.read()

    def last_words(self, base):
        words = []
        for rank in range(self.ranks):
            log = read_log(f"{base}.log.{rank}")
            words.append(f"rank {rank}: {log[-1] if log else '-'}")
        with open(base + ".out", encoding="utf-8", errors="replace") as output:
            return "; ".join(words) + "; " + output.read()[-600:]

    def fault(self, kind, text):
        self.faults.append((kind, text))

    # --- Damage ------------------------------------------------------------------------------------------------------

    def node_stores(self):
        root = os.path.join(self.memory, self.job)
        return sorted(os.path.join(root, name) for name in os.listdir(root)) if os.path.isdir(root) else []

    def lose_node(self, index):
        stores = self.node_stores()
        if stores:
            shutil.rmtree(stores[index % len(stores)], ignore_errors=True)
        self.lost_a_node()

    def lost_a_node(self):
        for attempt in self.attempts.values():
            attempt.losses += 1

    def lost_all_nodes(self):
        for attempt in self.attempts.values():
            attempt.losses += 2

    # --- The oracle --------------------------------------------------------------------------------------------------

    def required(self):
        """The newest attempt that must still be there, or None."""
        there = [a for a in self.attempts.values() if a.must_survive()]
        return max(there, key=lambda a: a.order, default=None)

    def judge(self, logs, ended):
        steps = [commands_of(log) for log in logs]
        self.limited = False # by "limit": restarts may fail
        failpoints = ""
        for i in range(max((len(s) for s in steps), default=0)):
            here = [s[i] if i < len(s) else None for s in steps]
            line = next(c for c in here if c)["line"]
            words = line.split()
            if any(c and c["line"] != line for c in here):
                return self.fault("wrong", f"life {self.lives}: the ranks are at different commands: {line}")
            if words[0] == "env" and words[1] == "DCACHE_FAILPOINTS":
                failpoints = words[2] if len(words) > 2 else ""
            if words[0] == "limit":
                self.limited = not words[2].startswith("-")
            statuses = [c["status"] for c in here if c and c["status"] is not None]
            if words[0] in COLLECTIVE and len(set(statuses)) > 1:
                self.fault("wrong", f"life {self.lives}: {line}: statuses {statuses}")
            everyone = len(statuses) == self.ranks
            self.learn(words, statuses, everyone, here, failpoints)
        if ended and any(not log or log[-1] != "end" for log in logs):
            self.fault("wrong", f"life {self.lives}: it ended well, but not for every rank")
        self.judge_process(logs)

    def learn(self, words, statuses, everyone, here, failpoints):
        status = statuses[0] if statuses else None
        if words[0] in ("take", "begin"):
            self.let_go_of_older()
            attempt = Attempt(int(words[1]), int(words[2]), len(self.attempts))
            self.attempts[attempt.tag] = attempt
            attempt.failed = everyone and status != OK
            attempt.excused = "checkpoint.data=corrupt" in failpoints
            if status == OK:
                attempt.level = REPLICATED if words[0] == "take" and self.nodes > 1 else STAGED
            if not attempt.failed:
                self.current[attempt.step] = attempt
            self.last_step = attempt.step
        elif words[0] == "wait" and status == OK:
            self.raise_level(words[1], int(words[2]))
        elif words[0] == "test" and status == OK:
            self.raise_level(words[1], max(c["level"] for c in here if c and c["level"] is not None))
        elif words[:2] == ["say", "lost"] and status == OK:
            self.lost_all_nodes()
        elif words[0] == "restart":
            self.judge_restart(words, status, here, failpoints)

    def let_go_of_older(self):
        """A new attempt may take any slot but that of the newest step that is there, whatever levels others have."""
        told = [a for a in self.attempts.values() if a.level > 0 and not a.excused and not a.failed]
        newest = max((a.order for a in told), default=0)
        for attempt in told:
            attempt.excused = attempt.level < DURABLE and attempt.order < newest

    def raise_level(self, step, level):
        attempt = self.current.get(self.last_step if step == "last" else int(step))
        if attempt is None:
            return self.fault("wrong", f"life {self.lives}: step {step} has level {level}, but nobody took it")
        attempt.level = max(attempt.level, level)
        if level >= REPLICATED:
            attempt.losses = 0
        return None

    def judge_restart(self, words, status, here, failpoints):
        where = f"life {self.lives}: {' '.join(words)}" + (f" with {failpoints}" if failpoints else "")
        restored = {c["restored"] for c in here if c and c["restored"]}
        need = self.required()
        if any(c and c["although"] for c in here):
            self.fault("wrong", f"{where}: the memory was written although the restart failed")
        if not restored:
            if status is not None and need is not None and not failpoints and not self.limited and len(words) == 1:
                text = next((c["text"] for c in here if c and c["text"]), "")
                self.fault("lost", f"{where}: status {status}, and step {need.step} (tag {need.tag}) was reported: {text}")
            return
        if len(restored) > 1 or "BAD" in next(iter(restored)):
            return self.fault("wrong", f"{where}: {sorted(restored)}")
        step, tag, _ = next(iter(restored)).split()
        attempt = self.attempts.get(int(tag))
        if attempt is None or attempt.step != int(step):
            return self.fault("wrong", f"{where}: step {step} with tag {tag}, which nobody took")
        if len(words) > 1 and words[1] != step:
            self.fault("wrong", f"{where}: step {step}")
        if attempt.failed:
            self.fault("wrong", f"{where}: step {step} (tag {tag}), of which every rank was told that it failed")
        if need is not None and attempt.order < need.order and not failpoints and len(words) == 1:
            self.fault("lost", f"{where}: step {step} (tag {tag}); step {need.step} (tag {need.tag}, level {need.level}) "
                               "was reported")
        self.current[attempt.step], self.last_step = attempt, attempt.step
        for other in self.attempts.values(): # what was given up for it may be overwritten now
            other.excused = other.excused or other.order > attempt.order

    # --- What is left behind -----------------------------------------------------------------------------------------

    def judge_process(self, logs):
        for rank, log in enumerate(logs):
            seen = [tuple(int(n) for n in line.split()[1:]) for line in log if line.startswith("process ")]
            seen = [one for one in seen if one[0] > 0] # it could look
            if len(seen) > 2 and (seen[-1][0] > seen[1][0] + 2 or seen[-1][1] > seen[1][1] + 1):
                self.fault("leaked", f"life {self.lives}, rank {rank}: descriptors, threads, KiB after closing: "
                                     f"{seen[1]}, later {seen[-1]}")

    def judge_files(self, slots=2):
        """What is in the stores after a job has ended well."""
        names = {}
        for store in self.node_stores():
            for name in os.listdir(store):
                match = NODE_FILES.fullmatch(name)
                if match is None or name.startswith(".") or (match[3] and int(match[3]) >= slots):
                    self.fault("leaked", f"{store}/{name}")
                elif match[1]:
                    names.setdefault((match[1], match[2]), []).append(match[3])
        for (kind, rank), held in names.items():
            if len(held) > slots or int(rank) >= self.ranks:
                self.fault("leaked", f"{kind} slots {held} of rank {rank}")
        root = os.path.join(self.objects, self.job)
        for folder, _, files in os.walk(root):
            for name in files:
                key = os.path.relpath(os.path.join(folder, name), root)
                if OBJECTS.fullmatch(key) is None or (".dcache~" in key and self.kills == 0):
                    self.fault("leaked", f"object {key}")
                elif key == "claim.json":
                    self.judge_claim(os.path.join(folder, name))

    def judge_claim(self, path):
        """Given back, for the last life ended well."""
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if '"released"' not in text:
            self.fault("leaked", f"the claim: {text}")


def end_session(process):
    """No rank outlives its life. mpirun leaves them in its session, in groups of their own."""
    for _ in range(200):
        pids = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if session_of(pid) == process.pid]
        if process.poll() is not None and not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    process.wait()


def session_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return int(fields[3]) if fields[0] != "Z" else None
    except (OSError, IndexError):
        return None


def read_log(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return log.read().splitlines()
    except FileNotFoundError:
        return []


def commands_of(log):
    commands = []
    for line in log:
        kind, _, rest = line.partition(" ")
        if kind == ">":
            commands.append({"line": rest, "status": None, "restored": "", "although": False, "level": None, "text": ""})
        elif not commands:
            continue
        elif kind == "<":
            commands[-1]["status"] = int(rest.split()[0])
        elif kind == "restored":
            commands[-1]["restored"] = rest if not rest.startswith("although") else ""
            commands[-1]["although"] = rest.startswith("although")
        elif kind in ("level", "text"):
            commands[-1][kind] = int(rest) if kind == "level" else rest
    return commands


def prepare_environment():
    """For programs that are run by hand, and not by tests/tools/run-test.sh."""
    build = os.environ.setdefault("TEST_BUILD_DIR", os.path.join(TREE, "build", "test"))
    for name in [name for name in os.environ if name.startswith("DCACHE_")]:
        del os.environ[name]
    for name, value in (("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
                        ("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("OMPI_MCA_hwloc_base_binding_policy", "none"),
                        ("OMPI_MCA_mpi_yield_when_idle", "1")):
        os.environ.setdefault(name, value)
    if not os.path.exists(os.path.join(build, "bin", "program_script")):
        sys.exit(f"no test programs in {build}: build with -DDCACHE_BUILD_TESTS=ON "
                 "-DDCACHE_FAILPOINTS=ON, or set TEST_BUILD_DIR")
