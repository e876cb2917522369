#!/bin/sh
# systemd's own check of the unit file. The binary that it names is not installed here, so a copy of
# the unit names one that is.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed 's,^ExecStart=[^ ]*,ExecStart=/bin/true,' systemd/headwater-agent.service >"$folder/headwater-agent.service"
systemd-analyze verify "$folder/headwater-agent.service"
