"""21 landmarks of the hand in a region, with presence and handedness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hoi_ros.hand.network import load_network
from hoi_ros.hand.program import WEIGHTS_FOLDER
from hoi_ros.hand.regions import HandRegion

# Share of the image head's z beside the world head's. On 146 real photos PA-MPJPE is 11.0 mm for the world head alone,
# 9.7 mm with x and y from the image, 8.9 mm with z mixed as here; it is flat around this value.
IMAGE_Z_SHARE = 0.3


@dataclass(frozen=True)
class HandLandmarks:
    """What the landmark network says of one region."""

    landmarks_px: np.ndarray
    """(21, 2) pixels, JOINT_NAMES order."""
    world_landmarks: np.ndarray
    """(21, 3) metres along the image's axes (x right, y down, z away), origin at the mean; the size is a guess."""
    presence: float
    """0 to 1: whether the region holds a hand."""
    right_probability: float
    """0 to 1: that it is the person's own right hand, for a picture that is not mirrored."""

    @property
    def box_px(self) -> np.ndarray:
        """(4,) x0 y0 x1 y1 around the landmarks, pixels."""
        return np.concatenate([self.landmarks_px.min(0), self.landmarks_px.max(0)])


class LandmarkReader(Protocol):
    """Whatever reads hands in regions."""

    offset_share: float
    """How much of the landmark network's way of setting joints its landmarks have; 0 are the hand model's own."""

    def read(
        self, color: np.ndarray, regions: Sequence[HandRegion], *, average_mirrored: bool = False
    ) -> list[HandLandmarks]:
        """Read one hand per region."""
        ...


class LandmarkNetwork:
    """Reads hands in regions with the converted MediaPipe network."""

    offset_share = 1.0

    def __init__(self, device: str = "cpu", threads: int = 2):
        self._network = load_network(WEIGHTS_FOLDER / "hand_landmarks.npz", device, threads)
        self._side = self._network.input_size

    def read(
        self, color: np.ndarray, regions: Sequence[HandRegion], *, average_mirrored: bool = False
    ) -> list[HandLandmarks]:
        """Read one hand per region.

        Args:
            color: (H, W, 3) uint8 RGB.
            regions: where hands may be.
            average_mirrored: look at the mirrored crop too and average; twice the time.
        """
        if not regions:
            return []
        crops = np.stack([region.crop(color, self._side) for region in regions])
        outputs = self._run(crops)
        if average_mirrored:
            mirrored = self._run(crops[:, :, ::-1])
            mirrored[0][..., 0] = 1 - mirrored[0][..., 0]
            mirrored[1][..., 0] *= -1
            mirrored[3][:] = 1 - mirrored[3]
            outputs = [(a + b) / 2 for a, b in zip(outputs, mirrored)]
        return [_in_image(region, *row) for region, row in zip(regions, zip(*outputs))]

    def _run(self, crops: np.ndarray) -> list[np.ndarray]:
        """Landmarks (B, 21, 3) as fractions of the crop, world (B, 21, 3), presence (B,), right hand (B,)."""
        landmarks, presence, handedness, world = self._network(crops.astype(np.float32) * np.float32(1 / 255))
        points = landmarks.reshape(-1, 21, 3) / self._side
        world = world.reshape(-1, 21, 3).copy()
        # The score is that of the label 'Left', which means a mirrored picture; in a plain one it is the right hand.
        return [points, world, presence[:, 0], handedness[:, 0].copy()]


def _in_image(
    region: HandRegion, points: np.ndarray, world: np.ndarray, presence: float, right: float
) -> HandLandmarks:
    """Turn one row of the network's output from the region to the image."""
    mixed = merge_heads(points.astype(np.float64), world.astype(np.float64))
    mixed[:, :2] = mixed[:, :2] @ region.rotation.T
    return HandLandmarks(region.to_image(points[:, :2].astype(np.float64)), mixed, float(presence), float(right))


def merge_heads(points: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Join the network's two answers: the image head is better across the picture, the world head in depth.

    Args:
        points: (21, 3) image head, any unit.
        world: (21, 3) world head, metres, axes as those of `points`.

    Returns:
        (21, 3) metres, centred on the joints' mean, of the world head's size.
    """
    image, centred = points - points.mean(0), world - world.mean(0)
    spread = float((image[:, :2] ** 2).sum())
    if spread < 1e-12:
        return centred
    image = image * (float((image[:, :2] * centred[:, :2]).sum()) / spread)
    z = IMAGE_Z_SHARE * image[:, 2] + (1 - IMAGE_Z_SHARE) * centred[:, 2]
    return np.concatenate([image[:, :2], z[:, None]], 1)
