"""The followed points of an object and how well they are known: an information filter, adjustment over key views."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import nearest_rigid
from hoi_ros.tracking.pointmap_flow import PictureFlow, followed_patches
from hoi_ros.tracking.pointmap_loops import OldView
from hoi_ros.tracking.pointmap_object import FollowedObject, KeyView
from hoi_ros.tracking.pointmap_structure import Observations, bundle_adjust, pixel_jacobians, projected

MOST_POINTS = 4000
_FIRM_LIMIT = 1 / 0.0007**2
_TURN_SIGMA_RAD, _TURN_SHARE = 0.09, 0.4
"""How far a turn is off from the start, and what share of all turning since: relief that is not known scales it."""
_APART_SHARE = 0.4
"""And what share of the turn by which it is tracked to have left the hand's."""
_DEPTH_SHARE, _ACROSS_SHARE = 0.1, 0.015
"""How far the middle is off along and across its ray, as a share of the distance: hands differ in size by 6 %, and
those whose fingers are hidden are placed 8 % off."""


def followed_points(
    track: FollowedObject, flow: PictureFlow | None, guess: np.ndarray, camera: CameraIntrinsics
) -> tuple[np.ndarray, np.ndarray]:
    """Where the followed points went.

    Args:
        track: the object as of the last frame.
        flow: from the last frame to this one around the points; None where there is none.
        guess: (4, 4) where the object should be now.
        camera: intrinsics.

    Returns:
        (N, 2) pixels, and (N,) bool: followed, and not to the picture's border.
    """
    pixels, fine = track.pixels.copy(), np.zeros(len(track.pixels), bool)
    index = np.flatnonzero(track.alive)
    if not len(index) or flow is None:
        return pixels, fine
    now, before = (projected(track.points[index], pose, camera)[0] for pose in (guess, track.pose))
    old = track.pixels[index].astype(np.float32)
    new, good = followed_patches(flow, old, (old + now - before).astype(np.float32))
    good &= ((new > 8) & (new < np.array(flow.target.shape[::-1]) - 9)).all(1)
    pixels[index], fine[index] = new, good
    return pixels, fine


def point_sigma(track: FollowedObject, index: np.ndarray, pose: np.ndarray, camera: CameraIntrinsics) -> np.ndarray:
    """(N,) pixels: what the points' own uncertainty does to where they show."""
    _, seen = projected(track.points[index], pose, camera)
    jacobian = pixel_jacobians(seen, camera) @ pose[:3, :3]
    covariance = jacobian @ np.linalg.inv(track.information[index]) @ jacobian.transpose(0, 2, 1)
    return np.sqrt(0.7**2 + np.trace(covariance, axis1=1, axis2=2) / 2)


def refine(track: FollowedObject, index: np.ndarray, camera: CameraIntrinsics) -> None:
    """Each followed point takes in where it was just seen: an information filter with doubt about the pose."""
    if not len(index):
        return
    found, seen = projected(track.points[index], track.pose, camera)
    jacobian = pixel_jacobians(seen, camera) @ track.pose[:3, :3]
    error = track.pixels[index] - found
    weight = 1 / (3.0**2 * (1 + (error**2).sum(1) / 9))
    added = np.einsum("n,nij,nik->njk", weight, jacobian, jacobian)
    information = track.information[index] + added
    right = np.einsum("n,nij,ni->nj", weight, jacobian, error)
    track.points[index] += np.linalg.solve(information, right[..., None])[..., 0]
    growth = np.linalg.norm(information, axis=(1, 2), keepdims=True)
    track.information[index] = information * np.minimum(1, _FIRM_LIMIT / growth)


def adjust(track: FollowedObject, window: int, min_points: int, camera: CameraIntrinsics) -> None:
    """Bundle adjustment over the last key views; points and the present pose follow."""
    views = track.keyframes[-window:]
    view = np.concatenate([np.full(len(k.points), i) for i, k in enumerate(views)])
    point = np.concatenate([k.points for k in views])
    pixels = np.concatenate([k.pixels for k in views])
    count = np.bincount(point, minlength=len(track.points))
    chosen = np.flatnonzero(count >= 2)
    if len(chosen) < min_points or len(views) < 2:
        return
    number = np.full(len(track.points), -1)
    number[chosen] = np.arange(len(chosen))
    keep = number[point] >= 0
    before = np.stack([k.T_camera_object for k in views])
    poses, points, information = bundle_adjust(
        before, track.points[chosen], Observations(view[keep], number[point[keep]], pixels[keep]), camera,
        point_prior=track.prior[chosen], point_information=track.prior_information[chosen],
        motion_priors=[k.prior for k in views],
    )  # fmt: skip
    track.points[chosen] = points
    growth = np.linalg.norm(information, axis=(1, 2), keepdims=True)
    track.information[chosen] = information * np.minimum(1, _FIRM_LIMIT / growth)
    for k, pose in zip(views, poses):
        k.T_camera_object = pose
    track.pose = nearest_rigid(poses[-1])


def forget_old(track: FollowedObject, window: int) -> None:
    """Drop key views that are not adjusted any more, and of more than MOST_POINTS points those long out of sight."""
    track.keyframes = track.keyframes[-window:]
    if len(track.points) <= MOST_POINTS:
        return
    used = track.alive.copy()
    kept: list[KeyView | OldView] = [*track.keyframes, *track.old_views.views]
    for view in kept:
        used[view.points] = True
    used[-MOST_POINTS // 2 :] = True
    number = np.cumsum(used) - 1
    for view in kept:
        view.points = number[view.points]
    for name in ("points", "prior", "information", "prior_information", "pixels", "alive"):
        setattr(track, name, getattr(track, name)[used])


def pose_covariance(track: FollowedObject) -> np.ndarray:
    """(6, 6) of the pose: translation (m) of the object's middle, then rotation (rad), camera axes.

    How much too near or far it was when it was met goes with the object as it turns, and then shows as a shift; how
    much too near or far it is now lies along the ray. Both are the hand's, so that without a turn they are one.
    A turn beyond the hand's may be the fingers' or a mistake: the more of it, the less sure.
    """
    turn = track.pose[:3, :3] @ track.met_at[:3, :3].T
    before, now = track.met_at[:3, 3], track.pose[:3, :3] @ track.middle + track.pose[:3, 3]
    distance = float(np.linalg.norm(now))
    ray = now / max(distance, 1e-6)
    carried = turn @ before / distance
    both = np.outer(carried, ray)
    out = np.zeros((6, 6))
    out[:3, :3] = (_DEPTH_SHARE * distance) ** 2 * (
        np.outer(carried, carried) + np.outer(ray, ray) - (both + both.T) / 2
    )
    out[:3, :3] += (_ACROSS_SHARE * distance) ** 2 * np.eye(3)
    turning = float(np.hypot(_TURN_SIGMA_RAD + _TURN_SHARE * track.travelled, _APART_SHARE * track.grip.apart_rad))
    out[3:, 3:] = np.eye(3) * min(turning, np.pi) ** 2
    return out
