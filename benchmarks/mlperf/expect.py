#!/usr/bin/env python3
"""What a run at full size should take, from link rates, memory and the store's limits, beside what it took.

  expect.py MODEL MACHINE [--measured RESULTS]   a table in Markdown; RESULTS has the summary.json of a run
  expect.py --recipes DIRECTORY                  write the sbatch files of all models and machines

The slowest of memory, cores, link and account decides, and nothing is lost between them. What a core copies and digests
is an assumption, all else from documents of the machines. Where a run is far from it, it lost there.
"""
import argparse
import json
import os
import sys

sys.dont_write_bytecode = True  # nothing is written where the source is
import check

GIB = 1 << 30
SLOTS = 2  # steps that node stores keep
CORE_RATE = 5e9  # bytes/s that one core copies and digests: an assumption; bench-checkpoint measures it
INGRESS, EGRESS = 60e9 / 8, 200e9 / 8  # bytes/s of one storage account in large regions
SHARE = 0.9  # of a node's memory that may be used

# Azure's documents: HBv4-series size and performance pages (768 GB, STREAM triad 750-780 GB/s, 400 Gb/s InfiniBand, 80
# Gb/s Ethernet); ND-H100-v5-series (1900 GiB, 8 x 400 Gb/s InfiniBand, 80 Gb/s Ethernet; memory: 2 sockets x 8 channels
# of DDR5-4800, peak). Accounts: "Scalability and performance targets for standard storage accounts" (60 Gbps in, 200 out;
# 25 and 50 in other regions).
MACHINES = {
    "hbv4": {"name": "Standard_HB176rs_v4", "memory": 768e9, "stream": 750e9, "fabric": 400e9 / 8, "ethernet": 80e9 / 8},
    "ndh100v5": {"name": "Standard_ND96isr_H100_v5", "memory": 1900 * GIB, "stream": 614e9, "fabric": 8 * 400e9 / 8,
                 "ethernet": 80e9 / 8},
}


def node_bytes(model, ranks_per_node):
    """Bytes of the node that has most, and of all."""
    sizes = [check.scaled_bytes(model, rank, 1) for rank in range(check.ranks_of(model))]
    nodes = [sum(sizes[first:first + ranks_per_node]) for first in range(0, len(sizes), ranks_per_node)]
    return max(nodes), sum(sizes)


def layout(model, machine):
    """(nodes, ranks per node): as many ranks as memory allows, at most 8 (one for each GPU), on two nodes at least."""
    ranks = check.ranks_of(model)
    for per_node in (8, 4, 2, 1):
        most, _ = node_bytes(model, per_node)
        if ranks // per_node >= 2 and most * (1 + 2 * SLOTS) <= SHARE * MACHINES[machine]["memory"]:
            return ranks // per_node, per_node
    sys.exit(f"expect.py: {model} does not fit {machine}")


def expectations(model, machine, accounts):
    """[(what, bytes it moves, seconds, what limits)] in the words of summary.json: 'save durable', 'load own loaded'."""
    nodes, per_node = layout(model, machine)
    node, total = node_bytes(model, per_node)
    m = MACHINES[machine]
    copy = max((2 * node / m["stream"], "memory: each byte read and written once"),
               (node / (per_node * CORE_RATE), f"{per_node} cores copy and digest; DCACHE_COPY_THREADS adds more"))
    link = (node / m["fabric"], "InfiniBand of a node")
    up = max((total / (accounts * INGRESS), f"ingress of {accounts} account(s)"),
             (total / (nodes * m["ethernet"]), "Ethernet of the nodes"))
    down = max((total / (accounts * EGRESS), f"egress of {accounts} account(s)"),
               (total / (nodes * m["ethernet"]), "Ethernet of the nodes"))
    replicated = max(copy, link)
    return [("save staged", total, *copy), ("save replicated", total, *replicated),
            ("save durable", total, *max(replicated, up)), ("load own loaded", total, *copy),
            ("load replica loaded", total, *max(copy, link)), ("load blob loaded", total, *max(copy, down))]


def measured_seconds(directory):
    """{what: seconds of the slowest rank}; and the scale, for which the table is no comparison if it is not 1."""
    with open(os.path.join(directory, "summary.json"), encoding="utf-8") as file:
        beyond = json.load(file)["unofficial"]
    groups = {"save": beyond["save"], **{f"load {source}": marks for source, marks in beyond["load"].items()}}
    return beyond, {f"{group} {mark}": both["slowest_rank"]["seconds_mean"]
                    for group, marks in groups.items() for mark, both in marks.items()}


def table(model, machine, accounts, directory=None):
    nodes, per_node = layout(model, machine)
    most, total = node_bytes(model, per_node)
    found, scale = {}, 1
    if directory:
        beyond, found = measured_seconds(directory)
        if beyond["model"] != model or beyond["subset"]:
            sys.exit(f"expect.py: {directory} has results of {beyond['model']}, subset {beyond['subset']}")
        scale = beyond["scale"]
    out = [f"{model} on {nodes} x {MACHINES[machine]['name']}, {per_node} ranks each: {total / GIB:.2f} GiB, at most "
           f"{most / GIB:.2f} GiB of a node; with {SLOTS} slots {most * (1 + 2 * SLOTS) / GIB:.0f} GiB of its memory, "
           f"{most * 2 * SLOTS / GIB:.0f} GiB of them in /dev/shm", "",
           "| until | GiB | expected s | GiB/s | limited by | measured s | of expected |",
           "| --- | --- | --- | --- | --- | --- | --- |"]
    for what, size, seconds, limit in expectations(model, machine, accounts):
        size, seconds = size / scale, seconds / scale
        took = found.get(what)
        out.append(f"| {what} | {size / GIB:.2f} | {seconds:.3g} | {size / GIB / seconds:.1f} | {limit} | "
                   + (f"{took:.3f} | {took / seconds:.2f} |" if took else " | |"))
    if scale != 1:
        out += ["", f"SCALED: bytes and expected times are divided by {scale}; what takes time per call is not."]
    return "\n".join(out)


RECIPE = """#!/bin/bash
# {model} at full size on {nodes} x {name}: submit with sbatch, MLPERF_BENCH set to the folder benchmarks/mlperf.
# Written by expect.py --recipes; a test compares them. What it should take, one account, nothing lost:
#
{table}
#
#SBATCH --job-name=mlperf-{model}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={per_node}
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time={hours}:00:00
#SBATCH --output=%x-%j.out

exec bash "${{MLPERF_BENCH:?is to be the folder benchmarks/mlperf of the source}}/run-model.sh" {model} {machine} {shm}
"""


def hours_of(model, machine):
    """Ten of each save with DURABLE, of each load, pauses and a start; then twice that."""
    once = sum(seconds for what, _, seconds, _ in expectations(model, machine, 1) if what != "save replicated")
    return max(1, -(-int(2 * 10 * (once + 15)) // 3600))


def recipe(model, machine):
    nodes, per_node = layout(model, machine)
    most, _ = node_bytes(model, per_node)
    rows = [f"#   {what:20} {seconds:9.3g} s  {limit}" for what, _, seconds, limit in expectations(model, machine, 1)]
    return RECIPE.format(model=model, machine=machine, nodes=nodes, per_node=per_node, name=MACHINES[machine]["name"],
                         table="\n".join(rows), hours=f"{hours_of(model, machine):02d}",
                         shm=-(-int(most * 2 * SLOTS) // GIB))


def write_recipes(directory):
    for model in check.MODELS:
        for machine in MACHINES:
            with open(os.path.join(directory, f"{model}.{machine}.sbatch"), "w", encoding="utf-8") as file:
                file.write(recipe(model, machine))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", choices=check.MODELS)
    parser.add_argument("machine", nargs="?", choices=MACHINES)
    parser.add_argument("--accounts", type=int, default=1, help="storage accounts written to (default 1)")
    parser.add_argument("--measured", metavar="RESULTS", help="directory of a run's results")
    parser.add_argument("--recipes", metavar="DIRECTORY", help="write all sbatch files there")
    arguments = parser.parse_args()
    if arguments.recipes:
        write_recipes(arguments.recipes)
    elif arguments.machine and arguments.accounts > 0:
        print(table(arguments.model, arguments.machine, arguments.accounts, arguments.measured))
    else:
        parser.error("MODEL and MACHINE, or --recipes")


if __name__ == "__main__":
    main()
