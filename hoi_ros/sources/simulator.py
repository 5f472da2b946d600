"""`sim[:SCENE[:OBJECT]]`: the simulator behind the face of a source. The one room that knows another."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from hoi_ros.config import make_config, parse_value
from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.camera_file import read_camera_file
from hoi_ros.sources.source import Source
from hoi_ros.sources.source_config import SourceConfig

DEFAULT_SCENE = "rotate"


class SimulatorSource(Source):
    """Simulated colour and depth with exact truth, without end unless `max_frames` says so."""

    has_depth = True

    def __init__(self, scene: str, config: SourceConfig) -> None:
        """Build the scene.

        Args:
            scene: SCENE or SCENE:OBJECT; empty is a hand that turns something.
            config: size, rate and seed; `sim_settings` holds what concerns the simulator alone.

        Raises:
            InputError: unknown scene, object or setting; a value out of range.
        """
        super().__init__(f"sim:{scene or DEFAULT_SCENE}", config)
        from hoi_ros.simulation import Simulator, SimulatorConfig

        values: dict[str, Any] = {
            "width": config.width, "height": config.height, "fps": config.fps, "seed": config.seed,
        }  # fmt: skip
        values.update(_parse_settings(config.sim_settings))
        self.simulator = Simulator(scene or DEFAULT_SCENE, make_config(SimulatorConfig, values, where="simulator"))
        self.fps = self.simulator.config.fps
        self._camera: CameraIntrinsics | None = None
        if config.camera_file:
            camera = read_camera_file(config.camera_file)
            size = self.simulator.config.width, self.simulator.config.height
            self._camera = camera.intrinsics(*size, f"picture of {self.name}")

    @property
    def endless(self) -> bool:
        """Without a limit the scene repeats for ever."""
        return not self.config.max_frames and not self.simulator.config.frames

    def _total_frames(self) -> int | None:
        if self.simulator.config.frames:
            return self.simulator.config.frames
        limit = self.config.max_frames
        return self.config.start_frame + limit if limit else None

    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        index, end = start, self.simulator.config.frames
        while not end or index < end:
            frame = self.simulator.frame(index)
            yield frame if self._camera is None else replace(frame, intrinsics=self._camera)
            index += 1


def _parse_settings(text: str) -> dict[str, Any]:
    """'name=value name=value' as a dict, values read as YAML."""
    values = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not (name and equals):
            raise InputError(f"sim_settings '{part}': write NAME=VALUE, e.g. motion_blur=true")
        values[name] = parse_value(value, f"sim_settings '{part}' (NAME=VALUE)")
    return values
