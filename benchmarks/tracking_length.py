"""Cost of a frame over a long sequence: tracking and fusion, milliseconds and memory against the frame number.

./hoi python benchmarks/tracking_length.py --frames 2000 --plot length.png

The simulator's scene repeats itself, so that late frames show what early ones showed; its first period is drawn once
and played again. Hands are the true ones. Milliseconds are of processor time of the thread that frames pass through:
other programs and what runs beside the frames do not count. The worst frame by the clock, which waits and other
programs lengthen, is printed too. Draws a picture and prints last against first frames.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))

from tracking_simulator import hand_source

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import ObjectTracker, TrackerConfig

FIRST_LEFT_OUT = 20
"""Frames in which libraries warm up and the object is small yet."""


def resident_mb() -> float:
    """Memory that the process holds now, MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def played(scene: str, frames: int, period: int, seed: int) -> list[RgbdFrame]:
    """The first period of a scene."""
    simulator = Simulator(scene, SimulatorConfig(seed=seed))
    return [simulator.frame(i) for i in tqdm(range(min(frames, period)), desc="drawing", leave=False)]


def run(scene: str, frames: int, period: int, seed: int, live: bool) -> tuple[np.ndarray, list[str]]:
    """(N, 5) processor ms of tracking and of fusion, MB, kept views, ms by the clock; and the object's state by frame.

    The memory is what the process holds beyond the film and the libraries.
    """
    find_hands, faces = hand_source("truth")
    drawn = played(scene, frames, period, seed)
    tracker, reconstructor = ObjectTracker(TrackerConfig(), live=live), ObjectReconstructor(device="cpu", live=live)
    rows, states, before_mb = [], [], resident_mb()
    for i in tqdm(range(frames), desc=scene, leave=False):
        frame = replace(drawn[i % period], index=i, stamp_ns=int((i + 1) * 1e9 / 30))
        hands = find_hands(frame)
        clock, begin = time.perf_counter(), time.thread_time()
        seen = tracker.track(frame, hands, hand_faces=faces)
        middle = time.thread_time()
        reconstructor.integrate(frame, seen)
        end, clock_ms = time.thread_time(), 1e3 * (time.perf_counter() - clock)
        views = len(tracker._track.keyframes.keyframes) if tracker._track else 0
        rows.append((1e3 * (middle - begin), 1e3 * (end - middle), resident_mb() - before_mb, views, clock_ms))
        states.append(seen.state)
    tracker.close()
    reconstructor.close()
    return np.array(rows), states


def plot(rows: np.ndarray, path: Path, title: str) -> None:
    """Draw milliseconds and memory against the frame number."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 6), sharex=True)
    number = np.arange(len(rows))
    for column, (name, color) in enumerate((("tracking", "tab:blue"), ("fusion", "tab:orange"))):
        upper.plot(number, rows[:, column], ".", markersize=2, alpha=0.4, color=color)
        width = min(50, len(rows))
        middle = [np.median(rows[max(0, i - width) : i + 1, column]) for i in number]
        upper.plot(number, middle, color=color, label=f"{name}, median of {width} frames")
    upper.set_ylabel("processor ms a frame")
    upper.set_ylim(0, 1.5 * float(np.percentile(rows[:, :2], 99)))
    upper.legend(loc="upper right")
    upper.set_title(title)
    lower.plot(number, rows[:, 2], color="tab:green", label="memory beyond the film, MB")
    lower.set_ylabel("MB")
    lower.set_ylim(0, 1.2 * float(rows[:, 2].max()))
    views = lower.twinx()
    views.plot(number, rows[:, 3], color="tab:gray", label="keyframes")
    views.set_ylabel("keyframes")
    lower.set_xlabel("frame")
    lower.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="cost of a frame over a long sequence")
    parser.add_argument("--scene", default="rotate:box")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--period", type=int, default=480, help="frames after which the scene repeats itself")
    parser.add_argument("--window", type=int, default=200, help="first and last frames that are compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--live", action="store_true", help="as the nodes: never wait for what runs beside the frames")
    parser.add_argument("--plot", type=Path, default=Path("tracking_length.png"))
    options = parser.parse_args()
    rows, states = run(options.scene, options.frames, options.period, options.seed, options.live)
    plot(rows, options.plot, f"{options.scene}, {options.frames} frames")
    window = min(options.window, len(rows) // 2)
    first, last = rows[FIRST_LEFT_OUT : FIRST_LEFT_OUT + window], rows[-window:]
    for column, name in enumerate(("tracking ms", "fusion ms", "memory MB")):
        a, b = float(np.median(first[:, column])), float(np.median(last[:, column]))
        print(f"{name}: first {window} frames {a:.1f}, last {b:.1f}, ratio {b / a:.2f}")
    worst = FIRST_LEFT_OUT + int(rows[FIRST_LEFT_OUT:, 4].argmax())
    print(f"worst frame by the clock: {rows[worst, 4]:.0f} ms, frame {worst}")
    print(f"tracked {states.count('tracking')} of {len(states)}; keyframes {int(rows[-1, 3])}; plot {options.plot}")


if __name__ == "__main__":
    main()
