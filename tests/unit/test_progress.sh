#!/bin/bash
# Long work of the tool shows on a terminal how far it is, and takes it away again; where standard error is no terminal
# there is nothing of it.
set -u
umask 077
export DCACHE_MEMORY_STORE=$PWD/memory DCACHE_STORE=file://$PWD/objects DCACHE_JOB=heat
"$TEST_BUILD_DIR/bin/program_fill_store" "$DCACHE_MEMORY_STORE" heat 0 2 100 2 3000000 own-0 own-1 || exit 1
python3 - "$TEST_BUILD_DIR/bin/dcache" <<'PYTHON'
import os, pty, re, subprocess, sys

SIZE = r"[0-9.]+ [KM]?i?B"


def read_all(descriptor):
    """What was written to a terminal; its other side being closed is an error that ends it."""
    text = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    return text.decode()


def run(command, on_terminal):
    """Standard error of the tool, and its standard output."""
    ours, theirs = pty.openpty() if on_terminal else os.pipe()
    process = subprocess.Popen([sys.argv[1], command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    text = read_all(ours)
    os.close(ours)
    output = process.communicate()[0].decode()
    if process.returncode != 0:
        sys.exit(f"dcache {command}: status {process.returncode}: {output} {text}")
    return text, output


def check(command, what):
    text, output = run(command, True)
    if not re.search(rf"\r\x1b\[K{what} {SIZE} of {SIZE}", text):
        sys.exit(f"dcache {command}: no progress on a terminal: {text!r}")
    if not text.endswith("\r\x1b[K"):
        sys.exit(f"dcache {command}: the line stays: {text!r}")
    if "\x1b" in output:
        sys.exit(f"dcache {command}: progress in what programs read: {output!r}")


check("drain", "draining step 100:")
check("verify", "verifying")
for name in "drain", "verify":
    error, _ = run(name, False)
    if "\r" in error or "\x1b" in error:
        sys.exit(f"dcache {name}: progress where there is no terminal: {error!r}")
print("good")
PYTHON
