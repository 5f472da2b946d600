"""Hand geometry that the estimator and the simulator share: joints, skin, limits. Knows numpy only."""

from hoi_ros.hand_model.mano import choose_hand_model, load_mano
from hoi_ros.hand_model.model import HandModel, HandPose

__all__ = ["HandModel", "HandPose", "choose_hand_model", "load_mano"]
