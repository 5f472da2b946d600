"""Real-world test crops of hand-graph-cnn (Ge et al., CVPR 2019) as `hands_real`: 256x256 crops of one left hand.

`images/NNNNN.jpg` and `gt_dev_every4th.npz` with index (N,), joints_cm (N, 21, 3) in the camera frame, fx_fy_u0_v0
(N, 4) of the whole picture and bbox_xywh (N, 4) of the crop in it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.evaluation.checks import metres_of, require_metres, require_same_length, shaped
from hoi_ros.evaluation.datasets.files import expect, need_fields, read_color, read_npz
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence

LABELS = "gt_dev_every4th.npz"
FIELDS: dict[str, tuple[int, ...]] = {"index": (), "joints_cm": (21, 3), "fx_fy_u0_v0": (4,), "bbox_xywh": (4,)}
"""Each field's shape after the row."""


class HandsReal(LabelledSequence):
    """Photos of one bare left hand."""

    independent_frames, fills_picture = True, True

    def __init__(self, folder: Path) -> None:
        """Read the labels.

        Raises:
            InputError: a file or field is missing.
        """
        self.name = "hands_real"
        path = expect(folder / LABELS, self.name, "the labels")
        self._images = expect(folder / "images", self.name, "the pictures")
        self._labels = read_npz(path)
        need_fields(self._labels, tuple(FIELDS), path)
        for name, shape in FIELDS.items():
            shaped(self._labels[name], (-1, *shape), file=str(path), field=name)
        require_same_length({name: len(self._labels[name]) for name in FIELDS}, file=str(path))
        self._joints = metres_of(self._labels["joints_cm"], "cm", file=str(path), field="joints_cm")
        require_metres(self._joints, file=str(path), field="joints_cm", unit="cm", fixed=True)

    def __len__(self) -> int:
        return len(self._joints)

    def __getitem__(self, index: int) -> LabelledFrame:
        number = int(self._labels["index"][index])
        path = expect(self._images / f"{number:05d}.jpg", self.name, f"picture {number}")
        color = read_color(path)
        camera = crop_camera(self._labels["fx_fy_u0_v0"][index], self._labels["bbox_xywh"][index], color.shape)
        frame = RgbdFrame(color, camera, index, index, name=path.name)
        return LabelledFrame(frame, (HandLabel("left", self._joints[index]),), all_hands_labelled=True)


def crop_camera(focal_center: np.ndarray, box_xywh: np.ndarray, shape: tuple[int, ...]) -> CameraIntrinsics:
    """Camera of a box of the whole picture, resized to a picture of `shape` (H, W, ...)."""
    fx, fy, cx, cy = map(float, focal_center)
    x, y, width, height = map(float, box_xywh)
    sx, sy = shape[1] / width, shape[0] / height
    return CameraIntrinsics(shape[1], shape[0], fx * sx, fy * sy, (cx - x + 0.5) * sx - 0.5, (cy - y + 0.5) * sy - 0.5)
