"""Sizes and variants of the HandOS decoder."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting
from hoi_ros.errors import InputError
from hoi_ros.hand.handos_topology import HandTopology

MASKS = ("a", "b", "c", "d")
ENGINES = ("auto", "numpy", "eager", "trace", "compile", "cuda_graph", "onnx", "tensorrt")
EVIDENCE_CELLS = (4, 8)
"""Pixels of a mask over which the evidence of contact is averaged, near and wider."""
EVIDENCE = 2 * len(EVIDENCE_CELLS)
"""Shares of hand and object at each."""
DILATIONS = (1, 2, 4)
"""Of the mask head's context layers in turn."""
STEP_2D, STEP_3D_M = 0.25, 0.05
"""What a head's answer of 1 means: of the instance's box, and metres."""


@dataclass(frozen=True)
class HandOsConfig:
    """Size of the network; the defaults are the paper's."""

    width: int = setting(256, "channels of a query", low=16, high=4096)
    heads: int = setting(8, "attention heads", low=1, high=64)
    points: int = setting(4, "sampling points a head and level", low=1, high=64)
    hidden: int = setting(1024, "channels inside the feed-forward parts", low=16, high=65536)
    layers_2d: int = setting(2, "decoding layers of joints alone", low=0, high=64)
    layers_interactive: int = setting(
        4, "decoding layers of joints, vertices and camera; 0 is the 2D model", low=0, high=64
    )
    coarse_vertices: int = setting(0, "vertices with a query of their own, the rest is upsampled; 0 is all", low=0)
    mask: str = setting("c", "who sees whom in the interactive layers, the paper's Fig. 8", choices=MASKS)
    feature_channels: tuple[int, ...] = setting(
        (256, 256, 256, 256), "channels of the detector's feature maps", low=1, high=65536
    )
    shallow_channels: tuple[int, ...] = setting(
        (96, 192, 384, 768), "channels of the backbone's maps for side tuning", low=1, high=65536
    )
    query_channels: tuple[int, ...] = setting(
        (256, 256), "channels of the detector's first and last queries", low=1, high=65536
    )
    from_landmarks: bool = setting(False, "start from the detector's own landmarks, and answer by how they change")
    residual_share: float = setting(
        1.0, "how much of the change to the detector's landmarks is believed when running", low=0, high=1
    )
    dropout: float = setting(
        0.0, "share of instance features and of map channels left out in training", low=0, high=0.9
    )
    contact_head: bool = setting(False, "also tell for every vertex whether it touches something")
    mask_channels: int = setting(
        0, "also tell hand, object and background of every pixel, through so many channels", low=0, high=4096
    )
    detail_channels: tuple[int, ...] = setting(
        (), "channels of still finer maps, each twice as wide, for that alone", low=1, high=65536
    )
    mask_context: int = setting(
        0, "layers in which a pixel of the finest map learns of the others, coarser maps included, before that",
        low=0, high=64,
    )  # fmt: skip
    contact_evidence: bool = setting(False, "contact is also told what the mask head sees around the vertex")


def check_config(config: HandOsConfig, topology: HandTopology) -> None:
    """Refuse sizes that do not go together.

    Raises:
        InputError: naming the setting.
    """
    if config.mask not in MASKS:
        raise InputError(f"HandOS mask '{config.mask}': choose one of {', '.join(MASKS)}")
    if config.width % config.heads or config.width % 4:
        raise InputError(f"HandOS width {config.width}: give a multiple of 4 and of heads={config.heads}")
    if not config.feature_channels or len(config.feature_channels) != len(config.shallow_channels):
        raise InputError("HandOS feature_channels and shallow_channels: give as many of one as of the other, and some")
    if len(config.query_channels) != 2:
        raise InputError(f"HandOS query_channels {config.query_channels}: give two, of the first and the last queries")
    if config.coarse_vertices and config.coarse_vertices != len(topology.coarse):
        raise InputError(
            f"HandOS coarse_vertices {config.coarse_vertices}: the hand topology was built with {len(topology.coarse)}"
        )
    if config.contact_evidence and not (config.mask_channels and config.contact_head):
        raise InputError("HandOS contact_evidence: it needs contact_head and mask_channels")
    if config.layers_2d + config.layers_interactive < 1:
        raise InputError("HandOS layers_2d and layers_interactive are both 0: give at least one layer")
