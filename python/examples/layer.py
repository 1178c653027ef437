#!/usr/bin/env python3
"""A layer in 8-bit codes: its size, its error, and its speed beside PyTorch's.

    python layer.py                          16384×3072, one token, one thread: half a minute
    python layer.py --plot layer.png         and a picture (needs matplotlib)

Times are of calls in turns, so that each finds the caches as the others leave them; the best and the median of them.
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F

from lutmul.torch import LutLinear

FORMATS = ["qins-linear", "e4m3", "int8"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="16384x3072", help="n×k: out features, in features")
    parser.add_argument("--tokens", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mode", default="a16")
    parser.add_argument("--seconds", type=float, default=15, help="of measuring")
    parser.add_argument("--plot", metavar="FILE", help="draw sizes, errors and times")
    options = parser.parse_args()
    n, k = map(int, options.shape.split("x"))
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)

    linear = torch.nn.Linear(k, n, bias=False).requires_grad_(False)
    # As weights of transformers are: Gaussian, some rows larger than others.
    linear.weight.normal_(0, 0.02).mul_(torch.empty(n, 1).log_normal_(0, 0.3))
    x = torch.randn(options.tokens, k)
    exact = linear(x)

    layers, rates = {}, {}
    for format in FORMATS:
        for _ in range(2):  # The first one also waits for memory of the system's.
            before = time.perf_counter()
            layers[format] = LutLinear.from_linear(linear, format=format, mode=options.mode)
            rates[format] = n * k / (time.perf_counter() - before) / 1e9
    products = contestants(linear, layers, x)
    times = measure(products, options.seconds)
    error = lambda y: ((y.float() - exact).norm() / exact.norm()).item()
    rows = [(name, size, error(product()), times[name]) for name, (product, size) in products.items()]

    print(f"{n}×{k}, {options.tokens} token(s), {options.threads} thread(s), mode {options.mode}\n")
    print(f"{'':34}{'MiB':>8}{'error':>10}{'best ms':>10}{'median':>10}")
    for name, size, wrong, (best, median) in rows:
        print(f"{name:34}{size / 2**20:8.1f}{wrong:10.1e}{best:10.3f}{median:10.3f}")
    first = f"lutmul {FORMATS[0]}"
    print()
    for name, _ in products.items():
        if not name.startswith("lutmul"):
            print(f"{first} is {times[name][0] / times[first][0]:.1f} times as fast as {name}")
    encoded = ", ".join(f"{rate:.2f} in {format}" for format, rate in rates.items())
    print(f"\nEncoding, 10⁹ weights a second: {encoded}")
    print("A call by itself, with 64×64 weights: {:.1f} µs by PyTorch's layer, {:.1f} µs by numpy".format(*calls()))
    print("Beside a product of 3072×3072 by numpy: PyTorch's layer {:+.0f} µs, a Linear of 8×8 after it {:+.0f} µs".format(*beside()))
    if options.plot:
        plot(rows, options)


def contestants(linear, layers, x):
    """Products with the same weights, and the bytes of weights that each reads."""
    products = {f"lutmul {format}": (lambda layer=layer: layer(x), layer.weights().nbytes) for format, layer in layers.items()}
    w, short = linear.weight, linear.weight.bfloat16()
    products["PyTorch F.linear, float32"] = (lambda: F.linear(x, w), 4 * w.numel())
    products["PyTorch F.linear, bfloat16"] = (lambda: F.linear(x.bfloat16(), short), 2 * w.numel())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That it will move to another package.
        dynamic = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(linear), {torch.nn.Linear}, torch.qint8)
    products["PyTorch dynamic int8"] = (lambda: dynamic(x), w.numel() + 4 * len(w))
    # As the definition reads: codes as indices, signs as bytes, weights made anew for each product.
    weights = layers[FORMATS[0]].weights()
    signs = torch.from_numpy(weights.decode()).sign().to(torch.int8)
    codes, lut = torch.from_numpy(weights.codes.copy()), torch.from_numpy(weights.table.copy())
    scales = torch.from_numpy(weights.scales.copy())[:, None]
    naive = lambda: F.linear(x, signs * lut[codes.long()] * scales)
    products["PyTorch sign * lut[codes]"] = (naive, 2 * codes.numel() + 4 * len(codes) + 1024)
    return products


def calls():
    """Microseconds of a product so small that the way to it is most of it."""
    layer, x = LutLinear.from_linear(torch.nn.Linear(64, 64, bias=False), mode="a16"), torch.randn(1, 64)
    weights, array = layer.weights(), x.numpy()
    times = measure({"torch": (lambda: layer(x), 0), "numpy": (lambda: weights.matmul(array, "a16", threads=1), 0)}, 0.2)
    return [1000 * best for best, _ in times.values()]


def beside():
    """Microseconds that a layer of PyTorch takes longer than the same product by numpy, which has pushed Python and PyTorch out
    of the caches; and what PyTorch's own smallest layer costs there."""
    linear, tiny = torch.nn.Linear(3072, 3072, bias=False), torch.nn.Linear(8, 8)
    layer, x, small = LutLinear.from_linear(linear, mode="a16"), torch.randn(1, 3072), torch.randn(1, 8)
    weights, array, out = layer.weights(), x.numpy(), np.empty((1, 3072), np.float32)
    product = lambda: weights.matmul(array, "a16", out=out, threads=torch.get_num_threads())
    products = {"numpy": product, "layer": lambda: layer(x), "tiny": lambda: (product(), tiny(small))}
    times = measure({name: (product, 0) for name, product in products.items()}, 1.5)
    numpy, layer, tiny = (1000 * median for _, median in times.values())
    return layer - numpy, tiny - numpy


def measure(products, seconds):
    """Milliseconds of each, best and median, in turns; what has had its share of the time, and five turns, is done."""
    times, waiting = {name: [] for name in products}, dict(products)
    with torch.inference_mode():
        while waiting:
            for name, (product, _) in list(waiting.items()):
                before = time.perf_counter()
                product()
                times[name].append(1000 * (time.perf_counter() - before))
                if len(times[name]) >= 5 and sum(times[name]) > 1000 * seconds / len(products):
                    del waiting[name]
    return {name: (min(all_), statistics.median(all_)) for name, all_ in times.items()}


def plot(rows, options):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [name.replace("PyTorch ", "") for name, *_ in rows][::-1]
    colours = ["tab:blue" if name.startswith("lutmul") else "tab:gray" for name in names]
    panels = [
        ("weights, MiB", [size / 2**20 for _, size, _, _ in rows][::-1], "{:.0f}", "linear"),
        ("relative error of the product", [wrong for _, _, wrong, _ in rows][::-1], "{:.0e}", "log"),
        ("time, ms (best)", [best for *_, (best, _) in rows][::-1], "{:.3g}", "log"),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(13, 0.5 * len(rows) + 1.4), sharey=True, layout="constrained")
    for axis, (title, values, form, scale) in zip(axes, panels):
        # What is exact has no bar on a logarithmic axis.
        shown = [value if value > 0 else float("nan") for value in values]
        bars = axis.barh(names, shown, color=colours)
        labels = [form.format(value) if value > 0 else "" for value in values]
        axis.bar_label(bars, labels, padding=3)
        axis.set_xscale(scale)
        axis.set_title(title)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"A layer of {options.shape.replace('x', '×')}, {options.tokens} token(s), {options.threads} thread(s), mode {options.mode}"
    )
    figure.savefig(options.plot, dpi=130)
    print(f"\n{options.plot}")


if __name__ == "__main__":
    main()
