"""The frozen landmark network on batches of crops that never leave their device."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hoi_ros.hand.embedded_features import DETAIL_TAPS, OUTPUTS, TAPS
from hoi_ros.hand.network_torch import TorchNetwork
from hoi_ros.hand.program import WEIGHTS_FOLDER, read_program


class BatchFeatures:
    """`LandmarkFeatures.read` in torch."""

    def __init__(self, device: torch.device | str = "cpu", detail: bool = False):
        """Load the network; `detail` also keeps the finer maps that the mask head wants."""
        self._taps = TAPS | (DETAIL_TAPS if detail else {})
        program = replace(read_program(WEIGHTS_FOLDER / "hand_landmarks.npz"), outputs=OUTPUTS)
        self._network = TorchNetwork(program).eval().requires_grad_(False).to(device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def read(self, images: Tensor) -> dict[str, Tensor]:
        """Look at crops (N, 3, 224, 224) uint8 RGB.

        Returns:
            What `LandmarkFeatures.read` returns, as tensors on the images' device.
        """
        light = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        values = self._network(light, tuple(self._taps.values()))
        named = dict(zip((*OUTPUTS, *self._taps), values))
        return {name: value if value.ndim == 4 else value.reshape(len(images), -1) for name, value in named.items()}
