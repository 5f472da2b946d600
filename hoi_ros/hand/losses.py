"""What HandOS is trained by: 2D, 3D and weak terms with the paper's weights.

Source: HandOS section 3.4 and supplement VI.2. Places are fractions of the image; L1 terms in the image are taken in
fractions of the hand's true box, and lengths in `HAND_SPAN_M`, so that both mean the same share of a hand. Where the
paper sums over faces and edges these terms are means: they do not grow with the mesh, and weigh less beside the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hoi_ros.config import setting
from hoi_ros.hand.handos import HAND_SPAN_M, HandOsOutput

OKS_FALLOFF = 0.08
"""Distance in box sides at which a joint's similarity has fallen to exp(-1/2)."""


UNKNOWN_SEGMENT = 255
"""Label of a pixel of which nobody knows what it shows."""
CONTACT_WEIGHT = 2.0
"""How much more a vertex that touches weighs than one that does not."""


@dataclass(frozen=True)
class LossWeights:
    """Factors of the terms; the paper's."""

    joints_2d: float = setting(10.0, "L1 of 2D joints", low=0)
    oks_2d: float = setting(4.0, "object keypoint similarity of 2D joints", low=0)
    vertices: float = setting(10.0, "L1 of vertices", low=0)
    joints_3d: float = setting(10.0, "L1 of regressed joints", low=0)
    normals: float = setting(5.0, "edges against true face normals", low=0)
    edges: float = setting(10.0, "L1 of edge lengths", low=0)
    projected: float = setting(10.0, "L1 of projected joints", low=0)
    oks_projected: float = setting(4.0, "object keypoint similarity of projected joints", low=0)
    smoothness: float = setting(0.5, "normals of neighbouring faces agree", low=0)
    contact: float = setting(1.0, "cross-entropy of contact, beyond the paper", low=0)
    segments: float = setting(1.0, "cross-entropy and overlap of hand, object and background, beyond the paper", low=0)


@dataclass(frozen=True)
class HandTargets:
    """Truth of the chosen instances; a hand without 3D truth is supervised weakly."""

    joints_2d: Tensor
    """(B, K, 21, 2) fractions of the image."""
    joint_weights: Tensor
    """(B, K, 21) 1 where the joint is annotated, 0 where not, or where no hand belongs to the instance."""
    boxes: Tensor
    """(B, K, 4) true boxes, centre and size, fractions of the image."""
    has_3d: Tensor
    """(B, K) bool."""
    vertices: Tensor | None = None
    """(B, K, V, 3) metres about the mean of the joints."""
    joints_3d: Tensor | None = None
    """(B, K, 21, 3) likewise."""
    translation: Tensor | None = None
    """(B, K, 3) metres: where the joints' mean is in the camera; scored, no term wants it."""
    contact: Tensor | None = None
    """(B, K, V) 0 to 1 how surely it touches, NaN where unknown."""
    segments: Tensor | None = None
    """(B, H, W) 0 background, 1 hand, 2 object, 255 unknown, of the finest map's size."""


class HandOsLoss:
    """Sums the terms over hands, averages them over layers."""

    def __init__(self, faces: np.ndarray, weights: LossWeights | None = None):
        self.weights = weights or LossWeights()
        self.faces = torch.from_numpy(np.asarray(faces, np.int64))
        self.neighbours = torch.from_numpy(neighbouring_faces(np.asarray(faces)))

    def __call__(self, outputs: Sequence[HandOsOutput], targets: HandTargets) -> tuple[Tensor, dict[str, Tensor]]:
        """Total of all layers' terms, and the last layer's unweighted terms by name."""
        total = outputs[-1].joints_2d.new_zeros(())
        terms: dict[str, Tensor] = {}
        for output in outputs:
            terms = self.terms(output, targets)
            for name, value in terms.items():
                total = total + getattr(self.weights, name) * value / len(outputs)
        return total, {name: value.detach() for name, value in terms.items()}

    def terms(self, output: HandOsOutput, targets: HandTargets) -> dict[str, Tensor]:
        """Unweighted terms of one layer, scalars by the names of `LossWeights`."""
        terms = self._flat_terms(output.joints_2d, targets, "joints_2d", "oks_2d")
        if output.vertices is None or output.joints_3d is None or output.projected is None:
            return terms
        terms |= self._flat_terms(output.projected, targets, "projected", "oks_projected")
        some = targets.joint_weights.amax(2)
        normals = face_normals(output.vertices, self.faces.to(some.device))
        one, other = self.neighbours.to(some.device).unbind(1)
        bend = 1 - (normals[..., one, :] * normals[..., other, :]).sum(-1)
        terms["smoothness"] = _mean(bend.mean(-1), some)
        if targets.vertices is not None and targets.joints_3d is not None:
            terms |= self._solid_terms(output.vertices, output.joints_3d, targets)
        if output.contact is not None and targets.contact is not None:
            terms["contact"] = contact_term(output.contact, targets.contact, targets.has_3d)
        if output.segments is not None and targets.segments is not None:
            terms["segments"] = segments_term(output.segments, targets.segments)
        return terms

    @staticmethod
    def _flat_terms(points: Tensor, targets: HandTargets, plain: str, oks: str) -> dict[str, Tensor]:
        side = targets.boxes[..., 2:].amax(-1).clamp(min=1e-4)[..., None]
        # A point behind or beside the camera must not drown the others.
        error = ((points - targets.joints_2d) / side[..., None]).clamp(-4, 4)
        similar = torch.exp(-error.square().sum(-1) / (2 * OKS_FALLOFF**2))
        return {
            plain: _mean(error.abs().sum(-1), targets.joint_weights),
            oks: _mean(1 - similar, targets.joint_weights),
        }

    def _solid_terms(self, vertices: Tensor, joints: Tensor, targets: HandTargets) -> dict[str, Tensor]:
        assert targets.vertices is not None and targets.joints_3d is not None
        solid, faces = targets.has_3d.float(), self.faces.to(vertices.device)
        edges, true_edges = face_edges(vertices, faces), face_edges(targets.vertices, faces)
        lengths, true_lengths = (e.norm(dim=-1).clamp(min=1e-6) for e in (edges, true_edges))
        normals = face_normals(targets.vertices, faces)
        lean = ((edges / lengths[..., None]) * normals[..., None, :]).sum(-1).abs()
        return {
            "vertices": _mean((vertices - targets.vertices).abs().sum(-1).mean(-1), solid) / HAND_SPAN_M,
            "joints_3d": _mean((joints - targets.joints_3d).abs().sum(-1).mean(-1), solid) / HAND_SPAN_M,
            "normals": _mean(lean.mean((-1, -2)), solid),
            "edges": _mean((lengths - true_lengths).abs().mean((-1, -2)), solid) / HAND_SPAN_M,
        }


def contact_term(logits: Tensor, share: Tensor, has_3d: Tensor) -> Tensor:
    """Cross-entropy of contact (B, K, V) against shares 0 to 1, NaN where unknown; touching skin, rare, weighs more."""
    known = torch.isfinite(share.float()) & has_3d[..., None]
    share = torch.where(known, share.float(), 0.0)
    weight = torch.tensor(CONTACT_WEIGHT, device=logits.device)
    wrong = F.binary_cross_entropy_with_logits(logits.float(), share, reduction="none", pos_weight=weight)
    return _mean(wrong, known.float())


def segments_term(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (B, 3, H, W) plus what hand and object lack in overlap; labels (B, H, W), 255 unknown."""
    logits, known = logits.float(), labels != UNKNOWN_SEGMENT
    true = F.one_hot(torch.where(known, labels, 0).long(), logits.shape[1]).permute(0, 3, 1, 2)
    shares, known = logits.softmax(1), known[:, None].float()
    wrong = -(true * logits.log_softmax(1)).sum(1, keepdim=True)
    shared = (shares * true * known)[:, 1:].sum((0, 2, 3))
    both = ((shares + true) * known)[:, 1:].sum((0, 2, 3))
    return _mean(wrong, known) + (1 - (2 * shared + 1) / (both + 1)).mean()


def face_edges(vertices: Tensor, faces: Tensor) -> Tensor:
    """Three edges (..., F, 3, 3) of each face of vertices (..., V, 3)."""
    a, b, c = (vertices[..., faces[:, k], :] for k in range(3))
    return torch.stack([b - a, c - b, a - c], -2)


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (..., F, 3)."""
    a, b, c = (vertices[..., faces[:, k], :] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    return normal / normal.square().sum(-1, keepdim=True).clamp(min=1e-16).sqrt()


def neighbouring_faces(faces: np.ndarray) -> np.ndarray:
    """Pairs (E, 2) of faces that share an edge."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort(edges.T)
    edges, owner = edges[order], owner[order]
    same = (edges[1:] == edges[:-1]).all(1)
    return np.stack([owner[:-1][same], owner[1:][same]], 1).astype(np.int64)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
