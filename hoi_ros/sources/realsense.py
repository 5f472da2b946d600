"""`realsense[:SERIAL]`: an Intel RealSense through librealsense's own Python module."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError, MissingLibraryError
from hoi_ros.sources.camera_file import read_camera_file
from hoi_ros.sources.camera_source import CameraSource, DeviceLost
from hoi_ros.sources.source_config import SourceConfig

DISTORTION_LIMIT = 0.02


def import_realsense() -> Any:
    """The module pyrealsense2.

    Raises:
        MissingLibraryError: it is not installed, or a library that it needs is not.
    """
    try:
        import pyrealsense2
    except ImportError as error:
        if "libusb" in str(error):
            raise MissingLibraryError("RealSense needs libusb: sudo apt install libusb-1.0-0") from error
        if getattr(error, "name", None) == "pyrealsense2":
            raise MissingLibraryError("RealSense needs pyrealsense2: pip install pyrealsense2") from error
        raise MissingLibraryError(f"pyrealsense2 does not load ({error}): pip install --force-reinstall it") from error
    return pyrealsense2


def connected_serials() -> list[str]:
    """Serial numbers of the RealSense cameras that are plugged in.

    Raises:
        MissingLibraryError: see `import_realsense`.
    """
    rs = import_realsense()
    try:
        devices = list(rs.context().query_devices())
        return [d.get_info(rs.camera_info.serial_number) for d in devices]
    except RuntimeError:  # a device that vanishes while it is asked
        return []


class RealSenseSource(CameraSource):
    """Colour and depth aligned to it, in the device's own time where it offers global time."""

    has_depth = True

    def __init__(self, serial: str, config: SourceConfig) -> None:
        """Start the streams and wait for a first frame.

        Args:
            serial: empty takes the first camera, and after an unplug the same one again.

        Raises:
            InputError: no camera, not that one, or it refuses the size and rate.
            MissingLibraryError: see `import_realsense`.
        """
        super().__init__(f"realsense:{serial}" if serial else "realsense", config)
        self.serial = serial
        self.fps = config.fps
        self._rs = import_realsense()
        self._camera = read_camera_file(config.camera_file) if config.camera_file else None
        self._pipeline: Any = None
        self.start()

    def _connect(self) -> None:
        rs, config = self._rs, self.config
        serials = connected_serials()
        if not serials:
            raise InputError("no RealSense found: plug it into a USB 3 port, or choose another source")
        if self.serial and self.serial not in serials:
            raise InputError(f"no RealSense with serial {self.serial}: connected are {', '.join(serials)}")
        self.serial = self.serial or serials[0]
        streams = rs.config()
        streams.enable_device(self.serial)
        rate = round(config.fps)
        streams.enable_stream(rs.stream.color, config.width, config.height, rs.format.rgb8, rate)
        # No RealSense measures depth finer than this; alignment brings it to the colour's size.
        depth_size = (config.width, config.height) if config.width <= 1280 else (1280, 720)
        streams.enable_stream(rs.stream.depth, *depth_size, rs.format.z16, rate)
        pipeline = rs.pipeline()
        try:
            profile = pipeline.start(streams)
        except RuntimeError as error:
            raise InputError(
                f"RealSense {self.serial} does not start with colour and depth {config.width}x{config.height} at "
                f"{rate} Hz ({error}): try 640x480 at 30 and a USB 3 port"
            ) from error
        self._pipeline = pipeline
        try:
            self._read_calibration(profile)
        except (RuntimeError, InputError):
            self._disconnect()
            raise

    def _read_calibration(self, profile: Any) -> None:
        rs = self._rs
        device = profile.get_device()
        for sensor in device.query_sensors():
            if sensor.supports(rs.option.global_time_enabled):
                sensor.set_option(rs.option.global_time_enabled, 1)
        self._depth_scale_m = np.float32(device.first_depth_sensor().get_depth_scale())
        lens = profile.get_stream(rs.stream.color).as_video_stream_profile().get_intrinsics()
        if self._camera is not None:
            self._intrinsics = self._camera.intrinsics(lens.width, lens.height, f"picture of {self.name}")
        else:
            self._intrinsics = CameraIntrinsics(lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy)
            if np.abs(lens.coeffs).max(initial=0) > DISTORTION_LIMIT:
                self.warn_once("distortion", "the lens distortion of this camera is ignored")
        self._align = rs.align(rs.stream.color)
        self._last_number: int | None = None
        self._clock_offset_ns: int | None = None

    def _grab(self) -> RgbdFrame:
        try:
            frames = self._align.process(self._pipeline.wait_for_frames(round(self.config.open_timeout_s * 1e3)))
            color, depth = frames.get_color_frame(), frames.get_depth_frame()
            if not color:
                raise DeviceLost("frames without colour")
            stamp_ns = self._stamp_ns(color)
            self._count_drops(color.get_frame_number())
            # Copies: the arrays below belong to librealsense's own ring of buffers.
            pixels = np.array(np.asanyarray(color.get_data()))
            depth_m = np.asanyarray(depth.get_data()).astype(np.float32) * self._depth_scale_m if depth else None
        except RuntimeError as error:
            raise DeviceLost(str(error)) from error
        return RgbdFrame(pixels, self._intrinsics, stamp_ns, depth_m=depth_m, name=self.name)

    def _stamp_ns(self, color: Any) -> int:
        """The sensor's time; a clock that does not count from 1970 is shifted once to the computer's."""
        stamp_ns = round(color.get_timestamp() * 1e6)
        if color.get_frame_timestamp_domain() != self._rs.timestamp_domain.hardware_clock:
            return stamp_ns
        if self._clock_offset_ns is None:
            self._clock_offset_ns = time.time_ns() - stamp_ns
        return stamp_ns + self._clock_offset_ns

    def _count_drops(self, number: int) -> None:
        if self._last_number is not None and number > self._last_number + 1:
            self.dropped_frames += number - self._last_number - 1
        self._last_number = number

    def _disconnect(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            try:
                pipeline.stop()
            except RuntimeError:
                return  # already stopped by the unplug
