"""What is known of the object being followed: guesses of its pose, what it is aligned with, who holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from hoi_ros.datatypes import HandEstimate, PoseRevision, RgbdFrame
from hoi_ros.geometry import invert_transform, make_transform, rotation_angle, transform_points
from hoi_ros.tracking.alignment import AlignmentResult, ExpectedTurn, turn_information
from hoi_ros.tracking.certainty import TurnCertainty
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.foreign import ForeignSurface
from hoi_ros.tracking.grip import Grip
from hoi_ros.tracking.keyframes import KeyframeStore, make_keyframe
from hoi_ros.tracking.likeness import bin_shares, likelier, likeness
from hoi_ros.tracking.masks import dilated, forearm_mask, grasp_components
from hoi_ros.tracking.model import Rendering, SurfelModel
from hoi_ros.tracking.moving_along import MovingAlong
from hoi_ros.tracking.patch import Patch
from hoi_ros.tracking.reference import ReferenceCloud
from hoi_ros.tracking.target import AlignmentTarget
from hoi_ros.tracking.view_graph import Correction, ViewGraph

MODEL_POINTS, VIEW_POINTS = 1200, 800
LIKE_AN_ARM = 0.7
"""Mean odds of an arm's colours against the object's, from which what fingers touch or carry along is a sleeve."""
LEAP_M = 0.025
"""Distance from every guess at which a fit must look like the object: no hand is so fast, a thing before it may be."""
UNEVEN = 1.5
"""Ratio of two steps' durations from which the second cannot be foretold by the first."""
YOUNG_FRAMES, HAND_TURN_RAD = 5, np.radians(6.0)
"""Frames in which no motion is known to be steady, and how far the turn of a hand is off from that of what it holds."""
GROWTH_AT_REST_M = 0.004
BORDER_M = 0.03


@dataclass(frozen=True)
class View:
    """One frame's crop, split into hand, candidates and the rest."""

    patch: Patch
    hand_mask: np.ndarray
    candidates: np.ndarray
    """Neither hand nor, where the model does not claim it, table and wall."""
    above: np.ndarray
    """Clear of table and wall: what lies closer to them may be theirs and is not learnt."""
    arm_colors: np.ndarray | None = None
    """(COLORS,) of the arms seen so far, sleeves or skin; None while there were none."""
    rendering: Rendering | None = None
    """The object's model where it is expected; None where none is."""

    def within(self, mask: np.ndarray, middle: np.ndarray, reach_m: float) -> np.ndarray:
        """Of a mask (h, w) what lies nearer than that to a point (3,) of the optical frame."""
        away = self.patch.points[mask] - middle
        out = mask.copy()
        out[mask] = np.einsum("nk,nk->n", away, away) < reach_m**2
        return out


@dataclass
class Track:
    """Everything known of the object being followed."""

    object_id: int
    config: TrackerConfig
    model: SurfelModel
    graph: ViewGraph
    T_camera_object: np.ndarray
    stamp_ns: int
    motion: np.ndarray = field(default_factory=lambda: np.eye(4))
    """(4, 4) last step's motion about the object's middle, in camera axes."""
    middle: np.ndarray = field(default_factory=lambda: np.zeros(3))
    """(3,) middle of the model, object frame."""
    radius_m: float = 0.1
    wrists: dict[int, np.ndarray] = field(default_factory=dict)
    """Wrist poses (4, 4) of the last tracked frame by hand track."""
    foreign: ForeignSurface | None = None
    """What is seen beside the object while no hand holds it."""
    T_hand_object: np.ndarray | None = None
    hand_track_id: int | None = None
    usual_inliers: float = 0.9
    """Inlier fraction of recent frames."""
    step_s: float = 0.0
    """Seconds that `motion` took; 0 when it is not known."""
    lost: bool = False
    lost_why: str = ""
    tracked_frames: int = 0
    lost_frames: int = 0
    recovery_turn: int = 0
    last_view: ReferenceCloud | None = None
    """The last tracked frame: new print is followed from view to view before the model knows it."""
    certainty: TurnCertainty = field(default_factory=TurnCertainty)
    revision: PoseRevision | None = None
    revised_at: int = 0
    """Frame count at which that was taken over."""
    along: MovingAlong = field(default_factory=MovingAlong)
    grip: Grip = field(default_factory=Grip)
    carried_frames: int = 0
    """Frames in a row that the hand alone carried it."""
    colors: np.ndarray | None = None
    """Its colours, see `color_shares`."""
    unseen_turn_frames: int = 0
    """Frames in a row whose turn was too unsure to learn from."""

    @property
    def keyframes(self) -> KeyframeStore:
        """Views with known turn."""
        return self.graph.store

    def first_guesses(self, hands: Sequence[HandEstimate]) -> list[np.ndarray]:
        """Constant velocity, carried by the hand that holds it, resting."""
        middle = transform_points(self.T_camera_object, self.middle[None])[0]
        guesses = [about(self.motion, middle) @ self.T_camera_object]
        carried = self.carried_pose(hands)
        if carried is not None:
            guesses.append(carried)
        return [*guesses, self.T_camera_object]

    def carried_pose(self, hands: Sequence[HandEstimate]) -> np.ndarray | None:
        """(4, 4) where the hand that held it has carried it; None where no hand is known to hold it."""
        holder = next((hand for hand in hands if hand.track_id == self.hand_track_id), None)
        return None if holder is None else self.carried_by(holder)

    def carried_by(self, hand: HandEstimate) -> np.ndarray | None:
        """(4, 4) where a hand has carried it, if it holds it; None for a hand not seen in the last tracked frame."""
        before = self.wrists.get(hand.track_id)
        return None if before is None else hand.T_camera_wrist @ invert_transform(before) @ self.T_camera_object

    def expected_turn(self, frame: RgbdFrame, guesses: Sequence[np.ndarray]) -> ExpectedTurn | None:
        """The turn of a steady motion, at first that of the hand; None when the time between frames foretells none.

        Args:
            frame: the next one.
            guesses: as `first_guesses` gave them; what the hand says otherwise makes the expectation unsure.
        """
        step_s = (frame.stamp_ns - self.stamp_ns) * 1e-9
        if self.tracked_frames < YOUNG_FRAMES and len(guesses) > 2:
            return ExpectedTurn(guesses[1][:3, :3], HAND_TURN_RAD)
        if step_s <= 0 or not 1 / UNEVEN < step_s / max(self.step_s, 1e-6) < UNEVEN:
            return None
        steady, *carried = (guess[:3, :3] for guess in guesses[:-1])
        rival = max((float(rotation_angle(steady.T @ other)) for other in carried), default=0.0)
        return ExpectedTurn(steady, np.radians(self.config.turn_change_deg_s2) * step_s**2 + rival)

    def object_box(self, frame: RgbdFrame, poses: Sequence[np.ndarray], hands: Sequence[HandEstimate]) -> np.ndarray:
        """Box (4,) px around the model at all the poses and the hand that holds it, with a border."""
        points = self.model.points[::10]
        clouds = [transform_points(pose.astype(np.float32), points) for pose in poses]
        clouds += [hand.joints_camera for hand in hands if hand.track_id == self.hand_track_id]
        return box_of(np.concatenate(clouds), frame, BORDER_M)

    def reference(self, rendering: Rendering, pose: np.ndarray) -> ReferenceCloud:
        """What should be seen at a pose: visible model surface, and the nearest keyframe against drift."""
        clouds = self.anchors(rendering, pose)
        if self.last_view is not None:
            clouds.append(_color_only(self.last_view))
        return _shuffled(ReferenceCloud.joined(clouds))

    def anchors(self, rendering: Rendering, pose: np.ndarray) -> list[ReferenceCloud]:
        """What does not drift: the model, and the nearest keyframe."""
        clouds = [self.model.reference(rendering.visible).thinned(MODEL_POINTS)]
        keyframe = self.keyframes.nearest(pose)
        if keyframe is not None:
            clouds.append(_color_only(keyframe.cloud.thinned(VIEW_POINTS)))
        return clouds

    def judge_turn(self, view: View, target: AlignmentTarget, rendering: Rendering, pose: np.ndarray) -> bool:
        """Follow how surely the turn is known; False while it is too unsure to learn from."""
        anchors = ReferenceCloud.joined(self.anchors(rendering, pose))
        fixed = turn_information(anchors, target, pose, self.config)
        since = np.zeros((3, 3))
        if self.last_view is not None:
            since = turn_information(self.last_view, target, pose, self.config)
        keyframe = self.keyframes.nearest(pose)
        known = keyframe.turn_sigma_rad if keyframe is not None else self.certainty.worst_rad
        self.certainty.step(pose[:3, :3], since, fixed, known)
        sure = self.certainty.worst_rad < np.radians(self.config.max_turn_sigma_deg)
        self.unseen_turn_frames = 0 if sure else self.unseen_turn_frames + 1
        return sure

    def doubt(self, result: AlignmentResult | None, frame: RgbdFrame) -> str:
        """Why a result is not to be believed; empty when it is."""
        if result is None:
            return "none of the model is in view"
        if result.matched < 40:
            return "it is hidden or gone: hardly any of the model fits"
        if result.inlier_fraction < self.config.min_inliers:
            return f"only {100 * result.inlier_fraction:.0f} % of the visible model fits"
        if not result.converged:
            return "the alignment did not settle"
        seconds = (frame.stamp_ns - self.stamp_ns) * 1e-9
        seconds = float(np.clip(seconds, 1 / 60, 1.0)) if seconds > 0 else 1 / 30
        poses = np.stack([self.T_camera_object, result.T_camera_object])
        ends = transform_points(poses, np.stack([self.middle[None]] * 2))[:, 0]
        speed = float(np.linalg.norm(ends[1] - ends[0])) / seconds
        turn = float(np.degrees(rotation_angle(poses[1, :3, :3] @ poses[0, :3, :3].T))) / seconds
        if speed > self.config.max_speed_m_s or turn > self.config.max_turn_deg_s:
            return f"the motion is not plausible: {speed:.1f} m/s, {turn:.0f} degrees/s"
        return ""

    def leapt(self, pose: np.ndarray, guesses: Sequence[np.ndarray]) -> bool:
        """Is a pose (4, 4) far from all that was guessed? Something that passes before a thing may fit its shape."""
        ends = transform_points(np.stack([pose, *guesses]), np.stack([self.middle[None]] * (1 + len(guesses))))[:, 0]
        return bool(np.linalg.norm(ends[1:] - ends[0], axis=1).min() > LEAP_M)

    def turn_message(self) -> str:
        if not self.unseen_turn_frames:
            return ""
        sigma = np.degrees(self.certainty.worst_rad)
        return f"its turn about one axis is not seen: {sigma:.0f} degrees unsure, for {self.unseen_turn_frames} frames"

    def covariance(self, pose: np.ndarray, residual_m: float) -> np.ndarray:
        """(6, 6) of the reported pose."""
        out = np.zeros((6, 6))
        out[:3, :3] = (0.001 + np.nan_to_num(residual_m)) ** 2 * np.eye(3)
        out[3:, 3:] = self.certainty.covariance(pose[:3, :3])
        return out

    def keep_view(self, frame: RgbdFrame, count: int, view: View, mask, features, pose: np.ndarray) -> bool:
        """Keep a tracked view if it shows something new; `count` numbers it."""
        if self.unseen_turn_frames:
            return False
        points = np.zeros((0, 3), np.float32) if self.last_view is None else self.last_view.points

        def make():
            sigma, hands = self.certainty.worst_rad, view.hand_mask
            return make_keyframe(
                count, view.patch, mask, features, pose, sigma, stamp_ns=frame.stamp_ns, hand_mask=hands
            )

        return self.graph.observe(pose, points, self.certainty.covariance(np.eye(3)), make)

    def correct(self, correction: Correction) -> None:
        """Take over a solved graph: model, pose and last view change as the views near them did."""
        change = correction.change_near(self.T_camera_object)
        self.T_camera_object = self.T_camera_object @ change
        self.grip.correct(change)
        back = invert_transform(change).astype(np.float32)
        if self.last_view is not None:
            points, normals = transform_points(back, self.last_view.points), self.last_view.normals @ back[:3, :3].T
            self.last_view = replace(self.last_view, points=points, normals=normals)
        assert correction.model is not None
        self.model, self.foreign = correction.model, None
        self.along.forget()

    def mark_foreign(self, view: View, mask: np.ndarray, pose: np.ndarray) -> None:
        """While no hand holds the object, remember what is in view beside it."""
        if self.hand_track_id is not None:
            self.foreign = None
            return
        first = self.foreign is None
        self.foreign = self.foreign or ForeignSurface(self.config.max_object_size_m)
        # Later frames show new surface at the mask's border, which has yet to be taken in.
        gap_px = 3.0 if first else GROWTH_AT_REST_M / view.patch.pixel_size_m(float(pose[2, 3])) + 1
        beside = (view.patch.depth_m > 0) & ~view.hand_mask & ~dilated(mask, gap_px)
        self.foreign.add(view.patch.points[beside], pose)
        self.foreign.clear(view.patch.points[mask & (view.patch.depth_m > 0)], pose)

    def learn_colors(self, patch: Patch, mask: np.ndarray) -> None:
        """Take in the colours of a patch's masked pixels (h, w)."""
        shares = bin_shares(patch.color_bins[mask])
        self.colors = shares if self.colors is None else self.colors + 0.1 * (shares - self.colors)

    def likeness(self, patch: Patch, mask: np.ndarray) -> float:
        """Share of its colours that a patch's masked pixels (h, w) show, 0 to 1."""
        if self.colors is None:
            return 0.0
        return likeness(bin_shares(patch.color_bins[mask]), self.colors)

    def find_holder(self, hands: Sequence[HandEstimate], points: np.ndarray, pose: np.ndarray) -> None:
        """The hand in contact; the present holder keeps the object unless another is clearly nearer."""
        self.hand_track_id, before, self.T_hand_object = None, self.hand_track_id, None
        if not hands or not len(points):
            return
        cloud = transform_points(pose.astype(np.float32), points[:: max(1, len(points) // 400)])
        best, least = None, self.config.contact_m
        for hand in hands:
            away = hand.joints_camera[:, None].astype(np.float32) - cloud[None]
            gaps = np.sqrt(np.einsum("jnk,jnk->jn", away, away).min(1))
            nearness = float(np.mean(np.sort(gaps)[:4])) - (0.01 if hand.track_id == before else 0.0)
            if nearness < least:
                best, least = hand, nearness
        if best is not None:
            self.hand_track_id = best.track_id
            self.T_hand_object = invert_transform(np.asarray(best.T_camera_wrist, np.float64)) @ pose

    def parts_moving_along(
        self, frame: RgbdFrame, depth_m: np.ndarray, hands: Sequence[HandEstimate], view: View, mask, pose
    ) -> np.ndarray:
        """What else the holding hand carries, by its motion: parts that the hand hides the joint of."""
        holder = next((hand for hand in hands if hand.track_id == self.hand_track_id), None)
        if holder is None:
            self.along.forget()
            return np.zeros(view.patch.shape, bool)
        loose = view.candidates & ~dilated(mask, 3)
        background = (view.patch.depth_m > 0) & ~view.hand_mask & ~view.candidates
        poses = {"object": pose, "hand": np.asarray(holder.T_camera_wrist, np.float64)}
        hand_mask = view.patch.paste(view.hand_mask, depth_m.shape)
        arm = dilated(forearm_mask(hands, view.patch) & view.hand_mask, 3)
        parts = self.along.parts(view.patch, loose, background, depth_m, hand_mask, frame.intrinsics, poses, arm)
        return self._own_parts(parts, view, mask)

    def parts_in_grasp(self, hands: Sequence[HandEstimate], view: View, mask: np.ndarray) -> np.ndarray:
        """What else the holding hand touches: parts that fingers cut off from the rest of the object."""
        return self._own_parts(self.touched(hands, view), view, mask)

    def touched(self, hands: Sequence[HandEstimate], view: View) -> np.ndarray:
        """(h, w) bool: all that the holding hand touches."""
        holder = [hand for hand in hands if hand.track_id == self.hand_track_id]
        return grasp_components(holder, view.candidates, view.patch, self.config)

    def _own_parts(self, parts: np.ndarray, view: View, mask: np.ndarray) -> np.ndarray:
        """Of parts (h, w) what lies no farther from the mask's middle than things are large, and looks like no arm."""
        if not (parts & ~mask).any():
            return parts
        if mask.any():
            middle = np.median(view.patch.points[mask], axis=0)
            parts = view.within(parts, middle, self.config.max_object_size_m / 2)
        if view.arm_colors is None or self.colors is None:
            return parts
        rows, columns = np.nonzero(parts)
        if not len(rows):
            return parts
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        odds = likelier(view.patch.color_bins, view.arm_colors, self.colors)[box]
        count, labels = cv2.connectedComponents(parts[box].astype(np.uint8), connectivity=4)
        sums = np.bincount(labels.ravel(), odds.ravel(), count)
        keep = sums < LIKE_AN_ARM * np.bincount(labels.ravel(), minlength=count)
        keep[0] = False
        own = np.zeros_like(parts)
        own[box] = keep[labels]
        return own


def about(motion: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Motion (4, 4) about a point, as a transform of camera points."""
    rotation = motion[:3, :3]
    return make_transform(rotation, motion[:3, 3] + middle - rotation @ middle)


def _color_only(cloud: ReferenceCloud) -> ReferenceCloud:
    return replace(cloud, shape_weight=np.full(len(cloud), 0.3, np.float32))


def _shuffled(cloud: ReferenceCloud) -> ReferenceCloud:
    """The rows in a fixed random order, so that thinning keeps the mixture."""
    return cloud.taken(np.random.default_rng(0).permutation(len(cloud)))


def box_of(points: np.ndarray, frame: RgbdFrame, border_m: float) -> np.ndarray:
    """Box (4,) px around points (N, 3) in the optical frame with a metric border."""
    points = points[points[:, 2] > 0.05]
    if not len(points):
        return np.zeros(4)
    k = frame.intrinsics
    u = k.fx * points[:, 0] / points[:, 2] + k.cx
    v = k.fy * points[:, 1] / points[:, 2] + k.cy
    border = border_m * k.fx / float(np.median(points[:, 2]))
    return np.array([u.min() - border, v.min() - border, u.max() + border, v.max() + border])


def hands_box(hands: Sequence[HandEstimate], frame: RgbdFrame, border_m: float) -> np.ndarray:
    """Box (4,) px around all hands."""
    return box_of(np.concatenate([hand.joints_camera for hand in hands]), frame, border_m)
