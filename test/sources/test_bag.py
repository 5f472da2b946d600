"""Recordings, written here by BagWriter or by hand."""

from __future__ import annotations

import itertools
import struct

import cv2
import numpy as np
import pytest
from source_frames import assert_same_frames, make_frames

from hoi_ros.errors import InputError
from hoi_ros.sources import SourceConfig, open_source
from hoi_ros.sources.bag_files import make_typestore
from hoi_ros.sources.bag_images import color_of_message, depth_of_message
from hoi_ros.sources.bag_topics import BagTopic, choose_topics
from hoi_ros.sources.bag_writer import BagWriter
from hoi_ros.sources.stamp_pairing import pair_by_stamp

STORE = make_typestore()
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def write_bag(path, frames, **options):
    with BagWriter(path, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def read(path, **settings):
    with open_source(f"bag:{path}", SourceConfig(**settings)) as source:
        return source, list(source)


def header(stamp_ns=1_000_000_000):
    stamp = STORE.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="eye")


def image(pixels, encoding, *, padding=0, big=False, stamp_ns=1_000_000_000):
    """An Image whose rows are `padding` bytes longer than their pixels."""
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">" if big else "<"))
    rows = pixels.view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return STORE.types[IMAGE](
        header=header(stamp_ns), height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        is_bigendian=int(big), step=rows.shape[1], data=rows.reshape(-1),
    )  # fmt: skip


def compressed(data, kind, stamp_ns=1_000_000_000):
    return STORE.types[COMPRESSED](header=header(stamp_ns), format=kind, data=np.frombuffer(data, np.uint8))


def write_messages(path, messages):
    """Write (topic, type, message, log stamp) as they are."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, kind, message, log_ns in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic], log_ns, STORE.serialize_cdr(message, kind))
    return path


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("namespace", ["/camera/camera", "/camera", "", "/robot/left_eye"])
def test_what_is_written_is_read_bit_for_bit(tmp_path, storage, namespace, nothing_leaks):
    frames = make_frames(4)
    source, back = read(write_bag(tmp_path / "bag", frames, storage=storage, namespace=namespace))
    assert_same_frames(back, frames)
    assert source.has_depth and source.frame_count == 4 and not source.warnings
    assert source.fps == pytest.approx(30.0, rel=1e-6)
    assert back[0].frame_id == frames[0].frame_id


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_single_file_and_folder_without_metadata(tmp_path, storage):
    frames = make_frames(3)
    folder = write_bag(tmp_path / "bag", frames, storage=storage)
    (folder / "metadata.yaml").unlink()
    (file,) = folder.iterdir()
    for path in (file, folder):
        assert_same_frames(read(path)[1], frames)


def test_split_recording_is_read_in_order(tmp_path):
    frames = make_frames(6)
    folder = tmp_path / "split"
    folder.mkdir()
    for part in (0, 1):
        bag = write_bag(tmp_path / f"part{part}", frames[part * 3 : part * 3 + 3])
        next(bag.glob("*.mcap")).rename(folder / f"rec_{part + 9}.mcap")  # 9, 10: natural order
    assert_same_frames(read(folder)[1], frames)


def test_colour_alone(tmp_path):
    source, frames = read(write_bag(tmp_path / "bag", make_frames(2, depth=False)))
    assert not source.has_depth and frames[0].depth_m is None


def test_limits_and_loop(tmp_path):
    bag = write_bag(tmp_path / "bag", make_frames(5))
    assert [f.index for f in read(bag, start_frame=2, max_frames=2)[1]] == [2, 3]
    looped = read(bag, loop=True, max_frames=8)[1]
    assert np.diff([f.stamp_ns for f in looped]).min() > 0


def test_writer_refuses_an_existing_folder_and_leaves_no_whole_bag_on_error(tmp_path):
    with pytest.raises(InputError, match="exists already"):
        BagWriter(tmp_path)
    with pytest.raises(KeyError), BagWriter(tmp_path / "new") as writer:
        writer.write(make_frames(1)[0])
        raise KeyError
    with pytest.raises(InputError):
        open_source(f"bag:{tmp_path / 'new'}")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.6, 0.99])
@pytest.mark.parametrize("whole_folder", [True, False])
def test_truncated_recording_is_refused_when_opened(tmp_path, storage, keep, whole_folder, nothing_leaks):
    bag = write_bag(tmp_path / "bag", make_frames(20), storage=storage)
    file = next(p for p in bag.iterdir() if p.suffix in (".mcap", ".db3"))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * keep)])
    with pytest.raises(InputError, match="truncated") as caught:
        open_source(f"bag:{bag if whole_folder else file}")
    assert "\n" not in str(caught.value) and "bag" in str(caught.value)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damage_in_the_middle_names_the_bag(tmp_path, storage):
    bag = write_bag(tmp_path / "bag", make_frames(20), storage=storage)
    file = next(p for p in bag.iterdir() if p.suffix in (".mcap", ".db3"))
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(3)
    for start in range(4096, len(data) - 4096, 3000):
        data[start : start + 60] = rng.bytes(60)
    file.write_bytes(bytes(data))
    try:
        read(bag)
    except InputError as error:
        assert "bag" in str(error) and "\n" not in str(error)  # damaged pixels alone may pass


@pytest.mark.parametrize(("name", "content"), [("a.mcap", b"no bag" * 50), ("a.db3", b""), ("a.mcap", b"")])
def test_foreign_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        open_source(f"bag:{tmp_path / name}")


def test_other_refusals(tmp_path):
    with pytest.raises(InputError, match=r"no \.mcap or \.db3"):
        open_source(f"bag:{tmp_path}")
    (tmp_path / "ros1.bag").touch()
    with pytest.raises(InputError, match="rosbags-convert"):
        open_source(f"bag:{tmp_path / 'ros1.bag'}")


def test_bag_without_colour_lists_its_topics(tmp_path):
    depth = image(np.ones((4, 4), np.uint16), "16UC1")
    bag = write_messages(tmp_path / "bag", [("/cam/depth/image_raw", IMAGE, depth, 1)])
    with pytest.raises(InputError, match=r"no colour topic.*/cam/depth/image_raw \(sensor_msgs/msg/Image\)"):
        open_source(f"bag:{bag}")


@pytest.mark.parametrize("focal", [0.0, float("nan")])
def test_unusable_camera_info_is_refused_and_can_be_overridden(tmp_path, focal):
    frame = make_frames(1)[0]
    object.__setattr__(frame.intrinsics, "fx", focal)
    try:
        bag = write_bag(tmp_path / "bag", [frame])
    finally:
        object.__setattr__(frame.intrinsics, "fx", 61.5)
    with pytest.raises(InputError, match=r"camera_info.*not usable"):
        open_source(f"bag:{bag}")
    (tmp_path / "cam.json").write_text('{"fx": 50, "fy": 50, "cx": 1, "cy": 2}')
    assert read(bag, camera_file=str(tmp_path / "cam.json"))[1][0].intrinsics.fx == 50


def test_no_camera_info_is_guessed(tmp_path):
    picture = image(np.zeros((4, 6, 3), np.uint8), "rgb8")
    source, (frame,) = read(write_messages(tmp_path / "bag", [("/image_raw", IMAGE, picture, 1)]))
    assert frame.intrinsics.guessed and frame.frame_id == "eye" and len(source.warnings) == 1


def test_depth_of_another_size_is_named(tmp_path):
    messages = [
        ("/color/image_raw", IMAGE, image(np.zeros((4, 6, 3), np.uint8), "rgb8"), 1),
        ("/aligned_depth_to_color/image_raw", IMAGE, image(np.zeros((4, 5), np.uint16), "16UC1"), 2),
    ]
    with pytest.raises(InputError, match=r"depth of frame 0.*is 5x4, colour 6x4"):
        open_source(f"bag:{write_messages(tmp_path / 'bag', messages)}")


def test_unaligned_depth_is_left_out_with_a_warning(tmp_path):
    messages = [
        ("/camera/color/image_raw", IMAGE, image(np.zeros((4, 6, 3), np.uint8), "rgb8"), 1),
        ("/camera/depth/image_rect_raw", IMAGE, image(np.zeros((4, 6), np.uint16), "16UC1"), 2),
    ]
    source, (frame,) = read(write_messages(tmp_path / "bag", messages))
    assert frame.depth_m is None and not source.has_depth
    assert any("not aligned" in text for text in source.warnings)


def test_compressed_recording(tmp_path):
    frame = make_frames(1)[0]
    png = cv2.imencode(".png", frame.color[..., ::-1])[1].tobytes()
    millimetres = np.rint(frame.depth_m * 1000).astype(np.uint16)
    depth_png = bytes(12) + cv2.imencode(".png", millimetres)[1].tobytes()
    messages = [
        ("/c/color/image_raw/compressed", COMPRESSED, compressed(png, "rgb8; png compressed bgr8"), 1),
        ("/c/aligned_depth_to_color/image_raw/compressedDepth", COMPRESSED,
         compressed(depth_png, "16UC1; compressedDepth png"), 2),
    ]  # fmt: skip
    _, (back,) = read(write_messages(tmp_path / "bag", messages))
    np.testing.assert_array_equal(back.color, frame.color)
    np.testing.assert_array_equal(back.depth_m, frame.depth_m)


RGB = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
GRAY3 = np.repeat(RGB[..., :1], 3, 2)
ALPHA = np.full((5, 7, 1), 3, np.uint8)


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", RGB[..., ::-1], RGB),
        ("8UC3", RGB[..., ::-1], RGB),
        ("rgba8", np.dstack([RGB, ALPHA]), RGB),
        ("bgra8", np.dstack([RGB[..., ::-1], ALPHA]), RGB),
        ("mono8", RGB[..., 0], GRAY3),
        ("mono16", RGB[..., 0].astype(np.uint16) * 256 + 9, GRAY3),
    ],
)
def test_colour_encodings(encoding, pixels, expected, padding):
    color = color_of_message(image(pixels, encoding, padding=padding), "t")
    np.testing.assert_array_equal(color, expected)
    assert color.dtype == np.uint8 and color.flags.c_contiguous and color.flags.writeable


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_depth_encodings(big, padding):
    millimetres = np.array([[0, 1, 1500], [65535, 7, 8]], np.uint16)
    depth = depth_of_message(image(millimetres, "16UC1", padding=padding, big=big), "t")
    np.testing.assert_array_equal(depth, millimetres * np.float32(0.001))
    metres = np.array([[0.5, np.nan, np.inf], [-1.0, 1.25, 0.0]], np.float32)
    depth = depth_of_message(image(metres, "32FC1", padding=padding, big=big), "t")
    np.testing.assert_array_equal(depth, np.array([[0.5, 0, 0], [0, 1.25, 0]], np.float32))


def test_yuv_encoding_is_gray_for_neutral_chroma():
    packed = np.full((4, 6, 2), 128, np.uint8)
    color = color_of_message(image(packed, "yuv422_yuy2"), "t")
    assert color.shape == (4, 6, 3) and np.ptp(color) == 0


def test_inverse_depth_of_compressed_float(tmp_path):
    a, b = 1000.0, 50.0
    depth = np.array([[0.5, 1.0], [2.0, 0.0]], np.float32)
    with np.errstate(divide="ignore"):
        quantised = np.where(depth > 0, a / depth + b, 0).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + cv2.imencode(".png", quantised)[1].tobytes()
    back = depth_of_message(compressed(data, "32FC1; compressedDepth png"), "t")
    np.testing.assert_allclose(back, depth, atol=1e-3)


def test_unusable_messages_are_refused():
    short = image(RGB, "rgb8")
    short.data = short.data[:-3]
    wrong_step = image(RGB, "rgb8")
    wrong_step.step = 5
    for message, words in (
        (image(RGB, "bayer_rggb8"), "encoding 'bayer_rggb8'"), (short, "damaged"), (wrong_step, "damaged"),
        (compressed(b"no picture", "jpeg"), "cannot be decoded"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            color_of_message(message, "/t")
    for message, words in ((image(RGB, "rgb8"), "depth encoding"), (compressed(b"x", "png"), "no 16-bit PNG")):
        with pytest.raises(InputError, match=words):
            depth_of_message(message, "/t")


def topics(*names, kind=IMAGE, count=10):
    return [BagTopic(name, COMPRESSED if "ompressed" in name else kind, count) for name in names]


def test_results_in_a_recording_are_not_taken_for_the_camera():
    camera = "/camera/camera/"
    images = ("color/image_raw", "aligned_depth_to_color/image_raw", "depth/image_rect_raw", "infra1/image_rect_raw")
    infos = ("depth/camera_info", "color/camera_info")
    chosen = choose_topics(
        topics("/hands/overlay", "/object/mask", "/object/depth", *(camera + name for name in images))
        + topics(*(camera + name for name in infos), kind="sensor_msgs/msg/CameraInfo"),
        "b",
    )
    assert chosen.color.name == "/camera/camera/color/image_raw"
    assert chosen.depth.name == "/camera/camera/aligned_depth_to_color/image_raw"
    assert chosen.info.name == "/camera/camera/color/camera_info"


@pytest.mark.parametrize("name", ["/hands/overlay", "/object/mask", "/c/infra1/image_rect_raw", "/c/depth/image_raw"])
def test_pictures_that_are_not_the_cameras_colour_are_refused(name):
    with pytest.raises(InputError, match=f"no colour topic.*{name}"):
        choose_topics(topics(name), "b")


def test_of_two_cameras_depth_and_info_belong_to_the_chosen_one():
    two = topics("/a/color/image_raw", "/a/aligned_depth_to_color/image_raw") + topics(
        "/b/color/image_raw", "/b/aligned_depth_to_color/image_raw", count=20
    )
    for order in (two, two[::-1]):
        chosen = choose_topics(order, "b")
        assert (chosen.color.name, chosen.depth.name) == ("/b/color/image_raw", "/b/aligned_depth_to_color/image_raw")
    assert choose_topics(two, "b", "/a/color/image_raw").depth.name == "/a/aligned_depth_to_color/image_raw"


def test_raw_is_preferred_to_compressed_and_empty_topics_are_left_out():
    names = ("/c/color/image_raw/compressed", "/c/color/image_raw")
    assert choose_topics(topics(*names), "b").color.name == names[1]
    assert choose_topics(topics(names[0]) + topics(names[1], count=0), "b").color.name == names[0]


def test_named_topic_that_is_not_there():
    with pytest.raises(InputError, match="did you mean '/c/color/image_raw'"):
        choose_topics(topics("/c/color/image_raw"), "b", color_name="/c/colour/image_raw")


def stream(is_depth, stamps):
    return [(is_depth, stamp, stamp) for stamp in stamps]


@pytest.mark.parametrize("order", ["depth first", "colour first", "mixed"])
def test_pairs_are_the_nearest_within_tolerance(order):
    colors, depths = stream(False, [0, 33, 66, 99, 132]), stream(True, [3, 30, 80, 100])
    mixed = {
        "depth first": depths + colors, "colour first": colors + depths,
        "mixed": sorted(colors + depths, key=lambda m: m[1]),
    }[order]  # fmt: skip
    assert list(pair_by_stamp(mixed, 16)) == [(0, 0, 3), (33, 33, 30), (66, 66, 80), (99, 99, 100), (132, 132, None)]


def test_pairing_bounds_its_memory():
    endless = ((False, i, i) for i in itertools.count())
    stamps = [stamp for stamp, _, depth in itertools.islice(pair_by_stamp(endless, 5, patience=10), 100)]
    assert stamps == list(range(100))


def test_pairing_does_not_give_one_depth_to_two_colours():
    pairs = list(pair_by_stamp(stream(True, [10]) + stream(False, [8, 11]), 16))
    assert [depth for _, _, depth in pairs].count(10) == 1


def test_late_depth_in_a_recording_finds_its_colour(tmp_path):
    messages = []
    for i in range(6):
        pixels = np.full((4, 6, 3), i, np.uint8)
        stamp = 10**9 + i * 33_000_000
        messages.append(("/color/image_raw", IMAGE, image(pixels, "rgb8", stamp_ns=stamp), stamp))
        depth = np.full((4, 6), 1000 + i, np.uint16)
        log = stamp + 70_000_000
        if i != 4:
            messages.append(
                ("/aligned_depth_to_color/image_raw", IMAGE, image(depth, "16UC1", stamp_ns=stamp + 5_000_000), log)
            )
    messages.sort(key=lambda m: m[3])
    source, frames = read(write_messages(tmp_path / "bag", messages))
    got = [None if f.depth_m is None else round(float(f.depth_m[0, 0]) * 1000) for f in frames]
    assert got == [1000, 1001, 1002, 1003, None, 1005]
    assert any("no depth within half a frame" in text for text in source.warnings)


def test_the_depth_that_a_tracker_gives_an_object_is_not_the_cameras():
    chosen = choose_topics(topics("/color/image_raw", "/object/depth"), "b")
    assert chosen.depth is None and chosen.unaligned_depth is None
