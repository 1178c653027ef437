"""Products, encoding and parts, with numpy's arrays."""

import copy
import pickle
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
from conftest import noise

import lutmul

# Errors of a product beside Σ|x·W|: of x's representation, and of f32's sums.
BOUNDS = {"f32": 1e-5, "bf16": 2**-8, "a24": 1e-6, "a16": 2e-4, "a8": 0.05, "a8t": 0.05}


@pytest.mark.parametrize("format", lutmul.FORMATS)
@pytest.mark.parametrize("mode", lutmul.MODES)
def test_products_are_those_of_decoded_weights(format, mode):
    w, x, bias = noise(37, 96), noise(5, 96, seed=3), noise(37, seed=4)
    weights = lutmul.Weights.encode(w, format, "row")
    assert (weights.format, weights.shape, weights.granularity) == (format, (37, 96), "row")
    y = weights.matmul(x, mode, bias=bias)
    assert y.dtype == np.float32 and y.shape == (5, 37)
    decoded = weights.decode().astype(np.float64)
    expected = x @ decoded.T + bias
    # What the table loses as integers or as bf16 is apart: half a step of 1/65536 of the largest entry, or of bf16.
    table = np.abs(x).sum(1, keepdims=True) * np.abs(decoded).max() * (2**-8 if mode == "bf16" else 2**-16)
    bound = BOUNDS[mode] * (np.abs(x) @ np.abs(decoded).T + np.abs(bias)) + table
    assert (np.abs(y - expected) <= bound).all()


def test_threads_and_batches_do_not_change_a_bit():
    weights = lutmul.Weights.encode(noise(700, 300), "e4m3", "group:64")
    x = noise(20, 300, seed=3)
    for mode in lutmul.MODES:
        one = weights.matmul(x, mode, threads=1)
        for threads in (2, 3, None):
            assert np.array_equal(one, weights.matmul(x, mode, threads=threads)), (mode, threads)
    alone = np.concatenate([weights.matmul(token, "a16")[None] for token in x])
    assert np.array_equal(alone, weights.matmul(x, "a16"))
    for kernel in lutmul.kernels():
        if kernel.usable:
            assert np.array_equal(alone, weights.matmul(x, "a16", kernel=kernel.name)), kernel


def test_leading_dimensions(weights):
    x = noise(2, 3, 4, 96)
    y = weights.matmul(x, "a16")
    assert y.shape == (2, 3, 4, 37)
    assert np.array_equal(y.reshape(24, 37), weights.matmul(x.reshape(24, 96), "a16"))
    assert weights.matmul(x[0, 0, 0], "a16").shape == (37,)
    assert weights.matmul(noise(0, 96)).shape == (0, 37)


def test_types_of_x_and_y(weights):
    x = noise(5, 96, seed=3)
    for dtype in (np.float16, ml_dtypes.bfloat16):
        short = x.astype(dtype)
        y = weights.matmul(short, "a16")
        assert y.dtype == dtype
        wide = weights.matmul(short.astype(np.float32), "a16")
        assert np.array_equal(y, wide.astype(dtype))
        # y of another type than x.
        out = np.empty((5, 37), np.float32)
        assert weights.matmul(short, "a16", out=out) is out
        assert np.array_equal(out, wide)
        # The same bits as uint16.
        name = "f16" if dtype == np.float16 else "bf16"
        bits = weights.matmul(short.view(np.uint16), "a16", dtype=name)
        assert bits.dtype == np.uint16 and np.array_equal(bits, y.view(np.uint16))
        out = np.empty((5, 37), np.uint16)
        weights.matmul(x, "a16", out=out.view(dtype))
        assert np.array_equal(out.view(dtype), weights.matmul(x, "a16").astype(dtype))


def test_bias_activation_and_accumulation(weights):
    x, bias = noise(5, 96, seed=3), noise(37, seed=4)
    plain = weights.matmul(x, "a24")
    silu = weights.matmul(x, "a24", bias=bias, activation="silu")
    z = plain.astype(np.float64) + bias
    assert np.allclose(silu, z / (1 + np.exp(-z)), rtol=1e-5, atol=1e-6)
    assert np.array_equal(weights.matmul(x, "a24", activation="relu"), np.maximum(plain, 0))
    out = np.ones((5, 37), np.float32)
    weights.matmul(x, "a24", out=out, accumulate=True)
    assert np.array_equal(out, plain + 1)
    halves = weights.matmul(x, "a24", bias=bias.astype(np.float16))
    assert np.array_equal(halves, weights.matmul(x, "a24", bias=bias.astype(np.float16).astype(np.float32)))


def test_encoding():
    w = np.array([[1.0, -0.5, 0.25, 0.0]], np.float32)
    weights = lutmul.Weights.encode(w)
    assert weights.format == "qins-linear"
    assert weights.codes.tolist() == [[255, 128, 64, 1]] and weights.signs.tolist() == [[0b0010]]
    report = weights.error_report(w)
    assert report.count == 4 and report.max_abs <= 1 / 508 + 1e-6 and report.codes_used == 4
    w = noise(64, 256)
    for format in ("e4m3", "e5m2"):
        dtype = ml_dtypes.float8_e4m3fn if format == "e4m3" else ml_dtypes.float8_e5m2
        weights = lutmul.Weights.encode(w, format, "row")
        assert np.array_equal((w / weights.scales[:, None]).astype(dtype).view(np.uint8), weights.codes)
        table = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
        assert np.array_equal(weights.table, table, equal_nan=True)
    table = np.linspace(-1, 1, 256).astype(np.float32)
    own = lutmul.Weights.encode(w, table, "tensor")
    assert own.format == "table" and np.array_equal(own.table, table)
    assert own.error_report(w).max_abs <= 1 / 255 + 1e-6
    for dtype in (np.float16, ml_dtypes.bfloat16):
        short = lutmul.Weights.encode(w.astype(dtype), "int8", "group:32")
        same = lutmul.Weights.encode(w.astype(dtype).astype(np.float32), "int8", "group:32")
        assert np.array_equal(short.codes, same.codes) and short.granularity == "group:32"
    again = own.recode("int8", "block:16x64")
    assert again.format == "int8" and again.scales.shape == (4, 4)
    assert "int8" in repr(again) and "dB" in repr(again.error_report(w))


def test_decoding(weights):
    decoded = weights.decode()
    codes, signs = weights.codes, np.unpackbits(weights.signs, axis=1, bitorder="little")[:, :96]
    expected = weights.table[codes] * weights.scales[:, None] * np.where(signs, -1, 1).astype(np.float32)
    assert np.array_equal(decoded, expected)
    assert np.array_equal(weights.decode("f16"), decoded.astype(np.float16))
    assert np.array_equal(weights.decode("bf16"), decoded.astype(ml_dtypes.bfloat16))
    out = np.empty((37, 96), np.uint16)
    assert weights.decode("bf16", out=out) is out
    assert np.array_equal(out.view(ml_dtypes.bfloat16), decoded.astype(ml_dtypes.bfloat16))


def test_parts_are_not_copied(weights):
    codes, signs = weights.codes.copy(), weights.signs.copy()
    parts = dict(table=weights.table, scales=weights.scales, signs=signs)
    made = lutmul.Weights.from_parts(codes, **parts)
    assert (made.format, made.granularity) == ("qins-linear", "row")
    assert np.array_equal(made.decode(), weights.decode())
    assert np.shares_memory(made.codes, codes) and np.shares_memory(made.signs, signs)
    assert not made.codes.flags.writeable and np.shares_memory(weights.codes, weights.codes)
    # The arrays live as long as the weights, and weights as long as arrays of theirs.
    expected, view = made.matmul(noise(3, 96)), made.codes
    before = sys.getrefcount(codes)
    del made
    while_viewed = sys.getrefcount(codes)
    del view
    afterwards = sys.getrefcount(codes)
    assert (while_viewed, afterwards) == (before, before - 1)
    assert np.array_equal(lutmul.Weights.from_parts(codes.copy(), **parts).matmul(noise(3, 96)), expected)


def test_scales_of_every_shape():
    codes, x = np.arange(12, dtype=np.uint8).reshape(3, 4), noise(2, 4)
    one = lutmul.Weights.from_parts(codes, "int8", 0.5)
    assert one.granularity == "tensor" and one.scales.shape == ()
    rows = lutmul.Weights.from_parts(codes, "int8", np.full(3, 0.5, np.float32))
    assert rows.granularity == "row" and rows.scales.shape == (3,)
    grid = lutmul.Weights.from_parts(codes, "int8", np.full((2, 2), 0.5, np.float16), granularity="block:2x2")
    assert grid.granularity == "block:2x2" and grid.scales.shape == (2, 2)
    expected = x @ (codes.astype(np.float32) / 2).T
    for weights in (one, rows, grid):
        assert np.allclose(weights.matmul(x), expected, rtol=1e-6)
    e4m3 = lutmul.Weights.from_parts(codes, "e4m3", 1.0, wide_image=True, name="q")
    assert (e4m3.format, e4m3.name) == ("e4m3", "q")


@pytest.mark.parametrize("format", ["qins-linear", "kmeans", "e4m3"])
def test_pickle_and_deepcopy(format):
    weights = lutmul.Weights.encode(noise(37, 96), format, "group:32", name="layer.0")
    x = noise(5, 96, seed=3)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for again in (pickle.loads(pickle.dumps(weights, protocol)), copy.deepcopy(weights)):
            # By their bytes: a table may have NaN.
            same = lambda name: np.array(getattr(again, name)).tobytes() == np.array(getattr(weights, name)).tobytes()
            assert all(same(name) for name in ("codes", "table", "scales", "format", "granularity", "name"))
            assert np.array_equal(again.signs, weights.signs)
            assert np.array_equal(again.matmul(x, "a16"), weights.matmul(x, "a16"))
            assert not np.shares_memory(again.codes, weights.codes)
    assert copy.copy(weights) is weights
    nan = lutmul.Weights.from_parts(np.full((1, 2), 0x7F, np.uint8), "e4m3", 1.0, non_finite="propagate")
    assert np.isnan(pickle.loads(pickle.dumps(nan)).matmul(noise(1, 2))).all()


def test_threads_share_weights():
    """Also where the first product of all is one of many at a time."""
    weights = lutmul.Weights.encode(noise(300, 512), "e4m3", "row")
    x = noise(16, 512, seed=3)
    expected, errors = copy.deepcopy(weights).matmul(x, "a16"), []

    def work(threads):
        for _ in range(30):
            if not np.array_equal(weights.matmul(x, "a16", threads=threads), expected):
                errors.append(threads)

    workers = [threading.Thread(target=work, args=(1 + i % 3,)) for i in range(6)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    assert not errors


def test_the_lock_is_released():
    """While one thread multiplies, this one goes on."""
    weights = lutmul.Weights.encode(noise(2048, 2048), "int8", "row")
    x, done, turns = noise(256, 2048), threading.Event(), 0
    before = sys.getswitchinterval()
    # Longer than the product: this thread can only go on if the lock is let go of.
    sys.setswitchinterval(1000)
    try:
        worker = threading.Thread(target=lambda: (weights.matmul(x, "f32", threads=1), done.set()))
        worker.start()
        while not done.is_set():
            turns += 1
            done.wait(0.0005)
        worker.join()
    finally:
        sys.setswitchinterval(before)
    assert turns > 3


def test_kernels():
    kernels = lutmul.kernels()
    names = [kernel.name for kernel in kernels]
    assert names[-1] == "scalar" and kernels[-1].usable and not kernels[-1].missing
    assert all(kernel.usable or kernel.missing or "refused" in repr(kernel) for kernel in kernels)
    assert lutmul.__version__.count(".") == 2


def test_numbers_that_are_not_finite(weights):
    x = noise(3, 96)
    x[1, 5] = np.nan
    y = weights.matmul(x, "a16")
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()
