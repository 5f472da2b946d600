"""True joints and the hand model's true vertices of a labelled hand, whatever the data set's own topology."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import RgbdFrame
from hoi_ros.evaluation.datasets import HandLabel
from hoi_ros.geometry import fit_similarity
from hoi_ros.hand.fit import FitConfig, HandFitter
from hoi_ros.hand_model import HandModel


class SolidTruth:
    """Takes labelled vertices of the hand model's topology as they are; bends the model to the joints of others."""

    def __init__(self, model: HandModel):
        self.model = model
        self._fitter = HandFitter(model, FitConfig(landmark_offset_share=0.0))

    def of(
        self, frame: RgbdFrame, hand: HandLabel, pixels: np.ndarray, faces: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Joints (21, 3) and vertices (V, 3), metres, camera axes; None without 3D truth.

        Args:
            frame: for its camera.
            hand: labelled.
            pixels: (21, 2) its joints in the picture, all finite.
            faces: (F, 3) of its vertices, for a right hand; None where they are not known.
        """
        if hand.joints_camera is None or hand.side is None or not np.isfinite(hand.joints_camera).all():
            return None
        joints = np.asarray(hand.joints_camera, np.float64)
        if hand.vertices_camera is not None and faces is not None and np.array_equal(faces, self.model.right_faces):
            return joints, np.asarray(hand.vertices_camera, np.float64)
        fitted = self._fitter.fit(pixels, joints - joints.mean(0), hand.side, frame.intrinsics)
        scale, rotation, offset = fit_similarity(fitted.joints_camera, joints)
        return joints, scale * fitted.vertices_camera @ rotation.T + offset
