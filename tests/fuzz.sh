#!/bin/sh
# Fuzzes with coverage, on the toolchain and with the registries that everything else uses: rustc puts
# the counters in by LLVM's own pass, and `libfuzzer-sys` brings libFuzzer as source. No nightly, no
# cargo-fuzz, no sanitizer: the crates have no unsafe code, and what a target looks for are panics,
# overflows and promises that do not hold.
#
#   tests/fuzz.sh run SECONDS [CRATE[/TARGET]...]    each target that long, one after another; all by default
#   tests/fuzz.sh keep [CRATE[/TARGET]...]           puts what reached new code into the corpus
#
# What a run finds lies in target/fuzz/found; an input that failed is target/fuzz/failed/CRATE-TARGET-…:
# mend the code, and put the input into the corpus, which `cargo test` reads.
set -eu
cd "$(dirname "$0")/.."
what=$1
shift
seconds=0
[ "$what" = run ] && { seconds=$1; shift; }
[ $# -gt 0 ] || set -- record agent msk loader

fuzz_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
pass="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
pass="$pass -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
pass="$pass -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
export RUSTFLAGS="$pass --cfg fuzzing -Cdebug-assertions -Ccodegen-units=16"
# With a target named, programs that run while building are left without counters.
export CARGO_TARGET_DIR="$fuzz_dir/build" CARGO_PROFILE_RELEASE_OPT_LEVEL=1

build() { # CRATE, in the versions of the workspace's lock
    cp Cargo.lock "$1/fuzz/Cargo.lock"
    cargo build -q --release --target "$host" --manifest-path "$1/fuzz/Cargo.toml"
}

# Any bytes to 8 KiB; an input that takes 10 s or 2 GiB has failed.
fuzz() { # CRATE TARGET
    found="$fuzz_dir/found/$1/$2"
    mkdir -p "$found" "$fuzz_dir/failed"
    program="$CARGO_TARGET_DIR/$host/release/$2"
    if [ "$what" = run ]; then
        echo "$1/$2, $seconds s"
        "$program" "$found" "$1/fuzz/corpus/$2" -max_total_time="$seconds" -max_len=8192 -timeout=10 \
            -rss_limit_mb=2048 -artifact_prefix="$fuzz_dir/failed/$1-$2-" -print_final_stats=1 2>"$found.log" \
            || { tail -n 20 "$found.log"; return 1; }
        grep -E '^(Done|stat::number_of|stat::new)' "$found.log"
        grep -E 'cov:' "$found.log" | sed -n '1p;$p'
    else
        # The fewest inputs that reach all lines that were reached; how often does not matter.
        "$program" -set_cover_merge=1 -use_counters=0 "$1/fuzz/corpus/$2" "$found" 2>"$found.log"
        echo "$1/$2: $(ls "$1/fuzz/corpus/$2" | wc -l) inputs"
    fi
}

status=0
for asked in "$@"; do
    crate=${asked%%/*}
    build "$crate"
    if [ "$asked" = "$crate" ]; then
        for file in "$crate"/fuzz/fuzz_targets/*.rs; do
            fuzz "$crate" "$(basename "$file" .rs)" || status=1
        done
    else
        fuzz "$crate" "${asked#*/}" || status=1
    fi
done
exit $status
