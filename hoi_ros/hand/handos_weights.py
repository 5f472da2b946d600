"""HandOS weights in one small file: half precision, with the network's size and hand model written in."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hoi_ros.errors import InputError
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.handos_topology import build_topology
from hoi_ros.hand.program import WEIGHTS_FOLDER
from hoi_ros.hand_model import HandModel

FORMAT, VERSION = "hoi_ros handos", 1
SHIPPED = WEIGHTS_FOLDER / "handos.npz"
REMEDY = "train them with ./hoi train handos, or use estimator 'embedded'"


def save_weights(path: Path, network: HandOs, card: dict[str, Any]) -> None:
    """Write a network's learned tensors as float16.

    Args:
        path: the .npz to write.
        network: any size.
        card: what the model card says: data, steps, seed; plain JSON values.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": asdict(network.config),
        "hand_model": network.topology.name,
        "vertices": network.topology.vertex_count,
        "card": card,
    }
    arrays: dict[str, Any] = {
        name: p.detach().cpu().numpy().astype(np.float16) for name, p in network.named_parameters()
    }
    with path.open("wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)


def load_weights(path: Path | str, model: HandModel | None = None) -> tuple[HandOs, dict[str, Any]]:
    """Make the network that a file describes, ready to run.

    Args:
        path: written by `save_weights`.
        model: the hand that the weights were trained for; the free hand when None.

    Returns:
        The network in eval mode without gradients, float32; and its card.

    Raises:
        InputError: missing, truncated or foreign file; another version, hand model or size: it names the tensor, and
            what was expected and found.
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
    network = HandOs(config, build_topology(model, config.coarse_vertices))
    _fill(network, arrays, path)
    return network.eval().requires_grad_(False), dict(header.get("card", {}))


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


def _fill(network: HandOs, arrays: dict[str, np.ndarray], path: Path) -> None:
    """Copy arrays into the network's parameters, checking each."""
    wanted = dict(network.named_parameters())
    for name, parameter in wanted.items():
        expected = tuple(parameter.shape)
        if name not in arrays:
            raise InputError(f"HandOS weights {path}: tensor '{name}' is missing, expected {expected}: {REMEDY}")
        values = arrays[name]
        if values.shape != expected:
            raise InputError(
                f"HandOS weights {path}: tensor '{name}' has the shape {values.shape}, expected {expected}: {REMEDY}"
            )
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise InputError(f"HandOS weights {path}: tensor '{name}' is not finite, expected finite numbers: {REMEDY}")
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    for name in arrays:
        if name not in wanted:
            raise InputError(f"HandOS weights {path}: tensor '{name}' was found and is not expected: {REMEDY}")
