"""Models on disk."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from conftest import noise

import lutmul

NAMES = {np.dtype("float32"): "F32", np.dtype("float16"): "F16", np.dtype("uint8"): "U8", np.dtype("int64"): "I64"}
NAMES |= {np.dtype(ml_dtypes.bfloat16): "BF16", np.dtype(ml_dtypes.float8_e4m3fn): "F8_E4M3"}


def save(path, **tensors):
    """A safetensors file, written by hand."""
    header, data = {}, b""
    for name, array in tensors.items():
        bytes = array.tobytes()
        offsets = [len(data), len(data) + len(bytes)]
        header[name] = {"dtype": NAMES[array.dtype], "shape": array.shape, "data_offsets": offsets}
        data += bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture
def model(tmp_path):
    w = noise(64, 128)
    tensors = {
        "a.weight": w.astype(ml_dtypes.float8_e4m3fn),
        "a.weight_scale": np.full((), 0.5, np.float32),
        "b.weight": w,
        "c.weight": w.astype(ml_dtypes.bfloat16),
        "norm.weight": noise(128),
        "ids": np.arange(7),
    }
    return tensors, lutmul.open(save(tmp_path / "model.safetensors", **tensors))


def test_codes_are_read_where_they_lie(model):
    tensors, checkpoint = model
    assert checkpoint.keys() == ["a", "b", "c"] == list(checkpoint) and len(checkpoint) == 3
    assert "a" in checkpoint and "norm" not in checkpoint
    [a, b, c] = checkpoint.linears
    assert (a.name, a.tensor, a.shape, a.dtype, a.format) == ("a", "a.weight", (64, 128), "F8_E4M3", "e4m3")
    assert (b.format, b.granularity, c.dtype) == (None, None, "BF16")
    weights = checkpoint["a"]
    assert (weights.format, weights.granularity, weights.name) == ("e4m3", "tensor", "a")
    assert np.array_equal(weights.codes, tensors["a.weight"].view(np.uint8))
    assert np.shares_memory(weights.codes, checkpoint["a"].codes)
    assert np.array_equal(weights.decode(), tensors["a.weight"].astype(np.float32) * np.float32(0.5))
    # What is mapped outlives the checkpoint.
    expected = weights.matmul(noise(2, 128))
    del checkpoint, model
    assert np.array_equal(weights.matmul(noise(2, 128)), expected)


def test_floats_are_encoded(model):
    tensors, checkpoint = model
    weights = checkpoint.weights("c", "qins-linear", "row")
    same = lutmul.Weights.encode(tensors["c.weight"], "qins-linear", "row")
    assert np.array_equal(weights.codes, same.codes) and weights.name == "c"
    recoded = checkpoint.weights("a", "int8", "tensor")
    assert np.array_equal(recoded.codes, checkpoint["a"].recode("int8", "tensor").codes)
    checkpoint.validate()


def test_tensors(model):
    tensors, checkpoint = model
    for name in ("b.weight", "c.weight", "norm.weight", "ids"):
        read = checkpoint.tensor(name)
        assert read.dtype == tensors[name].dtype and np.array_equal(read, tensors[name]), name
    assert np.array_equal(checkpoint.tensor("a"), checkpoint["a"].decode())
    assert {other.name: other.shape for other in checkpoint.others} == {"norm.weight": [128], "ids": [7]}
    assert "norm" in repr(checkpoint.others) and "e4m3" in repr(checkpoint.linears) and "3" in repr(checkpoint)


def test_what_is_refused(model, tmp_path):
    _, checkpoint = model
    with pytest.raises(KeyError, match="norm.weight.*is no matrix"):
        checkpoint["norm.weight"]
    with pytest.raises(KeyError, match="is not there"):
        checkpoint.tensor("d")
    with pytest.raises(ValueError, match="b: is F32: say which format"):
        checkpoint["b"]
    with pytest.raises(FileNotFoundError, match="none"):
        lutmul.open(tmp_path / "none")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(OSError, match="bad.safetensors"):
        lutmul.open(tmp_path / "bad.safetensors")
    nan = np.full((2, 64), np.nan, np.float32)
    broken = lutmul.open(save(tmp_path / "nan.safetensors", **{"q.weight": nan}))
    with pytest.raises(ValueError, match="NaN at row 0, column 0"):
        broken.weights("q", "int8")
    with pytest.raises(OSError, match="q.weight.*NaN at row 0, column 0"):
        broken.validate()
