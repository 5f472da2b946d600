"""Focal length out of a photo's own notes (EXIF 2.3, the 35 mm equivalent)."""

from __future__ import annotations

import math
from pathlib import Path

_EXIF_IFD, _WIDTH, _HEIGHT, _ZOOM, _FOCAL_35MM = 0x8769, 0xA002, 0xA003, 0xA404, 0xA405
FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
SAME_SHAPE = 0.02
"""Share by which the sides' ratio may differ from that of the picture that was taken: else it was cropped since."""


def noted_focal_px(path: Path) -> float | None:
    """Focal length in pixels of the file's picture, along either side; None where the notes do not settle it.

    They do not when there are none, when the picture was cropped since, or zoomed into without optics: cameras differ
    in whether the equivalent counts that. Phones round it to a millimetre, which is 2 to 4 %.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            notes = image.getexif().get_ifd(_EXIF_IFD)
        focal_mm = float(notes.get(_FOCAL_35MM) or 0)
        zoom = float(notes.get(_ZOOM) or 1)
        taken = [float(notes.get(tag) or side) for tag, side in ((_WIDTH, width), (_HEIGHT, height))]
    except (OSError, SyntaxError, ValueError, TypeError, ZeroDivisionError):
        return None
    if not 4 <= focal_mm <= 2000 or abs(zoom - 1) > 0.01 or min(taken) <= 0:
        return None
    # Programs that turn a picture may swap its noted sides or not.
    ratios = max(taken) / min(taken), max(width, height) / min(width, height)
    if abs(ratios[0] / ratios[1] - 1) > SAME_SHAPE:
        return None
    return focal_mm / FILM_DIAGONAL_MM * math.hypot(width, height)
