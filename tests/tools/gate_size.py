#!/usr/bin/env python3
"""No function over 100 lines, no file over 800. There is no list of exceptions.

Functions are found by what clang-format makes of them (gate_format.sh sees to that): the body's braces stand alone in
column 0, in shell scripts `name() {` and `}` do. Counted from the first line of the signature to the closing brace.
"""
import ast
import os
import re
import sys
import tempfile

FUNCTION_MAX = 100
FUNCTION_LONG = 60
FILE_MAX = 800
SKIPPED = re.compile(r"build.*|node_modules|\.git")


def source_files(root):
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if not SKIPPED.fullmatch(s))
        for name in sorted(names):
            if name.endswith((".c", ".h", ".sh", ".py", ".cmake", ".js")) or name == "CMakeLists.txt":
                yield os.path.join(folder, name)


def signature_start(lines, brace):
    """The first line of the signature whose body opens on line `brace`."""
    start = brace
    while start > 0 and not re.search(r"(^|[;}]|\*/)\s*$|^#|^//", lines[start - 1]):
        start -= 1
    return start


def c_functions(lines):
    opened = None
    for number, line in enumerate(lines):
        if line == "{":
            opened = number
        elif line.rstrip() == "}" and opened is not None:
            start = signature_start(lines, opened)
            name = re.search(r"(\w+)\s*\(", " ".join(lines[start:opened]))
            yield (name.group(1) if name else "?"), start + 1, number - start + 1
            opened = None


def shell_functions(lines):
    name, opened = None, 0
    for number, line in enumerate(lines):
        found = re.match(r"(?:function\s+)?([\w-]+)\s*\(\)\s*[{(]", line)
        if found:
            name, opened = found.group(1), number
        elif line in ("}", ")") and name:
            yield name, opened + 1, number - opened + 1
            name = None


def python_functions(lines):
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def functions_of(path, lines):
    if path.endswith((".c", ".h")):
        return c_functions(lines)
    if path.endswith(".sh"):
        return shell_functions(lines)
    if path.endswith(".py"):
        return python_functions(lines)
    return ()


def check(root):
    """What is too large, what is merely long, and how many functions were seen."""
    failures, remarks, seen = [], [], 0
    for path in source_files(root):
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        where = os.path.relpath(path, root)
        if len(lines) > FILE_MAX:
            failures.append(f"{where}: {len(lines)} lines, at most {FILE_MAX} are allowed: split the file")
        for name, line, length in functions_of(path, lines):
            seen += 1
            if length > FUNCTION_MAX:
                failures.append(f"{where}:{line}: {name}: {length} lines, at most {FUNCTION_MAX} are allowed")
            elif length > FUNCTION_LONG:
                remarks.append(f"{where}:{line}: {name}: {length} lines are long (more than {FUNCTION_LONG})")
    return failures, remarks, seen


def self_test(planted):
    """What is too large by one line is found, what just fits is not."""

    def plant(name, head, lines, tail, filler):
        with open(os.path.join(planted, name), "w", encoding="utf-8") as file:
            file.write("\n".join(head + [filler] * (lines - len(head) - len(tail)) + tail) + "\n")

    signature = ["static int f(int a,", "             int b)", "{"]
    for length in (FUNCTION_MAX, FUNCTION_MAX + 1):
        plant(f"c{length}.c", signature, length, ["}"], "    a++;")
        plant(f"s{length}.sh", ["f() {"], length, ["}"], "    :")
        plant(f"p{length}.py", ["def f():"], length, [], "    pass")
    for length in (FILE_MAX, FILE_MAX + 1):
        plant(f"l{length}.h", [], length, [], "/* */")
    expected = {f"c{FUNCTION_MAX + 1}.c", f"s{FUNCTION_MAX + 1}.sh", f"p{FUNCTION_MAX + 1}.py", f"l{FILE_MAX + 1}.h"}
    found = {failure.split(":")[0] for failure in check(planted)[0]}
    if found != expected:
        sys.exit(f"the gate is broken: of {sorted(expected)} it found {sorted(found)}")


def main():
    with tempfile.TemporaryDirectory() as planted:
        self_test(planted)
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.environ.get("TEST_SOURCE_DIR", os.path.join(here, "..", ".."))
    failures, remarks, seen = check(root)
    if seen == 0:
        failures.append(f"no function found in {root}")
    print("\n".join(remarks + failures + [f"{seen} functions"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
