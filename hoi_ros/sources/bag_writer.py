"""Frames written as a rosbag2 recording with the topic names of realsense2_camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.bag_files import make_typestore
from hoi_ros.sources.bag_topics import CAMERA_INFO, IMAGE
from hoi_ros.sources.rgbd_writer import depth_to_millimetres

NAMESPACE = "/camera/camera"
COLOR_TOPIC = "color/image_raw"
DEPTH_TOPIC = "aligned_depth_to_color/image_raw"
INFO_TOPIC = "color/camera_info"


class BagWriter:
    """Context manager that writes colour (rgb8), aligned depth (16UC1 mm) and camera_info.

    A recording closed by an exception is left without index and cannot be taken for a whole one.
    """

    def __init__(self, path: Path | str, storage: str = "mcap", namespace: str = NAMESPACE) -> None:
        """Make the folder.

        Args:
            path: folder to make; must not exist.
            storage: 'mcap' or 'sqlite3'.
            namespace: in front of the topic names.

        Raises:
            InputError: the folder exists or cannot be made.
            MissingLibraryError: rosbags is not installed.
        """
        self.typestore = make_typestore()
        """Message types, for what is sent besides frames."""
        from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

        self.path = Path(path)
        self._namespace = namespace.rstrip("/")
        self._connections: dict[str, Any] = {}
        try:
            self._writer = Writer(
                self.path, version=Writer.VERSION_LATEST, storage_plugin=StoragePlugin[storage.upper()]
            )
            self._writer.open()
        except WriterError as error:
            raise InputError(f"bag {path} exists already: choose another folder to write to") from error
        except OSError as error:
            raise InputError(f"bag {path}: {error.strerror}; choose a folder that you may write to") from error

    def write(self, frame: RgbdFrame) -> None:
        """Append a frame: colour, camera_info, and depth where it has one, rounded to millimetres."""
        header = self.header(frame.stamp_ns, frame.frame_id)
        self._send(COLOR_TOPIC, IMAGE, frame.stamp_ns, self._image(header, frame.color, "rgb8"))
        self._send(INFO_TOPIC, CAMERA_INFO, frame.stamp_ns, self._camera_info(header, frame))
        if frame.depth_m is not None:
            depth = depth_to_millimetres(frame.depth_m)
            self._send(DEPTH_TOPIC, IMAGE, frame.stamp_ns, self._image(header, depth, "16UC1"))

    def send(self, topic: str, kind: str, stamp_ns: int, message: Any, *, latched: bool = False) -> None:
        """Append a message of another topic, by its full name.

        Args:
            topic: such as '/tf'.
            kind: its type, such as 'tf2_msgs/msg/TFMessage'.
            stamp_ns: time of the message.
            message: of `typestore`, or its CDR bytes.
            latched: late readers of a replay get it too.
        """
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self.typestore, offered_qos_profiles=[_latched_qos()] if latched else ()
            )
        data = message if isinstance(message, bytes) else self.typestore.serialize_cdr(message, kind)
        self._writer.write(self._connections[topic], stamp_ns, data)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """A std_msgs Header of `typestore`."""
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = self._type("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)
        return self._type("std_msgs/msg/Header")(stamp=stamp, frame_id=frame_id)

    def close(self) -> None:
        """Write the index."""
        self._writer.close()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: object, *_exception: object) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.abort()

    def _send(self, topic: str, kind: str, stamp_ns: int, message: Any) -> None:
        self.send(f"{self._namespace}/{topic}", kind, stamp_ns, message)

    def _type(self, kind: str) -> Any:
        return self.typestore.types[kind]

    def _image(self, header: Any, pixels: np.ndarray, encoding: str) -> Any:
        height, width = pixels.shape[:2]
        little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
        data = little.view(np.uint8).reshape(-1)
        return self._type(IMAGE)(
            header=header, height=height, width=width, encoding=encoding, is_bigendian=0,
            step=data.size // height, data=data,
        )  # fmt: skip

    def _camera_info(self, header: Any, frame: RgbdFrame) -> Any:
        camera = frame.intrinsics
        k = camera.matrix
        roi = self._type("sensor_msgs/msg/RegionOfInterest")(
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        return self._type(CAMERA_INFO)(
            header=header, height=camera.height, width=camera.width, distortion_model="plumb_bob", d=np.zeros(5),
            k=k.reshape(-1), r=np.eye(3).reshape(-1), p=np.hstack([k, np.zeros((3, 1))]).reshape(-1),
            binning_x=0, binning_y=0, roi=roi,
        )  # fmt: skip


def _latched_qos() -> Any:
    """Reliable and transient local, the last message kept."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, forever, forever,
        QosLiveliness.AUTOMATIC, forever, False,
    )  # fmt: skip
