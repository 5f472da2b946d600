"""Which topics of a bag are colour, aligned depth and camera_info, judged by type and name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hoi_ros.errors import InputError, unknown_name

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE)

OWN_DEPTH = "/object/depth"  # what tracker_node says of the object, no camera's
NOT_COLOR = ("depth", "infra", "mask", "overlay", "disparity", "confidence", "fisheye")
COLOR_NAMES = ("color/image_raw", "rgb/image_raw", "color/image_rect_raw", "image_raw", "image_color", "image")
DEPTH_NAMES = ("aligned_depth_to_color/image_raw", "depth_registered/image_raw", "depth_to_rgb/image_raw")


@dataclass(frozen=True)
class BagTopic:
    """A topic as a bag lists it."""

    name: str
    type: str
    count: int

    @property
    def base(self) -> str:
        """The name without what image transport appends."""
        return self.name.removesuffix("/compressedDepth").removesuffix("/compressed")


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera; None where the bag has none."""

    color: BagTopic
    depth: BagTopic | None
    info: BagTopic | None
    unaligned_depth: str | None
    """A depth topic that cannot be used because it is not aligned to colour."""


def choose_topics(topics: Iterable[BagTopic], bag: str, color_name: str = "", depth_name: str = "") -> CameraTopics:
    """Choose the topics of one camera; of several cameras the one with the best known name, then the most frames.

    Args:
        topics: all topics of the bag; those without messages are left out.
        bag: the bag's name, for messages.
        color_name: the colour topic, '' to find it.
        depth_name: the aligned depth topic, '' to find it.

    Raises:
        InputError: no colour topic (what is there is listed), or a named topic that is not there.
    """
    topics = [topic for topic in topics if topic.count > 0]
    images = {topic.name: topic for topic in topics if topic.type in IMAGE_TYPES}
    for name in filter(None, (color_name, depth_name)):
        if name not in images:
            raise InputError(f"bag {bag}: {unknown_name('image topic', name, images)}")
    color = images[color_name] if color_name else _best(images.values(), COLOR_NAMES, _is_color)
    if color is None:
        found = ", ".join(f"{t.name} ({t.type})" for t in topics) or "none with messages"
        raise InputError(f"bag {bag} has no colour topic such as /camera/camera/color/image_raw; its topics: {found}")
    camera = _namespace(color.base)
    own_depths = [
        t
        for t in images.values()
        if t is not color and "depth" in t.base and t.base.startswith(camera) and not t.base.endswith(OWN_DEPTH)
    ]
    depth = images[depth_name] if depth_name else _best(own_depths, DEPTH_NAMES, _is_aligned)
    unaligned = None if depth or not own_depths else own_depths[0].name
    return CameraTopics(color, depth, _info_topic(topics, color), unaligned)


def _is_color(topic: BagTopic) -> bool:
    return not any(word in topic.base for word in NOT_COLOR) and not topic.name.endswith("/compressedDepth")


def _is_aligned(topic: BagTopic) -> bool:
    return topic.base.endswith(DEPTH_NAMES)


def _best(topics: Iterable[BagTopic], names: tuple[str, ...], usable) -> BagTopic | None:
    """Best known name first, then raw before compressed, then the most messages."""
    return min(
        filter(usable, topics),
        key=lambda t: (_rank(t.base, names), t.type != IMAGE, -t.count, t.name),
        default=None,
    )


def _rank(base: str, names: tuple[str, ...]) -> int:
    return next((i for i, name in enumerate(names) if base.endswith(name)), len(names))


def _namespace(base: str) -> str:
    """'/camera/camera/' of '/camera/camera/color/image_raw'."""
    folder = base.rsplit("/", 1)[0]
    return folder.rsplit("/", 1)[0] + "/"


def _info_topic(topics: list[BagTopic], color: BagTopic) -> BagTopic | None:
    beside = color.base.rsplit("/", 1)[0] + "/camera_info"
    infos = {topic.name: topic for topic in topics if topic.type == CAMERA_INFO}
    return infos.get(beside) or infos.get(color.base + "/camera_info")
