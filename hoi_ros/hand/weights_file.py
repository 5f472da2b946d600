"""The file of HandOS weights: half precision arrays with the network's size and hand model written in. No torch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.handos_topology import HandTopology, build_topology
from hoi_ros.hand.program import WEIGHTS_FOLDER
from hoi_ros.hand_model import HandModel

FORMAT, VERSION = "hoi_ros handos", 1
SHIPPED = WEIGHTS_FOLDER / "handos.npz"
REMEDY = "train them with ./hoi train handos, or use estimator 'embedded'"


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds."""

    path: Path
    config: HandOsConfig
    topology: HandTopology
    arrays: dict[str, np.ndarray]
    card: dict[str, Any]
    """What the model card says: data, steps, seed."""

    def taker(self) -> TensorTaker:
        """Takes its tensors by name."""
        return TensorTaker(self.arrays, f"HandOS weights {self.path}")


def write_weights(
    path: Path, config: HandOsConfig, topology: HandTopology, arrays: Mapping[str, np.ndarray], card: dict[str, Any]
) -> None:
    """Write tensors as float16.

    Args:
        path: the .npz to write.
        config: the network's size.
        topology: of its hand.
        arrays: learned tensors by name.
        card: plain JSON values.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": asdict(config),
        "hand_model": topology.name,
        "vertices": topology.vertex_count,
        "card": card,
    }
    halves: dict[str, Any] = {name: values.astype(np.float16) for name, values in arrays.items()}
    with path.open("wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **halves)


def read_weights(path: Path | str, model: HandModel | None = None) -> WeightsFile:
    """Read a file and check what it was made for; its tensors are checked as they are taken.

    Args:
        path: written by `write_weights`.
        model: the hand that the weights must be for; the free hand when None.

    Raises:
        InputError: missing, truncated or foreign file; another version or hand model.
    """
    path, model = Path(path), model or HandModel.load()
    header, arrays = _read(path)
    if header.get("version") != VERSION:
        raise InputError(f"HandOS weights {path}: version {header.get('version')}, expected {VERSION}: {REMEDY}")
    found = (header.get("hand_model"), header.get("vertices"))
    if found != (model.name, model.vertex_count):
        raise InputError(
            f"HandOS weights {path}: made for the hand model '{found[0]}' with {found[1]} vertices, "
            f"expected '{model.name}' with {model.vertex_count}: {REMEDY}"
        )
    config = _config(header.get("config"), path)
    topology = build_topology(model, config.coarse_vertices)
    return WeightsFile(path, config, topology, arrays, dict(header.get("card", {})))


class TensorTaker:
    """Hands out float32 tensors by name, checking each; at the end nothing may be left over."""

    def __init__(self, arrays: Mapping[str, np.ndarray], what: str = "HandOS weights"):
        self._arrays, self._what = arrays, what
        self._taken: set[str] = set()

    def __call__(self, name: str, expected: tuple[int, ...]) -> np.ndarray:
        """The tensor `name`, float32, contiguous.

        Raises:
            InputError: missing, of another shape than `expected`, or not finite.
        """
        if name not in self._arrays:
            raise InputError(f"{self._what}: tensor '{name}' is missing, expected {expected}: {REMEDY}")
        values = self._arrays[name]
        if values.shape != expected:
            raise InputError(
                f"{self._what}: tensor '{name}' has the shape {values.shape}, expected {expected}: {REMEDY}"
            )
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise InputError(f"{self._what}: tensor '{name}' is not finite, expected finite numbers: {REMEDY}")
        self._taken.add(name)
        return np.ascontiguousarray(values, np.float32)

    def finish(self, unused: tuple[str, ...] = ()) -> None:
        """Refuse what nobody took.

        Args:
            unused: beginnings of names that may stay.

        Raises:
            InputError: naming the first such tensor.
        """
        for name in self._arrays:
            if name not in self._taken and not name.startswith(unused):
                raise InputError(f"{self._what}: tensor '{name}' was found and is not expected: {REMEDY}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files if name != "header"}
            header = json.loads(str(content["header"]))
    except FileNotFoundError as error:
        raise InputError(f"HandOS weights {path} are missing: {REMEDY}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"HandOS weights {path} cannot be read ({type(error).__name__}): {REMEDY}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"HandOS weights {path}: not a file of HandOS weights: {REMEDY}")
    return header, arrays


def _config(values: Any, path: Path) -> HandOsConfig:
    known = {f.name for f in fields(HandOsConfig)}
    if not isinstance(values, dict) or not set(values) <= known:
        raise InputError(f"HandOS weights {path}: unknown size settings: {REMEDY}")
    made: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return HandOsConfig(**made)
