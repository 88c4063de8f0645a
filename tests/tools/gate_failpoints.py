#!/usr/bin/env python3
"""The failpoints of the code are those of io/failpoints.h, each is used, and tests/fault/failpoints.py tries each."""
import os
import re
import sys

FOLDERS = ("io", "mpi", "runtime", "runtime/cli")
USED = re.compile(r'\bdiag_failpoint(?:_data)?\(\s*[^;"]*?"([^"]+)"')
MPI_USED = re.compile(r'\bworld_check\([^;]*?"(MPI_\w+)"\s*\)', re.S)


def names_in(root, pattern):
    names = {}
    for folder in FOLDERS:
        for file in sorted(os.listdir(os.path.join(root, folder))):
            if file.endswith(".c") and file != "failpoints.c":
                with open(os.path.join(root, folder, file), encoding="utf-8") as source:
                    for name in pattern.findall(source.read()):
                        names.setdefault(name, f"{folder}/{file}")
    return names


def main():
    root = os.environ.get("TEST_SOURCE_DIR", ".")
    with open(os.path.join(root, "io/failpoints.h"), encoding="utf-8") as header:
        registry = re.findall(r'^\s*X\("([^"]+)"', header.read(), re.M)
    used, mpi = names_in(root, USED), names_in(root, MPI_USED)
    with open(os.path.join(root, "tests/fault/failpoints.py"), encoding="utf-8") as matrix:
        tried = set(re.findall(r'"((?:[a-z]\w*\.\w+)|(?:object_\w+)|(?:MPI_\w+))"', matrix.read()))
    problems = [f"{name} is twice in io/failpoints.h" for name in sorted(set(registry)) if registry.count(name) > 1]
    problems += [f"{where}: failpoint {name} is not in io/failpoints.h" for name, where in used.items()
                 if name not in registry]
    problems += [f"io/failpoints.h: no code has failpoint {name}: remove it" for name in registry
                 if name not in used and name not in mpi]
    problems += [f"tests/fault/failpoints.py does not try {name}" for name in registry if name not in tried]
    if not registry or not used:
        problems.append("no failpoints found: this gate does not read the sources any more")
    print("\n".join(problems) or f"{len(registry)} failpoints")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
