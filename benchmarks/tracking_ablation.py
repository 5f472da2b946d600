"""What each idea of the tracker is worth: the same frames and hands with one of them turned off at a time.

    ./hoi python benchmarks/tracking_ablation.py [--scenes rotate:mug grasp:drill ...] [--frames 150]

Rotation in degrees (median / end, and the standard deviation that is stated there), frames without a pose once it was
tracked, and ADD-S AUC to 0.1 m from the first tracked frame on, in which the object's frame is tied to the true one;
then nothing is fitted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

from hoi_ros.datatypes import HandEstimate, ObjectObservation, RgbdFrame
from hoi_ros.evaluation.metrics import sample_surface
from hoi_ros.evaluation.report import pose_report
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import ObjectTracker, TrackerConfig
from hoi_ros.tracking import segmentation as segmentation_module
from hoi_ros.tracking import tracker as tracker_module
from hoi_ros.tracking.grip import Grip
from hoi_ros.tracking.hidden_hands import HiddenHands
from hoi_ros.tracking.keyframes import KeyframeStore
from hoi_ros.tracking.masks import segment_hands
from hoi_ros.tracking.moving_along import MovingAlong
from hoi_ros.tracking.segmentation import Segmentation
from hoi_ros.tracking.track import Track

SCENES = ("rotate:mug", "rotate:bottle", "rotate:box", "grasp:drill", "grasp:spray")
Film = list[tuple[RgbdFrame, list[HandEstimate]]]


def _no_hand_guess(self: Track, hands: list[HandEstimate]) -> list[np.ndarray]:
    return _first_guesses(self, [])


def _without_model(hands, faces, view, skin, model_depth_m, *rest):
    return segment_hands(hands, faces, view, skin, None, *rest)


def _by_rendering_alone(self: Segmentation, patch, not_table, rendered, track) -> np.ndarray:
    return np.abs(patch.depth_m - rendered) < segmentation_module.CLAIMED_M


def _without_last_view(self: Track, rendering, pose):
    last, self.last_view = self.last_view, None
    try:
        return _reference(self, rendering, pose)
    finally:
        self.last_view = last


_first_guesses, _reference = Track.first_guesses, Track.reference


def _only_seen_hands(self: HiddenHands, hands: list[HandEstimate]) -> list[HandEstimate]:
    return list(hands)


def _no_recovery(self: ObjectTracker, frame, depth, hands, faces) -> ObjectObservation:
    return self._lose("not sought", None)


def _nowhere(self, patch, loose, *rest) -> np.ndarray:
    return np.zeros(loose.shape, bool)


IDEAS: dict[str, tuple[Callable[[TrackerConfig], TrackerConfig], tuple]] = {
    "everything on": (lambda c: c, ()),
    "no colour in the alignment": (lambda c: replace(c, color_weight=0.0), ()),
    "no guess from the hand": (lambda c: c, ((Track, "first_guesses", _no_hand_guess),)),
    "no steady turn expected": (lambda c: c, ((Track, "expected_turn", lambda self, frame, guesses: None),)),
    "no last view": (lambda c: c, ((Track, "reference", _without_last_view),)),
    "no keyframes to align with": (lambda c: c, ((KeyframeStore, "nearest", lambda self, pose: None),)),
    "no pose graph": (lambda c: replace(c, graph_frames=0), ()),
    "no second look": (lambda c: c, ((tracker_module, "SUDDEN_DROP", 0.0),)),
    "learn at any turn": (lambda c: replace(c, max_turn_sigma_deg=90.0), ()),
    "never learn at an unsure turn": (lambda c: c, ((tracker_module, "LITTLE_KNOWN", 0.0),)),
    "hand mask without the model": (lambda c: c, ((segmentation_module, "segment_hands", _without_model),)),
    "no parts by moving along": (lambda c: c, ((MovingAlong, "parts", _nowhere),)),
    "no parts by touch": (
        lambda c: c, ((Track, "parts_in_grasp", lambda self, hands, view, mask: np.zeros(mask.shape, bool)),)
    ),
    "no grip": (lambda c: c, ((Grip, "pose", lambda self, hands: None),)),
    "no colours at the table": (lambda c: c, ((Segmentation, "_lying_low", _by_rendering_alone),)),
    "no colours of arms": (lambda c: c, ((Segmentation, "_learn_arm", lambda self, patch, arm: None),)),
    "no hidden hands": (lambda c: c, ((HiddenHands, "with_hidden", _only_seen_hands),)),
    "no memory of what lies beside": (lambda c: c, ((Track, "mark_foreign", lambda self, view, mask, pose: None),)),
    "lost is lost": (lambda c: replace(c, give_up_frames=10**6), ((ObjectTracker, "_recover", _no_recovery),)),
    "no comparison with known objects": (lambda c: replace(c, recognition_frames=0), ()),
}  # fmt: skip
"""Name to the changed settings, and to what else is changed: (owner, attribute, instead)."""


@contextmanager
def without(idea: str) -> Iterator[TrackerConfig]:
    """The settings with one idea turned off, and its code replaced meanwhile."""
    change, replaced = IDEAS[idea]
    with ExitStack() as stack:
        for owner, name, instead in replaced:
            stack.enter_context(patch.object(owner, name, instead))
        yield change(TrackerConfig())


def score(film: Film, faces: dict[str, np.ndarray], surface: np.ndarray, config: TrackerConfig) -> dict[str, float]:
    """Follow a film and compare with its truth from the first tracked frame on."""
    tracker, poses, truths, sigma_deg = ObjectTracker(config), [], [], float("nan")
    for frame, hands in film:
        seen = tracker.track(frame, hands, hand_faces=faces)
        assert frame.truth is not None
        if poses or seen.T_camera_object is not None:
            poses.append(np.full((4, 4), np.nan) if seen.T_camera_object is None else seen.T_camera_object)
            truths.append(next(iter(frame.truth.T_camera_object.values())))
        if seen.covariance is not None:
            sigma_deg = float(np.degrees(np.sqrt(np.linalg.eigvalsh(seen.covariance[3:, 3:])[-1])))
    tracker.close()
    return pose_report(np.stack(poses), np.stack(truths), surface) | {"sigma_deg": sigma_deg}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    parser.add_argument("--ideas", nargs="*", default=list(IDEAS), choices=list(IDEAS), metavar="IDEA")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cells: dict[str, list[str]] = {idea: [] for idea in options.ideas}
    estimator = create_hand_estimator(HandConfig(), "cpu")
    faces = {side: estimator.faces(side) for side in ("left", "right")}
    progress = tqdm(total=len(options.scenes) * len(options.ideas), unit="run")
    for scene in options.scenes:
        simulator = Simulator(scene, SimulatorConfig(seed=options.seed))
        estimator.reset()
        film = [(frame, estimator.estimate(frame)) for frame in map(simulator.frame, range(options.frames))]
        mesh = next(iter(simulator.object_meshes().values()))
        surface = sample_surface(mesh.vertices, mesh.faces, 2000)
        for idea in options.ideas:
            with without(idea) as config:
                report = score(film, faces, surface, config)
            cells[idea].append(
                f"{report['rotation_median_deg']:.1f} / {report['rotation_final_deg']:.1f} "
                f"({report['sigma_deg']:.0f}), {report['missed']}, "
                f"{report['add_s_auc']:.1f}"
            )
            progress.update()
    progress.close()
    estimator.close()
    print(f"| | {' | '.join(options.scenes)} |\n|---|{'---|' * len(options.scenes)}")
    for idea, row in cells.items():
        print(f"| {idea} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
