#!/bin/sh
# Builds the agent for aarch64 with Debian's cross compiler and rustup's target, prints its size, and
# runs it under qemu-user through one follow-deliver-resume test on a real broker. Fails where the agent
# is larger than a device is promised.
set -eu
size_max=10485760
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tests/tools.sh aarch64-linux-gnu-gcc qemu-aarch64
target=aarch64-unknown-linux-gnu
rustup target list --installed | grep -qx "$target" || rustup target add "$target"
cargo build --locked -p headwater-agent --profile release-small --target "$target"
binary=$target_dir/$target/release-small/headwater-agent
size=$(stat -c %s "$binary")
echo "aarch64 agent, stripped: $size bytes of $size_max"
# The harness starts "headwater-agent" from a folder: here, one that hands it to qemu.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '#!/bin/sh\nexec qemu-aarch64 -L /usr/aarch64-linux-gnu "%s" "$@"\n' "$binary" >"$folder/headwater-agent"
chmod +x "$folder/headwater-agent"
ln -s "$target_dir/debug/headwater-loader" "$folder/headwater-loader"
# With the features of all other tests, so that nothing is built twice.
HEADWATER_BIN_DIR="$folder" cargo test --locked --workspace \
    --features headwater-agent/crash-points,headwater-loader/crash-points --test an_agent_resumes
if [ "$size" -gt "$size_max" ]; then
    echo "too large by $((size - size_max)) bytes: see docs/benchmarks.md, Sizes" >&2
    exit 1
fi
