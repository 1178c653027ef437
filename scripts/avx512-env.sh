#!/usr/bin/env bash
# Builds the tests of the crate in the current folder and runs them on an emulated CPU with AVX-512 and AVX-VNNI, on
# an x86_64 Debian machine that has neither and reaches only package registries.
#
#   avx512-env.sh [ARGS...]           cargo test ARGS; what follows -- goes to the test programs
#   avx512-env.sh --exec PROGRAM...   a program, of this machine, with its arguments
#   avx512-env.sh --setup             only prepare the environment
#
# qemu has no AVX-512; Bochs has, but emulates a whole PC. So each test program is put into an initramfs, with the
# shared libraries that it needs, and a Linux is booted that runs it and nothing else (avx512-init.c), in at most 1 GiB
# and on one CPU. It sees no files but its own. An emulator is one process: one runs per core of this machine.
#
# Nothing is installed: Debian packages are checked and fetched by apt with a configuration of its own and unpacked in a
# cache folder, which is reused as long as it is there. What is fetched (about 60 MB), what is built:
#   - Bochs from trixie's source: bookworm's knows no AVX-VNNI, and Debian's programs need half a desktop, and are built
#     with a debugger that halves their speed. Built by the host's compiler, in some 3 minutes of one core;
#   - its BIOS, and the cloud kernel, of trixie: bookworm's 6.1 does not boot in Bochs 3.0;
#   - isolinux, xorriso and cpio of the host's release, for the disc that is booted.
#
# Environment:
#   AVX512_ENV      cache folder (default: target/avx512-env)
#   AVX512_CPU      Bochs's CPU model (default: sapphire_rapids, with AVX-VNNI too; corei7_icelake_u has none)
#   AVX512_JOBS     emulators at a time (default: one per core)
#   AVX512_TIMEOUT  seconds that a test program may take (default: 1800)
#   LUTMUL_KERNELS  the kernels that the tests run; by default all that this is for. A kernel of the list that can't
#                   run fails its tests; empty means all that run, the slow ones too
#   LUTMUL_*, RUST_BACKTRACE, RUST_TEST_*   are passed on
set -euo pipefail

readonly FORMAT=1 # raise it when the layout of the cache folder changes
readonly SUITE=trixie
HERE=$(cd "$(dirname "$0")" && pwd)
ENV_DIR=$(realpath -m -- "${AVX512_ENV:-target/avx512-env}")
readonly HERE ENV_DIR CHAIN=$ENV_DIR/bochs

log() { printf 'avx512-env: %s\n' "$*" >&2; }
die() {
  log "$*"
  exit 1
}

# Runs a command; shows what it printed only if it fails.
quiet() {
  "$@" >>"$WORK/log" 2>&1 || {
    tail -n 25 "$WORK/log" >&2
    die "failed: ${*:1:4} ..."
  }
}

# Debian's mirror that this machine uses.
mirror() {
  local f url
  for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [[ -s $f ]] || continue
    url=$(awk '/^URIs:/ { print $2; exit }
               $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z]+:\/\//) { print $i; exit } }' "$f")
    [[ -n $url ]] && echo "$url" && return
  done
  die 'no Debian mirror found under /etc/apt'
}

# Switches to an apt of our own, for one suite: no hooks, an empty list of installed packages. The machine's network
# settings are kept.
use_apt() { # SUITE
  local d=$WORK/apt-$1 from
  from="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $1 main"
  mkdir -p "$d"/{lists/partial,archives/partial,empty}
  : >"$d/status"
  printf 'deb %s\ndeb-src %s\n' "$from" "$from" >"$d/sources.list"
  {
    apt-config dump | grep -E '^Acquire::(http|https|ForceIPv|Check-)' || true
    cat <<CONF
Dir::State::lists "$d/lists";
Dir::State::status "$d/status";
Dir::Cache "$d";
Dir::Cache::archives "$d/archives";
Dir::Etc::sourcelist "$d/sources.list";
Dir::Etc::sourceparts "$d/empty";
Dir::Etc::preferences "$d/none";
Dir::Etc::preferencesparts "$d/empty";
Dir::Etc::parts "$d/empty";
Dir::Etc::main "$d/none";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
  } >"$d/apt.conf"
  export APT_CONFIG=$d/apt.conf
  quiet apt-get -q -o APT::Update::Error-Mode=any update
}

# Unpacks all packages of FOLDER into the new environment, without the C library and its like.
unpack() { # FOLDER
  local deb name
  for deb in "$1"/*.deb; do
    name=${deb##*/}
    [[ ${name%%_*} =~ ^(libc6|libgcc-s1|gcc-[0-9]+-base)$ ]] || dpkg-deb -x "$deb" "$NEW/root"
  done
}

setup_disc() {
  local release
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  use_apt "$release"
  mkdir -p "$WORK/disc/partial"
  quiet apt-get -q -y --download-only -o "Dir::Cache::archives=$WORK/disc" \
    install xorriso isolinux syslinux-common cpio
  unpack "$WORK/disc"
}

setup_bochs() {
  local kernel
  use_apt "$SUITE"
  kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
  mkdir "$WORK/machine" "$WORK/source" "$WORK/build"
  (cd "$WORK/machine" && quiet apt-get -q download "$kernel" bochsbios vgabios)
  (cd "$WORK/source" && quiet apt-get -q source --download-only --tar-only bochs)
  tar -x -C "$WORK/source" --strip-components=1 -f "$WORK"/source/bochs_*.orig.tar.*
  unpack "$WORK/machine"
  cp "$NEW"/root/boot/vmlinuz-* "$NEW/linux"
  rm -rf "$NEW"/root/{boot,lib/modules,usr/lib/modules}
  log "$(basename "$WORK"/source/bochs_*), $kernel; compiling"
  (
    cd "$WORK/build"
    CFLAGS=-O2 CXXFLAGS='-O2 -DNDEBUG' quiet ../source/configure --with-nogui --enable-cpu-level=6 --enable-x86-64 \
      --enable-avx --enable-evex --enable-all-optimizations --disable-docbook --disable-plugins --disable-show-ips
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
    println!("ran");
}
RUST
  quiet rustc --edition 2024 -o "$WORK/try" "$WORK/try.rs"
  run "$WORK/try" >"$WORK/tried" && [[ $(<"$WORK/tried") == *ran* ]] || die 'the trial program did not run'
}

setup() {
  [[ $(uname -m) == x86_64 ]] || die 'this script is for x86_64'
  [[ $ENV_DIR != *[[:space:]]* ]] || die 'the path of the cache folder has a space'
  mkdir -p "$ENV_DIR"
  exec 9>"$ENV_DIR/.lock"
  flock 9 # a second caller waits here, then finds the environment made
  if [[ ! -f $CHAIN/stamp || $(<"$CHAIN/stamp") != "$FORMAT" ]]; then
    local start=$SECONDS
    WORK=$ENV_DIR/work NEW=$CHAIN
    rm -rf "$CHAIN" "$WORK"
    mkdir -p "$WORK" "$NEW/root"
    log "preparing $CHAIN"
    setup_disc
    setup_bochs
    unset APT_CONFIG
    AVX512_CPU=sapphire_rapids try_out
    echo "$FORMAT" >"$CHAIN/stamp"
    rm -rf "$WORK"
    log "ready after $((SECONDS - start)) s"
  fi
  exec 9>&-
}

# Makes the disc that boots into the program.
disc() { # DIR PROGRAM ARGS...
  local dir=$1 program=$2 lib
  mkdir -p "$dir/root"
  cc -O2 -static -o "$dir/root/init" "$HERE/avx512-init.c"
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
cpu: model=${AVX512_CPU:-sapphire_rapids}, count=1, ips=200000000, reset_on_triple_fault=0
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
  { timeout "${AVX512_TIMEOUT:-1800}" "$CHAIN/bochs" -q -f "$dir/bochsrc" 2>"$dir/stderr" || true; } |
    sed -u '1,/^avx512-init: start/d' | tee "$dir/output" | sed -u -e '/^avx512-init: /d' -e "s/^/$name: /"
  end=$(sed -n 's/^avx512-init: //p' "$dir/output")
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
    while (($(jobs -rp | wc -l) >= ${AVX512_JOBS:-$(nproc)})); do sleep 0.2; done
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
  export LUTMUL_KERNELS=${LUTMUL_KERNELS-avx512vbmi,avx512,avxvnni}
  setup
  case ${1-} in
    --setup) ;;
    --exec) run "${@:2}" ;;
    *) tests "$@" ;;
  esac
}

main "$@"
