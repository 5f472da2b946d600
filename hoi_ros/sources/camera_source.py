"""Cameras: a thread keeps the newest frame and finds an unplugged device again."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Generator
from dataclasses import replace

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.sources.source import Source, logger
from hoi_ros.sources.source_config import SourceConfig


class DeviceLost(Exception):
    """The device stopped giving frames."""


class CameraSource(Source):
    """A device read by a thread of its own; a slow reader gets the newest frame, never a queue of old ones.

    A subclass connects, grabs and disconnects; `start()` comes last in its constructor.
    """

    live = True

    def __init__(self, name: str, config: SourceConfig) -> None:
        super().__init__(name, config)
        self._arrival = threading.Condition()
        self._newest: RgbdFrame | None = None
        self._failure: BaseException | None = None
        self._count = 0
        self._thread = threading.Thread(target=self._read_device, name=name, daemon=True)

    @abstractmethod
    def _connect(self) -> None:
        """Open the device; raises InputError when it is not there."""

    @abstractmethod
    def _grab(self) -> RgbdFrame:
        """Wait for the next frame; raises DeviceLost. The frame's index is set by the caller."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Release the device, also when it is gone."""

    def start(self) -> None:
        """Connect, get a first frame and start the thread.

        Raises:
            InputError: no such device, or it gives no frame.
        """
        self._connect()
        try:
            self._publish(self._grab())
        except DeviceLost as error:
            self._disconnect()
            raise InputError(
                f"{self.name} opens but gives no picture ({error}): close other programs using it"
            ) from error
        except BaseException:
            self._disconnect()
            raise
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and release the device."""
        super().close()
        with self._arrival:
            self._arrival.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=self.config.open_timeout_s + 1.0)

    def _frames(self, start: int) -> Generator[RgbdFrame, None, None]:
        last: RgbdFrame | None = None
        while True:
            with self._arrival:
                # The timeout lets Ctrl-C through on platforms where a wait without one cannot be interrupted.
                while (self._newest is None or self._newest is last) and not self.closed and self._failure is None:
                    self._arrival.wait(0.2)
                last, failure = self._newest, self._failure
            if self.closed or last is None:
                return
            if failure is not None:
                raise failure
            yield last

    def _publish(self, frame: RgbdFrame) -> None:
        with self._arrival:
            self._newest = replace(frame, index=self._count)
            self._count += 1
            self._arrival.notify_all()

    def _read_device(self) -> None:
        """The thread: grab until closed, reconnect when the device is lost."""
        try:
            while not self.closed:
                try:
                    self._publish(self._grab())
                except DeviceLost as error:
                    self._disconnect()
                    self._reconnect(str(error))
        except Exception as error:
            logger.exception("%s: reading the camera failed", self.name)
            with self._arrival:
                self._failure = error
                self._arrival.notify_all()
        finally:
            self._disconnect()

    def _reconnect(self, reason: str) -> None:
        self.status = f"camera lost ({reason}), trying to reach it again"
        logger.warning("%s: %s", self.name, self.status)
        self._warnings.setdefault("lost", f"{self.name}: {self.status}")
        while not self._closed.wait(self.config.retry_s):
            try:
                self._connect()
                frame = self._grab()
            except InputError:
                continue
            except DeviceLost:
                self._disconnect()
                continue
            self.status = ""
            logger.warning("%s: camera is back", self.name)
            self._publish(frame)
            return
