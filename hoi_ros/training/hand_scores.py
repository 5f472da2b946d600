"""How good a HandOS network is on held-out crops: PA errors, 2D error, place, sides; and pictures of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from hoi_ros.datatypes import SKELETON_EDGES
from hoi_ros.hand.handos import HandOs, HandOsOutput, is_right_hand
from hoi_ros.training.feature_cache import read_shard
from hoi_ros.training.hand_crops import CROP_SIDE, HAND, OBJECT
from hoi_ros.training.shard_batches import Batch, make_batch, moved, usable


def aligned_errors(points: Tensor, truth: Tensor) -> Tensor:
    """Mean distance (N,) of points (N, P, 3) from truth after the best similarity without reflection."""
    points, truth = points - points.mean(1, keepdim=True), truth - truth.mean(1, keepdim=True)
    u, sizes, vt = torch.linalg.svd(truth.transpose(1, 2) @ points)
    turn = torch.ones(len(points), 3, dtype=points.dtype)
    turn[:, 2] = torch.det(u @ vt).sign()
    rotation = u @ torch.diag_embed(turn) @ vt
    scale = (sizes * turn).sum(1) / points.square().sum((1, 2)).clamp(min=1e-12)
    moved = scale[:, None, None] * (points @ rotation.transpose(1, 2))
    return (moved - truth).norm(dim=-1).mean(1)


def score_shard(network: HandOs, path: Path, picture: Path | None = None) -> dict[str, float]:
    """Scores on one shard's crops that hold a hand for the detector; see `score_batches`."""
    arrays = read_shard(path)
    rows = np.flatnonzero(usable(arrays))
    parts = np.array_split(rows, max(len(rows) // 64, 1))
    batches = (
        make_batch({name: values[part] for name, values in arrays.items() if name != "pictures"}) for part in parts
    )
    scores, _ = score_batches(network, batches)
    if picture is not None:
        _draw_crops(network, arrays, picture)
    return scores


def draw_shard(network: HandOs, path: Path, picture: Path) -> None:
    """Write a picture of the network's answers on the crops that a shard keeps as pictures; none where it has none."""
    _draw_crops(network, read_shard(path), picture)


def _draw_crops(network: HandOs, arrays: dict[str, np.ndarray], picture: Path) -> None:
    images = arrays.get("pictures", np.zeros(0))
    rows = np.flatnonzero(usable(arrays)[: len(images)])
    if not len(rows):
        return
    batch = make_batch({name: values[rows] for name, values in arrays.items() if name != "pictures"})
    _, answer = score_batches(network, [batch])
    assert answer is not None
    draw_instances(images[rows], answer, [[0]] * len(rows), picture)


@torch.inference_mode()
def score_batches(network: HandOs, batches: Iterable[Batch]) -> tuple[dict[str, float], HandOsOutput | None]:
    """Scores on batches with known truth, on the network's own device.

    Returns:
        pa_mpjpe_mm, pa_mpvpe_mm, joints_2d_px (of a crop, or of a picture as wide as one), and side_right, the share
        of right sides; translation_mm and distance_percent, how far the joints' middle is from its true place, and its
        distance from the true one; landmarks_pa_mpjpe_mm of a detector that knows landmarks; hand_iou, object_iou and
        contact_iou where the network has such heads; in 2D training joints_2d_px alone. And the first batch's answer,
        on the CPU.
    """
    results: list[dict[str, np.ndarray]] = []
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    first: HandOsOutput | None = None
    for batch in batches:
        there = batch.to(device)
        last = moved(network(there.detection, there.camera, every_layer=False)[-1], torch.device("cpu"))
        first = first or last
        results.append({name: np.asarray(v, np.float64) for name, v in score_hands(network, batch, last).items()})
    network.train(was_training)
    # Crops without a held thing have no overlap to speak of.
    names = sorted({name for row in results for name in row})
    values = {name: np.concatenate([r[name] for r in results if name in r]) for name in names}
    known = {name: value[np.isfinite(value)] for name, value in values.items()}
    return {name: round(float(v.mean()), 4) if len(v) else float("nan") for name, v in known.items()}, first


def score_hands(network: HandOs, batch: Batch, last: HandOsOutput) -> dict[str, Tensor]:
    """Scores (N,) of each true hand of a batch, with the answer on the batch's device."""
    targets = batch.targets
    known = targets.joint_weights > 0
    real = known.any(-1)
    distance = (last.joints_2d - targets.joints_2d).norm(dim=-1) * CROP_SIDE
    row = {"joints_2d_px": ((distance * known).sum(-1) / known.sum(-1).clamp(min=1))[real]}
    solid = targets.has_3d & real
    if last.vertices is not None and last.joints_3d is not None and bool(solid.any()):
        truth, joints = targets.vertices, targets.joints_3d
        assert truth is not None and joints is not None
        row["pa_mpjpe_mm"] = aligned_errors(last.joints_3d[solid], joints[solid]) * 1e3
        if batch.detection.landmarks_3d is not None:
            row["landmarks_pa_mpjpe_mm"] = aligned_errors(batch.detection.landmarks_3d[solid], joints[solid]) * 1e3
        row["pa_mpvpe_mm"] = aligned_errors(last.vertices[solid], truth[solid]) * 1e3
        if last.translation is not None and targets.translation is not None:
            middle = last.translation[solid] + last.joints_3d[solid].mean(1)
            row |= translation_errors(middle, targets.translation[solid])
        faces = network.faces.cpu()
        row["side_right"] = is_right_hand(last.vertices[solid], faces) == is_right_hand(truth[solid], faces)
    if (
        last.segments is not None
        and targets.segments is not None
        and last.segments.shape[-2:] == targets.segments.shape[-2:]
    ):
        seen, true = last.segments.argmax(1).flatten(1), targets.segments.flatten(1)
        for kind, name in ((HAND, "hand_iou"), (OBJECT, "object_iou")):
            row[name] = overlaps(seen == torch.tensor(kind), true == torch.tensor(kind))
    if last.contact is not None and targets.contact is not None:
        row["contact_iou"] = overlaps(last.contact[solid] > 0, targets.contact[solid] > 0.5)
    return row


def translation_errors(places: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Scores (N,) of places (N, 3) in the camera, metres: their error, and that of their distance from the camera."""
    distance = places.norm(dim=-1) / truth.norm(dim=-1).clamp(min=1e-3)
    return {"translation_mm": (places - truth).norm(dim=-1) * 1e3, "distance_percent": (distance - 1).abs() * 100}


def overlaps(found: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (N,) of masks (N, P); NaN where nothing is true."""
    shared, either = (found & truth).sum(1).float(), (found | truth).sum(1).float()
    return torch.where(truth.any(1), shared / either.clamp(min=1), torch.nan)


def draw_instances(images: np.ndarray, output: HandOsOutput, shown: list[list[int]], path: Path) -> None:
    """Write pictures (B, H, W, 3) with the network's 2D joints, and below them its projected ones.

    Args:
        images: uint8 RGB.
        output: of at least these B images, on the CPU.
        shown: instances of each image to draw.
        path: of the picture.
    """
    rows = []
    for points in (output.joints_2d, output.projected):
        if points is None:
            continue
        tiles = []
        for number, (image, instances) in enumerate(zip(images, shown)):
            tile = image.copy()
            for instance in instances:
                _draw_bones(tile, points[number, instance].float().numpy() * tile.shape[1::-1])
            tiles.append(tile)
        rows.append(np.hstack(tiles))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _draw_bones(tile: np.ndarray, points_px: np.ndarray) -> None:
    """Lines along the bones of joints (21, 2), pixels, a colour a finger; places far outside are drawn at the edge."""
    ends = np.clip(np.nan_to_num(points_px), -4000, 4000).astype(int)
    for finger, (a, b) in enumerate(SKELETON_EDGES):
        hue = np.array([[[finger // 4 * 32, 220, 255]]], np.uint8)
        color = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
        cv2.line(tile, tuple(ends[a].tolist()), tuple(ends[b].tolist()), color, 2, cv2.LINE_AA)
