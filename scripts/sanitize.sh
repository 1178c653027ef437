#!/usr/bin/env bash
# Runs cargo with a sanitizer, by the installed toolchain, which need not be a nightly one.
#
#   scripts/sanitize.sh address|thread SUBCOMMAND [ARGS...]    cargo SUBCOMMAND --target (this machine) ARGS
#   scripts/sanitize.sh address|thread --runtime               the path of the sanitizer's runtime; fails if the
#                                                              toolchain comes without it (Debian's does)
#
# What it makes is in target/asan or target/tsan, below the target's triple. std itself is not instrumented, which takes
# a nightly toolchain and std's source.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
case $1 in
  address) short=asan flags=-Zsanitizer=address ;;
  # std was compiled without it, which rustc wants to hear that one knows.
  thread) short=tsan flags='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' ;;
  *) echo "sanitize.sh: there is no $1 here" >&2 && exit 2 ;;
esac
triple=$(rustc -vV | sed -n 's/^host: //p')
runtime=$(find "$(rustc --print target-libdir)" -name "librustc-*_rt.$short.a")
if [[ $2 == --runtime ]]; then
  [[ -n $runtime ]] || exit 1
  echo "$runtime"
  exit
fi
[[ -n $runtime ]] || { echo "sanitize.sh: this toolchain has no runtime for $1" >&2 && exit 1; }
# RUSTC_BOOTSTRAP lets a stable rustc take -Z. tests/memory.rs asks for more than there is: the allocator has to say so,
# as it does without the sanitizer.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/$short
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1}
exec cargo "$2" --target "$triple" "${@:3}"
