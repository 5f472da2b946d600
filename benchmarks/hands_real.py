"""Hands on real photos: found, handedness, PA-MPJPE without reflection, root-relative and 2D error, mesh and landmarks.

    python benchmarks/hands_real.py --data hands_real

The folder holds `images/*.jpg`, 256x256 crops of one left hand each, and `gt_dev_every4th.npz`: joints_cm (N, 21, 3)
in the camera frame, fx_fy_u0_v0 (N, 4) and bbox_xywh (N, 4) of the crop in the full picture. A missed hand counts as if
its joints all lay at the truth's mean.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.geometry import fit_similarity, project
from hoi_ros.hand import HandConfig, create_hand_estimator


def pa_error(points: np.ndarray, truth: np.ndarray) -> float:
    """Mean joint distance after the best similarity without reflection."""
    scale, rotation, offset = fit_similarity(points, truth)
    return float(np.linalg.norm(scale * points @ rotation.T + offset - truth, axis=1).mean())


def root_relative_error(points: np.ndarray, truth: np.ndarray) -> float:
    """Mean joint distance with the wrists laid on each other."""
    return float(np.linalg.norm((points - points[0]) - (truth - truth[0]), axis=1).mean())


def crop_camera(intrinsics: np.ndarray, box: np.ndarray, side: int = 256) -> CameraIntrinsics:
    """Camera of a crop (x, y, w, h) of the full picture resized to a square."""
    fx, fy, cx, cy = intrinsics
    x, y, width, height = box
    sx, sy = side / width, side / height
    return CameraIntrinsics(side, side, fx * sx, fy * sy, (cx - x + 0.5) * sx - 0.5, (cy - y + 0.5) * sy - 0.5)


def evaluate(folder: Path, guessed_camera: bool, config: HandConfig, device: str) -> None:
    """Print one table."""
    truth = np.load(folder / "gt_dev_every4th.npz")
    estimator = create_hand_estimator(config, device)
    rows: dict[str, list[tuple[float, float, float]]] = {"mesh joints": [], "landmarks": []}
    found, left, times, distance = 0, 0, [], []
    for number, joints_cm, intrinsics, box in zip(
        *(truth[k] for k in ("index", "joints_cm", "fx_fy_u0_v0", "bbox_xywh"))
    ):
        path = folder / "images" / f"{number:05d}.jpg"
        color = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        camera = crop_camera(intrinsics, box)
        joints_mm = joints_cm.astype(np.float64) * 10
        truth_px = project(joints_mm, camera)
        given = CameraIntrinsics.from_fov(256, 256) if guessed_camera else camera
        start = time.perf_counter()
        hands = estimator.estimate(RgbdFrame(color, given, 0), independent=True)
        times.append(time.perf_counter() - start)
        found += bool(hands)
        hand = max(hands, key=lambda h: h.score, default=None)
        left += hand is not None and hand.handedness == "left"
        for name, points in (
            ("mesh joints", hand and hand.joints_camera),
            ("landmarks", hand and hand.landmarks_camera),
        ):
            points_mm = joints_mm.mean(0) + np.zeros((21, 3)) if points is None else points * 1000
            pixels = project(points_mm, given)
            pa = pa_error(points_mm, joints_mm) if hand else float(np.linalg.norm(points_mm - joints_mm, axis=1).mean())
            error_px = float(np.linalg.norm(pixels - truth_px, axis=1).mean())
            rows[name].append((pa, root_relative_error(points_mm, joints_mm), error_px))
        if hand is not None:
            distance.append(abs(float(hand.joints_camera[:, 2].mean()) * 1000 - joints_mm[:, 2].mean()))
    count = len(times)
    print(f"hands found            {found} of {count}")
    print(f"handedness right       {left} of {count}")
    print(f"distance, median error {np.median(distance):.0f} mm")
    print(f"time a picture         {np.median(times) * 1e3:.1f} ms median, {np.percentile(times, 95) * 1e3:.1f} ms p95")
    print(f"{'':14s} PA-MPJPE mm (median)   root-relative mm   2D px of 256")
    for name, values in rows.items():
        pa, root, pixels_ = np.array(values).T
        print(f"{name:14s} {pa.mean():8.2f} ({np.median(pa):.2f})  {root.mean():16.2f} {pixels_.mean():14.2f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and gt_dev_every4th.npz")
    parser.add_argument("--guessed-camera", action="store_true", help="give no intrinsics, as for an unknown camera")
    parser.add_argument("--no-mirror", action="store_true", help="without the mirrored average")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    config = HandConfig(average_mirrored=not arguments.no_mirror)
    evaluate(arguments.data, arguments.guessed_camera, config, arguments.device)


if __name__ == "__main__":
    main()
