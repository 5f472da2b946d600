"""Time the simulator, count in how many of its frames the embedded estimator finds the visible hands, weigh grasps.

python benchmarks/simulator_speed.py [--frames 60] [--seeds 2] [--detect] [--grasp] [--scenes rotate grasp:/a/mesh.glb]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from hoi_ros.datatypes import LABEL_OBJECT, RgbdFrame
from hoi_ros.geometry import invert_transform, project, transform_points
from hoi_ros.simulation import Simulator, SimulatorConfig, object_names
from hoi_ros.simulation.scene_grasp import GraspScene
from hoi_ros.simulation.scene_replay import ReplayScene
from hoi_ros.simulation.surface import face_areas_normals

VISIBLE = 0.3
SCENES = ("rotate", "handover", "bare", "grasp")


def spread_frames(simulator: Simulator, count: int) -> list[int]:
    """Frame numbers spread evenly over the loop."""
    return [int(k * simulator.loop_frames / count) for k in range(count)]


def measure_speed(scene: str, seed: int, count: int) -> np.ndarray:
    """Milliseconds a frame, as the sources ask for them: one after another."""
    simulator = Simulator(scene, SimulatorConfig(seed=seed))
    simulator.frame(0)
    times = []
    for index in spread_frames(simulator, count):
        start = time.perf_counter()
        simulator.frame(index)
        times.append((time.perf_counter() - start) * 1e3)
    return np.array(times)


def measure_detection(scene: str, seed: int, count: int) -> tuple[int, int]:
    """Hands found and hands visible, over consecutive frames of one loop taken at about 10 Hz."""
    from hoi_ros.hand import HandConfig, create_hand_estimator

    simulator = Simulator(scene, SimulatorConfig(seed=seed, fps=10.0))
    estimator = create_hand_estimator(HandConfig())
    found = visible = 0
    for index in range(min(count, simulator.once_frames)):
        frame = simulator.frame(index)
        assert frame.truth is not None
        hands = estimator.estimate(frame)
        for truth in frame.truth.hands:
            if truth.visible_fraction < VISIBLE:
                continue
            visible += 1
            pixels = project(truth.joints_camera, frame.intrinsics)
            size = float(np.ptp(pixels, axis=0).max())
            errors = [np.linalg.norm(h.joints_px - pixels, axis=1).mean() / size for h in hands]
            found += bool(errors) and min(errors) < 0.25
    estimator.close()
    return found, visible


def measure_grasp(scene: str, seed: int, count: int) -> dict[str, float]:
    """Penetration (mm), fingertips within 3 mm, and share of the surface shown (%), over the moments of a rigid hold.

    Replayed grasps count while the thing is lifted.
    """
    from hoi_ros.simulation.grasp import HandParts, SignedDistance

    config = SimulatorConfig(seed=seed, width=320, height=240, depth_noise=False, sensor_noise=0.0)
    simulator = Simulator(scene, config)
    item = simulator.scene.item
    assert item is not None
    distance, parts = SignedDistance(item), HandParts(simulator.model, simulator.hand_shape)
    areas, normals = face_areas_normals(item.vertices, item.faces)
    centers = item.vertices[item.faces].mean(1).astype(float)
    seen = np.zeros(len(centers), bool)
    depths, contacts = [], []
    for index in np.linspace(0, simulator.once_frames, count, endpoint=False).astype(int):
        frame = simulator.frame(index)
        truth = frame.truth
        assert truth is not None
        pose = next(iter(truth.T_camera_object.values()))
        seen |= shown(frame, transform_points(pose, centers), normals @ pose[:3, :3].T)
        for hand in truth.hands:
            gaps = distance(transform_points(invert_transform(pose), hand.vertices_camera))
            tips = np.array([gaps[parts.mask(finger, 3)].min() for finger in range(5)])
            if holds(simulator, index, hand.handedness):
                depths.append(max(0.0, -float(gaps.min())) * 1e3)
                contacts.append(int((tips < 0.003).sum()))
    p50, p90 = np.percentile(depths, [50, 90])
    return {
        "p50": p50, "p90": p90, "max": max(depths), "tips": float(np.mean(contacts)), "least": min(contacts),
        "shown": 100 * areas[seen].sum() / areas.sum(),
    }  # fmt: skip


def holds(simulator: Simulator, index: int, side: str) -> bool:
    """True when this hand holds the thing in this frame."""
    scene, time = simulator.scene, index / simulator.config.fps
    if isinstance(scene, GraspScene):
        return side in {hold.side for hold in scene.held_by(time)}
    return not isinstance(scene, ReplayScene) or scene.holding[min(round(time * 30), len(scene.holding) - 1)] > 0.9


def shown(frame: RgbdFrame, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(N,) bool: surface points (N, 3) in the camera frame that the picture shows."""
    assert frame.truth is not None
    pixels = np.round(np.nan_to_num(project(points, frame.intrinsics), nan=-9)).astype(int)
    size = np.array([frame.intrinsics.width, frame.intrinsics.height])
    inside = ((pixels >= 0) & (pixels < size)).all(1)
    x, y = np.clip(pixels, 0, size - 1).T
    near = np.abs(frame.truth.depth_m[y, x] - points[:, 2]) < 0.005
    return inside & near & (frame.truth.labels[y, x] == LABEL_OBJECT) & (np.einsum("ij,ij->i", normals, points) < 0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--detect", action="store_true", help="also run the embedded hand estimator")
    parser.add_argument("--grasp", action="store_true", help="also measure penetration and contacts")
    parser.add_argument("--scenes", nargs="+", default=[*SCENES], help="scenes to time, search for hands and weigh")
    options = parser.parse_args()
    for scene in options.scenes:
        ms = np.concatenate([measure_speed(scene, seed, options.frames) for seed in range(options.seeds)])
        rate = 1e3 / np.median(ms)
        print(f"{scene:9s} median {np.median(ms):6.1f} ms  p95 {np.percentile(ms, 95):6.1f} ms  {rate:5.1f} frames/s")
    if options.detect:
        for scene in options.scenes:
            counts = [measure_detection(scene, seed, 10**6) for seed in range(options.seeds)]
            found, visible = np.sum(counts, 0)
            print(
                f"{scene:9s} hands found {found} of {visible} visible ({100 * found / max(1, visible):.1f} %)  {counts}"
            )
    if options.grasp:
        given = [scene for scene in options.scenes if ":" in scene]
        for scene in given or [f"grasp:{item}" for item in object_names()]:
            m = measure_grasp(scene, 0, options.frames)
            print(
                f"{scene[-30:]:30s} penetration p50 {m['p50']:.1f} p90 {m['p90']:.1f} max {m['max']:.1f} mm; "
                f"tips that touch {m['tips']:.1f} (least {m['least']}); {m['shown']:.0f} % of the surface shown"
            )


if __name__ == "__main__":
    main()
