"""Messages to arrays and records, and back. Pure functions; no node, no topic."""

from __future__ import annotations

import array
import math
import sys
from typing import Literal

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseArray, PoseStamped, PoseWithCovarianceStamped, Transform, TransformStamped
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2, PointField
from std_msgs.msg import Header

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate
from hoi_ros.errors import InputError
from hoi_ros.geometry import make_transform, matrix_from_quaternion, quaternion_from_matrix

COLOR_ENCODINGS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
GREY16_ENCODINGS = ("mono16", "16UC1")
_LAYOUT = {
    "rgb8": (np.uint8, 3), "bgr8": (np.uint8, 3), "rgba8": (np.uint8, 4), "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1), "8UC1": (np.uint8, 1), "8UC3": (np.uint8, 3), "8UC4": (np.uint8, 4),
    "mono16": (np.uint16, 1), "16UC1": (np.uint16, 1), "32FC1": (np.float32, 1),
}  # fmt: skip
_ALIASES = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}

WRIST_ROTATION_SIGMA_RAD = 0.15
"""Spread of the wrist's rotation written into its covariance; the estimators report none of their own."""
WRIST_PIXEL_SIGMA = 2.0
"""Spread of the wrist in the image, pixels: sideways part of its covariance."""


def time_message(stamp_ns: int) -> Time:
    """Stamp message of nanoseconds."""
    return Time(sec=int(stamp_ns // 1_000_000_000), nanosec=int(stamp_ns % 1_000_000_000))


def stamp_of(message) -> int:
    """Nanoseconds of a message with a header."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def make_header(stamp_ns: int, frame_id: str) -> Header:
    """Header of a stamp in nanoseconds and a frame."""
    return Header(stamp=time_message(stamp_ns), frame_id=frame_id)


def array_from_image(message: Image) -> np.ndarray:
    """Pixels (H, W) or (H, W, C) of an image message as a view where possible: padding skipped, native byte order.

    Raises:
        InputError: unknown encoding, no pixels, a row shorter than the width, or data shorter than step x height.
    """
    if message.encoding not in _LAYOUT:
        raise InputError(f"image encoding '{message.encoding}' is not known: publish one of {', '.join(_LAYOUT)}")
    dtype, channels = _LAYOUT[message.encoding]
    height, width, step = message.height, message.width, message.step
    row_bytes = width * channels * np.dtype(dtype).itemsize
    if height < 1 or width < 1:
        raise InputError(f"image of {width}x{height} pixels holds nothing: check the camera driver")
    if step < row_bytes or len(message.data) < step * height - (step - row_bytes):
        raise InputError(
            f"image of {width}x{height} {message.encoding} has step {step} and {len(message.data)} bytes, "
            f"needs step >= {row_bytes} and step x height bytes: check the camera driver"
        )
    order: Literal["<", ">"] = ">" if message.is_bigendian else "<"
    kind = np.dtype(dtype).newbyteorder(order)
    strides = (step, channels * kind.itemsize, kind.itemsize)
    pixels: np.ndarray = np.ndarray((height, width, channels), kind, memoryview(message.data), strides=strides)
    if order != ("<" if sys.byteorder == "little" else ">") and kind.itemsize > 1:
        pixels = pixels.astype(dtype)
    return pixels[..., 0] if channels == 1 else pixels


def color_from_image(message: Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB, contiguous, of a colour or grey image message; 16-bit grey keeps its upper byte.

    Raises:
        InputError: as `array_from_image`, or an encoding that is no picture.
    """
    pixels = array_from_image(message)
    encoding = _ALIASES.get(message.encoding, message.encoding)
    if encoding in GREY16_ENCODINGS:
        encoding, pixels = "mono8", (pixels >> 8).astype(np.uint8)
    if encoding not in COLOR_ENCODINGS:
        raise InputError(f"encoding '{encoding}' on the colour topic is no picture: publish rgb8 or bgr8 there")
    if encoding == "mono8":
        return np.repeat(pixels[..., None], 3, -1)
    if encoding in ("bgr8", "bgra8"):
        pixels = pixels[..., 2::-1]
    return np.ascontiguousarray(pixels[..., :3])


def depth_from_image(message: Image) -> np.ndarray:
    """(H, W) float32 metres, 0 where unknown, of a 16UC1 (mm) or 32FC1 (m) image message (REP-118).

    Raises:
        InputError: as `array_from_image`, or an encoding that is no depth.
    """
    pixels = array_from_image(message)
    if message.encoding in GREY16_ENCODINGS:
        return pixels * np.float32(0.001)
    if message.encoding == "32FC1":
        return np.where(np.isfinite(pixels) & (pixels > 0), pixels, np.float32(0)).astype(np.float32, copy=False)
    raise InputError(f"encoding '{message.encoding}' on the depth topic is no depth: publish 16UC1 (mm) or 32FC1 (m)")


def image_message(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    """Image message of (H, W) or (H, W, C) pixels, its data an array.array, which rclpy takes without a loop."""
    pixels = np.ascontiguousarray(pixels)
    data = _byte_array(pixels)
    return Image(
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=pixels.strides[0],
        data=data,
    )


def _byte_array(pixels: np.ndarray) -> array.array:
    data = array.array("B")
    data.frombytes(pixels.reshape(-1).view(np.uint8).data)
    return data


def depth_to_millimetres(depth_m: np.ndarray) -> np.ndarray:
    """(H, W) uint16 millimetres of metres; unknown, negative and beyond 65.5 m become 0."""
    millimetres = np.rint(np.nan_to_num(depth_m, nan=0.0, posinf=0.0, neginf=0.0) * np.float32(1000))
    return np.where((millimetres > 0) & (millimetres < 65536), millimetres, 0).astype(np.uint16)


def intrinsics_from_camera_info(message: CameraInfo) -> CameraIntrinsics | None:
    """Pinhole camera of a CameraInfo; None when the camera says it is uncalibrated (K all zero).

    Raises:
        InputError: K is neither zero nor usable, or the image size is missing.
    """
    k = np.asarray(message.k, np.float64)
    if not k.any():
        return None
    fx, fy, cx, cy = (float(k[i]) for i in (0, 4, 2, 5))
    return CameraIntrinsics(message.width, message.height, fx, fy, cx, cy)


def camera_info_message(intrinsics: CameraIntrinsics, header: Header) -> CameraInfo:
    """CameraInfo without distortion; a guessed camera is published as calibrated, since K is what is computed with."""
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    return CameraInfo(
        header=header,
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def _set_pose(pose: Pose, translation, quaternion) -> Pose:
    pose.position.x, pose.position.y, pose.position.z = (float(v) for v in translation)
    q = pose.orientation
    q.x, q.y, q.z, q.w = (float(v) for v in quaternion)
    return pose


def pose_message(transform: np.ndarray) -> Pose:
    """Pose of a (4, 4) rigid motion, computed in float64."""
    transform = np.asarray(transform, np.float64)
    return _set_pose(Pose(), transform[:3, 3], quaternion_from_matrix(transform[:3, :3]))


def transform_from_pose(pose: Pose) -> np.ndarray:
    """(4, 4) float64 rigid motion of a pose.

    Raises:
        InputError: the quaternion has no length or the pose is not finite.
    """
    p, q = pose.position, pose.orientation
    values = np.array([q.x, q.y, q.z, q.w, p.x, p.y, p.z])
    if not np.isfinite(values).all() or np.linalg.norm(values[:4]) < 1e-6:
        raise InputError("a pose without rotation or with NaN was received: its publisher never filled it")
    return make_transform(matrix_from_quaternion(values[:4]), values[4:])


def pose_stamped(transform: np.ndarray, header: Header) -> PoseStamped:
    """PoseStamped of a (4, 4) rigid motion."""
    return PoseStamped(header=header, pose=pose_message(transform))


def transform_stamped(transform: np.ndarray, header: Header, child_frame_id: str) -> TransformStamped:
    """TransformStamped of a (4, 4) rigid motion that maps child points into the header's frame."""
    pose = pose_message(transform)
    message = TransformStamped(header=header, child_frame_id=child_frame_id, transform=Transform())
    t = message.transform.translation
    t.x, t.y, t.z = pose.position.x, pose.position.y, pose.position.z
    message.transform.rotation = pose.orientation
    return message


def joints_message(joints: np.ndarray, rotations: np.ndarray, header: Header) -> PoseArray:
    """PoseArray of (J, 3) joints in metres and (J, 3, 3) bone frames."""
    quaternions = quaternion_from_matrix(np.asarray(rotations, np.float64))
    poses = [_set_pose(Pose(), p, q) for p, q in zip(np.asarray(joints, np.float64).tolist(), quaternions.tolist())]
    return PoseArray(header=header, poses=poses)


def joints_from_message(message: PoseArray) -> tuple[np.ndarray, np.ndarray]:
    """(J, 3) joints in metres and (J, 3, 3) bone frames, float64; inverse of `joints_message`."""
    transforms = np.stack([transform_from_pose(pose) for pose in message.poses])
    return transforms[:, :3, 3], transforms[:, :3, :3]


def joint_state_message(names: list[str], angles: np.ndarray, header: Header) -> JointState:
    """JointState of named angles in radians."""
    return JointState(header=header, name=names, position=array.array("d", np.asarray(angles, np.float64).tobytes()))


def wrist_covariance(position: np.ndarray, sigma_m: float, focal_px: float) -> np.ndarray:
    """(6, 6) covariance of a wrist: `sigma_m` along the line of sight, WRIST_PIXEL_SIGMA pixels across it.

    Args:
        position: (3,) metres, optical frame.
        sigma_m: one standard deviation of the distance, metres.
        focal_px: focal length, pixels.
    """
    position = np.asarray(position, np.float64)
    distance = max(float(np.linalg.norm(position)), 1e-6)
    ray = position / distance
    across = WRIST_PIXEL_SIGMA * distance / focal_px
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = across**2 * np.eye(3) + (sigma_m**2 - across**2) * np.outer(ray, ray)
    covariance[3:, 3:] = np.eye(3) * WRIST_ROTATION_SIGMA_RAD**2
    return covariance


def wrist_message(hand: HandEstimate, focal_px: float, header: Header) -> PoseWithCovarianceStamped:
    """Wrist pose with covariance of one hand."""
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose = pose_message(hand.T_camera_wrist)
    covariance = wrist_covariance(hand.T_camera_wrist[:3, 3], hand.sigma_m, focal_px)
    message.pose.covariance = covariance.ravel().tolist()
    return message


def sigma_from_wrist(message: PoseWithCovarianceStamped) -> float:
    """Standard deviation of the distance in metres that `wrist_covariance` wrote."""
    p = message.pose.pose.position
    ray = np.array([p.x, p.y, p.z])
    ray /= max(float(np.linalg.norm(ray)), 1e-6)
    return math.sqrt(max(float(ray @ np.asarray(message.pose.covariance).reshape(6, 6)[:3, :3] @ ray), 0.0))


def _cloud_message(rows: np.ndarray, names: tuple[str, ...], header: Header) -> PointCloud2:
    data = _byte_array(np.ascontiguousarray(rows, np.float32))
    fields = [PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, n in enumerate(names)]
    return PointCloud2(
        header=header,
        height=1,
        width=len(rows),
        fields=fields,
        is_bigendian=sys.byteorder == "big",
        point_step=4 * len(names),
        row_step=4 * len(names) * len(rows),
        data=data,
        is_dense=True,
    )


def vertices_message(vertices: np.ndarray, confidence: float | np.ndarray, header: Header) -> PointCloud2:
    """PointCloud2 `x y z confidence` (float32) of (V, 3) metres and one or (V,) confidences."""
    rows = np.empty((len(vertices), 4), np.float32)
    rows[:, :3] = vertices
    rows[:, 3] = confidence
    return _cloud_message(rows, ("x", "y", "z", "confidence"), header)


def colored_cloud_message(points: np.ndarray, colors: np.ndarray | None, header: Header) -> PointCloud2:
    """PointCloud2 `x y z rgb` of (N, 3) metres and (N, 3) uint8; without colours white."""
    rows = np.empty((len(points), 4), np.float32)
    rows[:, :3] = points
    rgb = np.full((len(points), 3), 255, np.uint32) if colors is None else colors.astype(np.uint32)
    rows[:, 3] = (rgb[:, 0] << 16 | rgb[:, 1] << 8 | rgb[:, 2]).astype(np.uint32).view(np.float32)
    return _cloud_message(rows, ("x", "y", "z", "rgb"), header)


def fields_from_cloud(message: PointCloud2, names: tuple[str, ...]) -> np.ndarray:
    """(N, len(names)) float32 of a cloud's float32 fields, whatever their offsets and padding.

    Raises:
        InputError: a field is missing or not float32, or the data is too short.
    """
    offsets = {field.name: field.offset for field in message.fields if field.datatype == PointField.FLOAT32}
    missing = [name for name in names if name not in offsets]
    if missing:
        raise InputError(f"point cloud has no float32 field '{missing[0]}': it has {', '.join(sorted(offsets))}")
    if len(message.data) < message.row_step * (message.height - 1) + message.point_step * message.width:
        raise InputError(f"point cloud of {message.width}x{message.height} points holds only {len(message.data)} bytes")
    kind = np.dtype(np.float32).newbyteorder(">" if message.is_bigendian else "<")
    shape, strides = (message.height, message.width), (message.row_step, message.point_step)
    out = np.empty((message.height * message.width, len(names)), np.float32)
    if not out.size:
        return out
    buffer = memoryview(message.data)
    for column, name in enumerate(names):
        out[:, column] = np.ndarray(shape, kind, buffer, offsets[name], strides).ravel()
    return out
