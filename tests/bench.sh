#!/bin/sh
# Builds what is released, and measures it. The table that it prints goes to docs/benchmarks.md.
set -eu
tests/tools.sh kcat
cargo build --locked -p headwater-agent --profile release-small
cargo build --locked -p headwater-loader --release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$(pwd)/target/release-small/headwater-agent" "$(pwd)/target/release/headwater-loader" "$folder"
echo "agent, stripped: $(stat -c %s target/release-small/headwater-agent) bytes"
HEADWATER_BIN_DIR="$folder" cargo run --locked -q -p headwater-tests --bin headwater-bench
