"""Recordings on disk: which files belong together, and reading them through `rosbags`."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from hoi_ros.errors import InputError, MissingLibraryError
from hoi_ros.sources.bag_topics import BagTopic
from hoi_ros.sources.image_files import natural_key

BAG_SUFFIXES = (".mcap", ".db3")
SQLITE_MAGIC = b"SQLite format 3\0"


def make_typestore() -> Any:
    """The message types of the newest ROS 2 that rosbags knows; sensor_msgs are the same in every ROS 2.

    Raises:
        MissingLibraryError: rosbags is not installed.
    """
    try:
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingLibraryError("bags need rosbags: pip install rosbags") from error
    return get_typestore(Stores.LATEST)


def find_bag_files(path: Path) -> list[Path]:
    """What to open: the folder itself when it has metadata.yaml, else its .mcap/.db3 files in natural order.

    Raises:
        InputError: nothing there, no recording in it, a ROS 1 bag, a truncated sqlite3 file.
    """
    try:
        if not path.exists():
            raise InputError(f"bag {path}: no such file or folder; check the path")
        if path.suffix == ".bag":
            raise InputError(f"bag {path} is a ROS 1 bag: 'rosbags-convert --src {path} --dst NEW_FOLDER' converts it")
        if path.is_dir():
            files = sorted((p for p in path.iterdir() if p.suffix in BAG_SUFFIXES), key=lambda p: natural_key(p.name))
            opened = [path] if (path / "metadata.yaml").exists() else files
        else:
            files = opened = [path] if path.suffix in BAG_SUFFIXES else []
    except OSError as error:
        raise InputError(f"bag {path}: {error.strerror}; check its permissions") from error
    if not opened:
        raise InputError(f"bag {path} holds no .mcap or .db3 file: give a rosbag2 folder or one such file")
    for file in files:
        _check_size(file)
    return opened


class BagReader:
    """Context manager over the files of one recording, read one after the other."""

    def __init__(self, path: Path) -> None:
        """Open all files.

        Raises:
            InputError: missing, truncated or foreign file.
            MissingLibraryError: rosbags is not installed.
        """
        self.path = path
        self._typestore = make_typestore()
        self._errors = _damage_errors()
        self._stack = ExitStack()
        from rosbags.rosbag2 import Reader

        try:
            self._readers = [self._guard(partial(self._open, Reader, file)) for file in find_bag_files(path)]
        except BaseException:
            self._stack.close()
            raise

    def topics(self) -> list[BagTopic]:
        """Every topic with its type and number of messages, in all files together."""
        counts: Counter[tuple[str, str]] = Counter()
        for connection in (c for reader in self._readers for c in reader.connections):
            counts[connection.topic, connection.msgtype] += connection.msgcount
        return [BagTopic(name, kind, count) for (name, kind), count in sorted(counts.items())]

    def messages(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield topic and serialised message of the named topics, in the order of recording.

        Raises:
            InputError: the file is damaged where it is read.
        """
        for reader in self._readers:
            connections = [c for c in reader.connections if c.topic in names]
            if not connections:
                continue
            messages = reader.messages(connections)
            while (item := self._guard(partial(next, messages, None))) is not None:
                yield item[0].topic, bytes(item[2])

    def decode(self, raw: bytes, kind: str) -> Any:
        """The message object of serialised bytes.

        Raises:
            InputError: the bytes are no such message.
        """
        return self._guard(lambda: self._typestore.deserialize_cdr(raw, kind))

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _open(self, reader_class: Any, file: Path) -> Any:
        return self._stack.enter_context(reader_class(file))

    def _guard(self, step: Callable[[], Any]) -> Any:
        """Run one step inside rosbags, whose parsers meet damaged bytes with errors of many kinds."""
        try:
            return step()
        except self._errors as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"bag {self.path} cannot be read ({reason}): it is truncated, damaged or no rosbag2; repair it with "
                "'mcap recover' or 'ros2 bag reindex', or record it again"
            ) from error


def _damage_errors() -> tuple[type[Exception], ...]:
    import apsw
    from rosbags.rosbag2 import ReaderError
    from rosbags.serde import SerdeError

    return (
        ReaderError, SerdeError, apsw.Error, OSError, EOFError, struct.error, ValueError, TypeError, LookupError,
        RuntimeError, AssertionError, ArithmeticError, MemoryError, *_zstd_errors(),
    )  # fmt: skip


def _zstd_errors() -> tuple[type[Exception], ...]:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            return ()
    return (zstd.ZstdError,)


def _check_size(path: Path) -> None:
    """Compare an sqlite3 file's size with its header's; sqlite itself notices a missing end only when it gets there.

    Raises:
        InputError: unreadable or shorter than that.
    """
    if path.suffix != ".db3":
        return
    try:
        with path.open("rb") as file:
            header = file.read(100)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"bag {path}: {error.strerror}; check its permissions") from error
    if len(header) < 100 or not header.startswith(SQLITE_MAGIC):
        raise InputError(f"bag {path} is no sqlite3 file or truncated: record or copy it again")
    page = struct.unpack_from(">H", header, 16)[0]
    pages = struct.unpack_from(">I", header, 28)[0]
    expected = (65536 if page == 1 else page) * pages
    if size < expected:
        raise InputError(f"bag {path} is truncated: {size} of {expected} bytes are there; copy or record it again")
