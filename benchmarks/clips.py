"""Real clips: frames with hands, tracks, handedness flips, frames/s, and a contact sheet of overlays to look at.

./hoi python benchmarks/clips.py FILE.mp4 ... --out out/clips
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hoi_ros.evaluation.report import markdown_table
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.overlay import draw_overlay
from hoi_ros.sources import open_source

SHEET_COLUMNS, SHEET_ROWS = 4, 5


def run_clip(path: Path, out: Path, max_hands: int) -> dict[str, object]:
    """Estimate the hands of one film; writes OUT/NAME.png and returns a row of the table."""
    estimator = create_hand_estimator(HandConfig(max_hands=max_hands), "cpu")
    faces = {side: estimator.faces(side) for side in ("left", "right")}
    sides: dict[int, list[str]] = {}
    counts, milliseconds, tiles = [], [], []
    with open_source(f"video:{path}") as source:
        shown = set(np.linspace(0, (source.frame_count or 300) - 5, SHEET_COLUMNS * SHEET_ROWS).astype(int))
        for frame in tqdm(source, total=source.frame_count, desc=path.stem, leave=False):
            start = time.perf_counter()
            hands = estimator.estimate(frame)
            milliseconds.append((time.perf_counter() - start) * 1e3)
            counts.append(len(hands))
            for hand in hands:
                sides.setdefault(hand.track_id, []).append(hand.handedness)
            if frame.index in shown:
                picture = draw_overlay(frame.color, hands, faces, None, str(frame.index), intrinsics=frame.intrinsics)
                tiles.append(cv2.resize(picture, (480, 270), interpolation=cv2.INTER_AREA))
    estimator.close()
    save_sheet(tiles, out / f"{path.stem}.png")
    flips = sum(a != b for track in sides.values() for a, b in itertools.pairwise(track))
    return {
        "clip": path.name,
        "frames": len(counts),
        "with 1+ hands": int(np.sum(np.array(counts) >= 1)),
        "with 2": int(np.sum(np.array(counts) == 2)),
        "tracks": len(sides),
        "tracks of 10+ frames": sum(len(track) >= 10 for track in sides.values()),
        "handedness flips": flips,
        "ms p50": float(np.median(milliseconds)),
        "ms p95": float(np.percentile(milliseconds, 95)),
    }


def save_sheet(tiles: list[np.ndarray], path: Path) -> None:
    """Write the pictures as one PNG."""
    blank = np.zeros_like(tiles[0])
    tiles = (tiles + [blank] * SHEET_COLUMNS * SHEET_ROWS)[: SHEET_COLUMNS * SHEET_ROWS]
    rows = [np.hstack(tiles[i : i + SHEET_COLUMNS]) for i in range(0, len(tiles), SHEET_COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/clips"))
    parser.add_argument("--max-hands", type=int, default=2)
    options = parser.parse_args()
    print(markdown_table([run_clip(path, options.out, options.max_hands) for path in options.clips], digits=1))


if __name__ == "__main__":
    main()
