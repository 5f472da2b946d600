"""Which cameras are there, and which source to take when none is named."""

from __future__ import annotations

from pathlib import Path

from hoi_ros.errors import MissingLibraryError
from hoi_ros.sources.image_files import natural_key


def webcam_numbers(device_folder: Path = Path("/dev")) -> list[int]:
    """N of every /dev/videoN, in order; says nothing about whether it opens."""
    names = sorted((p.name for p in device_folder.glob("video*")), key=natural_key)
    return [int(name[5:]) for name in names if name[5:].isdigit()]


def webcam_works(number: int) -> bool:
    """True when the camera opens and gives a picture (many cameras have extra nodes that give none)."""
    import cv2

    capture = cv2.VideoCapture(number, cv2.CAP_V4L2)
    try:
        return bool(capture.isOpened() and capture.read()[0])
    finally:
        capture.release()


def default_source() -> tuple[str, str]:
    """The first that exists of RealSense, webcam and simulator.

    Returns:
        Its spec for `open_source`, and one line that says which it is and why.
    """
    from hoi_ros.sources.realsense import connected_serials

    try:
        serials = connected_serials()
        no_realsense = "no RealSense is connected"
    except MissingLibraryError as error:
        serials, no_realsense = [], f"no RealSense ({error})"
    if serials:
        return f"realsense:{serials[0]}", f"using the RealSense {serials[0]}: it is connected"
    numbers = webcam_numbers()
    for number in numbers:
        if webcam_works(number):
            return f"webcam:{number}", f"using the webcam /dev/video{number}: {no_realsense}"
    devices = ", ".join(f"/dev/video{n}" for n in numbers)
    no_webcam = f"none of {devices} gives a picture" if numbers else "there is no webcam (/dev/video*)"
    return "sim", f"using the simulator: {no_realsense}, and {no_webcam}"
