"""A small network as data: a list of operations and their weights, read from one npz.

From the same program come the torch module (GPU, training), and the CPU runtime's model, so weights exist once.
`tools/convert_mediapipe.py` writes such files.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.errors import InputError

WEIGHTS_FOLDER = Path(__file__).with_name("weights")
OPERATIONS = (
    "conv", "prelu", "add", "max_pool", "pad_channels", "resize", "rows_of_pixels", "concat_rows", "global_mean",
    "linear", "sigmoid",
)  # fmt: skip
REMEDY = "reinstall hoi_ros, or write it anew with tools/convert_mediapipe.py"


@dataclass(frozen=True)
class NetworkProgram:
    """Operations in order, on named tensors; the input is 'image', (B, 3, S, S) in [0, 1]."""

    name: str
    input_size: int
    """S, pixels."""
    outputs: tuple[str, ...]
    operations: tuple[dict[str, Any], ...]
    """Each has op, inputs, output and what its kind needs; layouts are channels first."""
    weights: dict[str, np.ndarray]
    """Name to float16 array; convolutions (out, in / groups, kh, kw), linear layers (out, in)."""


def read_program(path: Path | str) -> NetworkProgram:
    """Read and check one network file.

    Raises:
        InputError: the file is missing, unreadable, incomplete, or a tensor in it is missing or not finite.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            weights = {name: content[name] for name in content.files if name != "program"}
            header = json.loads(str(content["program"]))
        program = NetworkProgram(
            header["name"], int(header["input_size"]), tuple(header["outputs"]), tuple(header["operations"]), weights
        )
    except FileNotFoundError as error:
        raise InputError(f"network weights {path} are missing: {REMEDY}") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"network weights {path} cannot be read ({type(error).__name__}): {REMEDY}") from error
    _check(program, path)
    return program


def _check(program: NetworkProgram, path: Path) -> None:
    """Refuse a program whose tensors are absent or not finite, naming the first one."""
    known = {"image"}
    for operation in program.operations:
        if operation.get("op") not in OPERATIONS:
            raise InputError(f"network weights {path}: unknown operation '{operation.get('op')}': {REMEDY}")
        for tensor in operation["inputs"]:
            if tensor not in known:
                raise InputError(f"network weights {path}: tensor '{tensor}' is used before it is made: {REMEDY}")
        for role in ("weight", "bias"):
            name = operation.get(role)
            if name is not None and name not in program.weights:
                raise InputError(f"network weights {path}: tensor '{name}' is missing: {REMEDY}")
        _check_shapes(program, operation, path)
        known.add(operation["output"])
    for name, values in program.weights.items():
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise InputError(f"network weights {path}: tensor '{name}' is not finite: {REMEDY}")
    for name in program.outputs:
        if name not in known:
            raise InputError(f"network weights {path}: output '{name}' is never made: {REMEDY}")


def _check_shapes(program: NetworkProgram, operation: dict[str, Any], path: Path) -> None:
    """Refuse weights that cannot belong to their operation."""
    name = operation.get("weight")
    if name is None:
        return
    weight = program.weights[name]
    if weight.ndim != {"conv": 4, "linear": 2}.get(operation["op"], 1):
        raise InputError(f"network weights {path}: tensor '{name}' has the wrong shape {weight.shape}: {REMEDY}")
    bias = operation.get("bias")
    if bias is not None and program.weights[bias].shape != weight.shape[:1]:
        raise InputError(f"network weights {path}: tensor '{bias}' does not fit '{name}': {REMEDY}")
