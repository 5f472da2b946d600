"""Films, made here by PyAV."""

from __future__ import annotations

import av
import numpy as np
import pytest

from hoi_ros.errors import InputError
from hoi_ros.sources import SourceConfig, open_source


def picture(i: int, width=96, height=64) -> np.ndarray:
    """Upper left quarter bright, brightness otherwise telling the frame's number."""
    color = np.full((height, width, 3), 20 + 2 * i, np.uint8)
    color[: height // 2, : width // 2] = (250, 30, 30)
    return color


def write_video(path, count=40, *, options=None, pts=None, noise=False):
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.gop_size = 5
        for i in range(count):
            pixels = rng.integers(0, 256, (64, 96, 3), np.uint8) if noise else picture(i)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = pts[i] if pts else i
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_frames_stamps_and_count(tmp_path, nothing_leaks):
    path = write_video(tmp_path / "a.mp4")
    with open_source(f"video:{path}") as source:
        frames = list(source)
    assert source.frame_count == len(frames) == 40
    assert source.fps == pytest.approx(25.0)
    assert [f.stamp_ns for f in frames] == [i * 40_000_000 for i in range(40)]
    assert [f.index for f in frames] == list(range(40))
    for i in (0, 17, 39):
        assert np.abs(frames[i].color.astype(int) - picture(i)).mean() < 6
    assert not source.live and not source.has_depth and source.dropped_frames == 0
    assert frames[0].intrinsics.guessed and len(source.warnings) == 1 and frames[0].color.flags.writeable


def test_stamps_come_from_the_film(tmp_path):
    pts = [0, 1, 2, 10, 11, 30]
    path = write_video(tmp_path / "a.mkv", 6, pts=pts)
    with open_source(f"video:{path}") as source:
        stamps = np.array([f.stamp_s for f in source])
    np.testing.assert_allclose(stamps, np.array(pts) / 25, atol=0.0011)


def test_start_and_limit(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    with open_source(f"video:{path}", SourceConfig(start_frame=5, max_frames=3)) as source:
        frames = list(source)
    assert [f.index for f in frames] == [5, 6, 7]
    assert np.abs(frames[0].color.astype(int) - picture(5)).mean() < 6
    assert source.frame_count == 3


def set_rotation(path, clockwise_deg):
    """Write the display matrix of an MP4's track header by hand: rotation by quarter turns, 16.16 and 2.30 numbers."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd")
    one = 1 << 16
    c, s = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise_deg]
    matrix = (c * one, s * one, 0, -s * one, c * one, 0, 0, 0, 1 << 30)
    start = at + 4 + 4 + 20 + 8 + 8
    data[start : start + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in matrix)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(("clockwise", "corner"), [(90, "upper right"), (180, "lower right"), (270, "lower left")])
def test_rotation_mark_is_honoured(tmp_path, clockwise, corner):
    path = write_video(tmp_path / "a.mp4", 3)
    set_rotation(path, clockwise)
    with open_source(f"video:{path}") as source:
        color = next(iter(source)).color
    assert color.shape == ((64, 96, 3) if clockwise == 180 else (96, 64, 3))
    h, w = color.shape[0] // 2, color.shape[1] // 2
    quarters = {
        "upper left": color[:h, :w], "upper right": color[:h, w:],
        "lower left": color[h:, :w], "lower right": color[h:, w:],
    }  # fmt: skip
    assert max(quarters, key=lambda name: quarters[name][..., 0].mean()) == corner


def test_truncated_before_its_index_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.mp4 cannot be opened.*truncated"):
        open_source(f"video:{path}")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_film_whose_end_is_missing_is_refused(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == "mp4" else None
    path = write_video(tmp_path / f"a.{suffix}", 60, options=options, noise=True)
    with open_source(f"video:{path}") as source:
        assert len(list(source)) == 60
    whole = path.read_bytes()
    for share in (0.5, 0.7):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=rf"a\.{suffix} is truncated.*ffmpeg"):
            open_source(f"video:{path}")


def test_a_folder_is_no_film(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        open_source(f"video:{tmp_path}")


def test_damage_in_the_middle_is_survived(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60, noise=True)
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 20_000
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(bytes(data))
    with open_source(f"video:{path}") as source:
        assert len(list(source)) >= 50


@pytest.mark.parametrize("content", [b"", b"not a film at all" * 100])
def test_no_film_is_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be opened") as caught:
        open_source(f"video:{path}")
    assert "\n" not in str(caught.value)


def test_sound_alone_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(InputError, match="no picture stream"):
        open_source(f"video:{path}")


def test_leaving_early_releases_the_file(tmp_path, nothing_leaks):
    path = write_video(tmp_path / "a.mp4")
    with open_source(f"video:{path}") as source:
        next(iter(source))
    with pytest.raises(ValueError, match="closed"):
        iter(source)
