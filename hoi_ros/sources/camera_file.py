"""Intrinsics from the JSON files that people keep beside their pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError

FOCAL_KEYS = (("fx", "fy", "cx", "cy"), ("px", "py", "u0", "v0"))
MATRIX_KEYS = ("K", "k", "camera_matrix", "intrinsic_matrix")
SIZE_KEYS = (("width", "height"), ("w", "h"), ("image_width", "image_height"))


@dataclass(frozen=True)
class CameraFile:
    """What a camera file says; None where it says nothing."""

    path: Path
    focal: tuple[float, float, float, float]
    """fx fy cx cy, pixels."""
    size: tuple[int, int] | None
    """Width and height of the pictures it was made for."""
    depth_scale_m: float | None
    """Metres of one unit of the depth pictures."""
    fps: float | None

    def intrinsics(self, width: int, height: int, picture: str) -> CameraIntrinsics:
        """Intrinsics for a picture of this size.

        Raises:
            InputError: the file was made for another size.
        """
        if self.size not in (None, (width, height)):
            raise InputError(
                f"{picture} is {width}x{height}, but {self.path} is for {self.size[0]}x{self.size[1]}: "  # type: ignore[index]
                "give the camera file that belongs to these pictures"
            )
        return CameraIntrinsics(width, height, *self.focal)


def read_camera_file(path: Path | str) -> CameraFile:
    """Read intrinsics from JSON: {fx fy cx cy}, {px py u0 v0} (ViSP) or a 3x3 matrix {K}; size, scale, fps optional.

    Raises:
        InputError: missing or unreadable file, absent keys, values that are not usable numbers.
    """
    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"camera file {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise InputError(f"camera file {path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"camera file {path}: expected an object with fx, fy, cx, cy")
    try:
        focal = _focal(content)
        size = next(((int(content[w]), int(content[h])) for w, h in SIZE_KEYS if w in content and h in content), None)
        scale, fps = (_optional_positive(content, key) for key in ("depthScale", "fps"))
        if "depth_scale_m" in content:
            scale = _optional_positive(content, "depth_scale_m")
    except (TypeError, ValueError, KeyError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"camera file {path}: {reason}; it needs the numbers fx, fy, cx, cy in pixels") from error
    try:
        CameraIntrinsics(*(size or (1, 1)), *focal)
    except InputError as error:
        raise InputError(f"camera file {path}: {error}") from error
    return CameraFile(path, focal, size, scale, fps)


def write_camera_file(path: Path, intrinsics: CameraIntrinsics, depth_scale_m: float | None, fps: float | None) -> None:
    """Write intrinsics as JSON that `read_camera_file` reads; None leaves a value out."""
    content: dict[str, Any] = {
        "width": intrinsics.width, "height": intrinsics.height,
        "fx": intrinsics.fx, "fy": intrinsics.fy, "cx": intrinsics.cx, "cy": intrinsics.cy,
    }  # fmt: skip
    if depth_scale_m is not None:
        content["depthScale"] = depth_scale_m
    if fps is not None:
        content["fps"] = fps
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _focal(content: dict[str, Any]) -> tuple[float, float, float, float]:
    for key in MATRIX_KEYS:
        if key in content:
            return _focal_of_matrix(content[key])
    keys = next((keys for keys in FOCAL_KEYS if keys[0] in content), FOCAL_KEYS[0])
    fx, fy, cx, cy = (float(content[key]) for key in keys)
    return fx, fy, cx, cy


def _focal_of_matrix(matrix: Any) -> tuple[float, float, float, float]:
    if isinstance(matrix, dict):  # the form of camera_calibration's files
        matrix = matrix["data"]
    flat = [float(v) for row in matrix for v in (row if isinstance(row, list) else [row])]
    if len(flat) != 9:
        raise ValueError(f"a camera matrix has 9 numbers, not {len(flat)}")
    return flat[0], flat[4], flat[2], flat[5]


def _optional_positive(content: dict[str, Any], key: str) -> float | None:
    if content.get(key) is None:
        return None
    value = float(content[key])
    if not 0 < value < float("inf"):
        raise ValueError(f"{key} is {value}, give a positive number")
    return value
