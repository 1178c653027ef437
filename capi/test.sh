#!/usr/bin/env bash
# Tests the C ABI as C programs meet it: compares the header with the source, installs into a prefix, builds the
# programs of examples/ and tests/ against that, and runs them, also under valgrind and the sanitizers.
#
#   capi/test.sh [STEP...]    steps: tools header install programs valgrind ggml address thread; all of them if
#                             none is named. aarch64 is run by itself, within scripts/aarch64-env.sh --exec
#
# LUTMUL_FILE names a file that `lutmul convert` has written, for examples/layer.c. cbindgen, cargo-c and ggml are
# fetched into a cache outside the clone, by version.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CBINDGEN=0.29.4 CARGO_C=0.10.24+cargo-0.98.0 GGML=0.20.2.post1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lutmul
target=$(realpath -m -- "${CARGO_TARGET_DIR:-target}")
triple=$(rustc -vV | sed -n 's/^host: //p')
prefix=$target/capi/prefix
warnings=(-Wall -Wextra -Wpedantic -Werror)
c=(-std=c99 "${warnings[@]}")
cxx=(-x c++ -std=c++11 "${warnings[@]}")
packages=(-p lutmul-kernels -p lutmul -p lutmul-capi)
left_out=()

say() { printf '\n--- %s\n' "$*"; }

# What cannot be tested here is said, now and at the end.
leave_out() {
  left_out+=("$*")
  printf 'LEFT OUT: %s\n' "$*"
}

# tool PACKAGE VERSION: makes sure of a cargo tool. Unoptimised, it compiles in a fraction of the time.
tool() {
  local root=$cache/$1-$2
  mkdir -p "$root"
  exec 8>"$root/.lock"
  flock 8 # a second caller waits here, then finds it made
  if [[ ! -f $root/.crates.toml ]]; then
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_TARGET_DIR=$target/tools \
      cargo install --quiet --locked --root "$root" "$1@$2"
    rm -rf "$target/tools"
  fi
  exec 8>&-
  PATH=$root/bin:$PATH
}

# Where ggml is.
fetch_ggml() {
  local from=$cache/ggml-$GGML new
  if [[ ! -d $from ]]; then
    new=$(mktemp -d "$cache/ggml.XXXXXX")
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
      --only-binary :all: --target "$new" "libggml-python==$GGML" >&2
    mv "$new" "$from"
  fi
  echo "$from/libggml"
}

# All that is fetched.
tools() {
  say "tools"
  mkdir -p "$cache"
  tool cbindgen "$CBINDGEN"
  tool cargo-c "$CARGO_C"
  fetch_ggml
}

# build OUT COMPILER FLAGS... -- LINK...: all programs. The C compiler's flags come before the sources, so that
# `-x c++` has an effect on these only.
build() {
  local out=$1 compiler=$2 flags=() link
  shift 2
  while [[ $1 != -- ]]; do flags+=("$1") && shift; done
  link=("${@:2}")
  mkdir -p "$out"
  program() { # NAME SOURCE...
    "$compiler" -O1 -g "${flags[@]}" -pthread -o "$out/$1" "${@:2}" -x none "${link[@]}" -lm
  }
  program smallest capi/examples/smallest.c
  program threads capi/examples/threads.c
  program layer capi/examples/layer.c
  program rows_test capi/examples/ggml/rows_test.c capi/examples/ggml/rows.c
  program differential capi/tests/differential.c
}

# run OUT CASES COMMAND...: runs the programs, with a command before them.
run() {
  local out=$1 cases=$2
  shift 2
  "$@" "$out/smallest" >/dev/null
  "$@" "$out/threads"
  "$@" "$out/rows_test"
  "$@" "$out/differential" "${LUTMUL_SEED:-1}" "$cases"
  if [[ -n ${LUTMUL_FILE-} ]]; then
    "$@" "$out/layer" "$LUTMUL_FILE"
  else
    leave_out "layer: LUTMUL_FILE is not set"
  fi
}

header() {
  say "header: what cbindgen makes of the source"
  tool cbindgen "$CBINDGEN"
  cbindgen --quiet --config capi/cbindgen.toml capi | diff -u capi/include/lutmul.h -
}

install() {
  say "cargo cinstall"
  tool cargo-c "$CARGO_C"
  rm -rf "$prefix"
  # Programs need not be fast here, and the kernels take minutes to optimise.
  CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo cinstall --release -p lutmul-capi --prefix="$prefix" --libdir=lib --target-dir="$target"
  find "$prefix" ! -type d -printf '%P %l\n' | sort
}

# What `pkg-config` says of the installed library.
installed() { PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config "$@" lutmul; }

programs() {
  local flags shared static
  read -ra flags < <(installed --cflags)
  read -ra shared < <(installed --libs)
  read -ra static < <(installed --libs --static | sed 's/-llutmul/-l:liblutmul.a/')
  say "programs: C99, shared"
  build "$target/capi/c" gcc "${c[@]}" "${flags[@]}" -- "${shared[@]}" "-Wl,-rpath,$prefix/lib"
  run "$target/capi/c" 60 env
  say "programs: C++11, static"
  build "$target/capi/cxx" g++ "${cxx[@]}" "${flags[@]}" -- "${static[@]}"
  run "$target/capi/cxx" 10 env
  say "programs: Python"
  python3 peers/pytorch.py --check --library "$prefix/lib/liblutmul.so"
}

valgrind() {
  say "valgrind"
  if ! type -P valgrind >/dev/null; then
    leave_out "valgrind: not installed"
    return
  fi
  # It knows AVX2 and no AVX-512, and the CPU that it shows to programs is such a one. "Possibly lost" is what
  # rayon's threads leave to each other to free.
  run "$target/capi/c" 3 "$(type -P valgrind)" --quiet --error-exitcode=9 --leak-check=full \
    --errors-for-leak-kinds=definite --show-leak-kinds=definite
}

ggml() {
  say "a ggml graph"
  local from
  from=$(fetch_ggml)
  capi/examples/ggml/build.sh "$from" "$prefix" "$target/capi/ggml"
  "$target/capi/ggml"
}

# sanitized NAME CFLAGS...: builds the programs with Rust's code instrumented, and C's if CFLAGS say so.
sanitized() {
  local name=$1
  shift
  build "$target/capi/$name" gcc "${c[@]}" -Icapi/include "$@" -- \
    "$target/$name/$triple/debug/liblutmul_capi.a"
}

address() {
  say "AddressSanitizer"
  if ! scripts/sanitize.sh address --runtime; then
    leave_out "AddressSanitizer: this Rust toolchain comes without its runtime"
    return
  fi
  # With the tests, as .ci/run has compiled them: by itself the library would have other features, and be compiled again.
  scripts/sanitize.sh address build --quiet "${packages[@]}" --all-features --lib --tests
  sanitized asan -fsanitize=address,undefined
  run "$target/capi/asan" 5 env
}

# gcc's own runtime lacks functions that Rust's code calls, so it is Rust's, which knows of pthreads what C does. C's
# code is as it is: its threads share a counter under a lock. Rust's std is not instrumented, and rayon's threads,
# which wait by means of it, would seem to race: so the programs are those whose threads are C's.
thread() {
  say "ThreadSanitizer"
  local runtime
  if ! runtime=$(scripts/sanitize.sh thread --runtime); then
    leave_out "ThreadSanitizer: this Rust toolchain comes without its runtime"
    return
  fi
  CARGO_PROFILE_DEV_OPT_LEVEL=1 scripts/sanitize.sh thread build --quiet "${packages[@]}" --all-features
  sanitized tsan "-Wl,--whole-archive,$runtime,--no-whole-archive"
  "$target/capi/tsan/threads"
  "$target/capi/tsan/rows_test"
  leave_out "ThreadSanitizer: lutmul's own threads, which std, not instrumented, would seem to let race"
}

aarch64() {
  say "aarch64 under qemu"
  local triple=aarch64-unknown-linux-gnu
  # With the tests, as in `address`.
  cargo build --quiet --target "$triple" "${packages[@]}" --features lutmul/checkpoint --lib --tests
  build "$target/capi/aarch64" "$CC_aarch64_unknown_linux_gnu" "${c[@]}" -Icapi/include -- \
    "$CARGO_TARGET_DIR/$triple/debug/liblutmul_capi.a"
  run "$target/capi/aarch64" 5 "$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER"
}

steps=("$@")
((${#steps[@]})) || steps=(tools header install programs valgrind ggml address thread)
for step in "${steps[@]}"; do "$step"; done
for what in "${left_out[@]}"; do printf 'LEFT OUT: %s\n' "$what"; done
