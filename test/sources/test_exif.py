"""Focal length that photos note of themselves."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pytest import approx

from hoi_ros.sources import SourceConfig, open_source
from hoi_ros.sources.exif import noted_focal_px

DIAGONAL_MM = 43.2666


def photo(path, size=(400, 300), **notes):
    """A JPEG with EXIF notes by tag name."""
    exif = Image.Exif()
    tags = {"width": 0xA002, "height": 0xA003, "zoom": 0xA404, "focal": 0xA405}
    part = exif.get_ifd(0x8769)
    part.update({tags[name]: value for name, value in notes.items() if name in tags})
    if "turned" in notes:
        exif[0x0112] = notes["turned"]
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path, exif=exif)
    return path


def frames(folder, **settings):
    with open_source(f"images:{folder}", SourceConfig(**settings)) as source:
        return list(source), source


def test_the_equivalent_is_meant_for_the_diagonal(tmp_path):
    path = photo(tmp_path / "a.jpg", focal=26)
    assert noted_focal_px(path) == approx(26 / DIAGONAL_MM * 500, rel=1e-4)
    (frame,), source = frames(tmp_path)
    camera = frame.intrinsics
    assert camera.fx == camera.fy == approx(300.46, abs=0.01) and (camera.cx, camera.cy) == (199.5, 149.5)
    assert not camera.guessed and not source.intrinsics_guessed and not source.warnings


def test_a_smaller_copy_and_a_turned_one_keep_it(tmp_path):
    small = photo(tmp_path / "a.jpg", (200, 150), focal=26, width=4000, height=3000)
    assert noted_focal_px(small) == approx(26 / DIAGONAL_MM * 250, rel=1e-4)
    photo(tmp_path / "a.jpg", (400, 300), focal=26, width=4000, height=3000, turned=6)
    (frame,), _ = frames(tmp_path)
    assert (frame.intrinsics.width, frame.intrinsics.height) == (300, 400)
    assert frame.intrinsics.fx == approx(300.46, abs=0.01)


@pytest.mark.parametrize(
    "notes",
    [{}, {"focal": 0}, {"focal": 26, "zoom": 2.0}, {"focal": 26, "width": 400, "height": 200}, {"focal": 60000}],
)
def test_what_does_not_settle_it_leaves_the_guess(tmp_path, notes):
    photo(tmp_path / "a.jpg", **notes)
    (frame,), source = frames(tmp_path)
    assert frame.intrinsics.guessed and source.intrinsics_guessed and len(source.warnings) == 1


def test_a_camera_file_wins_and_a_field_of_view_is_only_assumed_where_nothing_is_known(tmp_path):
    photo(tmp_path / "a.jpg", focal=26)
    (frame,), _ = frames(tmp_path, fov_deg=90.0)
    assert frame.intrinsics.fx == approx(300.46, abs=0.01)
    (tmp_path / "camera.json").write_text('{"fx": 321, "fy": 321, "cx": 200, "cy": 150}')
    (frame,), _ = frames(tmp_path)
    assert frame.intrinsics.fx == 321


def test_a_picture_without_notes_or_no_picture_says_nothing(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    assert noted_focal_px(tmp_path / "a.png") is None
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert noted_focal_px(tmp_path / "b.jpg") is None
