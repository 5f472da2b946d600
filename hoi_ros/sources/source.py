"""The face of every source: an iterable context manager of RgbdFrame."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.source_config import SourceConfig

logger = logging.getLogger(__name__)


class Source(ABC):
    """Frames in order of time; iterating again starts a recording again.

    `close()` may come from another thread: a running iteration then ends after its current frame. A recording opens
    its files when iterated and closes them with the iteration, so that nothing stays open between.
    """

    live: bool = False
    """True for cameras: every step gives the newest frame, older ones are dropped."""
    has_depth: bool = False
    """True when frames carry depth."""
    independent_frames: bool = False
    """True when frames are unrelated pictures and tracking between them is meaningless."""
    fps: float | None = None
    """Nominal frames a second; None when unknown."""

    def __init__(self, name: str, config: SourceConfig) -> None:
        self.name = name
        self.config = config
        self.dropped_frames = 0
        """Frames that the sensor or the file lost, so far."""
        self.status = ""
        """What is wrong right now, in words; empty while all is well."""
        self.intrinsics_guessed = False
        """True once a frame's intrinsics had to be assumed."""
        self._warnings: dict[str, str] = {}
        self._closed = threading.Event()
        self._iterations: list[Generator[RgbdFrame, None, None]] = []

    @abstractmethod
    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        """Yield the frames of one pass from number `start` on, releasing what it opened when closed."""

    def _total_frames(self) -> int | None:
        """Number of frames of one pass; None when unknown or endless."""
        return None

    @property
    def frame_count(self) -> int | None:
        """Frames that an iteration gives, limits respected; None when unknown or endless."""
        total, limit = self._total_frames(), self.config.max_frames
        if self.live or self.config.loop:
            return limit or None
        if total is None:
            return None
        rest = max(total - self.config.start_frame, 0)
        return min(rest, limit) if limit else rest

    @property
    def endless(self) -> bool:
        """True when an iteration does not end by itself."""
        return (self.live or self.config.loop) and not self.config.max_frames

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that was warned of so far, each once."""
        return tuple(self._warnings.values())

    @property
    def closed(self) -> bool:
        """True after `close()`."""
        return self._closed.is_set()

    def __iter__(self) -> Iterator[RgbdFrame]:
        """Iterate from the first frame.

        Raises:
            ValueError: the source is closed.
            InputError: while iterating, when a frame is unreadable.
        """
        if self.closed:
            raise ValueError(f"iterating the closed source {self.name}")
        iteration = self._play()
        self._iterations.append(iteration)
        return iteration

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release everything; may be called twice and from any thread."""
        self._closed.set()
        while self._iterations:
            with suppress(ValueError):  # running in another thread: it sees the flag after its frame
                self._iterations.pop().close()

    def warn_once(self, kind: str, text: str) -> None:
        """Log a warning, only the first of its kind."""
        if kind not in self._warnings:
            self._warnings[kind] = f"{self.name}: {text}"
            logger.warning("%s: %s", self.name, text)

    def guessed_intrinsics(self, width: int, height: int) -> CameraIntrinsics:
        """Assume the configured field of view for pictures of this size, and say so once."""
        self.intrinsics_guessed = True
        self.warn_once(
            "intrinsics",
            f"camera intrinsics unknown, assuming a field of view of {self.config.fov_deg:g} degrees; distances "
            "scale with it: give them with camera_file or set fov_deg",
        )
        return CameraIntrinsics.from_fov(width, height, self.config.fov_deg)

    def _play(self) -> Generator[RgbdFrame, None, None]:
        """All passes, with limits, stamps and numbers running on from pass to pass."""
        given, stamp_shift, index_shift = 0, 0, 0
        while True:
            first_stamp, last = None, None
            with closing(self._frames(self.config.start_frame)) as frames:
                for frame in frames:
                    if self.closed:
                        return
                    first_stamp = frame.stamp_ns if first_stamp is None else first_stamp
                    last = frame
                    if stamp_shift or index_shift:
                        frame = replace(frame, stamp_ns=frame.stamp_ns + stamp_shift, index=frame.index + index_shift)
                    yield frame
                    given += 1
                    if given == self.config.max_frames:
                        return
            if not self.config.loop or first_stamp is None or last is None or self.closed:
                return
            stamp_shift += last.stamp_ns - first_stamp + round(1e9 / (self.fps or 30.0))
            index_shift += last.index + 1 - self.config.start_frame


def require_frames(source: Source) -> Source:
    """Refuse a source whose limits leave no frame.

    Raises:
        InputError: `start_frame` lies past the end, or the source is empty.
    """
    if source.frame_count == 0:
        total = source._total_frames()
        source.close()
        raise InputError(f"{source.name} has {total} frames: start_frame {source.config.start_frame} lies past the end")
    return source
