#!/bin/sh
# Builds what is released, and measures it. The table that it prints goes to docs/benchmarks.md.
set -eu
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tests/tools.sh kcat
cargo build --locked -p headwater-agent --profile release-small
cargo build --locked -p headwater-loader --release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$target_dir/release-small/headwater-agent" "$target_dir/release/headwater-loader" "$folder"
echo "agent, stripped: $(stat -c %s $target_dir/release-small/headwater-agent) bytes"
HEADWATER_BIN_DIR="$folder" cargo run --locked -q -p headwater-tests --bin headwater-bench
