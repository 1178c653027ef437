"""Layers for PyTorch: linears whose weights are 8-bit codes, for inference on the CPU.

    import torch
    from lutmul.torch import LutLinear, quantize_

    layer = LutLinear.from_linear(torch.nn.Linear(768, 1024), format="qins-linear", mode="a16")
    quantize_(model, exclude=["lm_head"])  # all linears of a model, in place

    with torch.inference_mode():
        y = layer(x)  # x [..., 768] in float32, float16 or bfloat16

``torch.compile`` takes such layers without a graph break. They work on as many threads as ``torch.get_num_threads()``
says. Inputs that require a gradient, and other devices than the CPU, are refused.
"""

import fnmatch
from collections.abc import Callable, Iterable
from typing import Optional, Union

import torch
from torch import get_num_threads
from torch.compiler import is_compiling
from torch.utils.weak import WeakIdKeyDictionary

from ._lutmul import ACTIVATIONS, MODES, Weights

__all__ = ["LutLinear", "linear", "quantize_"]

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FP8 = {
    torch.float8_e4m3fn: "e4m3",
    torch.float8_e5m2: "e5m2",
    torch.float8_e4m3fnuz: "e4m3-fnuz",
    torch.float8_e5m2fnuz: "e5m2-fnuz",
}
BUFFERS = ("codes", "signs", "table", "scales", "bias")


def _numpy(*tensors: torch.Tensor):
    """Arrays of the memory of tensors of one type, without gradients; bf16 as uint16. And what lutmul calls the type."""
    if tensors[0].dtype is torch.bfloat16:
        return *(tensor.view(torch.int16).numpy().view("uint16") for tensor in tensors), "bf16"
    return *(tensor.numpy() for tensor in tensors), None


def _alias(tensor: Optional[torch.Tensor]):
    """An array of the tensor's memory, which does not keep the tensor alive."""
    return None if tensor is None else tensor.detach().numpy()


def _tensor(array) -> torch.Tensor:
    """A tensor with a copy of an array."""
    return torch.from_numpy(array.copy())


# Weights by their codes, and of which versions of which tensors they were made: of the process, because an operator has
# nothing else to keep them in. Entries go with their codes.
_WEIGHTS = WeakIdKeyDictionary()


def _is_counted(*tensors: Optional[torch.Tensor]) -> bool:
    """Whether PyTorch counts the changes of these: it does not where they were made in inference mode."""
    return not any(tensor is not None and tensor.is_inference() for tensor in tensors)


def _state(tensor: Optional[torch.Tensor]):
    """What changes when the tensor's memory is written or exchanged."""
    return (0, 0) if tensor is None else (tensor._version, tensor.data_ptr())


def _weights(codes, signs, table, scales, granularity: str) -> Weights:
    """Weights of these tensors; of the same ones, unchanged, they are made once."""
    tensors = codes, signs, table, scales
    counted = _is_counted(*tensors)
    if counted:
        made_of = [(id(tensor), *_state(tensor)) for tensor in tensors], granularity
        known = _WEIGHTS.get(codes)
        if known is not None and known[0] == made_of:
            return known[1]
    # Arrays of aliases: what is kept for the codes must not keep them alive.
    weights = Weights.from_parts(_alias(codes), _alias(table), _alias(scales), signs=_alias(signs), granularity=granularity)
    if counted:
        _WEIGHTS[codes] = made_of, weights
    return weights


class _Made:
    """What a layer has made of its buffers, for as long as they are the same and unchanged.

    What PyTorch and Python have to do at each call counts: after a product their code is no longer in the caches, and an
    operation takes microseconds.
    """

    def __init__(self, buffers: dict, granularity: str):
        codes, signs, table, scales, bias = tensors = [buffers[name] for name in BUFFERS]
        for name, tensor in zip(BUFFERS, tensors):
            _on_cpu(name, tensor)
        self.weights = _weights(codes, signs, table, scales, granularity)
        self.bias = _alias(bias)
        # Nothing to be recognised by where PyTorch does not count changes.
        counted = _is_counted(*tensors)
        self.parts = [(name, tensor, *_state(tensor)) for name, tensor in zip(BUFFERS, tensors)] if counted else None

    def is_of(self, buffers: dict) -> bool:
        for name, tensor, version, address in self.parts:
            if buffers[name] is not tensor:
                return False
            if tensor is not None and (tensor._version != version or tensor.data_ptr() != address):
                return False
        return True


def _counted(tensor: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
    """The tensor, or, of one that was made in inference mode, another of the same memory, whose changes are counted."""
    if tensor is None or not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return torch.from_numpy(tensor.numpy())


def _product(weights: Weights, x: torch.Tensor, bias, mode: str, activation: str) -> torch.Tensor:
    """y for x; bias is an array, or None."""
    x = x.contiguous()
    y = x.new_empty((*x.shape[:-1], weights.n))
    from_, to, dtype = _numpy(x, y)
    weights.matmul(from_, mode, bias=bias, activation=activation, out=to, threads=get_num_threads(), dtype=dtype)
    return y


@torch.library.custom_op("lutmul::linear", mutates_args=(), device_types="cpu")
def linear(
    x: torch.Tensor,
    codes: torch.Tensor,
    signs: Optional[torch.Tensor],
    table: torch.Tensor,
    scales: torch.Tensor,
    bias: Optional[torch.Tensor],
    granularity: str,
    mode: str,
    activation: str,
) -> torch.Tensor:
    """y = act(x · Wᵀ + bias), as an operator that torch.compile and torch.export know.

    x [..., k], codes uint8 [n, k], signs uint8 [n, ⌈k/8⌉] or None, table float32 [256], scales float32, bias float32 [n] or
    None; granularity of the scales ("row", …), mode ("a16", …) and activation ("none", …) as lutmul names them.
    """
    return _product(_weights(codes, signs, table, scales, granularity), x.detach(), _alias(bias), mode, activation)


@linear.register_fake
def _(x, codes, signs, table, scales, bias, granularity, mode, activation):
    return x.new_empty(*x.shape[:-1], codes.shape[0])


class LutLinear(torch.nn.Module):
    """y = act(x · Wᵀ + bias): takes the place of ``torch.nn.Linear``, for inference on the CPU.

    Buffers: ``codes`` uint8 [n, k], ``signs`` uint8 [n, ⌈k/8⌉] or None, ``table`` float32 [256], ``scales`` float32,
    ``bias`` float32 [n] or None. They keep their types when a module is converted (``.half()``, ``.to(torch.bfloat16)``).
    """

    codes: torch.Tensor
    signs: Optional[torch.Tensor]
    table: torch.Tensor
    scales: torch.Tensor
    bias: Optional[torch.Tensor]

    def __init__(self, codes, table, scales, *, signs=None, bias=None, granularity="row", mode="a16", activation="none"):
        """Of tensors that are there already; ``from_linear``, ``from_weights`` and ``from_codes`` make them."""
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode: {mode!r} is none of {', '.join(MODES)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation: {activation!r} is none of {', '.join(ACTIVATIONS)}")
        self.out_features, self.in_features = codes.shape
        self.granularity, self.mode, self.activation = granularity, mode, activation
        for name, tensor in zip(BUFFERS, (codes, signs, table, scales, bias)):
            _on_cpu(name, tensor)
            self.register_buffer(name, _counted(tensor))
        self.weights()
        if bias is not None and (bias.dtype != torch.float32 or bias.shape != (self.out_features,)):
            raise ValueError(f"bias: expected float32 [{self.out_features}], got {bias.dtype} {list(bias.shape)}")

    @classmethod
    def from_linear(cls, linear, *, format="qins-linear", scales="row", mode="a16", activation="none") -> "LutLinear":
        """Encodes a layer of floats [n, k]; its tensors are not kept."""
        w, bias = linear.weight, linear.bias
        _on_cpu("weight", w)
        if w.dtype not in FLOATS:
            hint = ": from_codes takes it with its scales" if w.dtype in FP8 else ""
            raise TypeError(f"weight: elements are {w.dtype}, not float32, float16 or bfloat16{hint}")
        array, dtype = _numpy(w.detach().contiguous())
        weights = Weights.encode(array, format, scales, dtype=dtype, threads=torch.get_num_threads())
        return cls.from_weights(weights, bias=bias, mode=mode, activation=activation)

    @classmethod
    def from_weights(cls, weights: Weights, *, bias=None, mode="a16", activation="none") -> "LutLinear":
        """Of ``lutmul.Weights``, out of a file for example; codes and signs are copied into tensors."""
        signs = None if weights.signs is None else _tensor(weights.signs)
        parts = _tensor(weights.codes), _tensor(weights.table), _tensor(weights.scales)
        bias = None if bias is None else bias.detach().to(torch.float32, copy=True)
        return cls(*parts, signs=signs, bias=bias, granularity=weights.granularity, mode=mode, activation=activation)

    @classmethod
    def from_codes(
        cls, codes, scales, *, table=None, signs=None, granularity=None, bias=None, mode="a16", activation="none"
    ) -> "LutLinear":
        """Of codes that are there already, which are not copied: a matrix [n, k] of float8, whose table is known, of int8,
        or of uint8 with a table (256 floats, or the name of a format).

        scales: a number, a tensor [n], or a grid with its granularity ("group:N", "block:RxC").
        """
        _on_cpu("codes", codes)
        known = FP8.get(codes.dtype) or {torch.int8: "int8"}.get(codes.dtype)
        if known is None and codes.dtype != torch.uint8:
            raise TypeError(f"codes: elements are {codes.dtype}, not uint8, int8 or float8")
        table = known if table is None else table
        if table is None:
            raise ValueError("table: codes of uint8 need one")
        codes = codes.detach().view(torch.uint8)
        scales = torch.as_tensor(scales, dtype=torch.float32).detach()
        weights = Weights.from_parts(
            codes.numpy(),
            table.detach().float().numpy() if isinstance(table, torch.Tensor) else table,
            scales.contiguous().numpy(),
            signs=None if signs is None else signs.detach().numpy(),
            granularity=granularity,
        )
        scales, bias = _tensor(weights.scales), None if bias is None else bias.detach().to(torch.float32, copy=True)
        table, granularity = _tensor(weights.table), weights.granularity
        return cls(codes, table, scales, signs=signs, bias=bias, granularity=granularity, mode=mode, activation=activation)

    def weights(self) -> Weights:
        """The weights, on the memory of the buffers."""
        return self._made().weights

    def _made(self) -> _Made:
        made = self.__dict__.get("_known")
        if made is None or not made.is_of(self._buffers):
            made = _Made(self._buffers, self.granularity)
            self.__dict__["_known"] = made if made.parts else None
        return made

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_known"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., k] in float32, float16 or bfloat16; y [..., n] of the same type."""
        if x.dtype not in FLOATS:
            raise TypeError(f"x: elements are {x.dtype}, not float32, float16 or bfloat16")
        if x.requires_grad:
            if torch.is_grad_enabled():
                raise RuntimeError(
                    "x requires a gradient, and this layer is for inference only: use torch.inference_mode() or torch.no_grad()"
                )
            x = x.detach()
        if is_compiling():
            buffers = map(self._buffers.get, BUFFERS)
            return linear(x, *buffers, self.granularity, self.mode, self.activation)
        _on_cpu("x", x)
        # The operator's way through PyTorch takes longer than a small product.
        made = self._made()
        return _product(made.weights, x, made.bias, self.mode, self.activation)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"scales by {self.granularity}, mode={self.mode}"
        )

    def _apply(self, fn, recurse=True):
        self.__dict__.pop("_known", None)  # It would keep the old tensors.
        # Conversions are of activations and parameters: tables, scales and bias stay what they are, on the new device.
        before = {name: getattr(self, name) for name in BUFFERS}
        super()._apply(fn, recurse)
        for name, old in before.items():
            if old is not None and getattr(self, name).dtype != old.dtype:
                setattr(self, name, old.to(getattr(self, name).device))
        return self


def _on_cpu(what: str, tensor: Optional[torch.Tensor]) -> None:
    if tensor is not None and not tensor.is_cpu:
        raise RuntimeError(f"{what}: is on {tensor.device}; lutmul multiplies on the CPU only")


Choice = Union[None, str, Iterable[str], Callable[[str, torch.nn.Module], bool]]


def quantize_(
    model: torch.nn.Module,
    include: Choice = None,
    exclude: Choice = None,
    *,
    format: str = "qins-linear",
    scales: str = "row",
    mode: str = "a16",
) -> list[str]:
    """Replaces the ``torch.nn.Linear`` of a model by ``LutLinear``, in place; returns the names of those replaced.

    include, exclude: patterns of names (``"*.mlp.*"``; a name is also matched by its end, ``"lm_head"``), or a function of
    name and module. Without include it is all of them. Subclasses of Linear are left alone. A layer that occurs several
    times is encoded once. Of weights that are tied to an embedding the embedding stays as it is.

    Raises ValueError, and changes nothing, if there is none to replace.
    """
    is_included, is_excluded = _chooser(include, True), _chooser(exclude, False)
    found = []
    for path, parent in model.named_modules(remove_duplicate=False):
        for key, child in parent.named_children():
            name = f"{path}.{key}" if path else key
            if type(child) is torch.nn.Linear and is_included(name, child) and not is_excluded(name, child):
                found.append((name, parent, key, child))
    if not found:
        raise ValueError("quantize_: there is no torch.nn.Linear to replace")
    # All are made before the first takes its place: an error leaves the model as it was.
    made = {}
    for _, _, _, child in found:
        if id(child) not in made:
            made[id(child)] = LutLinear.from_linear(child, format=format, scales=scales, mode=mode).train(child.training)
    for _, parent, key, child in found:
        setattr(parent, key, made[id(child)])
    return [name for name, _, _, _ in found]


def _chooser(choice: Choice, default: bool) -> Callable[[str, torch.nn.Module], bool]:
    if choice is None:
        return lambda name, module: default
    if callable(choice):
        return choice
    patterns = [choice] if isinstance(choice, str) else list(choice)
    return lambda name, module: any(
        fnmatch.fnmatchcase(name, pattern) or name.endswith("." + pattern) for pattern in patterns
    )
