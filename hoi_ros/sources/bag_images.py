"""Image messages of bags to arrays and back; knows no ROS, only the messages' fields."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.errors import InputError

# encoding: (dtype, channels, channel order to RGB or None for depth)
COLOR_ENCODINGS = {
    "rgb8": (np.uint8, 3, (0, 1, 2)), "8UC3": (np.uint8, 3, (2, 1, 0)), "bgr8": (np.uint8, 3, (2, 1, 0)),
    "rgba8": (np.uint8, 4, (0, 1, 2)), "bgra8": (np.uint8, 4, (2, 1, 0)), "8UC4": (np.uint8, 4, (2, 1, 0)),
    "mono8": (np.uint8, 1, (0, 0, 0)), "8UC1": (np.uint8, 1, (0, 0, 0)), "mono16": (np.uint16, 1, (0, 0, 0)),
    "rgb16": (np.uint16, 3, (0, 1, 2)), "bgr16": (np.uint16, 3, (2, 1, 0)),
}  # fmt: skip
DEPTH_ENCODINGS = {"16UC1": (np.uint16, 0.001), "mono16": (np.uint16, 0.001), "32FC1": (np.float32, 1.0)}
YUV_ENCODINGS = {"yuv422_yuy2": "COLOR_YUV2RGB_YUY2", "yuv422": "COLOR_YUV2RGB_UYVY", "uyvy": "COLOR_YUV2RGB_UYVY",
                 "yuyv": "COLOR_YUV2RGB_YUY2"}  # fmt: skip


def stamp_of_cdr(raw: bytes) -> int:
    """Nanoseconds of the header that a serialised message begins with."""
    order = "<" if raw[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(order + "iI", raw, 4)
    return seconds * 1_000_000_000 + nanoseconds


def color_of_message(message: Any, topic: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a sensor_msgs Image or CompressedImage.

    Raises:
        InputError: unknown encoding, data that do not fit the size, undecodable picture.
    """
    if not hasattr(message, "encoding"):
        return _decompress_color(message, topic)
    encoding = message.encoding
    if encoding in YUV_ENCODINGS:
        import cv2

        packed = _rows(message, np.uint8, 2, topic)
        return cv2.cvtColor(packed, getattr(cv2, YUV_ENCODINGS[encoding]))
    if encoding not in COLOR_ENCODINGS:
        known = ", ".join((*COLOR_ENCODINGS, *YUV_ENCODINGS))
        raise InputError(f"topic {topic} has the colour encoding '{encoding}': record one of {known}")
    dtype, channels, order = COLOR_ENCODINGS[encoding]
    pixels = _rows(message, dtype, channels, topic)
    color = np.empty((*pixels.shape[:2], 3), np.uint8)  # a copy: the message's own bytes cannot be written to
    for target, channel in enumerate(order):
        color[..., target] = pixels[..., channel] >> 8 if dtype == np.uint16 else pixels[..., channel]
    return color


def depth_of_message(message: Any, topic: str) -> np.ndarray:
    """(H, W) float32 metres, 0 where unknown, of an Image (16UC1 mm, 32FC1 m: REP 118) or a compressedDepth PNG.

    Raises:
        InputError: unknown encoding, data that do not fit the size, undecodable picture.
    """
    if not hasattr(message, "encoding"):
        return _decompress_depth(message, topic)
    if message.encoding not in DEPTH_ENCODINGS:
        raise InputError(f"topic {topic} has the depth encoding '{message.encoding}': record 16UC1 or 32FC1")
    dtype, scale = DEPTH_ENCODINGS[message.encoding]
    return _metres(_rows(message, dtype, 1, topic)[..., 0], scale)


def intrinsics_of_message(message: Any, topic: str) -> CameraIntrinsics:
    """Intrinsics of a sensor_msgs CameraInfo.

    Raises:
        InputError: zero or NaN focal length, as uncalibrated drivers send.
    """
    k = message.k
    try:
        return CameraIntrinsics(
            int(message.width), int(message.height), float(k[0]), float(k[4]), float(k[2]), float(k[5])
        )
    except InputError as error:
        raise InputError(f"topic {topic}: {error}, with camera_file") from error


def _rows(message: Any, dtype: Any, channels: int, topic: str) -> np.ndarray:
    """(H, W, C) view of the pixels, without the padding that `step` adds to each row."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    item = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    used = width * channels * item.itemsize
    data = np.frombuffer(message.data, np.uint8)
    step = step or used
    if height < 1 or width < 1 or step < used or data.size < (height - 1) * step + used:
        raise InputError(
            f"topic {topic}: {data.size} bytes are no {width}x{height} '{message.encoding}' picture of row length "
            f"{step}: the recording is damaged"
        )
    if data.size < height * step:  # a last row without its padding
        data = np.concatenate([data, np.zeros(height * step - data.size, np.uint8)])
    rows = np.ascontiguousarray(data[: height * step].reshape(height, step)[:, :used])
    pixels = rows.view(item).reshape(height, width, channels)
    return pixels.astype(dtype, copy=False)


def _metres(values: np.ndarray, scale: float) -> np.ndarray:
    depth_m = values.astype(np.float32) * np.float32(scale)
    if values.dtype.kind == "f":
        depth_m[~np.isfinite(depth_m) | (depth_m < 0)] = 0
    return depth_m


def _decompress_color(message: Any, topic: str) -> np.ndarray:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise InputError(f"topic {topic}: a compressed picture ('{message.format}') cannot be decoded; record it again")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decompress_depth(message: Any, topic: str) -> np.ndarray:
    """PNG after the 12-byte header of compressed_depth_image_transport (its 32FC1 form is inverse depth)."""
    import cv2

    data = np.frombuffer(message.data, np.uint8)
    header = 12 if "compressedDepth" in message.format else 0
    values = cv2.imdecode(data[header:], cv2.IMREAD_UNCHANGED) if data.size > header else None
    if values is None or values.ndim != 2 or values.dtype != np.uint16:
        raise InputError(
            f"topic {topic}: a compressed depth picture ('{message.format}') is no 16-bit PNG; record it raw"
        )
    if "32FC1" not in message.format:
        return _metres(values, 0.001)
    a, b = struct.unpack_from("<ff", data.tobytes(), 4)
    with np.errstate(divide="ignore"):
        return np.where(values > 0, a / (values.astype(np.float32) - np.float32(b)), 0).astype(np.float32)
