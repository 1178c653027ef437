"""examples/layer.py runs, and draws."""

import os
import pathlib
import subprocess
import sys

from conftest import needs

pytestmark = needs("torch")
ROOT = pathlib.Path(os.environ.get("LUTMUL_REPOSITORY") or pathlib.Path(__file__).parents[2])
EXAMPLE = ROOT / "python" / "examples" / "layer.py"


def test_a_small_layer(tmp_path):
    picture = tmp_path / "layer.png"
    command = [sys.executable, EXAMPLE, "--shape", "256x192", "--seconds", "0.1", "--plot", picture]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "qins-linear" in done.stdout and "F.linear" in done.stdout and "lut[codes]" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
