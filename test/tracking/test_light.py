"""Light that stays behind while a round thing turns under it must not hold the thing back."""

import numpy as np
import scenes

from hoi_ros.geometry import invert_transform, rotation_angle
from hoi_ros.tracking import ObjectTracker, TrackerConfig


def lit_cylinder(T: np.ndarray, print_width: float, radius=0.035):
    """A cylinder with one small print or none, lit from the side: bright to dark across its width."""
    depth, print_color = scenes.cylinder_layer(T, radius=radius)
    _, d, o = scenes._rays(T)
    points = o + d * np.where(np.isfinite(depth), depth, 0)[..., None]
    printed = (np.abs(np.arctan2(points[..., 0], -points[..., 2])) < print_width) & (np.abs(points[..., 1]) < 0.02)
    color = np.where(printed[..., None], print_color, np.array([170.0, 165.0, 150.0]))
    to_light = np.array([-0.8, 0.2, -0.55]) @ T[:3, :3]
    light = np.clip((points * [1, 0, 1] / radius) @ to_light, 0, 1)
    return depth, color * (0.2 + 0.8 * light)[..., None]


def follow(print_width: float):
    """Error in degrees and stated sigma in degrees after 20 frames of turning under the light."""
    tracker, first = ObjectTracker(TrackerConfig()), None
    poses = [scenes.pose((0, -12 + 1.2 * index, 0)) for index in range(21)]
    for index, pose in enumerate(poses):
        layer = lit_cylinder(pose, print_width)
        mask = scenes.mask_of(layer) if index == 0 else None
        seen = tracker.track(scenes.frame(layer, index=index), [], init_mask=mask)
        assert seen.state == "tracking"
        first = seen.T_camera_object if first is None else first
    estimate = seen.T_camera_object @ invert_transform(first) @ poses[0]
    error = np.degrees(rotation_angle(estimate[:3, :3] @ poses[-1][:3, :3].T))
    return error, np.degrees(np.sqrt(np.linalg.eigvalsh(seen.covariance[3:, 3:])[-1]))


def test_a_small_print_turns_a_lit_cylinder():
    error, sigma = follow(0.2)
    assert error < 1.5 and error < 3 * sigma


def test_light_alone_is_not_taken_for_print():
    error, sigma = follow(0.0)
    assert sigma > 8 and error < 3 * sigma
