"""Settings of the nodes themselves; what they compute has its own (SourceConfig, HandConfig, ...). Needs no ROS."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from hoi_ros.config import describe_settings, setting
from hoi_ros.device import DEVICES


@dataclass(frozen=True)
class NodeConfig:
    """What every node has."""

    autostart: bool = setting(True, "configure and activate at start; false waits for a lifecycle manager")
    diagnostics_period_s: float = setting(1.0, "time between two messages on /diagnostics", low=0.05, high=60.0)


@dataclass(frozen=True)
class CameraNodeConfig:
    """Publishing a source as camera topics."""

    source: str = setting("", "where frames come from, e.g. realsense, webcam:0, video:FILE, bag:PATH, sim:rotate")
    pace: str = setting(
        "realtime",
        "realtime plays files at their rate; consumed waits for the nodes of the same process and drops nothing",
        choices=("realtime", "consumed"),
    )
    rate_hz: float = setting(0.0, "frames a second; 0 takes the source's own", low=0.0, high=1000.0)
    stamps: str = setting(
        "clock", "clock: stamps on the ROS clock; source: as the source gave them", choices=("clock", "source")
    )
    depth_encoding: str = setting("16UC1", "16UC1 is mm, 32FC1 is m", choices=("16UC1", "32FC1"))
    readers: str = setting(
        "", "nodes (names with spaces between) that a file which ends waits for, 30 s at most, before it begins"
    )


@dataclass(frozen=True)
class InputConfig:
    """How a node puts colour and depth topics together."""

    sync_slop_s: float = setting(0.012, "colour and depth this near in time are one frame", low=0.0, high=1.0)
    depth_wait_s: float = setting(0.06, "colour waits so long for its depth", low=0.0, high=5.0)
    info_wait_s: float = setting(1.0, "frames wait so long for camera_info before a camera is guessed", low=0.0)


@dataclass(frozen=True)
class PhotosConfig:
    """Whether pictures have to do with each other."""

    independent: bool = setting(False, "each picture stands alone (a folder of photos): nothing is followed")


@dataclass(frozen=True)
class ComputeConfig:
    """Where a node computes."""

    device: str = setting("auto", "processor of the networks", choices=DEVICES)


@dataclass(frozen=True)
class TrackerNodeConfig:
    """What tracker_node must know of hands that come over topics."""

    hand_model: str = setting("", "the MANO file that hand_node uses; empty for the free hand")


@dataclass(frozen=True)
class ReconstructionNodeConfig:
    """Publishing and saving the object's mesh."""

    mesh_file: str = setting(
        "", "file written by ~/save_mesh and at exit; suffix says PLY, OBJ, GLB or STL; empty: by ~/save_mesh only"
    )
    contact_m: float = setting(0.008, "a hand region this near to the mesh touches it", low=0.0005, high=0.05)


CORE_CONFIGS = {
    "camera_node": ("hoi_ros.sources", "SourceConfig"),
    "hand_node": ("hoi_ros.hand", "HandConfig"),
    "tracker_node": ("hoi_ros.tracking", "TrackerConfig"),
    "reconstruction_node": ("hoi_ros.reconstruction.config", "ReconstructionConfig"),
}
NODE_CONFIGS: dict[str, tuple[type, ...]] = {
    "camera_node": (NodeConfig, CameraNodeConfig),
    "hand_node": (NodeConfig, ComputeConfig, InputConfig, PhotosConfig),
    "tracker_node": (NodeConfig, ComputeConfig, InputConfig, PhotosConfig, TrackerNodeConfig),
    "reconstruction_node": (NodeConfig, ComputeConfig, InputConfig, ReconstructionNodeConfig),
}
"""Node to its own settings; the core's come beside them."""
PICTURE_READERS = ("hand_node", "tracker_node", "reconstruction_node")
"""Nodes that work on the camera's topics."""


def following_parameters(source: str) -> dict[str, bool]:
    """What hand_node and tracker_node must know of a source: photos of a folder are not followed."""
    return {"independent": True} if source.split(":", 1)[0] == "images" else {}


def core_config(node: str) -> type:
    """Config class of what a node computes; imported only when asked for."""
    module, name = CORE_CONFIGS[node]
    return getattr(importlib.import_module(module), name)


def node_parameter_names(node: str) -> set[str]:
    """Every parameter that a node declares."""
    return {info.name for config in (*NODE_CONFIGS[node], core_config(node)) for info in describe_settings(config)}
