"""What each idea of the tracker is worth: the same frames and hands with one of them turned off at a time.

    ./hoi python benchmarks/tracking_ablation.py [--scenes rotate:mug grasp:drill ...] [--frames 150] [--ideas ...]

A short film shows alignment and masks. The other ideas need longer ones, in which old sides return (`rotate` has shown
all after 480 frames, `grasp` after 1350), or the courses of `tracking_losses.py`, which lose and exchange the object:

    ... --scenes rotate:bottle rotate:spray --frames 600
    ... --scenes hidden:mug exchanged:mug --frames 400

Printed are rotation in degrees (median / end, and the standard deviation that is stated there); frames without a pose
once it was tracked, also those of another object that is not tracked as one; ADD-S AUC to 0.1 m from the first tracked
frame on, in which the object's frame is tied to the true one, then nothing is fitted; and the mask's median IoU in
percent. A line a cell goes to stderr meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from tracking_ideas import IDEAS, without
from tracking_losses import course

from hoi_ros.datatypes import LABEL_OBJECT, HandEstimate, RgbdFrame
from hoi_ros.evaluation.metrics import sample_surface
from hoi_ros.evaluation.report import pose_report
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.estimator import HandEstimator
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import ObjectTracker, TrackerConfig

SCENES = ("rotate:mug", "rotate:bottle", "rotate:box", "grasp:drill", "grasp:spray")
COURSES = ("hidden", "exchanged")


@dataclass(frozen=True)
class Film:
    """What the tracker is given, and the truth."""

    shots: list[tuple[str, RgbdFrame, list[HandEstimate]]]
    """Frames with their hands; before them 'seen' or 'back', 'hidden' or 'other', see `tracking_losses.course`."""
    faces: dict[str, np.ndarray]
    surface: np.ndarray
    """(N, 3) of the object, metres."""


def shots_of(scene: str, seed: int) -> Iterator[tuple[str, RgbdFrame]]:
    """What happens in each frame of a scene, or of a course such as `hidden:mug`, and the frame."""
    kind, _, name = scene.partition(":")
    if kind not in COURSES:
        simulator = Simulator(scene, SimulatorConfig(seed=seed))
        yield from (("seen", frame) for frame in simulator)
    else:
        for i, (what, frame) in enumerate(course(kind, name, "mug" if name == "box" else "box", seed)):
            yield what, replace(frame, index=i, stamp_ns=int((i + 1) * 1e9 / 30))


def film_of(scene: str, frames: int, seed: int, estimator: HandEstimator) -> Film:
    """Draw a scene or course, at most so many frames, and find its hands."""
    estimator.reset()
    shots = [
        (what, frame, [] if what == "hidden" else estimator.estimate(frame))
        for what, frame in islice(shots_of(scene, seed), frames)
    ]
    kind, _, name = scene.partition(":")
    shown = Simulator(f"rotate:{name}" if kind in COURSES else scene, SimulatorConfig(seed=seed))
    mesh = next(iter(shown.object_meshes().values()))
    faces = {side: estimator.faces(side) for side in ("left", "right")}
    return Film(shots, faces, sample_surface(mesh.vertices, mesh.faces, 2000))


def score(film: Film, config: TrackerConfig) -> str:
    """Follow a film and compare with its truth from the first tracked frame on: a cell of the table."""
    tracker, poses, truths, overlaps = ObjectTracker(config), [], [], []
    own_id, sigma_deg, others_missed = None, float("nan"), 0
    for what, frame, hands in film.shots:
        seen = tracker.track(frame, hands, hand_faces=film.faces)
        if own_id is None and seen.T_camera_object is not None:
            own_id = seen.object_id
        if own_id is None or what == "hidden":
            continue
        if what == "other":
            others_missed += seen.T_camera_object is None or seen.object_id == own_id
            continue
        assert frame.truth is not None
        truths.append(next(iter(frame.truth.T_camera_object.values())))
        if seen.T_camera_object is None or seen.object_id != own_id:
            poses.append(np.full((4, 4), np.nan))
            continue
        poses.append(seen.T_camera_object)
        if seen.mask is not None:
            true_mask = frame.truth.labels == LABEL_OBJECT
            overlaps.append((seen.mask & true_mask).sum() / max((seen.mask | true_mask).sum(), 1))
        if seen.covariance is not None:
            sigma_deg = float(np.degrees(np.sqrt(np.linalg.eigvalsh(seen.covariance[3:, 3:])[-1])))
    tracker.close()
    if not poses:
        return "never tracked"
    report = pose_report(np.stack(poses), np.stack(truths), film.surface)
    return (
        f"{report['rotation_median_deg']:.1f} / {report['rotation_final_deg']:.1f} ({sigma_deg:.0f}), "
        f"{report['missed'] + others_missed}, {report['add_s_auc']:.1f}, {100 * np.median(overlaps):.0f}"
    )


def table(scenes: Sequence[str], ideas: Sequence[str], frames: int, seed: int) -> dict[str, list[str]]:
    """Cells by idea, one a scene; each is told on stderr as soon as it is known."""
    cells: dict[str, list[str]] = {idea: [] for idea in ideas}
    estimator = create_hand_estimator(HandConfig(), "cpu")
    for scene in scenes:
        begin = time.perf_counter()
        film = film_of(scene, frames, seed, estimator)
        _say(f"{scene}: {len(film.shots)} frames drawn", begin)
        for row, idea in enumerate(ideas, 1):
            begin = time.perf_counter()
            with without(idea) as config:
                cells[idea].append(score(film, config))
            _say(f"{scene} {row}/{len(ideas)} {idea}: {cells[idea][-1]}", begin)
    estimator.close()
    return cells


def _say(text: str, begin: float) -> None:
    print(f"{text} [{time.perf_counter() - begin:.0f} s]", file=sys.stderr, flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    parser.add_argument("--ideas", nargs="*", default=list(IDEAS), metavar="IDEA", help="names of the rows")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    unknown = [idea for idea in options.ideas if idea not in IDEAS]
    if unknown:
        parser.exit(2, f"unknown idea '{unknown[0]}': choose of '" + "', '".join(IDEAS) + "'\n")
    cells = table(options.scenes, options.ideas, options.frames, options.seed)
    print(f"| | {' | '.join(options.scenes)} |\n|---|{'---|' * len(options.scenes)}")
    for idea, row in cells.items():
        print(f"| {idea} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
