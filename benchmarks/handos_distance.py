"""How far away hands are by colour alone: the decoder's camera translation beside the mesh fit, on synthetic crops.

    python benchmarks/handos_distance.py [--crops 300] [--seed 77]

Crops in which the landmark network sees no hand are left out. Sizes of hands vary by 8 %, which no picture tells.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hoi_ros.datatypes import CameraIntrinsics
from hoi_ros.hand.embedded_features import CROP_SIDE, LandmarkFeatures
from hoi_ros.hand.fit import FitConfig, HandFitter
from hoi_ros.hand.handos_estimator import right_probability
from hoi_ros.hand.handos_numpy import DecodedArrays, NumpyDecoder
from hoi_ros.hand.regions import HandRegion
from hoi_ros.hand.weights_file import SHIPPED, read_weights
from hoi_ros.hand_model import HandModel

PRESENT = 0.5


class RegionDecoder:
    """Decodes one region of a picture under that region's own camera, so that the translation means something."""

    def __init__(self, weights: str = ""):
        self.content = read_weights(weights or SHIPPED)
        self._features, self._decode = LandmarkFeatures(), NumpyDecoder(self.content)

    def __call__(
        self, color: np.ndarray, region: HandRegion, camera: CameraIntrinsics
    ) -> tuple[DecodedArrays, np.ndarray, float]:
        """The answer for one region of (H, W, 3) uint8 RGB.

        Returns:
            The decoder's arrays; the joints' middle (3,) in metres in a camera rolled with the region; presence.
        """
        features = self._features.read(region.crop(color, CROP_SIDE)[None])
        middle = region.from_image(np.array([camera.cx, camera.cy]))
        fractions = np.array([[camera.fx / region.size_px, camera.fy / region.size_px, *middle]], np.float32)
        answer = self._decode(features, fractions)
        return answer, (answer.translation + answer.joints_3d.mean(1))[0], float(features["presence"][0, 0])


def distance_error_percent(place: np.ndarray, truth: np.ndarray) -> float:
    """Signed error of the distance of a place (3,) from the camera against the true place's, in percent of it."""
    return float(np.linalg.norm(place) / np.linalg.norm(truth) - 1) * 100


def crop_errors(crops: int, seed: int, weights: str) -> np.ndarray:
    """(N, 2) signed errors in percent, decoder and fit, of crops up to the hardest."""
    from hoi_ros.training.crop_pictures import Harshness
    from hoi_ros.training.feature_cache import HARD
    from hoi_ros.training.hand_crops import HandCropSource

    decoder, model, source = RegionDecoder(weights), HandModel.load(), HandCropSource(seed)
    fitter = HandFitter(model, FitConfig(landmark_offset_share=1 - decoder.content.config.residual_share))
    whole = HandRegion(np.full(2, (CROP_SIDE - 1) / 2), float(CROP_SIDE), 0.0)
    rows = []
    for level in np.random.default_rng(seed).uniform(0, HARD, crops):
        crop = source.crop(Harshness.even(float(level)))
        focal = float(crop.camera[0]) * CROP_SIDE
        camera = CameraIntrinsics(CROP_SIDE, CROP_SIDE, focal, focal, *whole.center_px)
        answer, own, presence = decoder(crop.image, whole, camera)
        if presence < PRESENT:
            continue
        right = right_probability(answer.vertices[0].astype(np.float64), decoder.content.topology.faces) > 0.5
        world = answer.joints_3d[0] - answer.joints_3d[0].mean(0)
        fit = fitter.fit(whole.to_image(answer.joints_2d[0]), world, "right" if right else "left", camera)
        places = (own, fit.joints_camera.mean(0))
        rows.append([distance_error_percent(place, crop.translation) for place in places])
    return np.array(rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=300)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--weights", default="", help="other HandOS weights than those that ship")
    options = parser.parse_args()
    errors = crop_errors(options.crops, options.seed, options.weights)
    print(f"distance of {len(errors)} hands  mean error %  scatter %  mean |error| %  median |error| %")
    for name, row in zip(("decoder's translation", "mesh fit"), errors.T):
        size = np.abs(row)
        print(f"{name:24s} {row.mean():13.1f} {row.std():10.1f} {size.mean():15.1f} {np.median(size):17.1f}")


if __name__ == "__main__":
    main()
