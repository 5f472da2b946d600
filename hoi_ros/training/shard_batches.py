"""Batches from feature shards: the same seed and step always give the same batch, so that a resumed run is the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoi_ros.errors import InputError
from hoi_ros.hand.embedded_detection import detection_from_features
from hoi_ros.hand.embedded_features import DETAIL_TAPS
from hoi_ros.hand.handos import Detection
from hoi_ros.hand.losses import HandTargets
from hoi_ros.training.feature_cache import FEATURES, read_shard


@dataclass(frozen=True)
class Batch:
    """Input and truth of one step."""

    detection: Detection
    camera: Tensor
    """(B, 4)."""
    targets: HandTargets

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        if device.type == "cpu":
            return self
        return Batch(moved(self.detection, device), self.camera.to(device), moved(self.targets, device))


def moved(record: Any, device: torch.device) -> Any:
    """A frozen record of tensors on another device."""
    values: dict[str, Any] = {}
    for name, value in vars(record).items():
        if isinstance(value, tuple):
            values[name] = tuple(v.to(device) for v in value)
        else:
            values[name] = value.to(device) if isinstance(value, torch.Tensor) else value
    return replace(record, **values)


class ShardBatches:
    """Mixes a few shards at a time, group after group, each epoch in another order."""

    def __init__(self, folder: Path, batch_size: int, seed: int, count: int = 0, group: int = 8):
        self.paths = sorted(folder.glob("shard_*.npz"))[: count or None]
        if not self.paths:
            raise InputError(
                f"training data {folder}: no shard_*.npz there; make them with ./hoi train crops --out {folder}"
            )
        if count and len(self.paths) < count:
            raise InputError(f"training data {folder}: {len(self.paths)} shards, {count} when training began")
        self.batch_size, self.seed, self.group = batch_size, seed, min(group, len(self.paths))
        self._held: tuple[tuple[int, int], dict[str, np.ndarray], np.ndarray] | None = None
        size = len(read_shard(self.paths[0])["right"])
        self.batches_per_group = max(self.group * size // batch_size, 1)
        self.groups = len(self.paths) // self.group

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        epoch, inside = divmod(step, self.groups * self.batches_per_group)
        number, at = divmod(inside, self.batches_per_group)
        if self._held is None or self._held[0] != (epoch, number):
            self._held = ((epoch, number), *self._load(epoch, number))
        _, arrays, order = self._held
        rows = order[at * self.batch_size : (at + 1) * self.batch_size]
        return make_batch({name: values[np.sort(rows)] for name, values in arrays.items()})

    def _load(self, epoch: int, number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """One group's arrays, and the order to take its usable crops in."""
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(len(self.paths))
        chosen = order[number * self.group : (number + 1) * self.group]
        shards = [read_shard(self.paths[k]) for k in chosen]
        names = [name for name in shards[0] if all(name in shard for shard in shards) and name != "pictures"]
        arrays = {name: np.concatenate([shard[name] for shard in shards]) for name in names}
        rng = np.random.default_rng([self.seed, epoch, 1 + number])
        rows = np.flatnonzero(usable(arrays))
        wanted = self.batches_per_group * self.batch_size
        # Crops without a hand that the detector saw are left out; others are seen again in their place.
        return arrays, np.concatenate([rng.permutation(rows) for _ in range(-(-wanted // len(rows)))])[:wanted]


def usable(arrays: dict[str, np.ndarray], least_presence: float = 0.5) -> np.ndarray:
    """(N,) bool: the landmark network saw a hand there; what it misses never reaches HandOS."""
    return arrays["presence"][:, 0] > least_presence


def make_batch(arrays: dict[str, np.ndarray]) -> Batch:
    """Tensors of a shard's rows."""
    return batch_of({name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()})


def batch_of(tensors: dict[str, Tensor]) -> Batch:
    """A batch of tensors named as a shard's arrays."""
    points = tensors["joints_2d"].float()
    low, high = points.amin(1), points.amax(1)
    has_3d = tensors.get("has_3d", torch.ones(len(points), dtype=torch.bool))
    targets = HandTargets(
        points[:, None],
        tensors.get("joint_weights", torch.ones(points.shape[:2]))[:, None],
        torch.cat([(low + high) / 2, (high - low).clamp(min=0.02)], -1)[:, None],
        has_3d[:, None],
        tensors["vertices"].float()[:, None],
        tensors["joints"].float()[:, None],
        tensors["translation"].float()[:, None],
        tensors["contact"][:, None],
        tensors["segments"],
    )
    detection = detection_from_features({name: tensors[name] for name in (*FEATURES, *DETAIL_TAPS) if name in tensors})
    return Batch(detection, tensors["camera"].float(), targets)
