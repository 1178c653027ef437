#!/usr/bin/env python3
"""Golden bits of lutmul's integer modes: the numeric contract (DESIGN, section 3) read plainly.

    python3 tests/golden/golden.py > tests/golden/golden.txt

Nothing here comes from lutmul, and only the standard library is used: sums are Python integers, scaling is
IEEE doubles (Python's floats: `*`, `/`, `+` round once, half to even, and are never fused), comparisons of
errors are fractions. So the file is the same on every machine; CI makes it anew and compares the bytes.

Inputs are made here from an integer PRNG (`Rng`) and written into the file beside the results, so that its
reader needs no PRNG.
"""

import math
import struct
import sys
from fractions import Fraction
from operator import mul

HEADER = """\
# Golden bits of lutmul's integer modes. Made by tests/golden/golden.py, which says how; don't edit.
#
# A line is a key and words. A word is hexadecimal digits, or `COUNT*digits` for repeated ones; the words of a
# line make one string, and f32, f64 and u16 in it are big-endian. `-` stands for nothing.
#
# table NAME        begins a table
#   values          256 f32
#   step            f64: what a magnitude of 1 stands for (sl)
#   magnitudes      256 u16: the image (L)
#                   256 u24 of a table whose image may have three bytes
#   negative        256 bits, least significant of each byte first: entries below zero whose L is not zero
# case TABLE GRANULARITY M N K      begins a product, y[m,n] = x[m,k] . W[n,k]^T + bias
#   codes           N lines, the rows of W
#   signs           N lines of whole bytes, or none
#   scales          f32, row-major over the grid of groups or blocks
#   bias            N f32, or none
#   x               M lines of K f32
#   a24 a16 a8 a8t  M x N f32: what the mode gives
"""

# ---------------------------------------------------------------------------- the contract

NAN = 0x7FC00000
MODES = ("a24", "a16", "a8", "a8t")
LIMIT = {"a24": 8290687, "a16": 32512, "a8": 127 * 255, "a8t": 127}


def f32(bits):
    """The value of an f32, exactly, as a double."""
    return struct.unpack(">f", struct.pack(">I", bits))[0]


def f32_bits(value):
    """A double rounded to f32, half to even; beyond f32 it is infinite."""
    try:
        packed = struct.pack(">f", value)
    except OverflowError:
        packed = struct.pack(">f", math.copysign(math.inf, value))
    return struct.unpack(">I", packed)[0]


def f64_bits(value):
    return struct.unpack(">Q", struct.pack(">d", value))[0]


def quantise(x, mode):
    """The integers X of a token and its scale sx; None for a token with NaN or infinity."""
    if not all(map(math.isfinite, x)):
        return None
    a = max(map(abs, x), default=0.0)
    if a == 0.0:
        return [0] * len(x), 0.0
    limit = float(LIMIT[mode])
    inv, sx = limit / a, a / limit
    if mode != "a8":
        return [round(v * inv) for v in x], sx  # round() is half to even, to an int
    ints = []
    for first in range(0, len(x), 32):
        group = x[first : first + 32]
        largest = max(map(abs, group))
        m = min(max(math.ceil((largest * inv) / 127.0), 1), 255)
        ints += [m * round((v * inv) / float(m)) for v in group]
    return ints, sx


class Image:
    """The fixed-point image of a table: magnitudes L, what they stand for, and the entries' signs."""

    def __init__(self, table, limit=65535):
        values = [v if math.isfinite(v) else 0.0 for v in table]
        self.step = self.choose_step([abs(v) for v in values], limit)
        self.magnitudes = [round(abs(v) / self.step) if self.step else 0 for v in values]
        self.negative = [v < 0.0 and l != 0 for v, l in zip(values, self.magnitudes)]
        self.signed = [-l if s else l for l, s in zip(self.magnitudes, self.negative)]
        assert max(self.magnitudes) <= limit

    @staticmethod
    def choose_step(magnitudes, limit):
        largest = max(magnitudes)
        if largest == 0.0:
            return 0.0
        # Exact, in so many bytes: multiples of a power of two. The largest that divides all entries will
        # do if any does. (That of v = n/d in lowest terms, d a power of two: n's lowest bit, over d.)
        ratios = [v.as_integer_ratio() for v in magnitudes if v]
        unit = min(Fraction(n & -n, d) for n, d in ratios)
        if Fraction(largest) / unit <= limit:
            return float(unit)
        full = largest / float(limit)
        power = 2.0 ** (math.frexp(full)[1] - 1)
        if power < full:
            power *= 2.0

        def error(step):
            each = (Fraction(v) - round(v / step) * Fraction(step) for v in magnitudes)
            return sum(e * e for e in each)

        return full if error(full) < error(power) else power


class Granularity:
    """Which weights share a scale: rows and columns of the blocks, and of their grid."""

    def __init__(self, name, n, k):
        kind, _, size = name.partition(":")
        self.rows, self.cols = {
            "tensor": lambda: (max(n, 1), max(k, 1)),
            "row": lambda: (1, max(k, 1)),
            "group": lambda: (1, int(size)),
            "block": lambda: tuple(map(int, size.split("x"))),
        }[kind]()
        self.grid_cols = 1 if kind in ("tensor", "row") else -(-k // self.cols)
        self.count = -(-n // self.rows) * self.grid_cols


def sums(case, mode):
    """Of every token sx and, for every row, S of each group of columns; None if it holds NaN or infinity."""
    signed, width = case.table.image.signed, case.grain.cols
    rows = []
    for row in range(case.n):
        weights = [signed[c] for c in case.codes[row]]
        if case.signs is not None:
            bits = case.signs[row]
            weights = [-w if bits[i // 8] >> (i % 8) & 1 else w for i, w in enumerate(weights)]
        rows.append(weights)
    result = []
    for token in case.x:
        quantised = quantise([f32(b) for b in token], mode)
        if quantised is None:
            result.append(None)
            continue
        ints, sx = quantised
        groups = [slice(first, first + width) for first in range(0, case.k, width)]
        result.append((sx, [[sum(map(mul, w[g], ints[g])) for g in groups] for w in rows]))
    return result


def total(case, row, sx, groups):
    """t: the first term starts the sum, the others are added in ascending order."""
    scales = case.scales[row // case.grain.rows * case.grain.grid_cols :]
    t = None
    for s, scale in zip(groups, scales):
        term = (float(s) * sx) * (case.table.image.step * f32(scale))
        t = term if t is None else t + term
    return 0.0 if t is None else t


def outputs(case, mode):
    """The bits of y."""
    y = []
    for token in sums(case, mode):
        for row in range(case.n):
            if token is None:
                y.append(NAN)
                continue
            t = total(case, row, token[0], token[1][row])
            y.append(f32_bits(t if case.bias is None else t + f32(case.bias[row])))
    return y


# ---------------------------------------------------------------------------- inputs


class Rng:
    """state = state * 6364136223846793005 + 1442695040888963407 mod 2^64; the upper 32 bits are taken."""

    def __init__(self, seed):
        self.state = seed

    def bits(self, count=32):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return self.state >> 64 - count

    def below(self, n):
        return self.bits() * n >> 32

    def pick(self, items):
        return items[self.below(len(items))]

    def uniform(self):
        """Bits of a multiple of 2^-23 in -1 .. 1."""
        return f32_bits((self.bits(24) - (1 << 23)) / float(1 << 23))

    def float(self, low, high):
        """Bits of an f32 of either sign with an exponent (as IEEE 754 biases it) in low .. high."""
        exponent = low + self.below(high - low + 1)
        return self.bits(1) << 31 | exponent << 23 | self.bits(23)


class Table:
    def __init__(self, name, bits, image_bytes=2):
        assert len(bits) == 256
        self.name, self.bits, self.image_bytes = name, bits, image_bytes
        values = [f32(b) for b in bits]
        self.image = Image(values, 256**image_bytes - 1)
        self.finite = [c for c in range(256) if math.isfinite(values[c])]


class Case:
    pass


def exp(a):
    """e^a, correctly rounded to a double as far as 300 bits tell: no platform's libm."""
    x, result = Fraction(a) / 256, 1 << 300
    x = (x.numerator << 300) // x.denominator
    term, i = result, 1
    while term not in (0, -1):
        term = (term * x >> 300) // i
        result += term
        i += 1
    for _ in range(8):
        result = result * result >> 300
    return float(Fraction(result, 1 << 300))


def e4m3(c):
    exponent, mantissa = c >> 3 & 15, c & 7
    if exponent == 15 and mantissa == 7:
        return NAN
    value = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return f32_bits(value) | (c & 0x80) << 24


def e5m2(c):
    exponent, mantissa = c >> 2 & 31, c & 3
    if exponent == 31:
        return (NAN if mantissa else 0x7F800000) | (c & 0x80) << 24
    value = mantissa * 2.0**-16 if exponent == 0 else (4 + mantissa) * 2.0 ** (exponent - 17)
    return f32_bits(value) | (c & 0x80) << 24


def make_tables(rng):
    def of(name, entry):
        return Table(name, [entry(c) for c in range(256)])

    low, high = -9.0, 0.0

    def log(c):
        return 0 if c == 0 else f32_bits(exp(low + (255.0 - c) / 254.0 * (high - low)))

    positive = 0x7FFFFFFF
    # Magnitudes of a k-means table: sorted, and denser near zero.
    centres = sorted(rng.float(119, 126) & positive for _ in range(256))
    codebook = sorted(rng.float(119, 126) & positive for _ in range(128))
    # Half of it over the step is a half in doubles, but not as a fraction: that a double is rounded shows.
    largest = 1.625
    while True:
        step = largest / 65535.0
        if round(largest / 2.0 / step) != round(Fraction(largest) / 2 / Fraction(step)):
            break
        largest += 2.0**-10
    odd = [0x00000000, 0x80000000, 0x00000001, 0x80400000, 0x7F7FFFFF, 0xFF000001]
    return [
        of("qins-linear", lambda c: f32_bits(float(max(c, 1) - 1))),
        of("qins-log", log),
        of("qins-inverse", lambda c: f32_bits(256.0 / c) if c else 0),
        # Negative from code 128 on, as constructors sort them.
        of("kmeans", lambda c: codebook[c % 128] | c // 128 << 31),
        of("kmeans-magnitudes", lambda c: centres[c]),
        of("mixed", lambda c: rng.float(121, 128)),
        of("e4m3", e4m3),
        of("e5m2", e5m2),
        of("int8", lambda c: f32_bits(float(c - 256 if c >= 128 else c))),
        of("int8-biased", lambda c: f32_bits(float(c - 128))),
        of("int8-zero-point-3", lambda c: f32_bits(float(c - 3))),
        of("zeros", lambda c: rng.bits(1) << 31),
        # One byte and two, up to a power of two.
        of("bytes", lambda c: f32_bits((255 if c == 9 else rng.below(256)) * 2.0**-7)),
        of("signed-bytes", lambda c: f32_bits((rng.below(511) - 255) * 2.0**9)),
        of("words", lambda c: f32_bits((65535 if c == 77 else rng.below(65536)) * 2.0**-20)),
        of("signed-words", lambda c: f32_bits((rng.below(131071) - 65535) * 2.0**3)),
        # Parts of the largest entry, so that entry / (largest/65535) comes near a tie.
        of("fractions", lambda c: f32_bits(largest / (c + 1) * (-1.0 if c % 3 == 1 else 1.0))),
        # E4M3 times something: one half of its entries is exact at the power of two.
        of("e4m3-scaled", lambda c: f32_bits(f32(e4m3(c & 0xFE)) * 0.3125)),
        # Zeros, subnormals, f32's largest; one NaN and infinity, which no code uses.
        of("odd", lambda c: {5: NAN, 200: 0xFF800000}.get(c, odd[c % 6])),
    ]


def make_wide_tables(rng, tables):
    """Tables whose images may have three bytes."""

    def of(name, entry):
        return Table(name, [entry(c) for c in range(256)], 3)

    bits = {table.name: table.bits for table in tables}
    most = (1 << 24) - 1
    again = "qins-linear int8 qins-log qins-inverse kmeans kmeans-magnitudes mixed e4m3 e5m2 zeros words fractions odd"
    return [Table(name + "-wide", bits[name], 3) for name in again.split()] + [
        # Three bytes, up to a power of two.
        of("triples-wide", lambda c: f32_bits((most if c == 9 else rng.below(most + 1)) * 2.0**-30)),
        of("signed-triples-wide", lambda c: f32_bits((rng.below(2 * most + 1) - most) * 2.0**7)),
        # E4M3 times something, so many times that the power of two no longer is exact.
        of("e4m3-scaled-wide", lambda c: f32_bits(f32(e4m3(c & 0xFE)) * (1.0 + 2.0**-23))),
    ]


# Tables that are used with a sign plane, and those that are used without.
SIGNED = """qins-linear qins-log qins-inverse kmeans-magnitudes mixed e4m3 zeros bytes signed-bytes words
    signed-words""".split()
UNSIGNED = """kmeans mixed e4m3 e5m2 int8 int8-biased int8-zero-point-3 zeros bytes signed-bytes words
    signed-words fractions e4m3-scaled odd""".split()

WIDE_SIGNED = "qins-log-wide qins-inverse-wide kmeans-magnitudes-wide mixed-wide e4m3-wide triples-wide".split()
WIDE_UNSIGNED = """kmeans-wide mixed-wide e4m3-wide e5m2-wide fractions-wide odd-wide triples-wide
    signed-triples-wide e4m3-scaled-wide""".split()

GRANULARITIES = ("tensor", "row", "group:32", "group:64", "group:96", "block:2x64")
KS = (1, 31, 32, 33, 63, 64, 65, 96, 127, 130, 200)
WIDE_KS = (1, 33, 64, 130, 200)


def ties(rng, k, mode):
    """A token whose x * inv are halves (A8: over the group's integer, which is just reached), if it weren't
    for the rounding of inv = Xmax / a: a is Xmax times an odd number, so inv is no power of two."""
    # A24: Xmax = 127 * 65281, which leaves no room; 127 times something does as well, with 65281 times halves.
    limit = 127 if mode == "a24" else LIMIT[mode]
    unit = (2 * rng.below(128) + 1) * 2.0 ** (rng.below(41) - 20)
    token = []
    for first in range(0, k, 32):
        step = 255 if first == 0 else 1 + rng.below(255)
        for i in range(min(32, k - first)):
            if mode == "a8":
                half = (127.0 if i == 0 else rng.below(127) + 0.5) * step
            else:
                half = limit if first + i == 0 else rng.below(limit) + 0.5
            token.append((1.0 if rng.bits(1) else -1.0) * half * unit)
    bits = [f32_bits(v) for v in token]
    assert all(f32(b) == v for b, v in zip(bits, token))
    return bits


def with_one(rng, token, bits):
    token[rng.below(len(token))] = bits
    return token


def plain(rng, k):
    return [rng.uniform() for _ in range(k)]


def groups(rng, k):
    """Each group of 32 in a range of its own."""
    token = []
    for first in range(0, k, 32):
        exponent = 108 + rng.below(20)
        token += [rng.float(exponent, exponent + 3) for _ in range(min(32, k - first))]
    return token


def denormals(rng, k):
    return [rng.float(0, 0) for _ in range(k)]


# Tokens that are finite and not all zero, and the others.
FINITE = {
    "plain": plain,
    "wide": lambda rng, k: [rng.float(90, 130) for _ in range(k)],
    "outlier": lambda rng, k: with_one(rng, plain(rng, k), rng.float(133, 137)),
    "groups": groups,
    "ties-a24": lambda rng, k: ties(rng, k, "a24"),
    "ties-a16": lambda rng, k: ties(rng, k, "a16"),
    "ties-a8": lambda rng, k: ties(rng, k, "a8"),
    "ties-a8t": lambda rng, k: ties(rng, k, "a8t"),
    "denormals": denormals,
    "smallest": lambda rng, k: [rng.bits(1) << 31 | rng.below(3) for _ in range(k)],
    "denormals-and-more": lambda rng, k: [rng.float(0, 4) for _ in range(k)],
    "near-max": lambda rng, k: [rng.float(253, 254) for _ in range(k)],
    "max": lambda rng, k: [rng.bits(1) << 31 | 0x7F7FFFFF for _ in range(k)],
    "one": lambda rng, k: with_one(rng, [0] * k, rng.float(100, 140)),
    "max-and-denormals": lambda rng, k: with_one(rng, denormals(rng, k), 0x7F7FFFFF),
}
SPECIAL = {
    "zeros": lambda rng, k: [0] * k,
    "both-zeros": lambda rng, k: [rng.bits(1) << 31 for _ in range(k)],
    "nan": lambda rng, k: with_one(rng, plain(rng, k), 0xFFC12345),
    "signalling-nan": lambda rng, k: with_one(rng, [0] * k, 0x7F800001),
    "infinity": lambda rng, k: with_one(rng, plain(rng, k), 0x7F800000),
    "minus-infinity": lambda rng, k: with_one(rng, plain(rng, k), 0xFF800000),
}


def make_scales(rng, count, kind):
    def scale():
        if kind == "extreme":
            return rng.float(0, 254)
        bits = rng.float(115, 129)
        if rng.below(16) == 0:
            return bits & 0x80000000
        return bits if rng.below(8) == 0 else bits & 0x7FFFFFFF

    return [scale() for _ in range(count)]


def cancel(rng, case, mode, scales):
    """Scales, and a bias that cancels the first token's t up to f32's precision: the result then shows bits
    of t that f32 would hide, and with them the order of f64 operations. It shows all of them where t + bias
    is below 2^-30 t (24 bits of f32 more than the 53 of t have left): scales are tried for such rows."""
    first = Case()
    first.__dict__.update(case.__dict__)
    first.x = case.x[:1]
    sx, rows = sums(first, mode)[0]
    best = None
    for _ in range(40):
        first.scales = make_scales(rng, case.grain.count, scales)
        bias, shown = [], 0
        for row, groups in enumerate(rows):
            t = total(first, row, sx, groups)
            bits = f32_bits(-t)
            bias.append(bits if math.isfinite(f32(bits)) else 0)
            shown += 0.0 < abs(t) and abs(t + f32(bias[-1])) <= abs(t) * 2.0**-30
        if best is None or shown > best[0]:
            best = shown, first.scales, bias
    return best[1:]


def make_case(rng, table, granularity, n, codes, signs, x, scales, bias):
    """`bias` is None, "plain", or the mode whose t is to be cancelled."""
    case = Case()
    case.table, case.granularity, case.n, case.k = table, granularity, n, len(x[0])
    case.codes, case.signs, case.x = codes, signs, x
    case.grain = Granularity(granularity, n, case.k)
    if bias in MODES:
        case.scales, case.bias = cancel(rng, case, bias, scales)
    else:
        case.scales = make_scales(rng, case.grain.count, scales)
        case.bias = bias and [rng.float(110, 130) for _ in range(n)]
    return case


def small_cases(rng, tables, signed=tuple(SIGNED), unsigned=tuple(UNSIGNED), ks=KS):
    """Every table with every k; granularities, tokens, scales and bias in turn."""
    finite, all_kinds = list(FINITE), list(FINITE) + list(SPECIAL)
    biases = [None, "a24", "a16", "plain", "a8", "a8t"]
    made = {**FINITE, **SPECIAL}
    pairs = [(t, True) for t in signed] + [(t, False) for t in unsigned]
    index, tokens = 0, 0
    for t, (name, signed) in enumerate(pairs):
        for j, k in enumerate(ks):
            m, n = 1 + rng.below(5), 1 + rng.below(5)
            if k > 100:
                m = min(m, 3)
            table = tables[name]
            codes = [[rng.pick(table.finite) for _ in range(k)] for _ in range(n)]
            # Bits beyond k are set too: they must be ignored.
            signs = [[rng.bits(8) for _ in range(-(-k // 8))] for _ in range(n)] if signed else None
            x = [made[finite[index % len(finite)]](rng, k)]
            for _ in range(m - 1):
                x.append(made[all_kinds[tokens % len(all_kinds)]](rng, k))
                tokens += 1
            granularity = GRANULARITIES[(t + j) % len(GRANULARITIES)]
            scales = "extreme" if index % 8 == 5 else "plain"
            yield make_case(rng, table, granularity, n, codes, signs, x, scales, rng.pick(biases))
            index += 1


def empty_cases(rng, tables):
    """No columns: sums over nothing are 0."""
    for bias in (None, "plain"):
        yield make_case(rng, tables["int8"], "row", 3, [[]] * 3, None, [[], []], "plain", bias)


def worst_cases(rng, tables):
    """Sums as large as they get: all codes the largest magnitude, all x the largest."""
    index = 0
    for name, signed, largest in [
        ("words", True, None),
        ("words", False, None),
        ("bytes", True, None),
        ("qins-linear", True, None),
        ("int8", False, 0x80),
        ("e4m3", False, None),
    ]:
        table = tables[name]
        magnitudes = table.image.magnitudes
        code = largest if largest is not None else magnitudes.index(max(magnitudes))
        # With a sign plane the third row alternates in sign; else with the largest entry of the other sign.
        sign = -1 if table.image.negative[code] else 1
        other = code if signed else max(table.finite, key=lambda c: -sign * table.image.signed[c])
        ks = [129, 256, 257, 2064, 2065, 4097] + ([70001] if name == "words" and signed else [])
        for k in ks:
            alternate = [code if i % 2 == 0 else other for i in range(k)]
            codes = [[code] * k, [code] * k, alternate]
            signs = [[b] * -(-k // 8) for b in (0x00, 0xFF, 0x55)] if signed else None
            one, minus = 0x3F800000, 0xBF800000
            x = [[one] * k, [minus] * k, [one if i % 2 == 0 else minus for i in range(k)]]
            bias = (None, *MODES)[index % 5]
            yield make_case(rng, table, "row", 3, codes, signs, x, "plain", bias)
            index += 1
    # Sums beyond 2^53, which a double rounds.
    table, k = tables["words"], 70001
    for _ in range(3):
        x = [[0x3F800000, rng.float(124, 126)] * (k // 2) + [0x3F800000]]
        codes = [[77, rng.below(256)] * (k // 2) + [rng.below(256)] for _ in range(5)]
        bits = [rng.bits(1) for _ in range(5)]
        signs = [[0xAA * b] * -(-k // 8) for b in bits]
        yield make_case(rng, table, "row", 5, codes, signs, x, "plain", "a24")


def wide_small_cases(rng, tables):
    """The same with three bytes. The tables whose images are no other ones than with two get one k."""
    for signed, unsigned, ks in [
        (("qins-linear-wide", "zeros-wide", "words-wide"), ("int8-wide",), (65,)),
        (WIDE_SIGNED, WIDE_UNSIGNED, WIDE_KS),
    ]:
        yield from small_cases(rng, tables, signed, unsigned, ks)


def wide_worst_cases(rng, tables):
    """The largest sums of three bytes: in short groups, whose planes are joined in i32 where there is room;
    at 2^53, where a double no longer holds them; at 65,536 columns, where an i64 nearly no longer does."""
    index = 0
    table = tables["triples-wide"]
    for granularity, k in [
        ("group:32", 200),
        ("group:64", 200),
        ("group:128", 300),
        ("group:256", 600),
        ("group:96", 200),
        ("row", 64),
        ("row", 65),
        ("row", 3073),
        ("row", 16512),
        ("row", 16513),
        ("row", 65536),
    ]:
        alternate = [9 if i % 2 == 0 else rng.below(256) for i in range(k)]
        codes = [[9] * k, [9] * k] + [alternate] * (k < 4000)
        signs = [[b] * -(-k // 8) for b in (0x00, 0xFF, 0x55)[: len(codes)]]
        one, minus = 0x3F800000, 0xBF800000
        x = [[one] * k, [one if i % 2 == 0 else minus for i in range(k)]]
        if k < 4000:
            x.append([rng.float(126, 126) for _ in range(k)])
        bias = (None, *MODES)[index % 5]
        yield make_case(rng, table, granularity, len(codes), codes, signs, x, "plain", bias)
        index += 1


# ---------------------------------------------------------------------------- the file


def words(items, digits):
    """Hexadecimal digits, long repetitions of one item or of two shortened."""
    if not items:
        return "-"
    text = ["%0*x" % (digits, i) for i in items]
    for period in (1, 2):
        unit, count = text[:period], len(text) // period
        if count >= 8 and unit * count == text[: count * period]:
            rest = text[count * period :]
            return " ".join(["%d*%s" % (count, "".join(unit))] + ["".join(rest)] * bool(rest))
    return "".join(text)


def write_tables(out, tables):
    for table in tables:
        bits = table.image.negative
        negative = [sum(bits[c + i] << i for i in range(8)) for c in range(0, 256, 8)]
        out("\ntable %s\n" % table.name)
        out("values %s\n" % words(table.bits, 8))
        out("step %016x\n" % f64_bits(table.image.step))
        out("magnitudes %s\n" % words(table.image.magnitudes, 2 * table.image_bytes))
        out("negative %s\n" % words(negative, 2))


def write_case(out, case):
    m = len(case.x)
    out("\ncase %s %s %d %d %d\n" % (case.table.name, case.granularity, m, case.n, case.k))
    for row in case.codes:
        out("codes %s\n" % words(row, 2))
    for row in case.signs or []:
        out("signs %s\n" % words(row, 2))
    out("scales %s\n" % words(case.scales, 8))
    if case.bias is not None:
        out("bias %s\n" % words(case.bias, 8))
    for token in case.x:
        out("x %s\n" % words(token, 8))
    for mode in MODES:
        out("%s %s\n" % (mode, words(outputs(case, mode), 8)))


def write(out):
    out(HEADER)
    rng = Rng(1)
    tables = make_tables(rng)
    write_tables(out, tables)
    by_name = {table.name: table for table in tables}
    for make in (small_cases, empty_cases, worst_cases):
        for case in make(rng, by_name):
            write_case(out, case)
    # Three bytes came later, with numbers of their own: what stands before them is as it was.
    rng = Rng(2)
    tables = make_wide_tables(rng, tables)
    write_tables(out, tables)
    by_name = {table.name: table for table in tables}
    for make in (wide_small_cases, wide_worst_cases):
        for case in make(rng, by_name):
            write_case(out, case)


if __name__ == "__main__":
    assert sys.float_info.mant_dig == 53
    write(sys.stdout.write)
