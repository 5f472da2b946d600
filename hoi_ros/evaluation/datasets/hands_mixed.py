"""Hand photos in COCO's keypoint layout, as mmpose ships samples of six data sets: `hands_mixed`.

Folders freihand, onehand10k, panoptic, rhd, interhand2.6m and coco, each with `*.json` and pictures. 21 keypoints in
this project's order, except: RHD has each finger from its tip, InterHand2.6M its own two-hand order (see `interhand`),
COCO-WholeBody a list for each hand of each person. Visibility 0 means unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets.coco_wholebody import hand_of_triplets, hands_of_person
from hoi_ros.evaluation.datasets.files import expect, expect_any, need_fields, read_color, read_json
from hoi_ros.evaluation.datasets.interhand import InterHand
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence

FOLDERS = ("freihand", "onehand10k", "panoptic", "rhd", "coco", "interhand2.6m")
FROM_TIPS = np.array([0, *(4 * finger + joint for finger in range(5) for joint in (4, 3, 2, 1))])
"""RHD's row of each joint: every finger is listed from its tip."""


class CocoHands(LabelledSequence):
    """One folder of photos with COCO-like labels, mostly 2D."""

    independent_frames = True

    def __init__(self, folder: Path) -> None:
        """Read the labels.

        Raises:
            InputError: labels are missing or of another form.
        """
        self.name = f"hands_mixed/{folder.name}"
        self._folder = folder
        self.fills_picture = folder.name == "freihand"
        path = expect_any(folder, "*.json", self.name, "COCO-like labels")[0]
        labels = read_json(path)
        need_fields(labels, ("images", "annotations"), path)
        by_image: dict[Any, list[dict]] = {}
        for annotation in labels["annotations"]:
            need_fields(annotation, ("image_id",), path)
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        self._images = [image for image in labels["images"] if self._labels_of(image, by_image)]
        self._by_image = by_image
        if not self._images:
            raise InputError(f"{path}, field 'annotations': no hand is labelled")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> LabelledFrame:
        image = self._images[index]
        path = expect(self._folder / image["file_name"], self.name, "a picture")
        color = read_color(path)
        camera = CameraIntrinsics.from_fov(color.shape[1], color.shape[0])
        if "cam_param" in image:
            (fx, fy), (cx, cy) = image["cam_param"]["focal"], image["cam_param"]["princpt"]
            camera = CameraIntrinsics(color.shape[1], color.shape[0], fx, fy, cx, cy)
        hands = tuple(self._labels_of(image, self._by_image))
        return LabelledFrame(RgbdFrame(color, camera, index, index, name=path.name), hands)

    def _labels_of(self, image: dict, by_image: dict[Any, list[dict]]) -> list[HandLabel]:
        hands: list[HandLabel] = []
        for annotation in by_image.get(image["id"], ()):
            if "lefthand_kpts" in annotation:
                hands += hands_of_person(annotation)
                continue
            order = FROM_TIPS if self._folder.name == "rhd" else np.arange(21)
            joints = annotation.get("joint_cam")
            camera_m = None if joints is None else np.asarray(joints, np.float64)[order] * 1e-3
            hands += hand_of_triplets(annotation["keypoints"], annotation.get("hand_type"), order, camera_m)
        return hands


def open_hands_mixed(folder: Path) -> list[LabelledSequence]:
    """Every set found in the folder.

    Raises:
        InputError: none is there.
    """
    found: list[LabelledSequence] = []
    for name in FOLDERS:
        if (folder / name).is_dir():
            found += (
                [InterHand.from_samples(folder / name)] if name.startswith("interhand") else [CocoHands(folder / name)]
            )
    if not found:
        raise InputError(f"hands_mixed: expected one of the folders {', '.join(FOLDERS)} in {folder}")
    return found
