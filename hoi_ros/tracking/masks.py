"""Which pixels are hand, and which belong to what is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from hoi_ros.datatypes import HandEstimate
from hoi_ros.geometry import invert_transform
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.patch import Patch
from hoi_ros.tracking.segment_evidence import segment_evidence

FOREARM_RADIUS_M, FOREARM_SLOPE, FOREARM_LENGTH_M = 0.045, 0.45, 0.4
AWAY_M = 0.008
"""Beyond the 2 cm by which a mesh may err: farther from it nothing is hand."""
DEEP_M = 0.004
"""Inside the silhouette by so much, what lies at the mesh's depth is surely skin."""
SEEN_NEAR_M = 0.06
"""Skin that a network sees is believed this near to the mesh in depth."""
NO_HAND_M = np.float32(1e3)
SHARES, LUMAS = 24, 4
BINS = SHARES * SHARES * LUMAS
UNSEEN = 1e-3
"""Density of a colour that was never seen: about that of all colours alike."""
LUMA_SPREAD = np.array([[0.7, 0.25, 0.05, 0], [0.2, 0.6, 0.2, 0], [0, 0.2, 0.6, 0.2], [0, 0.05, 0.25, 0.7]], np.float32)
FINGER_JOINTS = [3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20]
SAMPLES = np.array(
    [[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.34, 0.33, 0.33], [0.66, 0.17, 0.17]], np.float32
)
"""Barycentric coordinates of the points splatted for each triangle."""


class SkinModel:
    """Colour of this person's hands against everything else, learnt while running.

    Histograms over hue (shares of red and blue, which shade leaves alone) and coarse brightness; old frames fade.
    A colour seen on neither side counts as other: skin has few colours, things have all.
    """

    def __init__(self) -> None:
        self._skin = np.zeros(BINS, np.float32)
        self._other = np.zeros(BINS, np.float32)

    def probability(self, bins: np.ndarray) -> np.ndarray:
        """(h, w) float32 in 0 to 1 that pixels of these `skin_bins` (h, w) are skin; 0.5 before anything is known."""
        if not self.learnt:
            return np.full(bins.shape, 0.5, np.float32)
        share = self._skin / (self._skin + self._other + UNSEEN)
        return share.astype(np.float32)[bins]

    @property
    def learnt(self) -> bool:
        """True once skin has been seen."""
        return bool(self._skin.sum() > 0)

    def learn(self, bins: np.ndarray, skin_mask: np.ndarray, other_mask: np.ndarray) -> None:
        """Update from `skin_bins` (h, w) and the pixels that surely are, and are not, skin."""
        for histogram, mask in ((self._skin, skin_mask), (self._other, other_mask)):
            if mask.sum() < 50:
                continue
            counts = np.bincount(bins[mask], minlength=BINS).astype(np.float32)
            counts = _softened(counts) / counts.sum()
            histogram += (1.0 if histogram.sum() == 0 else 0.1) * (counts - histogram)


def _softened(counts: np.ndarray) -> np.ndarray:
    """A histogram (BINS,) spread to its neighbours in hue and brightness."""
    hue = cv2.GaussianBlur(counts.reshape(SHARES, SHARES, LUMAS), (5, 5), 0.8)
    return (hue @ LUMA_SPREAD).reshape(-1)


def skin_bins(color: np.ndarray) -> np.ndarray:
    """Histogram bin (h, w) of each pixel (h, w, 3) uint8 RGB: shares of red and blue in the brightness, and that."""
    red, green, blue = np.moveaxis(color.astype(np.float32), -1, 0)
    total = red + green + blue
    scale = np.float32(SHARES) / (total + 24)
    red_bin = np.clip((red + 8) * scale * np.float32(1.45) - np.float32(0.22 * SHARES), 0, SHARES - 1)
    blue_bin = np.clip((blue + 8) * scale * np.float32(1.7), 0, SHARES - 1)
    luma_bin = np.minimum(total / 192, LUMAS - 1)
    red_bin, blue_bin, luma_bin = (part.astype(np.int32) for part in (red_bin, blue_bin, luma_bin))
    return (red_bin * SHARES + blue_bin) * LUMAS + luma_bin


def hand_depth(hands: Sequence[HandEstimate], faces: Mapping[str, np.ndarray] | None, patch: Patch) -> np.ndarray:
    """Depth (h, w) float32 of the fitted hand meshes in a patch, NO_HAND_M where no hand is.

    Args:
        hands: fitted hands, vertices in the optical frame.
        faces: (F, 3) triangles by side; without them the vertices alone are drawn.
        patch: crop of the frame.
    """
    height, width = patch.shape
    k = patch.intrinsics
    half_h, half_w = (height + 1) // 2, (width + 1) // 2
    depth = np.full(half_h * half_w, NO_HAND_M, np.float32)
    for hand in hands:
        vertices = hand.vertices_camera.astype(np.float32)
        vertices = vertices[np.isfinite(vertices).all(1)]
        triangles = None if faces is None else faces.get(hand.handedness)
        if triangles is not None and len(vertices) and triangles.max() < len(vertices):
            vertices = np.einsum("sk,fkc->sfc", SAMPLES, vertices[triangles]).reshape(-1, 3)
        vertices = vertices[vertices[:, 2] > 0.05]
        u = np.rint((k.fx * vertices[:, 0] / vertices[:, 2] + k.cx) / 2).astype(np.int64)
        v = np.rint((k.fy * vertices[:, 1] / vertices[:, 2] + k.cy) / 2).astype(np.int64)
        inside = (u >= 0) & (v >= 0) & (u < half_w) & (v < half_h)
        np.minimum.at(depth, v[inside] * half_w + u[inside], vertices[inside, 2])
    image: np.ndarray = depth.reshape(half_h, half_w)
    closed = cv2.morphologyEx(-image, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) * -1
    image = cv2.resize(np.minimum(image, closed), (2 * half_w, 2 * half_h), interpolation=cv2.INTER_NEAREST)
    return image[:height, :width]


def forearm_mask(hands: Sequence[HandEstimate], patch: Patch) -> np.ndarray:
    """(h, w) bool: pixels in the cone that leaves each wrist away from the fingers."""
    height, width = patch.shape
    points = patch.points[::2, ::2]
    out = np.zeros(points.shape[:2], bool)
    for hand in hands:
        T_wrist_camera = invert_transform(hand.T_camera_wrist).astype(np.float32)
        if not np.isfinite(T_wrist_camera).all():
            continue
        local = [points @ row[:3] + row[3] for row in T_wrist_camera[:3]]
        behind = -local[1]
        limit = FOREARM_RADIUS_M + FOREARM_SLOPE * np.maximum(behind - 0.02, 0)
        out |= (behind > 0.005) & (behind < FOREARM_LENGTH_M) & (local[0] ** 2 + local[2] ** 2 < limit**2)
    full = np.repeat(np.repeat(out, 2, 0), 2, 1)[:height, :width]
    return full & (patch.depth_m > 0)


def segment_hands(
    hands: Sequence[HandEstimate],
    faces: Mapping[str, np.ndarray] | None,
    patch: Patch,
    skin: SkinModel,
    model_depth_m: np.ndarray | None,
    clear: np.ndarray,
    forearms: np.ndarray,
    config: TrackerConfig,
) -> np.ndarray:
    """Pixels of hands and forearms, tolerant of a mesh a centimetre or two off; teaches `skin`.

    Args:
        hands: fitted hands.
        faces: triangles by side.
        patch: crop of the frame.
        skin: colour model, updated.
        model_depth_m: (h, w) rendering of the object at the predicted pose, inf elsewhere; None without a model.
        clear: (h, w) bool pixels off table and wall.
        forearms: (h, w) bool, see `forearm_mask`.
        config: margins.

    Returns:
        (h, w) bool.
    """
    if not hands:
        return np.zeros(patch.shape, bool)
    mesh = hand_depth(hands, faces, patch)
    silhouette = mesh < NO_HAND_M
    typical = float(np.median(mesh[silhouette])) if silhouette.any() else 1.0
    pixel_m = patch.pixel_size_m(typical)
    valid = patch.depth_m > 0
    wide = _min_filter(mesh, 0.02 / pixel_m)
    close = (np.abs(patch.depth_m - wide) < 0.035) & valid
    snug = _min_filter(mesh, config.hand_margin_m / pixel_m)
    inside = (patch.depth_m - snug < 0.018) & (patch.depth_m - snug > -0.025)
    claimed = np.zeros(patch.shape, bool)
    if model_depth_m is not None:
        claimed = valid & (np.abs(patch.depth_m - model_depth_m) < 0.006)
    bins = skin_bins(patch.color)
    probability = cv2.blur(skin.probability(bins), (3, 3))
    arm = forearms & ~(claimed & (probability < 0.5))
    core = (np.abs(patch.depth_m - mesh) < 0.012) & ~claimed
    eroded = cv2.erode(core.astype(np.uint8), _disk(max(2.0, DEEP_M / pixel_m))) > 0
    # Table and wall are told apart by depth, so that wood the colour of skin does not unteach the skin; and what the
    # model claims close to the hand may be the hand itself, wrongly fused.
    elsewhere = valid & ~forearms & ~dilated(wide < NO_HAND_M, AWAY_M / pixel_m)
    elsewhere = cv2.morphologyEx((elsewhere & clear).astype(np.uint8), cv2.MORPH_OPEN, _disk(2)) > 0
    skin.learn(bins, eroded, elsewhere)
    if skin.learnt:
        hand = (inside & (probability > 0.25)) | (close & (probability > 0.6))
        hand |= _grown(core & (probability > 0.4), (probability > 0.7) & valid & ~claimed, patch)
        own = claimed & (snug >= NO_HAND_M)
        if own.sum() >= 100 and float(np.median(probability[own])) < 0.3:
            # The object's colour is not the skin's: what looks like skin beside the hand is a finger off its mesh.
            beside = (_min_filter(mesh, 0.035 / pixel_m) < NO_HAND_M) & clear & valid
            hand |= beside & (probability > 0.8)
        hand &= ~(claimed & (probability < 0.5))
    else:
        hand = inside & ~claimed
    if config.hand_segments:
        evidence = segment_evidence(hands, patch.shape, patch.x0, patch.y0, 1 / patch.stride)
        near = (np.abs(patch.depth_m - wide) < SEEN_NEAR_M) & valid
        hand = hand if evidence is None else evidence.correct_hand(hand, near)
    hand |= arm
    return cv2.morphologyEx(hand.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0


def _grown(seed: np.ndarray, allowed: np.ndarray, patch: Patch) -> np.ndarray:
    """Connected parts of `allowed`, cut at depth jumps, that the seed covers noticeably."""
    count, labels = cv2.connectedComponents((allowed & ~patch.edge_mask).astype(np.uint8), connectivity=4)
    hits = np.bincount(labels[seed], minlength=count)
    keep = hits >= 40
    keep[0] = False
    return keep[labels]


def grasp_components(
    hands: Sequence[HandEstimate], candidates: np.ndarray, patch: Patch, config: TrackerConfig
) -> np.ndarray:
    """Connected parts of the candidates that touch the fingers or the palm.

    Args:
        hands: fitted hands.
        candidates: (h, w) bool pixels that are neither hand nor background.
        patch: crop of the frame.
        config: contact distance, smallest object.

    Returns:
        (h, w) bool, empty when nothing is held.
    """
    allowed = (candidates & ~patch.edge_mask).astype(np.uint8)
    count, labels = cv2.connectedComponents(allowed, connectivity=4)
    if count < 2 or not hands:
        return np.zeros(patch.shape, bool)
    zones = np.concatenate([_grasp_zone(hand) for hand in hands]).astype(np.float32)
    rows, columns = np.nonzero(allowed[::2, ::2])
    points = patch.points[::2, ::2][rows, columns]
    # |p - z|^2 by one product, about the hands' middle: the squares then cancel no digits that matter.
    middle = zones.mean(0)
    points, zones = points - middle, zones - middle
    nearest = (np.einsum("zk,zk->z", zones, zones) - 2 * points @ zones.T).min(1)
    nearest += np.einsum("nk,nk->n", points, points)
    part = labels[::2, ::2][rows, columns]
    touching = np.bincount(part[nearest < config.contact_m**2], minlength=count)
    reachable = np.bincount(part[nearest < config.hand_reach_m**2], minlength=count)
    total = np.maximum(np.bincount(part, minlength=count), 1)
    small = config.min_object_px / 4 / patch.stride**2 / 4
    keep = (touching >= 15) & (reachable > 0.6 * total) & (total > small)
    keep[0] = False
    return _regained(keep[labels], candidates)


def _grasp_zone(hand: HandEstimate) -> np.ndarray:
    """Points (K, 3) that a held object is near: finger joints and a point before the palm."""
    joints = hand.joints_camera
    palm = joints[[0, 5, 9, 13, 17]].mean(0)
    tips = joints[[4, 8, 12]].mean(0)
    return np.concatenate([joints[FINGER_JOINTS], [palm + 0.35 * (tips - palm), 0.5 * (palm + tips)]])


def object_mask(
    model_depth_m: np.ndarray,
    candidates: np.ndarray,
    hand_mask: np.ndarray,
    patch: Patch,
    growth_m: float,
) -> np.ndarray:
    """Pixels that the model explains, and those that continue them in depth.

    Args:
        model_depth_m: (h, w) rendering at the frame's pose, inf elsewhere.
        candidates: (h, w) bool pixels that are neither hand nor background.
        hand_mask: (h, w) bool.
        patch: crop of the frame.
        growth_m: how far the mask may grow beyond the model in one frame; 0 not at all.

    Returns:
        (h, w) bool.
    """
    tolerance = 0.006 + 0.002 * patch.depth_m
    explained = (patch.depth_m > 0) & (np.abs(patch.depth_m - model_depth_m) < tolerance) & ~hand_mask
    if growth_m <= 0 or not explained.any():
        return explained
    typical = float(np.median(patch.depth_m[explained]))
    reach = dilated(explained, growth_m / patch.pixel_size_m(typical))
    allowed = explained | (candidates & reach & ~patch.edge_mask)
    count, labels = cv2.connectedComponents(allowed.astype(np.uint8), connectivity=4)
    hits = np.bincount(labels[explained], minlength=count)
    keep = hits >= 20
    keep[0] = False
    return _regained(keep[labels] | explained, candidates)


def connected_parts(candidates: np.ndarray, patch: Patch, min_px: int, most: int = 4) -> list[np.ndarray]:
    """The largest parts (h, w) bool of the candidates, cut at depth jumps, largest first."""
    allowed = candidates & ~patch.edge_mask
    if np.count_nonzero(allowed) < min_px:
        return []
    _, labels = cv2.connectedComponents(allowed.astype(np.uint8), connectivity=4)
    areas = np.bincount(labels.ravel())
    order = [i for i in np.argsort(-areas, kind="stable") if i > 0]
    return [labels == i for i in order[:most] if areas[i] >= min_px]


def main_parts(mask: np.ndarray, patch: Patch, least_share: float = 0.3) -> np.ndarray:
    """What a rough mask was meant for, (h, w) bool: its largest part in depth and those not much smaller."""
    parts = connected_parts(mask, patch, 30)
    kept = [part for part in parts if part.sum() >= least_share * parts[0].sum()]
    return _regained(np.logical_or.reduce(kept), mask) if kept else mask


def _regained(mask: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Give a mask back the edge pixels that the cut at depth jumps cost it."""
    return mask | (dilated(mask, 1.5) & candidates)


def _min_filter(depth: np.ndarray, radius_px: float) -> np.ndarray:
    """Least depth within a radius; spreads a silhouette outwards."""
    return cv2.erode(depth, _disk(radius_px))


def dilated(mask: np.ndarray, radius_px: float) -> np.ndarray:
    """A mask (h, w) bool widened by a radius."""
    return cv2.dilate(mask.astype(np.uint8), _disk(radius_px)) > 0


def _disk(radius_px: float) -> np.ndarray:
    size = 2 * max(1, round(radius_px)) + 1
    return cv2.getStructuringElement(cv2.MORPH_RECT if size > 9 else cv2.MORPH_ELLIPSE, (size, size))
