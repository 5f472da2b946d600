"""Trackers made of registration libraries: each gets the object's masked pixels and accumulates the motion it finds.

Poses start at a given one; the guess for each frame is the last motion again. A peer that fails keeps that guess.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.geometry import invert_transform, nearest_rigid, pointmap_from_depth, rotation_angle, transform_points

VOXELS_M = (0.008, 0.004, 0.002)
REACH_M = (0.03, 0.015, 0.008)
"""Search radius of the three scales."""
MODEL_POINTS = 60_000


class Registration(Protocol):
    """Finds the motion between two views of the object."""

    name: str

    def motion(self, source: View, target: View, guess: np.ndarray) -> np.ndarray:
        """(4, 4) that carries points of `source` onto `target`."""


class View:
    """The object's pixels in one frame, in the forms that the libraries want; made when first asked for."""

    def __init__(self, frame: RgbdFrame | None, mask: np.ndarray | None, cloud: Any = None) -> None:
        self.intrinsics: CameraIntrinsics | None = frame.intrinsics if frame else None
        self._frame, self._mask, self._cloud = frame, mask, cloud
        self.cache: dict[str, Any] = {}

    @property
    def depth_m(self) -> np.ndarray:
        """(H, W) float32, 0 outside the object."""
        assert self._frame is not None and self._frame.depth_m is not None and self._mask is not None
        return np.where(self._mask, self._frame.depth_m, 0).astype(np.float32)

    def rgbd(self) -> Any:
        """Open3D's tensor RGB-D picture."""
        if "rgbd" not in self.cache:
            o3d = _open3d()
            assert self._frame is not None
            color = o3d.t.geometry.Image(np.ascontiguousarray(self._frame.color, dtype=np.float32) / np.float32(255))
            self.cache["rgbd"] = o3d.t.geometry.RGBDImage(color, o3d.t.geometry.Image(self.depth_m))
        return self.cache["rgbd"]

    def cloud(self) -> Any:
        """Open3D's tensor cloud with colours and normals at the finest scale, camera frame."""
        if self._cloud is None:
            assert self._frame is not None
            points = pointmap_from_depth(self.depth_m, self._frame.intrinsics).reshape(-1, 3)
            kept = points[:, 2] > 0
            self._cloud = make_cloud(points[kept], self._frame.color.reshape(-1, 3)[kept] / np.float32(255))
        return self._cloud


def make_cloud(points: np.ndarray, colors: np.ndarray) -> Any:
    """Thinned cloud with normals towards the origin of its frame."""
    o3d = _open3d()
    cloud = o3d.t.geometry.PointCloud(np.ascontiguousarray(points, np.float32))
    cloud.point.colors = o3d.core.Tensor(np.ascontiguousarray(colors, np.float32))
    cloud = cloud.voxel_down_sample(VOXELS_M[-1])
    if len(cloud.point.positions) >= 10:
        cloud.estimate_normals(30, 0.012)
    return cloud


def _open3d() -> Any:
    import open3d

    return open3d


class RgbdOdometry:
    """Open3D's tensor RGB-D odometry, depth and colour, three scales."""

    name = "Open3D RGB-D odometry"

    def motion(self, source: View, target: View, guess: np.ndarray) -> np.ndarray:
        o3d = _open3d()
        assert source.intrinsics is not None
        odometry = o3d.t.pipelines.odometry
        result = odometry.rgbd_odometry_multi_scale(
            source.rgbd(), target.rgbd(), o3d.core.Tensor(source.intrinsics.matrix), o3d.core.Tensor(guess), 1.0, 3.0,
            [odometry.OdometryConvergenceCriteria(n) for n in (10, 8, 6)], odometry.Method.Hybrid,
        )  # fmt: skip
        return result.transformation.numpy()


class ColoredIcp:
    """Open3D's tensor coloured ICP, three scales."""

    name = "Open3D coloured ICP"

    def motion(self, source: View, target: View, guess: np.ndarray) -> np.ndarray:
        o3d = _open3d()
        registration = o3d.t.pipelines.registration
        result = registration.multi_scale_icp(
            source.cloud(), target.cloud(), o3d.utility.DoubleVector(VOXELS_M),
            [registration.ICPConvergenceCriteria(1e-6, 1e-6, n) for n in (20, 15, 10)],
            o3d.utility.DoubleVector(REACH_M), o3d.core.Tensor(guess),
            registration.TransformationEstimationForColoredICP(),
        )  # fmt: skip
        return result.transformation.numpy()


class SmallGicp:
    """small_gicp's GICP, which uses geometry alone."""

    name = "small_gicp"

    def __init__(self) -> None:
        import small_gicp

        self._library = small_gicp

    def motion(self, source: View, target: View, guess: np.ndarray) -> np.ndarray:
        (target_cloud, target_tree), (source_cloud, _) = self._prepared(target), self._prepared(source)
        result = self._library.align(
            target_cloud, source_cloud, target_tree, guess, registration_type="GICP", max_correspondence_distance=0.02,
            num_threads=2, max_iterations=30,
        )  # fmt: skip
        return np.array(result.T_target_source)

    def _prepared(self, view: View) -> Any:
        if "gicp" not in view.cache:
            points = view.cloud().point.positions.numpy().astype(np.float64)
            view.cache["gicp"] = self._library.preprocess_points(points, 0.002, num_neighbors=15, num_threads=2)
        return view.cache["gicp"]


class RegistrationTracker:
    """Accumulates the motion that a registration finds, against the last frame or against a growing model."""

    def __init__(self, registration: Registration, *, to_model: bool) -> None:
        self._registration, self._to_model = registration, to_model
        self.name = f"{registration.name}, {'frame to model' if to_model else 'frame to frame'}"
        self._pose: np.ndarray | None = None
        self._motion = np.eye(4)
        self._before: View | None = None
        self._model_points = np.zeros((0, 3), np.float32)
        self._model_colors = np.zeros((0, 3), np.float32)

    def track(self, frame: RgbdFrame, mask: np.ndarray, T_camera_object: np.ndarray) -> np.ndarray | None:
        """(4, 4) pose of the object; the first frame takes `T_camera_object`. None while the mask is nearly empty."""
        view = View(frame, mask)
        if (view.depth_m > 0).sum() < 200:
            return None
        if self._pose is None or self._before is None:
            self._pose = np.asarray(T_camera_object, np.float64)
        else:
            guess = self._motion @ self._pose
            found = self._register(view, guess)
            near = found is not None and _is_near(found @ invert_transform(guess))
            # Guesses as well: products of products of poses would leave the rigid motions for good.
            pose = nearest_rigid(found if near and found is not None else guess)
            self._motion, self._pose = pose @ invert_transform(self._pose), pose
        if self._to_model:
            self._grow(view)
        else:
            self._before = view
        return self._pose

    def _register(self, view: View, guess: np.ndarray) -> np.ndarray | None:
        assert self._pose is not None and self._before is not None
        try:
            if self._to_model:
                # Into the model's frame: its tree and normals are then made once a model, not once a frame.
                return invert_transform(self._registration.motion(view, self._before, invert_transform(guess)))
            return self._registration.motion(self._before, view, guess @ invert_transform(self._pose)) @ self._pose
        except RuntimeError:
            return None  # too few matches, as the libraries say it

    def _grow(self, view: View) -> None:
        """Add the frame's points to the model, thinned."""
        assert self._pose is not None
        cloud = view.cloud()
        back = invert_transform(self._pose)
        points = transform_points(back, cloud.point.positions.numpy().astype(np.float64)).astype(np.float32)
        self._model_points = np.concatenate([self._model_points, points])
        self._model_colors = np.concatenate([self._model_colors, cloud.point.colors.numpy()])
        cells = np.floor(self._model_points / VOXELS_M[-1]).astype(np.int64)
        _, first = np.unique(cells @ np.array([1, 1 << 20, 1 << 40]), return_index=True)
        first = np.sort(first)[:MODEL_POINTS]
        self._model_points, self._model_colors = self._model_points[first], self._model_colors[first]
        self._before = View(None, None, make_cloud(self._model_points, self._model_colors))


def _is_near(change: np.ndarray) -> bool:
    """Whether a found pose may be believed; now and then Open3D's coloured ICP turns things by 90 degrees."""
    return bool(np.linalg.norm(change[:3, 3]) < 0.1 and rotation_angle(change[:3, :3]) < np.radians(45))


def registration_peers() -> tuple[list[RegistrationTracker], list[str]]:
    """Every tracker of this kind that can run here, and why others cannot."""
    trackers = [
        RegistrationTracker(RgbdOdometry(), to_model=False),
        RegistrationTracker(ColoredIcp(), to_model=False),
        RegistrationTracker(ColoredIcp(), to_model=True),
    ]
    try:
        trackers.append(RegistrationTracker(SmallGicp(), to_model=False))
        trackers.append(RegistrationTracker(SmallGicp(), to_model=True))
    except ImportError:
        return trackers, ["small_gicp is not installed: pip install small_gicp"]
    return trackers, []
