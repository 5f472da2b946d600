"""Scenes with exact pose, depth, labels and mesh."""

from hoi_ros.simulation.objects import object_names
from hoi_ros.simulation.scenes import SCENES
from hoi_ros.simulation.simulator import Simulator
from hoi_ros.simulation.simulator_config import SimulatorConfig

__all__ = ["SCENES", "Simulator", "SimulatorConfig", "object_names"]
