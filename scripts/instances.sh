#!/usr/bin/env bash
# Lists the instances of the kernels' loops, and what each takes of the text: a loop is compiled once for each ISA,
# operand, decoder and shape that the lists of the kernels crate name.
#
#   scripts/instances.sh [--all] [ARGS...]    ARGS go to cargo: --features gather, --target aarch64-unknown-linux-gnu
#
# Without --all those of a loop, an ISA and a decoder are one line. It compiles the kernels once more, in release and with
# symbols that say what is generic; needs nm (binutils 2.36 or later) and Python.
set -euo pipefail
cd "$(dirname "$0")/.."

all=
[[ ${1-} != --all ]] || { all=1; shift; }
rlib=$(cargo rustc --release -p lutmul-kernels --message-format=json-render-diagnostics "$@" \
  -- -Csymbol-mangling-version=v0 | python3 -c '
import json, sys
for line in sys.stdin:
    made = json.loads(line)
    if made.get("reason") == "compiler-artifact" and made["target"]["name"] == "lutmul_kernels":
        print(next(name for name in made["filenames"] if name.endswith(".rlib")))')
nm --demangle --print-size --defined-only "$rlib" 2>/dev/null | ALL=$all python3 -c '
import os, re, sys
from collections import defaultdict

def arguments(text):
    """The generic arguments at the top level of `Name<A, B<C>, D>`."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "<([{") - (c in ">)]}")
        if c == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return parts + [part.strip()]

def short(path):
    """Without the modules and the types of numbers."""
    path = re.sub(r"(\d+)(u8|usize)", r"\1", path)
    return re.sub(r"(?:\w+::)+(\w+)", r"\1", path)

text, loops = 0, []
for line in sys.stdin:
    fields = line.rstrip("\n").split(" ", 3)
    if len(fields) < 4 or fields[2] not in "tTwW":
        continue
    size, name = int(fields[1], 16), fields[3]
    text += size
    # What `isa!` makes of a loop: `<Token as Isa>::run::shell::<Task<...>>`.
    found = re.match(r"<(.*) as lutmul_kernels(?:\[\w+\])?::isa::Isa>::run::shell::<(.*)>$", name)
    if found:
        isa, task = short(found[1]), found[2]
        task = re.sub(r"\[[0-9a-f]{8,}\]", "", task)
        loop, _, inner = task.partition("<")
        if loop.endswith("WithTiles"):  # a loop of AMX runs as one of AVX-512
            isa, task = "Amx", inner[:-1]
            loop, _, inner = task.partition("<")
        loop = loop.removeprefix("lutmul_kernels::")
        types = [short(a) for a in arguments(inner[:-1]) if not a.startswith("\x27")]
        numbers = [a for a in types if a.isdigit() or a in ("true", "false")]
        types = [a for a in types if a not in numbers]
        # Every vector type and operand names its token again.
        types = [re.sub(r"<%s>$" % isa, "", a) for a in types]
        loops.append((loop, isa, " ".join(types), ",".join(numbers), size))

if not loops:
    sys.exit("no loops found: is `isa!` no longer what makes them, or nm too old to demangle them?")
groups = defaultdict(list)
for loop, isa, types, numbers, size in loops:
    groups[loop, isa, types + (" " + numbers if os.environ["ALL"] else "")].append(size)
by = lambda i: sorted({(k[i]) for k in groups})
row = "{:>9} {:>9}  {:<24} {:<11} {}"
print(row.format("instances", "bytes", "loop", "isa", "operand, decoder"))
for key, sizes in sorted(groups.items()):
    print(row.format(len(sizes), sum(sizes), *key))
for i, what in enumerate(("loop", "isa")):
    print()
    for name in by(i):
        sizes = [s for k, v in groups.items() if k[i] == name for s in v]
        print(row.format(len(sizes), sum(sizes), name, "", ""))
sizes = [loop[4] for loop in loops]
print(f"\n{len(sizes)} instances, {sum(sizes) / 2**20:.2f} MiB of {text / 2**20:.2f} MiB of text; "
      f"an average one takes {sum(sizes) / len(sizes):.0f} bytes")'
