"""What `live` is going to start, checked whole before anything starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hoi_ros.config import describe_settings, make_config
from hoi_ros.device import resolve_device
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.nodes.foxglove_node import FoxgloveConfig, check_port
from hoi_ros.nodes.node_configs import NODE_CONFIGS, PICTURE_READERS, NodeConfig, core_config, following_parameters
from hoi_ros.nodes.recorder_node import RecorderConfig, check_recording_path

VIEWER_CONFIGS = {"foxglove_node": (NodeConfig, FoxgloveConfig), "recorder_node": (NodeConfig, RecorderConfig)}
LIVE_KINDS = ("realsense", "webcam", "topics")
MESH_NAME = "object.ply"


@dataclass(frozen=True)
class LiveOptions:
    """What the user asked for."""

    source: str = ""
    """Where frames come from; empty takes the first of RealSense, webcam and simulator."""
    device: str = "auto"
    estimator: str = "auto"
    composed: bool = True
    """All nodes in one process, or one process each."""
    foxglove: bool = True
    foxglove_port: int = 8765
    rviz: bool = False
    loop: bool = False
    """Start a file anew when it ends."""
    record: Path | None = None
    """Folder of a new bag."""
    out: Path | None = None
    """Folder for the object's mesh at exit."""
    duration_s: float = 0.0
    """Stop after so long; 0 never."""
    frames: int = 0
    """Stop after so many frames; 0 never."""
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Node name to parameters, as `config.load_parameters` gives them; `**` speaks to every node."""
    quiet: bool = False
    """No status line."""


@dataclass(frozen=True)
class LivePlan:
    """Checked and ready to start."""

    options: LiveOptions
    source: str
    reason: str
    """Which source it is and why."""
    device: str
    parameters: dict[str, dict[str, Any]]
    """Node to its parameters, for every node that starts."""
    rviz: str | None
    """Path of rviz2."""
    mesh_file: Path | None

    @property
    def foxglove_port(self) -> int:
        """Where Foxglove is asked to listen."""
        return self.parameters.get("foxglove_node", {}).get("port", FoxgloveConfig.port)


def make_plan(options: LiveOptions) -> LivePlan:
    """Check everything that can be checked without starting.

    Raises:
        InputError: unknown node, parameter, source or device, unreadable file, port in use, no write permission.
    """
    device = resolve_device(options.device)
    rviz = _find_rviz() if options.rviz else None
    source, reason = _choose_source(options)
    parameters = _node_parameters(options, source)
    # Those of nodes that will not start too: a mistake in a file is a mistake.
    configs = {node: _checked_configs(node, values) for node, values in parameters.items()}
    if not options.foxglove:
        del parameters["foxglove_node"]
    if options.record is None:
        del parameters["recorder_node"]
    mesh_file = _check_out(options.out)
    if mesh_file is not None:
        parameters["reconstruction_node"].setdefault("mesh_file", str(mesh_file))
    if options.record is not None:
        parameters["recorder_node"]["path"] = str(check_recording_path(options.record))
    if options.foxglove:
        check_port(configs["foxglove_node"].host, configs["foxglove_node"].port)
    _check_source(source, configs.get("camera_node"))
    return LivePlan(options, source, reason, device, parameters, rviz, mesh_file)


def _choose_source(options: LiveOptions) -> tuple[str, str]:
    from hoi_ros.sources import default_source
    from hoi_ros.sources.grammar import parse_source

    asked = options.source or str(options.parameters.get("camera_node", {}).get("source", ""))
    if asked:
        parse_source(asked)
        return asked, f"using {asked}, as asked"
    return default_source()


def _node_parameters(options: LiveOptions, source: str) -> dict[str, dict[str, Any]]:
    """Parameters of every node; what the command line leaves at its default does not hide a file's."""
    known = {node: _names(node) for node in (*NODE_CONFIGS, *VIEWER_CONFIGS)}
    for node, values in options.parameters.items():
        if node != "**" and node not in known:
            raise unknown_name("node", node, known)
        for name in values:
            everywhere = set().union(*known.values())
            if name not in (everywhere if node == "**" else known[node]):
                raise InputError(
                    f"{node}: {unknown_name('parameter', name, everywhere if node == '**' else known[node])}"
                )
    out = {}
    for node, names in known.items():
        common = {k: v for k, v in options.parameters.get("**", {}).items() if k in names}
        out[node] = {**common, **options.parameters.get(node, {})}
    out["camera_node"] |= {"source": source}
    if options.loop or source.split(":", 1)[0] == "sim":
        out["camera_node"]["loop"] = True
    if not options.composed:
        recorder = ["recorder_node"] if options.record is not None else []
        out["camera_node"].setdefault("readers", " ".join((*PICTURE_READERS, *recorder)))
    if options.frames:
        out["camera_node"]["max_frames"] = options.frames
    for node in ("hand_node", "tracker_node", "reconstruction_node"):
        _set(out[node], "device", options.device, "auto")
    for node in ("hand_node", "tracker_node"):
        out[node] = following_parameters(source) | out[node]
    _set(out["hand_node"], "estimator", options.estimator, "auto")
    _set(out["foxglove_node"], "port", options.foxglove_port, FoxgloveConfig.port)
    if source == "topics":
        out["recorder_node"].setdefault("camera_best_effort", True)
    return out


def _set(values: dict[str, Any], name: str, value: Any, default: Any) -> None:
    if value != default or name not in values:
        values[name] = value


def _config_classes(node: str) -> tuple[type, ...]:
    return VIEWER_CONFIGS[node] if node in VIEWER_CONFIGS else (*NODE_CONFIGS[node], core_config(node))


def _names(node: str) -> set[str]:
    return {info.name for config in _config_classes(node) for info in describe_settings(config)}


def _checked_configs(node: str, values: Mapping[str, Any]) -> Any:
    """Build every config of a node, which checks types and ranges; returns the last, its own."""
    config: Any = None
    for config_class in _config_classes(node):
        names = {info.name for info in describe_settings(config_class)}
        config = make_config(config_class, {k: v for k, v in values.items() if k in names}, where=node)
    return config


def _check_source(source: str, config: Any) -> None:
    """Open a file source once: what is missing or unreadable shows before anything starts."""
    from hoi_ros.sources import open_source

    kind, _, argument = source.partition(":")
    if kind == "sim":
        from hoi_ros.simulation import SCENES

        # Building a scene takes seconds: its name is what can be wrong.
        scene = argument.split(":", 1)[0]
        if scene and scene not in SCENES:
            raise unknown_name("scene", scene, SCENES)
    elif kind not in LIVE_KINDS:
        open_source(source, config).close()


def _check_out(out: Path | None) -> Path | None:
    if out is None:
        return None
    folder = out.expanduser().absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"output folder {folder}: {existing} is a file, not a folder; give another path")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output folder {folder}: no write permission in {existing}; give another path")
    return folder / MESH_NAME


def _find_rviz() -> str:
    found = shutil.which("rviz2")
    if found is None:
        raise InputError(
            "rviz2 is not on the PATH: source a ROS 2 installation with ros-$ROS_DISTRO-rviz2, or look in Foxglove"
        )
    return found
