"""Object tracking on a real RealSense sequence with known camera poses.

    python benchmarks/tracking_realsense.py --data DIR [--overlay OUT_DIR]

DIR holds color/*.png, depth/*.png (mm), cam.json, camera_poses.json (`camera_from_taggrid`), init/*.json (rough
T_camera_object of frame 0) and models/NAME/NAME.obj in metres. The objects rest and the camera moves, so the true
motion of every object in the camera frame is that of the camera poses. The first frame's mask is the convex
hull of the mesh at its rough pose.

The given poses come from a tag grid and fall behind the depth where the camera moves fast: registering the whole
depth scene of a frame with the first one (ICP, from the given pose and from the identity alike) explains far more of
it. Both references are reported, and how far they differ.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import trimesh

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.evaluation.alignment import align_surfaces
from hoi_ros.evaluation.metrics import nearest_distances, sample_surface
from hoi_ros.geometry import invert_transform, pointmap_from_depth, project, rotation_angle, transform_points
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig
from hoi_ros.tracking import ObjectTracker, TrackerConfig

NAMES = ("dragon", "cube")


def load_frames(folder: Path) -> list[RgbdFrame]:
    """Read every frame of the sequence."""
    camera = json.loads((folder / "cam.json").read_text())
    intrinsics = CameraIntrinsics(camera["w"], camera["h"], camera["px"], camera["py"], camera["u0"], camera["v0"])
    frames = []
    for index, path in enumerate(sorted((folder / "color").glob("*.png"))):
        color = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        depth = cv2.imread(str(folder / "depth" / path.name), cv2.IMREAD_UNCHANGED) * np.float32(camera["depthScale"])
        frames.append(
            RgbdFrame(color, intrinsics, round(index * 1e9 / 30), index, depth.astype(np.float32), name=path.name)
        )
    return frames


def start_mask(folder: Path, name: str, frame: RgbdFrame) -> np.ndarray:
    """(H, W) bool: convex hull of the projected mesh at its rough pose."""
    lines = (folder / "models" / name / f"{name}.obj").read_text().splitlines()
    vertices = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], np.float64)
    T_camera_object = np.array(json.loads((folder / "init" / f"{name}.json").read_text()))
    pixels = project(transform_points(T_camera_object, vertices), frame.intrinsics)
    hull = cv2.convexHull(np.round(pixels).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(frame.color.shape[:2], np.uint8), hull, 1) > 0


def register_scenes(frames: list[RgbdFrame], poses: np.ndarray) -> np.ndarray:
    """Camera poses (N, 4, 4) from registering each whole depth scene with the first; printed beside the given ones."""
    import open3d as o3d

    def cloud(frame: RgbdFrame):
        points = pointmap_from_depth(frame.depth_m, frame.intrinsics).reshape(-1, 3)
        points = points[(points[:, 2] > 0.2) & (points[:, 2] < 1.2)].astype(np.float64)
        out = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points)).voxel_down_sample(0.004)
        out.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(0.015, 30))
        return out

    registration = o3d.pipelines.registration
    target, out, fits = cloud(frames[0]), [], []
    for frame, pose in zip(frames, poses):
        source, given = cloud(frame), poses[0] @ invert_transform(pose)
        motion = given
        for distance_m in (0.03, 0.01, 0.005):
            motion = registration.registration_icp(
                source, target, distance_m, motion, registration.TransformationEstimationPointToPlane()
            ).transformation
        fits.append([registration.evaluate_registration(source, target, 0.01, m).fitness for m in (given, motion)])
        out.append(invert_transform(motion) @ poses[0])
    shares = np.array(fits)
    print(
        f"depth within 10 mm of the first frame's: given poses"
        f" {shares[:, 0].mean():.0%} (worst {shares[:, 0].min():.0%}),"
        f" registered {shares[:, 1].mean():.0%} (worst {shares[:, 1].min():.0%})"
    )
    return np.array(out)


def run(folder: Path, name: str, frames: list[RgbdFrame], poses: np.ndarray, overlay: Path | None) -> str:
    """Track one object over the sequence; one line of results."""
    tracker = ObjectTracker(TrackerConfig())
    reconstructor = ObjectReconstructor(ReconstructionConfig(), "cpu")
    first: tuple[np.ndarray, np.ndarray] | None = None
    errors, times, lost = [], [], 0
    for frame, T_camera_grid in zip(frames, poses):
        mask = start_mask(folder, name, frame) if frame.index == 0 else None
        begin = time.perf_counter()
        seen = tracker.track(frame, [], init_mask=mask)
        times.append(1e3 * (time.perf_counter() - begin))
        reconstructor.integrate(frame, seen)
        if overlay:
            overlay.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(overlay / f"{name}_{frame.index:04d}.png"), draw(frame, tracker, seen)[..., ::-1])
        if seen.T_camera_object is None:
            lost += 1
            continue
        first = first or (seen.T_camera_object, T_camera_grid)
        T_first_now = T_camera_grid @ invert_transform(first[1])
        expected = T_first_now @ first[0]
        error = seen.T_camera_object @ invert_transform(expected)
        shift = np.linalg.norm(seen.T_camera_object[:3, 3] - expected[:3, 3])
        errors.append((1e3 * shift, np.degrees(rotation_angle(error[:3, :3]))))
    t, r = np.array(errors).T
    return (
        f"{name:8s} frames {len(frames)} lost {lost}"
        f"  translation mm median {np.median(t):.2f} max {t.max():.2f} end {t[-1]:.2f}"
        f"  rotation deg median {np.median(r):.2f} max {r.max():.2f} end {r[-1]:.2f}"
        f"  ms median {np.median(times):.1f} p95 {np.percentile(times, 95):.1f}"
        f"  mesh {mesh_error(folder, name, reconstructor, first[0]) * 1e3:.2f} mm"
    )


def mesh_error(folder: Path, name: str, reconstructor: ObjectReconstructor, T_camera_model: np.ndarray) -> float:
    """Mean distance in metres of the fused mesh from the given one, aligned rigidly from the rough start pose."""
    fused = reconstructor.extract_mesh()
    if fused is None:
        return float("inf")
    given = trimesh.load(folder / "models" / name / f"{name}.obj", force="mesh")
    target = sample_surface(given.vertices, given.faces, 30000)
    T_camera_given = np.array(json.loads((folder / "init" / f"{name}.json").read_text()))
    source = sample_surface(fused.vertices, fused.faces, 20000)
    pose = align_surfaces(source, target, invert_transform(T_camera_given) @ T_camera_model)
    return float(nearest_distances(transform_points(pose, source), target).mean())


def draw(frame: RgbdFrame, tracker: ObjectTracker, seen) -> np.ndarray:
    """Picture with mask, model points and axes."""
    image = frame.color.copy()
    if seen.mask is not None:
        image[seen.mask] = image[seen.mask] // 2 + np.array([0, 127, 0], np.uint8)
    if seen.T_camera_object is not None and tracker.model is not None:
        for u, v in np.nan_to_num(
            project(transform_points(seen.T_camera_object, tracker.model.points[::20]), frame.intrinsics)
        ):
            cv2.circle(image, (int(u), int(v)), 1, (255, 0, 255), -1)
        corners = np.vstack([np.zeros(3), 0.05 * np.eye(3)])
        ends = project(transform_points(seen.T_camera_object, corners), frame.intrinsics)
        for axis in range(3):
            start, end = (tuple(int(x) for x in p) for p in (ends[0], ends[axis + 1]))
            cv2.line(image, start, end, tuple(int(c) for c in 255 * np.eye(3)[axis]), 2)
    return image


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="object tracking against known camera poses")
    parser.add_argument("--data", type=Path, required=True, help="folder of the sequence")
    parser.add_argument("--overlay", type=Path, help="folder for pictures of every frame")
    options = parser.parse_args()
    frames = load_frames(options.data)
    poses = np.array(json.loads((options.data / "camera_poses.json").read_text())["camera_from_taggrid"])[: len(frames)]
    for label, reference in (("given", poses), ("registered", register_scenes(frames, poses))):
        for name in NAMES:
            print(
                f"against {label:10s} poses:", run(options.data, name, frames, reference, options.overlay), flush=True
            )


if __name__ == "__main__":
    main()
