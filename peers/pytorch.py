#!/usr/bin/env python3
"""Sets lutmul beside PyTorch on one thread: products y = x · Wᵀ by both, in turns, in one process.

    peers/pytorch.py --setup    makes a virtual environment with the versions of REQUIREMENTS, once
    cargo build --release -p lutmul-capi
    peers/pytorch.py            16384×3072, 1 to 512 tokens: some minutes
    peers/pytorch.py --quick    1024×768, 1 and 16 tokens
    peers/pytorch.py --check    lutmul's part alone, which needs no PyTorch: small products, compared with sums in Python

lutmul is called by its C ABI. PyTorch's products are those of F.linear in f32 and bf16, of
torch.ao.quantization.quantize_dynamic with its engine onednn, and of the operator onednn.qlinear, as torch.compile
calls it, with x quantised per tensor before; the time for quantising x is counted everywhere. A turn is one call, so that
each finds the weights of its own pushed out of the cache by those of the others, where they are larger than it. Times
are the CPU's, of all threads of this process: a busy machine disturbs them less than the clock's.

What ran is what the libraries themselves say: lutmul's C ABI (kernel amx does mode f32, and few tokens, by AVX-512),
oneDNN's and MKL's verbose modes. The error is the root of
the mean square of y − r, over that of r: r is PyTorch's product in f32, of the weights before they were encoded.
"""

import argparse
import contextlib
import ctypes
import importlib.util
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
import warnings

import capi
import environment

# PyPI's wheels for Linux come with CUDA: some 3 GB to fetch, 7 GB on disk.
REQUIREMENTS = ["torch==2.9.1", "numpy==2.2.6"]
VENV = environment.CACHE / "torch-1"  # another number for other requirements

# lutmul's format and mode, and the products of PyTorch that it is compared with.
PAIRS = {
    ("int8", "a8t"): ["int8 dynamic", "onednn.qlinear"],
    ("e4m3", "bf16"): ["bf16"],
    ("qins-linear", "a8t"): ["int8 dynamic", "onednn.qlinear"],
    ("qins-linear", "a16"): ["bf16"],
    ("qins-linear", "f32"): ["f32"],
}


def main():
    options = arguments()
    if options.setup:
        return environment.make(VENV, REQUIREMENTS)
    library = capi.Library.find(options.library)
    if options.check:
        for (format, mode), kernel, missing in capi.check(library, PAIRS):
            print(f"{format} {mode}: {f'right, by {kernel}' if kernel else f'LEFT OUT: {missing}'}")
        return
    with_pytorch()
    report = measure(library, options)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def positive(text):
        if (number := float(text)) > 0:
            return number
        raise ValueError

    def sizes(text, separator=","):
        return [int(positive(size)) for size in text.split(separator)]

    def shape(text):
        n, k = sizes(text, "x")
        return n, k

    add = parser.add_argument
    add("--setup", action="store_true", help=f"make {VENV}, and do no more")
    add("--check", action="store_true", help="check lutmul's part, and do no more")
    add("--quick", action="store_true", help="a small shape, few tokens, a second for each")
    add("--shape", type=shape, metavar="NxK", help="of the weights")
    add("--tokens", type=sizes, metavar="M,M,…")
    add("--seconds", type=positive, help="for each number of tokens; five turns at least")
    add("--kernel", help="lutmul's kernel, in place of the best")
    add("--library", help="liblutmul.so, in place of the one that cargo has built")
    add("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(words)
    quick = options.quick
    options.shape = options.shape or ((1024, 768) if quick else (16384, 3072))
    options.tokens = options.tokens or ([1, 16] if quick else [1, 4, 16, 64, 512])
    options.seconds = options.seconds or (1 if quick else 20)
    return options


def with_pytorch():
    """Goes on in the virtual environment, if this Python has no PyTorch."""
    if importlib.util.find_spec("torch"):
        return
    python = VENV / "bin" / "python"
    if not python.is_file() or sys.executable == str(python):
        raise SystemExit("PyTorch is not installed: peers/pytorch.py --setup installs it in " + str(VENV))
    sys.stdout.flush()
    os.execv(python, [python, *sys.argv])


class Lutmul:
    """Products by lutmul: y and x of f32, or of bf16 in mode bf16, as PyTorch's there."""

    def __init__(self, library, weights, mode, kernel, x):
        import torch

        self.name = f"lutmul {weights.format} {mode}"
        element, dtype = (capi.BF16, torch.bfloat16) if mode == "bf16" else (capi.F32, torch.float32)
        self.x, self.y = x.to(dtype), torch.empty(len(x), weights.n, dtype=dtype)
        of = lambda data: capi.Matrix(data.data_ptr(), *data.shape, 0, element, 0)
        self.views = of(self.x), of(self.y)
        self.workspace = capi.Workspace(library, weights, mode, len(x), kernel)

    def run(self):
        self.workspace.matmul(*self.views)
        return self.y

    def kernel(self):
        return self.workspace.kernel()


class Torch:
    """Products by PyTorch."""

    def __init__(self, name, linear, x):
        self.name, self.linear, self.x = f"PyTorch {name}", linear, x

    def run(self):
        return self.linear(self.x)

    def kernel(self):
        """What oneDNN and MKL say that they have run."""
        import torch

        mkldnn, mkl = torch.backends.mkldnn, torch.backends.mkl
        said = []
        # One after the other: on its way out, MKL's would end oneDNN's, too.
        for verbose in (mkldnn.verbose(mkldnn.VERBOSE_ON), mkl.verbose(mkl.VERBOSE_ON)):
            with standard_output(said), verbose:
                self.run()
        return kernels("".join(said)) or f"ATen's own, {torch.backends.cpu.get_cpu_capability()}"


@contextlib.contextmanager
def standard_output(said):
    """Appends what libraries print meanwhile to a list."""
    sys.stdout.flush()
    kept = os.dup(1)
    with tempfile.TemporaryFile("w+") as file:
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            # What C has buffered belongs to the file.
            ctypes.CDLL(None).fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            said.append(file.read())


def kernels(said):
    """oneDNN's and MKL's kernels, by what their verbose modes print. Reorders of x and y, if any, count as kernels."""
    found = []
    for line in said.splitlines():
        words = line.split(",")
        if words[0].startswith("onednn_verbose") and "exec" in words:
            kind, name = words[words.index("exec") + 2 :][:2]
            found.append(f"oneDNN {kind} {name}")
        elif call := re.match(r"MKL_VERBOSE (\w+)\(", line):
            found.append(f"MKL {call[1].lower()}")
    return ", ".join(dict.fromkeys(found))


def linears(w):
    """PyTorch's products with the weights [n, k], by name."""
    import torch

    n, k = w.shape
    torch.backends.quantized.engine = "onednn"
    layer = torch.nn.Linear(k, n, bias=False)
    layer.weight.data = w
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao is to take its place; what runs is the same
        dynamic = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear}, torch.qint8)

    scales = w.abs().amax(1) / 127
    codes = torch.round(w / scales[:, None]).to(torch.int8)
    zeros = torch.zeros(n, dtype=torch.int64)
    packed = torch.ops.onednn.qlinear_prepack(codes, None)

    def qlinear(x):
        scale = float(x.abs().amax()) / 127
        q = torch.quantize_per_tensor(x, scale, 128, torch.quint8).int_repr()
        return torch.ops.onednn.qlinear_pointwise(
            q, scale, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )

    half = w.to(torch.bfloat16)
    return {
        "int8 dynamic": dynamic,
        "onednn.qlinear": qlinear,
        "bf16": lambda x: torch.nn.functional.linear(x, half),
        "f32": lambda x: torch.nn.functional.linear(x, w),
    }


def measure(library, options):
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    n, k = options.shape
    w = torch.randn(n, k) / k**0.5
    original = capi.Matrix(w.data_ptr(), n, k, 0, capi.F32, 0)
    weights = {format: capi.Weights(library, original, format) for format, _ in PAIRS}
    peers = linears(w)
    report = {
        "machine": machine(),
        "pytorch": torch.__version__,
        "library": str(library.path),
        "n": n,
        "k": k,
        "ratios": [],
        "products": [],
        "missing": {},
    }
    for m in options.tokens:
        x = torch.randn(m, k)
        products = {name: Torch(name, linear, x.bfloat16() if name == "bf16" else x) for name, linear in peers.items()}
        for format, mode in PAIRS:
            try:
                products[format, mode] = Lutmul(library, weights[format], mode, options.kernel, x)
            except capi.Error as error:
                if error.status != capi.NAME:
                    raise
                report["missing"][f"{format} {mode}"] = str(error)
        true = products["f32"].run()
        errors = {key: float((p.run().float() - true).norm() / true.norm()) for key, p in products.items()}
        times = turns(products.values(), options.seconds)
        for (key, product), seconds in zip(products.items(), times):
            flops = 2e-9 * m * n * k
            report["products"].append({
                "product": product.name,
                "tokens": m,
                "best_gflops": flops / min(seconds),
                "median_gflops": flops / statistics.median(seconds),
                "turns": len(seconds),
                "error": errors[key],
                "kernel": product.kernel(),
            })
        best = dict(zip(products, map(min, times)))
        median = dict(zip(products, map(statistics.median, times)))
        for (format, mode), peer in ((ours, peer) for ours in PAIRS if ours in products for peer in PAIRS[ours]):
            report["ratios"].append({
                "lutmul": f"{format} {mode}",
                "pytorch": peer,
                "tokens": m,
                "best": best[peer] / best[format, mode],
                "median": median[peer] / median[format, mode],
            })
        print(f"{m} tokens done", file=sys.stderr)
    return report


def turns(products, seconds):
    """The times of each product: of all in turns, five at least."""
    products = list(products)
    times = [[] for _ in products]
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < end:
        for product, of in zip(products, times):
            begin = time.process_time()
            product.run()
            of.append(time.process_time() - begin)
    return times


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{model}, {os.cpu_count()} CPUs, load {busy} at the beginning"


def markdown(report):
    tokens = sorted({product["tokens"] for product in report["products"]})
    lines = [
        f"{report['machine']}; PyTorch {report['pytorch']}; {report['n']}×{report['k']}, one thread.",
        "",
        *(f"NOT IN THIS BUILD of lutmul: {case} ({why})\n" for case, why in report["missing"].items()),
        "lutmul's speed over PyTorch's, best (median), by tokens:",
        "",
    ]

    def table(first, rows):
        lines.append(f"| {' | '.join(first)} | {' | '.join(map(str, tokens))} |")
        lines.append("|---" * len(first) + "|--:" * len(tokens) + "|")
        lines.extend(f"| {' | '.join(row)} |" for row in rows)

    def rows(entries, key, cell):
        cells = {}
        for entry in entries:
            cells.setdefault(key(entry), {})[entry["tokens"]] = cell(entry)
        return [(*first, *(by.get(m, "") for m in tokens)) for first, by in cells.items()]

    table(
        ("lutmul", "PyTorch"),
        rows(report["ratios"], lambda r: (r["lutmul"], r["pytorch"]), lambda r: f"{r['best']:.2f} ({r['median']:.2f})"),
    )
    lines += ["", "GFLOP/s, best (median), and the error:", ""]
    table(
        ("product",),
        rows(
            report["products"],
            lambda p: (p["product"],),
            lambda p: f"{p['best_gflops']:.0f} ({p['median_gflops']:.0f}), {p['error']:.0e}",
        ),
    )
    lines += ["", "What ran:", ""]
    ran = {}
    for product in report["products"]:
        ran.setdefault((product["product"], product["kernel"]), []).append(str(product["tokens"]))
    lines += [f"- {name}: {kernel} ({', '.join(m)} tokens)" for (name, kernel), m in ran.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
