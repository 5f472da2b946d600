"""Time the simulator, count in how many of its frames the embedded estimator finds the visible hands, weigh grasps.

python benchmarks/simulator_speed.py [--frames 60] [--seeds 2] [--detect] [--grasp] [--scenes rotate grasp:/a/mesh.glb]
                                     [--camera moving] [--no-speed]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

import numpy as np

from hoi_ros.datatypes import LABEL_OBJECT, HandTruth, RgbdFrame
from hoi_ros.geometry import invert_transform, project, transform_points
from hoi_ros.simulation import Simulator, SimulatorConfig, object_names
from hoi_ros.simulation.raycast import TriangleScene
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


@dataclass
class GraspFigures:
    """Of one film, over the frames in which a hand holds the thing."""

    depths_mm: list[float] = field(default_factory=list)
    """Deepest skin vertex inside the thing, one a holding hand and frame."""
    tips: list[int] = field(default_factory=list)
    """Fingertips within 3 mm of the surface, likewise."""
    hand_in_hand_mm: list[float] = field(default_factory=list)
    """Deepest vertex of either hand inside the other, one a frame with two hands, holding or not."""
    shown_percent: float = 0.0
    """Of the thing's surface, that any of these frames shows."""


def measure_grasp(scene: str, seed: int, count: int, *, moving_camera: bool = False) -> GraspFigures:
    """Depth, touch and shown surface over frames spread over a film.

    Replayed grasps count while the thing is lifted.
    """
    from hoi_ros.simulation.grasp import HandParts, SignedDistance

    config = SimulatorConfig(
        seed=seed, width=320, height=240, depth_noise=False, sensor_noise=0.0, moving_camera=moving_camera
    )
    simulator = Simulator(scene, config)
    item = simulator.scene.item
    assert item is not None
    distance, parts = SignedDistance(item), HandParts(simulator.model, simulator.hand_shape)
    areas, normals = face_areas_normals(item.vertices, item.faces)
    centers = item.vertices[item.faces].mean(1).astype(float)
    seen, figures = np.zeros(len(centers), bool), GraspFigures()
    for index in np.linspace(0, simulator.once_frames, count, endpoint=False).astype(int):
        frame = simulator.frame(index)
        truth = frame.truth
        assert truth is not None
        pose = next(iter(truth.T_camera_object.values()))
        seen |= shown(frame, transform_points(pose, centers), normals @ pose[:3, :3].T)
        for hand in truth.hands:
            gaps = distance(transform_points(invert_transform(pose), hand.vertices_camera))
            tips = np.array([gaps[parts.mask(finger, 3)].min() for finger in range(5)])
            if holds(simulator, index, hand.handedness) and (tips < 0.003).any():
                figures.depths_mm.append(max(0.0, -float(gaps.min())) * 1e3)
                figures.tips.append(int((tips < 0.003).sum()))
        if len(truth.hands) == 2:
            figures.hand_in_hand_mm.append(hand_in_hand_mm(simulator, truth.hands))
    figures.shown_percent = 100 * float(areas[seen].sum() / areas.sum())
    return figures


def hand_in_hand_mm(simulator: Simulator, hands: tuple[HandTruth, ...]) -> float:
    """Deepest vertex of either of two hands inside the other, millimetres; 0 when they are apart."""
    depth = 0.0
    for hand, other in (hands, hands[::-1]):
        inside = TriangleScene(other.vertices_camera, simulator.model.faces(other.handedness))
        depth = max(depth, -float(inside.signed_distance(hand.vertices_camera).min()))
    return depth * 1e3


def distribution(values: list[float]) -> str:
    """How the values of millimetres lie: their percentiles, and the share within each millimetre."""
    if not values:
        return "none"
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    counts = np.histogram(values, [-1, 0.5, 1, 2, 3, 4, np.inf])[0] * 100 / len(values)
    shares = " / ".join(f"{share:.0f}" for share in counts)
    return f"{p50:.1f} | {p90:.1f} | {p99:.1f} | {max(values):.1f} | {shares}"


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
    parser.add_argument("--camera", choices=("static", "moving"), default="static", help="of --grasp")
    parser.add_argument("--no-speed", action="store_true", help="do not time the scenes")
    options = parser.parse_args()
    for scene in () if options.no_speed else options.scenes:
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
        report_grasps(options)


def report_grasps(options: argparse.Namespace) -> None:
    """Table of every thing's grasps, and of all of them together."""
    given = [scene for scene in options.scenes if ":" in scene]
    print(
        "| film | tips that touch (least) | surface shown % | mm into the thing p50 | p90 | p99 | max |"
        " % of holds to 0.5 / 1 / 2 / 3 / 4 / more mm |\n|---|---|---|---|---|---|---|---|"
    )
    total = GraspFigures()
    for scene in given or [f"grasp:{item}" for item in object_names()]:
        for seed in range(options.seeds):
            m = measure_grasp(scene, seed, options.frames, moving_camera=options.camera == "moving")
            name = f"{scene.rsplit('/', 1)[-1]}, seed {seed}"
            print(
                f"| {name} | {np.mean(m.tips):.1f} ({min(m.tips)}) | {m.shown_percent:.0f} |"
                f" {distribution(m.depths_mm)} |",
                flush=True,
            )
            total.depths_mm += m.depths_mm
            total.tips += m.tips
            total.hand_in_hand_mm += m.hand_in_hand_mm
    print(f"| all | {np.mean(total.tips):.1f} ({min(total.tips)}) | | {distribution(total.depths_mm)} |")
    print(f"| one hand into the other | | | {distribution(total.hand_in_hand_mm)} |")


if __name__ == "__main__":
    main()
