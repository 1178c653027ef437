"""Models of transformers, small and random, with their linears replaced."""

import copy

import pytest
from conftest import needs

pytestmark = [needs("torch"), needs("transformers")]
torch = pytest.importorskip("torch", reason="LEFT OUT: torch is not installed")
transformers = pytest.importorskip("transformers", reason="LEFT OUT: transformers is not installed")
from lutmul.torch import LutLinear, quantize_  # noqa: E402

SIZES = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, vocab_size=99)


def llama():
    torch.manual_seed(1)
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=64)
    return transformers.LlamaForCausalLM(config).eval(), 15


def bert():
    torch.manual_seed(1)
    config = transformers.BertConfig(**SIZES, max_position_embeddings=64)
    return transformers.BertForMaskedLM(config).eval(), 14


@pytest.mark.parametrize("make", [llama, bert])
def test_logits(make):
    model, linears = make()
    ids = torch.randint(0, 99, (2, 17), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        for format, limit in [("qins-linear", 0.02), ("int8", 0.03), ("e4m3", 0.1)]:
            coded = copy.deepcopy(model)
            assert len(quantize_(coded, format=format)) == linears
            # The float model of the same weights: the rest is the arithmetic of A16.
            floats = copy.deepcopy(model)
            for name, layer in coded.named_modules():
                if isinstance(layer, LutLinear):
                    floats.get_submodule(name).weight = torch.nn.Parameter(torch.from_numpy(layer.weights().decode()))
            y = coded(input_ids=ids).logits
            error = lambda other: ((y - other).norm() / other.norm()).item()
            assert 0 < error(expected) < limit, (format, error(expected))
            assert error(floats(input_ids=ids).logits) < 1e-3, format


def test_threads_do_not_change_a_bit():
    model, _ = llama()
    quantize_(model)
    seen, before = [], torch.get_num_threads()

    def keep(layer, inputs, y):
        seen.append((inputs[0], y))

    hooks = [layer.register_forward_hook(keep) for layer in model.modules() if isinstance(layer, LutLinear)]
    try:
        with torch.inference_mode():
            model(input_ids=torch.arange(17)[None])
            [hook.remove() for hook in hooks]
            layers = [layer for layer in model.modules() if isinstance(layer, LutLinear)]
            assert len(seen) == len(layers)
            for threads in (1, 2):
                torch.set_num_threads(threads)
                for layer, (x, y) in zip(layers, seen):
                    assert torch.equal(layer(x), y)
    finally:
        torch.set_num_threads(before)


def test_generation():
    model, _ = llama()
    quantize_(model, exclude="lm_head")
    with torch.inference_mode():
        out = model.generate(torch.arange(5)[None], max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
    assert out.shape == (1, 9)
