"""What tests share."""

import importlib.util
import multiprocessing
import os
import sys

import numpy as np
import pytest

import lutmul


def noise(*shape, seed=7):
    """Floats of −1…1, the same in every run."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def needs(name):
    """A mark for tests of a package that is not everywhere. Where LUTMUL_NEEDS names it, it must be there."""
    missing = importlib.util.find_spec(name) is None
    if missing and name in os.environ.get("LUTMUL_NEEDS", "").split(","):
        raise RuntimeError(f"LUTMUL_NEEDS names {name}, which is not installed")
    return pytest.mark.skipif(missing, reason=f"LEFT OUT: {name} is not installed")


def in_child(work, *arguments):
    """Runs work in a process that is forked now. It must end within two minutes, and without an error."""
    context = multiprocessing.get_context("fork")
    read, write = context.Pipe(duplex=False)

    def child():
        try:
            work(*arguments)
            write.send("")
        except BaseException as error:
            write.send(f"{type(error).__name__}: {error}")

    process = context.Process(target=child)
    process.start()
    write.close()
    try:
        said = read.recv() if read.poll(120) else "hangs"
    except EOFError:
        said = "crashed"
    if said == "hangs":
        process.kill()
    process.join()
    assert said == "", said


@pytest.fixture
def weights():
    return lutmul.Weights.encode(noise(37, 96), "qins-linear", "row")


if sys.platform != "linux":
    collect_ignore = ["test_fork.py"]
