"""Hands: this project's estimator beside the `mediapipe` package, on the same pictures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from hoi_ros.bench.failures import BestAndWorst
from hoi_ros.bench.options import BenchOptions
from hoi_ros.bench.peers.environment import PeerMissing
from hoi_ros.bench.peers.mediapipe_hands import MediaPipeHands
from hoi_ros.bench.results import BenchResult, Curve, Figure, Row, milliseconds
from hoi_ros.bench.sheets import ContactSheet
from hoi_ros.datatypes import CameraIntrinsics, HandEstimate, RgbdFrame
from hoi_ros.evaluation import metrics
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.evaluation.matching import match_hands
from hoi_ros.evaluation.report import hand_report, mesh_report
from hoi_ros.geometry import project
from hoi_ros.hand import HandConfig, create_hand_estimator
from hoi_ros.hand.estimator import choose_estimator

VISIBLE = 0.2
"""Share of a hand that must be visible for it to be one that has to be found."""
PEER_BORDER = 0.25
"""Border, a share of the picture, that the peer gets where hands fill it."""
OURS, BEFORE_FIT = "hoi_ros", ", before the fit"


@dataclass(frozen=True)
class FoundHand:
    """What any method says of a hand."""

    side: str
    joints_px: np.ndarray
    joints_m: np.ndarray
    """(21, 3), in the camera frame, or about an origin of its own."""
    track: int = -1
    vertices_m: np.ndarray | None = None
    """(V, 3), in the frame of `joints_m`."""


@dataclass
class HandScore:
    """Collects what one method says of one sequence."""

    sequence: LabelledSequence
    absolute: bool
    """`joints_m` are in the camera frame."""
    faces: np.ndarray | None = None
    """(F, 3) triangles of a right hand's mesh; its vertices are judged where the labelled ones have the same."""
    joints: list[np.ndarray] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    joints_px: list[np.ndarray] = field(default_factory=list)
    truth_px: list[np.ndarray] = field(default_factory=list)
    vertices: list[np.ndarray] = field(default_factory=list)
    truth_vertices: list[np.ndarray] = field(default_factory=list)
    sides: list[str | None] = field(default_factory=list)
    truth_sides: list[str | None] = field(default_factory=list)
    circumstances: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Frame, hidden share, distance, speed of every judged hand."""
    tracks: list[tuple[int, str]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    extra: int = 0
    all_labelled: bool = False
    """Some frame so far has all its hands labelled."""
    extremes: BestAndWorst = field(default_factory=BestAndWorst)
    ms: list[float] = field(default_factory=list)
    _last: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A number of vertices tells no topology: this project's hand has as many as MANO.
        true_faces = self.sequence.hand_faces()
        self._same_mesh = self.faces is not None and true_faces is not None and np.array_equal(self.faces, true_faces)

    def add(self, labelled: LabelledFrame, hands: list[FoundHand], ms: float) -> None:
        """Judge one frame."""
        self.ms.append(ms)
        self.counts.append(len(hands))
        self.tracks += [(hand.track, hand.side) for hand in hands if hand.track >= 0]
        camera = labelled.frame.intrinsics
        known = [h for h in labelled.hands if np.isfinite(h.pixels(camera)).all(1).sum() >= 5]
        pairs = match_hands([hand.joints_px for hand in hands], [label.pixels(camera) for label in known])
        if labelled.all_hands_labelled:
            self.all_labelled = True
            self.extra += len(hands) - sum(i is not None for i in pairs)
        for label, i in zip(known, pairs):
            speed = self._speed(label, labelled.frame.index)
            if label.visible_fraction >= VISIBLE:
                self._judge(label, None if i is None else hands[i], labelled.frame, speed)

    def _judge(self, label: HandLabel, hand: FoundHand | None, frame: RgbdFrame, speed: float) -> None:
        nothing = np.full((21, 3), np.nan)
        true = nothing if label.joints_camera is None else np.asarray(label.joints_camera, np.float64)
        self.joints.append(nothing if hand is None else np.asarray(hand.joints_m, np.float64))
        self.truth.append(true)
        self.joints_px.append(nothing[:, :2] if hand is None else hand.joints_px)
        self.truth_px.append(label.pixels(frame.intrinsics))
        if self._same_mesh and label.vertices_camera is not None:
            skin = None if hand is None else hand.vertices_m
            self.truth_vertices.append(label.vertices_camera)
            self.vertices.append(np.full_like(label.vertices_camera, np.nan) if skin is None else skin)
        error, unit = float(metrics.mpjpe(self.joints_px[-1][None], self.truth_px[-1][None])[0]), "px"
        if hand is not None and np.isfinite(true).any():
            error, unit = float(metrics.pa_mpjpe(self.joints[-1][None], true[None])[0] * 1e3), "mm"
        self.extremes.offer(error, unit, frame, self.truth_px[-1], None if hand is None else hand.joints_px)
        self.sides.append(None if hand is None else hand.side)
        self.truth_sides.append(label.side)
        distance = float(np.nanmean(true[:, 2])) if np.isfinite(true).any() else float("nan")
        self.circumstances.append((frame.index, 1 - label.visible_fraction, distance, speed))

    def _speed(self, label: HandLabel, index: int) -> float:
        """Of the wrist, m/s; NaN without the frame before."""
        if label.joints_camera is None or self.sequence.independent_frames:
            return float("nan")
        key, wrist = str(label.side), label.joints_camera[0]
        before = self._last.get(key)
        self._last[key] = (index, wrist)
        if before is None or before[0] != index - 1:
            return float("nan")
        return float(np.linalg.norm(wrist - before[1]) * self.sequence.fps)

    def figures(self) -> dict[str, Figure]:
        """The row of the table."""
        out: dict[str, Figure] = {}
        if self.joints:
            in_space = [bool(np.isfinite(t).all(1).sum() >= 5) for t in self.truth]
            joints, truth = np.array(self.joints), np.array(self.truth)
            sides = [(p, t) for p, t in zip(self.sides, self.truth_sides) if t is not None]
            out |= hand_report(
                joints[in_space] if any(in_space) else None,
                truth[in_space] if any(in_space) else None,
                joints_px=np.array(self.joints_px),
                truth_px=np.array(self.truth_px),
                sides=[p for p, _ in sides] or None,
                truth_sides=[t for _, t in sides] or None,
                absolute=self.absolute,
            )
            if self.vertices:
                out |= mesh_report(np.array(self.vertices), np.array(self.truth_vertices))
            out["extra"] = self.extra if self.all_labelled else None
            out["jitter_m_s2"] = self._jitter()
        else:
            out |= {"frames": len(self.counts), "with_1_hand": sum(c >= 1 for c in self.counts)}
            out["with_2_hands"] = sum(c >= 2 for c in self.counts)
        if self.tracks:
            out["tracks"] = len({track for track, _ in self.tracks})
            out["flips"] = metrics.handedness_flips(*zip(*self.tracks))
        return out | milliseconds(self.ms)

    def _jitter(self) -> float | None:
        """Median acceleration error about the wrist over all runs of three frames in which a hand was found."""
        if self.sequence.independent_frames:
            return None
        values: list[float] = []
        for side in ("left", "right"):
            rows = [i for i, t in enumerate(self.truth_sides) if t == side]
            frames = np.array([self.circumstances[i][0] for i in rows])
            for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(frames) != 1) + 1):
                if len(part) >= 3:
                    chosen = [rows[i] for i in part]
                    p, t = (np.array([x[i] - x[i][:1] for i in chosen]) for x in (self.joints, self.truth))
                    values += list(metrics.acceleration_errors(p, t, self.sequence.fps))
        found = np.array(values)[np.isfinite(values)] if values else np.zeros(0)
        return float(np.median(found)) if len(found) else None

    def curve(self, method: str) -> Curve | None:
        """Errors of every judged hand beside its circumstances."""
        if not self.joints or not np.isfinite(np.array(self.truth)).any():
            return None
        joints, truth = np.array(self.joints), np.array(self.truth)
        frame, hidden, distance, speed = np.array(self.circumstances).T
        values = {
            "frame": frame, "hidden share": hidden, "distance m": distance, "speed m/s": speed,
            "PA-MPJPE mm": metrics.pa_mpjpe(joints, truth) * 1e3,
            "root-relative mm": metrics.root_relative_mpjpe(joints, truth) * 1e3,
        }  # fmt: skip
        if self.absolute:
            values["MPJPE mm"] = metrics.mpjpe(joints, truth) * 1e3
        return Curve("hands", self.sequence.name, method, values)


def estimator_configs(options: BenchOptions) -> dict[str, HandConfig]:
    """Methods of this project by their names in the tables; the default estimator is called after the project alone."""
    usual = choose_estimator(HandConfig())
    names = tuple(dict.fromkeys(options.estimators)) or (usual,)
    return {OURS if n == usual else f"{OURS} {n}": dataclasses.replace(HandConfig(), estimator=n) for n in names}


def bench_hands(options: BenchOptions, sequences: Sequence[LabelledSequence]) -> BenchResult:
    """Run every method on every sequence."""
    result = BenchResult()
    peer: MediaPipeHands | None = None
    if options.peers:
        try:
            peer = MediaPipeHands(options.peers_folder, install=options.install_peers)
        except PeerMissing as error:
            result.skipped.append(str(error))
    try:
        for sequence in sequences:
            scores = _run(options, sequence, peer)
            for method, score in scores.items():
                if score.counts:
                    result.rows.append(Row("hands", sequence.name, method, score.figures()))
                    if not method.endswith(BEFORE_FIT):
                        result.times.setdefault(f"hands: {method}", []).extend(score.ms)
                    curve = score.curve(method)
                    result.curves += [curve] if curve else []
    finally:
        if peer is not None:
            peer.close()
    return result


def _run(options: BenchOptions, sequence: LabelledSequence, peer: MediaPipeHands | None) -> dict[str, HandScore]:
    """All methods on one sequence, frame by frame."""
    estimators = {name: create_hand_estimator(c, options.device) for name, c in estimator_configs(options).items()}
    scores: dict[str, HandScore] = {}
    for name, estimator in estimators.items():
        scores[name] = HandScore(sequence, True, estimator.faces("right"))
        scores[name + BEFORE_FIT] = HandScore(sequence, True)
    if peer is not None:
        peer.reset()
        scores[f"{peer.name} {peer.version}"] = HandScore(sequence, False)
    count = min(len(sequence), options.frames) if options.frames else len(sequence)
    sheets = {name: ContactSheet(estimator, count) for name, estimator in estimators.items()}
    for number, labelled in enumerate(tqdm(sequence, total=count, desc=sequence.name, disable=options.quiet)):
        if number >= count:
            break
        frame = _given(labelled.frame, options.guessed_camera)
        for name, estimator in estimators.items():
            start = time.perf_counter()
            hands = estimator.estimate(frame, independent=sequence.independent_frames)
            ms = (time.perf_counter() - start) * 1e3
            scores[name].add(labelled, [_ours(h) for h in hands], ms)
            scores[name + BEFORE_FIT].add(labelled, [_landmarks(h, frame.intrinsics) for h in hands], ms)
            if options.out is not None:
                sheets[name].add(number, frame, hands)
        if peer is not None:
            border = PEER_BORDER if sequence.fills_picture else 0.0
            found, peer_ms = peer.find(frame.color, independent=sequence.independent_frames, border=border)
            scores[f"{peer.name} {peer.version}"].add(
                labelled, [FoundHand(h["side"], h["joints_px"], h["joints_m"]) for h in found], peer_ms
            )
    for name, estimator in estimators.items():
        estimator.close()
        if options.out is not None:
            file = f"{sequence.name}{name.removeprefix(OURS)}.jpg".replace("/", "_").replace(":", "_").replace(" ", "_")
            sheets[name].save(options.out / f"hands_{file}")
            scores[name].extremes.save(options.out / f"extremes_hands_{file}")
    if all(score.joints == [] for score in scores.values()):
        scores = {name: score for name, score in scores.items() if not name.endswith(BEFORE_FIT)}
    return scores


def _ours(hand: HandEstimate) -> FoundHand:
    return FoundHand(hand.handedness, hand.joints_px, hand.joints_camera, hand.track_id, hand.vertices_camera)


def _landmarks(hand: HandEstimate, intrinsics: CameraIntrinsics) -> FoundHand:
    joints = hand.joints_camera if hand.landmarks_camera is None else hand.landmarks_camera
    return FoundHand(hand.handedness, project(joints, intrinsics), joints, hand.track_id)


def _given(frame: RgbdFrame, guessed_camera: bool) -> RgbdFrame:
    if not guessed_camera:
        return frame
    height, width = frame.color.shape[:2]
    return dataclasses.replace(frame, intrinsics=CameraIntrinsics.from_fov(width, height))
