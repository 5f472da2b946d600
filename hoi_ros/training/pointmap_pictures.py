"""Pictures of what the pointmap network says beside the truth."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from hoi_ros.tracking.pointmap_network import PairPrediction

_CLASS_COLORS = np.array([[40, 40, 40], [60, 200, 90], [230, 150, 110]], np.uint8)


def prediction_sheet(batch: dict[str, Tensor], prediction: PairPrediction) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a row a view: picture, true and found distance from the first camera, confidence, mask."""
    rows = []
    for b in range(len(prediction.points)):
        for view in (0, 1):
            picture = ((batch["pictures"][b, view].permute(1, 2, 0).cpu().numpy() + 1) * 127.5).astype(np.uint8)
            valid = batch["valid_mask"][b, view].cpu().numpy()
            cells = [picture]
            for points in (batch["points"][b, view], prediction.points[b, view]):
                cells.append(_shaded(points.float().cpu().numpy(), valid))
            confidence = prediction.confidence[b, view].float().cpu().numpy()
            cells.append(_grey(np.log(confidence), 0.0, 5.0))
            if prediction.mask_logits is not None:
                cells.append(_CLASS_COLORS[prediction.mask_logits[b, view].argmax(0).cpu().numpy()])
            rows.append(np.concatenate(cells, 1))
    return np.concatenate(rows)


def _shaded(points: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Depth as warm to cold, with lines every tenth of x and y so that turns show."""
    depth = _grey(points[..., 2], -0.6, 0.6)[..., 0]
    color = cv2.applyColorMap(depth, cv2.COLORMAP_TURBO)[..., ::-1].copy()
    lines = ((points[..., :2] * 5) % 1 < 0.15).any(-1)
    color[lines] //= 2
    color[~valid] = 20
    return color


def _grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    level = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, -1)
