#!/usr/bin/env python3
"""Compare shards, as h5dump and h5ls of the HDF5 distribution read them, with what must be in them.

    hdf5_shards.py values RANKS KIB RANK STEP FILE...   what program_values saved
    hdf5_shards.py heat RESULT FILE...                  the blocks of heat2d's result, which the shards cover together
"""
import re
import subprocess
import sys

TYPES = {"int8": "H5T_STD_I8LE", "uint8": "H5T_STD_U8LE", "int16": "H5T_STD_I16LE", "uint16": "H5T_STD_U16LE",
         "int32": "H5T_STD_I32LE", "uint32": "H5T_STD_U32LE", "int64": "H5T_STD_I64LE", "uint64": "H5T_STD_U64LE",
         "float16": "16-bit", "bfloat16": "16-bit", "float32": "H5T_IEEE_F32LE", "float64": "H5T_IEEE_F64LE"}


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {str(found)[:200]} instead of {str(wanted)[:200]}")


def numbers(text):
    """Those of the first DATA { ... } in what h5dump says."""
    data = re.search(r"DATA \{(.*?)\}", text, re.DOTALL).group(1)
    return [float(word) for word in data.replace(",", " ").split()]


def dump(path, *options):
    return run("h5dump", "-y", "-m", "%.17g", *options, path)


def dataset(path, name, type_name):
    text = dump(path, "-d", name)
    expect(f"type of {name} in {path}", re.search(r"DATATYPE +(\S+)", text).group(1), type_name)
    return numbers(text)


def attribute(path, name):
    return [int(number) for number in numbers(dump(path, "-a", name))]


def check_listing(path, bulk):
    wanted = {f"/types/{name}": "{17}" for name in TYPES}
    wanted.update({"/block": "{3, 5}", "/bulk": f"{{{bulk}}}", "/empty": "{0}", "/dcache/step": "{SCALAR}"})
    found = dict(re.findall(r"^(\S+) +Dataset (\{.*?\})", run("h5ls", "-r", path), re.MULTILINE))
    expect(f"datasets of {path}", found, wanted)


def check_values(ranks, kib, rank, step, path):
    bulk = kib * 1024 // 8
    element = [float((7 * rank + 3 * step + i) % 100) for i in range(max(17, bulk))]
    check_listing(path, bulk)
    for name, type_name in TYPES.items():
        expect(f"{name} in {path}", dataset(path, "/types/" + name, type_name), element[:17])
    expect(f"block in {path}", dataset(path, "/block", "H5T_IEEE_F64LE"), element[:15])
    expect(f"bulk in {path}", dataset(path, "/bulk", "H5T_STD_U64LE"), element[:bulk])
    expect(f"empty in {path}", dataset(path, "/empty", "H5T_IEEE_F64LE"), [])
    expect(f"step in {path}", dataset(path, "/dcache/step", "H5T_STD_U64LE"), [float(step)])
    expect(f"extent in {path}", attribute(path, "/block/dcache_global"), [3 * ranks, 5])
    expect(f"place in {path}", attribute(path, "/block/dcache_start"), [3 * rank, 0])
    expect(f"rank in {path}", attribute(path, "/dcache/rank"), [rank])
    expect(f"ranks in {path}", attribute(path, "/dcache/world_size"), [ranks])


def check_heat(result, paths):
    covered = 0
    for path in paths:
        shape = re.search(r"^/temperature +Dataset \{(\d+), (\d+)\}", run("h5ls", "-r", path), re.MULTILINE)
        count = ",".join(shape.groups())
        start = ",".join(str(number) for number in attribute(path, "/temperature/dcache_start"))
        block = numbers(dump(result, "-d", "/temperature", "-s", start, "-c", count))
        expect(f"temperature in {path}", dataset(path, "/temperature", "H5T_IEEE_F64LE"), block)
        covered += len(block)
    expect("cells in all shards", covered, len(dataset(result, "/temperature", "H5T_IEEE_F64LE")))


def main(words):
    if words[:1] == ["values"] and len(words) > 5:
        ranks, kib, rank, step = map(int, words[1:5])
        for path in words[5:]:
            check_values(ranks, kib, rank, step, path)
    elif words[:1] == ["heat"] and len(words) > 2:
        check_heat(words[1], words[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
