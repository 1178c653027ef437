"""Virtual environments of other libraries, outside of the clone."""

import os
import pathlib
import subprocess
import sys
import tempfile

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lutmul"


def make(venv, requirements):
    """Makes the folder with these packages, whole or not at all, unless it is there."""
    if venv.is_dir():
        return print(f"{venv} is there")
    CACHE.mkdir(parents=True, exist_ok=True)
    new = pathlib.Path(tempfile.mkdtemp(prefix=venv.name + ".", dir=CACHE))
    subprocess.run([sys.executable, "-m", "venv", new], check=True)
    subprocess.run([new / "bin" / "python", "-m", "pip", "install", "--no-cache-dir", *requirements], check=True)
    new.rename(venv)
