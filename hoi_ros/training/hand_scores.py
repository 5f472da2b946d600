"""How good a HandOS network is on held-out crops: PA errors, 2D error, sides; and pictures of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from hoi_ros.datatypes import SKELETON_EDGES
from hoi_ros.hand.handos import HandOs, HandOsOutput, is_right_hand
from hoi_ros.training.feature_cache import read_shard
from hoi_ros.training.hand_crops import CROP_SIDE, HAND, OBJECT
from hoi_ros.training.shard_batches import make_batch, usable


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
    """Scores on one shard's crops that hold a hand for the detector.

    Returns:
        pa_mpjpe_mm, landmarks_pa_mpjpe_mm (the detector's own), pa_mpvpe_mm, joints_2d_px (of the crop), and
        side_right, the share of right sides; hand_iou, object_iou and contact_iou where the network has such heads;
        in 2D training joints_2d_px alone.
    """
    arrays = read_shard(path)
    rows = np.flatnonzero(usable(arrays))
    results: list[dict[str, np.ndarray]] = []
    was_training = network.training
    network.eval()
    first: HandOsOutput | None = None
    device = next(network.parameters()).device
    for part in np.array_split(rows, max(len(rows) // 64, 1)):
        batch = make_batch({name: values[part] for name, values in arrays.items() if name != "pictures"})
        with torch.inference_mode():
            output = network(batch.detection, batch.camera) if device.type == "cpu" else None
        if output is None:
            return {}
        last = output[-1]
        first = first or last
        error = (last.joints_2d - batch.targets.joints_2d).norm(dim=-1).mean((1, 2)) * CROP_SIDE
        row = {"joints_2d_px": error}
        if last.vertices is not None and last.joints_3d is not None:
            truth, joints = batch.targets.vertices, batch.targets.joints_3d
            assert truth is not None and joints is not None and batch.detection.landmarks_3d is not None
            row["pa_mpjpe_mm"] = aligned_errors(last.joints_3d[:, 0], joints[:, 0]) * 1e3
            row["landmarks_pa_mpjpe_mm"] = aligned_errors(batch.detection.landmarks_3d[:, 0], joints[:, 0]) * 1e3
            row["pa_mpvpe_mm"] = aligned_errors(last.vertices[:, 0], truth[:, 0]) * 1e3
            right = is_right_hand(last.vertices[:, 0], network.faces)
            row["side_right"] = (right.numpy() == arrays["right"][part]).astype(np.float64)
        if (
            last.segments is not None
            and batch.targets.segments is not None
            and last.segments.shape[-2:] == batch.targets.segments.shape[-2:]
        ):
            seen, true = last.segments.argmax(1).flatten(1), batch.targets.segments.flatten(1)
            for kind, name in ((HAND, "hand_iou"), (OBJECT, "object_iou")):
                row[name] = overlaps(seen == torch.tensor(kind), true == torch.tensor(kind))
        if last.contact is not None and batch.targets.contact is not None:
            row["contact_iou"] = overlaps(last.contact[:, 0] > 0, batch.targets.contact[:, 0])
        results.append({name: np.asarray(values, np.float64) for name, values in row.items()})
    network.train(was_training)
    if picture is not None and "pictures" in arrays and first is not None:
        shown = [k for k in range(len(arrays["pictures"])) if k in set(rows.tolist())]
        places = [int(np.searchsorted(rows, k)) for k in shown]
        draw_hands(arrays["pictures"][shown], first, places, picture)
    # Crops without a held thing have no overlap to speak of.
    return {name: round(float(np.nanmean(np.concatenate([r[name] for r in results]))), 4) for name in results[0]}


def overlaps(found: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (N,) of masks (N, P); NaN where nothing is true."""
    shared, either = (found & truth).sum(1).float(), (found | truth).sum(1).float()
    return torch.where(truth.any(1), shared / either.clamp(min=1), torch.nan)


def draw_hands(images: np.ndarray, output: HandOsOutput, places: list[int], path: Path) -> None:
    """Write crops with the network's 2D joints, and below them its projected ones."""
    rows = []
    for points in (output.joints_2d, output.projected):
        if points is None:
            continue
        tiles = []
        for image, place in zip(images, places):
            tile = image.copy()
            for finger, (a, b) in enumerate(SKELETON_EDGES):
                ends = [
                    tuple((points[place, 0, k].float().numpy() * tile.shape[0]).astype(int).tolist()) for k in (a, b)
                ]
                hue = np.array([[[finger // 4 * 32, 220, 255]]], np.uint8)
                color = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
                cv2.line(tile, ends[0], ends[1], color, 2, cv2.LINE_AA)
            tiles.append(tile)
        rows.append(np.hstack(tiles))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
