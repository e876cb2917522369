#!/bin/sh
# Runs all tests that are built, in three rows side by side: whole-system tests wait for most of their time, and each
# of them has brokers, ports and folders of its own. The first row is shown as it runs, the others when they are over.
# CARGO and its flags as the Makefile has them: tests/suite.sh "cargo" --locked --workspace …
set -eu
cargo=$1
shift
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
row() {
    name=$1
    shift
    # shellcheck disable=SC2086 # a command and its words
    if $cargo test "$@" >"$logs/$name" 2>&1; then
        : >"$logs/$name.passed"
    fi
}
row units "$@" --lib --bins &
row later "$@" --test '[i-z]*' &
failed=0
# shellcheck disable=SC2086 # as above
$cargo test "$@" --test '[a-h]*' || failed=1
wait
for name in units later; do
    cat "$logs/$name"
    [ -e "$logs/$name.passed" ] || failed=1
done
exit $failed
