"""The decoder by one of the torch engines, with the face of `NumpyDecoder`."""

from __future__ import annotations

import numpy as np
import torch

from hoi_ros.hand.embedded_detection import detection_from_features
from hoi_ros.hand.engine import create_engine
from hoi_ros.hand.handos_numpy import DecodedArrays
from hoi_ros.hand.handos_weights import network_from
from hoi_ros.hand.weights_file import WeightsFile


class TorchDecoder:
    """Runs a network of any size on any device."""

    def __init__(self, content: WeightsFile, engine: str, device: str):
        self._engine = create_engine(network_from(content), engine, device)

    def __call__(self, features: dict[str, np.ndarray], camera: np.ndarray) -> DecodedArrays:
        """Decode N hands; see `NumpyDecoder`."""
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in features.items()}
        answer = self._engine(detection_from_features(tensors), torch.from_numpy(camera))
        named = (answer.joints_2d, answer.vertices, answer.joints_3d, answer.translation)
        return DecodedArrays(*(x[:, 0].float().cpu().numpy() for x in named))
