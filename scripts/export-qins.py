#!/usr/bin/env python3
"""Exports a model that the QINS project saved with torch.save as safetensors, which lutmul reads:

    python scripts/export-qins.py MODEL.pt OUT.safetensors

MODEL.pt is a state dict, or a dictionary that has one; of a module that was saved as a whole, save its state_dict()
first. Tensors keep names and values; numbers (a layer's `max` or `alpha`) become tensors of one f32. Only tensors and
numbers are loaded: no code of the file is run. Needs torch and safetensors.
"""

import sys

WRAPPERS = ("state_dict", "model_state_dict", "model")


def flatten(state, prefix=""):
    """Name and value of everything in nested dictionaries."""
    for name, value in state.items():
        if hasattr(value, "items"):
            yield from flatten(value, "" if name in WRAPPERS else f"{prefix}{name}.")
        else:
            yield prefix + name, value


def export(state, path, save_file, number):
    """Writes a state dict. `save_file` is that of safetensors for its kind of tensors, `number` makes one of a float."""
    tensors = {}
    for name, value in flatten(state):
        if isinstance(value, (bool, int, float)):
            value = number(float(value))
        if not hasattr(value, "shape"):
            print(f"left out: {name}, {type(value).__name__}", file=sys.stderr)
        elif name in tensors:
            sys.exit(f"error: two tensors would be called {name}")
        else:
            tensors[name] = value
    if not any(name.endswith((".stored", ".w_encoded")) or name in ("stored", "w_encoded") for name in tensors):
        sys.exit("error: there is neither a tensor called stored nor one called w_encoded: not a model of QINS")
    save_file(tensors, path, {"format": "pt"})


def main(source, target):
    import torch
    from safetensors.torch import save_file

    state = torch.load(source, map_location="cpu", weights_only=True)
    # Tied tensors have one memory, which safetensors does not.
    own = lambda tensors, *rest: save_file({name: t.detach().contiguous().clone() for name, t in tensors.items()}, *rest)
    export(state, target, own, lambda value: torch.tensor(value, dtype=torch.float32))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
