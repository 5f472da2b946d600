"""Settings of tracking from colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting


@dataclass(frozen=True)
class ColorTrackerConfig:
    """Tracking of whatever is held without depth."""

    work_px: int = setting(160, "side of the crop in which the object is parted from the rest", low=48, high=640)
    grid_px: float = setting(7.0, "spacing of the pixels that are followed", low=3.0, high=40.0)
    min_object_px: int = setting(250, "fewest pixels of an object", low=50)
    start_frames: int = setting(3, "frames in a row that must show an object in the grasp", low=1, high=60)
    min_points: int = setting(8, "fewest followed points that must agree, else the hand alone carries it", low=4)
    min_likeness: float = setting(
        0.45, "share of its colours that a mask must show that nothing else speaks for", low=0.0, high=1.0
    )
    lost_frames: int = setting(
        3, "frames without a mask, or with a mask elsewhere, that are bridged by the hand's motion", low=0
    )
    inlier_px: float = setting(2.5, "a followed point this near to its projection fits", low=0.3)
    hand_turn_deg: float = setting(4.0, "how far the hand's turn between frames may differ from the object's", low=0.1)
    hand_shift_m: float = setting(0.003, "the same for its shift", low=1e-4)
    depth_sigma_m: float = setting(0.025, "how far the object's surface may lie from the depth of the grasp", low=1e-3)
    network: str = setting(
        "", "file of a pairwise pointmap network; empty for the one that ships, 'none' to go without"
    )
    network_period: int = setting(3, "frames between questions to it while nothing can be followed", low=1)
    network_depth_sigma_m: float = setting(0.01, "how far off its relief is", low=1e-3)
    keyframe_angle_deg: float = setting(8.0, "a view this far from the last key view becomes one", low=1.0, high=90.0)
    window: int = setting(14, "key views adjusted together", low=2, high=40)
    give_up_frames: int = setting(45, "frames lost after which whatever is held counts as a new object", low=1)
