"""`bag:PATH`: a rosbag2 recording (sqlite3 or MCAP) with the topics of realsense2_camera."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from hoi_ros.datatypes import OPTICAL_FRAME, CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.bag_files import BagReader
from hoi_ros.sources.bag_images import color_of_message, depth_of_message, intrinsics_of_message, stamp_of_cdr
from hoi_ros.sources.bag_topics import choose_topics
from hoi_ros.sources.camera_file import CameraFile, read_camera_file
from hoi_ros.sources.source import Source
from hoi_ros.sources.source_config import SourceConfig
from hoi_ros.sources.stamp_pairing import pair_by_stamp

DISTORTION_LIMIT = 0.02


class BagSource(Source):
    """Colour of a bag with the aligned depth nearest in time, stamped by the messages' own headers."""

    def __init__(self, path: Path, config: SourceConfig) -> None:
        """Find the topics, the intrinsics and the frame rate, and read the first frame.

        Raises:
            InputError: missing, truncated or foreign file, no colour topic (those found are listed), bad intrinsics.
            MissingLibraryError: rosbags is not installed.
        """
        super().__init__(f"bag:{path}", config)
        self.path = path
        self._camera: CameraFile | None = read_camera_file(config.camera_file) if config.camera_file else None
        with BagReader(path) as reader:
            self.topics = choose_topics(reader.topics(), str(path), config.color_topic, config.depth_topic)
            self._intrinsics = self._find_intrinsics(reader)
            period_ns = self._probe_period(reader)
        self.fps = 1e9 / period_ns
        self._tolerance_ns = period_ns // 2
        self.has_depth = self.topics.depth is not None
        if self.topics.unaligned_depth:
            self.warn_once(
                "depth",
                f"depth topic {self.topics.unaligned_depth} is not aligned to colour and is left out: "
                "record aligned_depth_to_color/image_raw (align_depth.enable:=true)",
            )
        with closing(self._frames(0)) as frames:
            if next(frames, None) is None:
                raise InputError(f"bag {path} lists colour pictures but holds none: it is damaged, record it again")

    def _total_frames(self) -> int:
        return self.topics.color.count

    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        with BagReader(self.path) as reader:
            paired = pair_by_stamp(self._messages(reader), self._tolerance_ns)
            for index, (stamp_ns, color_raw, depth_raw) in enumerate(paired):
                if index >= start:
                    yield self._frame(reader, index, stamp_ns, color_raw, depth_raw)

    def _frame(
        self, reader: BagReader, index: int, stamp_ns: int, color_raw: bytes, depth_raw: bytes | None
    ) -> RgbdFrame:
        color_topic, depth_topic = self.topics.color, self.topics.depth
        message = reader.decode(color_raw, color_topic.type)
        color = color_of_message(message, color_topic.name)
        depth_m = None
        if depth_topic is not None and depth_raw is not None:
            depth_m = depth_of_message(reader.decode(depth_raw, depth_topic.type), depth_topic.name)
            if depth_m.shape != color.shape[:2]:
                raise InputError(
                    f"depth of frame {index} in {self.name} is {depth_m.shape[1]}x{depth_m.shape[0]}, colour "
                    f"{color.shape[1]}x{color.shape[0]}: record depth aligned to colour"
                )
        elif depth_topic is not None:
            self.warn_once("pairing", f"frame {index} and maybe others have no depth within half a frame")
        frame_id = message.header.frame_id or OPTICAL_FRAME
        name = f"{color_topic.name}#{index}"
        return RgbdFrame(color, self._intrinsics_for(color), stamp_ns, index, depth_m, frame_id, name)

    def _messages(self, reader: BagReader) -> Iterator[tuple[bool, int, bytes]]:
        """(is_depth, header stamp, serialised message) in the order of recording."""
        color, depth = self.topics.color.name, self.topics.depth
        for topic, raw in reader.messages({color, depth.name if depth else color}):
            yield topic != color, stamp_of_cdr(raw), raw

    def _find_intrinsics(self, reader: BagReader) -> CameraIntrinsics | None:
        """Intrinsics of the first camera_info; None without one, or when a camera file overrides it."""
        info = self.topics.info
        if self._camera is not None or info is None:
            return None
        _topic, raw = next(reader.messages({info.name}), ("", b""))
        message = reader.decode(raw, info.type)
        if np.abs(message.d).max(initial=0) > DISTORTION_LIMIT:
            self.warn_once("distortion", f"the lens distortion of {info.name} is ignored: record rectified pictures")
        return intrinsics_of_message(message, info.name)

    def _intrinsics_for(self, color: np.ndarray) -> CameraIntrinsics:
        height, width = color.shape[:2]
        if self._camera is not None:
            return self._camera.intrinsics(width, height, f"picture of {self.name}")
        if self._intrinsics is None:
            return self.guessed_intrinsics(width, height)
        if (self._intrinsics.width, self._intrinsics.height) != (width, height):
            raise InputError(
                f"{self.topics.color.name} in {self.name} is {width}x{height}, its camera_info says "
                f"{self._intrinsics.width}x{self._intrinsics.height}: give the right intrinsics with camera_file"
            )
        return self._intrinsics

    def _probe_period(self, reader: BagReader) -> int:
        """Median nanoseconds between the stamps of the first colour pictures."""
        messages = itertools.islice(reader.messages({self.topics.color.name}), 16)
        steps = np.diff([stamp_of_cdr(raw) for _topic, raw in messages])
        usable = steps[steps > 0]
        return int(np.median(usable)) if usable.size else round(1e9 / self.config.fps)
