#!/usr/bin/env python3
"""Sets lutmul-chat beside llama.cpp: the same model, prompts and decoding, in turns.

    peers/llamacpp.py --setup    makes a virtual environment with the versions of REQUIREMENTS, once
    cargo build --release -p lutmul-chat
    peers/llamacpp.py MODEL.gguf [--threads 1,2] [--json FILE]

llama.cpp is the one in the wheel xllamacpp, whose build says which instructions of the CPU it uses; it multiplies Q8_0, which
this script makes of MODEL's weights, in a temporary file, by the package gguf. lutmul-chat takes MODEL as it is and encodes
it. Speeds are tokens a second as both say themselves, the best of some turns.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import environment

REQUIREMENTS = ["xllamacpp==2026.10.11549", "gguf==0.19.0", "numpy==2.4.6"]
VENV = environment.CACHE / "llamacpp-1"  # another number for other requirements
ROOT = pathlib.Path(__file__).resolve().parent.parent

# Of lutmul: what is nearest to Q8_0 in bytes and in arithmetic, and QINS.
LUTMUL = [("int8", "row", "a8t"), ("int8", "group:32", "a8"), ("qins-linear", "row", "a8"), ("qins-linear", "row", "a16")]
PROMPTS = [16, 512]


def main():
    options = arguments()
    if options.setup:
        return environment.make(VENV, REQUIREMENTS)
    if pathlib.Path(sys.prefix) != VENV and (python := VENV / "bin" / "python").exists():
        os.execv(python, [python, *sys.argv])
    program = chat(options.program)
    with tempfile.TemporaryDirectory() as folder:
        q8 = pathlib.Path(folder) / "q8_0.gguf"
        write_q8(options.model, q8)
        report = measure(program, options, q8)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def positive(text):
        if (number := int(text)) > 0:
            return number
        raise ValueError

    def numbers(text):
        return [positive(part) for part in text.split(",")]

    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL.gguf", help="what scripts/fetch-models.sh prints last")
    add("--setup", action="store_true", help=f"make {VENV}, and do no more")
    add("--threads", type=numbers, default=[1, 2], metavar="N,N,…")
    add("--turns", type=positive, default=3)
    add("--program", help="lutmul-chat, in place of the one that cargo has built")
    add("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    if not options.setup and not options.model:
        parser.error("MODEL.gguf is missing")
    return options


def chat(given):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    program = pathlib.Path(given) if given else target / "release" / "lutmul-chat"
    if not program.is_file():
        sys.exit(f"{program} is not there: cargo build --release -p lutmul-chat")
    return program


def write_q8(model, path):
    """The model with every matrix in Q8_0."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(path, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if field.name in ("general.architecture", "general.file_type") or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim < 2:
            writer.add_tensor(tensor.name, values.astype(np.float32))
            continue
        q8 = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(tensor.name, gguf.quants.quantize(values.astype(np.float32), q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Llama:
    """llama.cpp with a number of threads."""

    def __init__(self, path, threads):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 2048
        params.n_gpu_layers = 0
        params.n_parallel = 1
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        params.warmup = True
        params.endpoint_metrics = True
        params.verbosity = -1
        self.server = xllamacpp.Server(params)

    def speeds(self, decode):
        """Tokens a second of prompts, and of decoding after the first."""
        rates = []
        for count in [*PROMPTS, PROMPTS[0]]:
            last = len(rates) == len(PROMPTS)
            prompt = [1000 + 7919 * i % 40000 for i in range(count)]
            answer = self.server.handle_completions(
                {"prompt": prompt, "n_predict": decode if last else 1, "cache_prompt": False, "ignore_eos": True,
                 "temperature": 0})
            if isinstance(answer, str):
                answer = json.loads(answer)
            timings = answer["timings"]
            assert timings["prompt_n"] == count, timings
            rates.append(timings["predicted_per_second"] if last else timings["prompt_per_second"])
        return rates


def lutmul(program, model, threads, format, scales, mode, decode):
    command = [program, "speed", model, "--format", format, "--scales", scales, "--mode", mode, "--threads", str(threads),
               "--prefill", ",".join(map(str, PROMPTS)), "--decode", str(decode), "--repetitions", "1", "--json"]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return [rate["best"] for _, rate in said["prefill"]] + [said["decode"]["best"]]


def measure(program, options, q8):
    import xllamacpp

    decode, rows = 64, []
    for threads in options.threads:
        llama = Llama(q8, threads)
        runs = {"llama.cpp Q8_0": lambda: llama.speeds(decode)}
        for format, scales, mode in LUTMUL:
            run = lambda f=format, s=scales, m=mode: lutmul(program, options.model, threads, f, s, m, decode)
            runs[f"{format}/{scales} {mode}"] = run
        best = {}
        for _ in range(options.turns):
            for name, run in runs.items():
                rates = run()
                best[name] = [max(pair) for pair in zip(best.get(name, rates), rates)]
        rows += [{"name": name, "threads": threads, "rates": rates} for name, rates in best.items()]
        del llama
    info = xllamacpp.get_system_info()
    return {"llama.cpp": str(xllamacpp.BUILD_INFO), "system": info, "prompts": PROMPTS, "decode": decode, "rows": rows}


def table(report):
    lines = [f"{report['llama.cpp']}: {report['system']}", ""]
    head = ["", "threads", *[f"prompt of {count}" for count in PROMPTS], "decode"]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in report["rows"]:
        base = next(r for r in report["rows"] if r["threads"] == row["threads"])
        cells = [f"{rate:.0f} ({rate / of:.2f})" for rate, of in zip(row["rates"], base["rates"])]
        lines.append("| " + " | ".join([row["name"], str(row["threads"]), *cells]) + " |")
    return "\n".join(lines + ["", "Tokens a second; in brackets, how often llama.cpp's."])


if __name__ == "__main__":
    main()
