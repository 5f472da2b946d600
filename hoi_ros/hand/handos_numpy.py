"""The HandOS decoder on landmark features in numpy: what runs it on the CPU, without torch in the process.

The same arithmetic as `handos.HandOs`, rearranged (see `numpy_blocks`); places are encoded once for tokens whose boxes
stay. Agreement with the network in torch is tested.

Shapes: N hands, T tokens (21 joints, C vertices, 1 camera), d channels, P pixels of a map, h heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hoi_ros.errors import InputError
from hoi_ros.hand.embedded_features import DETAIL_TAPS, MAP_SIDES, EmbeddedDetection, read_instances
from hoi_ros.hand.handos_config import EVIDENCE, STEP_2D, STEP_3D_M, HandOsConfig
from hoi_ros.hand.handos_topology import JOINTS
from hoi_ros.hand.numpy_blocks import Buffers, FeedForward, Layer, Linear, MapValues, Sampler, Take
from hoi_ros.hand.segments_numpy import SegmentDecoder, evidence_at
from hoi_ros.hand.skin_numpy import SkinOnJoints
from hoi_ros.hand.weights_file import WeightsFile


@dataclass(frozen=True)
class DecodedArrays:
    """The last layer's answer for N crops."""

    joints_2d: np.ndarray
    """(N, 21, 2) fractions of the crop."""
    vertices: np.ndarray
    """(N, V, 3) metres."""
    joints_3d: np.ndarray
    """(N, 21, 3) metres."""
    translation: np.ndarray
    """(N, 3) metres."""
    contact: np.ndarray | None = None
    """(N, V) logits that a vertex touches something, where the weights know (some only with segments)."""
    segments: np.ndarray | None = None
    """(N, H, W, 3) logits of background, hand, object, where the weights know and finer maps were given."""


def runs_in_numpy(config: HandOsConfig) -> bool:
    """Whether `NumpyDecoder` knows this variant."""
    return config.from_landmarks and config.mask == "c" and config.layers_interactive > 0


class NumpyDecoder:
    """HandOS on the landmark network's features; made from weights by name."""

    def __init__(self, content: WeightsFile):
        """Take every tensor, checking its shape.

        Raises:
            InputError: a variant that only torch runs, or tensors that do not fit.
        """
        self.config, self.topology = content.config, content.topology
        if not runs_in_numpy(self.config):
            raise InputError("the numpy engine runs networks on landmarks with mask c: take another handos_engine")
        config, take = self.config, content.taker()
        width, depth = config.width, config.layers_2d + config.layers_interactive
        values = np.concatenate(
            [take(f"layers.{k}.image.value.weight", (width, 2 * width, 1))[..., 0] for k in range(depth)]
        )
        bias = np.concatenate([take(f"layers.{k}.image.value.bias", (width,)) for k in range(depth)])
        self.segments = SegmentDecoder(take, config) if config.mask_channels else None
        self.reduced_levels = 0
        if config.mask_channels:
            self.reduced_levels = len(config.feature_channels) if config.mask_context else 1
        self.maps = []
        for level in range(len(config.feature_channels)):
            more = (values, bias)
            if config.mask_channels and level < self.reduced_levels:  # what the mask head reduces it to comes along
                name = f"segment.coarser.{level - 1}" if level else "segment.reduce"
                reduce = take(f"{name}.weight", (config.mask_channels, 2 * width, 1, 1))[..., 0, 0]
                reduce_bias = take(f"{name}.bias", (config.mask_channels,))
                more = (np.concatenate([values, reduce]), np.concatenate([bias, reduce_bias]))
            self.maps.append(MapValues(take, config, level, *more))
        self.instance = Linear(take, "expand.instance.1", sum(config.query_channels), width)
        self.joints, self.joint_sizes = take("expand.joints", (JOINTS, width)), take("expand.sizes", (JOINTS, 2))
        self.center = FeedForward(take, "expand.center", width, width, 2)
        self.place = FeedForward(take, "place", 2 * width, width, width)
        self.sampler = Sampler(config.heads, config.points, MAP_SIDES)
        self._buffers = Buffers()
        self.layers = [Layer(take, config, k, self.sampler, self._buffers) for k in range(depth)]
        self.joint_heads = [FeedForward(take, f"heads.{k}.joints", width, width, 2) for k in range(depth)]
        self._take_3d(take, depth)
        take.finish(unused=tuple(f"heads.{k}." for k in range(config.layers_2d, depth - 1)))
        waves = width // 4
        self.frequency = (8 * math.pi * 20.0 ** (-np.arange(waves) / waves)).astype(np.float32)

    def _take_3d(self, take: Take, depth: int) -> None:
        config, width, count = self.config, self.config.width, len(self.topology.coarse) + 1
        self.lifting = take("lift.matrix", (count, JOINTS))
        self.lift_tokens, self.lift_sizes = take("lift.tokens", (count, width)), take("lift.sizes", (count, 2))
        self.lift_center = FeedForward(take, "lift.center", width, width, 2)
        last = f"heads.{depth - 1}"
        self.vertex_head = FeedForward(take, f"{last}.vertices", width, width, 3)
        self.translation_head = FeedForward(take, f"{last}.translation", width, width, 3)
        self.joint_head = FeedForward(take, f"{last}.joints_3d", width, width, 3)
        told = width + (EVIDENCE if config.contact_evidence else 0)
        self.contact_head = FeedForward(take, f"{last}.contact", told, width, 1) if config.contact_head else None
        self.mirror = Linear(take, "mirror", width, 1)
        self.skin = SkinOnJoints(self.topology)
        mask = np.zeros((JOINTS + count, JOINTS + count), np.float32)
        mask[:-1, -1] = -np.inf
        self.mask = mask

    def __call__(self, features: dict[str, np.ndarray], camera: np.ndarray) -> DecodedArrays:
        """Decode N hands.

        Args:
            features: of N crops, from `LandmarkFeatures.read`.
            camera: (N, 4) fx / W, fy / H, cx / W, cy / H of each crop.
        """
        maps, shallow = (features["fine"], features["coarse"]), features["shallow"]
        details = tuple(features[name] for name in DETAIL_TAPS if name in features)
        return self.decode(maps, (shallow, shallow), read_instances(features), camera, details)

    def decode(
        self,
        maps: tuple[np.ndarray, ...],
        shallow: tuple[np.ndarray, ...],
        detection: EmbeddedDetection,
        camera: np.ndarray,
        details: tuple[np.ndarray, ...] = (),
    ) -> DecodedArrays:
        """Decode N hands from maps (N, c, H, W), the backbone's (N, s, H', W') for each, instances and finer maps."""
        config, size = self.config, detection.boxes[:, None, 2:]
        tokens, boxes = self._expand(detection)
        values, segments = self._values(maps, shallow, details)
        mask, fixed = None, None
        for number, (layer, head) in enumerate(zip(self.layers, self.joint_heads)):
            if number == config.layers_2d:
                lifted, lifted_boxes = self._lift(tokens, boxes)
                every = self._buffers("tokens", len(tokens), tokens.shape[1] + lifted.shape[1], tokens.shape[2])
                tokens = np.concatenate([tokens, lifted], 1, out=every)
                boxes = np.concatenate([boxes, lifted_boxes], 1)
                mask, fixed = self.mask, self._place(lifted_boxes, "fixed")
            places = self._place(boxes[:, :JOINTS], "joints")
            if fixed is not None:
                places = np.concatenate([places, fixed], 1, out=self._buffers("all places", *tokens.shape))
            tokens = layer(tokens, places, boxes, values[number], mask)
            boxes[:, :JOINTS, :2] += STEP_2D * size * head(tokens[:, :JOINTS])
        return self._read(tokens, boxes[:, :JOINTS, :2], detection, camera, segments)

    def _values(
        self, maps: tuple[np.ndarray, ...], shallow: tuple[np.ndarray, ...], details: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Values of every layer as rows, see `Sampler.with_rims`, and the mask head's logits."""
        # The CPU's engine of the landmark network keeps channels last, so this only names axes anew.
        above, below, finer = (
            [np.ascontiguousarray(x.transpose(0, 2, 3, 1), np.float32) for x in level]
            for level in (maps, shallow, details)
        )
        levels = [values(*pair) for values, *pair in zip(self.maps, above, below)]
        channels, segments = self.config.mask_channels, None
        if self.segments is not None:
            reduced = []
            for k in range(self.reduced_levels):
                levels[k], part = levels[k][..., :-channels], levels[k][..., -channels:]
                reduced.append(part.reshape(*above[k].shape[:3], channels))
            if len(finer) == len(self.config.detail_channels):
                segments = self.segments(reduced, finer)
        return self.sampler.with_rims(levels, len(self.layers)), segments

    def _expand(self, detection: EmbeddedDetection) -> tuple[np.ndarray, np.ndarray]:
        """Joint queries (N, 21, d) and boxes (N, 21, 4)."""
        inst = self.instance(np.concatenate([detection.pooled, detection.geometry], 1))
        queries = inst[:, None] + self.joints
        size = detection.boxes[:, None, 2:]
        centers = detection.landmarks + self.center(queries) * (STEP_2D * size)
        return queries, np.concatenate([centers, size * self.joint_sizes], -1)

    def _lift(self, queries: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vertex and camera queries (N, C + 1, d) and boxes (N, C + 1, 4)."""
        lifted, place = self.lifting @ queries, self.lifting @ boxes
        centers = place[..., :2] + self.lift_center(lifted) * place[..., 2:]
        return lifted + self.lift_tokens, np.concatenate([centers, place[..., 2:] * self.lift_sizes], -1)

    def _place(self, boxes: np.ndarray, name: str) -> np.ndarray:
        """Places (N, T, d) of boxes (N, T, 4), in the buffer of a name."""
        count, length = boxes.shape[:2]
        waves = self._buffers(f"{name} waves", count, length, 4, len(self.frequency), 2)
        angle = self._buffers(f"{name} angle", *waves.shape[:-1])
        np.multiply(boxes[..., None], self.frequency, out=angle)
        np.sin(angle, out=waves[..., 0])
        np.cos(angle, out=waves[..., 1])
        out = self._buffers(f"{name} places", count * length, self.config.width)
        return self.place(waves.reshape(count, length, -1), out)

    def _read(
        self,
        tokens: np.ndarray,
        points: np.ndarray,
        detection: EmbeddedDetection,
        camera: np.ndarray,
        segments: np.ndarray | None,
    ) -> DecodedArrays:
        share = self.config.residual_share
        joint_tokens, vertex_tokens = tokens[:, :JOINTS], tokens[:, JOINTS:-1]
        joints = detection.landmarks_3d + share * STEP_3D_M * self.joint_head(joint_tokens)
        mirrored = 1 / (1 + np.exp(-self.mirror(joint_tokens.mean(1))))
        moves = STEP_3D_M * self.vertex_head(vertex_tokens)
        vertices = self.topology.upsampling @ moves + self.skin(joints, mirrored)
        joints_3d = self.topology.regressor @ vertices
        translation = self._translation(self.translation_head(tokens[:, -1]), points, joints_3d, detection, camera)
        contact = None
        if self.contact_head is not None and (segments is not None or not self.config.contact_evidence):
            if segments is not None and self.config.contact_evidence:
                seen = vertices[:, self.topology.coarse] + translation[:, None]
                places = seen[..., :2] / np.maximum(seen[..., 2:], 1e-3) * camera[:, None, :2] + camera[:, None, 2:]
                vertex_tokens = np.concatenate([vertex_tokens, evidence_at(segments, places)], -1)
            contact = (self.topology.upsampling @ self.contact_head(vertex_tokens))[..., 0]
        hedged = detection.landmarks + share * (points - detection.landmarks)
        return DecodedArrays(hedged, vertices, joints_3d, translation, contact, segments)

    def _translation(
        self,
        answer: np.ndarray,
        points: np.ndarray,
        joints: np.ndarray,
        detection: EmbeddedDetection,
        camera: np.ndarray,
    ) -> np.ndarray:
        focal, middle = camera[:, :2], camera[:, 2:]
        spread = (points - points.mean(1, keepdims=True)) / focal[:, None]
        size = (joints - joints.mean(1, keepdims=True))[..., :2]
        guess = np.sqrt((size**2).sum((1, 2)) / np.maximum((spread**2).sum((1, 2)), 1e-8))
        z = guess * np.exp(np.clip(answer[:, 2] * STEP_2D, -2, 2))
        xy = (points.mean(1) + STEP_2D * detection.boxes[:, 2:] * answer[:, :2] - middle) / focal * z[:, None]
        return np.concatenate([xy, z[:, None]], 1)
