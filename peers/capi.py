"""The part of lutmul's C ABI that pytorch.py uses, by ctypes: structs and functions as in capi/include/lutmul.h."""

import ctypes
import os
import pathlib
from ctypes import POINTER, byref, c_char, c_char_p, c_float, c_int, c_size_t, c_uint32, c_uint64, c_void_p

ABI_VERSION = 1
NAME, UNSUPPORTED = 8, 9  # of lutmul_status
F32, BF16 = 0, 2  # of lutmul_element


class Matrix(ctypes.Structure):
    """lutmul_matrix, and lutmul_matrix_mut."""

    _fields_ = [
        ("data", c_void_p),
        ("rows", c_size_t),
        ("cols", c_size_t),
        ("stride", c_size_t),
        ("element", c_uint32),
        ("reserved", c_uint32),
    ]


class Options(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("kernel", c_char_p), ("mode", c_char_p), ("threads", c_size_t)]


class KernelInfo(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("name", c_char * 32), ("needs", c_char * 120), ("usable", c_uint64)]


class Error(Exception):
    """A call that failed: its status, and what lutmul_last_error says."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Library:
    """liblutmul, or, as cargo names what it builds, liblutmul_capi."""

    FUNCTIONS = {
        "lutmul_weights_encode": [POINTER(Matrix), c_char_p, c_char_p, c_void_p, POINTER(c_void_p)],
        "lutmul_weights_decode": [c_void_p, c_size_t, c_size_t, POINTER(Matrix), c_void_p],
        "lutmul_weights_free": [c_void_p],
        "lutmul_workspace_create": [POINTER(Options), POINTER(c_void_p)],
        "lutmul_workspace_reserve": [c_void_p, c_void_p, c_size_t],
        "lutmul_workspace_kernel": [c_void_p, POINTER(KernelInfo)],
        "lutmul_workspace_free": [c_void_p],
        "lutmul_matmul": [c_void_p, c_void_p, POINTER(Matrix), POINTER(Matrix), c_void_p],
    }

    def __init__(self, path):
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.lutmul_abi_version.restype = c_uint32
        self._library.lutmul_last_error.restype = c_char_p
        for name, arguments in self.FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, c_int
        version = self._library.lutmul_abi_version()
        if version != ABI_VERSION:
            raise SystemExit(f"{path}: version {version} of the C ABI; this script knows {ABI_VERSION}")

    @classmethod
    def find(cls, path=None):
        """The library at the path, or the one that cargo builds in this clone."""
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or pathlib.Path(__file__).parent.parent / "target")
        path = pathlib.Path(path) if path else target / "release" / "liblutmul_capi.so"
        if not path.is_file():
            raise SystemExit(f"{path} is not there: cargo build --release -p lutmul-capi, or name one with --library")
        return cls(path)

    def call(self, name, *arguments):
        status = getattr(self._library, name)(*arguments)
        if status:
            raise Error(status, self._library.lutmul_last_error().decode())


class Weights:
    """Weights of a format, encoded from a matrix of floats with a scale for each row."""

    def __init__(self, library, original, format):
        self.library, self.handle = library, c_void_p()
        self.format, self.n, self.k = format, original.rows, original.cols
        library.call("lutmul_weights_encode", byref(original), format.encode(), b"row", None, byref(self.handle))

    def decode(self, out):
        self.library.call("lutmul_weights_decode", self.handle, 0, out.rows, byref(out), None)

    def __del__(self):
        if self.handle:
            self.library.call("lutmul_weights_free", self.handle)


class Workspace:
    """How to multiply, on the calling thread; with memory for products of so many tokens with the weights."""

    def __init__(self, library, weights, mode, tokens, kernel=None):
        self.library, self.weights, self.handle = library, weights, c_void_p()
        options = Options(ctypes.sizeof(Options), kernel.encode() if kernel else None, mode.encode(), 0)
        library.call("lutmul_workspace_create", byref(options), byref(self.handle))
        library.call("lutmul_workspace_reserve", self.handle, weights.handle, tokens)

    def kernel(self):
        """The name of the kernel."""
        info = KernelInfo(ctypes.sizeof(KernelInfo))
        self.library.call("lutmul_workspace_kernel", self.handle, byref(info))
        return info.name.decode()

    def matmul(self, x, y):
        """y = x · Wᵀ"""
        self.library.call("lutmul_matmul", self.handle, self.weights.handle, byref(x), byref(y), None)

    def __del__(self):
        if self.handle:
            self.library.call("lutmul_workspace_free", self.handle)


def check(library, cases):
    """Multiplies small matrices in all cases, formats with modes, and compares with sums in Python. Yields, for each
    case, the kernel, or None and why this build has no such mode."""
    n, k, m = 5, 70, 19
    noise = lambda count, seed: (c_float * count)(*((i * seed % 257 - 128) / 128 for i in range(1, count + 1)))
    matrix = lambda data, rows, cols: Matrix(ctypes.addressof(data), rows, cols, 0, F32, 0)
    w, x = noise(n * k, 8191), noise(m * k, 127)
    for format, mode in cases:
        weights = Weights(library, matrix(w, n, k), format)
        try:
            workspace = Workspace(library, weights, mode, m)
        except Error as error:
            if error.status != NAME:
                raise
            yield (format, mode), None, str(error)
            continue
        y, decoded = noise(m * n, 3), noise(n * k, 5)
        weights.decode(matrix(decoded, n, k))
        workspace.matmul(matrix(x, m, k), matrix(y, m, n))
        for i in range(m * n):
            token, row = divmod(i, n)
            terms = [x[token * k + j] * decoded[row * k + j] for j in range(k)]
            # Each x is off by 1/254 of the largest one at most.
            if not abs(y[i] - sum(terms)) <= sum(map(abs, terms)) / 100:
                raise SystemExit(f"{format} {mode}: y[{token}, {row}] is {y[i]}, not {sum(terms)}")
        yield (format, mode), workspace.kernel(), None
