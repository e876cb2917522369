#!/bin/sh
# Builds what is released, and measures it: all parts, or those that are named. The tables that it
# prints go to docs/benchmarks.md.
set -eu
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tests/tools.sh kcat rsyslogd strace
cargo build --locked -p headwater-agent --profile release-small
cargo build --locked -p headwater-loader --release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$target_dir/release-small/headwater-agent" "$target_dir/release/headwater-loader" "$folder"
echo "$(date -u +%Y-%m-%d), $(uname -m), $(nproc) cores, Linux $(uname -r)"
kcat -V | sed -n 's/.*\(Version.*\)/kcat: \1/p'
rsyslogd -v | sed -n '1s/ *(.*//p'
echo "agent, stripped: $(stat -c %s "$target_dir/release-small/headwater-agent") bytes"
HEADWATER_BIN_DIR="$folder" "$target_dir/debug/headwater-bench" "$@"
