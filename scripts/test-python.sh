#!/usr/bin/env bash
# Builds the Python package as a wheel, installs it in a folder of its own, and runs its tests by that:
#
#   scripts/test-python.sh [PYTEST-ARGS...]
#
# The wheel is compiled in cargo's target folder, with what other steps have compiled there in release. What Python needs is
# in ~/.cache/lutmul (python-env.sh). PyTorch is too large (6.8 GB with what its wheel on PyPI wants) to be fetched for
# this: where ~/.cache/lutmul/torch-1 (`peers/pytorch.py --setup`) is no environment with it, or TORCH_PYTHON names none,
# layers for PyTorch and transformers are left out.
#
# For another machine than this: TEST_WHEEL is a wheel that is there already, TEST_PYTHON a Python that runs here and has
# what python/requirements.txt lists (aarch64-env.sh --python). Without PyTorch and transformers.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lutmul
CARGO_TARGET_DIR=$(realpath -m -- "${CARGO_TARGET_DIR:-$root/target}")
export CARGO_TARGET_DIR
packages() { # PYTHON
    "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

base=$("$here/python-env.sh" python "$root/python/requirements.txt")
python=$base
path=$(packages "$base")
needs=numpy,ml_dtypes,matplotlib
platform=()
torch=${TORCH_PYTHON:-$cache/torch-1/bin/python}
version='import sys; print(sys.version_info[:2])'
if [[ -n ${TEST_WHEEL-} ]]; then
    python=$TEST_PYTHON path=
    machine=$(basename "${TEST_WHEEL##*-}" .whl)
    echo "LEFT OUT: the Python package's layers for PyTorch, and transformers, on $machine"
    platform=(--platform "$machine" --only-binary :all:)
elif ! "$torch" -c 'import torch' 2>/dev/null; then
    echo "LEFT OUT: the Python package's layers for PyTorch, and transformers: there is no torch in $torch"
elif [[ $("$torch" -c "$version") != "$("$base" -c "$version")" ]]; then
    echo "LEFT OUT: the Python package's layers for PyTorch, and transformers: $torch is another Python's"
else
    python=$torch
    path=$path:$(packages "$("$here/python-env.sh" transformers "$root/python/requirements-transformers.txt")")
    needs=$needs,torch,transformers
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wheel=${TEST_WHEEL-}
if [[ -z $wheel ]]; then
    # For this Linux: what older ones would lack is not looked for.
    (cd "$root/python" && PATH=$(dirname "$base"):$PATH maturin build --quiet --release --locked \
        --interpreter "$base" --compatibility linux --out "$work/wheel")
    wheel=$(echo "$work"/wheel/*.whl)
fi
ls -l "$wheel" | awk '{ print $5, "bytes:", $NF }'
# By pip, as anybody would; without its dependencies, which the path has.
"$base" -m pip install --quiet --disable-pip-version-check --no-index --no-deps "${platform[@]}" --target "$work/site" "$wheel"
export PYTHONPATH=$work/site${path:+:$path} PYTHONDONTWRITEBYTECODE=1 LUTMUL_NEEDS=$needs HF_HUB_OFFLINE=1 MPLCONFIGDIR=$work
# Away from the sources, whose folder lutmul has no extension module.
cp -r "$root/python/pyproject.toml" "$root/python/tests" "$work/"
cd "$work"
LUTMUL_REPOSITORY=$root "$python" -m pytest -p no:cacheprovider -c pyproject.toml "$@" tests
