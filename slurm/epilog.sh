#!/bin/bash
# Slurm Epilog for dcache, run as root on each node of a job that has ended, whatever the way: stores what is not in the
# object store yet, as the job's user, and then removes node stores that hold nothing else.
#
#   slurm.conf:  Epilog=/path/epilog.sh   (or a link to it in the directory that Epilog names)
#
# Settings, all with a default, from /etc/dcache/node.conf (a shell file of root's):
#   SSD_ROOT       as in prolog.sh
#   DCACHE_TOOL    path of the tool dcache (default: beside this script's installation, or in the PATH)
#   DRAIN_SECONDS  at most so long per job name (default 900); the node is given to the next job after that
#   REMOVE         stored: remove node stores whose steps are all stored (default); never; always
#
# The user's ~/.config/dcache/environment and /etc/dcache/environment, if they are there, are read for DCACHE_* and
# AZURE_* variables: an epilog does not have the job's own.
#
# Never fails: a failed epilog would take the node out of service. What happened is in the system log.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
SSD_ROOT='' MEMORY_ROOT=/dev/shm DRAIN_SECONDS=900 REMOVE=stored DCACHE_TOOL=''
# shellcheck source=/dev/null # of the site
if [ -r /etc/dcache/node.conf ]; then . /etc/dcache/node.conf; fi
user=${SLURM_JOB_USER:-} user_id=${SLURM_JOB_UID:-}
[ -n "$user" ] && [[ $user_id =~ ^[0-9]+$ ]] || exit 0

note() {
    logger -t dcache-epilog "job ${SLURM_JOB_ID:-?}: $*" 2>/dev/null
}

if [ -z "$DCACHE_TOOL" ]; then # share/dcache/slurm/epilog.sh and bin/dcache
    DCACHE_TOOL=$(readlink -f "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../../../bin/dcache")
    [ -x "$DCACHE_TOOL" ] || DCACHE_TOOL=$(command -v dcache) || DCACHE_TOOL=''
fi

# shellcheck disable=SC2016 # expanded in the user's shell
readonly AS_USER='for file in /etc/dcache/environment "$HOME/.config/dcache/environment"; do
    if [ -r "$file" ]; then set -a; . "$file"; set +a; fi
done
unset DCACHE_JOB
cd / && exec "$@"'

as_user() { # COMMAND...: everything that touches the user's files
    runuser -u "$user" -- bash -c "$AS_USER" epilog "$@" </dev/null
}

remove_store() { # DIRECTORY REASON
    if as_user rm -rf -- "$1"; then note "$1 removed: $2"; else note "$1 cannot be removed"; fi
}

# One job name of the user's. A job that runs on this node has its store locked: exit code 4 of the drain.
finish_job() { # ROOT JOB
    local store=$1/dcache-$user_id/$2 output status
    output=$(as_user timeout -k 10 "$DRAIN_SECONDS" "$DCACHE_TOOL" drain --json --job "$2" --memory-store "$1/dcache-$user_id" 2>&1)
    status=$?
    case $status in
    0) note "$2: drained" ;;
    3) note "$2: nothing to drain" ;;
    4) note "$2: in use, left alone" ;;
    *) note "$2: drain ended with $status: ${output: -300}" ;;
    esac
    if [ $status -eq 4 ] || [ "$REMOVE" = never ]; then return; fi
    if [ "$REMOVE" = always ]; then
        remove_store "$store" "REMOVE=always"
    elif [ $status -eq 0 ] && grep -q '"object_store": *"[^"]' <<<"$output"; then
        remove_store "$store" "all of it is in the object store"
    elif [ $status -eq 3 ]; then
        remove_store "$store" "there is nothing in it"
    fi
}

[ -x "$DCACHE_TOOL" ] || {
    note "no tool dcache: set DCACHE_TOOL in /etc/dcache/node.conf"
    exit 0
}
for root in "$MEMORY_ROOT" ${SSD_ROOT:+"$SSD_ROOT"}; do
    directory=$root/dcache-$user_id
    if [ -L "$directory" ] || [ "$(stat -c %u "$directory" 2>/dev/null)" != "$user_id" ]; then continue; fi
    for store in "$directory"/*/; do
        name=$(basename "$store")
        if [[ $name =~ ^[A-Za-z0-9_.-]{1,63}$ ]] && [ -d "$store" ]; then finish_job "$root" "$name"; fi
    done
done
exit 0
