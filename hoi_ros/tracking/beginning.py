"""How an object begins to be followed: it stays in the grasp, or a user marks its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import make_transform
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import FeatureImages, feature_images
from hoi_ros.tracking.masks import grasp_components, main_parts
from hoi_ros.tracking.model import SurfelModel
from hoi_ros.tracking.planes import above_planes
from hoi_ros.tracking.track import Track, View
from hoi_ros.tracking.view_graph import ViewGraph

MARKED_BORDER_PX = 80.0
MIN_SURFELS = 30


class GraspWatch:
    """Looks for something in the grasp, until it has stayed there."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._frames = 0

    def forget(self) -> None:
        """Nothing was held just now."""
        self._frames = 0

    def look(self, hands: Sequence[HandEstimate], view: View) -> tuple[np.ndarray, str]:
        """What is held, (h, w) bool, and why it is not to be followed yet; '' once it has stayed in the grasp."""
        mask = grasp_components(hands, view.candidates, view.patch, self._config)
        if mask.sum() * view.patch.stride**2 < self._config.min_object_px:
            self.forget()
            return mask, "nothing held"
        self._frames += 1
        return mask, "something may be held" if self._frames < self._config.start_frames else ""


def box_around(marked: np.ndarray) -> np.ndarray:
    """Box (4,) px around the marked pixels (H, W) bool, with a border to see what lies beside them."""
    rows, columns = np.nonzero(marked)
    border = MARKED_BORDER_PX * np.array([-1, -1, 1, 1])
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()], float) + border


def marked_mask(marked: np.ndarray, view: View, planes: np.ndarray, config: TrackerConfig) -> np.ndarray:
    """(h, w) bool: the object that a user meant by the marked pixels (H, W) bool, which may be a mere box."""
    patch = view.patch
    mask = patch.cut(marked) & (patch.depth_m > 0) & ~view.hand_mask
    clear = mask & above_planes(patch.points, planes, 0.3 * config.plane_margin_m)
    mask = clear if clear.sum() > 0.4 * mask.sum() else mask
    # A box holds background too: only what lies within an object's size of the middle counts.
    near = np.abs(patch.depth_m - np.median(patch.depth_m[mask])) < config.max_object_size_m / 2
    return main_parts(mask & near, patch)


def first_track(
    object_id: int, view: View, mask: np.ndarray, stamp_ns: int, config: TrackerConfig
) -> tuple[Track, FeatureImages] | None:
    """The first model of masked pixels (h, w), and their colour features; None where too little can be learnt of them.

    The object frame starts at the middle of the mask, with the camera's axes.
    """
    center = view.patch.points[mask].mean(0).astype(np.float64)
    pose = make_transform(np.eye(3), center)
    model = SurfelModel(config)
    features = feature_images(view.patch, mask, float(center[2]))
    if model.fuse(view.patch, mask, features, pose) < MIN_SURFELS:
        return None
    track = Track(object_id, config, model, ViewGraph(config), pose, stamp_ns)
    track.learn_colors(view.patch, mask)
    return track, features
