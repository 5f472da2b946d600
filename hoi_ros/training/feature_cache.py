"""Synthetic crops turned once into the frozen network's features, kept in shards on disk: training becomes cheap."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.hand.blas_threads import OneBlasThread
from hoi_ros.hand.embedded_features import LandmarkFeatures
from hoi_ros.hand_model import choose_hand_model
from hoi_ros.hand_model.model import FREE_HAND_NAME
from hoi_ros.simulation import raycast
from hoi_ros.training.crop_pictures import Harshness
from hoi_ros.training.hand_crops import HELD_SHARE, HandCrop, HandCropSource

SHARD_CROPS, CARD = 512, "card.json"
FEATURES = ("landmarks", "world_landmarks", "presence", "handedness", "shallow", "fine", "coarse", "pooled")
LABELS = tuple(f.name for f in fields(HandCrop) if f.name not in ("image", "segments"))
FULL_PRECISION = ("landmarks", "world_landmarks", "presence", "handedness", "camera", "translation", "joints_2d")
EASY, HARD, SHARDS_TO_HARD = 0.25, 0.8, 60
"""The curriculum: harshness of a shard's hardest crop, from the first shard to the one where it stays."""
SMALL_SEGMENTS, PICTURES = 56, 8
_Settings = tuple[int, Path | None, float, bool, str]
"""Seed, backgrounds, share that is held, detail and hand model."""


def make_shards(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    processes: int = 1,
    backgrounds: Path | None = None,
    held_share: float = HELD_SHARE,
    detail: bool = False,
    shippable: bool = False,
    hand_model: str = "",
) -> Iterator[Path]:
    """Write shards until `count` exist, skipping those that do; yields each as it is finished.

    Shard k holds the same crops however many processes write: its seed is (seed, k).

    Args:
        folder: for the shards and their card.
        count: shards in all.
        seed: of the crops.
        processes: that work at once.
        backgrounds: folder of the user's photos to put behind the hands.
        held_share: of poses that hold something.
        detail: keep finer feature maps too.
        shippable: whether weights trained on those photos may be handed on; without photos they may.
        hand_model: the user's MANO file; '' is the free hand. Weights that learned of MANO are not handed on.

    Raises:
        InputError: the folder cannot be written, or has shards of another hand; unreadable hand model.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"feature folder {folder}: {error.strerror}; choose another with --out") from error
    settings = (seed, backgrounds, held_share, detail, hand_model)
    jobs = [(folder, k, settings) for k in range(count) if not shard_path(folder, k).exists()]
    card = synthetic_card(bool(backgrounds), shippable, choose_hand_model(hand_model).name)
    if not (folder / CARD).exists():
        write_card(folder, **card)
    before = read_card(folder)
    if before["hand_model"] != card["hand_model"]:
        raise InputError(
            f"feature folder {folder}: its shards are of the hand model '{before['hand_model']}', not of "
            f"'{card['hand_model']}'; choose another with --out"
        )
    if jobs and backgrounds:  # beside shards that were made without
        write_card(folder, **card | {"shippable": card["shippable"] and before["shippable"]})
    if processes < 2:
        yield from map(_make_shard, jobs)
        return
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(_make_shard, jobs)


def synthetic_card(photos: bool, shippable: bool, hand_model: str = FREE_HAND_NAME) -> dict[str, Any]:
    """Card of crops of a hand model: weights may be handed on where it is free, and the user says so of any photos."""
    free = hand_model == FREE_HAND_NAME
    data = f"synthetic crops of {'the free hand' if free else hand_model}" + (
        " over the user's photos" if photos else ""
    )
    return {"data": data, "shippable": free and (shippable or not photos), "hand_model": hand_model}


def write_card(folder: Path, data: str, shippable: bool, hand_model: str = FREE_HAND_NAME) -> None:
    """Say what a folder of shards was made of, whose vertices it has, and whether weights may be handed on."""
    card = {"data": data, "shippable": shippable, "hand_model": hand_model}
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any]:
    """What `write_card` wrote; data of unknown origin may not be handed on."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        card = {}
    # Older cards are all of the free hand.
    return {
        "data": str(card.get("data", "unknown")),
        "shippable": bool(card.get("shippable", False)),
        "hand_model": str(card.get("hand_model", FREE_HAND_NAME)),
    }


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` lies."""
    return folder / f"shard_{number:05d}.npz"


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """One shard's arrays.

    Raises:
        InputError: missing, truncated, or without one of the arrays.
    """
    try:
        with np.load(path) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InputError(
            f"feature shard {path} cannot be read ({type(error).__name__}): delete it, it is made anew"
        ) from error
    arrays.setdefault("joint_weights", np.ones((len(arrays.get("right", ())), 21), np.float32))
    arrays.setdefault("has_3d", np.ones(len(arrays.get("right", ())), bool))
    for name in (*FEATURES, *LABELS):
        if name not in arrays:
            raise InputError(f"feature shard {path}: array '{name}' is missing: delete it, it is made anew")
    return arrays


def harshness_of(shard: int) -> float:
    """Hardest crop of a shard."""
    return EASY + (HARD - EASY) * min(shard / SHARDS_TO_HARD, 1.0)


def crops_to_arrays(crops: list[HandCrop], reader: LandmarkFeatures) -> dict[str, np.ndarray]:
    """Features and labels of crops, as a shard holds them.

    Args:
        crops: of one or many sources.
        reader: a `LandmarkFeatures`.
    """
    arrays = reader.read(np.stack([crop.image for crop in crops]))
    for name in LABELS:
        arrays[name] = np.stack([np.asarray(getattr(crop, name)) for crop in crops])
    step = crops[0].segments.shape[0] // SMALL_SEGMENTS
    arrays["segments"] = np.stack([crop.segments[step // 2 :: step, step // 2 :: step] for crop in crops])
    return {
        name: values.astype(np.float16) if values.dtype.kind == "f" and name not in FULL_PRECISION else values
        for name, values in arrays.items()
    }


def _make_shard(job: tuple[Path, int, _Settings]) -> Path:
    folder, number, settings = job
    source, reader = _workshop(*settings)
    with OneBlasThread()():
        arrays = _shard_arrays(source, reader, settings[0], number)
    path = shard_path(folder, number)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.replace(path)
    return path


def _shard_arrays(source: HandCropSource, reader: LandmarkFeatures, seed: int, number: int) -> dict[str, Any]:
    source.restart(number)
    levels = np.random.default_rng([seed, number]).uniform(0, harshness_of(number), SHARD_CROPS)
    batches = [[source.crop(Harshness.even(float(level))) for level in part] for part in np.split(levels, 16)]
    parts = [crops_to_arrays(batch, reader) for batch in batches]
    arrays: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["pictures"] = np.stack([crop.image for crop in batches[0][:PICTURES]])
    return arrays


@lru_cache(maxsize=1)
def _workshop(
    seed: int, backgrounds: Path | None, held_share: float, detail: bool, hand_model: str
) -> tuple[HandCropSource, LandmarkFeatures]:
    """What a process makes once: one thread each, as there are as many processes as cores."""
    cv2.setNumThreads(1)
    raycast.THREADS = 1
    source = HandCropSource(seed, choose_hand_model(hand_model), backgrounds, held_share)
    return source, LandmarkFeatures(threads=1, detail=detail)
