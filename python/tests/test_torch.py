"""Layers for PyTorch."""

import copy
import io
import multiprocessing
import os

import numpy as np
import pytest
from conftest import in_child, needs, noise

import lutmul

pytestmark = needs("torch")
torch = pytest.importorskip("torch", reason="LEFT OUT: torch is not installed")
layers = pytest.importorskip("lutmul.torch", reason="LEFT OUT: torch is not installed")
LutLinear, quantize_ = layers.LutLinear, layers.quantize_


def tensor(*shape, seed=7):
    return torch.from_numpy(noise(*shape, seed=seed))


def linear(n=37, k=96, bias=True):
    made = torch.nn.Linear(k, n, bias=bias)
    made.weight.data, scale = tensor(n, k, seed=1), 0.3
    if bias:
        made.bias.data = scale * tensor(n, seed=2)
    return made.requires_grad_(False)


def test_of_a_linear():
    plain, x = linear(), tensor(2, 3, 96)
    layer = LutLinear.from_linear(plain, format="qins-linear", mode="a16")
    y = layer(x)
    assert y.shape == (2, 3, 37) and y.dtype == torch.float32
    assert torch.allclose(y, plain(x), atol=96 / 508)
    weights = lutmul.Weights.encode(plain.weight.numpy(), "qins-linear", "row")
    assert np.array_equal(weights.matmul(x.numpy(), "a16", bias=plain.bias.numpy()), y.numpy())
    assert "mode=a16" in repr(layer) and layer.weights().format == "qins-linear"
    assert LutLinear.from_linear(linear(bias=False)).bias is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", lutmul.MODES)
def test_types_and_modes(dtype, mode):
    layer = LutLinear.from_linear(linear(), format="e4m3", mode=mode)
    x = tensor(5, 96).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    if mode not in ("f32", "bf16"):
        assert torch.equal(y, layer(x.float()).to(dtype))
    decoded = torch.from_numpy(layer.weights().decode())
    expected = torch.nn.functional.linear(x.double(), decoded.double(), layer.bias.double())
    assert torch.allclose(y.double(), expected, rtol=0.02, atol=0.3)
    # Layers of bf16 and f16 are encoded as they are.
    other = LutLinear.from_linear(linear().to(dtype), format="e4m3", mode=mode)
    assert other.weights().shape == (37, 96) and other.bias.dtype == torch.float32


def test_views_and_leading_dimensions():
    layer, x = LutLinear.from_linear(linear()), tensor(3, 4, 96)
    rows = layer(x.reshape(12, 96))
    assert torch.equal(layer(x.transpose(0, 1)).transpose(0, 1).reshape(12, 37), rows)
    assert torch.equal(layer(torch.cat([x, x], 2)[..., 96:]).reshape(12, 37), rows)
    assert layer(x[0, 0]).shape == (37,) and layer(x[:0]).shape == (0, 4, 37)


def test_state_dict():
    layer, x = LutLinear.from_linear(linear()), tensor(5, 96)
    state = layer.state_dict()
    assert sorted(state) == ["bias", "codes", "scales", "signs", "table"]
    assert state["codes"].dtype == torch.uint8 and state["signs"].shape == (37, 12)
    other = LutLinear.from_linear(torch.nn.Linear(96, 37))
    before = other(x)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), layer(x)) and not torch.equal(before, layer(x))
    for again in (copy.deepcopy(layer), pickled(layer)):
        assert torch.equal(again(x), layer(x))
        assert again.codes.data_ptr() != layer.codes.data_ptr()
    # What is written into the buffers counts, also where the codes are the same.
    layer.scales.mul_(2)
    layer.bias.zero_()
    assert torch.allclose(layer(x), 2 * (other(x) - other.bias), atol=1e-4)


def pickled(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_conversions_leave_tables_alone():
    layer, x = LutLinear.from_linear(linear()), tensor(5, 96)
    expected = layer(x)
    for convert in (lambda m: m.half(), lambda m: m.to(torch.bfloat16), lambda m: m.double(), lambda m: m.float()):
        model = convert(torch.nn.Sequential(copy.deepcopy(layer)))
        assert model[0].table.dtype == model[0].scales.dtype == model[0].bias.dtype == torch.float32
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "int8", "uint8"])
def test_codes_are_not_copied(dtype):
    x, scales = tensor(5, 96), tensor(37, seed=3).abs()
    codes = (100 * tensor(37, 96, seed=4)).to(getattr(torch, dtype)) if dtype != "uint8" else None
    if codes is None:
        codes = (100 * tensor(37, 96, seed=4)).to(torch.int8).view(torch.uint8)
    layer = LutLinear.from_codes(codes, scales, table="int8" if dtype == "uint8" else None, mode="f32")
    assert layer.codes.data_ptr() == codes.data_ptr()
    assert np.shares_memory(layer.weights().codes, codes.view(torch.uint8).numpy())
    floats = codes.view(torch.int8).float() if dtype == "uint8" else codes.float()
    assert torch.allclose(layer(x), x @ (floats * scales[:, None]).T, rtol=1e-4, atol=1e-2)
    blocks = LutLinear.from_codes(codes, torch.ones(3, 3), granularity="block:16x32", table="int8" if dtype == "uint8" else None)
    assert blocks.granularity == "block:16x32"


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("changed", [False, True])
def test_changed_buffers_are_seen(made, changed):
    """Also those of layers that are made, or changed, in inference mode, in which PyTorch counts no versions."""
    x, one, two = tensor(5, 96), linear(bias=False), linear(bias=False)
    two.weight.data = tensor(37, 96, seed=2)
    with torch.inference_mode(made):
        layer, other = (LutLinear.from_linear(linear, format="e4m3") for linear in (one, two))
        again = LutLinear.from_codes(layer.codes, layer.scales, table=layer.table)
        copied = copy.deepcopy(layer)
    before, expected = layer(x), other(x)
    assert torch.equal(again(x), before) and torch.equal(copied(x), before)
    with torch.inference_mode(changed):
        layer.scales.mul_(2)
    assert torch.allclose(layer(x), 2 * before, rtol=1e-4, atol=1e-4)
    with torch.inference_mode(changed):
        layer.load_state_dict(other.state_dict())
        copied.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(layer(x), expected) and torch.equal(copied(x), expected)
    with torch.inference_mode(changed):
        layer.codes[3, 4] = 0x7F  # NaN
    with pytest.raises(ValueError, match="row 3, column 4"):
        layer(x)


def test_quantize():
    def model():
        torch.manual_seed(1)
        tied = torch.nn.Linear(96, 96)
        return torch.nn.ModuleDict({"a": tied, "mlp": torch.nn.Sequential(linear(), tied), "head": linear(5)}).requires_grad_(False)

    whole = model()
    assert sorted(quantize_(whole)) == ["a", "head", "mlp.0", "mlp.1"]
    assert whole["a"] is whole["mlp"][1] and isinstance(whole["head"], LutLinear)
    some = model()
    assert quantize_(some, include="mlp.*", exclude=["1"], format="e4m3", mode="a8") == ["mlp.0"]
    assert some["mlp"][0].mode == "a8" and type(some["head"]) is torch.nn.Linear
    some = model()
    assert quantize_(some, exclude=lambda name, module: module.out_features == 96) != []
    assert type(some["a"]) is torch.nn.Linear and isinstance(some["head"], LutLinear)
    with pytest.raises(ValueError, match="there is no torch.nn.Linear"):
        quantize_(some, include="none")
    # An error changes nothing.
    broken = model()
    broken["head"].weight[2, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN at row 2, column 3"):
        quantize_(broken)
    assert type(broken["a"]) is torch.nn.Linear
    # Attention reads the weight of its projection: that is no Linear of its own.
    attention = torch.nn.MultiheadAttention(96, 4)
    with pytest.raises(ValueError, match="there is no"):
        quantize_(attention)


def test_what_is_refused():
    layer, x = LutLinear.from_linear(linear()), tensor(5, 96)
    with pytest.raises(RuntimeError, match="inference only"):
        layer(x.clone().requires_grad_())
    with torch.no_grad():
        assert torch.equal(layer(x.clone().requires_grad_()), layer(x))
    with torch.inference_mode():
        assert torch.equal(layer(x), layer(x.clone()))
    with pytest.raises(RuntimeError, match="on the CPU only"):
        layer(x.to("meta"))
    with pytest.raises(RuntimeError, match="on the CPU only"):
        copy.deepcopy(layer).to("meta")(x)
    with pytest.raises(RuntimeError, match="on the CPU only"):
        LutLinear.from_linear(torch.nn.Linear(4, 4, device="meta"))
    with pytest.raises(TypeError, match="float64"):
        layer(x.double())
    with pytest.raises(ValueError, match="x: expected"):
        layer(tensor(5, 95))
    with pytest.raises(ValueError, match="mode"):
        LutLinear.from_linear(linear(), mode="a12")
    with pytest.raises(TypeError, match="from_codes"):
        LutLinear.from_linear(linear().to(torch.float8_e4m3fn))
    with pytest.raises(ValueError, match="codes of uint8 need one"):
        LutLinear.from_codes(torch.zeros(2, 2, dtype=torch.uint8), 1.0)
    with pytest.raises(TypeError, match="codes: elements are torch.float32"):
        LutLinear.from_codes(torch.zeros(2, 2), 1.0)
    with pytest.raises(ValueError, match="NaN"):
        LutLinear.from_codes(torch.zeros(2, 2, dtype=torch.int8), torch.tensor([1.0, float("nan")]))
    nan = torch.full((2, 96), float("nan")).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match="NaN at row 0, column 0"):
        LutLinear.from_codes(nan, 1.0)(x)


@pytest.mark.filterwarnings("ignore")
def test_compile_without_a_graph_break():
    model = torch.nn.Sequential(linear(64), torch.nn.GELU(), linear(37, 64), torch.nn.LayerNorm(37)).requires_grad_(False)
    quantize_(model)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for x in (tensor(5, 96), tensor(5, 96, seed=3)):
        with torch.no_grad():
            assert torch.equal(compiled(x), model(x))
    assert len(graphs) == 1
    targets = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert sum("lutmul.linear" in target for target in targets) == 2, targets
    # Other shapes, and traced through to the operators below.
    aot = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for m in (1, 5, 7):
            assert torch.equal(aot(tensor(m, 96)), model(tensor(m, 96)))


def test_the_operator():
    layer, x = LutLinear.from_linear(linear()), tensor(5, 96)
    arguments = x, layer.codes, layer.signs, layer.table, layer.scales, layer.bias, "row", "a16", "none"
    assert torch.equal(torch.ops.lutmul.linear(*arguments), layer(x))
    torch.library.opcheck(torch.ops.lutmul.linear.default, arguments, test_utils=("test_schema", "test_faketensor"))


def test_threads_are_torchs():
    layer = LutLinear.from_linear(linear(700, 300), mode="f32")
    before, x = torch.get_num_threads(), tensor(20, 300)
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(layer(x))
        names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
        assert sum(name.startswith("lutmul-") for name in names) >= 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


class Products(torch.utils.data.Dataset):
    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return 6

    def __getitem__(self, i):
        with torch.no_grad():
            return self.layer(tensor(20, 300, seed=i))


@pytest.mark.parametrize("first", [False, True])
def test_workers_of_a_data_loader(first):
    layer = LutLinear.from_linear(linear(700, 300))
    if first:
        layer(tensor(20, 300))
    loader = torch.utils.data.DataLoader(
        Products(layer), batch_size=None, num_workers=2, timeout=60, multiprocessing_context=multiprocessing.get_context("fork")
    )
    results = list(loader)
    for i, y in enumerate(results):
        assert torch.equal(y, layer(tensor(20, 300, seed=i)))


def test_a_fork_with_threads():
    layer = LutLinear.from_linear(linear(700, 300))
    x = tensor(20, 300)
    expected = layer(x).numpy()

    def child():
        assert np.array_equal(layer(x).numpy(), expected)

    in_child(child)
