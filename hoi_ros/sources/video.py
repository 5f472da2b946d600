"""`video:FILE`: a film, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError, MissingLibraryError
from hoi_ros.sources.camera_file import read_camera_file
from hoi_ros.sources.source import Source
from hoi_ros.sources.source_config import SourceConfig


class VideoSource(Source):
    """Frames of a film, turned upright by its rotation mark; stamps are the film's own, from 0."""

    def __init__(self, path: Path, config: SourceConfig) -> None:
        """Decode the first frame.

        Raises:
            InputError: missing or unreadable file, no film, its end missing, nothing decodable in it; bad camera file.
        """
        super().__init__(f"video:{path}", config)
        self.path = path
        self._camera = read_camera_file(config.camera_file) if config.camera_file else None
        if path.is_dir():
            raise InputError(f"video {path} is a folder: name the film in it, or take images:{path} for photos")
        if not path.is_file():
            raise InputError(f"video {path}: no such file; check the path")
        if not os.access(path, os.R_OK):
            raise InputError(f"video {path}: no permission to read it; change that with 'chmod +r'")
        with self._open() as container:
            stream = container.streams.video[0]
            self.fps = float(stream.average_rate) if stream.average_rate else None
            self._count = stream.frames or None
            self._duration_s = _duration_s(container, stream)
            first = next(self._decode(container, stream), None)
        if first is None:
            raise InputError(f"video {path}: no frame can be decoded; it is damaged or empty, record it again")
        if not self._is_whole():
            raise InputError(
                f"video {path} is truncated, the end of its {self._duration_s:.1f} s is missing: copy or record it "
                f"again, or keep what is there with 'ffmpeg -i {path} -c copy NEW{path.suffix}'"
            )

    def _total_frames(self) -> int | None:
        return self._count

    def _open(self) -> Any:
        try:
            import av
        except ImportError as error:
            raise MissingLibraryError("video sources need PyAV: pip install av") from error
        try:
            container = av.open(str(self.path))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"video {self.path} cannot be opened ({getattr(error, 'strerror', None) or error}): "
                "it is truncated or no video; copy or record it again"
            ) from error
        if not container.streams.video:
            container.close()
            raise InputError(f"video {self.path} holds no picture stream: give a film, not sound alone")
        return container

    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        index = 0
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            origin = stream.start_time or 0
            for picture in self._decode(container, stream):
                if picture.pts is None or picture.time_base is None:
                    seconds = index / (self.fps or 30.0)
                else:
                    seconds = float((picture.pts - origin) * picture.time_base)
                if index >= start:
                    color = _upright(picture)
                    yield RgbdFrame(
                        color, self._intrinsics(color), round(seconds * 1e9), index, name=f"{self.path.name}#{index}"
                    )
                index += 1

    def _decode(self, container: Any, stream: Any) -> Generator[Any, None, None]:
        """Pictures in order of time; what cannot be decoded is counted, a broken end ends the film."""
        import av

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                self.warn_once("truncated", f"the file breaks off ({error}); the frames before that were used")
                return
            try:
                pictures = packet.decode()
            except (av.error.FFmpegError, OSError):
                self.dropped_frames += 1
                self.warn_once("damaged", "some frames cannot be decoded and are left out")
                continue
            yield from pictures

    def _is_whole(self) -> bool:
        """Whether the last second that the header promises is there; true when it promises none."""
        import av

        if self._duration_s is None:
            return True
        last_s = 0.0
        with self._open() as container:
            begin = container.start_time or 0
            try:
                container.seek(begin + round(max(self._duration_s - 1, 0) * 1e6))
                # Sound may outlast the pictures, and the container's duration with it.
                for packet in container.demux():
                    if packet.pts is not None and packet.time_base is not None:
                        last_s = max(last_s, float(packet.pts * packet.time_base) - begin / 1e6)
            except (av.error.FFmpegError, OSError):
                return False
        return last_s > self._duration_s - max(0.5, 2 / (self.fps or 30.0))

    def _intrinsics(self, color: np.ndarray) -> CameraIntrinsics:
        height, width = color.shape[:2]
        if self._camera is None:
            return self.guessed_intrinsics(width, height)
        return self._camera.intrinsics(width, height, f"video {self.path}")


def _duration_s(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration is not None else None


def _upright(picture: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as the film's display matrix says."""
    color = picture.to_ndarray(format="rgb24")
    quarter_turns = round((picture.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(color, quarter_turns)) if quarter_turns else color
