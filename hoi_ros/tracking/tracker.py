"""6-DoF motion of whatever is held, from colour and depth, with no CAD model, marker or keypoint detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hoi_ros.datatypes import HandEstimate, ObjectObservation, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import (
    invert_transform,
    make_transform,
    rotation_angle,
    so3_exp,
    transform_points,
)
from hoi_ros.tracking.alignment import (
    AlignmentResult,
    AlignmentTarget,
    ReferenceCloud,
    align,
    alignment_target,
)
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import feature_images
from hoi_ros.tracking.foreign import ForeignSurface
from hoi_ros.tracking.keyframes import KeyframeStore, make_keyframe, view_cloud
from hoi_ros.tracking.masks import (
    SkinModel,
    connected_parts,
    dilated,
    grasp_components,
    main_parts,
    object_mask,
    segment_hands,
)
from hoi_ros.tracking.model import Rendering, SurfelModel
from hoi_ros.tracking.patch import Patch, clean_depth, cut_patch
from hoi_ros.tracking.planes import above_planes, dominant_planes
from hoi_ros.tracking.recovery import best_guess, recovery_guesses

PLANE_PERIOD = 10
GROWTH_M, GROWTH_AT_REST_M = 0.012, 0.004
FUSE_INLIERS = 0.6
MODEL_POINTS, VIEW_POINTS = 1200, 800
BORDER_M = 0.03
SUDDEN_DROP = 0.92
SECOND_TURNS_RAD = np.radians(6.0) * np.concatenate([np.eye(3), -np.eye(3)])
NO_DEPTH = "object tracking waits for depth: use an RGB-D camera or a source with aligned depth images"


@dataclass
class _Track:
    """Everything known of the object being followed."""

    object_id: int
    model: SurfelModel
    keyframes: KeyframeStore
    T_camera_object: np.ndarray
    stamp_ns: int
    motion: np.ndarray
    """(4, 4) last step's motion about the object's middle, in camera axes."""
    middle: np.ndarray
    """(3,) middle of the model, object frame."""
    radius_m: float
    wrists: dict[int, np.ndarray]
    """Wrist poses (4, 4) of the last tracked frame by hand track."""
    foreign: ForeignSurface | None = None
    """What is seen beside the object while no hand holds it."""
    T_hand_object: np.ndarray | None = None
    hand_track_id: int | None = None
    usual_inliers: float = 0.9
    """Inlier fraction of recent frames."""
    lost: bool = False
    lost_why: str = ""
    tracked_frames: int = 0
    lost_frames: int = 0
    recovery_turn: int = 0
    last_view: ReferenceCloud | None = None


@dataclass(frozen=True)
class _View:
    """One frame's crop, split into hand, candidates and the rest."""

    patch: Patch
    hand_mask: np.ndarray
    candidates: np.ndarray


class ObjectTracker:
    """Follows one held object from frame to frame and builds its own model of it.

    The object frame starts at the middle of the first view, with the camera's axes. A frame costs the same
    however long the sequence is.
    """

    def __init__(self, config: TrackerConfig | None = None, device: str = "auto") -> None:
        """Prepare a tracker; `device` is accepted for symmetry, the work runs on the CPU."""
        self._config = config or TrackerConfig()
        self._device = device
        self._object_id = -1
        self.reset()

    def reset(self) -> None:
        """Forget the object, the model and all that was learnt; the next object gets a new id."""
        self._rng = np.random.default_rng(self._config.seed)
        self._skin = SkinModel()
        self._planes = np.zeros((0, 4), np.float32)
        self._plane_age = 0
        self._seen_in_grasp = 0
        self._track: _Track | None = None
        self._last_masks: np.ndarray | None = None

    @property
    def model(self) -> SurfelModel | None:
        """The tracker's own surface model, None while waiting."""
        return self._track.model if self._track else None

    def track(
        self,
        frame: RgbdFrame,
        hands: Sequence[HandEstimate] = (),
        *,
        hand_faces: Mapping[str, np.ndarray] | None = None,
        init_mask: np.ndarray | None = None,
    ) -> ObjectObservation:
        """Find the object in the next frame.

        Args:
            frame: colour with aligned depth; without depth the answer is 'no_depth'.
            hands: hands of this frame; they start a track and give a first guess of its motion.
            hand_faces: (F, 3) triangles of the hand meshes by side; sharper hand masks.
            init_mask: (H, W) bool pixels of an object to follow from here on, hand or not.

        Returns:
            State, pose and masks. A lost object has no pose.

        Raises:
            InputError: `init_mask` has another size than the frame, or covers no usable depth.
        """
        if init_mask is not None and init_mask.shape != frame.color.shape[:2]:
            raise InputError(
                f"object mask is {init_mask.shape}, the image {frame.color.shape[:2]}: give a mask of the image's size"
            )
        if frame.depth_m is None:
            return self._idle("no_depth", NO_DEPTH)
        hands = [hand for hand in hands if np.isfinite(hand.joints_camera).all() and hand.joints_camera[:, 2].min() > 0]
        depth = clean_depth(frame)
        self._update_planes(frame, depth)
        if init_mask is not None:
            return self._start_from_mask(frame, depth, hands, hand_faces, np.asarray(init_mask, bool))
        if self._track is None:
            return self._wait(frame, depth, hands, hand_faces)
        if self._track.lost:
            return self._recover(frame, depth, hands, hand_faces)
        return self._follow(frame, depth, hands, hand_faces)

    def _idle(self, state: str, message: str, hand_mask: np.ndarray | None = None) -> ObjectObservation:
        return ObjectObservation(state, max(self._object_id, 0), hand_mask=hand_mask, message=message)

    def _update_planes(self, frame: RgbdFrame, depth: np.ndarray) -> None:
        """Look for table and wall again every few frames."""
        if self._plane_age % PLANE_PERIOD == 0:
            ignore = self._last_masks
            if ignore is not None and ignore.shape != depth.shape:
                ignore = None
            self._planes = dominant_planes(depth, frame.intrinsics, ignore, self._rng)
        self._plane_age += 1

    def _view(self, frame, depth, hands, faces, box, predicted: np.ndarray | None) -> _View | None:
        """Cut the box out and tell hand, background and candidates apart."""
        patch = cut_patch(frame, depth, box, self._config.max_crop_px)
        if patch is None:
            return None
        rendered = None
        if self._track is not None and predicted is not None:
            rendered = self._track.model.render(predicted, patch).depth_m
        clear = above_planes(patch.points, self._planes, self._config.plane_margin_m)
        hand_mask = segment_hands(hands, faces, patch, self._skin, rendered, clear, self._config)
        candidates = (patch.depth_m > 0) & ~hand_mask
        if rendered is not None:  # what stands on the table is not cut off at its foot
            clear |= np.abs(patch.depth_m - rendered) < 0.008
        candidates &= clear
        return _View(patch, hand_mask, candidates)

    # Starting

    def _wait(self, frame, depth, hands, faces) -> ObjectObservation:
        """Look for something in the grasp; start when it stays there."""
        if not hands:
            self._seen_in_grasp = 0
            return self._idle("waiting", "no hand in view that could hold an object")
        view = self._view(frame, depth, hands, faces, _hands_box(hands, frame, 0.12), None)
        if view is None:
            return self._idle("waiting", "the hand is at the image's border")
        mask = grasp_components(hands, view.candidates, view.patch, self._config)
        self._last_masks = view.patch.paste(view.hand_mask | mask, depth.shape)
        hand_mask = view.patch.paste(view.hand_mask, depth.shape)
        if mask.sum() * view.patch.stride**2 < self._config.min_object_px:
            self._seen_in_grasp = 0
            return self._idle("waiting", "nothing held", hand_mask)
        self._seen_in_grasp += 1
        if self._seen_in_grasp < self._config.start_frames:
            return self._idle("waiting", "something may be held", hand_mask)
        return self._start(frame, depth, hands, view, mask, mask)

    def _start_from_mask(self, frame, depth, hands, faces, init_mask) -> ObjectObservation:
        """Start on the user's pixels."""
        usable = init_mask & (depth > 0)
        if usable.sum() < 100:
            raise InputError(
                "the object mask covers fewer than 100 pixels with depth: mark the object, nearer than 4 m"
            )
        self._track = None
        rows, columns = np.nonzero(init_mask)
        box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], float) + [-80, -80, 80, 80]
        self._last_masks = init_mask
        self._planes = dominant_planes(depth, frame.intrinsics, init_mask, self._rng)
        view = self._view(frame, depth, hands, faces, box, None)
        assert view is not None  # 100 pixels with a border of 80 fill a patch
        mask = view.patch.cut(init_mask) & (view.patch.depth_m > 0) & ~view.hand_mask
        clear = mask & above_planes(view.patch.points, self._planes, 0.3 * self._config.plane_margin_m)
        mask = clear if clear.sum() > 0.4 * mask.sum() else mask
        # A box holds background too: only what lies within an object's size of the middle counts.
        near = np.abs(view.patch.depth_m - np.median(view.patch.depth_m[mask])) < self._config.max_object_size_m / 2
        mask = main_parts(mask & near, view.patch)
        return self._start(frame, depth, hands, view, mask, dilated(mask, 3))

    def _start(self, frame, depth, hands, view: _View, mask: np.ndarray, own: np.ndarray) -> ObjectObservation:
        """Make the first model of the masked pixels; of the pixels `own`, none is known to be something else."""
        center = view.patch.points[mask].mean(0).astype(np.float64)
        pose = make_transform(np.eye(3), center)
        self._object_id += 1
        self._seen_in_grasp = 0
        model = SurfelModel(self._config)
        features = feature_images(view.patch, mask, float(center[2]))
        if model.fuse(view.patch, mask, features, pose) < 30:
            return self._idle("waiting", "the object is too small or too far away for its depth to be used")
        self._track = _Track(
            self._object_id, model, KeyframeStore(self._config), pose, frame.stamp_ns, np.eye(4), np.zeros(3), 0.1, {}
        )
        observation = self._accept(frame, depth, hands, view, mask, features, pose, 1.0, float("nan"))
        self._mark_foreign(view, own, pose)
        return observation

    # Following

    def _follow(self, frame, depth, hands, faces) -> ObjectObservation:
        """Align the model with the frame from the best of the guesses, then learn from the frame."""
        track = self._known_track()
        starts = self._first_guesses(hands)
        view = self._view(frame, depth, hands, faces, self._object_box(frame, starts, hands), starts[0])
        if view is None:
            return self._lose("it left the image", None)
        target, result = self._align(view, starts)
        if result is None or result.inlier_fraction < SUDDEN_DROP * track.usual_inliers:
            result = self._second_look(view, target, starts[0], result)
        why = self._doubt(result, frame)
        if why:
            return self._lose(why, view.patch.paste(view.hand_mask, depth.shape))
        assert result is not None
        return self._learn(frame, depth, hands, view, target, result)

    def _second_look(
        self, view: _View, target: AlignmentTarget, predicted: np.ndarray, result: AlignmentResult | None
    ) -> AlignmentResult | None:
        """A fit suddenly worse than usual: try again from starts turned either way, and keep the better one."""
        track = self._known_track()
        middle = transform_points(predicted, track.middle[None])[0]
        turns = [make_transform(turn, np.zeros(3)) for turn in so3_exp(SECOND_TURNS_RAD)]
        starts = [_about(track.motion, middle) @ predicted] + [_about(turn, middle) @ predicted for turn in turns]
        reference = self._reference(track.model.render(predicted, view.patch), predicted)
        again = align(reference, target, starts, self._config)
        if again is None or (result is not None and again.cost >= result.cost):
            return result
        return again

    def _known_track(self) -> _Track:
        assert self._track is not None
        return self._track

    def _first_guesses(self, hands: Sequence[HandEstimate]) -> list[np.ndarray]:
        """Constant velocity, carried by the hand that holds it, resting."""
        track = self._known_track()
        middle = transform_points(track.T_camera_object, track.middle[None])[0]
        guesses = [_about(track.motion, middle) @ track.T_camera_object]
        for hand in hands:
            before = track.wrists.get(hand.track_id)
            if before is not None and hand.track_id == track.hand_track_id:
                guesses.append(hand.T_camera_wrist @ invert_transform(before) @ track.T_camera_object)
        return [*guesses, track.T_camera_object]

    def _object_box(self, frame: RgbdFrame, poses: Sequence[np.ndarray], hands: Sequence[HandEstimate]) -> np.ndarray:
        """Box (4,) px around the model at all the poses and the hand that holds it, with a border."""
        track = self._known_track()
        points = track.model.points[::10]
        clouds = [transform_points(pose.astype(np.float32), points) for pose in poses]
        clouds += [hand.joints_camera for hand in hands if hand.track_id == track.hand_track_id]
        return _box_of(np.concatenate(clouds), frame, BORDER_M)

    def _reference(self, rendering: Rendering, pose: np.ndarray) -> ReferenceCloud:
        """What should be seen at a pose: visible model surface, and the nearest keyframe against drift."""
        track = self._known_track()
        clouds = [track.model.reference(rendering.visible).thinned(MODEL_POINTS)]
        keyframe = track.keyframes.nearest(pose)
        if keyframe is not None:
            clouds.append(_color_only(keyframe.cloud.thinned(VIEW_POINTS)))
        if track.last_view is not None:
            clouds.append(_color_only(track.last_view))
        return _shuffled(ReferenceCloud.joined(clouds))

    def _align(self, view: _View, starts: list[np.ndarray]) -> tuple[AlignmentTarget, AlignmentResult | None]:
        track = self._known_track()
        middle = transform_points(starts[0], track.middle[None])[0]
        reach = track.radius_m + 0.05
        free = view.candidates & (np.abs(view.patch.depth_m - middle[2]) < reach)
        target = alignment_target(view.patch, free, view.hand_mask, float(middle[2]))
        rendering = track.model.render(starts[0], view.patch)
        return target, align(self._reference(rendering, starts[0]), target, starts, self._config)

    def _doubt(self, result: AlignmentResult | None, frame: RgbdFrame) -> str:
        """Why a result is not to be believed; empty when it is."""
        track = self._known_track()
        if result is None:
            return "none of the model is in view"
        if result.matched < 40:
            return "it is hidden or gone: hardly any of the model fits"
        if result.inlier_fraction < self._config.min_inliers:
            return f"only {100 * result.inlier_fraction:.0f} % of the visible model fits"
        if not result.converged:
            return "the alignment did not settle"
        seconds = (frame.stamp_ns - track.stamp_ns) * 1e-9
        seconds = float(np.clip(seconds, 1 / 60, 1.0)) if seconds > 0 else 1 / 30
        poses = np.stack([track.T_camera_object, result.T_camera_object])
        ends = transform_points(poses, np.stack([track.middle[None]] * 2))[:, 0]
        speed = float(np.linalg.norm(ends[1] - ends[0])) / seconds
        turn = float(np.degrees(rotation_angle(poses[1, :3, :3] @ poses[0, :3, :3].T))) / seconds
        if speed > self._config.max_speed_m_s or turn > self._config.max_turn_deg_s:
            return f"the motion is not plausible: {speed:.1f} m/s, {turn:.0f} degrees/s"
        return ""

    def _learn(self, frame, depth, hands, view: _View, target, result: AlignmentResult) -> ObjectObservation:
        """Mask from the model's rendering, then fusion where the alignment is good."""
        track = self._known_track()
        pose = result.T_camera_object
        track.usual_inliers += 0.2 * (result.inlier_fraction - track.usual_inliers)
        rendering = track.model.render(pose, view.patch)
        good = result.inlier_fraction >= FUSE_INLIERS
        candidates, growth = view.candidates.copy(), GROWTH_M
        if track.foreign is not None:
            growth = GROWTH_AT_REST_M
            candidates[candidates] = ~track.foreign.covers(view.patch.points[candidates], pose)
        mask = object_mask(rendering.depth_m, candidates, view.hand_mask, view.patch, growth if good else 0.0)
        if good and track.hand_track_id is not None:
            mask |= self._parts_in_grasp(hands, view, mask)
        if mask.sum() * view.patch.stride**2 < self._config.min_object_px / 4:
            return self._lose("it is hidden", view.patch.paste(view.hand_mask, depth.shape))
        explained = object_mask(rendering.depth_m, view.candidates, view.hand_mask, view.patch, 0.0)
        share = float(explained.sum() / max(mask.sum(), 1))
        if good:
            trusted = (view.patch.depth_m > 0) & ~view.hand_mask & ~view.patch.edge_mask
            track.model.fade(view.patch, trusted, pose, rendering.visible)
            track.model.fuse(view.patch, mask & ~dilated(view.hand_mask, 2), target.features, pose)
        observation = self._accept(frame, depth, hands, view, mask, target.features, pose, share, result.residual_m)
        self._mark_foreign(view, mask, pose)
        return observation

    def _parts_in_grasp(self, hands: Sequence[HandEstimate], view: _View, mask: np.ndarray) -> np.ndarray:
        """What else the holding hand touches: parts that fingers cut off from the rest of the object."""
        holder = [hand for hand in hands if hand.track_id == self._known_track().hand_track_id]
        parts = grasp_components(holder, view.candidates, view.patch, self._config)
        if not mask.any():
            return parts
        middle = np.median(view.patch.points[mask], axis=0)
        reach = self._config.max_object_size_m / 2
        return parts & (np.linalg.norm(view.patch.points - middle, axis=2) < reach)

    def _accept(
        self, frame, depth, hands, view: _View, mask, features, pose, inlier_fraction: float, residual_m: float
    ) -> ObjectObservation:
        """Take over a pose: motion, holder, keyframes; and report it."""
        track = self._known_track()
        middle = transform_points(np.stack([track.T_camera_object, pose]), np.stack([track.middle[None]] * 2))[:, 0]
        step = make_transform(pose[:3, :3] @ track.T_camera_object[:3, :3].T, middle[1] - middle[0])
        track.motion = np.eye(4) if track.lost else step
        track.lost, track.T_camera_object, track.stamp_ns = False, pose, frame.stamp_ns
        track.lost_frames, track.tracked_frames = 0, track.tracked_frames + 1
        points = track.model.points
        if len(points):
            low, high = points.min(0), points.max(0)
            track.middle, track.radius_m = ((low + high) / 2).astype(np.float64), float(np.linalg.norm(high - low) / 2)
        track.wrists = {hand.track_id: np.asarray(hand.T_camera_wrist, np.float64) for hand in hands}
        self._find_holder(hands, points, pose)
        mask_inner = mask & ~dilated(view.hand_mask, 2)
        track.last_view = view_cloud(view.patch, mask_inner, features, pose, VIEW_POINTS)
        is_keyframe = self._keep_view(frame.index, view.patch, mask_inner, features, pose)
        full_mask = view.patch.paste(mask, depth.shape)
        full_hand = view.patch.paste(view.hand_mask, depth.shape)
        self._last_masks = full_mask | full_hand
        return ObjectObservation(
            "tracking",
            track.object_id,
            pose.copy(),
            track.T_hand_object,
            track.hand_track_id,
            full_mask,
            full_hand,
            is_keyframe,
            inlier_fraction,
            residual_m,
        )

    def _keep_view(self, index: int, patch: Patch, mask, features, pose: np.ndarray) -> bool:
        track = self._known_track()
        if not track.keyframes.wants(pose):
            return False
        keyframe = make_keyframe(index, patch, mask, features, pose)
        if keyframe is None:
            return False
        track.keyframes.add(keyframe)
        return True

    def _mark_foreign(self, view: _View, mask: np.ndarray, pose: np.ndarray) -> None:
        """While no hand holds the object, remember what is in view beside it."""
        track = self._known_track()
        if track.hand_track_id is not None:
            track.foreign = None
            return
        first = track.foreign is None
        track.foreign = track.foreign or ForeignSurface(self._config.max_object_size_m)
        # Later frames show new surface at the mask's border, which has yet to be taken in.
        gap_px = 3.0 if first else GROWTH_AT_REST_M / view.patch.pixel_size_m(float(pose[2, 3])) + 1
        beside = (view.patch.depth_m > 0) & ~view.hand_mask & ~dilated(mask, gap_px)
        track.foreign.add(view.patch.points[beside], pose)
        track.foreign.clear(view.patch.points[mask & (view.patch.depth_m > 0)], pose)

    def _find_holder(self, hands: Sequence[HandEstimate], points: np.ndarray, pose: np.ndarray) -> None:
        """The hand in contact; the present holder keeps the object unless another is clearly nearer."""
        track = self._known_track()
        track.hand_track_id, before, track.T_hand_object = None, track.hand_track_id, None
        if not hands or not len(points):
            return
        cloud = transform_points(pose.astype(np.float32), points[:: max(1, len(points) // 400)])
        best, least = None, self._config.contact_m
        for hand in hands:
            gaps = np.linalg.norm(hand.joints_camera[:, None].astype(np.float32) - cloud[None], axis=2)
            nearness = float(np.mean(np.sort(gaps.min(1))[:4])) - (0.01 if hand.track_id == before else 0.0)
            if nearness < least:
                best, least = hand, nearness
        if best is not None:
            track.hand_track_id = best.track_id
            track.T_hand_object = invert_transform(np.asarray(best.T_camera_wrist, np.float64)) @ pose

    # Losing and finding

    def _lose(self, why: str, hand_mask: np.ndarray | None) -> ObjectObservation:
        track = self._known_track()
        track.lost, track.lost_why, track.motion = True, why, np.eye(4)
        track.lost_frames += 1
        return ObjectObservation("lost", track.object_id, hand_mask=hand_mask, message=f"object lost: {why}")

    def _recover(self, frame, depth, hands, faces) -> ObjectObservation:
        """Try poses near the last one, carried by the hand, and every kept view at every free-standing part."""
        track = self._known_track()
        # A model of few frames is soon worth less than a fresh start.
        if hands and track.lost_frames >= min(self._config.give_up_frames, 10 + 2 * track.tracked_frames):
            started = self._replace(frame, depth, hands, faces)
            if started is not None:
                return started
        box = np.array([0, 0, depth.shape[1], depth.shape[0]], float)
        view = self._view(frame, depth, hands, faces, box, None)
        if view is None:
            return self._lose(track.lost_why, None)
        hand_mask = view.patch.paste(view.hand_mask, depth.shape)
        guesses = self._recovery_guesses(hands, view)
        if not guesses:
            return self._lose("nothing in view could be it", hand_mask)
        middle_z = float(np.median([pose[2, 3] for pose, _ in guesses]))
        target = alignment_target(view.patch, view.candidates, view.hand_mask, middle_z)
        pose = best_guess(guesses, target, self._config)
        if pose is None:
            return self._lose(track.lost_why, hand_mask)
        fine = self._view(frame, depth, hands, faces, self._object_box(frame, [pose], hands), pose)
        if fine is None:
            return self._lose("it left the image", hand_mask)
        target, result = self._align(fine, [pose])
        settled = result is not None and result.converged and result.matched >= 60
        if not settled or result is None or result.inlier_fraction < self._config.recover_inliers:
            return self._lose(track.lost_why, hand_mask)
        if not self._looks_like_it(fine, result.T_camera_object):
            return self._lose(track.lost_why, hand_mask)
        return self._learn(frame, depth, hands, fine, target, result)

    def _replace(self, frame, depth, hands, faces) -> ObjectObservation | None:
        """Start anew on what the hand holds now; None while that is nothing."""
        old, self._track = self._track, None
        seen = self._wait(frame, depth, hands, faces)
        if self._track is not None:
            return seen
        self._track = old
        return None

    def _looks_like_it(self, view: _View, pose: np.ndarray) -> bool:
        """Is a found pose more than a surface of fitting shape: same colours, and ending where the object ends?"""
        model = self._known_track().model
        rendering = model.render(pose, view.patch)
        explained = object_mask(rendering.depth_m, view.candidates, view.hand_mask, view.patch, 0.0)
        part = sum((p for p in connected_parts(view.candidates, view.patch, 20, 8) if (p & explained).any()), explained)
        if explained.sum() < 0.35 * part.sum():
            return False
        return model.color_agreement(view.patch, explained, pose, rendering.visible) > 0.6

    def _recovery_guesses(self, hands: Sequence[HandEstimate], view: _View) -> list:
        """This frame's share of all the poses worth trying."""
        track = self._known_track()
        keyframes = track.keyframes.keyframes
        if not keyframes:
            return []
        anchors = [track.T_camera_object]
        for hand in hands:
            before = track.wrists.get(hand.track_id)
            if before is not None:
                anchors.append(hand.T_camera_wrist @ invert_transform(before) @ track.T_camera_object)
        in_grasp = grasp_components(hands, view.candidates, view.patch, self._config)
        parts = [in_grasp] if in_grasp.any() else []
        smallest = max(30, int(self._config.min_object_px / view.patch.stride**2 / 4))
        parts += connected_parts(view.candidates & ~in_grasp, view.patch, smallest)
        centers = [np.median(view.patch.points[part], axis=0) for part in parts]
        guesses = recovery_guesses(keyframes, anchors, centers)
        first = track.recovery_turn % max(len(guesses), 1)
        track.recovery_turn += self._config.recovery_guesses
        return (guesses[first:] + guesses[:first])[: self._config.recovery_guesses]


def _about(motion: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Motion (4, 4) about a point, as a transform of camera points."""
    rotation = motion[:3, :3]
    return make_transform(rotation, motion[:3, 3] + middle - rotation @ middle)


def _color_only(cloud: ReferenceCloud) -> ReferenceCloud:
    return replace(cloud, shape_weight=np.full(len(cloud), 0.3, np.float32))


def _shuffled(cloud: ReferenceCloud) -> ReferenceCloud:
    """The rows in a fixed random order, so that thinning keeps the mixture."""
    return cloud.taken(np.random.default_rng(0).permutation(len(cloud)))


def _box_of(points: np.ndarray, frame: RgbdFrame, border_m: float) -> np.ndarray:
    """Box (4,) px around points (N, 3) in the optical frame with a metric border."""
    points = points[points[:, 2] > 0.05]
    if not len(points):
        return np.zeros(4)
    k = frame.intrinsics
    u = k.fx * points[:, 0] / points[:, 2] + k.cx
    v = k.fy * points[:, 1] / points[:, 2] + k.cy
    border = border_m * k.fx / float(np.median(points[:, 2]))
    return np.array([u.min() - border, v.min() - border, u.max() + border, v.max() + border])


def _hands_box(hands: Sequence[HandEstimate], frame: RgbdFrame, border_m: float) -> np.ndarray:
    """Box (4,) px around all hands."""
    return _box_of(np.concatenate([hand.joints_camera for hand in hands]), frame, border_m)
