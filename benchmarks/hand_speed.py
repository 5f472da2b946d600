"""Speed of the hand core on a film, whole and by stage: `python benchmarks/hand_speed.py FILM.mp4 [--max-hands 2]`.

Frames are read and resized before the clock starts. Stages do not overlap: detect (palm network), landmarks (crops and
network), fit (mesh), and the rest.
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
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    frames = load_frames(arguments.film, (width, height), arguments.frames)
    start = time.perf_counter()
    estimator: Any = create_hand_estimator(HandConfig(max_hands=arguments.max_hands), arguments.device)
    print(f"{arguments.film.name}, {arguments.size}, {arguments.device}: start {time.perf_counter() - start:.2f} s")
    clock = StageClock()
    clock.wrap(estimator._detector, "detect", "detect")
    clock.wrap(estimator._landmarks, "read", "landmarks")
    clock.wrap(estimator._fitter, "fit", "fit")
    rows: dict[int, list[dict[str, float]]] = {}
    for frame in frames:
        clock.spent_s = {}
        start = time.perf_counter()
        hands = estimator.estimate(frame)
        whole = time.perf_counter() - start
        rest = whole - sum(clock.spent_s.values())
        rows.setdefault(len(hands), []).append({"whole": whole, **clock.spent_s, "rest": rest})
    for count, times in sorted(rows.items()):
        parts = []
        for stage in ("whole", "detect", "landmarks", "fit", "rest"):
            values = np.array([row.get(stage, 0.0) for row in times]) * 1e3
            parts.append(f"{stage} {np.median(values):.1f}/{np.percentile(values, 95):.1f}")
        print(f"  {count} hands, {len(times)} frames, ms median/p95: {', '.join(parts)}")


if __name__ == "__main__":
    main()
