#!/usr/bin/env bash
# Saves the fixtures' QINS model with torch.save, exports it, and compares. torch is too large (6.8 GB with what its wheel
# on PyPI wants) to be fetched for this: where ~/.cache/lutmul/torch-1 is no environment with it, or TORCH_PYTHON names
# none, this is left out, and what is tested is the exporter with numpy's arrays, which scripts/fixtures.sh runs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lutmul
torch=${TORCH_PYTHON:-$cache/torch-1/bin/python}
if ! "$torch" -c 'import torch' 2>/dev/null; then
    echo "LEFT OUT: export of what torch.save has written: there is no torch in $torch"
    exit
fi
fixtures=$("$here/fixtures.sh" "${LUTMUL_FIXTURES:-$here/../target/fixtures}")
packages=$("$("$here/python-env.sh" fixtures "$here/fixtures/requirements.txt")" -c \
    'import os, safetensors; print(os.path.dirname(os.path.dirname(safetensors.__file__)))')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$packages/safetensors" "$work/safetensors"
export PYTHONPATH=$work PYTHONDONTWRITEBYTECODE=1
"$torch" - "$fixtures/models/qins/model.safetensors" "$work/model.pt" <<'PYTHON'
import sys
import torch
from safetensors.torch import load_file

state = load_file(sys.argv[1])
# As modules have them: a tensor of another's memory, and a number that is none of torch's.
first = next(iter(state))
state = {name: float(t) if name.endswith(".max") else t for name, t in state.items()}
torch.save({"epoch": 3, "state_dict": {**state, "tied": state[first]}}, sys.argv[2])
PYTHON
"$torch" "$here/export-qins.py" "$work/model.pt" "$work/out.safetensors"
"$torch" - "$fixtures/models/qins/model.safetensors" "$work/out.safetensors" <<'PYTHON'
import sys
import torch
from safetensors.torch import load_file

before, after = map(load_file, sys.argv[1:])
after.pop("tied"), after.pop("epoch")
assert before.keys() == after.keys(), before.keys() ^ after.keys()
for name, tensor in before.items():
    other = after[name]
    assert tensor.dtype == other.dtype and tensor.shape == other.shape and torch.equal(tensor, other), name
print(f"1 passed, 0 failed: {len(before)} tensors through torch.save and back")
PYTHON
