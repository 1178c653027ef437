#!/usr/bin/env bash
# Makes small model files of every layout that lutmul reads, cut from the real MiniLM, each with its weights and
# products as numpy and ml_dtypes have them:
#
#   scripts/fixtures.sh [FOLDER]        (default: target/fixtures of this repository)
#
# and prints the folder. `cargo test -p lutmul --features checkpoint --test fixtures` reads it, and fails where
# LUTMUL_FIXTURES names a folder without them. A folder that is of the same scripts and models already is left as it is.
# Python's packages are kept in ~/.cache/lutmul, as fetch-models.sh keeps the models; nothing is installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(realpath -m -- "${1:-$here/../target/fixtures}")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lutmul
python=$("$here/python-env.sh" fixtures "$here/fixtures/requirements.txt")
models=$("$here/fetch-models.sh" "$cache/models-1")
mapfile -t models <<<"$models" # MiniLM, SmolLM2

stamp=$({ cat "$here"/fixtures/*.* "$here"/export-qins.py; echo "$python ${models[*]}"; } | sha256sum)
mkdir -p "$(dirname "$folder")"
# Two that run at the same time make them once.
exec 9>"$folder.lock"
flock 9
if [[ -f $folder/manifest.json && $(cat "$folder/stamp" 2>/dev/null) == "$stamp" ]]; then
    echo "$folder"
    exit
fi
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
PYTHONDONTWRITEBYTECODE=1 "$python" "$here/fixtures/make.py" "${models[@]}" "$work" >&2
echo "$stamp" >"$work/stamp"
rm -rf "$folder"
mv "$work" "$folder"
echo "$folder"
