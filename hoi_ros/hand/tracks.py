"""Hands over time: which hand is which, which side it is, and when one was seen twice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from hoi_ros.hand.detector import PalmDetection, intersection_over_union
from hoi_ros.hand.landmarks import HandLandmarks
from hoi_ros.hand.regions import hand_size_px, region_from_landmarks

# Landmarks that a palm detection's keypoints show.
PALM_LANDMARKS = np.array([0, 5, 9, 13, 17, 1, 2])
SAME_PALM, SAME_HAND = 0.35, 0.35
"""Mean distance in hand sizes below which two findings are one hand."""
SAME_BOX = 0.75
EVIDENCE_STEP, EVIDENCE_LIMIT, EVIDENCE_TO_FLIP, EVIDENCE_SURE = 1.5, 10.0, 3.0, 4.0
REACH, REACH_PER_S = 0.7, 2.0
"""How far in hand sizes a lost hand may turn up, and how that grows with time."""


@dataclass
class Handedness:
    """Side of one hand: evidence adds up, and only strong evidence turns it."""

    evidence: float = 0.0
    """Natural log odds that it is the right hand, bounded."""
    side: str = ""
    """'left', 'right', or '' before the first look."""

    def observe(self, right_probability: float) -> str:
        """Add one frame's probability of a right hand; return the side."""
        p = min(max(right_probability, 1e-4), 1 - 1e-4)
        step = min(max(math.log(p / (1 - p)), -EVIDENCE_STEP), EVIDENCE_STEP)
        self.evidence = min(max(self.evidence + step, -EVIDENCE_LIMIT), EVIDENCE_LIMIT)
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
    lost: bool = False
    """Not seen in the last frame; waiting to be found again."""

    @property
    def size_px(self) -> float:
        """Size of the hand in the image."""
        return hand_size_px(self.landmarks.landmarks_px)

    @property
    def center_px(self) -> np.ndarray:
        """(2,) middle of the palm, pixels."""
        return self.landmarks.landmarks_px[PALM_LANDMARKS].mean(0)


class TrackSet:
    """All hands of a picture sequence."""

    def __init__(self, max_hands: int, keep_lost_s: float):
        self.max_hands = max_hands
        self.keep_lost_s = keep_lost_s
        self.tracks: list[HandTrack] = []
        self._ids = count()

    @property
    def live(self) -> list[HandTrack]:
        """Tracks seen in the last frame."""
        return [track for track in self.tracks if not track.lost]

    def forget(self) -> None:
        """Drop every track; ids go on."""
        self.tracks = []

    def follow(self, tracks: Sequence[HandTrack], seen: Sequence[HandLandmarks], threshold: float, stamp_s: float):
        """Move tracks to what was read in their regions; those without a hand there become lost."""
        for track, landmarks in zip(tracks, seen):
            if landmarks.presence >= threshold and plausible(landmarks, track.landmarks):
                self._renew(track, landmarks, stamp_s)
            else:
                track.lost = True
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
            if any(is_same_hand(landmarks, track.landmarks) for track in live):
                continue
            track = self._lost_track_near(landmarks, stamp_s)
            if track is None:
                track = HandTrack(next(self._ids), landmarks, stamp_s)
                track.handedness.observe(landmarks.right_probability)
                self.tracks.append(track)
            else:
                self._renew(track, landmarks, stamp_s)

    def _renew(self, track: HandTrack, landmarks: HandLandmarks, stamp_s: float) -> None:
        track.landmarks, track.stamp_s, track.lost = landmarks, stamp_s, False
        track.frames += 1
        track.handedness.observe(landmarks.right_probability)

    def _lost_track_near(self, landmarks: HandLandmarks, stamp_s: float) -> HandTrack | None:
        best, least = None, math.inf
        for track in self.tracks:
            if not track.lost:
                continue
            center = landmarks.landmarks_px[PALM_LANDMARKS].mean(0)
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
                    track.lost = True
                    break


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


def _agreement(track: HandTrack) -> float:
    """How well the last look at a track agrees with the side that it has gathered, 0 to 1, rounded."""
    right = track.landmarks.right_probability
    return round(right if track.handedness.side == "right" else 1 - right)


def next_regions(tracks: Sequence[HandTrack]):
    """Where to look for tracked hands in the next frame."""
    return [region_from_landmarks(track.landmarks.landmarks_px) for track in tracks]
