"""Hand and object as one rigid thing, judged as SHOWMe does: the union of both surfaces in the object's frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hoi_ros.datatypes import HandEstimate, ObjectObservation, TriangleMesh
from hoi_ros.evaluation.alignment import align_with_scale
from hoi_ros.evaluation.datasets.records import HandLabel
from hoi_ros.evaluation.surfaces import ABSENT_SURFACE, SurfaceErrors, compare_surfaces, sample_surface, triangle_areas
from hoi_ros.geometry import invert_transform, transform_points

SAMPLES, ALIGN_SAMPLES, STARTS = 40_000, 3_000, 60


@dataclass(frozen=True)
class JointErrors:
    """The union and its two parts, all under the one motion that brings union onto union."""

    union: SurfaceErrors
    hand: SurfaceErrors
    object: SurfaceErrors


ABSENT_JOINT = JointErrors(ABSENT_SURFACE, ABSENT_SURFACE, ABSENT_SURFACE)


def hand_in_object(T_camera_object: np.ndarray, vertices_camera: np.ndarray) -> np.ndarray:
    """(V, 3) metres, object frame: where a hand that holds rigidly mostly was, each vertex by its median.

    Args:
        T_camera_object: (N, 4, 4) the object's poses.
        vertices_camera: (N, V, 3) metres, the hand's vertices in the same frames.

    Raises:
        ValueError: no frame, or the numbers of frames differ.
    """
    if not len(T_camera_object) or len(T_camera_object) != len(vertices_camera):
        raise ValueError(
            f"hand_in_object: {len(T_camera_object)} poses and {len(vertices_camera)} hands; give the same frames"
        )
    carried = []
    for pose, vertices in zip(T_camera_object, vertices_camera):
        carried.append(transform_points(invert_transform(np.asarray(pose, np.float64)), vertices))
    return np.median(carried, axis=0)


def joint_errors(
    hand: TriangleMesh | None,
    object_mesh: TriangleMesh | None,
    true_hand: TriangleMesh,
    true_object: TriangleMesh,
    T_true_found: np.ndarray | None = None,
    *,
    starts: int = STARTS,
) -> JointErrors:
    """Accuracy, completeness and F-score of hand and object together, after one similarity without reflection.

    Size and place of the whole are forgiven; where the hand lies on the object, and how large the one is beside the
    other, are not. Surface inside the union, which a scan would not have, counts on both sides. A missing hand or
    object is the worst value. Source: SHOWMe, Swamy et al., ICCV workshops 2023 (F-score at 5 mm).

    Args:
        hand: found hand, in the frame of the found object.
        object_mesh: found object.
        true_hand: true hand, in the frame of the true object.
        true_object: true object.
        T_true_found: (4, 4) known first motion, from which the alignment only descends; None searches through
            `starts` rotations, and may lay a round hand on a round object.
        starts: first rotations of the search, see `align_with_scale`.
    """
    if hand is None or object_mesh is None or not len(hand.faces) or not len(object_mesh.faces):
        return ABSENT_JOINT
    found, found_is_hand = _union_samples(hand, object_mesh, seed=1)
    true, true_is_hand = _union_samples(true_hand, true_object, seed=2)
    if T_true_found is not None:
        found, starts = transform_points(np.asarray(T_true_found, np.float64), found), 0
    scale, rotation, offset = align_with_scale(found[:ALIGN_SAMPLES], true[:ALIGN_SAMPLES], starts=starts)
    found = scale * found @ rotation.T + offset
    return JointErrors(
        compare_surfaces(found, true),
        compare_surfaces(found[found_is_hand], true[true_is_hand]),
        compare_surfaces(found[~found_is_hand], true[~true_is_hand]),
    )


@dataclass
class HeldHands:
    """The hand that holds, found and true, frame by frame."""

    faces: Mapping[str, np.ndarray]
    """(F, 3) of the found hands by side."""
    true_faces: np.ndarray
    """(F, 3) of the true ones."""
    _object_id: int = -1
    _rows: dict[tuple[str, str | None], list[tuple[np.ndarray, ...]]] = field(default_factory=dict)
    """By found and true side: pose, vertices, true pose, true vertices."""

    def add(
        self, seen: ObjectObservation, hands: Sequence[HandEstimate], T_true: np.ndarray, true: Sequence[HandLabel]
    ) -> None:
        """A frame, if the object is tracked in a hand; what was known of an object before is forgotten.

        Args:
            seen: the tracker's answer.
            hands: found hands.
            T_true: (4, 4) the object's true pose.
            true: true hands; the one nearest to the holder is taken for it.
        """
        holder = next((hand for hand in hands if hand.track_id == seen.hand_track_id), None)
        skins = [(hand.side, hand.vertices_camera) for hand in true if hand.vertices_camera is not None]
        if seen.T_camera_object is None or holder is None or not skins:
            return
        if seen.object_id != self._object_id:
            self._object_id, self._rows = seen.object_id, {}
        middle = holder.vertices_camera.mean(0)
        side, skin = min(skins, key=lambda one: float(np.linalg.norm(one[1].mean(0) - middle)))
        row = (seen.T_camera_object, holder.vertices_camera, T_true, skin)
        self._rows.setdefault((holder.handedness, side), []).append(row)

    def errors(self, found: TriangleMesh | None, true: TriangleMesh, T_true_found: np.ndarray) -> JointErrors:
        """Of the pair of hands met most often, with the found and the true object; see `joint_errors`."""
        if found is None or not self._rows:
            return ABSENT_JOINT
        pair = max(self._rows, key=lambda sides: len(self._rows[sides]))
        poses, vertices, true_poses, true_vertices = (np.stack(rows) for rows in zip(*self._rows[pair]))
        hand = TriangleMesh(hand_in_object(poses, vertices).astype(np.float32), self.faces[pair[0]])
        true_hand = TriangleMesh(hand_in_object(true_poses, true_vertices).astype(np.float32), self.true_faces)
        return joint_errors(hand, found, true_hand, true, T_true_found)


def _union_samples(hand: TriangleMesh, object_mesh: TriangleMesh, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (SAMPLES, 3) spread evenly over both surfaces in no order, and which of them are the hand's."""
    areas = [float(triangle_areas(mesh.vertices, mesh.faces).sum()) for mesh in (hand, object_mesh)]
    count = round(SAMPLES * areas[0] / max(sum(areas), 1e-12))
    parts = [
        sample_surface(mesh.vertices, mesh.faces, number, seed)
        for mesh, number in ((hand, count), (object_mesh, SAMPLES - count))
    ]
    points = np.concatenate(parts)
    order = np.random.default_rng(seed).permutation(len(points))
    return points[order], order < len(parts[0])
