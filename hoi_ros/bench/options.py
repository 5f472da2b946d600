"""What `hoi bench` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hoi_ros.bench.peers.environment import DEFAULT_FOLDER

TARGETS = ("hands", "tracking", "reconstruction", "interaction", "latency", "growth")


@dataclass(frozen=True)
class BenchOptions:
    """One run."""

    targets: tuple[str, ...] = ("hands", "tracking", "reconstruction")
    data: Path | None = None
    """Folder of real or simulated data; None takes the simulator."""
    dataset: str = ""
    """Layout of `data`; '' goes by the files in it."""
    scenes: tuple[str, ...] = ()
    """Simulator scenes instead of the usual ones."""
    frames: int = 150
    """Frames of each film, and photos of each set, at most; 0 takes all."""
    seed: int = 0
    peers: bool = True
    peers_folder: Path = DEFAULT_FOLDER
    install_peers: bool = False
    device: str = "auto"
    guessed_camera: bool = False
    """Hands: give no intrinsics, as with an unknown camera."""
    out: Path | None = None
    """Folder for tables, plots, sheets and meshes."""
    json: Path | None = None
    quiet: bool = False
    estimators: tuple[str, ...] = ()
    """Hand estimators to measure beside each other, the first one in the whole pipeline too; none takes the default."""
    full: bool = False
    """Many more films of tracking and reconstruction."""
    meshes: Path | None = None
    """`full`: folder of meshes for more films."""
    grasps: Path | None = None
    """`full`: file of captured grasps for more films."""
    tracking_peers: tuple[str, ...] = ()
    """Names of the trackers to compare with; none takes all."""
