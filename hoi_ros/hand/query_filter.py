"""Which of a detector's instances the decoder looks at: SimOTA in training, score and overlap when running.

Source: HandOS section 3.3; SimOTA from YOLOX, arXiv 2107.08430.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SCORE_THRESHOLD, NMS_THRESHOLD = 0.1, 0.9
CANDIDATES = 10
"""Best overlaps that together say how many instances a true hand gets."""
OTHER_BOX = 1e5
AMONG = 64


def corners(boxes: Tensor) -> Tensor:
    """Boxes (..., 4) of centre and size as x0 y0 x1 y1."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def box_overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4), centre and size."""
    a, b = corners(boxes)[:, None], corners(others)[None]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = sides.prod(-1)
    areas = boxes[:, 2:].prod(-1)[:, None] + others[:, 2:].prod(-1)[None]
    return shared / (areas - shared).clamp(min=1e-9)


def matching_cost(scores: Tensor, boxes: Tensor, true_boxes: Tensor) -> Tensor:
    """Cost (Q, G) of giving an instance to a true hand: cross-entropy of the score, minus log of the overlap."""
    overlap = box_overlap(boxes, true_boxes)
    # Every true hand's score is 1.
    wrong_class = F.binary_cross_entropy(scores.clamp(1e-6, 1 - 1e-6), torch.ones_like(scores), reduction="none")
    return wrong_class[:, None] - overlap.clamp(min=1e-8).log()


def assign_instances(scores: Tensor, boxes: Tensor, true_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """SimOTA: a true hand takes as many of the cheapest instances as its overlaps add up to, at least one.

    An instance wanted twice goes to the cheaper hand. A hand that no box overlaps still gets the cheapest one.

    Args:
        scores: (Q,) 0 to 1.
        boxes: (Q, 4) centre and size.
        true_boxes: (G, 4).

    Returns:
        Numbers (P,) of the positive instances, ascending, and (P,) of their true hands.
    """
    if not len(true_boxes) or not len(boxes):
        nothing = torch.zeros(0, dtype=torch.long, device=boxes.device)
        return nothing, nothing
    cost = matching_cost(scores, boxes, true_boxes)
    overlap = box_overlap(boxes, true_boxes)
    best = overlap.topk(min(CANDIDATES, len(boxes)), dim=0).values
    counts = (best.sum(0) + 1e-4).int().clamp(min=1, max=len(boxes)).tolist()
    chosen = torch.zeros_like(cost, dtype=torch.bool)
    for hand, count in enumerate(counts):
        chosen[cost[:, hand].topk(count, largest=False).indices, hand] = True
    masked = torch.where(chosen, cost, torch.full_like(cost, OTHER_BOX))
    positive = chosen.any(1).nonzero()[:, 0]
    return positive, masked[positive].argmin(1)


def keep_instances(
    scores: Tensor, boxes: Tensor, score_threshold: float = SCORE_THRESHOLD, nms_threshold: float = NMS_THRESHOLD
) -> Tensor:
    """Numbers (K,) of the instances worth decoding, best first: scored well, and no better one overlaps them.

    Args:
        scores: (Q,). boxes: (Q, 4) centre and size.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > score_threshold]
    overlap = box_overlap(boxes[order], boxes[order])
    keep: list[int] = []
    for row in range(len(order)):
        if not keep or float(overlap[row, keep].max()) <= nms_threshold:
            keep.append(row)
    return order[keep]


def best_instances(
    scores: Tensor,
    boxes: Tensor,
    count: int,
    score_threshold: float = SCORE_THRESHOLD,
    nms_threshold: float = NMS_THRESHOLD,
) -> tuple[Tensor, Tensor]:
    """The first `count` of `keep_instances` for every image at once, without reading anything back from the device.

    Of more than `AMONG` instances above the threshold only the best so many are compared.

    Args:
        scores: (B, Q). boxes: (B, Q, 4) centre and size. count: of instances, at most Q.

    Returns:
        Their numbers (B, count), best first, and (B, count) bool: false where there are not so many.
    """
    among = min(max(AMONG, count), scores.shape[1])
    top, order = scores.sort(dim=1, descending=True, stable=True)
    top, order = top[:, :among], order[:, :among]
    chosen = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    same = torch.stack([box_overlap(image, image) for image in chosen]) > nms_threshold
    keep = top > score_threshold
    for row in range(1, among):
        keep[:, row] &= ~(same[:, row, :row] & keep[:, :row]).any(-1)
    first = (~keep).int().argsort(dim=1, stable=True)[:, :count]
    return order.gather(1, first), keep.gather(1, first)
