"""Old views of a thing that colour alone follows, found again: drift since then is taken back.

Its points were placed by then; where they show again the pose is known from them, whatever was drifted since.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.geometry import nearest_rigid, rotation_angle
from hoi_ros.tracking.pointmap_flow import PictureFlow, followed_patches
from hoi_ros.tracking.pointmap_places import mask_at
from hoi_ros.tracking.pointmap_structure import PosePrior, fit_pose, projected

MOST_VIEWS = 24
APART_RAD = np.radians(6.0)
"""Views nearer to a remembered one are not remembered."""
AWAY_RAD, CLOSER_RAD, NEAR_RAD = np.radians(16.0), np.radians(6.0), np.radians(40.0)
"""A view is looked for once the thing was turned so far from it, came so much closer again, and is thought so near."""
FEWEST_POINTS, SHARE, OFTEN_FOLLOWED = 12, 0.3, 0.3
"""As many of a view's points, and this share, must be found; none of it is gained where so many are followed anyway."""
FRAMES_BETWEEN, NEAREST_VIEWS = 2, 3
"""Every so many frames one of so many views is looked for, each in its turn."""
_SIGMA_PX, _FITS_PX, _FITTING_SHARE = 1.5, 4.0, 0.6
_TURN_RAD, _SHIFT_M = np.radians(25.0), np.array([0.02, 0.02, 0.04])


@dataclass
class OldView:
    """A side of the thing as it was followed then."""

    T_camera_object: np.ndarray
    """(4, 4)."""
    points: np.ndarray
    """(M,) numbers of the points seen."""
    pixels: np.ndarray
    """(M, 2)."""
    gray: np.ndarray
    """(H, W) uint8 the whole picture."""
    travelled: float
    """Radians of all turning until then."""
    farthest_rad: float = 0.0
    """How far the thing was turned from here since, at most."""


@dataclass(frozen=True)
class FoundAgain:
    """Where an old view's points lie in the present picture, and the pose they tell."""

    view: OldView
    T_camera_object: np.ndarray
    """(4, 4)."""
    points: np.ndarray
    """(K,) numbers of those that agree."""
    pixels: np.ndarray
    """(K, 2)."""
    share: float
    """Of its points that could be followed to this picture, those that agree."""


class OldViews:
    """Remembers sides, at most MOST_VIEWS, and looks for them when they should show again."""

    def __init__(self) -> None:
        self.views: list[OldView] = []
        self._frames, self._asked = 0, 0

    def remember(
        self, pose: np.ndarray, points: np.ndarray, pixels: np.ndarray, gray: np.ndarray, travelled: float
    ) -> None:
        """Keep a view, unless one near it is kept; the oldest but the first goes where there are too many.

        Args:
            pose: (4, 4) T_camera_object.
            points: (M,) numbers of the points seen. pixels: (M, 2) where.
            gray: (H, W) uint8.
            travelled: radians of all turning until now.
        """
        if len(points) < FEWEST_POINTS or bool((self._angles(pose) < APART_RAD).any()):
            return
        if len(self.views) == MOST_VIEWS:
            del self.views[1]
        self.views.append(OldView(pose.copy(), points, pixels.copy(), gray, travelled))

    def find(
        self, pose: np.ndarray, middle: np.ndarray, points: np.ndarray, alive: np.ndarray, gray: np.ndarray,
        where: np.ndarray, camera: CameraIntrinsics, *, lost: bool = False,
    ) -> FoundAgain | None:  # fmt: skip
        """One of the old views in the present picture; None while none is due, or it is not there.

        Once a frame, or twice where `lost` came first.

        Args:
            pose: (4, 4) where the object is thought to be.
            middle: (3,) metres, object frame: about which it may be turned.
            points: (N, 3) metres, object frame. alive: (N,) bool, those followed now.
            gray: (H, W) uint8.
            where: (H, W) bool where they may show.
            camera: intrinsics.
            lost: nothing can be followed: every near view is due.
        """
        due = self._due(pose, lost)
        if not due:
            return None
        self._asked += 1
        view = due[self._asked % len(due)]
        if view.gray.shape != gray.shape or alive[view.points].mean() > OFTEN_FOLLOWED:
            return None
        known = points[view.points]
        guess = projected(known, pose, camera)[0]
        flow = PictureFlow(view.gray, gray, view.pixels, np.median(guess - view.pixels, axis=0))
        found, good = followed_patches(flow, view.pixels.astype(np.float32), guess.astype(np.float32))
        good &= mask_at(where, found)
        least = max(FEWEST_POINTS, SHARE * len(known))
        if good.sum() < least:
            return None
        prior = PosePrior(pose, _TURN_RAD, _SHIFT_M, middle)
        fit = fit_pose(known[good], found[good], np.full(good.sum(), _SIGMA_PX), prior, camera, pose)
        fits = fit.errors_px < _FITS_PX
        if fits.sum() < max(FEWEST_POINTS, _FITTING_SHARE * good.sum()):
            return None
        view.farthest_rad = 0.0
        pose, index = nearest_rigid(fit.T_camera_object), view.points[good]
        return FoundAgain(view, pose, index[fits], found[good][fits], float(fits.mean()))

    def _due(self, pose: np.ndarray, lost: bool) -> list[OldView]:
        """The nearest views that may show again."""
        angles = self._angles(pose)
        near = [k for k in np.argsort(angles) if angles[k] < NEAR_RAD]
        if not lost:
            for view, angle in zip(self.views, angles):
                view.farthest_rad = max(view.farthest_rad, float(angle))
            self._frames += 1
            if self._frames % FRAMES_BETWEEN:
                return []
            near = [k for k in near if self.views[k].farthest_rad > max(AWAY_RAD, angles[k] + CLOSER_RAD)]
        return [self.views[k] for k in near[:NEAREST_VIEWS]]

    def _angles(self, pose: np.ndarray) -> np.ndarray:
        """(V,) radians that the thing is turned from each view."""
        if not self.views:
            return np.zeros(0)
        return rotation_angle(np.stack([v.T_camera_object[:3, :3] for v in self.views]) @ pose[:3, :3].T)
