"""Hands over time: which hand is which, which side it is, and when one was seen twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from hoi_ros.hand.detector import PalmDetection, intersection_over_union
from hoi_ros.hand.landmarks import HandLandmarks
from hoi_ros.hand.regions import HandRegion, hand_size_px, region_from_landmarks

# Landmarks that a palm detection's keypoints show.
PALM_LANDMARKS = np.array([0, 5, 9, 13, 17, 1, 2])
SAME_PALM, SAME_HAND, TOO_NEAR = 0.35, 0.35, 0.7
"""Mean distance in hand sizes below which two findings are one hand."""
SAME_BOX = 0.75
EVIDENCE_STEP, EVIDENCE_LIMIT, EVIDENCE_TO_FLIP, EVIDENCE_SURE = 1.5, 20.0, 6.0, 4.0
REACH, REACH_PER_S = 1.5, 6.0
"""How far in hand sizes a lost hand may turn up, and how that grows with time."""

FRAMES_TO_TRY, WIDER_WHEN_MISSED = 5, 1.3
PREDICTION, LONGEST_PREDICTION_S, LONGEST_LEAP = 0.7, 0.2, 0.4
"""Share of the last velocity that the next region moves by, for how long, and how far in region sides."""


@dataclass
class Handedness:
    """Side of one hand: evidence adds up, and only strong evidence turns it."""

    evidence: float = 0.0
    """Natural log odds that it is the right hand, bounded."""
    side: str = ""
    """'left', 'right', or '' before the first look."""

    def observe(self, log_odds: float) -> str:
        """Add one frame's log odds of a right hand; return the side."""
        self.evidence = min(max(self.evidence + log_odds, -EVIDENCE_LIMIT), EVIDENCE_LIMIT)
        believed = "right" if self.evidence > 0 else "left"
        if not self.side or (believed != self.side and abs(self.evidence) >= EVIDENCE_TO_FLIP):
            self.side = believed
        return self.side

    @property
    def sure(self) -> bool:
        """Whether several frames agree."""
        return abs(self.evidence) >= EVIDENCE_SURE


@dataclass
class HandTrack:
    """One hand followed from frame to frame."""

    track_id: int
    landmarks: HandLandmarks
    stamp_s: float
    """When it was last seen."""
    handedness: Handedness = field(default_factory=Handedness)
    frames: int = 1
    missed: int = 0
    """Frames since it was last seen; above 0 it is lost and waits to be found again."""
    velocity_px_s: np.ndarray = field(default_factory=lambda: np.zeros(2))

    @property
    def lost(self) -> bool:
        """Not seen in the last frame."""
        return self.missed > 0

    @property
    def size_px(self) -> float:
        """Size of the hand in the image."""
        return hand_size_px(self.landmarks.landmarks_px)

    @property
    def center_px(self) -> np.ndarray:
        """(2,) middle of the palm, pixels."""
        return _palm_center(self.landmarks)

    def next_region(self, stamp_s: float) -> HandRegion:
        """Where to look for the hand at a time: where it was going, wider when it was missed."""
        region = region_from_landmarks(self.landmarks.landmarks_px)
        ahead = self.velocity_px_s * (PREDICTION * min(max(stamp_s - self.stamp_s, 0.0), LONGEST_PREDICTION_S))
        reach = LONGEST_LEAP * region.size_px
        ahead = ahead * min(1.0, reach / max(float(np.linalg.norm(ahead)), 1e-9))
        wider = region.size_px * (WIDER_WHEN_MISSED if self.lost else 1.0)
        return HandRegion(region.center_px + ahead, wider, region.angle_rad)

    def renew(self, landmarks: HandLandmarks, stamp_s: float) -> None:
        """Take in a new sight of the hand."""
        dt_s = stamp_s - self.stamp_s
        if 0 < dt_s <= LONGEST_PREDICTION_S:
            self.velocity_px_s = (_palm_center(landmarks) - self.center_px) / dt_s
        else:
            self.velocity_px_s = np.zeros(2)
        self.landmarks, self.stamp_s, self.missed = landmarks, stamp_s, 0
        self.frames += 1


class TrackSet:
    """All hands of a picture sequence."""

    def __init__(self, max_hands: int, keep_lost_s: float, one_person: bool = True):
        self.max_hands = max_hands
        self.keep_lost_s = keep_lost_s
        self.one_person = one_person and max_hands == 2
        self.tracks: list[HandTrack] = []
        self._ids = count()

    @property
    def live(self) -> list[HandTrack]:
        """Tracks seen in the last frame."""
        return [track for track in self.tracks if not track.lost]

    def forget(self) -> None:
        """Drop every track; ids go on."""
        self.tracks = []

    def to_follow(self) -> list[HandTrack]:
        """Tracks to look for where they should be: those seen last, and those missed a moment ago."""
        return [track for track in self.tracks if track.missed <= FRAMES_TO_TRY]

    def follow(
        self, tracks: Sequence[HandTrack], seen: Sequence[HandLandmarks], threshold: float, stamp_s: float
    ) -> None:
        """Move tracks to what was read in their regions; those without a hand there become lost."""
        held = self.live
        for track in self.tracks:
            track.missed += 1
        for track, landmarks in zip(tracks, seen):
            good = landmarks.presence >= threshold and plausible(landmarks, track.landmarks)
            if good and (track in held or len(self.live) < self.max_hands):
                track.renew(landmarks, stamp_s)
        self._drop_duplicates()
        self.tracks = [t for t in self.tracks if not t.lost or 0 <= stamp_s - t.stamp_s <= self.keep_lost_s]

    def unknown_palms(self, palms: Sequence[PalmDetection]) -> list[PalmDetection]:
        """Palms that no live track holds, best first, at most as many as hands are still wanted plus one."""
        live = self.live
        fresh = [palm for palm in palms if not any(_is_palm_of(palm, track) for track in live)]
        return fresh[: self.max_hands - len(live) + 1]

    def admit(self, found: Sequence[HandLandmarks], threshold: float, stamp_s: float) -> None:
        """Take newly found hands as lost tracks come back, or as new tracks, best first."""
        for landmarks in sorted(found, key=lambda item: -item.presence):
            live = self.live
            if landmarks.presence < threshold or len(live) >= self.max_hands:
                continue
            if any(is_same_hand(landmarks, track.landmarks) or _too_near(landmarks, track) for track in live):
                continue
            track = self._lost_track_near(landmarks, stamp_s)
            if track is None:
                self.tracks.append(HandTrack(next(self._ids), landmarks, stamp_s))
            else:
                track.renew(landmarks, stamp_s)

    def judge_sides(self) -> None:
        """Add the last sight's handedness to every live track; the two hands of one person are judged together."""
        live = self.live
        odds = [_side_odds(track.landmarks) for track in live]
        if self.one_person and len(live) == 2:
            for track, own, other in zip(live, odds, reversed(odds)):
                track.handedness.observe((own - other) / 2)
            self._part_equal_sides(live)
            return
        for track, own in zip(live, odds):
            track.handedness.observe(own)

    def _part_equal_sides(self, live: list[HandTrack]) -> None:
        """Give the track with the weaker evidence the side that is left over."""
        a, b = sorted((track.handedness for track in live), key=lambda side: abs(side.evidence))
        if a.side == b.side:
            a.side = "left" if b.side == "right" else "right"
            a.evidence = 0.0

    def _lost_track_near(self, landmarks: HandLandmarks, stamp_s: float) -> HandTrack | None:
        best, least = None, math.inf
        for track in self.tracks:
            if not track.lost:
                continue
            center = _palm_center(landmarks)
            distance = float(np.linalg.norm(center - track.center_px)) / max(track.size_px, 1.0)
            reach = REACH + REACH_PER_S * max(stamp_s - track.stamp_s, 0.0)
            other_side = (landmarks.right_probability > 0.5) != (track.handedness.side == "right")
            if other_side and track.handedness.sure:
                reach *= 0.5
            if distance < min(reach, least):
                best, least = track, distance
        return best

    def _drop_duplicates(self) -> None:
        """When two tracks hold one hand, keep the one whose side the hand agrees with, then the older."""
        live = sorted(self.live, key=lambda t: (-_agreement(t), -t.frames))
        for i, track in enumerate(live):
            for other in live[:i]:
                if not other.lost and is_same_hand(track.landmarks, other.landmarks):
                    track.missed = 1
                    break


def sides_alone(hands: Sequence[HandLandmarks], one_person: bool) -> list[str]:
    """Sides of the hands of one picture; of one person's two equal hands, the less certain one is the other."""
    sides = ["right" if hand.right_probability > 0.5 else "left" for hand in hands]
    if one_person and len(hands) == 2 and sides[0] == sides[1]:
        weaker = int(np.argmin([abs(_side_odds(hand)) for hand in hands]))
        sides[weaker] = "left" if sides[weaker] == "right" else "right"
    return sides


def is_same_hand(a: HandLandmarks, b: HandLandmarks) -> bool:
    """Whether two findings are one hand seen twice."""
    size = max(hand_size_px(a.landmarks_px), hand_size_px(b.landmarks_px))
    distance = float(np.linalg.norm(a.landmarks_px - b.landmarks_px, axis=1).mean())
    if distance < SAME_HAND * size:
        return True
    overlap = float(intersection_over_union(a.box_px, b.box_px[None])[0])
    return overlap > SAME_BOX and (a.right_probability > 0.5) == (b.right_probability > 0.5)


def plausible(now: HandLandmarks, before: HandLandmarks) -> bool:
    """Whether a hand can have moved and grown so between two frames."""
    new, old = hand_size_px(now.landmarks_px), hand_size_px(before.landmarks_px)
    return bool(np.isfinite(now.landmarks_px).all()) and 0.4 < new / max(old, 1e-6) < 2.5


def _is_palm_of(palm: PalmDetection, track: HandTrack) -> bool:
    distance = np.linalg.norm(palm.keypoints_px - track.landmarks.landmarks_px[PALM_LANDMARKS], axis=1).mean()
    return float(distance) < SAME_PALM * track.size_px


def _too_near(landmarks: HandLandmarks, track: HandTrack) -> bool:
    """Whether a new hand would start on top of one that is followed: more likely that one, misread."""
    return float(np.linalg.norm(_palm_center(landmarks) - track.center_px)) < TOO_NEAR * track.size_px


def _agreement(track: HandTrack) -> float:
    """How well the last look at a track agrees with the side that it has gathered, 0 to 1, rounded."""
    right = track.landmarks.right_probability
    return round(right if track.handedness.side == "right" else 1 - right)


def _palm_center(landmarks: HandLandmarks) -> np.ndarray:
    return landmarks.landmarks_px[PALM_LANDMARKS].mean(0)


def _side_odds(landmarks: HandLandmarks) -> float:
    """Log odds of a right hand, bounded, and less of it when the hand itself is in doubt."""
    p = min(max(landmarks.right_probability, 1e-4), 1 - 1e-4)
    odds = min(max(math.log(p / (1 - p)), -EVIDENCE_STEP), EVIDENCE_STEP)
    return odds * max(2 * landmarks.presence - 1, 0.05) ** 2
