"""A stream of views through the pairwise network: which pairs to ask about, and the motions they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hoi_ros.config import setting
from hoi_ros.geometry import invert_transform, make_transform, rotation_angle
from hoi_ros.tracking.pointmap_crop import CropCamera
from hoi_ros.tracking.pointmap_motion import MotionConfig, MotionEdge, fit_motion, fuse_poses


@dataclass(frozen=True)
class StreamConfig:
    """Which pairs are asked about."""

    most_keyframes: int = setting(30, "views that are kept", low=2)
    pairs: int = setting(3, "pairs asked about for each new view", low=1)
    keyframe_angle_deg: float = setting(12.0, "a view this far from every kept one is kept", low=1.0, high=90.0)
    widest_angle_deg: float = setting(60.0, "views farther apart are not asked about", low=1.0, high=180.0)


@dataclass(frozen=True)
class StreamView:
    """One view as the stream keeps it."""

    index: int
    """Frame number."""
    crop: CropCamera
    picture: np.ndarray
    """(S, S, 3) uint8 RGB, background hidden."""
    object_mask: np.ndarray
    """(S, S) bool."""
    depth_m: float
    """Depth of the crop's middle, from the metric hand."""
    T_camera_object: np.ndarray | None = None
    """(4, 4) once it is known."""


@dataclass(frozen=True)
class PairPointmaps:
    """A network's answer for one ordered pair, centred: about the first crop's middle, in half crop sides."""

    first: np.ndarray
    """(S, S, 3)."""
    second: np.ndarray
    """(S, S, 3) second view's pixels in the first view's frame."""
    first_confidence: np.ndarray
    """(S, S)."""
    second_confidence: np.ndarray
    """(S, S)."""


AskPair = Callable[[StreamView, StreamView], PairPointmaps]


def choose_partners(
    kept: Sequence[StreamView], previous: StreamView | None, guess: np.ndarray, config: StreamConfig
) -> list[StreamView]:
    """Views to compare a new one with: the one before, then those that show most of the same side, nearest first.

    Args:
        kept: views with known poses.
        previous: the last view, if its pose is known.
        guess: (4, 4) where the new view is thought to be.
        config: how many, and how far apart.
    """
    chosen = [previous] if previous is not None and previous.T_camera_object is not None else []
    angled = []
    for view in kept:
        if view.T_camera_object is None or any(view.index == c.index for c in chosen):
            continue
        angle = float(np.degrees(rotation_angle(view.T_camera_object[:3, :3] @ guess[:3, :3].T)))
        if angle <= config.widest_angle_deg:
            angled.append((angle, -view.index, view))
    return [*chosen, *(view for _, _, view in sorted(angled, key=lambda a: a[:2]))][: config.pairs]


def pair_motion(first: StreamView, second: StreamView, ask: AskPair, config: MotionConfig) -> MotionEdge | None:
    """The object's motion between two views from both orders of the pair; None when they do not settle it.

    The second view's pixels are known twice: in its own frame and in the first's. Both come in their own half crop
    sides, which the hand's depth makes metres; the similarity between them is the motion.
    """
    there, back = ask(first, second), ask(second, first)
    edges = []
    for reference, other, forward, own in ((first, second, there, back), (second, first, back, there)):
        mask = other.object_mask
        target = _metric(forward.second[mask], reference)
        source = _metric(own.first[mask], other)
        weights = forward.second_confidence[mask] * own.first_confidence[mask]
        fit = fit_motion(source, target, weights, with_scale=True, config=config)
        if fit.converged:
            # The scale is the hand's error, not the object's growth: keep the turn and where the middle goes.
            middle = source[weights > 0].mean(0) if (weights > 0).any() else source.mean(0)
            rotation = fit.T_target_source[:3, :3]
            T = make_transform(rotation, fit.apply(middle[None])[0] - rotation @ middle)
            edges.append((T if reference is first else invert_transform(T), np.linalg.inv(_floored(fit.covariance))))
    if not edges:
        return None
    T_crop, information, _ = fuse_poses([e[0] for e in edges], [e[1] for e in edges])
    turns = [make_transform(view.crop.R_camera_crop, np.zeros(3)) for view in (first, second)]
    return MotionEdge(first.index, second.index, turns[0] @ T_crop @ invert_transform(turns[1]), information)


def place_view(
    view: StreamView, partners: Sequence[StreamView], ask: AskPair, config: MotionConfig
) -> tuple[np.ndarray | None, list[MotionEdge]]:
    """Pose (4, 4) of a new view that its partners agree on, None when none settles it; and the pose graph's edges."""
    edges, poses, informations = [], [], []
    for partner in partners:
        edge = pair_motion(partner, view, ask, config)
        if edge is None or partner.T_camera_object is None:
            continue
        edges.append(edge)
        poses.append(invert_transform(edge.T_first_second) @ partner.T_camera_object)
        informations.append(edge.information)
    if not poses:
        return None, edges
    return fuse_poses(poses, informations)[0], edges


def wants_view(kept: Sequence[StreamView], pose: np.ndarray, config: StreamConfig) -> bool:
    """True when no kept view shows the object from near this side, and there is room."""
    if len(kept) >= config.most_keyframes:
        return False
    angles = [rotation_angle(v.T_camera_object[:3, :3] @ pose[:3, :3].T) for v in kept if v.T_camera_object is not None]
    return not angles or bool(np.degrees(min(angles)) > config.keyframe_angle_deg)


def _metric(points: np.ndarray, view: StreamView) -> np.ndarray:
    """Centred points (N, 3) of a view in metres, crop frame."""
    return points * (view.depth_m * view.crop.half_tangent) + [0, 0, view.depth_m]


def _floored(covariance: np.ndarray) -> np.ndarray:
    """(6, 6) with half a millimetre and a tenth of a degree of doubt at least."""
    return covariance[:6, :6] + np.diag([0.0005**2] * 3 + [0.002**2] * 3)
