"""The meshes of a batch of crops in their cameras: hands, forearms, held things, second hands, things beside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_hands import mirrors, nearest, turned
from hoi_ros.training.batch_plan import BatchPlan
from hoi_ros.training.batch_poses import draw_hands
from hoi_ros.training.batch_raster import Triangles
from hoi_ros.training.batch_stock import BENDS, BatchStock, Uploader
from hoi_ros.training.batch_things import CLEAR_M, PlacedThings, place_held, place_others, place_small, thing_corners
from hoi_ros.training.batch_views import Views, draw_turns, draw_views

_BEHIND = -1.0


@dataclass(frozen=True)
class BatchScene:
    """B crops as triangles, and the truth of their hands; camera axes, metres."""

    triangles: Triangles
    """Faces in the order hands, forearms, held things, others."""
    attributes: Tensor
    """(N, 7) of the vertices: what colour is made from (4), and the normal (3)."""
    ends: tuple[int, int, int]
    """Numbers of faces up to the end of hands, forearms, held things."""
    thing_faces: Tensor
    """(faces of things,) number of the thing."""
    things: Tensor
    """(things,) number in the stock."""
    focal: Tensor
    """(B,) in crop sides."""
    vertices: Tensor
    """(B, V, 3) of the first hands."""
    joints: Tensor
    """(B, 21, 3)."""
    right: Tensor
    """(B,) bool."""
    contact: Tensor
    """(B, V) 0 to 1."""


def build_scene(stock: BatchStock, plan: BatchPlan, chance: Chance) -> BatchScene:
    """Pose and place everything that a plan names."""
    count, device = len(plan.covered), stock.device
    put = Uploader(device)
    angles, shape = _poses(stock, plan, chance, put)
    crops, right = put(plan.hand_crops), put(plan.right)
    scale = chance.normal(1, 0.08, count).clamp(0.75, 1.25)
    posed = stock.hands.pose(angles, shape, right, scale[crops])
    views = draw_views(posed.joints[:count], chance)
    first, joints = views.see(posed.vertices[:count]), views.see(posed.joints[:count])
    rotation, offset = _hand_cameras(stock, plan, chance, put, views, scale, posed.vertices, first)
    hands = posed.vertices @ rotation.mT + offset[:, None]
    hands = torch.cat([first, _clear(hands[count:], first[crops[count:]])])
    contact = torch.zeros(first.shape[:2], device=device)
    contact[put(plan.held)] = stock.hold_contact[put(plan.holds)]
    held = place_held(stock, plan, put, views, scale)
    small, touching = place_small(stock, plan, chance, put, views, posed.joints[:count], posed.vertices[:count])
    contact[put(plan.small)] = touching
    others = place_others(stock, plan, chance, put, first)
    things = [held, small, others]
    arms = _arms(stock, plan, put, rotation, offset, scale[crops], right)
    arms = torch.where((hands[put(plan.arms), :1, 2:] == _BEHIND), _BEHIND, arms)
    return _assemble(stock, plan, put, hands, right, crops, arms, things, views, joints, contact)


def _poses(stock: BatchStock, plan: BatchPlan, chance: Chance, put: Uploader) -> tuple[Tensor, Tensor]:
    """Angles (N, A) and shapes (N, 10) of all hands."""
    count = len(plan.covered)
    free = np.setdiff1d(np.arange(count), np.concatenate([plan.held, plan.grasps]))
    alone = count + np.flatnonzero(plan.partners < 0)
    together = count + np.flatnonzero(plan.partners >= 0)
    partners = plan.partners[plan.partners >= 0]
    rows = [np.concatenate([free, alone]), plan.grasps, plan.held, together]
    drawn = [draw_hands(stock.hands, chance, len(row), share)[:2] for row, share in zip(rows[:2], (0.0, 1.0))]
    for holds in (put(plan.holds), put(partners)):
        drawn.append((stock.hold_angles[holds], stock.hold_shapes[holds]))
    order = put(np.argsort(np.concatenate(rows), kind="stable"))
    return tuple(torch.cat(parts)[order] for parts in zip(*drawn))  # type: ignore[return-value]


def _hand_cameras(
    stock: BatchStock, plan: BatchPlan, chance: Chance, put: Uploader, views: Views, scale: Tensor, posed: Tensor,
    first: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Rotation (N, 3, 3) and offset (N, 3) of every hand's wrist in its camera; second hands hold too or lie apart."""
    count, second = len(plan.covered), len(plan.partners)
    crops = put(plan.hand_crops[count:])
    hold = np.full(count, 0)
    hold[plan.held] = plan.holds
    own, partner = put(hold[plan.hand_crops[count:]]), put(np.maximum(plan.partners, 0))
    wrist = stock.thing_in_wrist[own] @ stock.wrist_in_thing[partner]
    along_turn = views.rotation[crops] @ wrist[:, :3, :3]
    along = scale[crops, None] * turned(views.rotation[crops], wrist[:, :3, 3]) + views.offset[crops]
    angle = chance.uniform(0, 2 * math.pi, second)
    shift = torch.stack([angle.cos(), angle.sin()], 1) * chance.uniform(0.06, 0.2, second, 1)
    shift = torch.cat([shift, chance.uniform(-0.06, 0.12, second, 1)], 1)
    turn = draw_turns(chance, second)
    apart = first[crops].mean(1) + shift - turned(turn, posed[count:].mean(1))
    holds = put(plan.partners >= 0)
    rotation = torch.where(holds[:, None, None], along_turn, turn)
    offset = torch.where(holds[:, None], along, apart)
    return torch.cat([views.rotation, rotation]), torch.cat([views.offset, offset])


def _clear(second: Tensor, first: Tensor) -> Tensor:
    """Second hands (N, V, 3), moved out of sight where they meet the first ones or the camera."""
    near = nearest(second[:, ::6], first[:, ::6]) < CLEAR_M
    gone = near | (second[..., 2].amin(1) < 0.1)
    return torch.where(gone[:, None, None], _BEHIND, second)


def _arms(
    stock: BatchStock, plan: BatchPlan, put: Uploader, rotation: Tensor, offset: Tensor, scale: Tensor, right: Tensor
) -> Tensor:  # fmt: skip
    """Forearms (A, N, 3) in their cameras."""
    hand = put(plan.arms)
    tube = stock.arms[put(plan.arm_numbers)] * (mirrors(right[hand]) * scale[hand, None])[:, None]
    return tube @ rotation[hand].mT + offset[hand, None]


def _assemble(
    stock: BatchStock, plan: BatchPlan, put: Uploader, hands: Tensor, right: Tensor, crops: Tensor, arms: Tensor,
    things: list[PlacedThings], views: Views, joints: Tensor, contact: Tensor,
) -> BatchScene:  # fmt: skip
    """One list of triangles."""
    count, arm_hands = len(plan.covered), put(plan.arms)
    sides = torch.where(right, 1.0, -1.0)
    hand_normals = stock.hand_normals(hands) * sides[:, None, None]
    arm_normals = stock.arm_normals(arms) * sides[arm_hands, None, None]
    hand_values = stock.hand_attributes.expand(len(hands), -1, -1)
    arm_values = stock.arm_attributes[put(plan.arm_numbers // BENDS)]
    corners, values, owner = thing_corners(stock, put, things)
    thing_crops = torch.cat([group.crops for group in things])
    vertices = torch.cat([hands.reshape(-1, 3), arms.reshape(-1, 3), corners])
    arm_start, thing_start = hands.shape[0] * hands.shape[1], len(vertices) - len(corners)
    faces = torch.cat([
        _copies(stock.hands.faces, len(hands), hands.shape[1]),
        _copies(stock.arm_faces, len(arms), arms.shape[1]) + arm_start,
        torch.arange(len(corners), device=stock.device).view(-1, 3) + thing_start,
    ])  # fmt: skip
    per_hand, per_arm, thing_faces = len(stock.hands.faces), len(stock.arm_faces), owner[::3]
    owners = [crops.repeat_interleave(per_hand), crops[arm_hands].repeat_interleave(per_arm), thing_crops[thing_faces]]
    outward = [
        sides.repeat_interleave(per_hand),
        sides.new_zeros(len(arms) * per_arm),
        corners.new_ones(len(owner) // 3),
    ]
    attributes = torch.cat([
        torch.cat([hand_values.reshape(-1, 4), hand_normals.reshape(-1, 3)], 1),
        torch.cat([arm_values.reshape(-1, 4), arm_normals.reshape(-1, 3)], 1),
        values,
    ])  # fmt: skip
    held = len(things[0].numbers) + len(things[1].numbers)
    numbers = np.concatenate([group.numbers for group in things])
    ends = np.cumsum([len(hands) * per_hand, len(arms) * per_arm, stock.corner_counts[numbers[:held]].sum() // 3])
    return BatchScene(
        Triangles(vertices, faces, torch.cat(owners), torch.cat(outward)), attributes,
        (int(ends[0]), int(ends[1]), int(ends[2])), thing_faces, put(numbers), views.focal,
        hands[:count], joints, right[:count], contact,
    )  # fmt: skip


def _copies(faces: Tensor, count: int, vertices: int) -> Tensor:
    """(count F, 3) of faces (F, 3), each copy on its own vertices."""
    start = torch.arange(count, device=faces.device)[:, None, None] * vertices
    return (faces + start).view(-1, 3)
