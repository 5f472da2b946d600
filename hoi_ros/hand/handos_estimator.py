"""Estimator 'handos': palm detector and tracks as before, but every hand is read by the HandOS decoder.

The shipped network is the compact, two-stage variant: the landmark network is its frozen detector and first guess, and
the decoder answers with 2D joints, all vertices and by them the side. Inverse kinematics (the mesh fit of the embedded
estimator) turns its joints into joint angles and places the hand. On the simulator that fitted mesh is closer to the
truth than the decoder's own vertices by 1 to 3 mm, so it is published unless the setting `handos_mesh` asks otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hoi_ros.datatypes import HandEstimate, HandSegments, RgbdFrame
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.geometry import project
from hoi_ros.hand.config import HandConfig
from hoi_ros.hand.crop_batches import CropBatches, CropReader
from hoi_ros.hand.embedded import EmbeddedHandEstimator, TrackMemory
from hoi_ros.hand.embedded_features import CROP_SIDE, TYPICAL_CAMERA, LandmarkFeatures
from hoi_ros.hand.fit import HandFit
from hoi_ros.hand.handos_config import ENGINES
from hoi_ros.hand.handos_numpy import DecodedArrays, NumpyDecoder, runs_in_numpy
from hoi_ros.hand.landmarks import HandLandmarks
from hoi_ros.hand.outline import outline_factor
from hoi_ros.hand.regions import HandRegion
from hoi_ros.hand.weights_file import SHIPPED, WeightsFile, read_weights
from hoi_ros.hand_model import choose_hand_model
from hoi_ros.hand_model.model import MIRROR

SIDE_SHARPNESS, THICKNESS_M = 12.0, 0.005
"""A mesh whose volume over surface is this thick is surely of the side that its faces say."""


@dataclass(frozen=True)
class DecodedHand(HandLandmarks):
    """Landmarks as tracks and fit know them, with the network's mesh."""

    vertices: np.ndarray
    """(V, 3) metres about the landmarks' mean, along the image's axes like `world_landmarks`."""
    segments: HandSegments | None = None
    contact: np.ndarray | None = None
    """(V,) 0 to 1: how surely a vertex touches something."""


class FeatureReader:
    """On the CPU: the landmark network by LiteRT, then a decoder of its features."""

    def __init__(
        self, decoder: Callable[[dict[str, np.ndarray], np.ndarray], DecodedArrays], threads: int, masks: bool = False
    ):
        self._features, self._decoder = LandmarkFeatures("cpu", threads, detail=masks), decoder

    def __call__(self, crops: np.ndarray) -> tuple[DecodedArrays, np.ndarray]:
        """Read crops; see `CropReader`."""
        features = self._features.read(crops)
        cameras = np.tile(np.array(TYPICAL_CAMERA, np.float32), (len(crops), 1))
        return self._decoder(features, cameras), features["presence"][:, 0]


def create_crop_reader(content: WeightsFile, config: HandConfig, device: str) -> CropReader:
    """What runs the networks: on the CPU LiteRT and numpy where it can, else one of torch's engines.

    Raises:
        InputError: unknown engine, numpy for a network or device that it does not run, masks of an engine or of weights
            without them, or weights that do not fit.
    """
    engine, masks = config.handos_engine, config.handos_masks
    if engine not in ENGINES:
        raise unknown_name("handos_engine", engine, ENGINES)
    if engine == "numpy" and device != "cpu":
        raise InputError(f"handos_engine 'numpy' on {device}: it runs on the CPU; take another engine")
    in_numpy = engine == "numpy" or (engine == "auto" and device == "cpu" and runs_in_numpy(content.config))
    if masks and not (content.config.contact_head and content.config.mask_channels):
        raise InputError(f"handos_masks: the weights {content.path} have no such heads; leave handos_weights empty")
    if in_numpy:
        return FeatureReader(NumpyDecoder(content), config.threads, masks)
    from hoi_ros.hand.torch_decoder import DeviceCropReader, TorchDecoder

    decoder: TorchDecoder | DeviceCropReader
    reader: CropReader
    if device == "cpu":
        decoder = TorchDecoder(content, engine, masks=masks)
        reader = FeatureReader(decoder, config.threads, masks)
    else:
        reader = decoder = DeviceCropReader(content, engine, device, masks)
    # A new hand is looked for in as many palms as hands are wanted, and one more.
    return CropBatches(reader, config.max_hands + 1) if decoder.builds_for_shapes else reader


class HandOsReader:
    """Reads hands in regions, with the face of `LandmarkNetwork`."""

    def __init__(self, content: WeightsFile, reader: CropReader, masks: bool = False):
        self._reader, self._masks = reader, masks
        self._faces = content.topology.faces
        # What the network leaves of the landmark network's joints keeps their way of lying.
        self.offset_share = 1 - content.config.residual_share

    def read(
        self, color: np.ndarray, regions: Sequence[HandRegion], *, average_mirrored: bool = False
    ) -> list[HandLandmarks]:
        """Read one hand per region.

        Args:
            color: (H, W, 3) uint8 RGB.
            regions: where hands may be.
            average_mirrored: decode the mirrored crop too and average; twice the time.
        """
        if not regions:
            return []
        crops = np.stack([region.crop(color, CROP_SIDE) for region in regions])
        rows, answer = self._decode(crops)
        if average_mirrored:
            (points, joints, vertices, presence), _ = self._decode(np.ascontiguousarray(crops[:, :, ::-1]))
            points[..., 0] = 1 - points[..., 0]
            mirrored = (points, joints * MIRROR, vertices * MIRROR, presence)
            rows = tuple((a + b) / 2 for a, b in zip(rows, mirrored))
        hands = [self._in_image(region, *row) for region, row in zip(regions, zip(*rows))]
        if self._masks:
            hands = [_with_masks(*item) for item in zip(hands, regions, _masks(answer))]
        return list(hands)

    def _decode(self, crops: np.ndarray) -> tuple[tuple[np.ndarray, ...], DecodedArrays]:
        """2D joints (N, 21, 2) in the crop; joints and vertices about their mean, metres; presence (N,); and all."""
        answer, presence = self._reader(crops)
        middle = answer.joints_3d.mean(1, keepdims=True)
        arrays = (answer.joints_2d, answer.joints_3d - middle, answer.vertices - middle, presence)
        return tuple(a.astype(np.float64) for a in arrays), answer

    def _in_image(
        self, region: HandRegion, points: np.ndarray, joints: np.ndarray, vertices: np.ndarray, presence: float
    ) -> DecodedHand:
        turn = np.eye(3)
        turn[:2, :2] = region.rotation
        right = right_probability(vertices, self._faces)
        return DecodedHand(region.to_image(points), joints @ turn.T, float(presence), right, vertices @ turn.T)


def _masks(answer: DecodedArrays) -> list[tuple[np.ndarray | None, np.ndarray | None]]:
    """Segment probabilities (S, S, 3) and contact probabilities (V,) of each hand."""
    if answer.segments is None or answer.contact is None:
        return [(None, None)] * len(answer.joints_2d)
    shares = np.exp(answer.segments - answer.segments.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return list(zip(shares, 1 / (1 + np.exp(-answer.contact))))


def _with_masks(
    hand: DecodedHand, region: HandRegion, masks: tuple[np.ndarray | None, np.ndarray | None]
) -> DecodedHand:
    shares, contact = masks
    if shares is None:
        return hand
    segments = HandSegments(shares, region.center_px, region.size_px, region.angle_rad)
    return replace(hand, segments=segments, contact=contact)


class OwnMeshEstimator(EmbeddedHandEstimator):
    """Tracks, smoothing and placement of the embedded estimator for hands that come with a mesh of their own."""

    def _place(
        self, fit: HandFit, landmarks: HandLandmarks, frame: RgbdFrame, memory: TrackMemory | None, dt_s: float
    ) -> HandFit:
        """Without depth, to the distance at which the mesh is as large as the mask."""
        segments = landmarks.segments if isinstance(landmarks, DecodedHand) else None
        if segments is None or fit.depth_used or not self.config.outline_distance:
            return fit
        vertices_px = project(fit.vertices_camera, frame.intrinsics)
        factor = outline_factor(segments, vertices_px, self.model.right_faces)
        if memory is None:
            return fit if factor is None else fit.nearer(factor)
        if factor is not None:
            memory.outline = memory.outline.updated(factor, dt_s)
        return fit.nearer(memory.outline.factor)

    def _with_own_mesh(
        self, hand: HandEstimate, landmarks: HandLandmarks, memory: TrackMemory | None, dt_s: float
    ) -> HandEstimate:
        """Masks and contact, and on request the network's mesh, turned, moved and scaled onto the placed joints."""
        if isinstance(landmarks, DecodedHand):
            hand = replace(hand, segments=landmarks.segments, contact=landmarks.contact)
        if (
            self.config.handos_mesh != "network"
            or not isinstance(landmarks, DecodedHand)
            or hand.landmarks_camera is None
        ):
            return hand
        vertices = landmarks.vertices
        if memory is not None:
            vertices = memory.mesh.update(vertices, dt_s, 0.1)
        own = landmarks.world_landmarks - landmarks.world_landmarks.mean(0)
        placed = hand.landmarks_camera - hand.landmarks_camera.mean(0)
        scale, rotation = _turn_onto(own, placed)
        moved = scale * vertices @ rotation.T + hand.landmarks_camera.mean(0)
        return replace(hand, vertices_camera=moved.astype(np.float32))


class HandOsEstimator(OwnMeshEstimator):
    """Hands by HandOS in two stages."""

    def __init__(self, config: HandConfig, device: str = "cpu"):
        """Load the weights, which must be those of the hand model.

        Raises:
            InputError: unreadable weights or hand model, or weights for another hand or kind of detector.
        """
        if config.hand_model and not config.handos_weights:
            raise InputError(
                "estimator 'handos' with a hand_model: the weights that ship are the free hand's; set handos_weights "
                "to some trained on yours (./hoi train handos with training.hand_model), or leave hand_model out"
            )
        path = Path(config.handos_weights) if config.handos_weights else SHIPPED
        content = read_weights(path, choose_hand_model(config.hand_model))
        if not content.config.from_landmarks:
            raise InputError(f"HandOS weights {path}: of a one-stage network; set handos_detector to its detector too")
        reader = HandOsReader(content, create_crop_reader(content, config, device), config.handos_masks)
        super().__init__(config, device, reader)


def right_probability(vertices: np.ndarray, right_faces: np.ndarray) -> float:
    """0 to 1 that vertices (V, 3) are a right hand's: with a right hand's faces they enclose a positive volume."""
    corners = (vertices - vertices.mean(0))[right_faces]
    volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    surface = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    thickness = float(volume) / max(float(surface), 1e-9) / THICKNESS_M
    return float(1 / (1 + np.exp(-SIDE_SHARPNESS * np.clip(thickness, -1, 1))))


def _turn_onto(points: np.ndarray, goal: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and rotation (3, 3) between centred points (N, 3)."""
    u, sizes, vt = np.linalg.svd(goal.T @ points)
    turn = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return float((sizes * turn).sum() / max(float((points**2).sum()), 1e-12)), u @ np.diag(turn) @ vt
