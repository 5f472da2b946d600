"""New points to follow on an object: where they are put, and how deep they lie."""

from __future__ import annotations

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import invert_transform, transform_points
from hoi_ros.tracking.pointmap_object import FollowedObject
from hoi_ros.tracking.pointmap_places import unprojected
from hoi_ros.tracking.pointmap_structure import depth_prior_information

_FEWEST_NEIGHBOURS = 6


def free_places(
    track: FollowedObject, gray: np.ndarray, mask: np.ndarray, hand_mask: np.ndarray, step_px: float
) -> np.ndarray:
    """(N, 2) pixels of a grid where the object shows something to follow, and nothing is followed yet.

    Args:
        track: the object.
        gray: (H, W) uint8.
        mask: (H, W) bool of the object. hand_mask: likewise of the hands.
        step_px: spacing of the grid.
    """
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    inner &= cv2.dilate(hand_mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    reach = int(step_px * 0.7)
    for row, column in np.rint(track.pixels[track.alive][:, ::-1]).astype(int):
        inner[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = False
    height, width = gray.shape
    v, u = np.meshgrid(
        np.arange(step_px / 2, height - 1, step_px), np.arange(step_px / 2, width - 1, step_px), indexing="ij"
    )
    places = np.stack([u.ravel(), v.ravel()], 1)
    places = places[inner[places[:, 1].astype(int), places[:, 0].astype(int)]]
    if not len(places):
        return places
    # A flat patch shows no motion: its points would only follow their neighbours' errors.
    strength = cv2.cornerMinEigenVal(gray, 7)[places[:, 1].astype(int), places[:, 0].astype(int)]
    return places[strength > 2e-4]


def followed_depths(track: FollowedObject) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (K, 2) of the followed points, and their depths (K,) in the camera frame."""
    points = track.points[track.alive]
    return track.pixels[track.alive], (points @ track.pose[:3, :3].T + track.pose[:3, 3])[:, 2]


def neighbour_depths(track: FollowedObject, places: np.ndarray, depth_m: float, bulge_m: np.ndarray) -> np.ndarray:
    """Depth (N,) of new points: their nearest followed neighbours', else the grasp's, and rounded like the outline.

    A flat start would leave open which way the thing turns: seen from afar, a hollow turning left moves as a body
    turning right.
    """
    rise = bulge_m[places[:, 1].astype(int), places[:, 0].astype(int)]
    pixels, depths = followed_depths(track)
    if len(pixels) < _FEWEST_NEIGHBOURS:
        return depth_m - rise
    seen = np.rint(pixels).astype(int)
    depths = depths + bulge_m[seen[:, 1], seen[:, 0]]
    distance = np.linalg.norm(places[:, None] - pixels[None], axis=2)
    nearest = np.argsort(distance, axis=1)[:, :5]
    return np.median(depths[nearest], axis=1) - rise


def take_in(
    track: FollowedObject, places: np.ndarray, depths: np.ndarray, sigma_m: float, camera: CameraIntrinsics
) -> None:
    """Follow pixels (N, 2) from now on, believed at depths (N,) to within `sigma_m`."""
    points = transform_points(invert_transform(track.pose), unprojected(places, depths, camera))
    firm = depth_prior_information(track.pose, points, camera, sigma_m)
    track.points = np.concatenate([track.points, points])
    track.prior = np.concatenate([track.prior, points])
    track.information = np.concatenate([track.information, firm])
    track.prior_information = np.concatenate([track.prior_information, firm])
    track.pixels = np.concatenate([track.pixels, places])
    track.alive = np.concatenate([track.alive, np.ones(len(places), bool)])
