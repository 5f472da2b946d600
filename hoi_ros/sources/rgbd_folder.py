"""`rgbd:DIR`: colour and aligned depth pictures in two folders, with the camera beside them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.camera_file import CameraFile, read_camera_file
from hoi_ros.sources.image_files import DEPTH_SUFFIXES, check_picture, list_pictures, read_color, read_depth
from hoi_ros.sources.source import Source
from hoi_ros.sources.source_config import SourceConfig

CAMERA_NAMES = ("cam.json", "camera.json")
STAMPS_NAME = "stamps.txt"


class RgbdFolderSource(Source):
    """`color/*` and `depth/*.png` (16 bit, millimetres unless `cam.json` gives depthScale), paired in natural order.

    `stamps.txt` may give one stamp a line, whole nanoseconds or decimal seconds; without it frames are 1/fps apart.
    """

    has_depth = True

    def __init__(self, folder: Path, config: SourceConfig) -> None:
        """List both folders and read the first pair.

        Raises:
            InputError: missing folders, different counts, depth of another size or kind, bad camera or stamp file.
        """
        super().__init__(f"rgbd:{folder}", config)
        if not folder.is_dir():
            raise InputError(f"folder {folder}: no such folder; check the path")
        self._colors = list_pictures(folder / "color")
        self._depths = list_pictures(folder / "depth", DEPTH_SUFFIXES)
        if not self._colors or len(self._colors) != len(self._depths):
            raise InputError(
                f"{folder} holds {len(self._colors)} colour and {len(self._depths)} depth pictures: "
                "give one depth/*.png for every color/* picture"
            )
        for path in (*self._colors, *self._depths):
            check_picture(path)
        self._camera = _find_camera(folder, config)
        self.fps = (self._camera.fps if self._camera else None) or config.fps
        self._stamps_ns = _read_stamps(folder / STAMPS_NAME, len(self._colors))
        if self._stamps_ns and len(self._stamps_ns) > 1 and not (self._camera and self._camera.fps):
            steps = np.diff(self._stamps_ns)
            self.fps = 1e9 / max(float(np.median(steps)), 1.0)
        self._read(0)

    def _total_frames(self) -> int:
        return len(self._colors)

    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        for index in range(start, len(self._colors)):
            yield self._read(index)

    def _read(self, index: int) -> RgbdFrame:
        color_path, depth_path = self._colors[index], self._depths[index]
        color, raw = read_color(color_path), read_depth(depth_path)
        if raw.shape != color.shape[:2]:
            raise InputError(
                f"depth picture {depth_path} is {raw.shape[1]}x{raw.shape[0]}, its colour picture "
                f"{color.shape[1]}x{color.shape[0]}: align depth to colour first"
            )
        height, width = raw.shape
        if self._camera is None:
            intrinsics = self.guessed_intrinsics(width, height)
        else:
            intrinsics = self._camera.intrinsics(width, height, f"picture {color_path}")
        scale = (self._camera.depth_scale_m if self._camera else None) or 0.001
        stamp_ns = self._stamps_ns[index] if self._stamps_ns else round(index * 1e9 / (self.fps or 30.0))
        depth_m = raw.astype(np.float32) * np.float32(scale)
        return RgbdFrame(color, intrinsics, stamp_ns, index, depth_m, name=color_path.name)


def _find_camera(folder: Path, config: SourceConfig) -> CameraFile | None:
    if config.camera_file:
        return read_camera_file(config.camera_file)
    found = next((folder / name for name in CAMERA_NAMES if (folder / name).exists()), None)
    return read_camera_file(found) if found else None


def _read_stamps(path: Path, count: int) -> list[int] | None:
    """Nanoseconds of every frame, or None without the file."""
    if not path.exists():
        return None
    try:
        words = path.read_text(encoding="utf-8").split()
        stamps = [int(word) if word.lstrip("-").isdigit() else round(float(word) * 1e9) for word in words]
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"stamp file {path}: {error}; give one stamp a line") from error
    if len(stamps) != count:
        raise InputError(f"stamp file {path} holds {len(stamps)} stamps for {count} frames: give one a line and frame")
    return stamps
