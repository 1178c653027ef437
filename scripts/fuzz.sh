#!/usr/bin/env bash
# Fuzzes what reads files, and products with what was read:
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]       each target for so long (default: 5 seconds), fuzz/fuzz_targets/ all
#   scripts/fuzz.sh --runs COUNT [TARGET...]    each target so many times
#   scripts/fuzz.sh --build                     only compiles
#
# Begins with the seeds that scripts/fixtures.sh makes, and what earlier runs found, in fuzz/corpus. A fault ends it,
# with the input in fuzz/artifacts. By the nightly toolchain where there is one, else by the installed one. cargo-fuzz is
# kept in ~/.cache/lutmul. FUZZ_SANITIZER=address finds more, and compiles longer.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly VERSION=0.13.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lutmul
tool=$cache/cargo-fuzz-$VERSION
limit=-max_total_time=5 build=
case ${1-} in
    --runs) limit=-runs=$2 && shift 2 ;;
    --build) build=1 && shift ;;
    [0-9]*) limit=-max_total_time=$1 && shift ;;
esac

mkdir -p "$cache"
exec 9>"$tool.lock"
flock 9
[[ -x $tool/bin/cargo-fuzz ]] ||
    cargo install --quiet --locked --root "$tool" --target-dir "$cache/cargo-fuzz-build" "cargo-fuzz@$VERSION"
rm -rf "$cache/cargo-fuzz-build"
flock -u 9

cd "$root"
export PATH=$tool/bin:$PATH CARGO_INCREMENTAL=0
unset CARGO_PROFILE_RELEASE_CODEGEN_UNITS
if cargo +nightly --version >/dev/null 2>&1; then
    export RUSTUP_TOOLCHAIN=nightly
else
    # Lets a stable rustc take what cargo-fuzz says.
    export RUSTC_BOOTSTRAP=1
fi
options=(--sanitizer "${FUZZ_SANITIZER:-none}" --target-dir "${CARGO_TARGET_DIR:-$root/target}/fuzz")
cargo fuzz build "${options[@]}"
[[ -z $build ]] || exit 0
fixtures=$(scripts/fixtures.sh "${LUTMUL_FIXTURES:-$root/target/fixtures}")
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
    printf '=== %s\n' "$target"
    corpus=fuzz/corpus/$target seeds=$fixtures/seeds/$target
    mkdir -p "$corpus" "$seeds"
    cargo fuzz run "${options[@]}" "$target" "$corpus" "$seeds" -- "$limit" -max_len=16384 -timeout=20 \
        -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 2>&1 | grep -v '^ *$'
done
