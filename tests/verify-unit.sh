#!/bin/sh
# systemd's own check of the unit files, and of the account that they run as. The binary that they name is
# not installed here, so copies of the units name one that is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for unit in systemd/*.service; do
    sed 's,^ExecStart=[^ ]*,ExecStart=/bin/true,' "$unit" >"$folder/${unit#systemd/}"
done
systemd-analyze verify "$folder"/*.service

mkdir "$folder/etc"
systemd-sysusers --root="$folder" "$(pwd)/systemd/headwater-agent.sysusers"
for unit in systemd/*.service; do
    for name in User Group; do
        account=$(sed -n "s/^$name=//p" "$unit")
        grep -q "^$account:" "$folder/etc/passwd" "$folder/etc/group" || {
            echo "$name=$account of $unit is not in systemd/headwater-agent.sysusers" >&2
            exit 1
        }
    done
done
