"""The converted landmark network as HandOS's frozen detector: inner maps, pooled feature and landmarks of a crop.

It looks at one hand's region, so this way to HandOS is a two-stage one: a region is found first (palm detector or the
last frame), and each crop is an image with one instance. Full-image detectors are in `full_image_detectors.py`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hoi_ros.hand.handos import Detection
from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.landmarks import IMAGE_Z_SHARE
from hoi_ros.hand.network import LiteRtNetwork, Network, TorchRunner
from hoi_ros.hand.program import WEIGHTS_FOLDER, read_program

TAPS = {"shallow": "t27", "fine": "t38", "coarse": "t49", "pooled": "t56"}
"""Inner tensors: (80, 14, 14), (112, 14, 14), (192, 7, 7) and (1152,)."""
OUTPUTS = ("landmarks", "presence", "handedness", "world_landmarks")
FEATURE_CHANNELS, SHALLOW_CHANNELS, QUERY_CHANNELS = (112, 192), (80, 80), (1152, 126)
BOX_MARGIN = 1.15
CROP_SIDE = 224
COMPACT = HandOsConfig(
    width=128, heads=8, points=2, hidden=256, layers_2d=2, layers_interactive=4, coarse_vertices=49,
    feature_channels=FEATURE_CHANNELS, shallow_channels=SHALLOW_CHANNELS, query_channels=QUERY_CHANNELS,
    from_landmarks=True,
)  # fmt: skip
"""The network that ships."""


class LandmarkFeatures:
    """Runs the landmark network on crops and keeps what HandOS needs of it."""

    def __init__(self, device: str = "cpu", threads: int = 2):
        program = read_program(WEIGHTS_FOLDER / "hand_landmarks.npz")
        program = replace(program, outputs=(*OUTPUTS, *TAPS.values()))
        self._channels_last = device == "cpu"
        self._network: Network = (
            LiteRtNetwork(program, threads) if device == "cpu" else TorchRunner(program, device.replace("torch", "cpu"))
        )

    def read(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Look at crops (N, 224, 224, 3) uint8 RGB.

        Returns:
            landmarks (N, 63) pixels of the crop, world_landmarks (N, 63) metres, presence and handedness (N, 1),
            shallow (N, 80, 14, 14), fine (N, 112, 14, 14), coarse (N, 192, 7, 7), pooled (N, 1152); float32.
        """
        values = self._network(crops.astype(np.float32) * np.float32(1 / 255))
        named = dict(zip((*OUTPUTS, *TAPS), values))
        if self._channels_last:
            for name in ("shallow", "fine", "coarse"):
                named[name] = named[name].transpose(0, 3, 1, 2)
        return {name: value.reshape(len(crops), -1) if value.ndim != 4 else value for name, value in named.items()}


def detection_from_features(features: dict[str, Tensor]) -> Detection:
    """HandOS's input from `LandmarkFeatures.read` as tensors: N images of one instance each."""
    image = features["landmarks"].float().view(-1, 21, 3) / CROP_SIDE
    world = features["world_landmarks"].float().view(-1, 21, 3)
    points = image[..., :2]
    low, high = points.amin(1), points.amax(1)
    size = ((high - low) * BOX_MARGIN).clamp(min=0.05)
    boxes = torch.cat([(low + high) / 2, size], -1)
    middle = image.mean(1, keepdim=True)
    about = (image - middle) / size.mean(-1)[:, None, None]
    centred = world - world.mean(1, keepdim=True)
    geometry = torch.cat([about.flatten(1), 10 * centred.flatten(1)], -1)
    return Detection(
        (features["fine"].float(), features["coarse"].float()),
        (features["shallow"].float(),) * 2,
        features["pooled"].float()[:, None],
        geometry[:, None],
        boxes[:, None],
        features["presence"].float(),
        points[:, None],
        merge_landmark_heads(image, centred)[:, None],
    )


def merge_landmark_heads(image: Tensor, world: Tensor) -> Tensor:
    """Join both answers of the landmark network as `landmarks.merge_heads` does, for a batch.

    Args:
        image: (N, 21, 3) any unit. world: (N, 21, 3) metres, centred.

    Returns:
        (N, 21, 3) metres, centred.
    """
    image = image - image.mean(1, keepdim=True)
    flat = image[..., :2]
    factor = (flat * world[..., :2]).sum((1, 2)) / flat.square().sum((1, 2)).clamp(min=1e-12)
    image = image * factor[:, None, None]
    z = IMAGE_Z_SHARE * image[..., 2:] + (1 - IMAGE_Z_SHARE) * world[..., 2:]
    return torch.cat([image[..., :2], z], -1)
