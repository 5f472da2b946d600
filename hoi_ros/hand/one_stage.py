"""HandOS in one stage: a full image, the frozen detector, its filtered instances, the decoder; training's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.hand.handos import Detection, HandOs, HandOsOutput, is_right_hand
from hoi_ros.hand.query_filter import NMS_THRESHOLD, SCORE_THRESHOLD, assign_instances, keep_instances

STRIDE = 32
"""Pictures are padded to multiples of this, so that every level of a detector divides them."""


@dataclass(frozen=True)
class Picture:
    """A picture of the size that the detector looks at."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    camera: CameraIntrinsics


def scaled_picture(color: np.ndarray, camera: CameraIntrinsics, side: int) -> Picture:
    """Resize (H, W, 3) uint8 so that its longer side has `side` pixels."""
    height, width = color.shape[:2]
    factor = side / max(height, width)
    new = (max(round(width * factor), 1), max(round(height * factor), 1))
    image = cv2.resize(color, new, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    x, y = new[0] / width, new[1] / height
    changed = replace(
        camera, width=new[0], height=new[1], fx=camera.fx * x, fy=camera.fy * y,
        cx=(camera.cx + 0.5) * x - 0.5, cy=(camera.cy + 0.5) * y - 0.5,
    )  # fmt: skip
    return Picture(image, changed)


def batch_pictures(pictures: Sequence[Picture], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) in [0, 1], padded below and to the right with black, and their cameras (B, 4)."""
    shapes = np.array([picture.image.shape[:2] for picture in pictures])
    height, width = (-(-shapes.max(0) // STRIDE) * STRIDE).tolist()
    canvas = np.zeros((len(pictures), height, width, 3), np.uint8)
    for row, picture in zip(canvas, pictures):
        row[: picture.image.shape[0], : picture.image.shape[1]] = picture.image
    images = torch.from_numpy(canvas).to(device).permute(0, 3, 1, 2).float() / 255
    sizes = np.array([width, height], np.float64)
    cameras = [
        np.r_[np.array([p.camera.fx, p.camera.fy]) / sizes, (np.array([p.camera.cx, p.camera.cy]) + 0.5) / sizes]
        for p in pictures
    ]
    return images, torch.from_numpy(np.array(cameras, np.float32)).to(device)


class Detector(Protocol):
    """Images in, everything that HandOS needs of a detector out."""

    def __call__(self, images: Tensor) -> Detection:
        """Detect in (B, 3, H, W) RGB in [0, 1]."""
        ...


@dataclass(frozen=True)
class FoundHands:
    """Hands of one image."""

    joints_2d: Tensor
    """(K, 21, 2) fractions of the image."""
    vertices_camera: Tensor
    """(K, V, 3) metres."""
    joints_camera: Tensor
    """(K, 21, 3) metres."""
    right: Tensor
    """(K,) bool, from the normals."""
    boxes: Tensor
    """(K, 4) centre and size, fractions."""
    scores: Tensor
    """(K,)."""


@dataclass(frozen=True)
class ChosenInstances:
    """Instances of every image to train on, padded to the same number."""

    detection: Detection
    """K instances an image."""
    hands: Tensor
    """(B, K) number of the true hand."""
    valid: Tensor
    """(B, K) bool: not padding."""


class OneStageHandOs(nn.Module):
    """Detector and decoder; only the decoder has anything to learn."""

    def __init__(self, detector: nn.Module, network: HandOs):
        super().__init__()
        self.detector, self.network = detector, network

    @torch.inference_mode()
    def find(
        self, image: Tensor, camera: Tensor, score: float = SCORE_THRESHOLD, overlap: float = NMS_THRESHOLD
    ) -> FoundHands:
        """Every hand of one image.

        Args:
            image: (3, H, W) RGB in [0, 1].
            camera: (4,) fx / W, fy / H, cx / W, cy / H.
            score: least score. overlap: of a worse box with a better one, above which it is dropped.
        """
        found = self.detector(image[None])
        keep = keep_instances(found.scores[0], found.boxes[0], score, overlap)
        chosen = found.select(keep[None])
        output = self.network(chosen, camera[None])[-1]
        assert output.vertices is not None and output.joints_3d is not None and output.translation is not None
        place = output.translation[0, :, None]
        return FoundHands(
            output.joints_2d[0],
            output.vertices[0] + place,
            output.joints_3d[0] + place,
            is_right_hand(output.vertices[0], self.network.faces),
            chosen.boxes[0],
            chosen.scores[0],
        )

    def forward(
        self, images: Tensor, camera: Tensor, true_boxes: list[Tensor]
    ) -> tuple[list[HandOsOutput], ChosenInstances]:
        """A training pass: the outputs of every layer for the instances that SimOTA gives to true hands.

        Args:
            images: (B, 3, H, W). camera: (B, 4). true_boxes: of each image (G, 4).
        """
        chosen = choose_instances(self.detector(images), true_boxes)
        return self.network(chosen.detection, camera), chosen


def choose_instances(detection: Detection, true_boxes: list[Tensor]) -> ChosenInstances:
    """SimOTA for each image; images with fewer positives are padded with their first instance, marked invalid."""
    pairs = [assign_instances(s, b, t) for s, b, t in zip(detection.scores, detection.boxes, true_boxes)]
    most = max([len(rows) for rows, _ in pairs] + [1])
    index = detection.scores.new_zeros((len(pairs), most), dtype=torch.long)
    hands, valid = index.clone(), index.bool()
    for image, (rows, owner) in enumerate(pairs):
        index[image, : len(rows)], hands[image, : len(rows)] = rows, owner
        valid[image, : len(rows)] = True
    return ChosenInstances(detection.select(index), hands, valid)
