#!/usr/bin/env bash
# Builds the tests of the crate in the current folder and runs them on an emulated CPU with AVX-512, AVX-VNNI and AMX,
# on an x86_64 Debian machine that lacks some of them and reaches only package registries.
#
#   x86-env.sh [ARGS...]           cargo test ARGS; what follows -- goes to the test programs
#   x86-env.sh --exec PROGRAM...   a program, of this machine, with its arguments
#   x86-env.sh --setup             only prepare the environment
#
# qemu has neither AVX-512 nor AMX; Bochs has, but emulates a whole PC. So each test program is put into an initramfs,
# with the shared libraries that it needs, and a Linux is booted that runs it and nothing else (x86-init.c), in at most
# 1 GiB and on one CPU. It sees no files but its own. An emulator is one process: one runs per core of this machine.
#
# Nothing is installed: Debian packages are unpacked in a cache folder (debian.sh). What is fetched (about 60 MB), what
# is built:
#   - Bochs 3.0 from trixie's source: bookworm's knows no AVX-VNNI, and Debian's programs need half a desktop, and are
#     built with a debugger that halves their speed. Built by the host's compiler, in some 4 minutes of one core, with
#     bochs-amx.patch, without which tiles compute nonsense and Linux permits none;
#   - its BIOS, and the cloud kernel, of trixie: bookworm's 6.1 does not boot in Bochs 3.0;
#   - isolinux, xorriso and cpio of the host's release, for the disc that is booted, and patch.
#
# Environment:
#   X86_ENV         cache folder (default: target/x86-env)
#   X86_CPU         Bochs's CPU model (default: sapphire_rapids; corei7_icelake_u has AVX-512 only)
#   X86_JOBS        emulators at a time (default: one per core)
#   X86_TIMEOUT     seconds that a test program may take (default: 1800)
#   LUTMUL_KERNELS  the kernels that the tests run; by default all that this is for. A kernel of the list that can't
#                   run fails its tests; empty means all that run, the slow ones too
#   LUTMUL_*, RUST_BACKTRACE, RUST_TEST_*   are passed on
set -euo pipefail

# Raise it when what is in the cache folder changes; the patch counts by itself.
readonly FORMAT=1
readonly SUITE=trixie BOCHS=3.0 NAME=x86-env
HERE=$(cd "$(dirname "$0")" && pwd)
ENV_DIR=$(realpath -m -- "${X86_ENV:-target/x86-env}")
readonly HERE ENV_DIR
CHAIN=$ENV_DIR/bochs

# shellcheck source-path=SCRIPTDIR
. "$HERE/debian.sh"

setup_disc() {
  use_apt host
  fetch_closure "$WORK/disc" xorriso isolinux syslinux-common cpio patch
  unpack "$WORK/disc" "$NEW/root" "$OF_THE_MACHINE"
}

setup_bochs() {
  local kernel
  use_apt "$SUITE"
  kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
  fetch_only "$WORK/machine" "$kernel" bochsbios vgabios
  unpack "$WORK/machine" "$NEW/root" "$OF_THE_MACHINE"
  cp "$NEW"/root/boot/vmlinuz-* "$NEW/linux"
  rm -rf "$NEW"/root/{boot,usr/lib/modules}
  mkdir "$WORK/source" "$WORK/build"
  (cd "$WORK/source" && quiet apt-get -q source --download-only --tar-only bochs)
  tar -x -C "$WORK/source" --strip-components=1 -f "$WORK/source/bochs_$BOCHS+dfsg.orig.tar.xz" ||
    die "$SUITE has no Bochs $BOCHS, for which bochs-amx.patch is"
  quiet "$NEW/root/usr/bin/patch" -d "$WORK/source" -p1 -i "$HERE/bochs-amx.patch"
  log "Bochs $BOCHS, $kernel; compiling"
  (
    cd "$WORK/build"
    CFLAGS=-O2 CXXFLAGS='-O2 -DNDEBUG' quiet ../source/configure --with-nogui --enable-cpu-level=6 --enable-x86-64 \
      --enable-avx --enable-evex --enable-amx --enable-all-optimizations --disable-docbook --disable-plugins \
      --disable-show-ips
    quiet make -j "$(nproc)"
  )
  cp "$WORK/build/bochs" "$NEW/bochs"
}

# Compiles and runs a program, so that a broken environment is never kept.
try_out() {
  cat >"$WORK/try.rs" <<'RUST'
fn main() {
    use std::arch::is_x86_feature_detected as detected;
    assert!(detected!("avx512bw") && detected!("avx512vbmi") && detected!("avx512vnni"));
    // Linux names what it lets programs use.
    assert!(std::fs::read_to_string("/proc/cpuinfo").unwrap().contains(" amx_int8 "));
    println!("ran");
}
RUST
  quiet rustc --edition 2024 -o "$WORK/try" "$WORK/try.rs"
  run "$WORK/try" >"$WORK/tried" && [[ $(<"$WORK/tried") == *ran* ]] || die 'the trial program did not run'
}

setup() {
  setup_disc
  setup_bochs
  X86_CPU=sapphire_rapids CHAIN=$NEW try_out
}

# Makes the disc that boots into the program.
disc() { # DIR PROGRAM ARGS...
  local dir=$1 program=$2 lib
  mkdir -p "$dir/root"
  cc -O2 -static -o "$dir/root/init" "$HERE/x86-init.c"
  strip -g -o "$dir/root/program" "$program"
  # ldd names libraries by their paths, as the loader will ask for them.
  while read -r lib; do
    mkdir -p "$dir/root/${lib%/*}"
    cp -L "$lib" "$dir/root/$lib"
  done < <(ldd "$program" | grep -o '/[^ ]*')
  printf '%s\0' /program "${@:3}" >"$dir/root/args"
  {
    printf 'PATH=/\0HOME=/tmp\0'
    env -0 | grep -z -E '^(LUTMUL_|RUST_BACKTRACE=|RUST_TEST_)' || true
  } >"$dir/root/env"
  (cd "$dir/root" && find . | "$CHAIN/root/bin/cpio" -o -H newc --quiet) >"$dir/initrd"
  # Without ACPI there is less to boot. A kernel that panics ends Bochs, by a triple fault.
  cat >"$dir/isolinux.cfg" <<'CFG'
default linux
prompt 0
label linux
  kernel /linux
  append initrd=/initrd console=ttyS0,115200 quiet acpi=off nokaslr mitigations=off panic=-1 reboot=t
CFG
  local share=$CHAIN/root/usr/lib
  LD_LIBRARY_PATH=$share/x86_64-linux-gnu:$CHAIN/root/lib/x86_64-linux-gnu \
    "$CHAIN/root/usr/bin/xorriso" -as mkisofs -quiet -graft-points -o "$dir/disc.iso" \
    -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    isolinux.bin="$share/ISOLINUX/isolinux.bin" ldlinux.c32="$share/syslinux/modules/bios/ldlinux.c32" \
    isolinux.cfg="$dir/isolinux.cfg" linux="$CHAIN/linux" initrd="$dir/initrd" 2>"$dir/xorriso.log" ||
    die "xorriso: $(tail -n 5 "$dir/xorriso.log")"
  rm -rf "$dir/root" "$dir/initrd"
}

# Runs a program in a machine of its own; prints what it prints, behind its name. Fails if it does, or does not end.
run() ( # PROGRAM ARGS...
  start=$SECONDS
  name=${1##*/} name=${name%-????????????????} # cargo's hash
  dir=$(mktemp -d "$ENV_DIR/run.XXXXXX")
  trap 'rm -rf "$dir"' EXIT
  disc "$dir" "$@"
  # One instruction is one tick: so many a second make a second of the machine's clock.
  cat >"$dir/bochsrc" <<CFG
romimage: file=$CHAIN/root/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=$CHAIN/root/usr/share/vgabios/vgabios.bin
memory: guest=1024, host=1024
cpu: model=${X86_CPU:-sapphire_rapids}, count=1, ips=200000000, reset_on_triple_fault=0
clock: sync=none
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$dir/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$dir/kernel.log
port_e9_hack: enabled=1
log: $dir/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
display_library: nogui
CFG
  # Bochs's own exit code says nothing.
  { timeout "${X86_TIMEOUT:-1800}" "$CHAIN/bochs" -q -f "$dir/bochsrc" 2>"$dir/stderr" || true; } |
    sed -u '1,/^x86-init: start/d' | tee "$dir/output" | sed -u -e '/^x86-init: /d' -e "s/^/$name: /"
  end=$(sed -n 's/^x86-init: //p' "$dir/output")
  log "$name: ${end:-did not end} (after $((SECONDS - start)) s)"
  # A machine that did not get to the program's end says why elsewhere.
  [[ $end == exit* ]] || tail -n 20 "$dir/kernel.log" "$dir/bochs.log" "$dir/stderr" >&2 || true
  [[ $end == 'exit 0' ]]
)

# The test programs that cargo makes.
test_programs() { # ARGS...
  cargo test --no-run --message-format=json-render-diagnostics "$@" | python3 -c '
import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("executable") and made["profile"]["test"]:
        print(made["executable"])'
}

tests() { # ARGS...
  local -a args=() programs=() pids=()
  local program failed=0
  while (($#)) && [[ $1 != -- ]]; do
    args+=("$1")
    shift
  done
  program=$(test_programs "${args[@]}") # not in <( ), which would hide that it failed
  mapfile -t programs <<<"$program"
  [[ -n $program ]] || die 'no test programs'
  for program in "${programs[@]}"; do
    while (($(jobs -rp | wc -l) >= ${X86_JOBS:-$(nproc)})); do sleep 0.2; done
    run "$program" "${@:2}" &
    pids+=($!)
  done
  for program in "${!programs[@]}"; do
    wait "${pids[program]}" || {
      log "failed: ${programs[program]}"
      failed=1
    }
  done
  log "${#programs[@]} test programs, $([[ $failed == 0 ]] && echo all passed || echo some failed)"
  return "$failed"
}

main() {
  export LUTMUL_KERNELS=${LUTMUL_KERNELS-amx,avx512bf16,avx512vbmi,avx512,avxvnni}
  prepare "$CHAIN" "$FORMAT $(sha256sum <"$HERE/bochs-amx.patch")" setup
  case ${1-} in
    --setup) ;;
    --exec) run "${@:2}" ;;
    *) tests "$@" ;;
  esac
}

main "$@"
