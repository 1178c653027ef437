"""Matrix products straight from 8-bit weight codes: QINS, FP8, int8, k-means, any table of 256, on any CPU.

    import numpy as np
    import lutmul

    w = np.random.randn(1024, 768).astype(np.float32)  # [n, k]: out features, in features
    weights = lutmul.Weights.encode(w, format="qins-linear", scales="row")
    x = np.random.randn(4, 768).astype(np.float32)
    y = weights.matmul(x, mode="a16")  # [4, 1024]

``lutmul.open`` opens models on disk, ``lutmul.torch`` has layers for PyTorch, ``lutmul.kernels`` lists what this CPU runs.
In the modes ``a24``, ``a16``, ``a8`` and ``a8t`` sums are exact integers: the same bits on every CPU and with any number of
threads. ``docs/python.md`` of the repository says more.
"""

from ._lutmul import (
    ACTIVATIONS,
    FORMATS,
    MODES,
    Checkpoint,
    ErrorReport,
    KernelInfo,
    Linear,
    Other,
    Weights,
    __version__,
    kernels,
    open,
)

__all__ = [
    "ACTIVATIONS",
    "FORMATS",
    "MODES",
    "Checkpoint",
    "ErrorReport",
    "KernelInfo",
    "Linear",
    "Other",
    "Weights",
    "__version__",
    "kernels",
    "open",
]
