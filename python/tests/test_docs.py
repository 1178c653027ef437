"""The code of docs/python.md, from its top to its end."""

import importlib.util
import os
import pathlib
import re

import pytest

PAGE = pathlib.Path(os.environ.get("LUTMUL_REPOSITORY") or pathlib.Path(__file__).parents[2]) / "docs" / "python.md"


def test_the_page(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 4
    names, left_out = {}, []
    for block in blocks:
        missing = [name for name in ("torch", "transformers") if f" {name}" in block and not importlib.util.find_spec(name)]
        if missing:
            left_out += missing
            continue
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "Weights(1024×768, qins-linear" in said and "scalar" in said
    assert float(re.search(r"product: (\S+)", said)[1]) < 0.01
    if left_out:
        pytest.skip(f"LEFT OUT: the page's code for {', '.join(left_out)}, not installed")
