"""COCO-WholeBody (Jin et al., ECCV 2020), the user's own copy: 2D joints of both hands of every person in photos.

`annotations/coco_wholebody_SPLIT_v1.0.json` beside COCO's own pictures in `SPLIT2017/` (or `images/SPLIT2017/`). A
person has `lefthand_kpts` and `righthand_kpts`, 21 triplets each, and `lefthand_valid` and `righthand_valid`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets.files import expect, expect_any, need_fields, read_json, read_photo
from hoi_ros.evaluation.datasets.records import LEAST_JOINTS, HandLabel, LabelledFrame, LabelledSequence

NAME = "COCO-WholeBody"
SPLITS = ("val", "train")
MARKS = ("annotations/coco_wholebody_*.json", "coco_wholebody_*.json")


class CocoWholeBody(LabelledSequence):
    """One split; photos without a labelled hand are left out."""

    independent_frames = True

    def __init__(self, folder: Path, split: str = "val") -> None:
        """Read the labels.

        Raises:
            InputError: labels or pictures are missing, or no hand is labelled.
        """
        self.name = f"{NAME}/{split}"
        pattern = f"coco_wholebody_{split}_*.json"
        below = "annotations/" if any((folder / "annotations").glob(pattern)) else ""
        path = expect_any(folder, below + pattern, NAME, "its labels")[0]
        self._pictures = folder / f"{split}2017"
        if not self._pictures.is_dir():
            self._pictures = expect(folder / "images" / f"{split}2017", NAME, f"COCO's pictures {split}2017")
        labels = read_json(path)
        need_fields(labels, ("images", "annotations"), path)
        self._hands: dict[Any, list[HandLabel]] = {}
        for person in labels["annotations"]:
            need_fields(person, ("image_id", "lefthand_kpts", "righthand_kpts"), path)
            self._hands.setdefault(person["image_id"], []).extend(hands_of_person(person))
        self._images = [image for image in labels["images"] if self._hands.get(image["id"])]
        if not self._images:
            raise InputError(f"{path}, field 'annotations': no hand is labelled")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledFrame:
        image = self._images[index]
        path = expect(self._pictures / image["file_name"], NAME, "a picture")
        return LabelledFrame(read_photo(path, index), tuple(self._hands[image["id"]]))


def hands_of_person(person: dict) -> list[HandLabel]:
    """The hands of one annotation that are marked valid and have joints enough."""
    found: list[HandLabel] = []
    for side in ("left", "right"):
        if person.get(f"{side}hand_valid", True):
            found += hand_of_triplets(person.get(f"{side}hand_kpts", ()), side)
    return found


def hand_of_triplets(
    points: Any, side: str | None, order: np.ndarray | None = None, joints_camera: np.ndarray | None = None
) -> list[HandLabel]:
    """A label of x, y, visibility triplets; none when too few joints are known.

    Args:
        points: 63 numbers.
        side: 'left' or 'right'; anything else is unknown.
        order: (21,) row of each of this project's joints; None when they agree.
        joints_camera: (21, 3) metres, where known.
    """
    triplets = np.asarray(points, np.float64).reshape(-1, 3)
    if len(triplets) != 21:
        return []
    triplets = triplets if order is None else triplets[order]
    pixels = np.where(triplets[:, 2:] > 0, triplets[:, :2], np.nan)
    if np.isfinite(pixels).all(1).sum() < LEAST_JOINTS:
        return []
    return [HandLabel(side if side in ("left", "right") else None, joints_camera, pixels)]


def open_coco_wholebody(folder: Path) -> list[LabelledSequence]:
    """The validation split, or the training split where the copy has no other."""
    split = next((s for s in SPLITS if any(any(folder.glob(m.replace("*.", f"{s}_*."))) for m in MARKS)), SPLITS[0])
    return [CocoWholeBody(folder, split)]
