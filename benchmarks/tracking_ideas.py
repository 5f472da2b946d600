"""The tracker's ideas, each with what turns it off: other settings, or other code in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import numpy as np

from hoi_ros.datatypes import HandEstimate, ObjectObservation
from hoi_ros.tracking import ObjectTracker, TrackerConfig
from hoi_ros.tracking import alignment as alignment_module
from hoi_ros.tracking import linearisation as linearisation_module
from hoi_ros.tracking import loops as loops_module
from hoi_ros.tracking import recovery as recovery_module
from hoi_ros.tracking import segmentation as segmentation_module
from hoi_ros.tracking import tracker as tracker_module
from hoi_ros.tracking import view_graph as view_graph_module
from hoi_ros.tracking.grip import Grip
from hoi_ros.tracking.hidden_hands import HiddenHands
from hoi_ros.tracking.keyframes import KeyframeStore
from hoi_ros.tracking.masks import main_parts, segment_hands
from hoi_ros.tracking.moving_along import MovingAlong
from hoi_ros.tracking.pose_graph import PoseGraphConfig, optimise_poses
from hoi_ros.tracking.segmentation import Segmentation
from hoi_ros.tracking.track import Track

KEYFRAME_PERIOD = 15
ANY_ERROR = PoseGraphConfig(limit=1e9)

_first_guesses, _reference, _keep_view, _correct = (
    Track.first_guesses, Track.reference, Track.keep_view, Track.correct,
)  # fmt: skip
_accept, _view = ObjectTracker._accept, Segmentation.view
_linearise, _level_cloud = alignment_module.linearise, alignment_module.level_cloud
_partners, _recovery_guesses = loops_module.partners, recovery_module.recovery_guesses


@dataclass(frozen=True)
class Idea:
    """What turns an idea off."""

    settings: dict[str, Any] = field(default_factory=dict)
    instead: tuple[tuple[Any, str, Any], ...] = ()
    """Owner, attribute, and what takes its place."""


# Alignment


def _motion_unknown(self: ObjectTracker, *rest) -> ObjectObservation:
    seen = _accept(self, *rest)
    track = self._present_track()
    track.motion, track.step_s = np.eye(4), 0.0
    return seen


def _no_hand_guess(self: Track, hands: list[HandEstimate]) -> list[np.ndarray]:
    return _first_guesses(self, [])


def _without_shape(reference, *rest):
    """Matching, and the choice among starts, still know depth."""
    return _linearise(replace(reference, shape_weight=np.zeros_like(reference.shape_weight)), *rest)


def _at_the_finest_level(cloud, level, config):
    return _level_cloud(cloud, len(alignment_module.STEP_DONE) - 1, config)


def _last_view_alone(self: Track, rendering, pose):
    return _reference(self, rendering, pose) if self.last_view is None else self.last_view


def _without_last_view(self: Track, rendering, pose):
    last, self.last_view = self.last_view, None
    try:
        return _reference(self, rendering, pose)
    finally:
        self.last_view = last


# Masks


def _no_pixels(hands, faces, view, *rest) -> np.ndarray:
    return np.zeros(view.shape, bool)


def _without_model(hands, faces, view, skin, model_depth_m, *rest):
    return segment_hands(hands, faces, view, skin, None, *rest)


def _view_without_model(self: Segmentation, frame, depth, faces, box, track=None, predicted=None):
    """Pixels are parted without the rendering; alignment still has it."""
    view = _view(self, frame, depth, faces, box)
    if view is None or track is None or predicted is None:
        return view
    return replace(view, rendering=track.model.render(predicted, view.patch))


def _largest_part(model_depth_m, candidates, hand_mask, view, growth_m) -> np.ndarray:
    return main_parts(candidates & ~hand_mask, view)


def _by_rendering_alone(self: Segmentation, view, not_table, rendered, track) -> np.ndarray:
    return np.abs(view.depth_m - rendered) < segmentation_module.CLAIMED_M


def _nowhere(self, view, loose, *rest) -> np.ndarray:
    return np.zeros(loose.shape, bool)


def _only_seen_hands(self: HiddenHands, hands: list[HandEstimate]) -> list[HandEstimate]:
    return list(hands)


# Keyframes


def _every_nth(self: Track, frame, count, *rest) -> bool:
    def due(store: KeyframeStore, pose, points=None) -> bool:
        return not store.keyframes or count % KEYFRAME_PERIOD == 0

    with patch.object(KeyframeStore, "wants", due):
        return _keep_view(self, frame, count, *rest)


def _latest_partners(keyframe, others, count):
    return _partners(keyframe, others[-count:], count)


def _believe_all(poses, edges, trusted=None, fixed=0, config=None):
    return optimise_poses(poses, edges, trusted, fixed, ANY_ERROR)


def _correct_poses_alone(self: Track, correction) -> None:
    model = self.model
    _correct(self, correction)
    self.model = model


# Losses


def _hardly_doubt(self: Track, result, frame) -> str:
    return "none of the model is in view" if result is None else ""


def _near_the_last_pose(keyframes, anchors, centers):
    return _recovery_guesses(keyframes, anchors, [])


def _no_recovery(self: ObjectTracker, frame, depth, hands, faces) -> ObjectObservation:
    return self._lose("not sought", None)


IDEAS = {
    "everything on": Idea(),
    "no shape in the alignment": Idea(instead=((alignment_module, "linearise", _without_shape),)),
    "no colour in the alignment": Idea({"color_weight": 0.0}),
    "to the last frame, not the model": Idea(instead=((Track, "reference", _last_view_alone),)),
    "one level, not coarse to fine": Idea(instead=((alignment_module, "level_cloud", _at_the_finest_level),)),
    "no robust weights": Idea(
        instead=((linearisation_module, "HUBER_SIGMAS", np.inf), (linearisation_module, "CAUCHY_SIGMAS", np.inf))
    ),
    "no constant velocity": Idea(instead=((ObjectTracker, "_accept", _motion_unknown),)),
    "no guess from the hand": Idea(instead=((Track, "first_guesses", _no_hand_guess),)),
    "no steady turn expected": Idea(instead=((Track, "expected_turn", lambda self, frame, guesses: None),)),
    "no last view": Idea(instead=((Track, "reference", _without_last_view),)),
    "no keyframes to align with": Idea(instead=((KeyframeStore, "nearest", lambda self, pose: None),)),
    "no second look": Idea(instead=((tracker_module, "SUDDEN_DROP", 0.0),)),
    "learn at any turn": Idea({"max_turn_sigma_deg": 90.0}),
    "never learn at an unsure turn": Idea(instead=((tracker_module, "LITTLE_KNOWN", 0.0),)),
    "no hand mask": Idea(instead=((segmentation_module, "segment_hands", _no_pixels),)),
    "hand mask without the model": Idea(instead=((segmentation_module, "segment_hands", _without_model),)),
    "no mask from the rendering": Idea(
        instead=((Segmentation, "view", _view_without_model), (tracker_module, "object_mask", _largest_part))
    ),
    "no parts by moving along": Idea(instead=((MovingAlong, "parts", _nowhere),)),
    "no parts by touch": Idea(
        instead=((Track, "parts_in_grasp", lambda self, hands, view, mask: np.zeros(mask.shape, bool)),)
    ),
    "no grip": Idea(instead=((Grip, "pose", lambda self, hands: None),)),
    "no colours at the table": Idea(instead=((Segmentation, "_lying_low", _by_rendering_alone),)),
    "no colours of arms": Idea(instead=((Segmentation, "_learn_arm", lambda self, view, arm: None),)),
    "no hidden hands": Idea(instead=((HiddenHands, "with_hidden", _only_seen_hands),)),
    "no memory of what lies beside": Idea(instead=((Track, "mark_foreign", lambda self, view, mask, pose: None),)),
    "keyframes by turn alone": Idea({"keyframe_new_surface": 1.0}),
    f"a keyframe every {KEYFRAME_PERIOD} frames": Idea(instead=((Track, "keep_view", _every_nth),)),
    "no pose graph": Idea({"graph_frames": 0}),
    "no loops closed": Idea(instead=((view_graph_module, "partners", _latest_partners),)),
    "wrong motions believed": Idea(
        instead=(
            (view_graph_module, "optimise_poses", _believe_all),
            (loops_module, "LEAST_INLIERS", 0.0),
            (loops_module, "LEAST_MATCHED", 0),
            (loops_module, "MOST_COST", np.inf),
        )
    ),
    "no fusing anew": Idea(instead=((Track, "correct", _correct_poses_alone),)),
    "no fit doubted": Idea(
        instead=((Track, "doubt", _hardly_doubt), (Track, "leapt", lambda self, pose, guesses: False))
    ),
    "lost is lost": Idea(instead=((ObjectTracker, "_recover", _no_recovery),)),
    "sought near the last pose alone": Idea(
        instead=(
            (recovery_module, "recovery_guesses", _near_the_last_pose),
            (recovery_module, "TURNS_RAD", np.zeros((1, 3))),
        )
    ),
    "any fit is a find": Idea(instead=((tracker_module, "looks_like", lambda model, view, pose: True),)),
    "nothing counts as new": Idea(
        instead=((ObjectTracker, "_replace", lambda self, frame, depth, hands, faces: None),)
    ),
    "no comparison with known objects": Idea({"recognition_frames": 0}),
}
"""By the name of what is missing, in the order alignment, masks, keyframes, losses."""


@contextmanager
def without(idea: str) -> Iterator[TrackerConfig]:
    """The settings with one idea turned off, and its code replaced meanwhile."""
    with ExitStack() as stack:
        for owner, name, instead in IDEAS[idea].instead:
            stack.enter_context(patch.object(owner, name, instead))
        yield replace(TrackerConfig(), **IDEAS[idea].settings)
