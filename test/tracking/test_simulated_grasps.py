"""Tracking with depth on simulated hands: two hands over one thing, and a part of it that is thin."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from hoi_ros.datatypes import LABEL_OBJECT, RgbdFrame, TriangleMesh
from hoi_ros.evaluation.rendering import MeshRenderer
from hoi_ros.evaluation.surfaces import nearest_distances, sample_surface
from hoi_ros.geometry import invert_transform, pointmap_from_depth, transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import ObjectTracker

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from tracking_simulator import hand_from_truth  # noqa: E402

MODEL = HandModel.load()
FACES = {side: MODEL.faces(side) for side in ("left", "right")}


def simulate(scene: str, seed: int, fps: float) -> Simulator:
    return Simulator(scene, SimulatorConfig(seed=seed, width=320, height=240, fps=fps))


def track(tracker: ObjectTracker, frame: RgbdFrame):
    """An observation from hands as they truly are."""
    assert frame.truth is not None
    hands = [hand_from_truth(hand, frame.intrinsics) for hand in frame.truth.hands if hand.visible_fraction > 0.05]
    return tracker.track(frame, hands, hand_faces=FACES)


def pose_of(frame: RgbdFrame) -> np.ndarray:
    assert frame.truth is not None
    return next(iter(frame.truth.T_camera_object.values()))


def covered_by_each(frame: RgbdFrame, thing: MeshRenderer) -> list[float]:
    """Share of the thing's whole silhouette over which each hand's lies."""
    assert frame.truth is not None
    whole = thing.render(frame.intrinsics, pose_of(frame)).depth_m > 0
    shares = []
    for hand in frame.truth.hands:
        mesh = TriangleMesh(hand.vertices_camera.astype(np.float32), FACES[hand.handedness].astype(np.int32))
        silhouette = MeshRenderer(mesh).render(frame.intrinsics, np.eye(4)).depth_m > 0
        shares.append(float((silhouette & whole).sum() / whole.sum()))
    return shares


def test_two_hands_over_a_thing_leave_its_mask_right_and_are_not_in_it():
    """A hand-over, from before the second hand comes until the first one leaves."""
    simulator, tracker = simulate("handover:bottle", 3, 20), ObjectTracker()
    thing = MeshRenderer(simulator.object_meshes()["bottle"])
    overlap, taken, lost = [], [], 0
    for index in range(54, 114):
        frame = simulator.frame(index)
        seen = track(tracker, frame)
        if index < 60 or min(covered_by_each(frame, thing)) < 0.1:
            continue
        lost += seen.state != "tracking"
        labels = frame.truth.labels
        true = labels == LABEL_OBJECT
        overlap.append((seen.mask & true).sum() / (seen.mask | true).sum())
        taken.append((seen.mask & (labels > LABEL_OBJECT)).sum() / (labels > LABEL_OBJECT).sum())
    assert len(overlap) > 40 and not lost
    assert np.median(overlap) > 0.82 and np.mean(overlap) > 0.78 and np.min(overlap) > 0.45, np.round(overlap, 2)
    assert max(taken) < 0.03 and np.mean(taken) < 0.004, np.round(taken, 3)


def test_a_mug_s_handle_is_in_the_mask_and_in_the_fused_mesh():
    simulator, tracker, reconstructor = simulate("rotate:mug", 0, 8), ObjectTracker(), ObjectReconstructor(device="cpu")
    kept, tie = [], None
    for index in range(52):
        frame = simulator.frame(index)
        seen = track(tracker, frame)
        if seen.T_camera_object is None:
            assert index < 3
            continue
        tie = invert_transform(seen.T_camera_object) @ pose_of(frame) if tie is None else tie
        reconstructor.integrate(frame, seen)
        points = pointmap_from_depth(frame.truth.depth_m, frame.intrinsics).reshape(-1, 3)
        of_handle = on_handle(transform_points(invert_transform(pose_of(frame)), points)).reshape(seen.mask.shape)
        of_handle &= frame.truth.labels == LABEL_OBJECT
        if of_handle.sum() > 100:
            kept.append((seen.mask & of_handle).sum() / of_handle.sum())
    assert len(kept) > 30 and np.median(kept) > 0.8, np.round(kept, 2)
    mug, mesh = simulator.object_meshes()["mug"], reconstructor.extract_mesh(watertight=False)
    handle = sample_surface(mug.vertices, mug.faces, 20000)
    handle = handle[on_handle(handle)]
    found = transform_points(invert_transform(tie), mesh.vertices.astype(np.float64))
    gap = nearest_distances(handle, found)
    assert len(handle) > 500 and (gap < 0.005).mean() > 0.8 and (gap < 0.003).mean() > 0.6, np.percentile(gap, [50, 90])


def on_handle(points: np.ndarray) -> np.ndarray:
    """Which of points (N, 3) in the mug's frame lie outside of its body, a ring 1 cm thick."""
    return np.hypot(points[:, 0], points[:, 1]) > 0.046
