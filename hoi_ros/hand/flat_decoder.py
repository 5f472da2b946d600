"""The HandOS decoder with plain tensors in and out, as the engines run, record and export it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hoi_ros.hand.handos import Detection, HandOs, HandOsOutput


@dataclass(frozen=True)
class DecodedBatch:
    """The last layer's answer for B crops or images, without what only training needs."""

    joints_2d: Tensor
    """(B, K, 21, 2) fractions of the image."""
    vertices: Tensor
    """(B, K, V, 3) metres."""
    joints_3d: Tensor
    """(B, K, 21, 3) metres."""
    translation: Tensor
    """(B, K, 3) metres."""
    contact: Tensor | None = None
    """(B, K, V) logits that a vertex touches something, where masks were asked for."""
    segments: Tensor | None = None
    """(B, 3, H, W) logits of background, hand, object, where masks were asked for."""


class FlatDecoder(nn.Module):
    """The decoder with plain tensors in and out, as exporters want it; with `masks` contact and segments too."""

    def __init__(self, network: HandOs, masks: bool = False):
        super().__init__()
        self.network, self.masks = network, masks
        self.levels, self.landmarks = len(network.config.feature_channels), network.config.from_landmarks

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `flatten`; joints_2d, vertices, joints_3d, translation, with masks 2 more."""
        n = self.levels
        first, last, boxes, scores = tensors[2 * n : 2 * n + 4]
        more = tensors[2 * n + 4 : -1]
        landmarks, landmarks_3d = (more[0], more[1]) if self.landmarks else (None, None)
        details = more[2 * self.landmarks :] if self.masks else ()
        detection = Detection(
            tensors[:n], tensors[n : 2 * n], first, last, boxes, scores, landmarks, landmarks_3d, details
        )
        output: HandOsOutput = self.network(detection, tensors[-1], every_layer=False)[-1]
        assert output.vertices is not None and output.joints_3d is not None and output.translation is not None
        answer = (output.joints_2d, output.vertices, output.joints_3d, output.translation)
        if not self.masks:
            return answer
        assert output.contact is not None and output.segments is not None
        return (*answer, output.contact, output.segments)


class HalfDecoder(FlatDecoder):
    """The same in half precision: autocast is inside, so that an exported graph has its casts."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See `FlatDecoder`."""
        with torch.autocast(tensors[0].device.type, torch.float16):
            return super().forward(*tensors)


def flatten(detection: Detection, camera: Tensor) -> tuple[Tensor, ...]:
    """A detection's tensors in order, finer maps after all others, the camera last."""
    named = (detection.first_queries, detection.last_queries, detection.boxes, detection.scores)
    more = [x for x in (detection.landmarks, detection.landmarks_3d) if x is not None]
    return (*detection.features, *detection.shallow, *named, *more, *detection.details, camera)


def example(
    network: HandOs, batch: int = 1, device: str = "cpu", instances: int = 1, masks: bool = False
) -> tuple[Detection, Tensor]:
    """A made-up detection of the network's size, for warming up, exporting and comparing; `masks` adds finer maps."""
    config, make = network.config, torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make).to(device)

    sides = [
        14 // 2**level if config.from_landmarks else 40 // 2**level for level in range(len(config.feature_channels))
    ]
    shallow = [14] * len(sides) if config.from_landmarks else sides
    shape = (batch, instances)
    boxes = torch.tensor([0.5, 0.5, 0.6, 0.6], device=device).expand(*shape, 4)
    rest = torch.from_numpy(network.topology.joints).to(device)
    joints = (rest - rest.mean(0)).expand(*shape, 21, 3) + 0.004 * noise(*shape, 21, 3)
    detection = Detection(
        tuple(noise(batch, c, s, s) for c, s in zip(config.feature_channels, sides)),
        tuple(noise(batch, c, s, s) for c, s in zip(config.shallow_channels, shallow)),
        noise(*shape, config.query_channels[0]),
        noise(*shape, config.query_channels[1]),
        boxes.contiguous(),
        torch.ones(shape, device=device),
        (0.5 + 0.1 * noise(*shape, 21, 2)) if config.from_landmarks else None,
        joints if config.from_landmarks else None,
        tuple(noise(batch, c, s, s) for c, s in zip(config.detail_channels, (2 * sides[0], 4 * sides[0])) if masks),
    )
    return detection, torch.tensor([[3.0, 3.0, 0.5, 0.5]], device=device).expand(batch, 4).contiguous()
