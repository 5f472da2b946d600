"""InterHand2.6M (Moon et al., ECCV 2020), the user's own copy.

`annotations/SPLIT/InterHand2.6M_SPLIT_{data,camera,joint_3d}.json` and `images/SPLIT/Capture*/...`. 42 joints in
millimetres of the world: right hand, then left, each finger from its tip, wrist last. x_camera = camrot (X - campos).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.evaluation.checks import shaped
from hoi_ros.evaluation.datasets.files import expect, expect_any, need_fields, read_color, read_json
from hoi_ros.evaluation.datasets.records import LEAST_JOINTS, HandLabel, LabelledFrame, LabelledSequence

NAME = "InterHand2.6M"
ORDER = np.array([20, *(4 * finger + joint for finger in range(5) for joint in (3, 2, 1, 0))])
"""Row of each of this project's joints within one hand's 21."""


class InterHand(LabelledSequence):
    """Photos of one split, one or two hands each."""

    independent_frames = True

    def __init__(self, folder: Path, split: str = "test", limit: int = 0) -> None:
        """Read the labels of a split; `limit` takes so many pictures, spread evenly, 0 all.

        Raises:
            InputError: a file or field is missing.
        """
        annotations = folder / "annotations" / split
        paths = [
            expect(annotations / f"InterHand2.6M_{split}_{kind}.json", NAME, f"the labels '{kind}'")
            for kind in ("data", "camera", "joint_3d")
        ]
        self._open(f"{NAME}/{split}", expect(folder / "images" / split, NAME, "the pictures"), paths, limit)

    @classmethod
    def from_samples(cls, folder: Path) -> InterHand:
        """A few pictures in one folder beside `*_data.json`, `*_camera.json` and `*_joint_3d.json`."""
        sequence = cls.__new__(cls)
        paths = [
            expect_any(folder, f"*_{kind}.json", NAME, f"labels '{kind}'")[0] for kind in ("data", "camera", "joint_3d")
        ]
        sequence._open(f"hands_mixed/{folder.name}", folder, paths, 0)
        return sequence

    def _open(self, name: str, images: Path, paths: list[Path], limit: int) -> None:
        self.name, self._folder, self._paths = name, images, paths
        data, self._cameras, self._joints = (read_json(path) for path in paths)
        need_fields(data, ("images", "annotations"), paths[0])
        kinds = {a["image_id"]: a for a in data["annotations"]}
        self._images = [image for image in data["images"] if image["id"] in kinds]
        if limit and limit < len(self._images):
            self._images = [self._images[i] for i in np.linspace(0, len(self._images) - 1, limit).astype(int)]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledFrame:
        image = self._images[index]
        path = expect(self._folder / image["file_name"], self.name, "a picture")
        color = read_color(path)
        capture, frame_key, key = (str(image[name]) for name in ("capture", "frame_idx", "camera"))
        need_fields(self._cameras, (capture,), self._paths[1])
        camera = self._cameras[capture]
        for name in ("focal", "princpt", "campos", "camrot"):
            need_fields(camera, (name,), self._paths[1])
            need_fields(camera[name], (key,), self._paths[1])
        (fx, fy), (cx, cy) = camera["focal"][key], camera["princpt"][key]
        intrinsics = CameraIntrinsics(color.shape[1], color.shape[0], fx, fy, cx, cy)
        need_fields(self._joints, (capture,), self._paths[2])
        need_fields(self._joints[capture], (frame_key,), self._paths[2])
        label = self._joints[capture][frame_key]
        need_fields(label, ("world_coord", "joint_valid", "hand_type"), self._paths[2])
        world = shaped(label["world_coord"], (42, 3), file=str(self._paths[2]), field="world_coord")
        joints = (world - np.asarray(camera["campos"][key])) @ np.asarray(camera["camrot"][key]).T * 1e-3
        joints[~np.asarray(label["joint_valid"], bool).reshape(42)] = np.nan
        hands = tuple(_hands(joints, label))
        there = 2 if label["hand_type"] == "interacting" else 1
        frame = RgbdFrame(color, intrinsics, index, index, name=path.name)
        return LabelledFrame(frame, hands, all_hands_labelled=len(hands) == there)


def _hands(joints: np.ndarray, label: dict[str, Any]) -> list[HandLabel]:
    """Hands in the picture of which enough is known."""
    hands = []
    for side, first in (("right", 0), ("left", 21)):
        ordered = joints[first : first + 21][ORDER]
        if label["hand_type"] in (side, "interacting") and np.isfinite(ordered).all(1).sum() >= LEAST_JOINTS:
            hands.append(HandLabel(side, ordered))
    return hands
