"""Things of the stock in the cameras of a batch: held, small between the fingers, and beside the hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_hands import nearest, turned, turns_about
from hoi_ros.training.batch_plan import BatchPlan
from hoi_ros.training.batch_stock import BALL, CYLINDER, BatchStock, Uploader
from hoi_ros.training.batch_views import Views
from hoi_ros.training.held_things import APART_M, TOUCHES_M

CLEAR_M = 0.015
"""A thing that is not held, and a hand that holds nothing of the other's, keep at least so far away."""


@dataclass(frozen=True)
class PlacedThings:
    """Things in cameras."""

    numbers: np.ndarray
    """(T,) in the stock."""
    crops: Tensor
    sizes: Tensor
    """(T, 3) factors on the stock's mesh."""
    turns: Tensor
    """(T, 3, 3)."""
    places: Tensor
    """(T, 3)."""


def place_held(stock: BatchStock, plan: BatchPlan, put: Uploader, views: Views, scale: Tensor) -> PlacedThings:
    crops, wrist = put(plan.held), stock.thing_in_wrist[put(plan.holds)]
    size = scale[crops, None]
    rotation = views.rotation[crops]
    place = size * turned(rotation, wrist[:, :3, 3]) + views.offset[crops]
    return PlacedThings(stock.hold_things[plan.holds], crops, size.expand(-1, 3), rotation @ wrist[:, :3, :3], place)


def place_small(
    stock: BatchStock, plan: BatchPlan, chance: Chance, put: Uploader, views: Views, joints: Tensor, vertices: Tensor
) -> tuple[PlacedThings, Tensor]:
    """Cylinders, balls and boxes between fingers and palm, and how surely the hands (S, V) touch them."""
    count, crops, kind = len(plan.small), put(plan.small), put(plan.solids)[:, None]
    joints, vertices = joints[crops], vertices[crops]
    grip = (joints[:, 5::4].mean(1) + joints[:, 7:16:4].mean(1) + joints[:, 4]) / 3
    radius = chance.uniform(0.004, 0.03, count, 1)
    long, wide = chance.uniform(0.03, 0.11, count, 1), radius * chance.uniform(0.4, 1, count, 1)
    size = torch.where(kind == CYLINDER, torch.cat([radius, radius, long], 1), torch.cat([0.8 * radius, wide, long], 1))
    size = torch.where(kind == BALL, 1.2 * radius, size)
    upright = turns_about(torch.tensor([0.0, math.pi / 2, 0.0], device=stock.device))
    turn = turns_about(chance.normal(0, 0.35, count, 3)) @ upright
    distance = solid_distance((vertices - grip[:, None]) @ turn, size, kind)
    touching = ((APART_M - distance) / (APART_M - TOUCHES_M)).clamp(0, 1)
    rotation = views.rotation[crops]
    place = turned(rotation, grip) + views.offset[crops]
    return PlacedThings(stock.thing_count + plan.solids, crops, size, rotation @ turn, place), touching


def solid_distance(points: Tensor, size: Tensor, kind: Tensor) -> Tensor:
    """Signed distances (N, P) of points (N, P, 3) to solids of half sizes (N, 3) and kinds (N, 1)."""
    apart = points.abs() - size[:, None]
    box = apart.clamp(min=0).norm(dim=2) + apart.amax(2).clamp(max=0)
    across = points[..., :2].norm(dim=2) - size[:, :1]
    both = torch.stack([across, apart[..., 2]], 2)
    cylinder = both.clamp(min=0).norm(dim=2) + both.amax(2).clamp(max=0)
    ball = points.norm(dim=2) - size[:, :1]
    return torch.where(kind == CYLINDER, cylinder, torch.where(kind == BALL, ball, box))


def place_others(stock: BatchStock, plan: BatchPlan, chance: Chance, put: Uploader, first: Tensor) -> PlacedThings:
    """Things that nobody holds, behind the hand or beside it; out of sight where they would touch it."""
    count, crops, numbers = len(plan.other_crops), put(plan.other_crops), put(plan.other_things)
    aside = torch.where(chance.happens(0.5, count, 2), 1.0, -1.0) * chance.uniform(0.05, 0.2, count, 1)
    reach = torch.cat([aside, chance.uniform(0, 0.3, count, 1)], 1)
    turn = turns_about(chance.normal(0, 1.5, count, 3))
    place = first[crops].mean(1) + reach
    surface = stock.surfaces[numbers] @ turn.mT + place[:, None]
    gone = (nearest(surface, first[crops][:, ::6]) < CLEAR_M) | (surface[..., 2].amin(1) < 0.06)
    size = torch.where(gone[:, None], 0.0, torch.ones(count, 3, device=stock.device))
    return PlacedThings(plan.other_things, crops, size, turn, place)


def thing_corners(stock: BatchStock, put: Uploader, things: list[PlacedThings]) -> tuple[Tensor, Tensor, Tensor]:
    """Corners (C, 3) of all things, their attributes (C, 7) and things (C,)."""
    numbers = np.concatenate([group.numbers for group in things]).astype(np.int64)
    counts = stock.corner_counts[numbers]
    total = int(counts.sum())
    shift = put(stock.corner_starts[numbers] - (np.cumsum(counts) - counts))
    owner = torch.repeat_interleave(torch.arange(len(numbers), device=stock.device), put(counts), output_size=total)
    source = torch.arange(total, device=stock.device) + shift[owner]
    sizes, turns = torch.cat([group.sizes for group in things]), torch.cat([group.turns for group in things])
    places = torch.cat([group.places for group in things])
    own = stock.corners[source] * sizes[owner]
    normals = stock.corner_normals[source] / sizes[owner].clamp(min=1e-6)
    normals = torch.nn.functional.normalize(turned(turns[owner], normals), dim=1)
    corners = turned(turns[owner], own) + places[owner]
    return corners, torch.cat([own, torch.zeros_like(own[:, :1]), normals], 1), owner
