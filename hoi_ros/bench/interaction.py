"""Hand and object together, of results made before: place relative to the hand, sinking in, and touch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from hoi_ros.bench.hands import VISIBLE
from hoi_ros.bench.results import Figure, Row
from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation import metrics
from hoi_ros.evaluation.checks import closed_at_holes, open_edges
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.evaluation.matching import match_hands
from hoi_ros.evaluation.predictions import HandRows, Predictions
from hoi_ros.evaluation.summary import summarize
from hoi_ros.geometry import invert_transform, transform_points

WORST_CD_H_CM2 = 200.0
"""CD_h of a missed hand or object: both directions 10 cm off."""
MOST_FRAMES = 60
POINTS = 5000


@dataclass
class _Judge:
    """Figures of every judged hand so far."""

    true_mesh: TriangleMesh
    mesh: TriangleMesh
    solid: metrics.Solid
    true_solid: metrics.Solid
    cd_h: list[float] = field(default_factory=list)
    volumes: list[float] = field(default_factory=list)
    depths_mm: list[float] = field(default_factory=list)
    recalls: list[float] = field(default_factory=list)

    def add(self, label: HandLabel, true_pose: np.ndarray, rows: HandRows, row: int | None, pose: np.ndarray) -> None:
        """Judge one true hand against a found one; `row` None or a pose of NaN is a miss."""
        truth = self._touch(label.vertices_camera, true_pose, self.true_solid)
        if row is None or not np.isfinite(pose).all() or rows.vertices_camera is None:
            self.cd_h.append(float("inf"))
            self.recalls += [0.0] if truth is not None and truth.any() else []
            return
        true_points, points = (
            transform_points(T, metrics.sample_surface(m.vertices, m.faces, POINTS))
            for T, m in ((true_pose, self.true_mesh), (pose, self.mesh))
        )
        assert label.joints_camera is not None
        self.cd_h.append(
            metrics.hand_relative_chamfer_cm2(points, rows.joints_camera[row, 0], true_points, label.joints_camera[0])
        )
        skin = transform_points(invert_transform(pose), rows.vertices_camera[row])
        hand = TriangleMesh(skin.astype(np.float32), rows.faces_of(row))
        solid = metrics.Solid(closed_at_holes(hand) if open_edges(hand) else hand, "hand")
        self.volumes.append(metrics.intersection_volume_cm3(solid, self.solid))
        self.depths_mm.append(metrics.penetration_depth_m(skin, self.solid) * 1e3)
        if truth is not None and truth.any() and len(truth) == len(skin):
            self.recalls.append(metrics.contact_recall(metrics.contact_mask(skin, self.solid), truth))

    @staticmethod
    def _touch(vertices: np.ndarray | None, pose: np.ndarray, solid: metrics.Solid) -> np.ndarray | None:
        if vertices is None:
            return None
        return metrics.contact_mask(transform_points(invert_transform(pose), vertices), solid)

    def figures(self) -> dict[str, Figure]:
        """The row of the table."""
        cd_h = summarize(np.array(self.cd_h), WORST_CD_H_CM2)
        out: dict[str, Figure] = {"hands": cd_h.frames, "missed": cd_h.missed, "cd_h_cm2": cd_h.mean}
        out["cd_h_median_cm2"] = cd_h.median
        if self.volumes:
            out["volume_cm3"] = float(np.mean(self.volumes))
            out["depth_median_mm"], out["depth_max_mm"] = float(np.median(self.depths_mm)), max(self.depths_mm)
        out["contact_recall_percent"] = 100 * float(np.mean(self.recalls)) if self.recalls else None
        return out


def score_interaction(predictions: Predictions, sequence: LabelledSequence, quiet: bool) -> Row:
    """Judge hands and object of a folder of results on up to MOST_FRAMES frames of the labelled film.

    Raises:
        InputError: hands, vertices, poses or mesh are missing, the mesh is not watertight, or nothing is labelled.
    """
    rows, mesh, true_mesh = predictions.hands, predictions.mesh, sequence.object_mesh()
    for there, name in ((rows, "hands.npz"), (predictions.T_camera_object, "object_poses.txt"), (mesh, "object.ply")):
        if there is None:
            raise InputError(f"interaction: expected {name} in {predictions.folder}, and it is not there")
    assert rows is not None and mesh is not None
    if rows.vertices_camera is None:
        raise InputError(
            f"{predictions.folder / 'hands.npz'}: field 'vertices_camera_m' is missing; interaction needs it"
        )
    if true_mesh is None:
        raise InputError(f"interaction: {sequence.name} has no mesh of its object")
    judge = _Judge(
        true_mesh, mesh, metrics.Solid(mesh, str(predictions.folder / "object.ply")),
        metrics.Solid(true_mesh, f"true mesh of {sequence.name}"),
    )  # fmt: skip
    chosen = np.unique(np.linspace(0, len(sequence) - 1, min(MOST_FRAMES, len(sequence))).astype(int))
    items = {int(i): sequence[int(i)] for i in tqdm(chosen, desc="interaction", disable=quiet)}
    poses = predictions.poses_at(np.array([item.frame.stamp_s for item in items.values()]))
    for (index, item), pose in zip(items.items(), poses):
        _frame(judge, item, rows, np.flatnonzero(rows.frame == index), pose)
    if not judge.cd_h:
        raise InputError(f"interaction: no frame of {sequence.name} has both a hand and the object labelled")
    return Row("interaction", sequence.name, predictions.folder.name, judge.figures())


def _frame(judge: _Judge, item: LabelledFrame, rows: HandRows, own: np.ndarray, pose: np.ndarray) -> None:
    labels = [h for h in item.hands if h.joints_camera is not None and h.visible_fraction >= VISIBLE]
    if item.T_camera_object is None or not labels:
        return
    pairs = match_hands([rows.joints_px[i] for i in own], [h.pixels(item.frame.intrinsics) for h in labels])
    for label, pair in zip(labels, pairs):
        judge.add(label, item.T_camera_object, rows, None if pair is None else int(own[pair]), pose)
