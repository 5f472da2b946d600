"""Frames written as the folder that `rgbd:DIR` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import numpy as np

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.camera_file import write_camera_file
from hoi_ros.sources.image_files import write_picture
from hoi_ros.sources.rgbd_folder import STAMPS_NAME

DEPTH_STEP_M = 0.001
DEPTH_MAX_STEPS = 65535


def depth_to_millimetres(depth_m: np.ndarray) -> np.ndarray:
    """(H, W) uint16 millimetres of metres; 0 for what is unknown, not finite, negative or beyond 65.535 m."""
    millimetres = np.rint(depth_m / np.float32(DEPTH_STEP_M))
    usable = np.isfinite(millimetres) & (millimetres > 0) & (millimetres <= DEPTH_MAX_STEPS)
    return np.where(usable, millimetres, 0).astype(np.uint16)


class RgbdWriter:
    """Context manager that writes `color/`, `depth/`, `cam.json` and `stamps.txt`."""

    def __init__(self, folder: Path | str, fps: float | None = None) -> None:
        """Make the folder.

        Raises:
            InputError: the folder exists and is not empty, or cannot be made.
        """
        self.folder = Path(folder)
        self.count = 0
        self._fps = fps
        try:
            if self.folder.exists() and any(self.folder.iterdir()):
                raise InputError(f"folder {folder} is not empty: choose another one to write to")
            for name in ("color", "depth"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._stamps: TextIO = (self.folder / STAMPS_NAME).open("w", encoding="utf-8")
        except OSError as error:
            raise InputError(f"folder {folder}: {error.strerror}; choose one that you may write to") from error

    def write(self, frame: RgbdFrame) -> None:
        """Append a frame; depth is rounded to millimetres.

        Raises:
            InputError: the frame has no depth.
        """
        if frame.depth_m is None:
            raise InputError(f"frame {frame.name or frame.index} has no depth: the rgbd layout needs it")
        if self.count == 0:
            write_camera_file(self.folder / "cam.json", frame.intrinsics, DEPTH_STEP_M, self._fps)
        write_picture(self.folder / "color" / f"{self.count:06d}.png", frame.color)
        write_picture(self.folder / "depth" / f"{self.count:06d}.png", depth_to_millimetres(frame.depth_m))
        self._stamps.write(f"{frame.stamp_ns}\n")
        self.count += 1

    def close(self) -> None:
        """Close the stamp file."""
        self._stamps.close()

    def __enter__(self) -> RgbdWriter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
