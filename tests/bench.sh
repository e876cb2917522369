#!/bin/sh
# Builds what is released, and measures it: all parts, or those that are named. The tables that it
# prints go to docs/benchmarks.md. AGENT_PROFILE=release-small: the agent as devices with aarch64 have it.
set -eu
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tests/tools.sh kcat rsyslogd strace
# What is released for this machine: see the profiles in Cargo.toml.
case "$(uname -m)" in
    x86_64) profile=release-fast ;;
    *) profile=release-small ;;
esac
profile=${AGENT_PROFILE:-$profile}
cargo build --locked -p headwater-agent --profile "$profile"
cargo build --locked -p headwater-loader --release
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$target_dir/$profile/headwater-agent" "$target_dir/release/headwater-loader" "$folder"
echo "$(date -u +%Y-%m-%d), $(uname -m), $(nproc) cores, Linux $(uname -r)"
kcat -V | sed -n 's/.*\(Version.*\)/kcat: \1/p'
rsyslogd -v | sed -n '1s/ *(.*//p'
echo "agent, $profile, stripped: $(stat -c %s "$target_dir/$profile/headwater-agent") bytes"
HEADWATER_BIN_DIR="$folder" "$target_dir/debug/headwater-bench" "$@"
