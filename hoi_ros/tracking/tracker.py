"""6-DoF motion of whatever is held, from colour and depth, with no CAD model, marker or keypoint detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from hoi_ros.datatypes import HandEstimate, ObjectObservation, PoseRevision, RgbdFrame
from hoi_ros.errors import InputError
from hoi_ros.geometry import make_transform, so3_exp, transform_points
from hoi_ros.tracking.alignment import AlignmentResult, ExpectedTurn, align
from hoi_ros.tracking.beginning import GraspWatch, box_around, first_track, marked_mask
from hoi_ros.tracking.carried import CARRIED_M, carried_view, is_hidden
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import feature_images
from hoi_ros.tracking.keyframes import view_cloud
from hoi_ros.tracking.masks import dilated, object_mask
from hoi_ros.tracking.model import SurfelModel
from hoi_ros.tracking.recovery import best_guess, guesses_of_a_frame, looks_like
from hoi_ros.tracking.segmentation import Segmentation
from hoi_ros.tracking.target import AlignmentTarget, alignment_target
from hoi_ros.tracking.track import GROWTH_AT_REST_M, VIEW_POINTS, Track, View, about, hands_box

GROWTH_M = 0.012
FUSE_INLIERS = 0.6
WELL_SHOWN = 0.25
"""Share of the known surface in sight from which on it is learnt how the hand holds it."""
SUDDEN_DROP = 0.92
SECOND_TURNS_RAD = np.radians(6.0) * np.concatenate([np.eye(3), -np.eye(3)])
LITTLE_KNOWN = 0.5
"""Share of what is seen that the model explains, below which it learns even at an unsure turn: it would stay so."""
REVISION_FRAMES = 15
"""Frames that carry a revision: whoever skips some frames still hears of it."""
NO_DEPTH = "object tracking waits for depth: use an RGB-D camera or a source with aligned depth images"


class ObjectTracker:
    """Follows one held object from frame to frame and builds its own model of it.

    The object frame starts at the middle of the first view, with the camera's axes. A frame costs the same
    however long the sequence is.
    """

    def __init__(self, config: TrackerConfig | None = None, device: str = "auto", *, live: bool = False) -> None:
        """Prepare a tracker.

        Args:
            config: settings; None takes the defaults.
            device: accepted for symmetry, the work runs on the CPU.
            live: never wait for the keyframes' corrected poses, take them over when they are known; otherwise they are
                taken over `graph_frames` frames after they were asked for, so that the result is the same on every
                machine.
        """
        self._config = config or TrackerConfig()
        self._device = device
        self._live = live
        self._object_id = -1
        self._beside = ThreadPoolExecutor(1, "graph")
        self._frames = 0
        self.reset()

    def reset(self) -> None:
        """Forget the object, the model and all that was learnt; the next object gets a new id."""
        self._segmentation = Segmentation(self._config)
        self._grasp = GraspWatch(self._config)
        self._track: Track | None = None
        self._remembered: list[Track] = []
        """Objects met before, the one seen last at the end."""
        self._comparisons = 0

    def close(self) -> None:
        """End the thread that solves for keyframes; what it works on is waited for."""
        self._beside.shutdown()

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
        depth = self._segmentation.take(frame, hands)
        if init_mask is not None:
            return self._start_from_mask(frame, depth, hands, hand_faces, np.asarray(init_mask, bool))
        if self._track is None:
            return self._wait(frame, depth, hands, hand_faces)
        self._frames += 1
        revision = self._corrected(self._track)
        step = self._recover if self._track.lost else self._follow
        observation = step(frame, depth, hands, hand_faces)
        self._track.graph.start(self._frames, self._beside)
        return replace(observation, revision=revision)

    def _corrected(self, track: Track) -> PoseRevision | None:
        """Take over the keyframes' poses that were solved for beside the frames, once they are due."""
        correction = track.graph.finish(self._frames, wait=not self._live)
        if correction is not None and correction.views:
            track.correct(correction)
            views = list(correction.views.values())
            stamps = np.array([view.stamp_ns for view in views], np.int64)
            poses = np.stack([view.T_camera_object for view in views])
            track.revision = PoseRevision(stamps, poses, 1 + (track.revision.number if track.revision else 0))
            track.revised_at = self._frames
        return track.revision if self._frames < track.revised_at + REVISION_FRAMES else None

    def _idle(self, state: str, message: str, hand_mask: np.ndarray | None = None) -> ObjectObservation:
        return ObjectObservation(state, max(self._object_id, 0), hand_mask=hand_mask, message=message)

    # Starting

    def _wait(self, frame, depth, hands, faces) -> ObjectObservation:
        """Look for something in the grasp; start when it stays there."""
        if not hands:
            self._grasp.forget()
            return self._idle("waiting", "no hand in view that could hold an object")
        view = self._segmentation.view(frame, depth, faces, hands_box(hands, frame, 0.12))
        if view is None:
            return self._idle("waiting", "the hand is at the image's border")
        mask, why_not = self._grasp.look(hands, view)
        self._segmentation.last_masks = view.patch.paste(view.hand_mask | mask, depth.shape)
        if why_not:
            return self._idle("waiting", why_not, view.patch.paste(view.hand_mask, depth.shape))
        return self._recognised(frame, depth, hands, faces) or self._start(frame, depth, hands, view, mask, mask)

    def _start_from_mask(self, frame, depth, hands, faces, init_mask) -> ObjectObservation:
        """Start on the user's pixels."""
        if (init_mask & (depth > 0)).sum() < 100:
            raise InputError(
                "the object mask covers fewer than 100 pixels with depth: mark the object, nearer than 4 m"
            )
        self._remember(self._track)
        self._track = None
        self._segmentation.mark(frame, depth, init_mask)
        view = self._segmentation.view(frame, depth, faces, box_around(init_mask))
        assert view is not None  # 100 pixels with a border of 80 fill a patch
        mask = marked_mask(init_mask, view, self._segmentation.planes, self._config)
        return self._start(frame, depth, hands, view, mask, dilated(mask, 3))

    def _start(self, frame, depth, hands, view: View, mask: np.ndarray, own: np.ndarray) -> ObjectObservation:
        """Make the first model of the masked pixels; of the pixels `own`, none is known to be something else."""
        self._object_id += 1
        self._comparisons = 0
        self._grasp.forget()
        begun = first_track(self._object_id, view, mask, frame.stamp_ns, self._config)
        if begun is None:
            return self._idle("waiting", "the object is too small or too far away for its depth to be used")
        self._track, features = begun
        pose = self._track.T_camera_object
        observation = self._accept(frame, depth, hands, view, mask, features, pose, 1.0, float("nan"))
        self._track.mark_foreign(view, own, pose)
        return observation

    # Objects met before

    def _recognised(self, frame, depth, hands, faces) -> ObjectObservation | None:
        """Seek one of the known objects in what is held, one a frame in turn; None when it is none of them."""
        if self._comparisons >= self._config.recognition_frames * len(self._remembered):
            return None
        track = self._remembered[-1 - self._comparisons % len(self._remembered)]
        self._comparisons += 1
        self._track = track
        seen = self._seek(frame, depth, hands, faces, known=True)
        if seen.state == "tracking":
            self._remembered.remove(track)
            self._comparisons = 0
            return seen
        self._track = None
        count = len(self._remembered)
        message = f"something is held: compared with the {count} object{'s' if count > 1 else ''} known"
        return self._idle("waiting", message, seen.hand_mask)

    def _remember(self, track: Track | None) -> None:
        """Keep an object that is no longer followed, as one that is lost."""
        if track is None:
            return
        track.lost, track.lost_frames, track.recovery_turn = True, 0, 0
        track.last_view, track.foreign, track.wrists, track.hand_track_id = None, None, {}, None
        track.certainty.forget()
        track.graph.broken()
        room = self._config.max_objects - 1
        self._remembered = [*self._remembered, track][-room:] if room else []

    # Following

    def _follow(self, frame, depth, hands, faces) -> ObjectObservation:
        """Align the model with the frame from the best of the guesses, then learn from the frame."""
        track = self._present_track()
        starts = track.first_guesses(hands)
        expected = track.expected_turn(frame, starts)
        if track.carried_frames and (held := track.grip.pose(hands)) is not None:
            starts = [*starts, held]
        box = track.object_box(frame, starts, hands)
        view = self._segmentation.view(frame, depth, faces, box, track, starts[0])
        if view is None:
            return self._lose("it left the image", None)
        target, result = self._align(view, starts, expected)
        if result is None or result.inlier_fraction < SUDDEN_DROP * track.usual_inliers:
            result = self._second_look(view, target, starts[0], result)
        why = track.doubt(result, frame)
        if not why and result is not None and track.leapt(result.T_camera_object, starts):
            why = "" if looks_like(track.model, view, result.T_camera_object) else "what fits does not look like it"
        if why:
            carried = self._carry(frame, depth, hands, view)
            return carried or self._lose(why, view.patch.paste(view.hand_mask, depth.shape))
        assert result is not None
        return self._learn(frame, depth, hands, view, target, result)

    def _carry(self, frame, depth, hands, view: View) -> ObjectObservation | None:
        """Nothing known of it is in sight, but the hand still holds it: learn the sides that it shows now."""
        track = self._present_track()
        carried = carried_view(track, hands, view, self._config)
        if carried is None:
            return None
        pose, mask, message = carried
        track.carried_frames += 1
        track.certainty.carried()
        track.unseen_turn_frames += 1
        features = feature_images(view.patch, mask, float(pose[2, 3]))
        track.model.fuse(view.patch, mask & view.above & ~dilated(view.hand_mask, 2), features, pose)
        seen = self._accept(frame, depth, hands, view, mask, features, pose, 0.0, CARRIED_M)
        return replace(seen, message=message)

    def _second_look(
        self, view: View, target: AlignmentTarget, predicted: np.ndarray, result: AlignmentResult | None
    ) -> AlignmentResult | None:
        """A fit suddenly worse than usual: try again from starts turned either way, and keep the better one."""
        track = self._present_track()
        middle = transform_points(predicted, track.middle[None])[0]
        turns = [make_transform(turn, np.zeros(3)) for turn in so3_exp(SECOND_TURNS_RAD)]
        starts = [about(track.motion, middle) @ predicted] + [about(turn, middle) @ predicted for turn in turns]
        assert view.rendering is not None
        reference = track.reference(view.rendering, predicted)
        again = align(reference, target, starts, self._config)
        if again is None or (result is not None and again.cost >= result.cost):
            return result
        return again

    def _present_track(self) -> Track:
        assert self._track is not None
        return self._track

    def _align(
        self, view: View, starts: list[np.ndarray], expected: ExpectedTurn | None = None
    ) -> tuple[AlignmentTarget, AlignmentResult | None]:
        track = self._present_track()
        middle = transform_points(starts[0], track.middle[None])[0]
        reach = track.radius_m + 0.05
        free = view.candidates & (np.abs(view.patch.depth_m - middle[2]) < reach)
        target = alignment_target(view.patch, free, view.hand_mask, float(middle[2]))
        assert view.rendering is not None
        return target, align(track.reference(view.rendering, starts[0]), target, starts, self._config, expected)

    def _learn(self, frame, depth, hands, view: View, target, result: AlignmentResult) -> ObjectObservation:
        """Mask from the model's rendering, then fusion where the alignment is good."""
        track = self._present_track()
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
            mask |= track.parts_in_grasp(hands, view, mask)
            mask |= track.parts_moving_along(frame, depth, hands, view, mask, pose)
        gone = mask.sum() * view.patch.stride**2 < self._config.min_object_px / 4
        hidden = is_hidden(rendering, mask, view) and track.grip.pose(hands) is not None
        carried = self._carry(frame, depth, hands, view) if gone or hidden else None
        if gone or carried is not None:
            return carried or self._lose("it is hidden", view.patch.paste(view.hand_mask, depth.shape))
        explained = object_mask(rendering.depth_m, view.candidates, view.hand_mask, view.patch, 0.0)
        shown = float(explained.sum() / max(np.isfinite(rendering.depth_m).sum(), 1))
        track.carried_frames = 0
        share = float(explained.sum() / max(mask.sum(), 1))
        sure = track.judge_turn(view, target, rendering, pose)
        if good and (sure or share < LITTLE_KNOWN):
            trusted = (view.patch.depth_m > 0) & ~view.hand_mask & ~view.patch.edge_mask
            track.model.fade(view.patch, trusted, pose, rendering.visible)
            track.model.fuse(view.patch, mask & view.above & ~dilated(view.hand_mask, 2), target.features, pose)
            track.learn_colors(view.patch, mask)
        observation = self._accept(frame, depth, hands, view, mask, target.features, pose, share, result.residual_m)
        track.mark_foreign(view, mask, pose)
        if good and sure and shown > WELL_SHOWN:
            track.grip.learn(next((hand for hand in hands if hand.track_id == track.hand_track_id), None), pose)
        return observation

    def _accept(
        self, frame, depth, hands, view: View, mask, features, pose, inlier_fraction: float, residual_m: float
    ) -> ObjectObservation:
        """Take over a pose: motion, holder, keyframes; and report it."""
        track = self._present_track()
        middle = transform_points(np.stack([track.T_camera_object, pose]), np.stack([track.middle[None]] * 2))[:, 0]
        step = make_transform(pose[:3, :3] @ track.T_camera_object[:3, :3].T, middle[1] - middle[0])
        track.motion = np.eye(4) if track.lost else step
        track.step_s = 0.0 if track.lost or not track.tracked_frames else (frame.stamp_ns - track.stamp_ns) * 1e-9
        track.lost, track.T_camera_object, track.stamp_ns = False, pose, frame.stamp_ns
        track.lost_frames, track.tracked_frames = 0, track.tracked_frames + 1
        points = track.model.points
        if len(points):
            low, high = points.min(0), points.max(0)
            track.middle, track.radius_m = ((low + high) / 2).astype(np.float64), float(np.linalg.norm(high - low) / 2)
        track.wrists = {hand.track_id: np.asarray(hand.T_camera_wrist, np.float64) for hand in hands}
        track.find_holder(hands, points, pose)
        mask_inner = mask & ~dilated(view.hand_mask, 2)
        track.last_view = view_cloud(view.patch, mask_inner, features, pose, VIEW_POINTS)
        is_keyframe = track.keep_view(frame, self._frames, view, mask_inner, features, pose)
        full_mask = view.patch.paste(mask, depth.shape)
        full_hand = view.patch.paste(view.hand_mask, depth.shape)
        self._segmentation.last_masks = full_mask | full_hand
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
            track.turn_message(),
            track.covariance(pose, residual_m),
        )

    # Losing and finding

    def _lose(self, why: str, hand_mask: np.ndarray | None) -> ObjectObservation:
        track = self._present_track()
        track.lost, track.lost_why, track.motion = True, why, np.eye(4)
        track.lost_frames += 1
        track.last_view = None
        track.certainty.forget()
        track.graph.broken()
        track.along.forget()
        track.grip.forget()
        return ObjectObservation("lost", track.object_id, hand_mask=hand_mask, message=f"object lost: {why}")

    def _recover(self, frame, depth, hands, faces) -> ObjectObservation:
        """Try poses near the last one, carried by the hand, and every kept view at every free-standing part."""
        track = self._present_track()
        # A model of few frames is soon worth less than a fresh start.
        stale = track.lost_frames >= min(self._config.give_up_frames, 10 + 2 * track.tracked_frames)
        if hands and stale and (started := self._replace(frame, depth, hands, faces)) is not None:
            return started
        return self._seek(frame, depth, hands, faces)

    def _seek(self, frame, depth, hands, faces, known: bool = False) -> ObjectObservation:
        """Align this frame's share of the poses worth trying; a fit that looks like the object takes it up again.

        One `known` from before is sought in the grasp alone.
        """
        track = self._present_track()
        box = np.array([0, 0, depth.shape[1], depth.shape[0]], float)
        view = self._segmentation.view(frame, depth, faces, box)
        if view is None:
            return self._lose(track.lost_why, None)
        hand_mask = view.patch.paste(view.hand_mask, depth.shape)
        guesses = guesses_of_a_frame(track, hands, view, self._config, in_grasp_only=known)
        if not guesses:
            return self._lose("nothing in view could be it", hand_mask)
        middle_z = float(np.median([pose[2, 3] for pose, _ in guesses]))
        target = alignment_target(view.patch, view.candidates, view.hand_mask, middle_z)
        pose = best_guess(guesses, target, self._config)
        if pose is None:
            return self._lose(track.lost_why, hand_mask)
        box = track.object_box(frame, [pose], hands)
        fine = self._segmentation.view(frame, depth, faces, box, track, pose)
        if fine is None:
            return self._lose("it left the image", hand_mask)
        target, result = self._align(fine, [pose])
        settled = result is not None and result.converged and result.matched >= 60
        if not settled or result is None or result.inlier_fraction < self._config.recover_inliers:
            return self._lose(track.lost_why, hand_mask)
        if not looks_like(track.model, fine, result.T_camera_object):
            return self._lose(track.lost_why, hand_mask)
        return self._learn(frame, depth, hands, fine, target, result)

    def _replace(self, frame, depth, hands, faces) -> ObjectObservation | None:
        """Start anew on what the hand holds now; None while that is nothing."""
        old, self._track = self._track, None
        seen = self._wait(frame, depth, hands, faces)
        if self._track is not None:
            self._remember(old)
            return seen
        self._track = old
        return None
