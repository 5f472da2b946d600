"""The HandOS decoder on landmark features in numpy: what runs it on the CPU, without torch in the process.

The same arithmetic as `handos.HandOs`, rearranged: the detector maps' projections, the last side convolution and every
layer's values are one matrix a level; bilinear sampling is a sparse matrix; places are encoded once for
tokens whose boxes stay. Agreement with the network in torch is tested.

Shapes: N hands, T tokens (21 joints, C vertices, 1 camera), d channels, P pixels of a map, h heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from hoi_ros.errors import InputError
from hoi_ros.hand.embedded_features import DETAIL_TAPS, MAP_SIDES, EmbeddedDetection, read_instances
from hoi_ros.hand.handos_config import EVIDENCE, STEP_2D, STEP_3D_M, HandOsConfig
from hoi_ros.hand.handos_topology import JOINTS
from hoi_ros.hand.segments_numpy import SegmentDecoder, evidence_at
from hoi_ros.hand.skin_numpy import SkinOnJoints
from hoi_ros.hand.weights_file import WeightsFile

NORM_EPSILON = 1e-5
Take = Callable[..., np.ndarray]


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


class Linear:
    """x @ weight + bias over the last axis."""

    def __init__(self, take: Take, name: str, before: int, after: int):
        shape = (after, before)
        self.weight = np.ascontiguousarray(take(f"{name}.weight", shape).T)
        self.bias = take(f"{name}.bias", (after,))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(..., before) to (..., after)."""
        out = x.reshape(-1, x.shape[-1]) @ self.weight
        out += self.bias
        return out.reshape(*x.shape[:-1], -1)


class FeedForward:
    """Two linear layers with ReLU between."""

    def __init__(self, take: Take, name: str, before: int, inside: int, after: int):
        self.first, self.second = Linear(take, f"{name}.0", before, inside), Linear(take, f"{name}.2", inside, after)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(..., before) to (..., after)."""
        inner = self.first(x)
        np.maximum(inner, 0, out=inner)
        return self.second(inner)


class Norm:
    """Layer norm over the last axis."""

    def __init__(self, take: Take, name: str, width: int):
        self.weight, self.bias = take(f"{name}.weight", (width,)), take(f"{name}.bias", (width,))
        self._mean = np.full(width, 1 / width, np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(..., d), changed in place."""
        x -= (x @ self._mean)[..., None]
        variance = np.einsum("...c,...c->...", x, x)[..., None] / np.float32(x.shape[-1])
        x *= 1 / np.sqrt(variance + np.float32(NORM_EPSILON))
        x *= self.weight
        x += self.bias
        return x


class MapValues:
    """Values of every layer on one level's map: projection, side tuning and the layers' value matrices in one."""

    def __init__(self, take: Take, config: HandOsConfig, level: int, values: np.ndarray, bias: np.ndarray):
        width, below = config.width, config.shallow_channels[level]
        channels = config.feature_channels[level]
        self.groups = max(width // 32, 1)
        project = take(f"project.{level}.weight", (width, channels, 1, 1))[..., 0, 0]
        side = f"side.branches.{level}"
        self.lift = take(f"{side}.0.weight", (width, below, 1, 1))[..., 0, 0].T.copy()
        self.lift_bias = take(f"{side}.0.bias", (width,))
        kernel = take(f"{side}.2.weight", (width, width // self.groups, 3, 3))
        part = width // self.groups
        # One (9 part, part) matrix a group; rows in the order of `_patches`.
        self.kernel = kernel.reshape(self.groups, part, part, 9).transpose(0, 3, 2, 1).reshape(self.groups, -1, part)
        self.kernel = np.ascontiguousarray(self.kernel)
        self.kernel_bias = take(f"{side}.2.bias", (width,))
        last = take(f"{side}.4.weight", (width, width, 1, 1))[..., 0, 0]
        self.matrix = np.concatenate([values[:, :width] @ project, values[:, width:] @ last], 1).T.copy()
        self.bias = (
            values[:, :width] @ take(f"project.{level}.bias", (width,))
            + values[:, width:] @ take(f"{side}.4.bias", (width,))
            + bias
        )

    def __call__(self, feature: np.ndarray, shallow: np.ndarray) -> np.ndarray:
        """Map (N, H, W, c) and the backbone's (N, H', W', s) to (N, H W, layers d)."""
        count, height, width = feature.shape[:3]
        if shallow.shape[1] != height:
            step = shallow.shape[1] // height
            shallow = shallow.reshape(count, height, step, width, step, -1).mean((2, 4))
        side = self._three_by_three(np.maximum(shallow @ self.lift + self.lift_bias, 0))
        both = np.concatenate([feature.reshape(count * height * width, -1), side], 1)
        out = both @ self.matrix
        out += self.bias
        return out.reshape(count, height * width, -1)

    def _three_by_three(self, x: np.ndarray) -> np.ndarray:
        """Grouped 3x3 convolution with ReLU: (N, H, W, d) to (N H W, d)."""
        count, height, width, channels = x.shape
        padded = np.zeros((count, height + 2, width + 2, channels), np.float32)
        padded[:, 1:-1, 1:-1] = x
        part = channels // self.groups
        patches = np.empty((self.groups, count, height, width, 9, part), np.float32)
        grouped = padded.reshape(count, height + 2, width + 2, self.groups, part).transpose(3, 0, 1, 2, 4)
        for k in range(9):
            y, x0 = divmod(k, 3)
            patches[..., k, :] = grouped[:, :, y : y + height, x0 : x0 + width]
        out = patches.reshape(self.groups, count * height * width, 9 * part) @ self.kernel
        out = out.transpose(1, 0, 2).reshape(-1, channels) + self.kernel_bias
        return np.maximum(out, 0, out=out)


class Layer:
    """Self-attention, deformable attention to the maps, feed-forward."""

    def __init__(self, take: Take, config: HandOsConfig, number: int, sampler: Sampler):
        self.sampler = sampler
        width, name = config.width, f"layers.{number}"
        self.heads, self.points, self.levels = config.heads, config.points, len(config.feature_channels)
        self.queries_keys = Linear(take, f"{name}.queries_keys", width, 2 * width)
        scale = np.ones(2 * width, np.float32)
        scale[:width] /= math.sqrt(width // config.heads)
        self.queries_keys.weight, self.queries_keys.bias = (
            x * scale for x in (self.queries_keys.weight, self.queries_keys.bias)
        )
        self.values = Linear(take, f"{name}.values", width, width)
        self.out = Linear(take, f"{name}.out", width, width)
        count = self.heads * self.levels * self.points
        self.where = Linear(take, f"{name}.image.offsets", width, 2 * count)
        weights = Linear(take, f"{name}.image.weights", width, count)
        self.where.weight = np.ascontiguousarray(np.concatenate([self.where.weight, weights.weight], 1))
        self.where.bias = np.concatenate([self.where.bias, weights.bias])
        self.image_out = Linear(take, f"{name}.image.out", width, width)
        self.feed_forward = FeedForward(take, f"{name}.feed_forward", width, config.hidden, width)
        self.norms = [Norm(take, f"{name}.norms.{k}", width) for k in range(3)]

    def __call__(
        self, tokens: np.ndarray, places: np.ndarray, boxes: np.ndarray, seen: np.ndarray, mask: np.ndarray | None
    ) -> np.ndarray:
        """Tokens and places (N, T, d), boxes (N, T, 4), this layer's values (N, h, pixels, d / h), mask (T, T)."""
        tokens = self.norms[0](tokens + self._attend(tokens, places, mask))
        tokens = self.norms[1](tokens + self._look(tokens + places, boxes, seen))
        return self.norms[2](tokens + self.feed_forward(tokens))

    def _attend(self, tokens: np.ndarray, places: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        count, length, width = tokens.shape
        shape = (count, length, self.heads, width // self.heads)
        both = self.queries_keys(tokens + places)
        queries, keys = (x.reshape(shape).transpose(0, 2, 1, 3) for x in (both[..., :width], both[..., width:]))
        values = self.values(tokens).reshape(shape).transpose(0, 2, 1, 3)
        logits = queries @ keys.swapaxes(-1, -2)
        if mask is not None:
            logits += mask
        logits -= logits.max(-1, keepdims=True)
        np.exp(logits, out=logits)
        mixed = (logits @ values) / logits.sum(-1, keepdims=True)
        return self.out(mixed.transpose(0, 2, 1, 3).reshape(count, length, width))

    def _look(self, queries: np.ndarray, boxes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Deformable attention: (N, T, d)."""
        count, length, width = queries.shape
        heads, levels, points = self.heads, self.levels, self.points
        answer = self.where(queries)
        split = heads * levels * points * 2
        offsets = answer[..., :split].reshape(count, length, heads, levels, points, 2)
        weights = _softmax(answer[..., split:].reshape(count, length, heads, levels * points))
        where = boxes[:, :, None, None, None, :2] + offsets * (boxes[:, :, None, None, None, 2:] / 2)
        sampler = self.sampler.matrix(where, weights.reshape(count, length, heads, levels, points))
        mixed = (sampler @ values.reshape(-1, width // heads)).reshape(count, length, width)
        return self.image_out(mixed)


class Sampler:
    """Bilinear sampling of all levels' maps at once by a sparse matrix; maps have a rim of zeros, 1 before, 2 after."""

    def __init__(self, heads: int, points: int, sides: tuple[int, ...]):
        self.sides = tuple(sides)
        self.scale = np.array(sides, np.float32)[:, None, None]
        self.strides = np.array(sides, np.int32)[:, None] + 3
        sizes = self.strides[:, 0] ** 2
        self.starts = (np.cumsum(sizes) - sizes).astype(np.int32)
        self.pixels = int(sizes.sum())
        self.corners = (self.strides[..., None] * [0, 0, 1, 1] + [0, 1, 0, 1]).astype(np.int32)
        self.heads, self.entries = heads, 4 * points * len(sides)

    def with_rims(self, levels: list[np.ndarray], depth: int) -> np.ndarray:
        """Maps (N, H W, depth d) of all levels as rows (depth, N, h, pixels, d / h), zeros around them."""
        count, width = len(levels[0]), levels[0].shape[2] // depth // self.heads
        out = np.zeros((depth, count, self.heads, self.pixels, width), np.float32)
        for side, start, flat in zip(self.sides, self.starts, levels):
            inner = flat.reshape(count, side, side, depth, self.heads, width).transpose(3, 0, 4, 1, 2, 5)
            stride = side + 3
            level = out[:, :, :, start : start + stride**2].reshape(*out.shape[:3], stride, stride, width)
            level[:, :, :, 1 : side + 1, 1 : side + 1] = inner
        return out

    def matrix(self, where: np.ndarray, weights: np.ndarray) -> csr_array:
        """Rows (N T h) mixing rows (N h pixels): what lies at points, times their weights; 0 outside.

        Args:
            where: (N, T, h, levels, points, 2) fractions of the maps.
            weights: (N, T, h, levels, points).
        """
        count, length, heads = where.shape[:3]
        at = where * self.scale
        at += np.float32(0.5)
        np.clip(at, 0, self.scale + 1, out=at)
        low = at.astype(np.int32)
        at -= low
        across, down = at[..., 0], at[..., 1] * weights
        up = weights - down
        right_up, right_down = up * across, down * across
        values = np.stack([up - right_up, right_up, down - right_down, right_down], -1)
        maps = np.arange(count * heads, dtype=np.int32).reshape(count, 1, heads, 1, 1) * self.pixels
        first = low[..., 1] * self.strides + low[..., 0] + (maps + self.starts[:, None])
        rows = count * length * heads
        return csr_array(
            (
                values.reshape(-1),
                (first[..., None] + self.corners).reshape(-1),
                np.arange(rows + 1, dtype=np.int32) * np.int32(self.entries),
            ),
            shape=(rows, count * heads * self.pixels),
        )


def _softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis, in place."""
    x -= x.max(-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(-1, keepdims=True)
    return x


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
        self.layers = [Layer(take, config, k, self.sampler) for k in range(depth)]
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
                tokens, boxes = np.concatenate([tokens, lifted], 1), np.concatenate([boxes, lifted_boxes], 1)
                mask, fixed = self.mask, self._place(lifted_boxes)
            places = self._place(boxes[:, :JOINTS])
            if fixed is not None:
                places = np.concatenate([places, fixed], 1)
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

    def _place(self, boxes: np.ndarray) -> np.ndarray:
        """Places (N, T, d) of boxes (N, T, 4)."""
        angle = boxes[..., None] * self.frequency
        waves = np.stack([np.sin(angle), np.cos(angle)], -1)
        return self.place(waves.reshape(*boxes.shape[:2], -1))

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
