"""Folders of colour and depth, read and written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from source_frames import CAMERA, assert_same_frames, make_frames

from hoi_ros.errors import InputError
from hoi_ros.sources import SourceConfig, open_source
from hoi_ros.sources.rgbd_writer import RgbdWriter, depth_to_millimetres


def write_folder(folder, frames, fps=None):
    with RgbdWriter(folder, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return folder


def read(folder, **settings):
    with open_source(f"rgbd:{folder}", SourceConfig(**settings)) as source:
        return source, list(source)


def test_what_is_written_is_read_bit_for_bit(tmp_path, nothing_leaks):
    frames = make_frames(4)
    source, back = read(write_folder(tmp_path / "rec", frames))
    assert_same_frames(back, frames)
    assert source.has_depth and source.frame_count == 4 and not source.warnings
    assert source.fps == pytest.approx(30.0, rel=1e-6)


def test_depth_to_millimetres_rounds_and_drops_the_impossible():
    depth = np.array([[0.0014, 0.0016, -1.0, np.nan, np.inf, 65.535, 65.6]], np.float32)
    np.testing.assert_array_equal(depth_to_millimetres(depth), [[1, 2, 0, 0, 0, 65535, 0]])


def test_foreign_camera_layout_and_depth_scale(tmp_path):
    write_folder(tmp_path, make_frames(1))
    (tmp_path / "stamps.txt").unlink()
    cam = {"h": 48, "w": 64, "depthScale": 0.0005, "px": 61.5, "py": 60.25, "u0": 31.0, "v0": 24.5}
    (tmp_path / "cam.json").write_text(json.dumps(cam))
    _, (frame,) = read(tmp_path)
    assert frame.intrinsics == CAMERA
    np.testing.assert_allclose(frame.depth_m, make_frames(1)[0].depth_m / 2, atol=1e-6)


def test_stamps_from_rate_or_seconds(tmp_path):
    write_folder(tmp_path, make_frames(3))
    (tmp_path / "stamps.txt").write_text("0.5\n0.75\n1.0\n")
    source, frames = read(tmp_path)
    assert [f.stamp_ns for f in frames] == [500_000_000, 750_000_000, 1_000_000_000]
    assert source.fps == pytest.approx(4.0)
    (tmp_path / "stamps.txt").unlink()
    assert [f.stamp_ns for f in read(tmp_path, fps=20.0)[1]] == [0, 50_000_000, 100_000_000]


def test_unknown_camera_is_guessed(tmp_path):
    write_folder(tmp_path, make_frames(2))
    (tmp_path / "cam.json").unlink()
    source, frames = read(tmp_path)
    assert frames[0].intrinsics.guessed and len(source.warnings) == 1


def spoil_count(folder):
    (folder / "depth" / "000001.png").unlink()


def spoil_first_depth_size(folder):
    Image.new("I;16", (32, 24)).save(folder / "depth" / "000000.png")


def spoil_depth_kind(folder):
    Image.new("L", (64, 48)).save(folder / "depth" / "000000.png")


def spoil_depth_folder(folder):
    (folder / "depth").rename(folder / "deep")


def spoil_stamp_count(folder):
    (folder / "stamps.txt").write_text("1\n2\n")


def spoil_stamp(folder):
    (folder / "stamps.txt").write_text("1\nnow\n3\n")


def spoil_camera(folder):
    (folder / "cam.json").write_text('{"fx": NaN, "fy": 1, "cx": 0, "cy": 0}')


def spoil_camera_size(folder):
    (folder / "cam.json").write_text('{"fx": 1, "fy": 1, "cx": 0, "cy": 0, "width": 640, "height": 480}')


def spoil_scale(folder):
    (folder / "cam.json").write_text('{"fx": 1, "fy": 1, "cx": 0, "cy": 0, "depthScale": 0}')


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_count, "3 colour and 2 depth"),
        (spoil_first_depth_size, "000000.png is 32x24.*64x48.*align"),
        (spoil_depth_kind, "16-bit gray"),
        (spoil_depth_folder, "depth"),
        (spoil_stamp_count, "2 stamps for 3 frames"),
        (spoil_stamp, "one stamp a line"),
        (spoil_camera, "not usable"),
        (spoil_camera_size, "64x48.*640x480"),
        (spoil_scale, "depthScale"),
    ],
)
def test_bad_folders_are_refused_when_opened(tmp_path, spoil, words):
    spoil(write_folder(tmp_path, make_frames(3)).absolute())
    with pytest.raises(InputError, match=words) as caught:
        open_source(f"rgbd:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_later_depth_of_another_size_is_named(tmp_path):
    write_folder(tmp_path, make_frames(3))
    Image.new("I;16", (32, 24)).save(tmp_path / "depth" / "000002.png")
    with open_source(f"rgbd:{tmp_path}") as source:
        iterator = iter(source)
        next(iterator), next(iterator)
        with pytest.raises(InputError, match=r"000002\.png is 32x24"):
            next(iterator)


def test_writer_refuses_a_full_folder_and_frames_without_depth(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="not empty"):
        RgbdWriter(tmp_path)
    with RgbdWriter(tmp_path / "new") as writer, pytest.raises(InputError, match="no depth"):
        writer.write(make_frames(1, depth=False)[0])
    with pytest.raises(InputError, match="may write"):
        RgbdWriter(tmp_path / "a" / "below")
