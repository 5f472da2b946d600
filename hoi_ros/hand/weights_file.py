"""The file of HandOS weights: half precision arrays with the network's size and hand model written in. No torch."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.config import make_config
from hoi_ros.errors import InputError
from hoi_ros.hand.handos_config import HandOsConfig, check_config
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
        InputError: missing, truncated or foreign file; another version or hand model; sizes out of range.
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
    sizes, card = header.get("config"), header.get("card", {})
    if not isinstance(sizes, dict) or not isinstance(card, dict):
        raise InputError(f"HandOS weights {path}: its header holds no sizes or no card: {REMEDY}")
    try:
        config = make_config(HandOsConfig, sizes)
        topology = build_topology(model, config.coarse_vertices)
        check_config(config, topology)
    except InputError as error:
        raise InputError(f"HandOS weights {path}, header: {error}; {REMEDY}") from error
    return WeightsFile(path, config, topology, arrays, card)


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
    except OSError as error:
        raise InputError(f"HandOS weights {path} cannot be read ({error.strerror or error}): check the path") from error
    # A single array in place of many, as np.save writes it, is no context: TypeError.
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"HandOS weights {path} cannot be read: its {path.stat().st_size} bytes are cut off, damaged or no such "
            f"weights; copy the file again, or {REMEDY}"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"HandOS weights {path}: not a file of HandOS weights: {REMEDY}")
    return header, arrays
