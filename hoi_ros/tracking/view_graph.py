"""The kept views of an object as a pose graph: grown with the track, solved beside the frames, applied between them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import feature_images
from hoi_ros.tracking.keyframes import Keyframe, KeyframeStore
from hoi_ros.tracking.loops import measured_motion, partners, tracked_motion
from hoi_ros.tracking.masks import dilated
from hoi_ros.tracking.model import SurfelModel
from hoi_ros.tracking.pointmap_motion import MotionEdge
from hoi_ros.tracking.pose_graph import optimise_poses

VIEWS_STAND_FOR = 2
"""Times that a kept view is fused into a model built anew: for the frames around it."""

CONTRADICTION = 3.0
"""Standard deviations by which a believed motion must differ from the present poses before they are corrected."""


@dataclass(frozen=True)
class GraphJob:
    """What the graph knew when it was sent to be solved."""

    views: tuple[Keyframe, ...]
    to_measure: tuple[tuple[Keyframe, Keyframe], ...]
    """Pairs, the view that lends its surface first."""
    edges: dict[tuple[int, int], MotionEdge]
    trusted: frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Correction:
    """A solved graph."""

    edges: dict[tuple[int, int], MotionEdge]
    """Motions that were measured."""
    wrong: frozenset[tuple[int, int]]
    views: dict[int, Keyframe] = field(default_factory=dict)
    """Corrected views by frame number, none when nothing moved by a voxel."""
    before: dict[int, np.ndarray] = field(default_factory=dict)
    """Their poses (4, 4) before."""
    model: SurfelModel | None = None

    def change_near(self, T_camera_object: np.ndarray) -> np.ndarray:
        """(4, 4) by which a pose changes, as T_camera_object @ change: as the view nearest to it did."""
        angles = {
            index: float(rotation_angle(pose[:3, :3] @ T_camera_object[:3, :3].T))
            for index, pose in self.before.items()
        }
        index = min(angles, key=lambda i: (angles[i], -i))
        return invert_transform(self.before[index]) @ self.views[index].T_camera_object

    def take_in(self, view: Keyframe) -> None:
        """Correct a view that came since the graph was sent, as the view nearest to it, and let the model show it."""
        assert self.model is not None
        moved = view.moved(view.T_camera_object @ self.change_near(view.T_camera_object), view.turn_sigma_rad)
        self.before[view.index], self.views[view.index] = view.T_camera_object, moved
        fuse_view(self.model, moved)


class ViewGraph:
    """Keyframes and the motions between them."""

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self.store = KeyframeStore(config)
        self._edges: dict[tuple[int, int], MotionEdge] = {}
        self._trusted: set[tuple[int, int]] = set()
        self._measure: list[tuple[Keyframe, Keyframe]] = []
        self._last: Keyframe | None = None
        self._last_covariance: np.ndarray = np.zeros((3, 3))
        self._job: Future[Correction] | None = None
        self._due = 0

    def broken(self) -> None:
        """The track was lost: no motion leads from the last view to the next."""
        self._last = None

    def observe(
        self, pose: np.ndarray, points: np.ndarray, covariance: np.ndarray, make: Callable[[], Keyframe | None]
    ) -> bool:
        """Take a tracked frame whose turn is known in; returns whether it became a keyframe.

        Args:
            pose: (4, 4) T_camera_object.
            points: (N, 3) what the frame shows, object frame.
            covariance: (3, 3) rad^2 of the turn, object axes.
            make: makes the view, None when it shows too little.
        """
        view = make() if self.store.wants(pose, points) else None
        if view is None:
            return False
        if self._last is not None:
            self._link(self._last, view, covariance - self._last_covariance)
        near = partners(view, self.store.keyframes, self._config.graph_partners)
        self._measure += [(other, view) for other in near]
        self.store.add(view)
        self._last, self._last_covariance = view, covariance
        return True

    def _link(self, first: Keyframe, second: Keyframe, grown: np.ndarray) -> None:
        key = first.index, second.index
        self._edges[key] = tracked_motion(first, second, grown)
        self._trusted.add(key)

    # Solving

    def start(self, frame_count: int, executor: Executor) -> None:
        """Send the graph to be solved when there is something new to measure and no job is under way."""
        if self._job is not None or not self._measure or not self._config.graph_frames:
            return
        now = {k.index: k for k in self.store.keyframes}
        self._edges = {key: edge for key, edge in self._edges.items() if key[0] in now and key[1] in now}
        self._trusted &= set(self._edges)
        tied = {second for _, second in self._trusted}
        for before, view in pairwise(self.store.keyframes):
            if view.index not in tied:  # it came after a loss, or what led to it was dropped
                self._link(before, view, view.turn_sigma_rad**2 * np.eye(3))
        pairs = tuple((now[a.index], now[b.index]) for a, b in self._measure if a.index in now and b.index in now)
        job = GraphJob(tuple(self.store.keyframes), pairs, dict(self._edges), frozenset(self._trusted))
        self._measure, self._due = [], frame_count + self._config.graph_frames
        self._job = executor.submit(solve, job, self._config)

    def finish(self, frame_count: int, *, wait: bool = True) -> Correction | None:
        """The solved graph once, at the frame it is due; later only when it could not be had then.

        A late one first takes in the views that came since it was sent, one a call: by now the object may show sides
        that the graph knows nothing of.

        Args:
            frame_count: number of the present frame.
            wait: wait for a graph that is due, so that results do not hang on the machine's speed; False never waits.
        """
        if self._job is None or frame_count < self._due or not (wait or self._job.done()):
            return None
        correction = self._job.result()
        if correction.views and frame_count > self._due:
            since = [view for view in self.store.keyframes if view.index not in correction.views]
            if since:
                correction.take_in(since[0])
            if since[1:]:
                return None
        self._job = None
        self._edges.update(correction.edges)
        for key in correction.wrong:
            self._edges.pop(key, None)
        if correction.views:
            self.store.move(correction.views)
        if self._last is not None:
            self._last = correction.views.get(self._last.index, self._last)
        return correction


def solve(job: GraphJob, config: TrackerConfig) -> Correction:
    """Measure the motions that are new, solve for all poses, and build the model anew when views moved by a voxel."""
    measured = {}
    for first, second in job.to_measure:
        edge = measured_motion(first, second, [second.T_camera_object], config)
        key = (
            (first.index, second.index) if (first.index, second.index) not in job.edges else (second.index, first.index)
        )
        if edge is not None:
            measured[key] = edge  # the other way round beside the tracked motion of the same two
    edges = job.edges | measured
    row = {view.index: i for i, view in enumerate(job.views)}
    keys = sorted(edges)
    rows = [
        MotionEdge(row[e.first], row[e.second], e.T_first_second, e.information) for e in (edges[key] for key in keys)
    ]
    poses = np.stack([view.T_camera_object for view in job.views])
    result = optimise_poses(poses, rows, [key in job.trusted for key in keys], fixed=0)
    wrong = frozenset(key for key, weight in zip(keys, result.weights) if weight == 0)
    solved = [
        view.moved(pose, min(view.turn_sigma_rad, float(sigma)))
        for view, pose, sigma in zip(job.views, result.poses, result.turn_sigma_rad)
    ]
    # What is within the measurements' own errors is left to the tracker, which sees more than single views do.
    contradicted = bool(((result.weights > 0) & (result.errors_before > CONTRADICTION)).any())
    shifts = [_shift(view, moved) for view, moved in zip(job.views, solved)]
    if not contradicted or max(shifts) < config.voxel_size_m:
        return Correction(measured, wrong)
    before = {view.index: view.T_camera_object for view in job.views}
    return Correction(measured, wrong, {view.index: view for view in solved}, before, model_of(solved, config))


def model_of(views: list[Keyframe], config: TrackerConfig) -> SurfelModel:
    """A surface model from kept views."""
    model = SurfelModel(config)
    for view in views:
        fuse_view(model, view)
    return model


def fuse_view(model: SurfelModel, view: Keyframe) -> None:
    """Let a model learn what a kept view shows; one without pixels says nothing."""
    if view.pixels is None:
        return
    patch, mask = view.pixels.patch(), view.pixels.mask
    features = feature_images(patch, mask, float(np.median(patch.depth_m[mask])))
    clear = mask & ~dilated(view.pixels.hand_mask, 2)
    for _ in range(VIEWS_STAND_FOR):
        model.fuse(patch, clear, features, view.T_camera_object)


def _shift(before: Keyframe, after: Keyframe) -> float:
    """Mean distance in metres that a view's surface moves in the object's frame."""
    change = invert_transform(after.T_camera_object) @ before.T_camera_object
    points = before.cloud.points.astype(np.float64)
    return float(np.linalg.norm(transform_points(change, points) - points, axis=1).mean())
