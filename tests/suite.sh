#!/bin/sh
# Runs all tests that are built, in three rows side by side: whole-system tests wait for most of their time, and each
# of them has brokers, ports and folders of its own. The second row is shown as it runs, the others when they are over.
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
# Between the two of whole-system tests no name falls: what does not begin as the one says is in the other.
row units "$@" --lib --bins &
row later "$@" --test '[!a-h]*' &
failed=
# shellcheck disable=SC2086 # as above
$cargo test "$@" --test '[a-h]*' || failed=" --test '[a-h]*'"
wait
for name in units later; do
    cat "$logs/$name"
done
[ -e "$logs/units.passed" ] || failed="$failed --lib --bins"
[ -e "$logs/later.passed" ] || failed="$failed --test '[!a-h]*'"
if [ -n "$failed" ]; then
    echo "tests failed in:$failed (above)" >&2
    exit 1
fi
