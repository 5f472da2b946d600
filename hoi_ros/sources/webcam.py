"""`webcam[:N]`: /dev/videoN through OpenCV."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.camera_file import read_camera_file
from hoi_ros.sources.camera_source import CameraSource, DeviceLost
from hoi_ros.sources.source_config import SourceConfig


class WebcamSource(CameraSource):
    """Colour of a Video4Linux camera; stamps are the computer's clock when the picture arrived."""

    def __init__(self, number: int, config: SourceConfig) -> None:
        """Open the camera and read a first picture.

        Raises:
            InputError: no such camera, it is in use, or it gives no picture; bad camera file.
        """
        super().__init__(f"webcam:{number}", config)
        self.number = number
        self.fps = config.fps
        self._capture: Any = None
        self._camera = read_camera_file(config.camera_file) if config.camera_file else None
        self.start()

    def _connect(self) -> None:
        import cv2

        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # its warnings say what the error below says
        capture = cv2.VideoCapture(self.number, cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise InputError(
                f"webcam {self.number} (/dev/video{self.number}) cannot be opened: plug it in, close other programs "
                "using it, or add yourself to the group 'video'"
            )
        # Motion JPEG first: most cameras reach 30 pictures a second only with it.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self.config.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self.config.height)
        capture.set(cv2.CAP_PROP_FPS, self.config.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(rate) if rate and np.isfinite(rate) and rate > 0 else self.config.fps
        self._capture = capture

    def _grab(self) -> RgbdFrame:
        import cv2

        arrived = self._capture.grab()
        stamp_ns = time.time_ns()
        ok, picture = self._capture.retrieve() if arrived else (False, None)
        if not ok or picture is None:
            raise DeviceLost("no picture from the driver")
        code = cv2.COLOR_GRAY2RGB if picture.ndim == 2 or picture.shape[2] == 1 else cv2.COLOR_BGR2RGB
        color = cv2.cvtColor(picture, code)
        return RgbdFrame(color, self._intrinsics(color), stamp_ns, name=self.name)

    def _disconnect(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _intrinsics(self, color: np.ndarray) -> CameraIntrinsics:
        height, width = color.shape[:2]
        if self._camera is None:
            return self.guessed_intrinsics(width, height)
        return self._camera.intrinsics(width, height, f"picture of {self.name}")
