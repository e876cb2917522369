#!/bin/sh
# systemd's own check of the unit file, and of the account that it runs as. The binary that it names is
# not installed here, so a copy of the unit names one that is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed 's,^ExecStart=[^ ]*,ExecStart=/bin/true,' systemd/headwater-agent.service >"$folder/headwater-agent.service"
systemd-analyze verify "$folder/headwater-agent.service"

mkdir "$folder/etc"
systemd-sysusers --root="$folder" "$(pwd)/systemd/headwater-agent.sysusers"
for name in User Group; do
    account=$(sed -n "s/^$name=//p" systemd/headwater-agent.service)
    grep -q "^$account:" "$folder/etc/passwd" "$folder/etc/group" || {
        echo "$name=$account of the unit is not in systemd/headwater-agent.sysusers" >&2
        exit 1
    }
done
