"""Image in, hands out."""

from hoi_ros.hand.config import ESTIMATORS, HandConfig
from hoi_ros.hand.estimator import HandEstimator, choose_estimator, create_hand_estimator

__all__ = ["ESTIMATORS", "HandConfig", "HandEstimator", "choose_estimator", "create_hand_estimator"]
