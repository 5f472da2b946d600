"""Random hand poses and shapes within joint limits: fists, gestures, relaxed hands, pinches and grasps."""

from __future__ import annotations

import numpy as np

from hoi_ros.datatypes import FINGERS
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.kinematics import forward_kinematics

KINDS = ("together", "each", "gesture", "relaxed", "flat", "grasp")
SHARES = (0.22, 0.22, 0.22, 0.12, 0.1, 0.12)
FINGER_GAP_M, PALM_GAP_M, PINCH_M = 0.0105, 0.013, 0.022
"""Bone axes of different fingers, and of finger ends and palm, nearer than this sink into each other."""
UNPINCHED_SHARE = 0.35
"""How many poses without a pinch are kept, so that pinches are not rare."""
_BATCH = 1024


def sample_hands(
    model: HandModel, rng: np.random.Generator, count: int, held_share: float = SHARES[-1]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw hands that hardly sink into themselves.

    Args:
        model: gives limits and bones.
        rng: source of chance.
        count: hands wanted.
        held_share: share of hands drawn that hold something; the other kinds keep their proportions.

    Returns:
        Joint angles (N, A) radians, shape (N, 10) coefficients, and (N,) whether the hand is one that holds something.
    """
    angles, shapes, holds = [], [], []
    have = 0
    others = np.array(SHARES[:-1]) / sum(SHARES[:-1]) * (1 - held_share)
    shares = np.append(others, held_share)
    while have < count:
        kind = rng.choice(len(KINDS), _BATCH, p=shares)
        drawn = sample_angles(model, rng, kind)
        shape = np.clip(rng.normal(0, 0.9, (_BATCH, 10)), -2.5, 2.5)
        joints = forward_kinematics(model.skeleton, drawn, shape).keypoints
        apart, pinched = _apart(joints), _pinched(joints)
        keep = apart & (pinched | (rng.random(_BATCH) < UNPINCHED_SHARE))
        angles.append(drawn[keep])
        shapes.append(shape[keep])
        holds.append(kind[keep] == KINDS.index("grasp"))
        have += int(keep.sum())
    return tuple(np.concatenate(x)[:count] for x in (angles, shapes, holds))  # type: ignore[return-value]


def sample_angles(model: HandModel, rng: np.random.Generator, kind: np.ndarray) -> np.ndarray:
    """Joint angles (N, A) radians of the kinds (N,), numbers into `KINDS`; self-penetration is not looked at."""
    count = len(kind)
    curl = _curl(rng, kind)
    base = np.clip(curl * 1.5 + rng.normal(0, 0.12, (count, 5)), -0.4, 1.6)
    middle = np.clip(curl * 1.75 + rng.normal(0, 0.12, (count, 5)), -0.1, 1.95)
    hooked = rng.random((count, 5)) < 0.12
    base = np.where(hooked, rng.uniform(-0.2, 1.3, (count, 5)), base)
    middle = np.where(hooked, rng.uniform(0.0, 1.8, (count, 5)), middle)
    last = middle * rng.uniform(0.35, 0.75, (count, 5)) + rng.normal(-0.05, 0.08, (count, 5))
    fan = rng.normal(0, 0.13, (count, 1)) + rng.normal(0, 0.06, (count, 5))
    spread = fan * (1 - 0.6 * np.clip(curl, 0, 1))
    names = {name: i for i, name in enumerate(model.joint_angle_names)}
    angles = np.zeros((count, len(names)))
    for number, finger in enumerate(FINGERS):
        if number == 0:
            continue
        for joint, values in (
            ("mcp_flexion", base),
            ("mcp_abduction", spread),
            ("pip_flexion", middle),
            ("dip_flexion", last),
        ):
            angles[:, names[f"{finger}_{joint}"]] = values[:, number]
    for name, values in _thumb(rng, kind).items():
        angles[:, names[f"thumb_{name}"]] = values
    low, high = model.joint_limits.T
    return np.clip(angles, low, high)


def _curl(rng: np.random.Generator, kind: np.ndarray) -> np.ndarray:
    """How far each finger is closed (N, 5), 0 straight to 1 in the palm; the thumb's is not used."""
    count = len(kind)
    each = np.where(
        rng.random((count, 5)) < 0.5,
        np.where(rng.random((count, 5)) < 0.5, rng.normal(-0.04, 0.06, (count, 5)), rng.normal(0.95, 0.1, (count, 5))),
        rng.uniform(-0.1, 1.05, (count, 5)),
    )
    gesture = np.where(
        rng.random((count, 5)) < 0.5, rng.normal(-0.04, 0.06, (count, 5)), rng.normal(0.98, 0.08, (count, 5))
    )
    order = np.arange(5) * 0.04
    curls = [
        rng.uniform(-0.1, 1, (count, 1)) + rng.normal(0, 0.1, (count, 5)),
        each,
        gesture,
        rng.uniform(0.1, 0.45, (count, 1)) + order + rng.normal(0, 0.05, (count, 5)),
        rng.normal(-0.02, 0.04, (count, 5)),
        rng.uniform(0.3, 0.65, (count, 1)) + order / 2 + rng.normal(0, 0.04, (count, 5)),
    ]
    return np.stack(curls)[kind, np.arange(count)]


def _thumb(rng: np.random.Generator, kind: np.ndarray) -> dict[str, np.ndarray]:
    """The thumb's joint angles by name, each (N,); in a grasp it stands against the fingers."""
    count = len(kind)
    holds = kind == KINDS.index("grasp")
    return {
        "cmc_flexion": np.where(holds, rng.normal(0.2, 0.25, count), rng.uniform(-0.55, 0.8, count)),
        "cmc_abduction": np.where(holds, rng.normal(0.5, 0.2, count), rng.uniform(-0.6, 0.75, count)),
        "cmc_rotation": np.where(holds, rng.normal(0.3, 0.2, count), rng.uniform(-0.5, 0.7, count)),
        "mcp_flexion": rng.normal(0.25, 0.3, count),
        "mcp_abduction": rng.normal(0, 0.1, count),
        "ip_flexion": np.where(rng.random(count) < 0.7, rng.normal(0.25, 0.35, count), rng.uniform(-0.4, 1.3, count)),
    }


def _apart(joints: np.ndarray) -> np.ndarray:
    """Whether fingers keep clear of each other and of the palm: (N,) bool from joints (N, 21, 3)."""
    points, fingers = [], []
    for finger in range(5):
        chain = joints[:, 1 + 4 * finger : 5 + 4 * finger]
        points += [chain[:, 1:], (chain[:, 1:] + chain[:, :-1]) / 2]
        fingers += [finger] * 6
    cloud = np.concatenate(points, 1)
    gap = np.linalg.norm(cloud[:, :, None] - cloud[:, None], axis=-1)
    same = np.array(fingers)[:, None] == np.array(fingers)
    clear = np.where(same, 1.0, gap).min((1, 2)) > FINGER_GAP_M
    wrist, knuckles = joints[:, :1], joints[:, [5, 9, 13, 17]]
    palm = np.concatenate([wrist + share * (knuckles - wrist) for share in (0.35, 0.65, 0.95)], 1)
    ends = joints[:, [3, 4, 7, 8, 11, 12, 15, 16, 19, 20]]
    return clear & (np.linalg.norm(ends[:, :, None] - palm[:, None], axis=-1).min((1, 2)) > PALM_GAP_M)


def _pinched(joints: np.ndarray) -> np.ndarray:
    """Whether the thumb's tip is at another finger's: (N,) bool from joints (N, 21, 3)."""
    return np.linalg.norm(joints[:, [8, 12, 16, 20]] - joints[:, 4:5], axis=-1).min(1) < PINCH_M
