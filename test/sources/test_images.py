"""Folders of pictures."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from hoi_ros.errors import InputError
from hoi_ros.sources import SourceConfig, open_source
from hoi_ros.sources.image_files import natural_key

RAMP = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


def open_images(folder, **settings):
    return open_source(f"images:{folder}", SourceConfig(**settings))


def test_natural_order_and_rate(tmp_path):
    for name in ("img10.png", "img2.png", "IMG1.PNG", "notes.txt", ".hidden.png"):
        Image.fromarray(RAMP).save(tmp_path / name, format="PNG")
    with open_images(tmp_path, fps=10.0) as source:
        frames = list(source)
    assert [f.name for f in frames] == ["IMG1.PNG", "img2.png", "img10.png"]
    assert [f.stamp_ns for f in frames] == [0, 100_000_000, 200_000_000]
    assert source.independent_frames and not source.live and not source.has_depth
    assert source.frame_count == 3


def test_natural_key_orders_mixed_names():
    names = ["b2", "b10", "a", "2", "10", "b2a"]
    assert sorted(names, key=natural_key) == ["2", "10", "a", "b2", "b2a", "b10"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "jpg"])
def test_kinds_of_files(tmp_path, suffix):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(flat).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    with open_images(tmp_path) as source:
        (frame,) = source
    assert np.abs(frame.color.astype(int) - flat).max() <= (3 if suffix == "jpg" else 0)


@pytest.mark.parametrize("kind", ["gray", "gray alpha", "alpha", "palette", "16 bit", "1x1"])
def test_depths_and_channels_become_rgb8(tmp_path, kind):
    gray = RAMP[..., 0]
    expected = np.repeat(gray[..., None], 3, 2)
    if kind == "gray":
        picture = Image.fromarray(gray)
    elif kind == "gray alpha":
        picture = Image.merge("LA", [Image.fromarray(gray), Image.new("L", (4, 4), 7)])
    elif kind == "alpha":
        expected = RAMP
        picture = Image.fromarray(np.dstack([RAMP, np.full((4, 4), 9, np.uint8)]))
    elif kind == "palette":
        picture = Image.fromarray(gray)
        picture = picture.convert("P")
        picture.putpalette([v for i in range(256) for v in (i, i, i)])
    elif kind == "16 bit":
        picture = Image.fromarray(gray.astype(np.uint16) * 256 + 77)
    else:
        expected = RAMP[:1, :1]
        picture = Image.fromarray(expected)
    picture.save(tmp_path / "a.png")
    with open_images(tmp_path) as source:
        (frame,) = source
    np.testing.assert_array_equal(frame.color, expected)


def test_exif_orientation_turns_the_picture(tmp_path):
    picture = Image.fromarray(np.repeat(np.repeat(RAMP, 8, 0), 16, 1))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    picture.save(tmp_path / "a.png", exif=exif)
    with open_images(tmp_path) as source:
        (frame,) = source
    np.testing.assert_array_equal(frame.color, np.rot90(np.asarray(picture), -1))
    assert (frame.intrinsics.width, frame.intrinsics.height) == (32, 64)


@pytest.mark.parametrize(
    "content",
    [
        {"fx": 5, "fy": 6, "cx": 1.5, "cy": 2, "width": 4, "height": 4},
        {"px": 5, "py": 6, "u0": 1.5, "v0": 2, "w": 4, "h": 4, "depthScale": 0.001},
        {"K": [[5, 0, 1.5], [0, 6, 2], [0, 0, 1]]},
        {"camera_matrix": {"data": [5, 0, 1.5, 0, 6, 2, 0, 0, 1]}, "image_width": 4, "image_height": 4},
    ],
)
def test_camera_file(tmp_path, content):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "camera.json").write_text(json.dumps(content))
    with open_images(tmp_path) as source:
        (frame,) = source
    camera = frame.intrinsics
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.guessed) == (5, 6, 1.5, 2, False)
    assert (camera.width, camera.height) == (4, 4)
    assert not source.intrinsics_guessed and not source.warnings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"fx": 0, "fy": 6, "cx": 1, "cy": 2}', "not usable"),
        ('{"fx": NaN, "fy": 6, "cx": 1, "cy": 2}', "not usable"),
        ('{"fx": 5, "fy": 6, "cx": 1}', "no 'cy'"),
        ('{"fx": "wide", "fy": 6, "cx": 1, "cy": 2}', "wide"),
        ('{"K": [1, 2]}', "9 numbers"),
        ("[1]", "expected an object"),
        ("{", "not JSON"),
    ],
)
def test_bad_camera_file_is_refused_when_opened(tmp_path, text, words):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "camera.json").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        open_images(tmp_path)
    assert "camera.json" in str(caught.value) and "\n" not in str(caught.value)


def test_camera_file_of_another_size_is_refused(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "camera.json").write_text('{"fx": 5, "fy": 6, "cx": 1, "cy": 2, "width": 640, "height": 480}')
    with open_images(tmp_path) as source, pytest.raises(InputError, match=r"a\.png is 4x4.*640x480"):
        list(source)


def test_named_camera_file_overrides_the_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(RAMP).save(folder / "a.png")
    (folder / "camera.json").write_text('{"fx": 5, "fy": 6, "cx": 1, "cy": 2}')
    (tmp_path / "other.json").write_text('{"fx": 7, "fy": 7, "cx": 1, "cy": 2}')
    with open_images(folder, camera_file=str(tmp_path / "other.json")) as source:
        assert next(iter(source)).intrinsics.fx == 7


def test_folder_without_pictures(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="holds no picture"):
        open_images(tmp_path)


def test_file_that_is_no_picture_is_named_when_opened(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(InputError, match=r"b\.png is unreadable"):
        open_images(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_picture_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_images(tmp_path) as source, pytest.raises(InputError, match=rf"cut\.{suffix} is unreadable"):
        list(source)


def test_pictures_release_their_files(tmp_path, nothing_leaks):
    for i in range(5):
        Image.fromarray(RAMP).save(tmp_path / f"{i}.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with open_images(tmp_path) as source:
            next(iter(source))
