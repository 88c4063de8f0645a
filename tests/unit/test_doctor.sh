#!/bin/bash
# `dcache doctor`: what is well, what is not, with which remedy, and that it leaves nothing behind.
# timeout: 60
# slots: 1
set -u
umask 077
# shellcheck source=tests/tools/run_tool.sh
. "$TEST_SOURCE_DIR/tests/tools/run_tool.sh"
scratch=$(mktemp -d) || exit 1
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
export DCACHE_MEMORY_STORE=$scratch/memory DCACHE_STORE=none DCACHE_LOG=error

doctor() { # doctor CODE ARGUMENT...
    run "$1" doctor "${@:2}"
}

echo "- stores"
doctor 0
has '^ok +memory store: .*/memory can be written, and will be made$' '^ok +memory store: .* free -- give --bytes' \
    '^warning +object store: none' '^0 problems, [0-9]+ warning'
[ -e memory ] && fail "looking made a node store"
mkdir memory
doctor 0
has '/memory can be written$'
[ -z "$(ls -A memory)" ] || fail "something is left in memory: $(ls -A memory)"
doctor 0 --bytes-per-rank 1KiB --ranks-per-node 2
has '^ok +memory store: .* free, 8\.0 KiB needed' # two slots, own copies and replicas
doctor 1 --bytes-per-rank 100TiB --ranks-per-node 2
has '^problem +memory store: .* 800\.0 TiB needed .* -- fewer slots' '^1 problem,'
DCACHE_RESERVE=100TiB doctor 1 --ranks-per-node 1
touch file
DCACHE_MEMORY_STORE=$scratch/file doctor 1
has '^problem +memory store: .*/file'
ln -s memory link
DCACHE_MEMORY_STORE=$scratch/link doctor 1
DCACHE_TIER=both DCACHE_SSD_STORE=$scratch/no/where/ssd doctor 1
has '^ok +memory store' '^problem +SSD store: .*/no/where'
DCACHE_TIER=ssd DCACHE_SSD_STORE=$scratch/ssd doctor 0
has '^ok +SSD store'
lacks 'memory store'

echo "- limits"
out=$(ulimit -f 2048 && "$dcache" doctor --bytes-per-rank 1GiB --ranks-per-node 1 2>&1)
has '^problem +file size limit: a shard may have 2\.0 MiB -- ulimit'
out=$(ulimit -f 2048 && "$dcache" doctor 2>&1) || fail "a limit of unknown harm is a problem"
has '^warning +file size limit'

echo "- Slurm"
lacks Slurm
SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=1 doctor 0
has '^ok +Slurm job: 77 -- sbatch --no-kill' '^warning +Slurm nodes: 1' '^warning +Slurm end of time: not known'
SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=2 SLURM_JOB_END_TIME=$(($(date +%s) + 5000)) doctor 0
has '^ok +Slurm end of time: [45][0-9]{3} s are left'
SLURM_JOB_ID=77 SLURM_JOB_END_TIME=soon doctor 0
has '^warning +Slurm end of time: not known'

echo "- many of them"
SLURM_STEP_NUM_TASKS=1 doctor 0
lacks processes
SLURM_STEP_NUM_TASKS=4 doctor 0
has "^warning +processes: this is one of 4, and it looks at its own node only: $(hostname) -- dcache doctor --mpi "
OMPI_COMM_WORLD_SIZE=2 doctor 0
has '^warning +processes: this is one of 2'

echo "- object store"
DCACHE_STORE=file://$scratch/objects doctor 0
has '^warning +object store: .*/objects is not there yet'
[ -e objects ] && fail "looking made an object store"
mkdir objects
DCACHE_STORE=file://$scratch/objects doctor 0
has '^ok +object store: .*/objects can be listed, written and read'
[ -z "$(find objects -type f)" ] || fail "something is left in objects: $(find objects)"
DCACHE_STORE=file://$scratch/file doctor 1
has '^problem +object store: '
DCACHE_STORE=file://$scratch/file doctor 0 --no-store
lacks 'object store'

cat >server.py <<'END'
"""A Blob service that lets nobody in and whose clock is an hour slow."""
import email.utils, http.server, time

class Handler(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, timestamp=None):
        return email.utils.formatdate(time.time() - 3600, usegmt=True)

    def do_GET(self):
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_PUT = do_GET

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port", "w") as file:
    file.write(f"{server.server_port}\n")
server.serve_forever()
END
python3 server.py &
server=$!
for _ in {1..100}; do
    [ -s port ] && break
    sleep 0.1
done
AZURE_STORAGE_ACCOUNT=heat AZURE_STORAGE_KEY=c2VjcmV0 DCACHE_STORE=http://127.0.0.1:$(cat port)/heat/box doctor 1
has '^ok +credentials: taken: key; not sas: ' '^problem +clock: 3[56][0-9]{2} s' \
    '^problem +object store: http://127.* listing failed: '
lacks c2VjcmV0

echo "- JSON and usage"
doctor 1 --json --bytes-per-rank 100TiB --ranks-per-node 2
python3 -c 'import json,sys; d=json.load(sys.stdin); sys.exit(not (d["safe"] is False and
    [f["what"] for f in d["findings"] if f["level"] == "problem"] == ["memory store"] and
    all(set(f) == {"level", "what", "value", "remedy"} for f in d["findings"])))' <<<"$out" || fail "JSON: $out"
doctor 2 --bytes-per-rank many
doctor 2 --ranks-per-node -1
doctor 2 now
"$dcache" ls --bytes-per-rank 5 2>/dev/null
[ $? = 2 ] || fail "ls takes --bytes-per-rank"

finish
