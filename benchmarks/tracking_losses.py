"""What is lost and found again: whole grasps, a board that hides everything, and things that are exchanged.

    ./hoi python benchmarks/tracking_losses.py [--objects mug box ...] [--courses hidden ...]

Three courses of each object, made of simulator films; hands are estimated:

    grasp      lifted, shown, put down, taken otherwise, shown, handed over, shown and put down
    hidden     `rotate`, three times hidden by a board for 20 frames, in which it goes on to turn
    exchanged  `rotate`, then the next object for 140 frames, then the first one again, turned to and fro

Printed are the frames lost once tracked, how long each hiding or exchange cost beyond itself, the ids, and the errors
of the poses against the truth, tied at the first tracked frame alone: an object that returns is not tied anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.evaluation.metrics import sample_surface
from hoi_ros.evaluation.report import pose_report
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.estimator import HandEstimator
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import ObjectTracker

HIDDEN_FRAMES, SHOWN_FRAMES = 20, 50
FIRST_FRAMES, SECOND_FRAMES, THIRD_FRAMES = 70, 140, 150
BOARD_M = 0.25


@dataclass
class _Course:
    """What was said of each frame that shows the first object."""

    poses: list[np.ndarray] = field(default_factory=list)
    truths: list[np.ndarray] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    """Rows from which it was in view again."""
    other_ids: list[int] = field(default_factory=list)

    def row(self, surface: np.ndarray) -> str:
        """Cells of the table."""
        tracked = np.isfinite(np.array(self.poses)).all((1, 2))
        start = int(np.argmax(tracked))
        own = self.ids[start] if tracked.any() else -1
        right = tracked & (np.array(self.ids) == own)
        report = pose_report(
            np.where(right[start:, None, None], np.array(self.poses)[start:], np.nan),
            np.array(self.truths)[start:],
            surface,
        )
        waits = [str(int(np.argmax(right[at:]))) if right[at:].any() else "never" for at in self.returned]
        mine, others = ("/".join(map(str, sorted({i for i in ids if i >= 0}))) for ids in (self.ids, self.other_ids))
        return (
            f"{len(tracked)} | {start} | {int((~right[start:]).sum())} | {', '.join(waits) or '-'} | {mine} | "
            f"{others or '-'} | "
            f"{report['rotation_median_deg']:.1f} / {report['rotation_final_deg']:.1f} | "
            f"{report['add_auc']:.1f} / {report['add_s_auc']:.1f}"
        )


def hidden(frame: RgbdFrame) -> RgbdFrame:
    """The frame with a grey board before everything."""
    assert frame.depth_m is not None
    return replace(frame, color=np.full_like(frame.color, 96), depth_m=np.full_like(frame.depth_m, BOARD_M), truth=None)


def frames_of(simulator: Simulator, first: int, count: int) -> Iterator[RgbdFrame]:
    """Some frames of a film."""
    return map(simulator.frame, range(first, first + count))


def course(kind: str, name: str, other: str, seed: int) -> Iterator[tuple[str, RgbdFrame]]:
    """What happens in each frame, 'seen', 'back' (seen again), 'hidden' or 'other', and the frame."""
    simulator = Simulator(f"{'grasp' if kind == 'grasp' else 'rotate'}:{name}", SimulatorConfig(seed=seed))
    if kind == "grasp":
        start = int(simulator.scene.held_from_s * 30) - 9
        yield from (("seen", frame) for frame in frames_of(simulator, start, simulator.loop_frames - start))
        return
    if kind == "hidden":
        for part in range(4):
            at = part * (SHOWN_FRAMES + HIDDEN_FRAMES)
            for i, frame in enumerate(frames_of(simulator, at, SHOWN_FRAMES)):
                yield "back" if part and i == 0 else "seen", frame
            if part < 3:
                yield from (("hidden", hidden(f)) for f in frames_of(simulator, at + SHOWN_FRAMES, HIDDEN_FRAMES))
        return
    yield from (("seen", frame) for frame in frames_of(simulator, 0, FIRST_FRAMES))
    stranger = Simulator(f"rotate:{other}", SimulatorConfig(seed=seed))
    yield from (("other", frame) for frame in frames_of(stranger, 0, SECOND_FRAMES))
    for i in range(THIRD_FRAMES):  # to and fro through what was shown: a side never seen is not recognised
        frame = simulator.frame(abs(FIRST_FRAMES - 1 - i % (2 * FIRST_FRAMES - 2)))
        yield "back" if i == 0 else "seen", frame


def run(kind: str, name: str, other: str, seed: int, estimator: HandEstimator) -> str:
    """Follow one course; cells of the table."""
    estimator.reset()
    faces = {side: estimator.faces(side) for side in ("left", "right")}
    tracker, said = ObjectTracker(), _Course()
    for i, (what, frame) in enumerate(tqdm(course(kind, name, other, seed), desc=f"{kind}:{name}", leave=False)):
        frame = replace(frame, index=i, stamp_ns=int((i + 1) * 1e9 / 30))
        seen = tracker.track(frame, [] if what == "hidden" else estimator.estimate(frame), hand_faces=faces)
        here = seen.object_id if seen.state == "tracking" else -1
        if what == "other":
            said.other_ids.append(here)
        if what not in ("seen", "back"):
            continue
        if what == "back":
            said.returned.append(len(said.poses))
        assert frame.truth is not None
        said.poses.append(np.full((4, 4), np.nan) if seen.T_camera_object is None else seen.T_camera_object)
        said.truths.append(next(iter(frame.truth.T_camera_object.values())))
        said.ids.append(here)
    tracker.close()
    mesh = next(iter(Simulator(f"rotate:{name}", SimulatorConfig(seed=seed)).object_meshes().values()))
    return said.row(sample_surface(mesh.vertices, mesh.faces, 2000))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", nargs="*", default=["mug", "box", "drill", "bottle"])
    parser.add_argument("--courses", nargs="*", default=["grasp", "hidden", "exchanged"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    estimator = create_hand_estimator(HandConfig(), "cpu")
    columns = "frames | first tracked | lost after | frames until back | ids | ids of the other"
    print(f"| | {columns} | deg median / end | AUC ADD / ADD-S |\n|{'---|' * 9}")
    for kind in options.courses:
        for name, other in zip(options.objects, options.objects[1:] + options.objects[:1]):
            print(f"| {kind}:{name} | {run(kind, name, other, options.seed, estimator)} |", flush=True)
    estimator.close()


if __name__ == "__main__":
    main()
