"""The files of an offline run: hands.npz, object_poses.txt, overlay.mp4, report.json."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import JOINT_NAMES, HandEstimate, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import quaternion_from_matrix


class HandTable:
    """Rows of `hands.npz`, one a detected hand."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, float, HandEstimate]] = []

    def add(self, frame: RgbdFrame, hands: list[HandEstimate]) -> None:
        """Append the hands of one frame."""
        self._rows += [(frame.index, frame.stamp_s, hand) for hand in hands]

    def save(self, path: Path, faces: dict[str, np.ndarray], vertex_count: int) -> None:
        """Write all rows; a run without any hand gives arrays of length 0.

        `faces` is a right hand's; `faces_left` (the same triangles turned round) stands beside it.
        """
        hands = [hand for _, _, hand in self._rows]

        def stack(name: str, shape: tuple[int, ...]) -> np.ndarray:
            rows = [getattr(hand, name) for hand in hands]
            return np.asarray(rows, np.float32).reshape(len(rows), *shape)

        np.savez_compressed(
            path,
            frame=np.array([row[0] for row in self._rows], np.int64),
            stamp_s=np.array([row[1] for row in self._rows], np.float64),
            track_id=np.array([hand.track_id for hand in hands], np.int64),
            handedness=np.array([hand.handedness for hand in hands], "U5"),
            score=np.array([hand.score for hand in hands], np.float32),
            joints_camera_m=stack("joints_camera", (21, 3)),
            vertices_camera_m=stack("vertices_camera", (vertex_count, 3)),
            joints_px=stack("joints_px", (21, 2)),
            box_px=stack("box_px", (4,)),
            sigma_m=np.array([hand.sigma_m for hand in hands], np.float32),
            landmarks_camera_m=np.array(
                [np.full((21, 3), np.nan) if h.landmarks_camera is None else h.landmarks_camera for h in hands],
                np.float32,
            ).reshape(len(hands), 21, 3),
            faces=faces["right"],
            faces_left=faces["left"],
            joint_names=np.array(JOINT_NAMES),
        )


def tum_line(stamp_s: float, T_camera_object: np.ndarray) -> str:
    """One line `stamp tx ty tz qx qy qz qw` of the TUM RGB-D trajectory format; seconds, metres."""
    values = (*T_camera_object[:3, 3], *quaternion_from_matrix(T_camera_object[:3, :3]))
    return f"{stamp_s:.6f} " + " ".join(f"{value:.9f}" for value in values)


class VideoWriter:
    """H.264 (or MPEG-4 where x264 is absent) in MP4; frames of another size than the first are scaled to it."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, Fraction(fps).limit_denominator(1000)
        self._container: Any = None

    def write(self, color: np.ndarray) -> None:
        """Append one (H, W, 3) uint8 RGB picture."""
        import av

        if self._container is None:
            self._open(color.shape[1] // 2 * 2, color.shape[0] // 2 * 2)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(color), format="rgb24")
        picture = picture.reformat(self._stream.width, self._stream.height, format="yuv420p")
        self._container.mux(self._stream.encode(picture))

    def _open(self, width: int, height: int) -> None:
        import av

        self._container = av.open(str(self._path), "w", format="mp4")
        try:
            self._stream = self._container.add_stream("libx264", rate=self._fps, options={"preset": "veryfast"})
        except (av.error.FFmpegError, ValueError):
            self._stream = self._container.add_stream("mpeg4", rate=self._fps)
        self._stream.width, self._stream.height = max(width, 2), max(height, 2)
        self._stream.pix_fmt = "yuv420p"

    def close(self) -> None:
        """Flush and finish the file; without frames none is written."""
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()


def percentiles(values_ms: list[float]) -> dict[str, float]:
    """Median and 95th percentile of milliseconds, rounded to 0.01."""
    p50, p95 = np.percentile(values_ms, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def save_report(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def prepare_folder(path: Path) -> Path:
    """Make the output folder and show that it can be written.

    Raises:
        InputError: it is a file, or cannot be made or written.
    """
    nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise InputError(f"output folder {path}: {nearest} is a file; name a folder with --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"output folder {path}: no permission to write in {nearest}; choose another with --out")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output folder {path}: {error.strerror}; choose another with --out") from error
    return path


@contextmanager
def folder_for_results(path: Path) -> Iterator[Path]:
    """A scratch folder whose files move to `path` when all went well; after an error nothing is left.

    Raises:
        InputError: `path` cannot be made or written.
    """
    before = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
    out = prepare_folder(path)
    scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    try:
        yield scratch
        for item in scratch.iterdir():
            item.replace(out / item.name)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        for folder in before:
            with suppress(OSError):
                folder.rmdir()
        raise
    scratch.rmdir()
