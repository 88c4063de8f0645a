#!/bin/bash
# cluster-init, every node: settings for users and for prolog and epilog; the scheduler puts those two into Slurm's
# directories, which all nodes share.
set -eu
prefix=/shared/dcache
jetpack=$(command -v jetpack || echo /opt/cycle/jetpack/bin/jetpack)

setting() { # NAME: a value that the cluster template set, or nothing
    local value
    value=$("$jetpack" config "dcache.$1" '' 2>/dev/null) || value=''
    [ "$value" = None ] || printf '%s' "$value"
}

account=$(setting storage_account)
container=$(setting container)
client_id=$(setting client_id)
ssd_root=$(setting ssd_root)

mkdir -p /etc/dcache
install -m 0644 "${CYCLECLOUD_SPEC_PATH:?}/files/dcache.ini" /etc/dcache/dcache.ini

# Read by login shells (and so by sbatch) and by the epilog. No secrets: users keep theirs in ~/.config/dcache/environment.
{
    echo "DCACHE_CONFIG=/etc/dcache/dcache.ini"
    if [ -n "$account" ] && [ -n "$container" ]; then
        echo "DCACHE_STORE=https://$account.blob.core.windows.net/$container"
        echo "AZURE_STORAGE_ACCOUNT=$account"
    fi
    [ -z "$client_id" ] || echo "AZURE_CLIENT_ID=$client_id"
    [ -z "$ssd_root" ] || echo "DCACHE_SSD_STORE=$ssd_root/dcache-\$(id -u)"
} >/etc/dcache/environment
cat >/etc/profile.d/dcache.sh <<END
for dcache_file in /etc/dcache/environment "\$HOME/.config/dcache/environment"; do
    if [ -r "\$dcache_file" ]; then set -a; . "\$dcache_file"; set +a; fi
done
unset dcache_file
PATH=$prefix/bin:\$PATH
END

{
    echo "DCACHE_TOOL=$prefix/bin/dcache"
    echo "SSD_ROOT=$ssd_root"
} >/etc/dcache/node.conf
[ -z "$ssd_root" ] || mkdir -p "$ssd_root"

if [ "$("$jetpack" config slurm.role execute)" = scheduler ]; then
    for kind in prolog epilog; do
        if [ -d /etc/slurm/$kind.d ]; then
            install -m 0755 $prefix/share/dcache/slurm/$kind.sh /etc/slurm/$kind.d/50-dcache.sh
        else
            echo "no /etc/slurm/$kind.d: set $kind in slurm.conf to $prefix/share/dcache/slurm/$kind.sh" >&2
        fi
    done
fi
