"""6-DoF motion of whatever is held, from colour alone: no depth, no CAD model, no keypoint detector.

The hand that holds the object is metric and known in every frame: as its joints move, so moves the object at first
guess; its distances, smoothed by flow, give the scale. The object's own pixels, followed on a grid, then say how it
really moved, and bundle adjustment over key views gives the points their depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate, ObjectObservation, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import (
    invert_transform,
    make_transform,
    nearest_rigid,
    rotation_angle,
    so3_exp,
    so3_log,
    transform_points,
)
from hoi_ros.tracking.likeness import color_shares, likeness
from hoi_ros.tracking.pointmap_config import ColorTrackerConfig
from hoi_ros.tracking.pointmap_flow import PictureFlow
from hoi_ros.tracking.pointmap_grip import GraspFrames
from hoi_ros.tracking.pointmap_guess import first_guess, pose_prior
from hoi_ros.tracking.pointmap_intrinsics import FocalBelief, FocalEstimate
from hoi_ros.tracking.pointmap_masks import ColorMasks, ColorView, cut_view
from hoi_ros.tracking.pointmap_object import CARRIED, HIDDEN, PLAIN, FollowedObject, KeyView
from hoi_ros.tracking.pointmap_places import (
    bulge,
    grasp_depth,
    mask_at,
    middle_and_width,
    shown_at,
    unprojected,
)
from hoi_ros.tracking.pointmap_points import adjust, followed_points, forget_old, point_sigma, pose_covariance, refine
from hoi_ros.tracking.pointmap_relief import ConfidentDepth
from hoi_ros.tracking.pointmap_seeding import followed_depths, free_places, neighbour_depths, take_in
from hoi_ros.tracking.pointmap_stream import StreamView
from hoi_ros.tracking.pointmap_structure import (
    PosePrior,
    fit_pose,
)

if TYPE_CHECKING:
    from hoi_ros.tracking.pointmap_guide import PointmapGuide

GUIDE_GAIN = 0.4
START_SHARE = 0.08
"""Of the hands' pixels that a thing must show as many to be taken for held."""


class ColorTracker:
    """Follows one held object from colour and hands; same face as `ObjectTracker`.

    The object frame starts at the middle of the first view, with the camera's axes. Sizes are metric as far as the
    hand's are: an error of the hand's distance is an error of the object's. With `hand_faces` the scale of the object
    frame is learnt over the first twenty frames, its first pose held; no key view is told before.
    """

    def __init__(self, config: ColorTrackerConfig | None = None, device: str = "auto") -> None:
        """Prepare a tracker; the pairwise network runs on `device`, all else on the CPU.

        Raises:
            InputError: the configured file does not hold a pointmap network.
        """
        self._config = config or ColorTrackerConfig()
        self._guide = _guide(self._config.network, device) if self._config.network else None
        self._load_shipped = None if self._config.network else device  # once something is held
        self._object_id = -1
        self._focal: FocalBelief | None = None
        self.reset()

    @property
    def objects_met(self) -> int:
        """How many objects were followed so far: the next one's id."""
        return self._object_id + 1

    def reset(self) -> None:
        """Forget the object; the next one gets a new id."""
        self._masks = ColorMasks()
        self._object: FollowedObject | None = None
        self._seen_in_grasp, self._start_area = 0, 0
        self._taken: np.ndarray | None = None
        self._expected: np.ndarray | None = None
        self._gray: np.ndarray | None = None
        self._flow: PictureFlow | None = None
        self._grasps = GraspFrames()

    def track(
        self, frame: RgbdFrame, hands: Sequence[HandEstimate] = (), *,
        hand_faces: Mapping[str, np.ndarray] | None = None, init_mask: np.ndarray | None = None,
    ) -> ObjectObservation:  # fmt: skip
        """Find the object in the next frame; depth, if any, is not looked at.

        Args:
            frame: colour.
            hands: hands of this frame; without them nothing starts.
            hand_faces: (F, 3) triangles of the hand meshes by side.
            init_mask: (H, W) bool pixels of the object to follow from here on.

        Raises:
            InputError: `init_mask` has another size than the frame.
        """
        if init_mask is not None and init_mask.shape != frame.color.shape[:2]:
            raise InputError(
                f"object mask is {init_mask.shape}, the image {frame.color.shape[:2]}: give a mask of the image's size"
            )
        gray = cv2.cvtColor(frame.color, cv2.COLOR_RGB2GRAY)
        if self._gray is not None and self._gray.shape != gray.shape:
            self.reset()
        hands = [hand for hand in hands if np.isfinite(hand.joints_camera).all() and hand.joints_camera[:, 2].min() > 0]
        if init_mask is not None:
            self._object, self._expected, self._seen_in_grasp = None, init_mask, self._config.start_frames
        self._masks.watch(frame, hands, self._taken)
        self._taken = None
        grasping = self._grasps.of(hands, holding=self._object is not None)
        followed = self._at_followed_distance(gray, grasping, hand_faces, frame.intrinsics)
        result = self._told(self._next(frame, gray, hands, followed, hand_faces), hands)
        if result.is_keyframe and frame.intrinsics.guessed:
            self._learn_focal(frame)
        self._gray = gray
        return result

    def _at_followed_distance(self, gray, hands, faces, camera: CameraIntrinsics) -> list[HandEstimate]:
        """Hands where the object is followed by them; the flow since the last frame is made here, for both."""
        track, self._flow = self._object, None
        if track is None:
            return hands
        if hands and self._gray is not None:
            shift = track.scale.shift_px(track.holder, hands)
            if shift is None:
                before, now = track.pose, track.motion @ track.pose
                shift = shown_at(now, track.middle, camera) - shown_at(before, track.middle, camera)
            places = np.concatenate([track.pixels[track.alive], track.scale.shown_px(track.holder, faces, camera)])
            self._flow = PictureFlow(self._gray, gray, places, shift)
        return track.scale.followed(hands, track.holder, faces, self._flow, camera)

    def _told(self, result: ObjectObservation, hands) -> ObjectObservation:
        """What was found, at the scale known by now and against the holder as published."""
        track = self._object
        if track is None or result.T_camera_object is None:
            return result
        track.scale.learn(track.holder)
        pose = track.scale.told_pose(result.T_camera_object, track.met_at)
        holder = next((hand for hand in hands if hand.track_id == result.hand_track_id), None)
        T_hand = None if holder is None else invert_transform(np.asarray(holder.T_camera_wrist, np.float64)) @ pose
        is_keyframe = result.is_keyframe and track.scale.settled
        track.shape_begun |= is_keyframe
        return replace(result, T_camera_object=pose, T_hand_object=T_hand, is_keyframe=is_keyframe)

    def _next(self, frame, gray, hands, followed, faces) -> ObjectObservation:
        if not hands:
            return self._without_hands(frame, gray)
        view = self._view(frame, hands, faces)
        if view is None:
            return self._idle("waiting", "the hand is at the image's border")
        expected = self._expected_in(view)
        if self._object is None and self._seen_in_grasp < self._config.start_frames:
            mask, hand_mask = self._masks.first_seen(view, frame, hands, expected, self._gray)
        else:
            holder = None if self._object is None else self._object.holder
            mask, hand_mask = self._masks.segment(view, frame, hands, expected, self._gray, holder)
        full, full_hand = view.paste(mask, gray.shape), view.paste(hand_mask, gray.shape)
        self._taken = full | full_hand
        enough = full.sum() >= self._config.min_object_px
        self._expected = full if enough else None
        if self._object is None:
            result = self._wait(frame, gray, hands, full, full_hand, enough)
            if self._object is not None:  # its distances begin as the network has them
                self._object.scale.followed(hands, None, faces, None, frame.intrinsics)
            return result
        return self._follow(frame, gray, followed, full, full_hand)

    # What is seen

    def _view(self, frame: RgbdFrame, hands, faces) -> ColorView | None:
        places = [hand.joints_px for hand in hands]
        if self._expected is not None and self._expected.any():
            rows, columns = np.nonzero(self._expected)
            places.append(np.array([[columns.min(), rows.min()], [columns.max(), rows.max()]], float))
        joined = np.concatenate(places)
        low, high = joined.min(0), joined.max(0)
        # Before the object is known it may stick out of the hand by a hand's length.
        border = (0.3 if self._expected is not None else 0.65) * float((high - low).max())
        return cut_view(frame, np.concatenate([low - border, high + border]), hands, faces, self._config.work_px)

    def _expected_in(self, view: ColorView) -> np.ndarray | None:
        if self._expected is None:
            return None
        inside = view.cut(self._expected)
        return inside if inside.sum() > 40 else None

    # Starting

    def _wait(self, frame, gray, hands, mask, hand_mask, enough: bool) -> ObjectObservation:
        # Growing still means that more of it is about to be told from what it lies on.
        area, hands_area = int(mask.sum()), int(hand_mask.sum())
        steady = self._start_area == 0 or self._start_area / 1.25 < area < self._start_area * 1.25
        steady &= area > START_SHARE * hands_area
        self._start_area = area if enough else 0
        given = self._seen_in_grasp >= self._config.start_frames
        self._seen_in_grasp = self._seen_in_grasp + 1 if enough and (steady or given) else 0
        if self._seen_in_grasp < self._config.start_frames:
            return self._idle("waiting", "something may be held" if enough else "nothing held", hand_mask)
        depth = grasp_depth(frame.intrinsics, hands, mask)
        rows, columns = np.nonzero(mask)
        center = unprojected(np.array([[columns.mean(), rows.mean()]]), depth, frame.intrinsics)[0]
        self._object_id += 1
        self._object = track = FollowedObject(self._object_id, make_transform(np.eye(3), center))
        track.mask, track.shares = mask, color_shares(frame.color, mask)
        track.centroid, width_px = middle_and_width(mask)
        track.middle = center / np.linalg.norm(center) * (0.5 * width_px * depth / frame.intrinsics.fx)
        self._remember_hands(hands, mask)
        view = self._look(frame, hands, mask, hand_mask)
        self._seed(frame, gray, mask, hand_mask, depth, view)
        self._add_keyframe(pose_prior(track, track.pose, self._config, 1e-3), view, gray)
        return self._report(mask, hand_mask, hands, 1.0, True)

    def _look(self, frame: RgbdFrame, hands, mask: np.ndarray, hand_mask: np.ndarray) -> StreamView | None:
        if self._load_shipped is not None:
            self._guide, self._load_shipped = _guide("", self._load_shipped), None
        return None if self._guide is None else self._guide.look(frame, hands, mask, hand_mask, self._known().holder)

    def _seed(self, frame: RgbdFrame, gray, mask, hand_mask, depth_m: float, view: StreamView | None = None) -> None:
        """Put new points on the grid wherever the object shows and none is followed."""
        track, config = self._known(), self._config
        places = free_places(track, gray, mask, hand_mask, config.grid_px)
        if not len(places):
            return
        if view is not None and self._guide is not None:
            depths, sigma = (
                self._guide.depths_beside(view, places, *followed_depths(track)),
                config.network_depth_sigma_m,
            )
        else:
            rise = bulge(mask) * depth_m / frame.intrinsics.fx
            depths, sigma = neighbour_depths(track, places, depth_m, rise), config.depth_sigma_m
        take_in(track, places, depths, sigma, frame.intrinsics)

    # Following

    def _follow(self, frame, gray, hands, mask, hand_mask) -> ObjectObservation:
        track, config = self._known(), self._config
        prior = first_guess(track, hands, mask, frame.intrinsics, config)
        pixels, fine = followed_points(track, self._flow, prior.T_camera_object, frame.intrinsics)
        used = np.flatnonzero(track.alive & fine)
        inside = mask_at(cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0, pixels[used])
        used = used[inside & ~mask_at(hand_mask, pixels[used])]
        pose, fits = prior.T_camera_object, np.zeros(0, bool)
        if len(used) >= config.min_points:
            sigma = point_sigma(track, used, prior.T_camera_object, frame.intrinsics)
            fit = fit_pose(track.points[used], pixels[used], sigma, prior, frame.intrinsics, prior.T_camera_object)
            pose, fits = fit.T_camera_object, fit.errors_px < np.maximum(config.inlier_px, 2 * sigma)
        shown, again = mask & ~hand_mask, None
        if fits.sum() < config.min_points and (again := track.seen_before(pose, gray, shown, frame.intrinsics)):
            pose, used, fits = again.T_camera_object, again.points, np.ones(len(again.points), bool)
            pixels[used] = again.pixels
        agreeing = int(fits.sum())
        if agreeing < config.min_points and self._guide is not None and frame.index % config.network_period == 0:
            pose = self._guided(frame, hands, mask, hand_mask, pose)
        track.starved = 0 if agreeing >= config.min_points else track.starved + 1
        shares = color_shares(frame.color, mask)
        unlike = track.starved > 0 and likeness(shares, track.shares) < config.min_likeness
        track.missing = track.missing + 1 if mask.sum() < config.min_object_px or unlike else 0
        if track.missing == 0:
            track.shares += 0.05 * (shares - track.shares)
        track.followed += agreeing >= config.min_points
        if track.missing > config.lost_frames:
            return self._hidden(frame, hands, hand_mask, "nothing like it is in the hand any more")
        if track.starved > 2 * config.lost_frames and track.followed > config.start_frames:
            held, track.plain = track.held_still(hands), track.plain + 1
            if held is None or track.plain > 3 * config.lost_frames:
                return self._hidden(frame, hands, hand_mask, "its pixels could be followed and no longer can")
            pose = held
        if track.starved > config.lost_frames and track.strayed(prior, mask, frame.intrinsics):
            return self._hidden(frame, hands, hand_mask, "its outline is not where the hand should have carried it")
        if again is None:  # else it is no motion but a mistake taken back
            track.motion = pose @ invert_transform(track.pose)
            track.travelled += float(rotation_angle(track.motion[:3, :3]))
            track.spin += 0.4 * (so3_log(pose[:3, :3] @ track.carried[:3, :3].T) - track.spin)
        track.pose, track.lost, track.lost_frames, track.mask = nearest_rigid(pose), False, 0, mask
        if track.missing + track.starved == 0:
            track.plain = 0
            track.hold.learn(next((hand for hand in hands if hand.track_id == track.holder), None), track.pose)
        track.alive[:] = False
        track.alive[used[fits]] = True
        track.pixels = np.where(track.alive[:, None], pixels, track.pixels)
        refine(track, used[fits], frame.intrinsics)
        if track.close_loop(gray, shown, frame.intrinsics):
            self._add_keyframe(pose_prior(track, track.pose, config), None, gray)
        self._remember_hands(hands, mask)
        is_keyframe = False
        first_of_shape = track.scale.settled and not track.shape_begun
        if agreeing >= config.min_points and (first_of_shape or self._turned() > np.radians(config.keyframe_angle_deg)):
            view = self._look(frame, hands, mask, hand_mask)
            self._seed(frame, gray, mask, hand_mask, grasp_depth(frame.intrinsics, hands, mask), view)
            self._add_keyframe(self._placed(view) or pose_prior(track, prior.T_camera_object, config, 0.5), view, gray)
            adjust(track, config.window, config.min_points, frame.intrinsics)
            forget_old(track, config.window)
            is_keyframe = True
        elif track.alive.sum() < 40:
            self._seed(frame, gray, mask, hand_mask, grasp_depth(frame.intrinsics, hands, mask))
        inliers = 0.0 if track.starved else agreeing / len(used) if again is None else again.share
        return self._report(mask, hand_mask, hands, inliers, is_keyframe)

    def _guided(self, frame: RgbdFrame, hands, mask: np.ndarray, hand_mask: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """A pose (4, 4) that only the hand knows, turned some of the way to where the network sees the object."""
        track, view = self._known(), self._look(frame, hands, mask, hand_mask)
        found = self._placed(view)
        if found is not None:
            turn = so3_exp(GUIDE_GAIN * so3_log(found.T_camera_object[:3, :3] @ pose[:3, :3].T))
            middle = transform_points(pose, track.middle[None])[0]
            pose = make_transform(turn @ pose[:3, :3], turn @ (pose[:3, 3] - middle) + middle)
        if view is not None and self._guide is not None and self._guide.is_new_side(track.sides, pose):
            nothing = np.zeros(0, int), np.zeros((0, 2))
            track.sides.append(KeyView(pose.copy(), pose_prior(track, pose, self._config), *nothing, view))
        return pose

    # Key views

    def _turned(self) -> float:
        track = self._known()
        if not track.keyframes:
            return np.inf
        return float(rotation_angle(track.pose[:3, :3] @ track.keyframes[-1].T_camera_object[:3, :3].T))

    def _add_keyframe(self, prior: PosePrior, view: StreamView | None, gray: np.ndarray) -> None:
        track = self._known()
        index = np.flatnonzero(track.alive)
        track.keyframes.append(KeyView(track.pose.copy(), prior, index, track.pixels[index].copy(), view))
        track.old_views.remember(track.pose, index, track.pixels[index], gray, track.travelled)
        if view is not None and self._guide is not None and self._guide.is_new_side(track.sides, track.pose):
            track.sides.append(track.keyframes[-1])

    def _placed(self, view: StreamView | None) -> PosePrior | None:
        """Where the network sees the object; None without one, or where it does not say."""
        track = self._known()
        if view is None or self._guide is None:
            return None
        return self._guide.prior(view, track.sides, track.pose, track.middle)

    # Reporting

    def _known(self) -> FollowedObject:
        assert self._object is not None
        return self._object

    def _remember_hands(self, hands: Sequence[HandEstimate], mask: np.ndarray) -> None:
        track = self._known()
        track.remember_wrists(hands)
        rows, columns = np.nonzero(mask)
        if not len(rows) or not hands:
            return
        middle = np.array([columns.mean(), rows.mean()])
        gaps = [float(np.median(np.linalg.norm(hand.joints_px - middle, axis=1))) for hand in hands]
        gaps = [gap * (0.8 if hand.track_id == track.holder else 1.0) for gap, hand in zip(gaps, hands)]
        holder = hands[int(np.argmin(gaps))]
        if holder.track_id != track.holder or track.anchor is None:
            middle_camera = transform_points(track.pose, track.middle[None])
            track.anchor = transform_points(
                invert_transform(np.asarray(holder.T_camera_wrist, np.float64)), middle_camera
            )[0]
        track.holder = holder.track_id

    def _report(self, mask, hand_mask, hands, inliers: float, is_keyframe: bool) -> ObjectObservation:
        track = self._known()
        pose = track.grip.averaged(track.pose, track.middle, hands, track.holder)
        return ObjectObservation(
            "tracking", track.object_id, pose, None, track.holder, mask, hand_mask, is_keyframe, inliers,
            message=HIDDEN if mask is None else CARRIED if track.starved else PLAIN,
            covariance=pose_covariance(track),
        )  # fmt: skip

    def _hidden(self, frame: RgbdFrame, hands, hand_mask: np.ndarray, why: str) -> ObjectObservation:
        """Where the hand holds it if that hand covers it, else it is lost."""
        track = self._known()
        pose = track.held_still(hands)
        covered = cv2.dilate(hand_mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        if pose is None or not track.lies_in(covered, pose, frame.intrinsics):
            return self._lose(hand_mask, why)
        track.carry(pose, hands)
        return self._report(None, hand_mask, hands, 0.0, False)

    def _lose(self, hand_mask: np.ndarray | None, why: str) -> ObjectObservation:
        track = self._known()
        track.lost, track.lost_frames = True, track.lost_frames + 1
        hardly_known = track.followed < self._config.start_frames
        if track.lost_frames > (self._config.lost_frames if hardly_known else self._config.give_up_frames):
            self._object, self._seen_in_grasp, self._expected = None, 0, None
        return ObjectObservation("lost", track.object_id, hand_mask=hand_mask, message=f"object lost: {why}")

    def _without_hands(self, frame: RgbdFrame, gray: np.ndarray) -> ObjectObservation:
        self._seen_in_grasp = 0
        if self._object is None:
            return self._idle("waiting", "no hand in view that could hold an object")
        return self._lose(None, "no hand in view, whose size it is measured by")

    def _idle(self, state: str, message: str, hand_mask: np.ndarray | None = None) -> ObjectObservation:
        return ObjectObservation(state, max(self._object_id, 0), hand_mask=hand_mask, message=message)

    def _learn_focal(self, frame: RgbdFrame) -> None:
        """Ask a network that knows of cameras about the one that was guessed."""
        if self._guide is None or not self._guide.sees_focal:
            return
        if self._focal is None or self._focal.guess != frame.intrinsics:
            self._focal = FocalBelief(frame.intrinsics)
        if not self._focal.settled:
            self._focal.learn(self._guide.focal_px(frame))

    @property
    def focal(self) -> FocalEstimate | None:
        """What the network's pictures say of a guessed focal length, once they are enough; poses do not change."""
        return self._focal.estimate if self._focal is not None and self._focal.settled else None

    @property
    def middle_object(self) -> np.ndarray:
        """(3,) metres, object frame: where the object's middle is believed to be."""
        track = self._object
        return np.zeros(3) if track is None else track.scale.told_point(track.middle, track.met_at)

    def pointmap(self) -> ConfidentDepth | None:
        """What the network says of the last key view; None without one, or where hand or object showed too little."""
        if self._object is None or self._guide is None or not self._object.keyframes:
            return None
        view = self._object.keyframes[-1].view
        if view is None:
            return None
        seen, scale = self._guide.pointmap(view), np.float32(self._object.scale.scale)
        return ConfidentDepth(scale * seen.depth_m, scale * seen.sigma_m)


def _guide(path: str, device: str) -> PointmapGuide | None:
    if path == "none":
        return None
    from hoi_ros.tracking.pointmap_guide import load_guide  # torch costs a second where there is depth

    return load_guide(path, device)
