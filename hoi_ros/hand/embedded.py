"""The estimator that needs no download: palm detector, landmark network, tracks, then the mesh fitted to landmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import numpy as np

from hoi_ros.datatypes import CameraIntrinsics, HandEstimate, RgbdFrame
from hoi_ros.geometry import project
from hoi_ros.hand.blas_threads import OneBlasThread
from hoi_ros.hand.config import HandConfig
from hoi_ros.hand.detector import PalmDetection, PalmDetector, PalmFinder, views_of
from hoi_ros.hand.fit import FitConfig, FitState, HandFit, HandFitter
from hoi_ros.hand.landmarks import HandLandmarks, LandmarkNetwork, LandmarkReader
from hoi_ros.hand.one_euro import NoFilter, OneEuroFilter
from hoi_ros.hand.outline import OutlineFactor
from hoi_ros.hand.regions import hand_size_px, region_from_landmarks, region_from_palm
from hoi_ros.hand.tracks import HandTrack, TrackSet, is_same_hand, sides_alone
from hoi_ros.hand_model import choose_hand_model

LONGEST_GAP_S = 0.5
"""Time without a hand after which its smoothing starts anew."""
LAST_RESORT_THRESHOLD = 0.2
"""Palm score that a single picture falls back to when nothing better is there."""


@dataclass
class TrackMemory:
    """What smoothing and the fit remember of one track."""

    pixels: OneEuroFilter | NoFilter
    world: OneEuroFilter | NoFilter
    mesh: OneEuroFilter | NoFilter
    fit: FitState | None = None
    outline: OutlineFactor = field(default_factory=OutlineFactor)
    stamp_s: float | None = None


@dataclass
class Smoother:
    """Makes the two filters of a track; off gives filters that do nothing."""

    config: HandConfig
    memories: dict[int, TrackMemory] = field(default_factory=dict)

    def memory(self, track_id: int) -> TrackMemory:
        """The track's memory, made at its first use."""
        if track_id not in self.memories:
            self.memories[track_id] = TrackMemory(self._filter(), self._filter(), self._filter())
        return self.memories[track_id]

    def keep(self, track_ids: set[int]) -> None:
        """Forget all other tracks."""
        self.memories = {key: value for key, value in self.memories.items() if key in track_ids}

    def _filter(self) -> OneEuroFilter | NoFilter:
        if not self.config.smoothing:
            return NoFilter()
        return OneEuroFilter(self.config.smoothing_min_cutoff_hz, self.config.smoothing_beta)


class EmbeddedHandEstimator:
    """Hands by the converted MediaPipe networks and the free hand model (or the user's MANO)."""

    def __init__(
        self,
        config: HandConfig,
        device: str = "cpu",
        reader: LandmarkReader | None = None,
        detector: PalmFinder | None = None,
    ):
        """Load everything and warm up; `reader` stands in for the landmark network, `detector` for the palm network."""
        self.config = config
        model = choose_hand_model(config.hand_model)
        self.model = model
        self.joint_angle_names = model.joint_angle_names
        self._detector: PalmFinder = detector or PalmDetector(device, config.threads)
        self._landmarks = reader or LandmarkNetwork(device, config.threads)
        self._one_blas_thread = OneBlasThread()
        self._fitter = HandFitter(model, FitConfig(landmark_offset_share=self._landmarks.offset_share))
        self._tracks = TrackSet(config.max_hands, config.keep_lost_s, config.one_person)
        self._smoother = Smoother(config)
        self._single_ids = count()
        self._frames_since_detection = 0
        self._views_seen = 0
        self._stamp_s: float | None = None
        self._warm_up()

    def estimate(self, frame: RgbdFrame, *, independent: bool = False) -> list[HandEstimate]:
        """Find the hands of a frame; see `HandEstimator`."""
        if min(frame.color.shape[:2]) < 1:
            return []
        with self._one_blas_thread():
            return self._estimate_single(frame) if independent else self._estimate_next(frame)

    def reset(self) -> None:
        """Forget every tracked hand."""
        self._tracks.forget()
        self._smoother.keep(set())
        self._stamp_s = None
        self._views_seen = self._frames_since_detection = 0

    def faces(self, handedness: str) -> np.ndarray:
        """(F, 3) int32 triangles of a side's mesh."""
        return self.model.faces(handedness)

    def close(self) -> None:
        """Forget every tracked hand; the networks go with the object."""
        self.reset()

    def _estimate_next(self, frame: RgbdFrame) -> list[HandEstimate]:
        stamp_s = frame.stamp_s
        if self._stamp_s is not None and stamp_s < self._stamp_s:
            self.reset()
        self._stamp_s = stamp_s
        self._look(frame)
        self._tracks.judge_sides()
        self._smoother.keep({track.track_id for track in self._tracks.tracks})
        return [self._finish(frame, track) for track in self._tracks.live]

    def _look(self, frame: RgbdFrame) -> None:
        """Renew the tracks: hands where they should be, and new ones where there is room for them."""
        self._follow(frame.color, frame.stamp_s)
        if self._detection_due():
            self._detect(frame.color, frame.stamp_s)

    def _follow(self, color: np.ndarray, stamp_s: float) -> None:
        tracks = self._tracks.to_follow()
        seen = self._landmarks.read(color, [track.next_region(stamp_s) for track in tracks])
        self._tracks.follow(tracks, seen, self.config.presence_threshold, stamp_s)

    def _detection_due(self) -> bool:
        """In every frame while a hand is missed or none is known, else in every Nth while hands are wanted."""
        self._frames_since_detection += 1
        live = len(self._tracks.live)
        if live >= self.config.max_hands:
            return False
        waited = self._frames_since_detection >= self.config.redetect_interval_frames
        return live == 0 or live < len(self._tracks.tracks) or waited

    def _detect(self, color: np.ndarray, stamp_s: float) -> None:
        """Look at the whole picture and its parts in turn; with no hand known, at two of them at once."""
        self._frames_since_detection = 0
        palms = self._detect_view(color)
        if not palms and not self._tracks.live:
            palms = self._detect_view(color)
        fresh = self._tracks.unknown_palms(palms)
        self._tracks.admit(self._read_palms(color, fresh), self.config.presence_threshold, stamp_s)

    def _detect_view(self, color: np.ndarray) -> list[PalmDetection]:
        """The whole picture every other time; in between its parts, then the whole with a border."""
        self._views_seen += 1
        threshold, border = self.config.detection_threshold, self.config.border_fraction
        if self._views_seen % 2:
            return self._detector.detect(color, threshold)
        parts = views_of(*color.shape[:2])[1:]
        part = (self._views_seen // 2) % (len(parts) + 1)
        if part < len(parts):
            return self._detector.detect(color, threshold, view=parts[part])
        return self._detector.detect(color, threshold, border)

    def _read_palms(self, color: np.ndarray, palms: list[PalmDetection], mirrored: bool = False) -> list[HandLandmarks]:
        regions = [region_from_palm(palm.box_px, palm.keypoints_px) for palm in palms]
        return self._landmarks.read(color, regions, average_mirrored=mirrored)

    def _finish(self, frame: RgbdFrame, track: HandTrack) -> HandEstimate:
        """Smooth one track's landmarks and fit the mesh to them."""
        memory = self._smoother.memory(track.track_id)
        landmarks = track.landmarks
        dt_s = 0.0 if memory.stamp_s is None else frame.stamp_s - memory.stamp_s
        memory.stamp_s = frame.stamp_s
        if dt_s > LONGEST_GAP_S:
            dt_s = 0.0
        size_px = hand_size_px(landmarks.landmarks_px)
        pixels = memory.pixels.update(landmarks.landmarks_px, dt_s, size_px)
        world = memory.world.update(landmarks.world_landmarks, dt_s, 0.1)
        side = track.handedness.side
        fit = self._fitter.fit(pixels, world, side, frame.intrinsics, frame.depth_m, memory.fit)
        memory.fit = fit.state
        fit = self._place(fit, landmarks, frame, memory, dt_s)
        hand = _estimate(fit, track.track_id, side, landmarks.presence, pixels, frame.intrinsics)
        return self._with_own_mesh(hand, landmarks, memory, dt_s)

    def _estimate_single(self, frame: RgbdFrame) -> list[HandEstimate]:
        found = self._find_alone(frame)
        hands = []
        for landmarks, side in zip(found, sides_alone(found, self._tracks.one_person)):
            pixels, world = landmarks.landmarks_px, landmarks.world_landmarks
            fit = self._fitter.fit(pixels, world, side, frame.intrinsics, frame.depth_m)
            fit = self._place(fit, landmarks, frame, None, 0.0)
            hand = _estimate(fit, next(self._single_ids), side, landmarks.presence, pixels, frame.intrinsics)
            hands.append(self._with_own_mesh(hand, landmarks, None, 0.0))
        return hands

    def _place(
        self, fit: HandFit, landmarks: HandLandmarks, frame: RgbdFrame, memory: TrackMemory | None, dt_s: float
    ) -> HandFit:
        """The fit, moved to where more than landmarks and depth puts it; here it stays."""
        return fit

    def _with_own_mesh(
        self, hand: HandEstimate, landmarks: HandLandmarks, memory: TrackMemory | None, dt_s: float
    ) -> HandEstimate:
        """The record with the reader's own mesh, where it has one; here the fitted one stays."""
        return hand

    def _find_alone(self, frame: RgbdFrame) -> list[HandLandmarks]:
        """Hands of a picture that stands alone: whole, with a border, in parts; then with a lower threshold."""
        config, color = self.config, frame.color
        views = views_of(*color.shape[:2])
        for threshold in (config.detection_threshold, min(config.detection_threshold, LAST_RESORT_THRESHOLD)):
            palms = [palm for view in views for palm in self._detector.detect(color, threshold, view=view)]
            if config.border_fraction > 0:
                palms += self._detector.detect(color, threshold, config.border_fraction)
            found: list[HandLandmarks] = []
            for hand in sorted(self._read_palms(color, palms), key=lambda item: -item.presence):
                if hand.presence >= config.presence_threshold and not any(is_same_hand(hand, other) for other in found):
                    found.append(hand)
            if found:
                return self._look_again(color, found[: config.max_hands])
        return []

    def _look_again(self, color: np.ndarray, hands: list[HandLandmarks]) -> list[HandLandmarks]:
        """Second, closer look in the regions that the first landmarks give."""
        regions = [region_from_landmarks(hand.landmarks_px) for hand in hands]
        closer = self._landmarks.read(color, regions, average_mirrored=self.config.average_mirrored)
        return [new if new.presence >= self.config.presence_threshold else old for new, old in zip(closer, hands)]

    def _warm_up(self) -> None:
        """Run everything once, so that the first frame is as fast as the others."""
        color = np.zeros((64, 64, 3), np.uint8)
        self._detector.detect(color)
        middle = PalmDetection(1.0, np.array([24.0, 24, 40, 40]), np.full((7, 2), 32.0))
        landmarks = self._read_palms(color, [middle])[0]
        self._fitter.fit(landmarks.landmarks_px, landmarks.world_landmarks, "right", CameraIntrinsics.from_fov(64, 64))


def _estimate(
    fit: HandFit, track_id: int, side: str, score: float, landmarks_px: np.ndarray, intrinsics: CameraIntrinsics
) -> HandEstimate:
    """Make the record of one fitted hand."""
    joints_px = project(fit.joints_camera, intrinsics)
    joints_px = np.where(np.isfinite(joints_px), joints_px, landmarks_px)
    return HandEstimate(
        track_id=track_id,
        handedness=side,
        score=score,
        joints_px=joints_px,
        box_px=np.concatenate([joints_px.min(0), joints_px.max(0)]),
        joints_camera=fit.joints_camera,
        vertices_camera=fit.vertices_camera,
        T_camera_wrist=fit.T_camera_wrist,
        bone_rotations=fit.bone_rotations,
        joint_angles=fit.joint_angles,
        shape=fit.shape,
        sigma_m=fit.sigma_m,
        depth_used=fit.depth_used,
        landmarks_camera=fit.landmarks_camera,
    )
