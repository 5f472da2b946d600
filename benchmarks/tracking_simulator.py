"""Object tracking on the simulator's `rotate` scenes with sensor noise.

    python benchmarks/tracking_simulator.py [--objects mug bottle box] [--frames 300] [--estimator truth|embedded]

The tracker's object frame is tied to the true one in the first tracked frame; errors are rotation of the object and
translation of its origin from there on. ADD-S AUC up to 0.1 m; a frame without a pose counts as a failure.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from hoi_ros.datatypes import LABEL_OBJECT, HandEstimate, HandTruth, RgbdFrame
from hoi_ros.geometry import invert_transform, make_transform, project, rotation_angle, transform_points
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import ObjectTracker, TrackerConfig


@dataclass
class Score:
    """Errors of one sequence."""

    translation_mm: list[float] = field(default_factory=list)
    rotation_deg: list[float] = field(default_factory=list)
    add_mm: list[float] = field(default_factory=list)
    adds_mm: list[float] = field(default_factory=list)
    overlap: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    started: int | None = None
    lost: int = 0
    turned_deg: float = 0.0


def hand_from_truth(hand: HandTruth, intrinsics) -> HandEstimate:
    """The estimate a perfect hand estimator would give."""
    joints = hand.joints_camera.astype(np.float64)
    pixels = project(joints, intrinsics)
    y = joints[9] - joints[0]
    y /= np.linalg.norm(y)
    x = (joints[5] - joints[17]) * (1 if hand.handedness == "left" else -1)
    x -= y * (x @ y)
    x /= np.linalg.norm(x)
    wrist = make_transform(np.stack([x, y, np.cross(x, y)], 1), joints[0])
    return HandEstimate(
        0 if hand.handedness == "left" else 1, hand.handedness, 1.0, pixels, np.r_[pixels.min(0), pixels.max(0)],
        joints, hand.vertices_camera, wrist, np.tile(np.eye(3), (21, 1, 1)), np.zeros(22), np.zeros(10), 0.001, True,
    )  # fmt: skip


def hand_source(estimator: str):
    """Function from a frame to its hands, and the triangles of their meshes."""
    if estimator == "truth":
        model = HandModel.load()
        faces = {side: model.faces(side) for side in ("left", "right")}
        return lambda frame: [
            hand_from_truth(hand, frame.intrinsics) for hand in frame.truth.hands if hand.visible_fraction > 0.05
        ], faces
    from hoi_ros.hand import HandConfig, create_hand_estimator

    network = create_hand_estimator(HandConfig())
    return network.estimate, {side: network.faces(side) for side in ("left", "right")}


def run(name: str, frames: int, estimator: str, scene: str, seed: int, overlay: Path | None) -> Score:
    """Track one simulated object."""
    simulator = Simulator(f"{scene}:{name}", SimulatorConfig(seed=seed))
    find_hands, faces = hand_source(estimator)
    mesh = next(iter(simulator.object_meshes().values()))
    points = np.asarray(mesh.vertices)[:: max(1, len(mesh.vertices) // 500)].astype(np.float64)
    tracker, score = ObjectTracker(TrackerConfig()), Score()
    T_estimate_true, R_before = None, None
    for index in range(frames):
        frame = simulator.frame(index)
        hands = find_hands(frame)
        begin = time.perf_counter()
        seen = tracker.track(frame, hands, hand_faces=faces)
        score.ms.append(1e3 * (time.perf_counter() - begin))
        truth = next(iter(frame.truth.T_camera_object.values()))
        if overlay and index % 15 == 0:
            overlay.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(overlay / f"{name}_{index:04d}.jpg"), draw(frame, seen, tracker)[..., ::-1])
        if R_before is not None:
            score.turned_deg += float(np.degrees(rotation_angle(truth[:3, :3] @ R_before.T)))
        R_before = truth[:3, :3]
        if seen.T_camera_object is not None and T_estimate_true is None:
            T_estimate_true, score.started = invert_transform(seen.T_camera_object) @ truth, index
        if T_estimate_true is None:
            continue
        if seen.T_camera_object is None:
            score.lost += 1
            print(f"  {name} {index}: {seen.state} {seen.message}", flush=True)
            score.add_mm.append(np.inf)
            score.adds_mm.append(np.inf)
            continue
        add_errors(score, seen, frame, seen.T_camera_object @ T_estimate_true, truth, points)
    return score


def add_errors(score: Score, seen, frame: RgbdFrame, estimate: np.ndarray, truth: np.ndarray, points) -> None:
    """Append one frame's errors."""
    score.translation_mm.append(1e3 * float(np.linalg.norm(estimate[:3, 3] - truth[:3, 3])))
    score.rotation_deg.append(float(np.degrees(rotation_angle(estimate[:3, :3] @ truth[:3, :3].T))))
    there, found = transform_points(truth, points), transform_points(estimate, points)
    score.add_mm.append(1e3 * float(np.linalg.norm(there - found, axis=1).mean()))
    score.adds_mm.append(1e3 * float(cKDTree(found).query(there)[0].mean()))
    true_mask = frame.truth.labels == LABEL_OBJECT
    score.overlap.append(float((seen.mask & true_mask).sum() / max((seen.mask | true_mask).sum(), 1)))


def auc(errors_mm: list[float], limit_mm: float = 100.0) -> float:
    """Area under the accuracy-threshold curve in percent; a lost frame is an infinite error."""
    return 100 * float(np.mean(np.clip(1 - np.array(errors_mm) / limit_mm, 0, 1))) if errors_mm else 0.0


def draw(frame: RgbdFrame, seen, tracker: ObjectTracker) -> np.ndarray:
    """Picture with masks and axes."""
    image = frame.color.copy()
    for mask, color in ((seen.mask, (0, 127, 0)), (seen.hand_mask, (127, 0, 0))):
        if mask is not None:
            image[mask] = image[mask] // 2 + np.array(color, np.uint8)
    if seen.T_camera_object is not None:
        corners = np.vstack([np.zeros(3), 0.05 * np.eye(3)])
        ends = np.nan_to_num(project(transform_points(seen.T_camera_object, corners), frame.intrinsics)).astype(int)
        for axis in range(3):
            color = tuple(int(c) for c in 255 * np.eye(3)[axis])
            cv2.line(image, tuple(map(int, ends[0])), tuple(map(int, ends[axis + 1])), color, 2)
    return image


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="object tracking on simulated grasps")
    parser.add_argument("--objects", nargs="+", default=["box", "bottle", "mug"], help="simulator objects")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--scene", default="rotate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimator", choices=("truth", "embedded"), default="truth")
    parser.add_argument("--overlay", type=Path, help="folder for pictures")
    options = parser.parse_args()
    for name in options.objects:
        s = run(name, options.frames, options.estimator, options.scene, options.seed, options.overlay)
        if s.started is None or not s.rotation_deg:
            print(f"{name}: never started")
            continue
        t, r = np.array(s.translation_mm), np.array(s.rotation_deg)
        print(
            f"{name:8s} {options.estimator} start {s.started} lost {s.lost}/{options.frames}"
            f" turned {s.turned_deg:.0f} deg"
            f"  t mm med {np.median(t):.1f} max {t.max():.1f} end {t[-1]:.1f}"
            f"  R deg med {np.median(r):.1f} max {r.max():.1f} end {r[-1]:.1f}"
            f"  ADD AUC {auc(s.add_mm):.1f} ADD-S AUC {auc(s.adds_mm):.1f}  mask IoU {np.median(s.overlap):.2f}"
            f"  ms med {np.median(s.ms):.0f} p95 {np.percentile(s.ms, 95):.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
