"""Settings that all sources share; each takes the ones that concern it."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting


@dataclass(frozen=True)
class SourceConfig:
    """Where frames come from."""

    camera_file: str = setting("", "JSON file with the camera's intrinsics; overrides what the source says of itself")
    fov_deg: float = setting(
        60.0, "field of view over the longer side, assumed when intrinsics are unknown", low=5.0, high=170.0
    )
    width: int = setting(640, "picture width asked of a camera or the simulator, pixels", low=16, high=8192)
    height: int = setting(480, "picture height asked of a camera or the simulator, pixels", low=16, high=8192)
    fps: float = setting(
        30.0, "rate asked of a camera or the simulator, and assumed for pictures without stamps", low=0.1, high=1000.0
    )
    loop: bool = setting(False, "start a source that ends again from its first frame; stamps run on")
    start_frame: int = setting(0, "frames left out at the beginning of a recording", low=0)
    max_frames: int = setting(0, "frames after which the source ends; 0 takes all", low=0)
    seed: int = setting(0, "seed of the simulator", low=0)
    sim_settings: str = setting("", "more settings of the simulator, as 'motion_blur=true moving_camera=true'")
    color_topic: str = setting("", "colour topic of a bag; empty finds it")
    depth_topic: str = setting("", "depth topic of a bag, aligned to colour; empty finds it")
    open_timeout_s: float = setting(5.0, "how long a camera may take to give its first picture", low=0.1, high=120.0)
    retry_s: float = setting(1.0, "pause between two tries to reach an unplugged camera", low=0.01, high=60.0)
