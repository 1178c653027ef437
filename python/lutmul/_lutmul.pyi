"""Types of the extension module. Shapes: n is out features, k in features; leading dimensions of x are tokens."""

import os
from collections.abc import Iterator
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]
"""float32, float16, ml_dtypes.bfloat16; or uint16 with ``dtype="bf16"`` or ``"f16"``. C-contiguous, native byte order."""

Mode = Literal["f32", "bf16", "a24", "a16", "a8", "a8t"]
Activation = Literal["none", "relu", "silu", "gelu-erf", "gelu-tanh"]
Dtype = Literal["f32", "float32", "f16", "float16", "bf16", "bfloat16"]

FORMATS: tuple[str, ...]
"""Formats that have a name: "qins-linear", "e4m3", "int8", …"""
MODES: tuple[str, ...]
"""How activations and sums are represented: "f32", "bf16", "a24", "a16", "a8", "a8t"."""
ACTIVATIONS: tuple[str, ...]
"""What can follow a sum: "none", "relu", "silu", "gelu-erf", "gelu-tanh"."""
__version__: str

@final
class Weights:
    """A matrix [n, k] of 8-bit weights: sign · table[code] · scale. Immutable, and safe to use in any thread.

    Picklable; ``copy.deepcopy`` has memory of its own.
    """

    @staticmethod
    def encode(
        array: Floats,
        format: str | npt.NDArray[np.float32] = "qins-linear",
        scales: str = "row",
        *,
        dtype: Dtype | None = None,
        threads: int | None = None,
        name: str | None = None,
    ) -> Weights:
        """Encodes a matrix [n, k] of floats.

        format: one of FORMATS, or a table of 256 floats. scales: "tensor", "row", "group:N" or "block:RxC".

        Raises TypeError (type of elements, byte order), ValueError (shape, layout, NaN or infinity, names).
        """

    @staticmethod
    def from_parts(
        codes: npt.NDArray[np.uint8],
        table: str | npt.NDArray[np.float32],
        scales: float | Floats,
        *,
        signs: npt.NDArray[np.uint8] | None = None,
        granularity: str | None = None,
        non_finite: Literal["reject", "propagate"] = "reject",
        wide_image: bool = False,
        name: str | None = None,
    ) -> Weights:
        """Weights of codes that are there already, which are not copied: they must not be written to any more.

        codes: [n, k]. table: 256 floats, or the name of a format whose table does not depend on weights.
        scales: a number, [n] for rows, or a grid, whose granularity ("group:N", "block:RxC") is to be said.
        signs: [n, ⌈k/8⌉], one bit a weight, least significant first, 1 is negative.
        non_finite: whether codes in use that stand for NaN or infinity are an error, or propagate (modes f32, bf16).
        wide_image: lets integer modes hold the table in three bytes: exact for "e4m3", slower.

        Raises TypeError (type of elements), ValueError (shapes, layout, NaN scales).
        """

    def matmul(
        self,
        x: Floats,
        mode: Mode = "f32",
        *,
        bias: Floats | None = None,
        activation: Activation | None = None,
        out: Floats | None = None,
        accumulate: bool = False,
        threads: int | None = None,
        kernel: str | None = None,
        dtype: Dtype | None = None,
    ) -> Floats:
        """y = act(x · Wᵀ + bias): x [..., k], bias [n], y [..., n] of x's type, or of out's.

        out: where y goes, which is returned; with accumulate, y is added to it.
        threads: 1 is the calling thread alone; None as many as there are CPUs. No number changes a bit.
        kernel: one of kernels(), in place of the best, or of the one that LUTMUL_ISA names.
        dtype: what x and out of uint16 stand for.

        Releases the GIL. Raises TypeError (type of elements, byte order), ValueError (shapes, layout, shared memory,
        codes that stand for NaN); out is untouched then.
        """

    def decode(
        self, dtype: Dtype | None = None, *, out: Floats | None = None, threads: int | None = None
    ) -> Floats:
        """The weights as floats [n, k]: float32, or what dtype or out says."""

    def error_report(
        self, original: Floats, *, dtype: Dtype | None = None, threads: int | None = None
    ) -> ErrorReport:
        """What encoding cost, against the matrix [n, k] that was encoded."""

    def recode(
        self,
        format: str | npt.NDArray[np.float32],
        scales: str = "row",
        *,
        threads: int | None = None,
    ) -> Weights:
        """The same weights in another format."""

    def prepare(self, *, threads: int | None = None) -> None:
        """Looks for codes in use that stand for NaN or infinity now, as the first product would."""

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k): out features, in features."""
    @property
    def n(self) -> int:
        """Out features."""
    @property
    def k(self) -> int:
        """In features."""
    @property
    def format(self) -> str:
        """The name of the format; "table" for a table without a name."""
    @property
    def granularity(self) -> str:
        """What each scale covers: "tensor", "row", "group:N" or "block:RxC"."""
    @property
    def name(self) -> str:
        """The name that errors call it by."""
    @property
    def nbytes(self) -> int:
        """Bytes that a product reads: codes, signs, scales and table."""
    @property
    def codes(self) -> npt.NDArray[np.uint8]:
        """[n, k], read-only, not copied."""
    @property
    def signs(self) -> npt.NDArray[np.uint8] | None:
        """[n, ⌈k/8⌉], read-only, not copied."""
    @property
    def table(self) -> npt.NDArray[np.float32]:
        """[256], read-only, not copied."""
    @property
    def scales(self) -> npt.NDArray[np.float32]:
        """[] of a tensor, [n] of rows, or the grid of groups or blocks; read-only, not copied."""

@final
class ErrorReport:
    """Errors of encoded weights, in the unit of the weights."""

    @property
    def count(self) -> int:
        """Weights compared."""
    @property
    def mean_abs(self) -> float:
        """Mean of |decoded − original|."""
    @property
    def max_abs(self) -> float:
        """Largest |decoded − original|."""
    @property
    def rms(self) -> float:
        """Root of the mean of (decoded − original)²."""
    @property
    def original_rms(self) -> float:
        """Root of the mean of original²."""
    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise, dB."""
    @property
    def share_at_ends(self) -> float:
        """Share, 0…1, of weights whose code is the lowest or the highest in use."""
    @property
    def codes_used(self) -> int:
        """Different codes in use, of 256."""

@final
class KernelInfo:
    """What is known of a kernel, the code for one vector unit."""

    @property
    def name(self) -> str:
        """Its name, as ``kernel=`` and LUTMUL_ISA take it."""
    @property
    def features(self) -> list[str]:
        """CPU features that it needs."""
    @property
    def missing(self) -> list[str]:
        """Those that this CPU lacks."""
    @property
    def usable(self) -> bool:
        """Whether it can run here."""

@final
class Linear:
    """A matrix of weights of a checkpoint, not read yet."""

    @property
    def name(self) -> str: ...
    @property
    def tensor(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def format(self) -> str | None: ...
    @property
    def granularity(self) -> str | None: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def skipped(self) -> bool: ...

@final
class Other:
    """A tensor of a checkpoint that is no matrix of weights."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def reason(self) -> str: ...

@final
class Checkpoint:
    """A model on disk. Codes stay where they are mapped: its files must not be rewritten meanwhile."""

    @property
    def path(self) -> os.PathLike[str]: ...
    @property
    def linears(self) -> list[Linear]:
        """Its matrices, in the order of their names."""
    @property
    def others(self) -> list[Other]:
        """All other tensors."""
    def keys(self) -> list[str]:
        """The names of its matrices."""
    def weights(
        self,
        name: str,
        format: str | None = None,
        scales: str = "row",
        *,
        threads: int | None = None,
    ) -> Weights:
        """A matrix: its codes as they lie, or, if a format is given, encoded in it.

        Raises KeyError (no such matrix), ValueError (floats without a format; NaN or infinity), OSError.
        """
    def tensor(self, name: str) -> npt.NDArray[Any]:
        """Any tensor, as it lies in the file; what is coded is decoded as float32."""
    def validate(self) -> None:
        """Raises ValueError or OSError naming the first weight or scale that is NaN or infinite."""
    def __getitem__(self, name: str) -> Weights: ...
    def __contains__(self, name: str) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...

def open(path: str | os.PathLike[str]) -> Checkpoint:
    """Opens a safetensors or GGUF file, or the folder of a Hugging Face model. Raises OSError."""

def kernels() -> list[KernelInfo]:
    """All kernels of this build, best first."""
