"""Where frames come from: every source is an iterable context manager of RgbdFrame."""

from hoi_ros.sources.grammar import SOURCE_KINDS, open_source
from hoi_ros.sources.presence import default_source
from hoi_ros.sources.source import Source
from hoi_ros.sources.source_config import SourceConfig

__all__ = ["SOURCE_KINDS", "Source", "SourceConfig", "default_source", "open_source"]
