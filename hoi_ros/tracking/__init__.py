"""Frames and hands in, poses of the held object out."""

from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.held_object import HeldObjectTracker
from hoi_ros.tracking.tracker import ObjectTracker

__all__ = ["HeldObjectTracker", "ObjectTracker", "TrackerConfig"]
