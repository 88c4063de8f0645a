#!/bin/bash
# Slurm Prolog for dcache, run as root on each node of a job: room for its node stores, owned by its user.
#
#   slurm.conf:  Prolog=/path/prolog.sh   (or a link to it in the directory that Prolog names)
#
# Settings, all with a default, from /etc/dcache/node.conf (a shell file of root's):
#   SSD_ROOT    directory on the node's local SSD, e.g. /mnt/nvme; users get SSD_ROOT/dcache-UID for the option ssd_store
#   KEEP_HOURS  node stores of users without a job here are removed after so many hours (default 24; 0 = never)
#
# Never fails a job: what cannot be done is in the system log, and the job says itself what it misses.
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
SSD_ROOT='' KEEP_HOURS=24 MEMORY_ROOT=/dev/shm
# shellcheck source=/dev/null # of the site
if [ -r /etc/dcache/node.conf ]; then . /etc/dcache/node.conf; fi
user_id=${SLURM_JOB_UID:-}
[[ $user_id =~ ^[0-9]+$ ]] || exit 0

note() {
    logger -t dcache-prolog "job ${SLURM_JOB_ID:-?}: $*" 2>/dev/null
}

# As the owner, never as root: what is in there is the owner's, links included.
remove_as() { # UID DIRECTORY
    setpriv --reuid="$1" --regid="$1" --clear-groups -- find "$2" -mindepth 1 -delete 2>/dev/null
    rmdir "$2" 2>/dev/null || note "cannot remove $2"
}

# Nobody but the user may own the name that the library will use.
own_directory() { # ROOT
    local directory=$1/dcache-$user_id owner
    if [ -L "$directory" ]; then
        rm -f "$directory" && note "removed the link $directory"
    elif [ -e "$directory" ]; then
        owner=$(stat -c %u "$directory")
        if [ "$owner" != "$user_id" ]; then
            note "$directory belonged to $owner"
            remove_as "$owner" "$directory"
        fi
    fi
    mkdir -m 0700 "$directory" 2>/dev/null && chown "$user_id${SLURM_JOB_GID:+:$SLURM_JOB_GID}" "$directory" && return
    [ "$(stat -c %u:%a "$directory" 2>/dev/null)" = "$user_id:700" ] || note "$directory is not a directory of $user_id, mode 700"
}

# Left behind by users who have no job here any more: the memory is wanted.
remove_old() { # ROOT
    local directory owner
    [ "$KEEP_HOURS" -gt 0 ] || return 0
    for directory in "$1"/dcache-[0-9]*; do
        owner=${directory##*-}
        if [ -L "$directory" ] || [ ! -d "$directory" ] || [ "$owner" = "$user_id" ]; then continue; fi
        [ "$(stat -c %u "$directory")" = "$owner" ] || continue
        [ -z "$(pgrep -u "$owner" 2>/dev/null)" ] || continue # the cheapest sign of a job
        [ -z "$(find "$directory" -newermt "-$KEEP_HOURS hours" -print -quit)" ] || continue
        note "removing $directory, unused for $KEEP_HOURS hours"
        remove_as "$owner" "$directory"
    done
}

for root in "$MEMORY_ROOT" ${SSD_ROOT:+"$SSD_ROOT"}; do
    remove_old "$root"
    own_directory "$root"
done
exit 0
