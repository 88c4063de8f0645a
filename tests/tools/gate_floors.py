#!/usr/bin/env python3
"""The floors of the house (docs/design.md): a folder includes only what lies below it, and only headers.

Also: io/ calls no MPI, only io/shard_hdf5.c uses HDF5 (so that nothing untrusted reaches it), code is used through
headers and not through declarations of one's own, and the doc comment of every public function says whether it is
collective.
"""
import os
import re
import sys
import tempfile

# Folder: what its quoted includes may begin with. "./" is the folder itself.
ALLOWED = {
    "io": ("io/", "dcache.h"),
    "mpi": ("mpi/", "io/", "dcache.h"),
    "runtime": ("runtime/", "mpi/", "io/", "dcache.h"),
    "runtime/cli": ("runtime/", "io/", "dcache.h"),
    "runtime/doctor": ("runtime/", "mpi/", "io/", "dcache.h"),
    "include": (),
    "examples": ("./", "dcache.h"),
}
HDF5_USERS = {"io/shard_hdf5.c"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda match: "\n" * match.group().count("\n"), text, flags=re.S)


def check_include(root, folder, where, quote, name):
    if name in ("hdf5.h", "H5public.h") and folder != "examples" and where not in HDF5_USERS:
        return f"{where}: includes {name}: only {', '.join(HDF5_USERS)} uses HDF5"
    if quote == "<" and name == "mpi.h" and folder in ("io", "runtime/cli"):
        return f"{where}: includes mpi.h: {folder}/ works without MPI"
    if quote == "<":
        return None
    if not name.endswith((".h", ".def")):
        return f"{where}: includes {name}, which is no header"
    own = os.path.exists(os.path.join(root, folder, name))
    if not any(name.startswith(a) or (a == "./" and own) for a in ALLOWED[folder]):
        return f"{where}: {folder}/ may not include {name}"
    if not any(os.path.exists(os.path.join(root, base, name)) for base in ("", "include", folder)):
        return f"{where}: includes {name}, which does not exist"
    return None


def check_file(root, folder, where):
    with open(os.path.join(root, where), encoding="utf-8") as file:
        code = without_comments(file.read())
    failures = [check_include(root, folder, where, *found) for found in INCLUDE.findall(code)]
    if folder == "io" and re.search(r"\bMPI_[A-Z]\w*\s*\(", code):
        failures.append(f"{where}: calls MPI: io/ works without it")
    if where.endswith(".c") and re.search(r'^\s*extern\b(?!\s*")', code, re.M):
        failures.append(f"{where}: declares something extern: include the header that declares it")
    return [failure for failure in failures if failure]


def check_public_header(root):
    with open(os.path.join(root, "include", "dcache.h"), encoding="utf-8") as file:
        text = file.read()
    documented = re.compile(r"/\*\*((?:(?!\*/).)*)\*/\s*((?:const )?\w+ \*?)(dcache_\w+)\(", re.S)
    comments = {match.group(3): match.group(1) for match in documented.finditer(text)}
    declared = re.findall(r"^[a-z][\w ]*[ *](dcache_\w+)\(", without_comments(text), re.M)
    failures = [] if declared else ["include/dcache.h: no function found"]
    for name in declared:
        if not re.search(r"[Cc]ollective", comments.get(name, "")):
            failures.append(f"include/dcache.h: {name}: the comment does not say whether it is collective")
    return failures


def check(root):
    failures, seen = check_public_header(root), 0
    for folder in ALLOWED:
        path = os.path.join(root, folder)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
            if name.endswith((".c", ".h")):
                failures += check_file(root, folder, f"{folder}/{name}")
                seen += 1
    return failures, seen


def self_test(folder):
    """Each rule notices a planted violation, and a clean file passes."""
    planted = {
        "include/dcache.h": "/** Not collective. */\nint dcache_good(void);\n/** Text. */\nint dcache_bad(void);\n",
        "io/good.c": '#include "io/good.h"\n#include <stdio.h>\n/* extern MPI_Send() */\n',
        "io/good.h": '#include "dcache.h"\n',
        "io/up.c": '#include "mpi/world.h"\n',
        "io/mpi_include.c": "#include <mpi.h>\n",
        "io/mpi_call.c": "int f(void)\n{\n    return MPI_Barrier(0);\n}\n",
        "io/hdf5.c": "#include <hdf5.h>\n",
        "io/missing.c": '#include "io/nowhere.h"\n',
        "io/source.c": '#include "io/good.c"\n',
        "io/declares.c": "extern int secret;\n",
        "mpi/world.h": '#include "io/good.h"\n',
        "mpi/up.c": '#include "runtime/options.h"\n',
        "runtime/options.h": '#include "mpi/world.h"\n',
        "examples/inside.c": '#include "io/good.h"\n',
    }
    good = {"io/good.c", "io/good.h", "mpi/world.h", "runtime/options.h"}
    for name, text in planted.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    failures, _ = check(folder)
    found = {failure.split(":")[0] for failure in failures}
    if found != set(planted) - good or any("dcache_good" in failure for failure in failures):
        sys.exit(f"the gate is broken: missed {set(planted) - good - found}, wrongly blamed {found & good}")


def main():
    with tempfile.TemporaryDirectory() as planted:
        self_test(planted)
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.environ.get("TEST_SOURCE_DIR", os.path.join(here, "..", ".."))
    failures, seen = check(root)
    print("\n".join(failures + [f"{seen} files"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
