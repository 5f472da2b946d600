"""The one grammar of sources: KIND[:ARGUMENT]."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hoi_ros.errors import InputError, unknown_name
from hoi_ros.sources.image_files import COLOR_SUFFIXES
from hoi_ros.sources.source import Source, require_frames
from hoi_ros.sources.source_config import SourceConfig

SOURCE_KINDS = {
    "sim": "sim[:SCENE[:OBJECT]]",
    "video": "video:FILE",
    "webcam": "webcam[:N]",
    "images": "images:DIR",
    "rgbd": "rgbd:DIR",
    "bag": "bag:PATH",
    "realsense": "realsense[:SERIAL]",
    "topics": "topics",
}
"""Kind to how it is written."""


def open_source(spec: str, config: SourceConfig | None = None) -> Source:
    """Open where frames come from.

    Args:
        spec: one of SOURCE_KINDS, such as 'video:film.mp4' or 'sim'.
        config: settings; None takes the defaults.

    Returns:
        The source, opened: its first frame is known to be readable. Close it, or use it as a context manager.

    Raises:
        InputError: unknown kind (the nearest is suggested), missing argument, or nothing usable there.
    """
    kind, argument = parse_source(spec)
    return require_frames(_OPENERS[kind](argument, config or SourceConfig()))


def parse_source(spec: str) -> tuple[str, str]:
    """Split a spec into kind and argument ('' for none), without opening anything.

    Raises:
        InputError: unknown kind, or an argument that is missing or too much.
    """
    kind, colon, argument = spec.strip().partition(":")
    if kind not in SOURCE_KINDS:
        raise _unknown_source(spec, kind)
    form = SOURCE_KINDS[kind]
    if not argument and ":" in form.replace("[:", "["):
        raise InputError(f"source '{spec}' lacks its argument: write {form}")
    if argument and ":" not in form:
        raise InputError(f"source '{spec}' takes no argument: write {form}")
    if kind == "webcam" and argument and not argument.isdecimal():
        argument = argument.removeprefix("/dev/video")
        if not argument.isdecimal():
            raise InputError(f"source '{spec}': the webcam's number is missing; write {form}, e.g. webcam:0")
    return kind, argument


def _unknown_source(spec: str, kind: str) -> InputError:
    path = Path(spec).expanduser()
    if not spec or not path.exists():
        return unknown_name("source", kind, SOURCE_KINDS)
    if path.suffix in (".mcap", ".db3") or (path / "metadata.yaml").exists():
        guess = "bag"
    elif path.is_file():
        guess = "video"
    else:
        guess = "rgbd" if (path / "depth").is_dir() else "images"
    hint = f"did you mean '{guess}:{spec}'?"
    if path.suffix.lower() in COLOR_SUFFIXES:
        hint = f"for one picture, give its folder: 'images:{path.parent}'"
    return InputError(f"unknown source '{spec}': {hint}")


def _open_simulator(argument: str, config: SourceConfig) -> Source:
    from hoi_ros.sources.simulator import SimulatorSource

    return SimulatorSource(argument, config)


def _open_video(argument: str, config: SourceConfig) -> Source:
    from hoi_ros.sources.video import VideoSource

    return VideoSource(Path(argument).expanduser(), config)


def _open_webcam(argument: str, config: SourceConfig) -> Source:
    from hoi_ros.sources.webcam import WebcamSource

    return WebcamSource(int(argument or 0), config)


def _open_images(argument: str, config: SourceConfig) -> Source:
    from hoi_ros.sources.images import ImagesSource

    return ImagesSource(Path(argument).expanduser(), config)


def _open_rgbd(argument: str, config: SourceConfig) -> Source:
    from hoi_ros.sources.rgbd_folder import RgbdFolderSource

    return RgbdFolderSource(Path(argument).expanduser(), config)


def _open_bag(argument: str, config: SourceConfig) -> Source:
    from hoi_ros.sources.bag import BagSource

    return BagSource(Path(argument).expanduser(), config)


def _open_realsense(argument: str, config: SourceConfig) -> Source:
    from hoi_ros.sources.realsense import RealSenseSource

    return RealSenseSource(argument, config)


def _refuse_topics(_argument: str, _config: SourceConfig) -> Source:
    raise InputError(
        "source 'topics' subscribes to a camera driver and exists only on ROS: use it with 'live', "
        "or record a bag and give bag:PATH"
    )


_OPENERS: dict[str, Callable[[str, SourceConfig], Source]] = {
    "sim": _open_simulator,
    "video": _open_video,
    "webcam": _open_webcam,
    "images": _open_images,
    "rgbd": _open_rgbd,
    "bag": _open_bag,
    "realsense": _open_realsense,
    "topics": _refuse_topics,
}
