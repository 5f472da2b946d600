"""Image in, hands out."""

from hoi_ros.hand.config import HandConfig
from hoi_ros.hand.estimator import HandEstimator, create_hand_estimator

__all__ = ["HandConfig", "HandEstimator", "create_hand_estimator"]
