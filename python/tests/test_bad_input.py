"""What is refused: by an exception that says what is wrong, and with nothing written."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import noise

import lutmul

X = noise(5, 96, seed=3)


def test_types(weights):
    for wrong in (np.float64, np.int32, np.int8, bool, complex):
        with pytest.raises(TypeError, match="x: elements are"):
            weights.matmul(X.astype(wrong))
        with pytest.raises(TypeError, match="array: elements are"):
            lutmul.Weights.encode(noise(4, 4).astype(wrong))
    for wrong in ([1.0] * 96, None, "x", 7):
        with pytest.raises(TypeError, match="x: expected a numpy array"):
            weights.matmul(wrong)
    with pytest.raises(TypeError, match='say dtype="bf16"'):
        weights.matmul(X.astype(np.uint16))
    with pytest.raises(TypeError, match="which is not what dtype says"):
        weights.matmul(X, dtype="bf16")
    with pytest.raises(ValueError, match="dtype: \"f64\" is none of"):
        weights.matmul(X, dtype="f64")
    with pytest.raises(TypeError, match="codes: elements are int8, not uint8"):
        lutmul.Weights.from_parts(np.zeros((2, 2), np.int8), "int8", 1.0)
    with pytest.raises(TypeError, match="out: elements are float64"):
        weights.matmul(X, out=np.empty((5, 37)))
    with pytest.raises(TypeError, match="elements are"):
        weights.matmul(np.zeros((5, 96), np.dtype([("a", "u1"), ("b", "u1")])))


def test_byte_order(weights):
    foreign = ">" if sys.byteorder == "little" else "<"
    for name in ("f4", "f2"):
        with pytest.raises(TypeError, match="foreign byte order"):
            weights.matmul(X.astype(foreign + name))
    with pytest.raises(TypeError, match="foreign byte order"):
        weights.matmul(X, out=np.empty((5, 37), foreign + "f4"))
    with pytest.raises(TypeError, match="foreign byte order"):
        lutmul.Weights.encode(noise(4, 4).astype(foreign + "f4"))


def test_strides(weights):
    wide = noise(5, 192)
    for x in (wide[:, ::2], wide[:, :96], np.asfortranarray(X), X[::-1], np.broadcast_to(X[0], (5, 96))):
        with pytest.raises(ValueError, match="x: is not C-contiguous"):
            weights.matmul(x)
    with pytest.raises(ValueError, match="out: is not C-contiguous"):
        weights.matmul(X, out=np.empty((37, 5), np.float32).T)
    with pytest.raises(ValueError, match="codes: is not C-contiguous"):
        lutmul.Weights.from_parts(np.zeros((4, 4), np.uint8).T[:, :2], "int8", 1.0)
    misaligned = np.frombuffer(b"\0" * (4 * 96 + 1), np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="x: its elements are not aligned"):
        weights.matmul(misaligned)


def test_shapes(weights):
    for x in (noise(5, 95), noise(96, 5), np.zeros((), np.float32)):
        with pytest.raises(ValueError, match="x: expected"):
            weights.matmul(x)
    with pytest.raises(ValueError, match=r"bias: expected the shape \[37\], got \[36\]"):
        weights.matmul(X, bias=noise(36))
    with pytest.raises(ValueError, match=r"out: expected the shape \[5, 37\], got \[37, 5\]"):
        weights.matmul(X, out=np.empty((37, 5), np.float32))
    with pytest.raises(ValueError, match="array: expected a matrix"):
        lutmul.Weights.encode(noise(3))
    with pytest.raises(ValueError, match="original: expected the shape"):
        weights.error_report(noise(96, 37))
    codes = np.zeros((3, 9), np.uint8)
    with pytest.raises(ValueError, match="signs: expected the shape"):
        lutmul.Weights.from_parts(codes, "qins-linear", 1.0, signs=np.zeros((3, 1), np.uint8))
    with pytest.raises(ValueError, match="does not tell what each covers"):
        lutmul.Weights.from_parts(codes, "int8", np.ones((3, 3), np.float32))
    with pytest.raises(ValueError, match="scales: expected"):
        lutmul.Weights.from_parts(codes, "int8", np.ones(4, np.float32), granularity="row")
    with pytest.raises(ValueError, match="table: expected 256 entries, got 255"):
        lutmul.Weights.from_parts(codes, np.ones(255, np.float32), 1.0)


def test_sizes_that_overflow():
    endless = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**40, 2**20), (0, 0))
    with pytest.raises(ValueError, match="not C-contiguous"):
        lutmul.Weights.from_parts(endless, "int8", 1.0)
    # A matrix without columns may have any number of rows; a product of it may not fit into memory.
    tall = lutmul.Weights.from_parts(np.zeros((2**50, 0), np.uint8), "int8", 1.0)
    with pytest.raises((MemoryError, ValueError)):
        tall.matmul(np.zeros((2**10, 0), np.float32))
    with pytest.raises((MemoryError, ValueError)):
        lutmul.Weights.encode(np.zeros((2**60, 0), np.float32), "int8", "group:1").matmul(np.zeros((2**20, 0), np.float32))
    for granularity in ("group:0", "block:0x4", "group:x", "rows"):
        with pytest.raises(ValueError, match="scales"):
            lutmul.Weights.encode(noise(4, 4), "int8", granularity)


def test_numbers():
    w = noise(4, 8)
    w[2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN at row 2, column 3"):
        lutmul.Weights.encode(w)
    codes = np.zeros((2, 3), np.uint8)
    for scales in (float("nan"), np.array([1, np.inf], np.float32)):
        with pytest.raises(ValueError, match="scales: (NaN|inf) at row"):
            lutmul.Weights.from_parts(codes, "int8", scales)
    with pytest.raises(ValueError, match="table: none of its 256 entries is finite"):
        lutmul.Weights.from_parts(codes, np.full(256, np.nan, np.float32), 1.0)
    codes[1, 2] = 0x7F
    nan = lutmul.Weights.from_parts(codes, "e4m3", 1.0, name="layer.0")
    out = np.full((1, 2), 7, np.float32)
    for mode in lutmul.MODES:
        with pytest.raises(ValueError, match="layer.0: NaN at row 1, column 2"):
            nan.matmul(noise(1, 3), mode, out=out)
    for call in (nan.prepare, nan.decode, lambda: nan.recode("int8")):
        with pytest.raises(ValueError, match="layer.0: NaN at row 1, column 2"):
            call()
    assert (out == 7).all()


def test_names(weights):
    for arguments, what in [
        (dict(mode="a12"), "mode"),
        (dict(activation="swish"), "activation"),
        (dict(kernel="sse9"), "kernel"),
        (dict(threads=0), "threads"),
        (dict(threads=100_000), "threads"),
        (dict(accumulate=True), "accumulate"),
    ]:
        with pytest.raises(ValueError, match=what):
            weights.matmul(X, **arguments)
    for negative in (-1, 2**70):
        with pytest.raises(OverflowError):
            weights.matmul(X, threads=negative)
    with pytest.raises(ValueError, match="format: \"int4\" is none of"):
        lutmul.Weights.encode(noise(4, 4), "int4")
    with pytest.raises(ValueError, match="depends on the weights"):
        lutmul.Weights.from_parts(np.zeros((2, 2), np.uint8), "kmeans", 1.0)
    with pytest.raises(ValueError, match="non_finite"):
        lutmul.Weights.from_parts(np.zeros((2, 2), np.uint8), "int8", 1.0, non_finite="drop")
    with pytest.raises(TypeError):
        lutmul.Weights()
    with pytest.raises(AttributeError):
        weights.n = 3


def test_memory_that_is_shared(weights):
    memory = np.zeros(5 * 96, np.float32)
    x, out = memory.reshape(5, 96), memory[: 5 * 37].reshape(5, 37)
    with pytest.raises(ValueError, match="out: shares memory with another argument"):
        weights.matmul(x, out=out)
    # Afterwards both are free again.
    weights.matmul(x, out=np.empty((5, 37), np.float32))
    weights.matmul(X, out=out)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out: is read-only"):
        weights.matmul(X, out=out)


def test_a_kernel_that_there_is_not():
    script = "import lutmul, numpy as np; lutmul.Weights.encode(np.ones((2, 2), np.float32)).matmul(np.ones((1, 2), np.float32))"
    environment = os.environ | {"LUTMUL_ISA": "sse9"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and 'ValueError: kernel: "sse9" is none of' in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's fesetround")
def test_arithmetic_of_another_kind(weights):
    libm = ctypes.CDLL("libm.so.6")
    upward = {"x86_64": 0x800, "aarch64": 0x400000}[os.uname().machine]
    assert libm.fesetround(upward) == 0
    try:
        with pytest.raises(ValueError, match="floating-point environment"):
            weights.matmul(X, "a16", threads=1)
        # Threads of lutmul's own have the usual one.
        other = weights.matmul(X, "a16", threads=2)
    finally:
        libm.fesetround(0)
    assert np.array_equal(other, weights.matmul(X, "a16"))
