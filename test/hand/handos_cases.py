"""Small HandOS networks and made-up detections that several tests share."""

from __future__ import annotations

from dataclasses import replace

import torch

from hoi_ros.hand.handos import Detection, HandOs
from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.handos_topology import HandTopology, build_topology
from hoi_ros.hand_model import HandModel

COARSE = 24
TINY = HandOsConfig(
    width=32, heads=4, points=2, hidden=48, layers_2d=1, layers_interactive=2, coarse_vertices=COARSE,
    feature_channels=(12, 16), shallow_channels=(6, 8), query_channels=(10, 14),
)  # fmt: skip
_TOPOLOGIES: dict[int, HandTopology] = {}


def topology(coarse: int = COARSE) -> HandTopology:
    """The free hand's, made once."""
    if coarse not in _TOPOLOGIES:
        _TOPOLOGIES[coarse] = build_topology(HandModel.load(), coarse)
    return _TOPOLOGIES[coarse]


def tiny_network(seed: int = 0, shaken: float = 0.0, **changes) -> HandOs:
    """A tiny network; `shaken` adds noise to every weight, so that answers that start at 0 say something."""
    torch.manual_seed(seed)
    network = HandOs(replace(TINY, **changes), topology(changes.get("coarse_vertices", COARSE)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(shaken * torch.randn_like(parameter))
    return network.eval()


def detection(batch: int = 2, instances: int = 3, seed: int = 1, landmarks: bool = False) -> Detection:
    """Random features and instances with boxes inside the image."""
    make = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=make)

    boxes = torch.cat([torch.rand(batch, instances, 2, generator=make) * 0.4 + 0.3,
                       torch.rand(batch, instances, 2, generator=make) * 0.2 + 0.2], -1)  # fmt: skip
    points = boxes[:, :, None, :2] + (torch.rand(batch, instances, 21, 2, generator=make) - 0.5) * boxes[:, :, None, 2:]
    posed = torch.from_numpy(topology().joints)
    joints = (posed - posed.mean(0)).expand(batch, instances, 21, 3) + 0.003 * noise(batch, instances, 21, 3)
    return Detection(
        (noise(batch, 12, 8, 8), noise(batch, 16, 4, 4)),
        (noise(batch, 6, 16, 16), noise(batch, 8, 8, 8)),
        noise(batch, instances, 10),
        noise(batch, instances, 14),
        boxes,
        torch.rand(batch, instances, generator=make),
        points if landmarks else None,
        joints if landmarks else None,
    )


def camera(batch: int = 2) -> torch.Tensor:
    """(B, 4) of a plain camera."""
    return torch.tensor([1.2, 1.6, 0.5, 0.48]).expand(batch, 4)
