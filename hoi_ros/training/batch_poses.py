"""Random hand poses drawn by the batch on any device, of the same distribution as `hand_poses.sample_hands`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hoi_ros.datatypes import FINGERS
from hoi_ros.hand_model.anatomy import JOINT_ANGLE_NAMES
from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_hands import BatchHands
from hoi_ros.training.hand_poses import FINGER_GAP_M, KINDS, PALM_GAP_M, PINCH_M, SHARES, UNPINCHED_SHARE

DRAWS_A_HAND = 5
"""Poses drawn for each one kept: three in ten are, so hardly ever is there too little choice."""
_COLUMNS = {name: k for k, name in enumerate(JOINT_ANGLE_NAMES)}


def draw_hands(hands: BatchHands, chance: Chance, count: int, held_share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Hands that hardly sink into themselves, chosen without asking the device how many there are.

    Args:
        hands: gives limits and bones.
        chance: on the hands' device.
        count: hands wanted.
        held_share: share of the draws that hold something; the other kinds keep their proportions.

    Returns:
        Joint angles (N, A) radians, shape (N, 10), and (N,) bool whether the pose is one that holds something.
    """
    drawn = count * DRAWS_A_HAND
    others = np.array(SHARES[:-1]) / sum(SHARES[:-1]) * (1 - held_share)
    kind = chance.kinds(np.append(others, held_share), drawn)
    angles = draw_angles(hands, chance, kind)
    shape = chance.normal(0, 0.9, drawn, 10).clamp(-2.5, 2.5)
    joints = hands.joints(angles, shape)
    apart, pinched = _apart(joints), _pinched(joints)
    wanted = apart & (pinched | chance.happens(UNPINCHED_SHARE, drawn))
    best = torch.argsort(2 * wanted.int() + apart.int(), descending=True, stable=True)[:count]
    return angles[best], shape[best], kind[best] == KINDS.index("grasp")


def draw_angles(hands: BatchHands, chance: Chance, kind: Tensor) -> Tensor:
    """Joint angles (N, A) radians of the kinds (N,), as `hand_poses.sample_angles` draws them."""
    count = len(kind)

    def noise(deviation: float) -> Tensor:
        return chance.normal(0, deviation, count, 5)

    curl = _curl(chance, kind)
    base = (curl * 1.5 + noise(0.12)).clamp(-0.4, 1.6)
    middle = (curl * 1.75 + noise(0.12)).clamp(-0.1, 1.95)
    hooked = chance.happens(0.12, count, 5)
    base = torch.where(hooked, chance.uniform(-0.2, 1.3, count, 5), base)
    middle = torch.where(hooked, chance.uniform(0.0, 1.8, count, 5), middle)
    last = middle * chance.uniform(0.35, 0.75, count, 5) + noise(0.08) - 0.05
    spread = (chance.normal(0, 0.13, count, 1) + noise(0.06)) * (1 - 0.6 * curl.clamp(0, 1))
    columns: list[Tensor] = [kind] * len(_COLUMNS)
    for number, finger in enumerate(FINGERS[1:], 1):
        parts = (("mcp_flexion", base), ("mcp_abduction", spread), ("pip_flexion", middle), ("dip_flexion", last))
        for joint, values in parts:
            columns[_COLUMNS[f"{finger}_{joint}"]] = values[:, number]
    for name, value in _thumb(chance, kind).items():
        columns[_COLUMNS[f"thumb_{name}"]] = value
    low, high = hands.limits.unbind(1)
    return torch.stack(columns, 1).clamp(low, high)


def _curl(chance: Chance, kind: Tensor) -> Tensor:
    """How far each finger is closed (N, 5), 0 straight to 1 in the palm; the thumb's is not used."""
    count = len(kind)
    shape = (count, 5)

    def straight_or_closed(middle: float, deviation: float, straight: float) -> Tensor:
        closed = chance.normal(middle, deviation, *shape)
        return torch.where(chance.happens(0.5, *shape), chance.normal(-0.04, straight, *shape), closed)

    order = torch.arange(5, device=kind.device) * 0.04
    each = torch.where(
        chance.happens(0.5, *shape), straight_or_closed(0.95, 0.1, 0.06), chance.uniform(-0.1, 1.05, *shape)
    )
    curls = [
        chance.uniform(-0.1, 1, count, 1) + chance.normal(0, 0.1, *shape),
        each,
        straight_or_closed(0.98, 0.08, 0.06),
        chance.uniform(0.1, 0.45, count, 1) + order + chance.normal(0, 0.05, *shape),
        chance.normal(-0.02, 0.04, *shape),
        chance.uniform(0.3, 0.65, count, 1) + order / 2 + chance.normal(0, 0.04, *shape),
    ]
    return torch.stack(curls)[kind, torch.arange(count, device=kind.device)]


def _thumb(chance: Chance, kind: Tensor) -> dict[str, Tensor]:
    """The thumb's joint angles by name, each (N,); in a grasp it stands against the fingers."""
    count, holds = len(kind), kind == KINDS.index("grasp")

    def held_or_free(mean: float, deviation: float, low: float, high: float) -> Tensor:
        return torch.where(holds, chance.normal(mean, deviation, count), chance.uniform(low, high, count))

    return {
        "cmc_flexion": held_or_free(0.2, 0.25, -0.55, 0.8),
        "cmc_abduction": held_or_free(0.5, 0.2, -0.6, 0.75),
        "cmc_rotation": held_or_free(0.3, 0.2, -0.5, 0.7),
        "mcp_flexion": chance.normal(0.25, 0.3, count),
        "mcp_abduction": chance.normal(0, 0.1, count),
        "ip_flexion": torch.where(
            chance.happens(0.7, count), chance.normal(0.25, 0.35, count), chance.uniform(-0.4, 1.3, count)
        ),
    }


def _apart(joints: Tensor) -> Tensor:
    """Whether fingers keep clear of each other and of the palm: (N,) bool from joints (N, 21, 3)."""
    chains = joints[:, 1:].view(-1, 5, 4, 3)
    cloud = torch.cat([chains[:, :, 1:], (chains[:, :, 1:] + chains[:, :, :-1]) / 2], 2).flatten(1, 2)
    finger = torch.arange(30, device=joints.device) // 6
    gap = _distances(cloud, cloud) + (finger[:, None] == finger).float()
    wrist, knuckles = joints[:, :1], joints[:, 5::4]
    palm = torch.cat([wrist + share * (knuckles - wrist) for share in (0.35, 0.65, 0.95)], 1)
    ends = chains[:, :, 2:].flatten(1, 2)
    return (gap.amin((1, 2)) > FINGER_GAP_M) & (_distances(ends, palm).amin((1, 2)) > PALM_GAP_M)


def _pinched(joints: Tensor) -> Tensor:
    """Whether the thumb's tip is at another finger's: (N,) bool from joints (N, 21, 3)."""
    return (joints[:, 8::4] - joints[:, 4:5]).norm(dim=-1).amin(1) < PINCH_M


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, P, Q) between points (N, P, 3) and (N, Q, 3)."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
