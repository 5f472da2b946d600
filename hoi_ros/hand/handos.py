"""HandOS: 2D joints, 3D vertices and camera translation of every detected hand, left and right alike, in one decoder.

Source: "HandOS: 3D Hand Reconstruction in One Stage", CVPR 2025; section and figure numbers below are its own. What is
chosen freely here, or goes beyond it, is listed in docs/handos.md.

Shapes: B images, K instances an image, T tokens each, 21 joints, V vertices, C of them with queries of their own,
d channels. Places in the image are fractions of its width and height; boxes are centre x, y and size w, h. A camera is
(fx / W, fy / H, cx / W, cy / H). Metres, optical axes (x right, y down, z away).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoi_ros.hand.handos_config import EVIDENCE, STEP_2D, STEP_3D_M, HandOsConfig, check_config
from hoi_ros.hand.handos_segments import SegmentHead, evidence_at
from hoi_ros.hand.handos_topology import JOINTS, HandTopology
from hoi_ros.hand.mesh_from_joints import MeshFromJoints

HAND_SPAN_M = 0.18
"""Length that a box of a hand is taken to show when its distance is first guessed."""


@dataclass(frozen=True)
class Detection:
    """What a detector hands over: features, and instances with queries and boxes."""

    features: tuple[Tensor, ...]
    """Maps (B, c, H, W), finest first: the encoder's last, F6^e."""
    shallow: tuple[Tensor, ...]
    """As many maps (B, s, H', W') of the backbone."""
    first_queries: Tensor
    """(B, Q, q0): Q0."""
    last_queries: Tensor
    """(B, Q, q6): Q6."""
    boxes: Tensor
    """(B, Q, 4) fractions of the image."""
    scores: Tensor
    """(B, Q) 0 to 1."""
    landmarks: Tensor | None = None
    """(B, Q, 21, 2) fractions of the image, from a detector that knows them."""
    landmarks_3d: Tensor | None = None
    """(B, Q, 21, 3) metres about their mean."""
    details: tuple[Tensor, ...] = ()
    """Maps finer than `features`, each twice as wide as the one before, for the mask head alone."""

    def select(self, index: Tensor) -> Detection:
        """The instances of (B, K) numbers alone; images and their order stay."""
        return replace(
            self,
            first_queries=_pick(self.first_queries, index),
            last_queries=_pick(self.last_queries, index),
            boxes=_pick(self.boxes, index),
            scores=_pick(self.scores, index),
            landmarks=None if self.landmarks is None else _pick(self.landmarks, index),
            landmarks_3d=None if self.landmarks_3d is None else _pick(self.landmarks_3d, index),
        )


@dataclass(frozen=True)
class HandOsOutput:
    """What one decoding layer says of every instance; a 2D layer says nothing in 3D."""

    joints_2d: Tensor
    """(B, K, 21, 2) fractions of the image."""
    vertices: Tensor | None = None
    """(B, K, V, 3) metres about the hand's own origin, optical axes."""
    joints_3d: Tensor | None = None
    """(B, K, 21, 3) the regressor's mixtures of `vertices`."""
    translation: Tensor | None = None
    """(B, K, 3) metres, of the hand's origin in the camera."""
    projected: Tensor | None = None
    """(B, K, 21, 2) joints_3d in the image."""
    contact: Tensor | None = None
    """(B, K, V) logits: the vertex touches something; in the last layer's output alone."""
    segments: Tensor | None = None
    """(B, 3, H, W) logits of background, hand, object, as wide as the finest map; in the last layer's output alone."""


def attention_mask(vertices: int, kind: str) -> Tensor:
    """(T, T) bool, row sees column, for 21 joints, the vertices and the camera (Fig. 8).

    a: each kind sees itself alone. b: vertices see joints too, the camera sees all. c: joints and vertices see each
    other, the camera sees all, neither sees the camera. d: all see all.
    """
    kinds = torch.tensor([0] * JOINTS + [1] * vertices + [2])
    row, column = kinds[:, None], kinds[None]
    if kind == "a":
        return row == column
    if kind == "b":
        return row >= column
    if kind == "c":
        return (column < 2) | (row == 2)
    return torch.ones(len(kinds), len(kinds), dtype=torch.bool)


def project_joints(points: Tensor, camera: Tensor) -> Tensor:
    """Image fractions (B, ..., 2) of points (B, ..., 3) in front of cameras (B, 4)."""
    camera = camera.reshape(len(camera), *([1] * (points.dim() - 2)), 4)
    return points[..., :2] / points[..., 2:].clamp(min=1e-3) * camera[..., :2] + camera[..., 2:]


def is_right_hand(vertices: Tensor, right_faces: Tensor) -> Tensor:
    """Whether meshes (..., V, 3) are right hands: with a right hand's faces their normals point outwards (Fig. 4).

    Normals point outwards on the whole when the volume that the faces enclose is positive.
    """
    middle = vertices.mean(-2, keepdim=True)
    a, b, c = (vertices[..., right_faces[:, k], :] - middle for k in range(3))
    return (a * torch.linalg.cross(b, c)).sum((-1, -2)) > 0


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of (N, h, T, c) under a mask (T, T), True sees.

    The fused kernel's backward pass on the CPU takes twice as long as plain products.
    """
    if queries.is_cuda or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    logits = (queries / math.sqrt(queries.shape[-1])) @ keys.transpose(-1, -2)
    if mask is not None:
        logits = logits + torch.zeros_like(mask, dtype=logits.dtype).masked_fill(~mask, float("-inf"))
    return logits.softmax(-1).to(values.dtype) @ values


class FeedForward(nn.Sequential):
    """Linear layers with ReLU between; `zero` starts with the answer 0."""

    def __init__(self, *channels: int, zero: bool = False):
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers[:-1])
        if zero:
            for parameter in self[-1].parameters():
                nn.init.zeros_(parameter)


class SideTuning(nn.Module):
    """Three convolutions a scale on the backbone's shallow maps (supplement VI.1)."""

    def __init__(self, shallow: Sequence[int], width: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, groups=max(width // 32, 1)),
                nn.ReLU(),
                nn.Conv2d(width, width, 1),
            )
            for channels in shallow
        )

    def forward(self, shallow: Sequence[Tensor], features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, d, H, W), each of its feature map's size."""
        out = []
        for branch, below, above in zip(self.branches, shallow, features):
            if below.shape[-2:] != above.shape[-2:]:
                below = F.adaptive_avg_pool2d(below, (above.shape[-2], above.shape[-1]))
            out.append(branch(below))
        return out


class DeformableAttention(nn.Module):
    """Each query samples a few points of every level around its reference box (Deformable DETR)."""

    def __init__(self, width: int, heads: int, levels: int, points: int):
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.value = nn.Conv1d(2 * width, width, 1)
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        with torch.no_grad():
            angle = torch.arange(heads) * (2 * math.pi / heads)
            ray = torch.stack([angle.cos(), angle.sin()], -1)
            ray = ray / ray.abs().amax(-1, keepdim=True)
            reach = torch.arange(1, points + 1)[:, None] / points
            self.offsets.bias.copy_((ray[:, None, None] * reach).expand(heads, levels, points, 2).reshape(-1))

    def forward(self, queries: Tensor, boxes: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Queries (B, N, d), boxes (B, N, 4) and [F6^e, F^s] maps (B, 2d, H, W): (B, N, d)."""
        batch, count, width = queries.shape
        heads, levels, points = self.heads, self.levels, self.points
        offsets = self.offsets(queries).view(batch, count, heads, levels, points, 2)
        weights = self.weights(queries).view(batch, count, heads, levels * points).softmax(-1)
        weights = weights.permute(0, 2, 1, 3).reshape(batch * heads, 1, count, levels * points)
        center, half = boxes[:, :, None, None, None, :2], boxes[:, :, None, None, None, 2:] / 2
        grid = (center + offsets * half) * 2 - 1
        grid = grid.permute(0, 2, 3, 1, 4, 5).reshape(batch * heads, levels, count, points, 2)
        sampled = []
        for level, feature in enumerate(features):
            value = self.value(feature.flatten(2)).view(batch * heads, width // heads, *feature.shape[-2:])
            where = grid[:, level].to(value.dtype)
            sampled.append(F.grid_sample(value, where, padding_mode="zeros", align_corners=False))
        mixed = (torch.cat(sampled, -1) * weights).sum(-1)
        return self.out(mixed.view(batch, width, count).transpose(1, 2))


class DecodingLayer(nn.Module):
    """Self-attention among an instance's tokens, deformable attention to the image, feed-forward (Fig. 3)."""

    def __init__(self, config: HandOsConfig):
        super().__init__()
        width, self.heads = config.width, config.heads
        self.queries_keys = nn.Linear(width, 2 * width)
        self.values = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.image = DeformableAttention(width, config.heads, len(config.feature_channels), config.points)
        self.feed_forward = FeedForward(width, config.hidden, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, tokens: Tensor, places: Tensor, boxes: Tensor, features: Sequence[Tensor], mask: Tensor | None
    ) -> Tensor:
        """Tokens and places (B, K, T, d), boxes (B, K, T, 4), mask (T, T) or None for full sight: (B, K, T, d)."""
        tokens = self.norms[0](tokens + self._attend(tokens, places, mask))
        seen = self.image((tokens + places).flatten(1, 2), boxes.flatten(1, 2), features)
        tokens = self.norms[1](tokens + seen.view_as(tokens))
        return self.norms[2](tokens + self.feed_forward(tokens))

    def _attend(self, tokens: Tensor, places: Tensor, mask: Tensor | None) -> Tensor:
        batch, instances, count, width = tokens.shape
        shape = (batch * instances, count, self.heads, width // self.heads)
        queries, keys = self.queries_keys(tokens + places).chunk(2, -1)
        queries, keys, values = (x.reshape(shape).transpose(1, 2) for x in (queries, keys, self.values(tokens)))
        mixed = attend(queries, keys, values, mask)
        return self.out(mixed.transpose(1, 2).reshape(batch, instances, count, width))


class QueryExpansion(nn.Module):
    """Instance queries to joint queries with reference boxes (section 3.3)."""

    def __init__(self, config: HandOsConfig):
        super().__init__()
        width = config.width
        self.instance = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(sum(config.query_channels), width))
        self.joints = nn.Parameter(torch.randn(JOINTS, width) * 0.5)
        self.sizes = nn.Parameter(torch.full((JOINTS, 2), 0.3))
        self.center = FeedForward(width, width, 2, zero=True)

    def forward(self, detection: Detection) -> tuple[Tensor, Tensor]:
        """Joint queries (B, K, 21, d) and boxes (B, K, 21, 4)."""
        inst = self.instance(torch.cat([detection.first_queries, detection.last_queries], -1))
        queries = inst[:, :, None] + self.joints
        boxes = detection.boxes[:, :, None]
        if detection.landmarks is None:
            centers = boxes[..., :2] + self.center(queries) * boxes[..., 2:]
        else:
            centers = detection.landmarks + self.center(queries) * (STEP_2D * boxes[..., 2:])
        return queries, torch.cat([centers, (boxes[..., 2:] * self.sizes).expand_as(centers)], -1)


class QueryLifting(nn.Module):
    """Joint queries and boxes to those of vertices and camera, by a matrix that starts as skinning weights."""

    def __init__(self, config: HandOsConfig, topology: HandTopology):
        super().__init__()
        rows = torch.from_numpy(topology.lifting)
        self.matrix = nn.Parameter(torch.cat([rows[torch.from_numpy(topology.coarse)], rows[-1:]]))
        count, width = len(self.matrix), config.width
        self.tokens = nn.Parameter(torch.randn(count, width) * 0.1)
        self.sizes = nn.Parameter(torch.ones(count, 2))
        self.center = FeedForward(width, width, 2, zero=True)

    def forward(self, queries: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, K, 21, d) and boxes (B, K, 21, 4): (B, K, C + 1, d) and (B, K, C + 1, 4)."""
        lifted = torch.einsum("vj,bkjd->bkvd", self.matrix, queries)
        place = torch.einsum("vj,bkjc->bkvc", self.matrix, boxes)
        centers = place[..., :2] + self.center(lifted) * place[..., 2:]
        return lifted + self.tokens, torch.cat([centers, place[..., 2:] * self.sizes], -1)


class Heads(nn.Module):
    """Feed-forward answers of one layer: joints in 2D; in 3D where there are vertices; contact from the last."""

    def __init__(self, config: HandOsConfig, in_3d: bool, last: bool):
        super().__init__()
        width = config.width
        self.joints = FeedForward(width, width, 2, zero=True)
        if in_3d:
            self.vertices = FeedForward(width, width, 3, zero=config.from_landmarks)
            self.translation = FeedForward(width, width, 3, zero=True)
        if in_3d and config.from_landmarks:
            self.joints_3d = FeedForward(width, width, 3, zero=True)
        if in_3d and last and config.contact_head:
            self.contact = FeedForward(width + (EVIDENCE if config.contact_evidence else 0), width, 1)


class HandOs(nn.Module):
    """The decoder on a frozen detector's features; see `forward`."""

    faces: Tensor
    """(F, 3) int64 of a right hand."""
    regressor: Tensor
    upsampling: Tensor
    mask: Tensor
    coarse: Tensor

    def __init__(self, config: HandOsConfig, topology: HandTopology):
        super().__init__()
        check_config(config, topology)
        self.config, self.topology = config, topology
        width, depth = config.width, config.layers_2d + config.layers_interactive
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in config.feature_channels)
        self.side = SideTuning(config.shallow_channels, width)
        self.expand = QueryExpansion(config)
        self.place = FeedForward(2 * width, width, width)
        self.layers: Any = nn.ModuleList(DecodingLayer(config) for _ in range(depth))
        self.heads: Any = nn.ModuleList(Heads(config, i >= config.layers_2d, i == depth - 1) for i in range(depth))
        if config.layers_interactive:
            self.lift = QueryLifting(config, topology)
            mask = attention_mask(len(topology.coarse), config.mask)
            self.register_buffer("mask", mask, persistent=False)
            self.register_buffer("faces", torch.from_numpy(topology.faces), persistent=False)
            self.register_buffer("regressor", torch.from_numpy(topology.regressor), persistent=False)
            self.register_buffer("upsampling", torch.from_numpy(topology.upsampling), persistent=False)
        if config.layers_interactive and config.from_landmarks:
            self.mesh_from_joints = MeshFromJoints(topology)
            self.mirror = nn.Linear(width, 1)
        if config.mask_channels:
            self.segment = SegmentHead(config)
        if config.contact_evidence:
            coarse = torch.as_tensor(topology.coarse, dtype=torch.long)
            self.register_buffer("coarse", coarse, persistent=False)

    def forward(self, detection: Detection, camera: Tensor, every_layer: bool = True) -> list[HandOsOutput]:
        """Decode chosen instances.

        Args:
            detection: of B images with K instances each, after query filtering.
            camera: (B, 4) fx / W, fy / H, cx / W, cy / H.
            every_layer: read 3D off every layer, as training wants, not off the last alone.

        Returns:
            One output a layer; the last is the answer, the others are supervised in training.
        """
        detected = [layer(feature) for layer, feature in zip(self.project, detection.features)]
        features = [torch.cat(pair, 1) for pair in zip(detected, self.side(detection.shallow, detected))]
        features = [F.dropout2d(feature, self.config.dropout, self.training) for feature in features]
        segments = self.segment(features, detection.details) if self.config.mask_channels else None
        tokens, boxes = self.expand(detection)
        outputs = []
        mask = None
        for number, (layer, heads) in enumerate(zip(self.layers, self.heads)):
            if number == self.config.layers_2d:
                lifted, lifted_boxes = self.lift(tokens, boxes)
                tokens, boxes = torch.cat([tokens, lifted], 2), torch.cat([boxes, lifted_boxes], 2)
                mask = None if self.config.mask == "d" else self.mask
            tokens = layer(tokens, self.place(sine_places(boxes, self.config.width)), boxes, features, mask)
            in_3d = every_layer or number == len(self.layers) - 1
            outputs.append(self._read(heads, tokens, boxes, detection, camera, in_3d, segments))
            refined = torch.cat([outputs[-1].joints_2d.detach(), boxes[:, :, :JOINTS, 2:]], -1)
            boxes = torch.cat([refined, boxes[:, :, JOINTS:]], 2)
        if self.config.mask_channels:
            outputs[-1] = replace(outputs[-1], segments=segments)
        if detection.landmarks is not None and not self.training:
            share = self.config.residual_share
            hedged = torch.lerp(detection.landmarks, outputs[-1].joints_2d, share)
            outputs[-1] = replace(outputs[-1], joints_2d=hedged)
        return outputs

    def _read(
        self,
        heads: Heads,
        tokens: Tensor,
        boxes: Tensor,
        detection: Detection,
        camera: Tensor,
        in_3d: bool,
        segments: Tensor | None,
    ) -> HandOsOutput:
        """Answers of one layer's tokens (B, K, T, d)."""
        size = detection.boxes[:, :, None, 2:]
        joint_tokens, vertex_tokens = tokens[:, :, :JOINTS], tokens[:, :, JOINTS:-1]
        joints_2d = boxes[:, :, :JOINTS, :2] + STEP_2D * size * heads.joints(joint_tokens).float()
        if tokens.shape[2] == JOINTS or not in_3d:
            return HandOsOutput(joints_2d)
        moves = STEP_3D_M * heads.vertices(vertex_tokens).float()
        answer = heads.translation(tokens[:, :, -1]).float()
        joints = mirrored = None
        if self.config.from_landmarks and detection.landmarks_3d is not None:
            share = 1.0 if self.training else self.config.residual_share
            joints = detection.landmarks_3d + share * STEP_3D_M * heads.joints_3d(joint_tokens).float()
            mirrored = torch.sigmoid(self.mirror(joint_tokens.mean(2)).float())
        # Millimetres need float32, whatever the layers above run in.
        with torch.autocast(tokens.device.type, enabled=False):
            vertices = self.upsampling @ moves
            if joints is not None and mirrored is not None:
                vertices = vertices + self.mesh_from_joints(joints, mirrored)
            joints_3d = self.regressor @ vertices
            translation = self._translation(answer, joints_2d, joints_3d, detection, camera)
            projected = project_joints(joints_3d + translation[:, :, None], camera)
        contact = None
        if hasattr(heads, "contact"):
            if self.config.contact_evidence and segments is not None:
                places = project_joints(vertices[:, :, self.coarse] + translation[:, :, None], camera)
                vertex_tokens = torch.cat([vertex_tokens, evidence_at(segments, places).to(vertex_tokens)], -1)
            contact = (self.upsampling @ heads.contact(vertex_tokens).float())[..., 0]
        return HandOsOutput(joints_2d, vertices, joints_3d, translation, projected, contact)

    def _translation(
        self, answer: Tensor, joints_2d: Tensor, joints_3d: Tensor, detection: Detection, camera: Tensor
    ) -> Tensor:
        """Metres (B, K, 3) from a head's answer (B, K, 3): shift in the box, and logarithm of a distance factor."""
        focal, middle = camera[:, None, :2], camera[:, None, 2:]
        boxes = detection.boxes
        if self.config.from_landmarks:
            spread = (joints_2d - joints_2d.mean(2, keepdim=True)).detach() / focal[:, :, None]
            size = (joints_3d - joints_3d.mean(2, keepdim=True))[..., :2].detach()
            guess = (size.square().sum((2, 3)) / spread.square().sum((2, 3)).clamp(min=1e-8)).sqrt()
            start = joints_2d.mean(2).detach()
        else:
            guess = HAND_SPAN_M * (focal.prod(-1) / boxes[..., 2:].prod(-1).clamp(min=1e-8)).sqrt()
            start = boxes[..., :2]
        z = guess * (answer[..., 2] * STEP_2D).clamp(-2, 2).exp()
        xy = (start + STEP_2D * boxes[..., 2:] * answer[..., :2] - middle) / focal * z[..., None]
        return torch.cat([xy, z[..., None]], -1)


def sine_places(boxes: Tensor, width: int) -> Tensor:
    """Sine encoding (..., 2 width) of boxes (..., 4)."""
    count = width // 4
    frequency = 2 * math.pi * (20.0 ** (-torch.arange(count, device=boxes.device, dtype=boxes.dtype) / count)) * 4
    angle = boxes[..., None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-3)


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """Rows (B, K, ...) of values (B, Q, ...) by numbers (B, K)."""
    shape = index.reshape(*index.shape, *([1] * (values.dim() - 2)))
    return values.gather(1, shape.expand(*index.shape, *values.shape[2:]))
