#!/usr/bin/env bash
# A Python with the packages of a list, outside of the clone:
#
#   scripts/python-env.sh NAME REQUIREMENTS
#
# makes ~/.cache/lutmul/NAME-env-HASH once, HASH being of the list and of Python's version, and prints its python.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/lutmul
hash=$({ python3 --version; cat "$2"; } | sha256sum | head -c 12)
env=$cache/$1-env-$hash
mkdir -p "$cache"
# Two that run at the same time make one.
exec 9>"$env.lock"
flock 9
if ! [[ -f $env/complete ]]; then
    rm -rf "$env"
    python3 -m venv "$env"
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps -r "$2" >&2
    touch "$env/complete"
fi
echo "$env/bin/python"
