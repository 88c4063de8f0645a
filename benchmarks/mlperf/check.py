#!/usr/bin/env python3
"""Check results of mlperf-checkpoint: check.py DIRECTORY ..., or check.py --list MODEL < TABLE

Recomputes, from the definition of the workload and from every rank's raw times (ranks.json), what summary.json and the
RANK_per_epoch_stats.json say: bytes per rank, names of files, means, deviations, rates. Shares no code with the program.
"""
import argparse
import json
import math
import os
import statistics
import sys
from datetime import datetime

GIB = 1 << 30
VOCABULARY = 128256
# name: layers, hidden, ffn, heads, kv heads, TP, PP, DP, ZeRO
MODELS = {
    "llama3-8b": (32, 4096, 14336, 32, 8, 1, 1, 8, 3),
    "llama3-70b": (80, 8192, 28672, 128, 8, 8, 1, 8, 3),
    "llama3-405b": (126, 16384, 53248, 128, 8, 8, 32, 2, 1),
    "llama3-1t": (128, 25872, 98304, 192, 32, 8, 64, 2, 1),
}


class Wrong(Exception):
    """What is not as it should be, in words."""


def expect(condition, text):
    if not condition:
        raise Wrong(text)


def tensors(model, layer):
    """Bytes of the tensors of one layer that one rank holds."""
    layers, h, ffn, heads, kv, tp, _, dp, zero = MODELS[model]
    split = dp if zero == 3 else 1
    wide = h + 2 * (h // heads * kv)
    if layer in (0, layers + 1):
        elements = [h * VOCABULARY // tp // split]
    elif layer == layers + 2:
        elements = [h // split]
    else:
        elements = [h // split, h * wide // tp // split, h * h // tp // split, h // split,
                    2 * h * ffn // tp // split, h * ffn // tp // split]
    return 2 * sum(elements)


def layers_of(model, stage):
    """The layers of a pipeline stage, counted one by one."""
    layers, stages = MODELS[model][0], MODELS[model][6]
    owner = []
    for s in range(stages):
        owner += [s] * (layers // stages + (s < layers % stages))
    mine = [layer + 1 for layer, s in enumerate(owner) if s == stage]
    return ([0] if stage == 0 else []) + mine + ([layers + 1, layers + 2] if stage == stages - 1 else [])


def files_of(model, rank):
    """(name, bytes) of all files of a rank."""
    layers, h, ffn, heads, kv, tp, pp, dp, zero = MODELS[model]
    stage, replica, mp = rank // tp % pp, rank // (tp * pp), rank % (tp * pp)
    per_layer = 2 * h + h * (h + 2 * (h // heads * kv)) + h * h + 3 * h * ffn
    parameters = 2 * VOCABULARY * h + layers * per_layer + h
    if zero == 3:
        total = sum(tensors(model, layer) for layer in layers_of(model, stage))
        files = [(f"zero_pp_rank_{replica}_mp_rank_{mp}_model_states.pt", total)]
    elif replica == 0:
        files = [(f"layer_{i}-model_{mp}_model_states.pt", tensors(model, i)) for i in layers_of(model, stage)]
    else:
        files = []
    optimizer = 12 * (parameters // (tp * pp * dp)) + 60 * h
    return files + [(f"zero_pp_rank_{replica}_mp_rank_{mp}_optim_states.pt", optimizer)]


def ranks_of(model):
    return math.prod(MODELS[model][5:8])


def scaled_bytes(model, rank, scale):
    return sum(size // scale for _, size in files_of(model, rank))


def close(a, b, what, tolerance=1e-9):
    expect(math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-12), f"{what}: {a}, and it should be {b}")


def load(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        return json.load(file)


def check_bytes(times, summary):
    model, scale = times["model"], times["scale"]
    ranks = 8 if times["subset"] else ranks_of(model)
    expect(len(times["bytes_per_rank"]) == summary["num_accelerators"] == ranks, f"{ranks} ranks are expected")
    for rank, size in enumerate(times["bytes_per_rank"]):
        expect(size == scaled_bytes(model, rank, scale), f"bytes of rank {rank}: {size}")
    total = sum(times["bytes_per_rank"])
    close(summary["metric"]["checkpoint_size_GB"], total / GIB, "checkpoint_size_GB")
    return total / GIB


def select(times, kind, source, mark, reduce):
    """The times of the operations of a kind that were measured, of one rank or another."""
    found = []
    for operation in times["operations"]:
        values = operation["seconds"].get(mark)
        if operation["kind"] == kind and (kind == "save" or operation["source"] == source) and None not in values:
            found.append(reduce(values))
    return found


def check_metric(values, size, get, what):
    rates = [size / value for value in values]
    for name, expected in (("rate_mean", statistics.fmean(rates)), ("rate_stdev", statistics.pstdev(rates)),
                           ("seconds_mean", statistics.fmean(values)), ("seconds_stdev", statistics.pstdev(values))):
        close(get(name), expected, f"{what} {name}", 1e-6)


def check_official(times, summary, size):
    keys = {"rate_mean": "io_mean_GB_per_second", "rate_stdev": "io_stdev_GB_per_second",
            "seconds_mean": "duration_mean_seconds", "seconds_stdev": "duration_stdev_seconds"}
    for kind in "save", "load":
        values = select(times, kind, times["load_source"], times[f"{kind}_mark"], lambda all_ranks: all_ranks[0])
        metric = {name: summary["metric"].get(f"{kind}_checkpoint_{key}") for name, key in keys.items()}
        expect(bool(values) != (None in metric.values()), f"{kind}: there are {len(values)} operations, and {metric}")
        if values:
            check_metric(values, size, metric.get, kind)


def check_beyond(times, summary, size):
    beyond = summary["unofficial"]
    keys = {"rate_mean": "GiB_per_second_mean", "rate_stdev": "GiB_per_second_stdev",
            "seconds_mean": "seconds_mean", "seconds_stdev": "seconds_stdev"}
    groups = [("save", None, beyond["save"])] + [("load", source, marks) for source, marks in beyond["load"].items()]
    for kind, source, marks in groups:
        expect(marks, f"{kind} {source}: nothing was measured")
        for mark, both in marks.items():
            for who, reduce in (("rank_0", lambda all_ranks: all_ranks[0]), ("slowest_rank", max)):
                values = select(times, kind, source, mark, reduce)
                expect(both[who]["count"] == len(values) > 0, f"{kind} {source} {mark}: count")
                check_metric(values, size, lambda name, told=both[who]: told[keys[name]], f"{kind} {source} {mark}")


def check_rank(directory, times, rank, size):
    epoch = load(directory, f"{rank}_per_epoch_stats.json")["1"]
    expected = {"start", "end", "duration"}
    for operation in times["operations"]:
        kind = operation["kind"]
        if kind == "load" and operation["source"] != times["load_source"]:
            continue
        key = f"{kind}_ckpt{operation['number']}"
        expected.add(key)
        told, seconds = epoch[key], operation["seconds"][times[f"{kind}_mark"]][rank]
        expect(set(told) == {"start", "end", "duration", "throughput"}, f"rank {rank} {key}: {sorted(told)}")
        close(told["duration"], seconds, f"rank {rank} {key} duration")
        close(told["throughput"], size / seconds, f"rank {rank} {key} throughput", 1e-6)
        span = datetime.fromisoformat(told["end"]) - datetime.fromisoformat(told["start"])
        expect(abs(span.total_seconds() - seconds) < 1e-4, f"rank {rank} {key}: from start to end")
    expect(set(epoch) == expected, f"rank {rank}: keys {sorted(set(epoch) ^ expected)}")


def check_layout(directory, summary):
    keys = {"start", "end", "num_accelerators", "num_hosts", "hostname", "metric", "host_memory_GB", "host_cpu_count",
            "epochs", "note", "unofficial"}
    expect(set(summary) == keys, f"summary.json: keys {sorted(set(summary) ^ keys)}")
    for name in "host_memory_GB", "host_cpu_count":
        expect(len(summary[name]) == summary["num_hosts"], f"{name}: one for each host")
    expect(summary["note"] == "MLPerf-Storage-shaped, unofficial", "summary.json: note")
    parts = os.path.abspath(directory).split(os.sep)
    expect(parts[-3] == "checkpointing" and parts[-2] == summary["unofficial"]["model"], f"{directory}: its place")
    datetime.strptime(parts[-1], "%Y%m%d_%H%M%S")


def check_directory(directory):
    summary, times = load(directory, "summary.json"), load(directory, "ranks.json")
    check_layout(directory, summary)
    expect(summary["unofficial"]["scale"] == times["scale"] >= 1, "scale")
    size = check_bytes(times, summary)
    check_official(times, summary, size)
    check_beyond(times, summary, size)
    for rank in range(summary["num_accelerators"]):
        check_rank(directory, times, rank, size)
    print(f"{directory}: {summary['num_accelerators']} ranks, {len(times['operations'])} operations, all sums right")


def check_list(model, lines):
    """The table of mlperf-checkpoint --list: every file of every rank."""
    told = [line.split() for line in lines if not line.startswith("#")]
    scale = int(lines[0].rsplit("1/", 1)[1])
    ranks = 1 + int(told[-1][0])
    expect(ranks in (8, ranks_of(model)), f"{ranks} ranks")
    expected = [[str(rank), str(size // scale), name] for rank in range(ranks) for name, size in files_of(model, rank)]
    expect(told == expected, f"{model}: the table differs, {len(told)} lines and {len(expected)} expected")
    expect(len({name for _, _, name in told}) == len(told), f"{model}: a name is there twice")
    total = sum(int(size) for _, size, _ in told)
    expect(lines[-1].split()[1:4] == [str(len(told)), "files,", str(total)], f"{model}: last line {lines[-1]}")
    print(f"{model}: {ranks} ranks, {len(told)} files, {total} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directories", nargs="*", metavar="DIRECTORY")
    parser.add_argument("--list", metavar="MODEL", choices=MODELS, help="check the table on standard input instead")
    arguments = parser.parse_args()
    try:
        if arguments.list:
            check_list(arguments.list, sys.stdin.read().splitlines())
        for directory in arguments.directories:
            check_directory(directory)
    except (Wrong, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        sys.exit(f"check.py: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
