"""Settings of the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting


@dataclass(frozen=True)
class SimulatorConfig:
    """Simulated camera, hands and things."""

    seed: int = setting(0, "same seed, same pictures", low=0)
    width: int = setting(640, "image width in pixels", low=64, high=4096)
    height: int = setting(480, "image height in pixels", low=48, high=4096)
    fps: float = setting(30.0, "frames per second of simulated time", low=1.0, high=240.0)
    frames: int = setting(0, "frames to give; 0 goes on without end, repeating without a jump", low=0)
    object: str = setting("", "held thing: built-in name or mesh file (replay: or folder); empty: the scene's")
    replay_side: str = setting("left", "replayed hand; right is its mirror image", choices=("left", "right"))
    standing: str = setting("", "things on the table beside: names or mesh files with commas, or how many to pick")
    depth_noise: bool = setting(True, "depth as a stereo camera measures it; false gives exact depth")
    motion_blur: bool = setting(False, "average several moments of the exposure (slower)")
    light_changes: bool = setting(False, "brightness and warmth of the light wander")
    moving_camera: bool = setting(False, "the camera drifts about the scene")
    skin_tone: float = setting(-1.0, "0 light to 1 dark; below 0 draws it from the seed", low=-1.0, high=1.0)
    hand_shape_seed: int = setting(-1, "draws the hand's proportions; below 0 is the mean adult", low=-1)
    sensor_noise: float = setting(2.0, "standard deviation of colour noise, grey levels", low=0.0, high=50.0)
