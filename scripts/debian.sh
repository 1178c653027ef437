# What aarch64-env.sh and x86-env.sh share; sourced by them. Prepares a folder of tools from Debian's packages, on a
# Debian machine that reaches only package registries. Nothing is installed: packages are checked and fetched by apt
# with a configuration of its own and unpacked in a cache folder, which is reused as long as it is there. dpkg's state
# stays as it is; root is not needed.
#
# Who sources this defines NAME, for messages, and ENV_DIR, the cache folder.
# shellcheck shell=bash

# The C library and its like are the machine's, of the same release or a newer one: a pattern of package names.
readonly OF_THE_MACHINE='libc6|libgcc-s1|libstdc\+\+6|gcc-[0-9]+-base'

log() { printf '%s: %s\n' "$NAME" "$*" >&2; }
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

# prepare FOLDER STAMP FUNCTION [ARGUMENT...]: makes FOLDER, unless it is there with that stamp. The function fills the
# folder NEW and may use WORK, which is removed.
prepare() {
  [[ $(uname -m) == x86_64 ]] || die 'this script is for x86_64'
  [[ $ENV_DIR != *[[:space:]]* ]] || die 'the path of the cache folder has a space'
  mkdir -p "$ENV_DIR"
  exec 9>"$ENV_DIR/.lock"
  flock 9 # a second caller waits here, then finds it made
  if [[ ! -f $1/stamp || $(<"$1/stamp") != "$2" ]]; then
    local start=$SECONDS
    WORK=$ENV_DIR/work NEW=$ENV_DIR/new
    rm -rf "$1" "$WORK" "$NEW"
    mkdir -p "$WORK" "$NEW"
    log "preparing $1"
    "${@:3}"
    unset APT_CONFIG
    echo "$2" >"$NEW/stamp"
    mv "$NEW" "$1"
    rm -rf "$WORK"
    log "ready after $((SECONDS - start)) s"
  fi
  exec 9>&-
}

# The file in which this machine names Debian's mirror.
host_sources() {
  local f
  for f in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    if [[ -s $f ]]; then
      echo "$f"
      return
    fi
  done
  die 'no Debian sources found under /etc/apt'
}

# The sources of one suite, of the mirror that this machine uses.
suite_sources() { # SUITE FILE
  local url from
  url=$(awk '/^URIs:/ { print $2; exit }
             $1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z]+:\/\//) { print $i; exit } }' "$(host_sources)")
  [[ -n $url ]] || die 'no mirror found in the apt sources'
  from="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $1 main"
  printf 'deb %s\ndeb-src %s\n' "$from" "$from" >"$2"
}

# Switches to an apt of our own: no hooks, an empty list of installed packages. It fetches from SUITE, or, if that is
# "host", from where this machine does; packages of amd64, and of the other architectures that are named. The machine's
# network settings are kept.
use_apt() { # SUITE [ARCHITECTURE...]
  local d=$WORK/apt-$1 sources architecture
  mkdir -p "$d"/{lists/partial,archives/partial,empty}
  : >"$d/status"
  if [[ $1 == host ]]; then
    sources=$(host_sources)
  else
    sources=$d/suite.list
    suite_sources "$1" "$sources"
  fi
  {
    apt-config dump | grep -E '^Acquire::(http|https|ForceIPv|Check-)' || true
    cat <<CONF
Dir::State::lists "$d/lists";
Dir::State::status "$d/status";
Dir::Cache "$d";
Dir::Cache::archives "$d/archives";
Dir::Etc::sourcelist "$sources";
Dir::Etc::sourceparts "$d/empty";
Dir::Etc::preferences "$d/none";
Dir::Etc::preferencesparts "$d/empty";
Dir::Etc::parts "$d/empty";
Dir::Etc::main "$d/none";
APT::Architecture "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
    for architecture in amd64 "${@:2}"; do
      printf 'APT::Architectures:: "%s";\n' "$architecture"
    done
  } >"$d/apt.conf"
  export APT_CONFIG=$d/apt.conf
  quiet apt-get -q -o APT::Update::Error-Mode=any update
}

# Fetches packages and all that they depend on / only the packages, into FOLDER.
fetch_closure() { # FOLDER PACKAGE...
  mkdir -p "$1/partial"
  quiet apt-get -q -y --download-only -o "Dir::Cache::archives=$1" install "${@:2}"
}
fetch_only() { # FOLDER PACKAGE...
  mkdir -p "$1"
  (cd "$1" && quiet apt-get -q download "${@:2}")
}

# Unpacks the packages of FOLDER into ROOT, where lib is usr/lib. EXCEPT is a pattern of package names to leave out;
# what follows are options of tar.
unpack() { # FOLDER ROOT EXCEPT [OPTION...]
  local deb name
  mkdir -p "$2/usr/lib"
  ln -sfn usr/lib "$2/lib"
  for deb in "$1"/*.deb; do
    name=${deb##*/}
    [[ ${name%%_*} =~ ^($3)$ ]] && continue
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$2" --keep-directory-symlink --no-same-owner "${@:4}"
  done
}
