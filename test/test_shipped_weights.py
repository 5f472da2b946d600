"""Files of weights that ship say what they are, and nothing of the machine that made them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hoi_ros

SHIPPED = sorted(
    file
    for room in ("hand", "tracking")
    for file in (Path(hoi_ros.__file__).parent / room / "weights").iterdir()
    if file.suffix in (".npz", ".pt")
)
ABSOLUTE = re.compile(r"(?<![\w.~/:])(?:~?/|[A-Za-z]:[\\/])\w")


def texts(value: Any) -> Iterator[str]:
    """Every text in nested records."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*texts(key), *texts(item))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "US":
        yield str(value)


def texts_of(file: Path) -> list[str]:
    """Every text in a file of weights, names of tensors and of parts included."""
    with zipfile.ZipFile(file) as parts:
        names = parts.namelist()
    content = dict(np.load(file)) if file.suffix == ".npz" else torch.load(file, map_location="cpu", weights_only=True)
    return [*names, *texts(content)]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_no_shipped_weights_hold_an_absolute_path(file):
    found = texts_of(file)
    assert any("/" not in text and len(text) > 3 for text in found), "there are texts to look at"
    assert [text[:200] for text in found if ABSOLUTE.search(text)] == []


def test_an_absolute_path_is_told_from_other_slashes():
    for text in ("/tmp/run/a.npz", '{"from": "/home/me/a.pt"}', "~/runs/a.npz", "data in C:\\runs\\a"):
        assert ABSOLUTE.search(text), text
    for text in ("runs/compact/handos.npz", "https://a.org/b", "0.7 / 0.3", "./hoi train", "archive/data.pkl"):
        assert not ABSOLUTE.search(text), text


def test_weights_of_both_networks_are_looked_at():
    assert {"handos.npz", "pointmap_network.pt"} <= {file.name for file in SHIPPED}
