"""Cameras of synthetic crops, for whole batches: they see a hand as the live estimator cuts it out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hoi_ros.hand.regions import HAND_SCALE, HAND_SHIFT, STEADY_JOINTS
from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_hands import turns_about

_FOCAL_PX = 1000.0


@dataclass(frozen=True)
class Views:
    """From wrist frames to the crops' cameras: point_camera = rotation @ point_wrist + offset."""

    rotation: Tensor
    """(B, 3, 3)."""
    offset: Tensor
    """(B, 3) metres."""
    focal: Tensor
    """(B,) in crop sides."""

    def see(self, points: Tensor) -> Tensor:
        """Points (B, N, 3) of wrist frames, camera axes."""
        return points @ self.rotation.mT + self.offset[:, None]


def draw_views(joints: Tensor, chance: Chance) -> Views:
    """A camera for each hand of joints (B, 21, 3), with the errors that the live estimator makes in its regions."""
    count = len(joints)
    rotation = draw_turns(chance, count)
    turned = joints @ rotation.mT
    offset = -turned.mean(1)
    offset[:, 2] += chance.uniform(0.22, 0.95, count)
    seen = turned + offset[:, None]
    center, size, angle = regions(seen[..., :2] / seen[..., 2:] * _FOCAL_PX)
    center = center + size[:, None] * chance.normal(0, 0.035, count, 2)
    turn = _looking_at(center / _FOCAL_PX, angle + chance.normal(0, 0.16, count))
    focal = _FOCAL_PX / (size * chance.uniform(0.86, 1.22, count))
    return Views(turn @ rotation, (turn @ offset[..., None])[..., 0], focal)


def draw_turns(chance: Chance, count: int) -> Tensor:
    """Rotations (B, 3, 3) from wrist frames to cameras that look at hands: palm, back, or from anywhere."""
    vectors = torch.zeros(2, count, 3, device=chance.device)
    vectors[0, :, 0] = chance.normal(0, 0.5, count)
    vectors[1, :, 1] = torch.where(chance.happens(0.55, count), 0.0, math.pi) + chance.normal(0, 0.6, count)
    facing = torch.tensor([1.0, -1.0, -1.0], device=chance.device)[:, None]
    tilt, yaw = turns_about(vectors)
    quaternion = torch.nn.functional.normalize(chance.normal(0, 1, count, 4), dim=1)
    axis = torch.nn.functional.normalize(quaternion[:, 1:], dim=1)
    anywhere = turns_about(2 * quaternion[:, :1].abs().clamp(max=1).acos() * axis)
    return torch.where(chance.happens(0.65, count, 1, 1), facing * (tilt @ yaw), anywhere)


def regions(landmarks_px: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`region_from_landmarks` of landmarks (B, 21, 2): centres (B, 2), sizes (B,), angles (B,)."""
    points = landmarks_px[:, torch.from_numpy(STEADY_JOINTS).to(landmarks_px.device)]
    knuckles = (landmarks_px[:, 5] + landmarks_px[:, 13]) / 4 + landmarks_px[:, 9] / 2
    up = knuckles - landmarks_px[:, 0]
    angle = torch.atan2(up[:, 0], -up[:, 1])
    c, s = angle.cos(), angle.sin()
    rotation = torch.stack([c, -s, s, c], 1).view(-1, 2, 2)
    turned = points @ rotation
    low, high = turned.amin(1), turned.amax(1)
    extent = high - low
    center = (low + high) / 2
    center[:, 1] -= HAND_SHIFT * extent[:, 1]
    size = extent.amax(1).clamp(min=1) * HAND_SCALE
    return (rotation @ center[..., None])[..., 0], size, angle


def _looking_at(point: Tensor, angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) to cameras that look at points (B, 2) of the plane z = 1, rolled by angles (B,)."""
    forward = torch.nn.functional.normalize(torch.cat([point, torch.ones_like(point[:, :1])], 1), dim=1)
    zero = torch.zeros_like(angle)
    across = torch.nn.functional.normalize(torch.stack([forward[:, 2], zero, -forward[:, 0]], 1), dim=1)
    look = torch.stack([across, torch.linalg.cross(forward, across), forward], 1)
    c, s, one = angle.cos(), angle.sin(), torch.ones_like(angle)
    roll = torch.stack([c, s, zero, -s, c, zero, zero, zero, one], 1).view(-1, 3, 3)
    return roll @ look
