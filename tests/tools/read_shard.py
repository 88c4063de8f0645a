#!/usr/bin/env python3
"""A second reader of shard images, written from docs/formats.md alone: read_shard.py FILE...

Prints the header of each image as JSON, one line each, and verifies every digest. Exit status 1 when one is bad.
"""
import json
import math
import struct
import sys

FIXED = struct.Struct("<8sIIQQQQQIIQQIIIIQQQ64s72s")
FIXED_NAMES = ("magic version state fixed_crc tables_crc step sequence epoch world_size rank header_bytes file_bytes "
               "chunk_bytes chunk_count region_count reserved region_table digest_table step_offset job tail").split()
REGION = struct.Struct("<64sIIIIQQ8Q8Q8Q32s")
STATES = {1: "WRITING", 2: "COMPLETE"}
TYPES = dict(enumerate("int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float32 float64".split(), 1))
SIZES = dict(enumerate((1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8), 1))
ALL_ONES = 2**64 - 1


class Bad(Exception):
    """What is wrong with an image."""


def make_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x9A6C9329AC4BC9B5 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = make_table()


def crc64(data):
    crc = ALL_ONES
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ ALL_ONES


def expect(good, what):
    if not good:
        raise Bad(what)


def text(field):
    name, _, rest = field.partition(b"\0")
    expect(not rest.strip(b"\0"), "text with something behind its end")
    return name.decode("ascii")


def read_fixed(image):
    expect(len(image) >= 256, "shorter than a header")
    fixed = dict(zip(FIXED_NAMES, FIXED.unpack_from(image)))
    expect(fixed["magic"] == b"\x89DCACHE\n", "no magic number")
    expect(crc64(image[:16] + bytes(8) + image[24:256]) == fixed["fixed_crc"], "digest of the fixed part")
    expect(fixed["version"] == 1, f"format version {fixed['version']}")
    expect(fixed["state"] in STATES, "state")
    expect(fixed["step"] < 2**63 and fixed["rank"] < fixed["world_size"], "step or rank")
    header, size = fixed["header_bytes"], fixed["file_bytes"]
    expect(4096 <= header <= 2**30 and header & (header - 1) == 0, "length of the header")
    expect(header < size <= 2**50 and size == len(image), "length of the image")
    expect(fixed["chunk_bytes"] == 2**20 and fixed["chunk_count"] == math.ceil((size - header) / 2**20), "chunks")
    expect(fixed["region_count"] <= 65536 and fixed["region_table"] == 256, "regions")
    expect(fixed["digest_table"] == 256 + 320 * fixed["region_count"], "place of the digest table")
    expect(fixed["digest_table"] + 8 * fixed["chunk_count"] <= header, "length of the tables")
    expect(header <= fixed["step_offset"] <= size - 8, "place of the step")
    expect(fixed["reserved"] == 0 and not any(fixed["tail"]), "reserved bytes")
    fixed["job"] = text(fixed["job"])
    return fixed


def read_region(entry, fixed):
    name, kind, ndims, flags, reserved, size, offset, *rest = REGION.unpack(entry)
    dims = {"global": rest[0:8], "start": rest[8:16], "count": rest[16:24]}
    name = text(name)
    expect(kind in TYPES and 1 <= ndims <= 8 and flags in (0, 1) and reserved == 0 and not any(rest[24]), name)
    expect(size == math.prod(dims["count"][:ndims]) * SIZES[kind], f"bytes of {name}")
    expect(all(s + c <= g for g, s, c in zip(*dims.values())), f"extents of {name}")
    expect(flags == 1 or (dims["global"] == dims["count"] and not any(dims["start"])), f"extents of {name}")
    expect(not any(sum((d[ndims:] for d in dims.values()), [])), f"dimensions of {name}")
    inside = fixed["header_bytes"] <= offset and offset + size <= fixed["file_bytes"]
    expect(inside if size else offset == 0, f"place of {name}")
    return {"name": name, "type": TYPES[kind], "block": flags == 1, "bytes": size, "offset": offset,
            **{key: value[:ndims] for key, value in dims.items()}}


def read_tables(image, fixed):
    header = fixed["header_bytes"]
    expect(crc64(image[256:header]) == fixed["tables_crc"], "digest of the tables")
    regions = [read_region(image[at:at + 320], fixed) for at in range(256, fixed["digest_table"], 320)]
    digests = struct.unpack_from(f"<{fixed['chunk_count']}Q", image, fixed["digest_table"])
    expect(not any(image[fixed["digest_table"] + 8 * len(digests):header]), "bytes behind the tables")
    for index, digest in enumerate(digests):
        start = header + index * 2**20
        expect(crc64(image[start:start + 2**20]) == digest, f"digest of chunk {index}")
    (step,) = struct.unpack_from("<Q", image, fixed["step_offset"])
    expect(step == fixed["step"], "step of the body")
    return regions


def read_shard(image):
    fixed = read_fixed(image)
    shown = {key: value for key, value in fixed.items() if key not in ("magic", "reserved", "tail")}
    shown["state"] = STATES[fixed["state"]]
    for key in ("fixed_crc", "tables_crc"):
        shown[key] = f"{fixed[key]:016x}"
    if shown["state"] == "COMPLETE":
        shown["regions"] = read_tables(image, fixed)
    return shown


def main(paths):
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    if crc64(b"123456789") != 0xAE8B14860A799888:
        sys.exit("this reader's CRC-64 is wrong")
    status = 0
    for path in paths:
        with open(path, "rb") as file:
            image = file.read()
        try:
            print(json.dumps({"file": path, **read_shard(image)}))
        except (Bad, UnicodeDecodeError) as error:
            print(f"{path}: bad: {error}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
