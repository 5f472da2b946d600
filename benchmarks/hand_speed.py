"""Speed of the hand core on a film, by stage: `python benchmarks/hand_speed.py FILM.mp4 [--estimator embedded handos]`.

Frames are read and resized before the clock starts. Stages do not overlap: detect (palm network), read (crops, landmark
network, decoder), fit (mesh), and the rest.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.hand import HandConfig, create_hand_estimator


class StageClock:
    """Adds up the time spent in wrapped methods during one frame."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = {}

    def wrap(self, owner: Any, method: str, stage: str) -> None:
        """Time every call of a method."""
        original: Callable = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.spent_s[stage] = self.spent_s.get(stage, 0.0) + time.perf_counter() - start

        setattr(owner, method, timed)


class Run:
    """One estimator and its times."""

    def __init__(self, name: str, estimator: Any):
        self.name, self.estimator, self.clock = name, estimator, StageClock()
        for part, method, stage in (("_detector", "detect", "detect"), ("_landmarks", "read", "read"),
                                    ("_fitter", "fit", "fit")):  # fmt: skip
            self.clock.wrap(getattr(estimator, part), method, stage)
        self.rows: dict[int, list[dict[str, float]]] = {}

    def step(self, frame: RgbdFrame) -> None:
        """Estimate one frame on the clock."""
        self.clock.spent_s = {}
        start, worked = time.perf_counter(), time.process_time()
        hands = self.estimator.estimate(frame)
        whole, worked = time.perf_counter() - start, time.process_time() - worked
        rest = whole - sum(self.clock.spent_s.values())
        self.rows.setdefault(len(hands), []).append({"whole": whole, "cpu": worked, **self.clock.spent_s, "rest": rest})

    def report(self) -> None:
        """A line for each number of hands; cpu is the time of all threads together."""
        for count, times in sorted(self.rows.items()):
            parts = []
            for stage in ("whole", "cpu", "detect", "read", "fit", "rest"):
                values = np.array([row.get(stage, 0.0) for row in times]) * 1e3
                parts.append(f"{stage} {np.median(values):.1f}/{np.percentile(values, 95):.1f}")
            print(f"  {self.name}: {count} hands, {len(times)} frames, ms median/p95: {', '.join(parts)}")


def load_frames(path: Path, size: tuple[int, int], count: int) -> list[RgbdFrame]:
    """First `count` frames of a film, cut to the shape of `size` and resized to it."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while len(frames) < count:
        good, picture = capture.read()
        if not good:
            break
        height, width = picture.shape[:2]
        keep = min(width, round(height * size[0] / size[1]))
        left = (width - keep) // 2
        picture = cv2.resize(picture[:, left : left + keep], size, interpolation=cv2.INTER_AREA)
        color = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        frames.append(RgbdFrame(color, CameraIntrinsics.from_fov(*size), len(frames) * 33_333_333, len(frames)))
    return frames


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--max-hands", type=int, default=2)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--estimator", nargs="+", default=["embedded", "handos"], help="measured in turn")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    frames = load_frames(arguments.film, (width, height), arguments.frames)
    runs = []
    for name in arguments.estimator:
        start = time.perf_counter()
        config = HandConfig(estimator=name, max_hands=arguments.max_hands)
        runs.append(Run(name, create_hand_estimator(config, arguments.device)))
        print(f"{arguments.film.name}, {arguments.size}, {name}: start {time.perf_counter() - start:.2f} s")
    # Frame by frame in turn, so that a busy moment of the machine meets all alike.
    for frame in frames:
        for run in runs:
            run.step(frame)
    for run in runs:
        run.report()


if __name__ == "__main__":
    main()
