"""Distance of hands without depth: from landmarks alone, and with the outline of their mask (outline_distance).

    python benchmarks/handos_outline.py [--data DATA] [--frames 40]
    python benchmarks/handos_outline.py --data DATA --photos

With DATA, captured grasps of DATA/grasp_motion on DATA/objects_ycb while they hold something, else the simulator's own
scenes; with --photos the real ones of DATA/hands_real, where one unknown size is shared by all, so that only the
scatter tells. Both ways read the same pictures, in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from handos import nearest_hand
from handos_distance import distance_error_percent

from hoi_ros.datatypes import HandTruth, RgbdFrame
from hoi_ros.evaluation.datasets import HandLabel, open_dataset
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.simulation import Simulator, SimulatorConfig

SCENES = ["bare", "handover", "rotate:mug", "rotate:box", "rotate:drill", "rotate:bottle", "grasp:spray", "grasp:drill"]
MOTIONS = "grasp_motion/dexycb_left_subj01-06.npz"
GRASPS = (222, 277, 53, 284, 11, 75, 187, 42, 157, 71, 174, 176, 77, 179, 102, 103, 32, 233, 109, 260, 124, 276, 271,
          70, 36, 85, 40, 92, 54, 106)  # fmt: skip
LEAST_VISIBLE = 0.2
"""Share of a hand that must show for it to count."""


def played(scene: str, meshes: str, frames: int, seed: int) -> Iterator[tuple[RgbdFrame, list[HandTruth]]]:
    """Frames of a scene without depth, and hands that show; of a captured grasp those frames that hold the thing."""
    simulator = Simulator(scene, SimulatorConfig(seed=seed, object=meshes))
    first, end = 0, frames
    if scene.startswith("replay:"):
        first = round(simulator.scene.held_from_s * simulator.config.fps)
        end = min(2 * simulator.once_frames - first, first + frames)
    for index in range(first, end):
        frame = simulator.frame(index)
        assert frame.truth is not None
        shown = [truth for truth in frame.truth.hands if truth.visible_fraction >= LEAST_VISIBLE]
        yield replace(frame, depth_m=None), shown


def photos(folder: Path) -> Iterator[tuple[RgbdFrame, list[HandLabel]]]:
    """Photos and their hands."""
    for labelled in open_dataset(folder, "hands_real")[0]:
        yield labelled.frame, list(labelled.hands)


def compare(pictures: Iterable[tuple[RgbdFrame, list]], independent: bool) -> tuple[np.ndarray, np.ndarray]:
    """Signed errors (N, 2) in percent without and with the outline, of hands found both ways; milliseconds (M, 2)."""
    configs = [HandConfig(estimator="handos", handos_masks=True, outline_distance=on) for on in (False, True)]
    estimators = [create_hand_estimator(config, "cpu") for config in configs]
    errors, times = [], []
    for frame, truths in pictures:
        answers, took = [], []
        for estimator in estimators:
            start = time.perf_counter()
            answers.append(estimator.estimate(frame, independent=independent))
            took.append(1e3 * (time.perf_counter() - start))
        times.append(took)
        for truth in truths:
            middle = np.asarray(truth.joints_camera, np.float64).mean(0)
            found = [nearest_hand(truth, hands) for hands in answers]
            if all(hand is not None for hand in found):
                errors.append([distance_error_percent(hand.joints_camera.mean(0), middle) for hand in found])
    return np.array(errors, float).reshape(-1, 2), np.array(times)


def row(name: str, errors: np.ndarray, times: np.ndarray) -> str:
    """A Markdown row."""
    cells = [f"{e.mean():+.1f} / {e.std():.1f} / {np.abs(e).mean():.1f}" for e in errors.T]
    return f"| {name} | {len(errors)} | {' | '.join(cells)} | {' / '.join(f'{t:.0f}' for t in np.median(times, 0))} |"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with grasp_motion, objects_ycb and hands_real")
    parser.add_argument("--photos", action="store_true", help="read the photos of DATA/hands_real")
    parser.add_argument("--frames", type=int, default=40, help="of each film")
    parser.add_argument("--seed", type=int, default=3, help="of the simulator's scenes; captured grasps have seed 0")
    options = parser.parse_args()
    print(
        "| | hands | landmarks alone: mean / scatter / mean of size, % | with the outline | ms |\n|---|---|---|---|---|"
    )
    if options.photos:
        if options.data is None:
            parser.error("--photos: give the folder that holds hands_real with --data")
        print(row("photos", *compare(photos(options.data / "hands_real"), True)), flush=True)
        return
    films = [(scene, "", options.seed) for scene in SCENES]
    if options.data is not None:
        films = [(f"replay:{options.data / MOTIONS}#{n}", str(options.data / "objects_ycb"), 0) for n in GRASPS]
    found = []
    for scene, meshes, seed in films:
        errors, times = compare(played(scene, meshes, options.frames, seed), False)
        if len(errors):
            found.append(np.stack([errors.mean(0), errors.std(0), np.abs(errors).mean(0)]))
        print(row(scene.split("#")[-1], errors, times) if len(errors) else f"| {scene} | 0 | - | - | - |", flush=True)
    mean = np.mean(found, axis=0)
    cells = [f"{bias:+.1f} / {scatter:.1f} / {size:.1f}" for bias, scatter, size in mean.T]
    print(f"| mean of {len(found)} | | {' | '.join(cells)} | |")


if __name__ == "__main__":
    main()
