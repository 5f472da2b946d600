"""Picture files to arrays: colour of any kind to RGB uint8, depth to raw numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hoi_ros.errors import InputError

COLOR_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
DEPTH_SUFFIXES = (".png",)


def list_pictures(folder: Path, suffixes: tuple[str, ...] = COLOR_SUFFIXES) -> list[Path]:
    """Picture files of a folder in natural order (2 before 10); hidden files are left out.

    Raises:
        InputError: no such folder, or it cannot be read.
    """
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    except OSError as error:
        raise InputError(f"folder {folder}: {error.strerror}; check the path") from error
    return sorted(found, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> tuple:
    """Sort key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", name.lower())
    return (*((int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)), name)


def check_picture(path: Path) -> None:
    """Read a picture's header.

    Raises:
        InputError: the file is not a picture or cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path):
            pass
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def read_color(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a picture file, turned upright by its EXIF orientation.

    Gray is spread over the channels, 16 bit is scaled down to 8, alpha is dropped.

    Raises:
        InputError: missing, truncated or no picture.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                gray = np.clip(np.asarray(upright).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
                return np.repeat(gray[..., None], 3, axis=2)
            return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool, true where a picture is bright.

    Raises:
        InputError: missing, truncated or no picture.
    """
    return read_color(path).mean(2) > 127


def read_depth(path: Path) -> np.ndarray:
    """(H, W) uint16 raw values of a 16-bit gray PNG.

    Raises:
        InputError: missing, truncated, no picture, or not 16-bit gray.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    if not mode.startswith("I"):
        raise InputError(f"depth picture {path} is of the kind {mode}: give 16-bit gray PNGs")
    return values.astype(np.uint16)


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB or (H, W) uint16 as a lossless PNG."""
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=1)


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(f"picture {path}: no permission to read it; change that with 'chmod +r'")
    reason = getattr(error, "strerror", None) or str(error).replace(str(path), "").splitlines()[0]
    return InputError(f"picture {path} is unreadable ({reason}): replace or remove it")
