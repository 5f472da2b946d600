"""The converted landmark network as HandOS's frozen detector: inner maps, pooled feature and landmarks of a crop.

It looks at one hand's region, so this way to HandOS is a two-stage one: a region is found first (palm detector or the
last frame), and each crop is an image with one instance. Full-image detectors are in `full_image_detectors.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.landmarks import merge_heads
from hoi_ros.hand.network import LiteRtNetwork, Network, TorchRunner
from hoi_ros.hand.program import WEIGHTS_FOLDER, read_program

TAPS = {"shallow": "t27", "fine": "t38", "coarse": "t49", "pooled": "t56"}
"""Inner tensors: (80, 14, 14), (112, 14, 14), (192, 7, 7) and (1152,)."""
DETAIL_TAPS = {"detail_28": "t16", "detail_56": "t9"}
"""(40, 28, 28) and (24, 56, 56), for masks alone."""
DETAIL_CHANNELS = (40, 24)
OUTPUTS = ("landmarks", "presence", "handedness", "world_landmarks")
MAP_SIDES = (14, 7)
FEATURE_CHANNELS, SHALLOW_CHANNELS, QUERY_CHANNELS = (112, 192), (80, 80), (1152, 126)
BOX_MARGIN = 1.15
CROP_SIDE = 224
TYPICAL_CAMERA = (3.0, 3.0, 0.5, 0.5)
"""Of a crop, in its sides: the decoder's mesh and 2D joints do not depend on the focal length."""
COMPACT = HandOsConfig(
    width=128, heads=8, points=2, hidden=256, layers_2d=2, layers_interactive=4, coarse_vertices=49,
    feature_channels=FEATURE_CHANNELS, shallow_channels=SHALLOW_CHANNELS, query_channels=QUERY_CHANNELS,
    from_landmarks=True,
)  # fmt: skip
"""The network that ships."""


class LandmarkFeatures:
    """Runs the landmark network on crops and keeps what HandOS needs of it."""

    def __init__(self, device: str = "cpu", threads: int = 2, detail: bool = False):
        """Load the network; `detail` also keeps the finer maps that the mask head wants."""
        program = read_program(WEIGHTS_FOLDER / "hand_landmarks.npz")
        self._taps = TAPS | (DETAIL_TAPS if detail else {})
        program = replace(program, outputs=(*OUTPUTS, *self._taps.values()))
        self._channels_last = device == "cpu"
        self._network: Network = (
            LiteRtNetwork(program, threads) if device == "cpu" else TorchRunner(program, device.replace("torch", "cpu"))
        )

    def read(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Look at crops (N, 224, 224, 3) uint8 RGB.

        Returns:
            landmarks (N, 63) pixels of the crop, world_landmarks (N, 63) metres, presence and handedness (N, 1),
            shallow (N, 80, 14, 14), fine (N, 112, 14, 14), coarse (N, 192, 7, 7), pooled (N, 1152), with detail
            also detail_28 (N, 40, 28, 28) and detail_56 (N, 24, 56, 56); float32.
        """
        values = self._network(crops.astype(np.float32) * np.float32(1 / 255))
        named = dict(zip((*OUTPUTS, *self._taps), values))
        if self._channels_last:
            named = {name: v.transpose(0, 3, 1, 2) if v.ndim == 4 else v for name, v in named.items()}
        return {name: value.reshape(len(crops), -1) if value.ndim != 4 else value for name, value in named.items()}


@dataclass(frozen=True)
class EmbeddedDetection:
    """What the decoder needs of N crops besides maps: one instance each."""

    pooled: np.ndarray
    """(N, 1152)."""
    geometry: np.ndarray
    """(N, 126) both of the network's landmark answers, about their middle."""
    boxes: np.ndarray
    """(N, 4) centre and size, fractions of the crop."""
    landmarks: np.ndarray
    """(N, 21, 2) fractions of the crop."""
    landmarks_3d: np.ndarray
    """(N, 21, 3) metres about their mean."""


def read_instances(features: dict[str, np.ndarray]) -> EmbeddedDetection:
    """Boxes and first landmarks from `LandmarkFeatures.read`."""
    image = features["landmarks"].astype(np.float32).reshape(-1, 21, 3) / np.float32(CROP_SIDE)
    world = features["world_landmarks"].astype(np.float32).reshape(-1, 21, 3)
    points = image[..., :2]
    low, high = points.min(1), points.max(1)
    size = np.maximum((high - low) * np.float32(BOX_MARGIN), np.float32(0.05))
    about = (image - image.mean(1, keepdims=True)) / size.mean(-1)[:, None, None]
    centred = world - world.mean(1, keepdims=True)
    flat = (len(image), -1)
    return EmbeddedDetection(
        features["pooled"].astype(np.float32),
        np.concatenate([about.reshape(flat), 10 * centred.reshape(flat)], 1),
        np.concatenate([(low + high) / 2, size], 1),
        points,
        np.stack([merge_heads(*pair) for pair in zip(image, centred)]),
    )
