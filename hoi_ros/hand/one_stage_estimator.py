"""Estimator 'handos' in one stage: a full-image detector of the user's own, every hand of a picture in one pass.

No palm detector and no crops: each frame is seen whole, and tracks only say which hand is which. Smoothing, mesh fit
and placement are those of the other estimators.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.hand.config import HandConfig
from hoi_ros.hand.detector import PalmDetection
from hoi_ros.hand.engine import builds_for_shapes, create_engine, to_host
from hoi_ros.hand.fit import straighten
from hoi_ros.hand.full_image_detectors import load_detector
from hoi_ros.hand.handos_estimator import DecodedHand, OwnMeshEstimator, right_probability
from hoi_ros.hand.handos_weights import network_from
from hoi_ros.hand.landmarks import HandLandmarks
from hoi_ros.hand.one_stage import batch_pictures, scaled_picture
from hoi_ros.hand.query_filter import SCORE_THRESHOLD, best_instances
from hoi_ros.hand.regions import HandRegion
from hoi_ros.hand.tracks import HandTrack, is_same_hand
from hoi_ros.hand.weights_file import WeightsFile, read_weights
from hoi_ros.hand_model import choose_hand_model

IMAGE_SIDE = 640
"""Pixels of a picture's longer side, where the weights do not say what they were trained with."""
USUAL_SIZES = ((640, 480), (1280, 720))
"""Width and height of pictures that are run at start: what cameras give, 4:3 and 16:9."""
SPARE = 2
"""Instances decoded beyond the hands that are wanted, since two may show one hand."""
REACH = 1.2
"""How far a hand moves between frames at most, in hand sizes."""


class WholeImageReader:
    """Every hand of a picture by detector and decoder."""

    offset_share = 0.0

    def __init__(self, content: WeightsFile, detector: nn.Module, engine: str, device: str, most: int):
        """Put both on a device.

        Raises:
            InputError: weights for another detector, or without a mesh.
        """
        check_fit(content, detector)
        self._device = torch.device("cpu" if device == "torch" else device)
        self._detector = detector.to(self._device)
        self._engine = create_engine(network_from(content), engine, device)
        self._side = int(content.card.get("image_side", IMAGE_SIDE))
        self._most, self._faces = most + SPARE, content.topology.faces
        self._warm: set[tuple[int, ...]] = set()

    def find(
        self, color: np.ndarray, camera: CameraIntrinsics, threshold: float = SCORE_THRESHOLD
    ) -> list[DecodedHand]:
        """Hands of a picture (H, W, 3) uint8 RGB scored at least `threshold`, best first, none twice."""
        picture = scaled_picture(color, camera, self._side)
        images, cameras = batch_pictures([picture], self._device)
        self._run_once(images, cameras)
        answer = self._decode(images, cameras, threshold)
        if answer is None:
            return []
        points, vertices, joints, scores, kept = answer
        scale = np.array([images.shape[3], images.shape[2]]) * camera.width / picture.camera.width
        found: list[DecodedHand] = []
        for row in np.flatnonzero(kept):
            hand = self._hand(points[row] * scale - 0.5, joints[row], vertices[row], float(scores[row]), camera)
            if not any(is_same_hand(hand, other) for other in found):
                found.append(hand)
        return found

    def warm(self, width: int, height: int) -> None:
        """Run both networks on a black picture of a camera's size, so that its first frames are as fast as others."""
        black, camera = np.zeros((height, width, 3), np.uint8), CameraIntrinsics.from_fov(width, height)
        self._run_once(*batch_pictures([scaled_picture(black, camera, self._side)], self._device))

    @torch.inference_mode()
    def _run_once(self, images: Tensor, cameras: Tensor) -> None:
        """Both networks where this shape is new, with every number of hands that the engine would build for."""
        if tuple(images.shape) in self._warm:
            return
        self._warm.add(tuple(images.shape))
        seen = self._detector(images)
        most = min(self._most, seen.scores.shape[1])
        index, _ = best_instances(seen.scores, seen.boxes, most, -1.0)
        every = self._device.type == "cpu" and builds_for_shapes(self._engine)
        for count in range(1, most + 1) if every else (most,):
            self._engine(seen.select(index[:, :count]), cameras)

    @torch.inference_mode()
    def _decode(self, images: Tensor, cameras: Tensor, least: float) -> list[np.ndarray] | None:
        """Joints (K, 21, 2), vertices, joints in 3D, scores and whether each is one; None where nothing is."""
        seen = self._detector(images)
        count = min(self._most, seen.scores.shape[1])
        index, kept = best_instances(seen.scores, seen.boxes, count, least)
        if self._device.type == "cpu":
            # There is nothing to wait for, and hands that are not there cost time.
            count = int(kept.sum())
            index, kept = index[:, :count], kept[:, :count]
            if not count:
                return None
        chosen = seen.select(index)
        answer = self._engine(chosen, cameras)
        return [x[0] for x in to_host(answer.joints_2d, answer.vertices, answer.joints_3d, chosen.scores, kept.float())]

    def _hand(
        self, points_px: np.ndarray, joints: np.ndarray, vertices: np.ndarray, score: float, camera: CameraIntrinsics
    ) -> DecodedHand:
        # The fit takes 3D landmarks along the axes of a camera that looks straight at the hand.
        _, look = straighten(points_px, camera)
        middle = joints.mean(0)
        right = right_probability(vertices, self._faces)
        return DecodedHand(points_px, (joints - middle) @ look, score, right, (vertices - middle) @ look)


class NoPalms:
    """Stands where the palm detector does; nobody asks it for anything."""

    def detect(self, color: np.ndarray, *_: Any, **__: Any) -> list[PalmDetection]:
        """No palm."""
        return []


class NoRegions:
    """Stands where the reader of regions does."""

    offset_share = WholeImageReader.offset_share

    def read(self, color: np.ndarray, regions: Sequence[HandRegion], **_: Any) -> list[HandLandmarks]:
        """No hand."""
        return []


class OneStageEstimator(OwnMeshEstimator):
    """Hands by the one-stage network."""

    def __init__(self, config: HandConfig, device: str = "cpu", detector: nn.Module | None = None):
        """Load the user's detector, or take one, and the weights trained on it.

        Raises:
            InputError: no weights, weights for another detector or hand model, an unknown detector folder, masks asked
                for.
        """
        if not config.handos_weights:
            raise InputError(
                "handos_detector without handos_weights: train some on it, ./hoi train handos --detector FOLDER"
            )
        if config.handos_masks:
            raise InputError("handos_detector: it does not go with handos_masks; leave those out")
        content = read_weights(Path(config.handos_weights), choose_hand_model(config.hand_model))
        detector = detector or load_detector(config.handos_detector)
        self._reader = WholeImageReader(content, detector, config.handos_engine, device, config.max_hands)
        super().__init__(config, device, NoRegions(), NoPalms())

    def _look(self, frame: RgbdFrame) -> None:
        """Find every hand anew; those near a track are its next sight, others begin tracks where there is room."""
        found = self._reader.find(frame.color, frame.intrinsics)
        tracks = self._tracks.to_follow()
        pairs = match(tracks, found)
        followed, seen = [tracks[t] for t, _ in pairs], [found[h] for _, h in pairs]
        self._tracks.follow(followed, seen, SCORE_THRESHOLD, frame.stamp_s)
        taken = {h for _, h in pairs}
        self._tracks.admit([h for k, h in enumerate(found) if k not in taken], SCORE_THRESHOLD, frame.stamp_s)

    def _find_alone(self, frame: RgbdFrame) -> list[HandLandmarks]:
        """Hands of a picture that stands alone."""
        found = self._reader.find(frame.color, frame.intrinsics)
        return list(found[: self.config.max_hands])

    def _warm_up(self) -> None:
        """Run detector and decoder on the usual shapes; another one is run on its first frame."""
        for size in USUAL_SIZES:
            self._reader.warm(*size)


def match(tracks: Sequence[HandTrack], found: Sequence[HandLandmarks]) -> list[tuple[int, int]]:
    """Pairs of track and finding, nearest together; those farther apart than a hand moves stay alone."""
    if not tracks or not found:
        return []
    cost = np.array(
        [
            [
                np.linalg.norm(t.landmarks.landmarks_px - h.landmarks_px, axis=1).mean() / max(t.size_px, 1.0)
                for h in found
            ]
            for t in tracks
        ]
    )
    rows, columns = linear_sum_assignment(np.minimum(cost, 2 * REACH))
    return [(int(r), int(c)) for r, c in zip(rows, columns) if cost[r, c] < REACH]


def check_fit(content: WeightsFile, detector: Any) -> None:
    """Refuse weights that this detector cannot feed.

    Raises:
        InputError: names the setting, what the weights expect and what the detector has.
    """
    config = content.config
    if config.from_landmarks or not config.layers_interactive:
        kind = "start from landmarks (two stages)" if config.from_landmarks else "know 2D joints alone (first stage)"
        raise InputError(f"HandOS weights {content.path}: they {kind}, expected weights of a one-stage network")
    for name, found in detector.channels().items():
        expected = tuple(getattr(config, name))
        if tuple(found) != expected:
            raise InputError(
                f"HandOS weights {content.path}: made for a detector with {name} {expected}, found {tuple(found)}: "
                "give the detector that they were trained on"
            )
