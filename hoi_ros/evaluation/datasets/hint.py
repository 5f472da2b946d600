"""HInt (Pavlakos et al., HaMeR, CVPR 2024), the user's own copy: 2D joints of one hand in photos from everyday life.

Folders such as `TEST_newdays_img` with pairs `NAME_l.jpg`/`NAME_r.jpg` and `.json`: a list of one record with bbox,
keypoints (21, 2) and occlusion (21), 1 where a joint is hidden. The name's last letter is the side. Other hands in the
picture carry no label.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets.files import expect_any, need_fields, read_json, read_photo
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence

NAME = "HInt"


class Hint(LabelledSequence):
    """One of its folders."""

    independent_frames = True

    def __init__(self, folder: Path) -> None:
        """List the pairs; labels without a picture (Ego4D) are left out.

        Raises:
            InputError: there is no pair.
        """
        self.name = f"{NAME}/{folder.name}"
        labels = expect_any(folder, "*.json", NAME, "labels")
        self._labels = [path for path in labels if path.with_suffix(".jpg").exists()]
        if not self._labels:
            raise InputError(f"{NAME}: expected a picture at {labels[0].with_suffix('.jpg')}; fetch the frames first")

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> LabelledFrame:
        path = self._labels[index]
        records = read_json(path)
        if not isinstance(records, list) or len(records) != 1:
            raise InputError(f"{path}: expected a list of one hand")
        need_fields(records[0], ("keypoints", "occlusion"), path)
        pixels = np.asarray(records[0]["keypoints"], np.float64).reshape(21, -1)[:, :2]
        hidden = np.asarray(records[0]["occlusion"], np.float64).reshape(21)
        side = {"l": "left", "r": "right"}.get(path.stem.rsplit("_", 1)[-1])
        frame = read_photo(path.with_suffix(".jpg"), index, path.stem)
        return LabelledFrame(frame, (HandLabel(side, None, pixels, visible_fraction=1 - float(hidden.mean())),))


def open_hint(folder: Path) -> list[LabelledSequence]:
    """Every test folder with pictures; other splits where there is no test folder.

    Raises:
        InputError: none is there.
    """
    found = next((f for f in (_split(folder, name) for name in ("TEST", "VAL", "TRAIN")) if f), [])
    if not found:
        raise InputError(f"{NAME}: expected folders like TEST_newdays_img with .jpg and .json pairs in {folder}")
    return found


def open_hint_training(folder: Path) -> list[LabelledSequence]:
    """Every training folder with pictures.

    Raises:
        InputError: none is there.
    """
    found = _split(folder, "TRAIN")
    if not found:
        raise InputError(f"{NAME}: expected folders like TRAIN_newdays_img with .jpg and .json pairs in {folder}")
    return found


def _split(folder: Path, name: str) -> list[LabelledSequence]:
    return [Hint(f) for f in sorted(folder.glob(f"{name}_*")) if any(f.glob("*.jpg"))]
