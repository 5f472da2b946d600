"""HandOS in one stage: a full image, the frozen detector, its filtered instances, the decoder; training's choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hoi_ros.hand.handos import Detection, HandOs, HandOsOutput, is_right_hand
from hoi_ros.hand.query_filter import NMS_THRESHOLD, SCORE_THRESHOLD, assign_instances, keep_instances


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
