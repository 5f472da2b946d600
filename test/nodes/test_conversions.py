import array

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate
from hoi_ros.errors import InputError
from hoi_ros.geometry import se3_exp, so3_exp
from hoi_ros.nodes import conversions as c

pytestmark = pytest.mark.ros
HEADER = c.make_header(12_345_678_901, "camera_color_optical_frame")


def padded(message, extra=7):
    """The same picture with `extra` bytes of rubbish behind each row."""
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    rows = np.concatenate([rows, np.full((message.height, extra), 0xAB, np.uint8)], 1)
    message.data, message.step = array.array("B", rows.tobytes()), message.step + extra
    return message


def make_hand(rng, side="right", track_id=3):
    vertices = (rng.normal(0, 0.04, (778, 3)) + (0.05, -0.02, 0.5)).astype(np.float32)
    joints = rng.normal(0, 0.04, (21, 3)) + (0.05, -0.02, 0.5)
    return HandEstimate(
        track_id, side, 0.875, rng.uniform(0, 480, (21, 2)), np.array([1.0, 2, 30, 40]), joints, vertices,
        se3_exp(np.array([0.1, 0.05, 0.6, 0.3, -0.8, 1.2])), so3_exp(rng.normal(0, 1, (21, 3))), rng.normal(0, 1, 20),
        np.zeros(10), 0.02,
    )  # fmt: skip


@pytest.mark.parametrize("pad", [0, 1, 7])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_colour_survives_encodings_and_padding(encoding, pad):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 7, 3), np.uint8)
    alpha = rng.integers(0, 256, (5, 7, 1), np.uint8)
    pixels = {
        "rgb8": rgb, "bgr8": rgb[..., ::-1], "rgba8": np.concatenate([rgb, alpha], -1),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], -1), "mono8": rgb[..., 0],
    }[encoding]  # fmt: skip
    want = np.repeat(rgb[..., :1], 3, -1) if encoding == "mono8" else rgb
    got = c.color_from_image(padded(c.image_message(pixels, encoding, HEADER), pad))
    np.testing.assert_array_equal(got, want)
    assert got.flags.c_contiguous and got.dtype == np.uint8


def test_image_message_equals_numpy_bytes_after_the_wire():
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    message = deserialize_message(serialize_message(c.image_message(pixels, "rgb8", HEADER)), Image)
    np.testing.assert_array_equal(c.color_from_image(message), pixels)
    assert isinstance(message.data, array.array) and message.step == 192 and c.stamp_of(message) == 12_345_678_901


@pytest.mark.parametrize("big", [False, True])
def test_sixteen_bit_pictures_and_byte_order(big):
    values = np.array([[0, 1, 256, 65535], [1000, 2, 3, 4]], np.uint16)
    message = c.image_message(values.astype(">u2" if big else "<u2"), "16UC1", HEADER)
    message.is_bigendian = int(big)
    np.testing.assert_allclose(c.depth_from_image(message), values * 0.001, rtol=1e-6)
    np.testing.assert_array_equal(c.color_from_image(message)[..., 1], values >> 8)


def test_float_depth_has_no_nan_infinity_or_negative():
    depth = np.array([[np.nan, np.inf, -1, 0.5]], np.float32)
    np.testing.assert_array_equal(
        c.depth_from_image(padded(c.image_message(depth, "32FC1", HEADER), 4)), [[0, 0, 0, 0.5]]
    )


def test_millimetres_round_and_clip():
    depth = np.array([[0.0004, 0.0006, 1.2344, np.nan, np.inf, -2, 70.0]], np.float32)
    np.testing.assert_array_equal(c.depth_to_millimetres(depth), [[0, 1, 1234, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoding": "yuv422_wrong"}, "encoding"),
        ({"width": 0}, "holds nothing"),
        ({"step": 5}, "step"),
        ({"height": 9}, "step x height"),
    ],
)
def test_unreadable_pictures_are_refused(change, text):
    message = c.image_message(np.zeros((4, 6, 3), np.uint8), "rgb8", HEADER)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(InputError, match=text):
        c.color_from_image(message)


def test_depth_and_colour_are_not_confused():
    with pytest.raises(InputError, match="no depth"):
        c.depth_from_image(c.image_message(np.zeros((4, 6, 3), np.uint8), "rgb8", HEADER))
    with pytest.raises(InputError, match="no picture"):
        c.color_from_image(c.image_message(np.zeros((4, 6), np.float32), "32FC1", HEADER))


def test_camera_info_round_trip_and_refusal():
    camera = CameraIntrinsics(640, 480, 601.5, 602.25, 319.5, 241.0)
    assert c.intrinsics_from_camera_info(c.camera_info_message(camera, HEADER)) == camera
    assert c.intrinsics_from_camera_info(CameraInfo(width=640, height=480)) is None
    bad = c.camera_info_message(camera, HEADER)
    bad.k[0] = float("nan")
    with pytest.raises(InputError, match="not usable"):
        c.intrinsics_from_camera_info(bad)


def test_poses_round_trip():
    for twist in np.random.default_rng(2).normal(0, 1.5, (20, 6)):
        transform = se3_exp(twist)
        np.testing.assert_allclose(c.transform_from_pose(c.pose_message(transform)), transform, atol=1e-12)
    message = c.transform_stamped(transform, HEADER, "object_0")
    assert message.child_frame_id == "object_0" and message.header.frame_id == HEADER.frame_id
    assert message.transform.translation.x == transform[0, 3]


def test_an_empty_pose_is_refused():
    message = c.pose_message(np.eye(4))
    message.orientation.w = 0.0
    with pytest.raises(InputError, match="without rotation"):
        c.transform_from_pose(message)


def test_joints_carry_bone_frames():
    hand = make_hand(np.random.default_rng(3))
    joints, rotations = c.joints_from_message(c.joints_message(hand.joints_camera, hand.bone_rotations, HEADER))
    np.testing.assert_allclose(joints, hand.joints_camera, atol=1e-12)
    np.testing.assert_allclose(rotations, hand.bone_rotations, atol=1e-9)


def test_vertices_cloud_is_exact():
    vertices = make_hand(np.random.default_rng(4)).vertices_camera
    message = c.vertices_message(vertices, 0.875, HEADER)
    rows = c.fields_from_cloud(message, ("x", "y", "z", "confidence"))
    np.testing.assert_array_equal(rows[:, :3], vertices)
    assert (rows[:, 3] == 0.875).all() and [f.name for f in message.fields] == ["x", "y", "z", "confidence"]
    assert c.fields_from_cloud(c.vertices_message(vertices[:0], 1.0, HEADER), ("x",)).shape == (0, 1)


def test_cloud_fields_with_gaps_padding_and_big_endian():
    values = np.arange(12, dtype=">f4").reshape(2, 3, 2)
    rows = np.zeros((2, 3 * 12 + 5), np.uint8)
    rows[:, :36].reshape(2, 3, 12)[..., 4:12] = values.view(np.uint8).reshape(2, 3, 8)
    fields = [PointField(name=n, offset=o, datatype=PointField.FLOAT32, count=1) for n, o in (("x", 4), ("y", 8))]
    message = PointCloud2(height=2, width=3, fields=fields, is_bigendian=True, point_step=12, row_step=41)
    message.data = array.array("B", rows.tobytes())
    np.testing.assert_array_equal(c.fields_from_cloud(message, ("y", "x")), values.reshape(6, 2)[:, ::-1])
    with pytest.raises(InputError, match="no float32 field 'z'"):
        c.fields_from_cloud(message, ("z",))
    message.data = message.data[:60]
    with pytest.raises(InputError, match="holds only"):
        c.fields_from_cloud(message, ("x",))


def test_coloured_cloud_packs_rgb():
    message = c.colored_cloud_message(np.zeros((1, 3)), np.array([[1, 2, 3]], np.uint8), HEADER)
    assert bytes(message.data[12:16]) == bytes([3, 2, 1, 0])


def test_wrist_covariance_points_along_the_ray():
    hand = make_hand(np.random.default_rng(5))
    message = c.wrist_message(hand, 600.0, HEADER)
    covariance = np.array(message.pose.covariance).reshape(6, 6)
    ray = hand.T_camera_wrist[:3, 3] / np.linalg.norm(hand.T_camera_wrist[:3, 3])
    values, vectors = np.linalg.eigh(covariance[:3, :3])
    assert values[-1] == pytest.approx(0.02**2) and abs(vectors[:, -1] @ ray) == pytest.approx(1)
    assert values[0] > 0 and c.sigma_from_wrist(message) == pytest.approx(0.02)


def test_joint_states_name_every_angle():
    names = [f"right_{i}" for i in range(20)]
    angles = np.linspace(-1, 1, 20)
    message = c.joint_state_message(names, angles, HEADER)
    assert list(message.name) == names
    np.testing.assert_array_equal(message.position, angles)
