"""Time the simulator, and count in how many of its frames the embedded estimator finds the visible hands.

python benchmarks/simulator_speed.py [--frames 60] [--seeds 2] [--detect] [--grasp]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from hoi_ros.geometry import invert_transform, project, transform_points
from hoi_ros.simulation import Simulator, SimulatorConfig, object_names

VISIBLE = 0.3
SCENES = ("rotate", "handover", "bare")


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
    for index in range(min(count, simulator.loop_frames)):
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


def measure_grasp(item: str, seed: int, count: int) -> tuple[float, float, float]:
    """Deepest and median penetration in mm, and least number of fingertips within 3 mm, over the rotate scene."""
    from hoi_ros.simulation.grasp import SignedDistance

    simulator = Simulator(f"rotate:{item}", SimulatorConfig(seed=seed))
    assert simulator.scene.item is not None
    distance = SignedDistance(simulator.scene.item)
    depths, contacts = [], []
    for index in spread_frames(simulator, count):
        state = simulator.scene.at(index / simulator.config.fps)
        hand = state.hands[0]
        pose = simulator.model.pose(hand.joint_angles[None], simulator.hand_shape[None], hand.side)
        to_object = invert_transform(state.T_view_object) @ hand.T_view_wrist
        gaps = distance(transform_points(to_object, pose.vertices[0].astype(float)))
        tips = distance(transform_points(to_object, pose.joints[0][[4, 8, 12, 16, 20]]))
        depths.append(max(0.0, -float(gaps.min())) * 1e3)
        contacts.append(int((tips < 0.016).sum()))
    return max(depths), float(np.median(depths)), min(contacts)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--detect", action="store_true", help="also run the embedded hand estimator")
    parser.add_argument("--grasp", action="store_true", help="also measure penetration and contacts")
    options = parser.parse_args()
    for scene in (*SCENES, "empty"):
        ms = np.concatenate([measure_speed(scene, seed, options.frames) for seed in range(options.seeds)])
        rate = 1e3 / np.median(ms)
        print(f"{scene:9s} median {np.median(ms):6.1f} ms  p95 {np.percentile(ms, 95):6.1f} ms  {rate:5.1f} frames/s")
    if options.detect:
        for scene in SCENES:
            counts = [measure_detection(scene, seed, 10**6) for seed in range(options.seeds)]
            found, visible = np.sum(counts, 0)
            print(
                f"{scene:9s} hands found {found} of {visible} visible ({100 * found / max(1, visible):.1f} %)  {counts}"
            )
    if options.grasp:
        for item in object_names():
            deepest, median, contacts = measure_grasp(item, 0, 48)
            print(f"{item:9s} penetration max {deepest:.1f} mm, median {median:.1f} mm; at least {contacts} tips touch")


if __name__ == "__main__":
    main()
