#!/usr/bin/env python3
"""Check a document of bench-checkpoint: check_document.py FILE RANKS BYTES ROUNDS. Says nothing about times."""
import json
import math
import statistics
import sys

RATES = ("floor_copy", "floor_copy_memcpy", "floor_put", "floor_send", "floor_restore", "floor_rebuild", "floor_rebuild_replicated",
         "staged", "replicated", "background_blocked", "background_replicated", "restart", "rebuild", "rebuild_replicated")
SECONDS = (*RATES, "floor_agreements", "stencil_alone", "stencil_during", "open")
NUMBERS = ("first_open_s", "first_step_s", "floor_first_step_s", "background_slowdown", "background_iterations",
           "overhead_MiB_per_rank", "ranks", "bytes_per_rank", "rounds", "nodes", "regions", "slots")
TEXTS = ("dcache", "transport", "floor_copy_by")
failures = []


def check(good, words):
    if not good:
        failures.append(words)


def is_positive(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-9)


def check_keys(document):
    keys = [f"{name}_GBps{end}" for name in RATES for end in ("", "_min", "_max")]
    keys += [f"{name}_s{end}" for name in SECONDS for end in ("", "_min", "_max")]
    for key in [*keys, *NUMBERS]:
        check(is_positive(document.get(key)), f"{key} is {document.get(key)!r} and no number above zero")
    for key in TEXTS:
        check(isinstance(document.get(key), str) and document[key], f"{key} is {document.get(key)!r} and no text")
    for key in ("cpu", "mpi", "digest", "date"):
        check(document.get("machine", {}).get(key), f"machine.{key} is missing")


def check_figure(document, name, values, total):
    """Median, least and largest, and the rates, follow from the values of the rounds."""
    for key, expected in (("_s", statistics.median(values)), ("_s_min", min(values)), ("_s_max", max(values))):
        check(close(document[name + key], expected), f"{name}{key} is {document[name + key]}, not {expected}")
    if total is None:
        return
    for key, seconds in (("_GBps", statistics.median(values)), ("_GBps_min", max(values)), ("_GBps_max", min(values))):
        expected = total / seconds / 1e9
        check(close(document[name + key], expected), f"{name}{key} is {document[name + key]}, not {expected}")


def check_sums(document, ranks, size, rounds):
    for name in SECONDS:
        source = document["floor_copy_by"] if name == "floor_copy" else name
        values = document["values"][f"{source}_s"]
        check(len(values) == rounds, f"{name} has {len(values)} values of {rounds} rounds")
        lost = name in ("rebuild", "rebuild_replicated", "floor_rebuild", "floor_rebuild_replicated")
        check_figure(document, name, values, size * (1 if lost else ranks) if name in RATES else None)
    floors = [document[f"floor_copy_{kind}_GBps"] for kind in ("memcpy", "nontemporal")]
    check(document["floor_copy_GBps"] == max(floor for floor in floors if floor is not None), "not the faster floor")
    for name, floor in document["floor_of"].items():
        expected = document[f"{name}_GBps"] / document[f"{floor}_GBps"]
        check(close(document["of_floor"][name], expected), f"of_floor.{name} is not {expected}")
    check(set(document["of_floor"]) == {"staged", "replicated", "background_blocked", "background_replicated", "restart",
                                        "rebuild", "rebuild_replicated"}, f"of_floor has {sorted(document['of_floor'])}")


def check_background(document):
    """The whole of it is no shorter than its parts, and its cost is what is left without the computation."""
    values = document["values"]
    for i, total in enumerate(values["background_replicated_s"]):
        count, alone = values["background_iterations"][i], values["stencil_alone_s"][i]
        check(total >= values["background_blocked_s"][i], "replicated before the call returned")
        check(total >= 0.999 * count * values["stencil_during_s"][i], "iterations longer than the time they are part of")
        check(close(values["background_cost_s"][i], total - count * alone), "background_cost_s does not add up")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    ranks, size, rounds = (int(word) for word in sys.argv[2:5])
    check_keys(document)
    for key, expected in (("ranks", ranks), ("bytes_per_rank", size), ("rounds", rounds), ("nodes", ranks)):
        check(document.get(key) == expected, f"{key} is {document.get(key)}, not {expected}")
    check(len(document["first_steps_s"]) == document["slots"], "not every slot has a first step")
    check(document["first_step_s"] == document["first_steps_s"][0], "first_step_s is not the first")
    if not failures:
        check_sums(document, ranks, size, rounds)
        check_background(document)
    print("\n".join(failures) or f"{sys.argv[1]}: good")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
