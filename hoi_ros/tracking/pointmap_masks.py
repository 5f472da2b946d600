"""Which pixels are the held object, from colour and hands alone: no depth, nothing trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hoi_ros.datatypes import HandEstimate, RgbdFrame
from hoi_ros.geometry import project
from hoi_ros.tracking.likeness import CHROMAS, COLORS, LUMAS, color_bins
from hoi_ros.tracking.masks import SAMPLES, SkinModel, skin_bins
from hoi_ros.tracking.pointmap_background import StillRoom
from hoi_ros.tracking.pointmap_cut import CutMaps, cut, cut_labels
from hoi_ros.tracking.segment_evidence import SegmentEvidence, segment_evidence

_TIPS_AND_PALM = [4, 8, 12, 16, 20, 3, 7, 11, 15, 5, 9]
GRIP_M, REACH_M = 0.045, 0.2
"""How near to fingers and palm a held thing shows, and how far from them it may stick out."""
SPOKEN_FOR = 0.25
"""Share of a new object's pixels that must move with the hand or be strange to the room: else it is the room."""
STRANGE_SHARE = 3e-4
UNKNOWN_SHARE = 0.15
"""Of an object's pixels as many may lie before a room never seen for the difference from it to be enough."""
LIKE_REACH_PX, LIKE_GREY = 8.0, 22.0
"""How far around the room is looked at, working pixels, and how near its colour there is to be alike."""
UNCOVERING_PX = 1.5
"""Pixels a frame that a hand moves when what stays still before the room is not in it but left behind."""
MOVES_PX = 1.2
"""Working pixels a frame beyond which a thing does not go as the room does."""


@dataclass(frozen=True)
class ColorView:
    """A crop around hands and object, shrunk to working size."""

    x0: int
    y0: int
    scale: float
    """Working pixels a pixel of the image."""
    picture: np.ndarray
    """(h, w, 3) uint8 RGB."""
    hand_depth_m: np.ndarray
    """(h, w) float32 of the hands' meshes, inf where none is."""

    def paste(self, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A mask (h, w) of this view in the whole image (H, W) bool."""
        height, width = mask.shape
        size = (round(width / self.scale), round(height / self.scale))
        full = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
        out = np.zeros(shape[:2], bool)
        target = out[self.y0 : self.y0 + size[1], self.x0 : self.x0 + size[0]]
        target[:] = full[: target.shape[0], : target.shape[1]]
        return out

    def cut(self, mask: np.ndarray) -> np.ndarray:
        """A mask (H, W) bool of the whole image in this view."""
        height, width = self.picture.shape[:2]
        size = (round(width / self.scale), round(height / self.scale))
        part = mask[self.y0 : self.y0 + size[1], self.x0 : self.x0 + size[0]].astype(np.float32)
        pad = ((0, max(0, size[1] - part.shape[0])), (0, max(0, size[0] - part.shape[1])))
        return cv2.resize(np.pad(part, pad), (width, height), interpolation=cv2.INTER_AREA) > 0.5

    def cut_picture(self, image: np.ndarray) -> np.ndarray:
        """A whole image (H, W) uint8 in this view."""
        height, width = self.picture.shape[:2]
        part = image[self.y0 : self.y0 + round(height / self.scale), self.x0 : self.x0 + round(width / self.scale)]
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)

    def pixels(self, places_px: np.ndarray) -> np.ndarray:
        """Places (..., 2) in the image, in working pixels."""
        return (places_px - (self.x0, self.y0)) * self.scale


def cut_view(
    frame: RgbdFrame, box_px: np.ndarray, hands: Sequence[HandEstimate], faces: Mapping[str, np.ndarray] | None,
    work_px: int,
) -> ColorView | None:  # fmt: skip
    """Cut a box (x0 y0 x1 y1) out of a frame; None when less than 16 pixels a side lie in the image."""
    height, width = frame.color.shape[:2]
    x0, y0 = max(0, int(box_px[0])), max(0, int(box_px[1]))
    x1, y1 = min(width, int(np.ceil(box_px[2]))), min(height, int(np.ceil(box_px[3])))
    if x1 - x0 < 16 or y1 - y0 < 16:
        return None
    scale = min(1.0, work_px / max(x1 - x0, y1 - y0))
    size = (max(8, round((x1 - x0) * scale)), max(8, round((y1 - y0) * scale)))
    picture = cv2.resize(frame.color[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA)
    view = ColorView(x0, y0, scale, np.ascontiguousarray(picture), np.zeros(0, np.float32))
    return ColorView(x0, y0, scale, view.picture, _mesh_depth(view, frame, hands, faces))


def _mesh_depth(view: ColorView, frame: RgbdFrame, hands, faces) -> np.ndarray:
    """(h, w) float32 depth of the hand meshes, splatted and closed; inf where none is."""
    height, width = view.picture.shape[:2]
    out = np.full((height, width), np.inf, np.float32)
    for hand in hands:
        points = hand.vertices_camera
        triangles = None if faces is None else faces.get(hand.handedness)
        if triangles is not None and len(points) and triangles.max() < len(points):
            points = np.einsum("sk,fkc->sfc", SAMPLES, points[triangles].astype(np.float32)).reshape(-1, 3)
        places = view.pixels(project(points.astype(np.float64), frame.intrinsics))
        known = np.isfinite(places).all(1)
        column, row = np.rint(places[known]).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
        np.minimum.at(out, (row[inside], column[inside]), points[known][inside, 2].astype(np.float32))
    near = np.where(np.isfinite(out), -out, np.float32(-1e3))
    closed = cv2.morphologyEx(near, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return np.where(closed > -1e2, -closed, np.float32(np.inf))


class RoomColors:
    """Colours of what surrounds the hands, learnt from the rest of the picture; old frames fade."""

    def __init__(self) -> None:
        self._share = np.zeros((CHROMAS, CHROMAS, LUMAS), np.float32)

    def learn(self, color: np.ndarray, view: ColorView) -> None:
        """Take in a whole picture (H, W, 3) but for the view."""
        step = max(1, color.shape[1] // 160)
        height, width = (round(n / view.scale) for n in view.picture.shape[:2])
        outside = np.ones(color.shape[:2], bool)
        outside[view.y0 : view.y0 + height, view.x0 : view.x0 + width] = False
        seen = color[::step, ::step][outside[::step, ::step]]
        if len(seen) < 500:
            return
        counts = np.bincount(color_bins(seen[None])[0], minlength=COLORS).astype(np.float32)
        share = counts.reshape(self._share.shape) / counts.sum()
        self._share += (1.0 if not self._share.any() else 0.1) * (share - self._share)

    def strange(self, picture: np.ndarray) -> np.ndarray:
        """(h, w) bool: colours that the room hardly shows."""
        spread = cv2.GaussianBlur(self._share.reshape(CHROMAS, -1), (0, 0), sigmaX=0.7, sigmaY=0.7).reshape(-1)
        return spread[color_bins(picture)] < STRANGE_SHARE


@dataclass(frozen=True)
class _Sight:
    """A view and what it shows whatever is looked for in it; arrays are (h, w) bool where not said otherwise."""

    view: ColorView
    m_px: float
    """Working pixels a metre at the hands' distance."""
    zone: np.ndarray
    """Around fingers and before the palm."""
    grips: dict[int, np.ndarray]
    """By track id of a hand: where what it holds shows."""
    hand_core: np.ndarray
    near_hand: np.ndarray
    arm: np.ndarray
    hand: np.ndarray
    skin: np.ndarray
    """(h, w) float32 0 to 1."""
    evidence: SegmentEvidence | None
    back: np.ndarray
    """As the room was."""
    front: np.ndarray
    """Not as the room was."""
    calm: np.ndarray
    """As it was lately."""
    strange: np.ndarray
    """Of a colour that the room hardly shows."""
    like_room: np.ndarray
    """Coloured as the room next to it."""
    flow: np.ndarray | None
    """(h, w, 2) pixels to where they were in the frame before."""


class ColorMasks:
    """Parts the picture into object and the rest by cuts through colour, steered by the hand and the mask before."""

    def __init__(self) -> None:
        self._skin = SkinModel()
        self._room = RoomColors()
        self._still = StillRoom()
        self._joints: dict[int, np.ndarray] = {}
        self._steps_px: dict[int, np.ndarray] = {}

    def watch(self, frame: RgbdFrame, hands: Sequence[HandEstimate], taken: np.ndarray | None) -> None:
        """Learn the room from a frame; `taken` (H, W) bool are the pixels of hand, arm and object in the last one."""
        shape = frame.color.shape[:2]
        self._steps_px = {
            hand.track_id: np.median(hand.joints_px - self._joints[hand.track_id], axis=0)
            for hand in hands
            if hand.track_id in self._joints
        }
        self._joints = {hand.track_id: hand.joints_px for hand in hands}
        busy = np.zeros(shape, np.uint8) if taken is None else taken.astype(np.uint8)
        for hand in hands:
            reach = 0.05 * frame.intrinsics.fx / float(hand.joints_camera[:, 2].mean())
            places = np.rint(np.concatenate([hand.joints_px - reach, hand.joints_px + reach])).astype(np.int32)
            cv2.fillConvexPoly(busy, cv2.convexHull(places), 1)
        self._still.learn(frame.color, _grown(busy > 0, 0.012 * max(shape)))

    def first_seen(
        self, view: ColorView, frame: RgbdFrame, hands: Sequence[HandEstimate], expected: np.ndarray | None,
        before: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """As `segment`, of a thing that is not followed yet: what shows most of it.

        From the last frame's mask, since what is seen grows; anew, since a part of it that shows first may be all that
        its mask grows to; and by what moves, since a plain thing that lay there looks in its middle as the room did.
        """
        sight = self._look(view, frame, hands, expected, before)
        if expected is None:  # the first sight of it may be of anything
            return self._held(sight, None, None), sight.hand | sight.arm
        masks = [self._held(sight, wanted, None) for wanted in (expected, None)]
        masks.append(self._held(sight, None, None, moving=True))
        return max(masks, key=np.count_nonzero), sight.hand | sight.arm

    def segment(
        self, view: ColorView, frame: RgbdFrame, hands: Sequence[HandEstimate], expected: np.ndarray | None,
        before: np.ndarray | None = None, holder: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Object and hand masks (h, w) bool of a view; what no hand touches is not held and not the object.

        Args:
            view: crop with the hands' meshes.
            frame: the whole frame.
            hands: fitted hands; the object is looked for in their grasp.
            expected: (h, w) bool where the object should be, from the frame before; None at the start.
            before: (H, W) uint8 grey image of the frame before; what moves with the object belongs to it.
            holder: track id of the hand that holds the object; None: any one hand.
        """
        sight = self._look(view, frame, hands, expected, before)
        return self._held(sight, expected, holder), sight.hand | sight.arm

    def _look(
        self, view: ColorView, frame: RgbdFrame, hands: Sequence[HandEstimate], expected: np.ndarray | None,
        before: np.ndarray | None,
    ) -> _Sight:  # fmt: skip
        """What a view shows whatever is looked for in it; colours of skin and room are learnt from it."""
        height, width = view.picture.shape[:2]
        silhouette = np.isfinite(view.hand_depth_m)
        m_px = self._metre_px(view, frame, hands)
        arm = self._arms(view, frame, hands, m_px)
        near_hand = _grown(silhouette, 0.012 * m_px)
        core = cv2.erode(silhouette.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        evidence = segment_evidence(hands, (height, width), view.x0, view.y0, view.scale)
        if evidence is not None:
            core &= ~(evidence.object > 0.5)
            arm &= ~(evidence.object > 0.6)
        bins = skin_bins(view.picture)
        self._skin.learn(bins, core if expected is None else core & ~expected, ~near_hand & ~arm)
        self._room.learn(frame.color, view)
        skin = cv2.blur(self._skin.probability(bins), (3, 3))
        hand = (silhouette & (skin > 0.3)) | (near_hand & (skin > 0.6))
        if evidence is not None:
            hand = evidence.correct_hand(hand, near_hand)
        box = (view.x0, view.y0, view.x0 + round(width / view.scale), view.y0 + round(height / view.scale))
        back, front, calm = self._still.compare(box, (width, height))
        strange = self._room.strange(view.picture) & (skin < 0.5) & ~hand & ~arm & ~back
        grips = {one.track_id: self._grasp_zone(view, frame, [one], GRIP_M * m_px) for one in hands}
        return _Sight(
            view, m_px, self._grasp_zone(view, frame, hands, 0.035 * m_px), grips, core, near_hand, arm, hand, skin,
            evidence, back, front, calm, strange, _like_around(view.picture, back),
            None if before is None else _flow(view, before),
        )  # fmt: skip

    def _held(
        self, sight: _Sight, expected: np.ndarray | None, holder: int | None, *, moving: bool = False
    ) -> np.ndarray:
        """(h, w) bool of the object; `expected` and `holder` as `segment` has them.

        With `moving` what the hand carries along is no room, however much it looks like it; colours decide on the rest.
        """
        s, m_px = sight, sight.m_px
        if holder is not None and holder not in s.grips and expected is None:
            return np.zeros(s.hand.shape, bool)
        came = s.front & (s.skin < 0.5) & ~s.hand & ~s.arm
        uncovered = s.front & s.calm & (self._left_behind(s.view, expected, holder) | s.like_room)
        came &= ~uncovered
        near_zone, far = _grown(s.zone, 0.06 * m_px), _grown(s.zone, 0.13 * m_px)
        reach = near_zone
        if expected is not None:
            reach = (_grown(expected, 0.03 * m_px) & _grown(s.zone, REACH_M * m_px)) | near_zone
        back, room = s.back, ~(reach | s.near_hand | s.arm)
        if moving:
            along, with_room = _carried(s, came, reach, room)
            if not along.any():
                return along
            back, uncovered, came = back & ~along, uncovered & ~along, came | along
        else:
            along, with_room = _moving(s.flow, s.hand if expected is None else expected, room)
        maps = CutMaps(
            s.hand, s.hand_core, s.near_hand, s.arm, s.skin, back, came, uncovered, s.strange, s.zone, reach, far,
            along, with_room,
        )  # fmt: skip
        labels = cut_labels(maps, expected)
        if s.evidence is not None:
            s.evidence.steer_cut(labels)
        if moving:
            object_mask = _solid(cut(s.view.picture, labels) & ~back)
        else:
            shows = came if expected is None else came | (expected & ~back & ~uncovered)
            object_mask = _solid(shows & (labels != cv2.GC_BGD))
            known = back | s.front
            unknown = ~known & (reach if expected is None else expected) & ~s.hand
            if unknown.sum() > UNKNOWN_SHARE * max(int(object_mask.sum()), 1):  # colours decide what the room does not
                object_mask = np.where(known, object_mask, cut(s.view.picture, labels))
        # A second hand may take the thing over, not bring another.
        if holder in s.grips:
            object_mask = _parts(object_mask & ~s.hand, [s.grips[holder]], None)
        else:
            object_mask = _parts(object_mask & ~s.hand, list(s.grips.values()), expected)
        if expected is None and (object_mask & (s.strange | along | came)).sum() < SPOKEN_FOR * object_mask.sum():
            object_mask[:] = False
        return object_mask

    def _left_behind(self, view: ColorView, expected: np.ndarray | None, holder: int | None) -> np.ndarray:
        """(h, w) bool: where nothing that goes with the hand can be, should it be without motion of its own."""
        steps = self._steps_px.values() if holder is None else [self._steps_px.get(holder, np.zeros(2))]
        step = max(steps, key=np.linalg.norm, default=np.zeros(2))
        if np.linalg.norm(step) < UNCOVERING_PX:
            return np.zeros(view.picture.shape[:2], bool)
        if expected is None:
            return np.ones(view.picture.shape[:2], bool)
        shift = np.array([[1, 0, step[0] * view.scale], [0, 1, step[1] * view.scale]], np.float32)
        size = (expected.shape[1], expected.shape[0])
        return cv2.warpAffine(expected.astype(np.uint8), shift, size) == 0

    @staticmethod
    def _metre_px(view: ColorView, frame: RgbdFrame, hands: Sequence[HandEstimate]) -> float:
        """Working pixels a metre at the hands' distance."""
        return view.scale * frame.intrinsics.fx / float(np.median([h.joints_camera[:, 2].mean() for h in hands]))

    @staticmethod
    def _grasp_zone(view: ColorView, frame: RgbdFrame, hands: Sequence[HandEstimate], border_px: float) -> np.ndarray:
        """(h, w) bool: around finger joints and before the palm."""
        out = np.zeros(view.picture.shape[:2], np.uint8)
        for hand in hands:
            joints = hand.joints_camera
            before = hand.T_camera_wrist[:3, :3] @ np.array([0, 0, 0.03])
            points = np.concatenate([joints[_TIPS_AND_PALM], joints[[5, 9, 13]] + before])
            places = view.pixels(project(points.astype(np.float64), frame.intrinsics))
            if np.isfinite(places).all():
                cv2.fillConvexPoly(out, cv2.convexHull(np.rint(places).astype(np.int32)), 1)
        return _grown(out > 0, border_px)

    @staticmethod
    def _arms(view: ColorView, frame: RgbdFrame, hands: Sequence[HandEstimate], m_px: float) -> np.ndarray:
        """(h, w) bool: a wedge from each wrist away from the fingers."""
        out = np.zeros(view.picture.shape[:2], np.uint8)
        for hand in hands:
            ends = np.stack([hand.joints_camera[0], 2 * hand.joints_camera[0] - hand.joints_camera[9]])
            wrist, behind = view.pixels(project(ends.astype(np.float64), frame.intrinsics))
            along = behind - wrist
            if not np.isfinite(along).all() or np.linalg.norm(along) < 0.02 * m_px:
                continue
            along /= np.linalg.norm(along)
            across = np.array([-along[1], along[0]])
            near, far = wrist + 0.005 * m_px * along, wrist + 0.4 * m_px * along
            corners = [near - 0.035 * m_px * across, near + 0.035 * m_px * across,
                       far + 0.09 * m_px * across, far - 0.09 * m_px * across]  # fmt: skip
            cv2.fillConvexPoly(out, np.rint(corners).astype(np.int32), 1)
        return out > 0


def _parts(mask: np.ndarray, grips: Sequence[np.ndarray], expected: np.ndarray | None) -> np.ndarray:
    """The parts of a mask that reach into one hand's grip (h, w), of several hands the one with most, no crumbs."""
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    if expected is not None:
        area[np.bincount(labels[expected], minlength=len(area)) <= 5] = 0
    held = [np.bincount(labels[grip], minlength=len(area)) > 5 for grip in grips]
    keep = max(held, key=lambda parts: int(area[parts].sum())) & (area > 0)
    return (keep & (area > 0.08 * area[keep].max(initial=0)))[labels]


def _flow(view: ColorView, before: np.ndarray) -> np.ndarray:
    """(h, w, 2) pixels from where a view's pixels are to where they were in the picture (H, W) `before`."""
    now = cv2.cvtColor(view.picture, cv2.COLOR_RGB2GRAY)
    empty = np.zeros((*now.shape, 2), np.float32)
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.asarray(dense.calc(now, view.cut_picture(before), empty))


def _moving(
    flow: np.ndarray | None, own: np.ndarray, room: np.ndarray, *, all_move: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (h, w) bool that go as those do that are `own`, and those that go as the `room` does.

    With `all_move`, what is `own` and goes as the room does is not: there something has left.
    """
    nothing = np.zeros(own.shape, bool)
    if flow is None or room.sum() < 200:
        return nothing, nothing
    rest = _affine(flow, room)
    if all_move:
        own = own & (np.linalg.norm(flow - rest, axis=2) > MOVES_PX)
    if own.sum() < 30:
        return nothing, nothing
    course = _affine(flow, own)
    apart = np.linalg.norm(course - rest, axis=2)
    to_own, to_room = np.linalg.norm(flow - course, axis=2), np.linalg.norm(flow - rest, axis=2)
    sure = apart > MOVES_PX
    return sure & (to_own < 0.3 * apart), sure & (to_room < 0.25 * apart) & (to_own > 0.6 * apart)


def _carried(s: _Sight, came: np.ndarray, reach: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What moves as the hand does, or as the surest of what `came`; and what goes as the `room` does: (h, w) bool."""
    sure = (cv2.erode(came.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & reach
    along, with_room = _moving(s.flow, sure, room, all_move=True)
    along |= _moving(s.flow, s.hand, room)[0]
    free = reach & ~s.hand & ~s.arm & (s.skin < 0.5)
    solid = cv2.morphologyEx((along & free).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0
    return solid, with_room & ~along


def _like_around(picture: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(h, w) bool: coloured like the room (h, w) bool next to it."""
    size = (0, 0)
    weight = cv2.GaussianBlur(back.astype(np.float32), size, LIKE_REACH_PX)
    shown = cv2.GaussianBlur(picture.astype(np.float32) * back[..., None], size, LIKE_REACH_PX)
    gap = np.abs(picture - shown / np.maximum(weight, 1e-3)[..., None]).max(2)
    return (weight > 0.02) & (gap < LIKE_GREY)


def _solid(mask: np.ndarray) -> np.ndarray:
    """(h, w) bool without specks, and without holes."""
    closed = cv2.morphologyEx(cv2.medianBlur(mask.astype(np.uint8), 3), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(closed), outlines, -1, 1, cv2.FILLED) > 0


def _affine(flow: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, 2) the motion of a mask's pixels as one affine field; medians first, so that a minority is ignored."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    values = flow[rows, columns]
    middle = np.median(values, axis=0)
    usual = np.linalg.norm(values - middle, axis=1)
    kept = usual <= max(2.0 * float(np.median(usual)), 0.5)
    place = np.stack([columns, rows, np.full(len(rows), width)], 1)[kept] / width
    ridge = len(place) * np.diag([0.01, 0.01, 0.0])
    table = np.linalg.solve(place.T @ place + ridge + 1e-9 * np.eye(3), place.T @ (values[kept] - middle))
    v, u = np.mgrid[:height, :width]
    grid = np.stack([u, v, np.full_like(u, width)], -1) / width
    return (grid @ table + middle).astype(np.float32)


def _grown(mask: np.ndarray, radius_px: float) -> np.ndarray:
    size = 2 * max(1, round(radius_px)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0
