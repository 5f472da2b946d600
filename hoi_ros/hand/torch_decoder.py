"""HandOS by one of the torch engines: on arrays, or with the landmark network beside it on one device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hoi_ros.hand.embedded_detection import detection_from_features
from hoi_ros.hand.embedded_features import DETAIL_TAPS, OUTPUTS, TAPS, TYPICAL_CAMERA
from hoi_ros.hand.engine import CudaGraphEngine, CudaGraphs, DecodedBatch, builds_for_shapes, create_engine, to_host
from hoi_ros.hand.handos_numpy import DecodedArrays
from hoi_ros.hand.handos_weights import network_from
from hoi_ros.hand.network_torch import TorchNetwork
from hoi_ros.hand.program import WEIGHTS_FOLDER, read_program
from hoi_ros.hand.weights_file import WeightsFile


class TorchDecoder:
    """Runs a network of any size on arrays of features; see `NumpyDecoder`."""

    def __init__(self, content: WeightsFile, engine: str, device: str = "cpu", masks: bool = False):
        self._engine = create_engine(network_from(content), engine, device, masks=masks)
        self.builds_for_shapes = builds_for_shapes(self._engine)

    def __call__(self, features: dict[str, np.ndarray], camera: np.ndarray) -> DecodedArrays:
        """Decode N hands."""
        tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in features.items()}
        answer = self._engine(detection_from_features(tensors), torch.from_numpy(camera))
        return decoded_arrays(*(x[:, 0] for x in to_host(*named_answers(answer))))


def named_answers(answer: DecodedBatch) -> tuple[Tensor, ...]:
    """An answer's tensors (N, 1, ...) in the order of `DecodedArrays`, those that are there."""
    more = (answer.contact, None if answer.segments is None else answer.segments[:, None])
    named = (answer.joints_2d, answer.vertices, answer.joints_3d, answer.translation, *more)
    return tuple(x for x in named if x is not None)


def decoded_arrays(*arrays: np.ndarray) -> DecodedArrays:
    """Arrays (N, ...) of `named_answers`; segments come as (N, 3, H, W)."""
    answer = DecodedArrays(*arrays[:4])
    if len(arrays) == 4:
        return answer
    contact, segments = arrays[4:]
    return replace(answer, contact=contact, segments=np.ascontiguousarray(segments.transpose(0, 2, 3, 1)))


class DeviceCropReader:
    """Landmark network and decoder on one device: crops go there, hands come back, nothing else is copied."""

    def __init__(self, content: WeightsFile, engine: str, device: str, masks: bool = False):
        """Put both networks there, and record them where the engine records."""
        self._device = torch.device("cpu" if device == "torch" else device)
        program = read_program(WEIGHTS_FOLDER / "hand_landmarks.npz")
        self._taps = TAPS | (DETAIL_TAPS if masks else {})
        program = replace(program, outputs=(*OUTPUTS, *self._taps.values()))
        self._network = TorchNetwork(program).eval().requires_grad_(False).to(self._device)
        self._engine = create_engine(network_from(content), engine, device, masks=masks)
        self.builds_for_shapes = builds_for_shapes(self._engine)
        recorded = isinstance(self._engine, CudaGraphEngine)
        self._look = CudaGraphs(self._features, self._device) if recorded else self._features
        self._kept: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    @torch.inference_mode()
    def __call__(self, crops: np.ndarray) -> tuple[DecodedArrays, np.ndarray]:
        """Read crops (N, 224, 224, 3) uint8 RGB: hands, and how surely each is one (N,)."""
        there, cameras = self._carry(crops)
        values = self._look(there)
        detection = detection_from_features(dict(zip((*OUTPUTS, *self._taps), values)))
        answer = self._engine(detection, cameras)
        *arrays, presence = (x[:, 0] for x in to_host(*named_answers(answer), detection.scores))
        return decoded_arrays(*arrays), presence

    def _features(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Outputs and inner tensors of the landmark network, flat but for maps."""
        values = self._network(crops.permute(0, 3, 1, 2).float() * (1 / 255))
        return tuple(v if v.dim() == 4 and v.shape[-1] > 1 else v.flatten(1) for v in values)

    def _carry(self, crops: np.ndarray) -> tuple[Tensor, Tensor]:
        """Crops and their cameras on the device, in memory that is kept for each number of crops."""
        count, on_gpu = len(crops), self._device.type == "cuda"
        if count not in self._kept:
            here = torch.empty(crops.shape, dtype=torch.uint8, pin_memory=on_gpu)
            cameras = torch.tensor([TYPICAL_CAMERA] * count, dtype=torch.float32, device=self._device)
            self._kept[count] = here, torch.empty_like(here, device=self._device), cameras
        here, there, cameras = self._kept[count]
        here.copy_(torch.from_numpy(crops))
        there.copy_(here, non_blocking=True)
        return there, cameras
