"""Training crops from real pictures: the user's copies of data sets, or the estimator's own answers on unlabelled ones.

Each labelled hand is cut as the live estimator cuts it, plain and mirrored, so that both sides are learned alike. Where
only 2D joints are known the crop supervises weakly. Data sets have licences of their own: weights trained on one that
forbids commercial use are the user's and never ship; the shards' card says what they were made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.evaluation.datasets import HandLabel, LabelledFrame, open_dataset
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.embedded_features import LandmarkFeatures
from hoi_ros.hand.regions import HandRegion, region_from_landmarks
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.model import MIRROR
from hoi_ros.sources import open_source
from hoi_ros.training.feature_cache import PICTURES, SHARD_CROPS, crops_to_arrays, shard_path, write_card
from hoi_ros.training.hand_crops import CROP_SIDE, UNKNOWN, HandCrop
from hoi_ros.training.solid_truth import SolidTruth

NEEDED = [0, 5, 9, 13, 17]
"""Joints without which no region can be cut."""
LEAST_SCORE = 0.9
"""Of a hand whose estimate is taken for truth."""
SIZE_JITTER, CENTER_JITTER, ANGLE_JITTER_RAD = (0.86, 1.22), 0.035, 0.16


@dataclass(frozen=True)
class _Cut:
    """How a region's crop lies in its camera."""

    region: HandRegion
    turn: np.ndarray
    """(3, 3) camera axes to those of a camera that looks at the region's middle, rolled with it."""
    focal: float
    """In crop sides."""


class CropCutter:
    """Labelled frames in, training crops out."""

    def __init__(self, seed: int = 0, model: HandModel | None = None):
        self.model = model or HandModel.load()
        self._rng = np.random.default_rng([seed, 31])
        self._solid = SolidTruth(self.model)

    def crops(self, frames: Iterable[LabelledFrame]) -> Iterator[HandCrop]:
        """Every hand of every frame that can be cut, plain and mirrored."""
        for labelled in frames:
            for hand in labelled.hands:
                crop = self.cut(labelled.frame, hand)
                if crop is not None:
                    yield crop
                    yield mirrored(crop)

    def cut(self, frame: RgbdFrame, hand: HandLabel) -> HandCrop | None:
        """One hand's crop; None when its palm is not labelled or lies outside the picture."""
        pixels = np.asarray(hand.pixels(frame.intrinsics), np.float64)
        known = np.asarray(np.isfinite(pixels).all(1))
        if not known[NEEDED].all():
            return None
        filled = np.where(known[:, None], pixels, np.nanmean(pixels, 0))
        cut = self._region(filled, frame.intrinsics)
        points = cut.region.from_image(filled)
        palm = points[NEEDED]
        if palm.min() <= 0 or palm.max() >= 1:
            return None
        solid = self._solid.of(frame, hand, filled)
        joints, vertices = solid or (np.zeros((21, 3)), np.zeros((self.model.vertex_count, 3)))
        joints, vertices = joints @ cut.turn.T, vertices @ cut.turn.T
        middle = joints.mean(0)
        return HandCrop(
            cut.region.crop(frame.color, CROP_SIDE),
            np.array([cut.focal, cut.focal, 0.5, 0.5], np.float32),
            (vertices - middle).astype(np.float32),
            (joints - middle).astype(np.float32),
            middle.astype(np.float32),
            points.astype(np.float32),
            hand.side == "right",
            known,
            np.full((CROP_SIDE, CROP_SIDE), UNKNOWN, np.uint8),
            np.full(self.model.vertex_count, np.nan, np.float32),
            known.astype(np.float32),
            solid is not None,
        )

    def _region(self, pixels: np.ndarray, camera: CameraIntrinsics) -> _Cut:
        """The live estimator's region of these joints, with the errors that it makes."""
        rng = self._rng
        region = region_from_landmarks(pixels)
        size = region.size_px * rng.uniform(*SIZE_JITTER)
        center = region.center_px + region.size_px * rng.normal(0, CENTER_JITTER, 2)
        region = HandRegion(center, size, region.angle_rad + rng.normal(0, ANGLE_JITTER_RAD))
        forward = np.array([(center[0] - camera.cx) / camera.fx, (center[1] - camera.cy) / camera.fy, 1.0])
        forward /= np.linalg.norm(forward)
        across = np.cross([0.0, 1.0, 0.0], forward)
        across /= np.linalg.norm(across)
        look = np.stack([across, np.cross(forward, across), forward])
        c, s = math.cos(region.angle_rad), math.sin(region.angle_rad)
        roll = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        return _Cut(region, roll @ look, math.sqrt(camera.fx * camera.fy) / size)


def mirrored(crop: HandCrop) -> HandCrop:
    """The crop seen in a mirror: the other hand."""
    points = crop.joints_2d.copy()
    points[:, 0] = 1 - points[:, 0]
    camera = crop.camera.copy()
    camera[2] = 1 - camera[2]
    mirror = MIRROR.astype(np.float32)
    return replace(
        crop,
        image=np.ascontiguousarray(crop.image[:, ::-1]),
        camera=camera,
        vertices=crop.vertices * mirror,
        joints=crop.joints * mirror,
        translation=crop.translation * mirror,
        joints_2d=points,
        right=not crop.right,
        segments=np.ascontiguousarray(crop.segments[:, ::-1]),
    )


def dataset_frames(folder: Path, kind: str = "") -> Iterator[LabelledFrame]:
    """Frames of the training part of a data set in the user's own copy; see `evaluation.datasets`.

    Raises:
        InputError: no known layout, or the copy has the test part alone.
    """
    for sequence in open_dataset(folder, kind, training=True):
        yield from sequence


def pseudo_labelled_frames(source: str, labeller: str = "handos") -> Iterator[LabelledFrame]:
    """Frames of any source with an estimator's own sure answers as labels.

    Args:
        source: as for `hoi run`: images:DIR, video:FILE, ...
        labeller: handos, nearer to real hands, or embedded, which does not teach HandOS its own mistakes.
    """
    estimator = create_hand_estimator(HandConfig(estimator=labeller))
    with open_source(source) as frames:
        for frame in frames:
            hands = [h for h in estimator.estimate(frame, independent=True) if h.score >= LEAST_SCORE]
            labels = tuple(HandLabel(h.handedness, h.joints_camera, h.joints_px) for h in hands)
            yield LabelledFrame(frame, labels)


def write_labelled_shards(
    frames: Iterable[LabelledFrame], folder: Path, *, name: str, shippable: bool, seed: int = 0, most: int = 0,
    model: HandModel | None = None,
) -> int:  # fmt: skip
    """Cut, look at and write crops of labelled frames; the last shard may be short.

    Args:
        frames: labelled.
        folder: for the shards.
        name: of the data, for the card.
        shippable: whether weights trained on it may be handed on; a card says so.
        most: shards at most; 0 is all.
        model: whose vertices are learned; the free hand when None.

    Returns:
        Number of crops written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cutter = CropCutter(seed, model)
    write_card(folder, name, shippable, cutter.model.name)
    reader, crops, written = LandmarkFeatures(), cutter.crops(frames), 0
    number = 0
    while not most or number < most:
        part = list(islice(crops, SHARD_CROPS))
        if not part:
            break
        arrays: dict[str, Any] = crops_to_arrays(part, reader)
        arrays["pictures"] = np.stack([crop.image for crop in part[:PICTURES]])
        with shard_path(folder, number).open("wb") as file:
            np.savez(file, **arrays)
        number, written = number + 1, written + len(part)
    return written
