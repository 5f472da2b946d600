"""Pairs of views of held things with exact pointmaps, made by the simulator as fast as they are used.

Pair number i is the same whenever it is asked for: training resumes where it stopped and shuffles nothing.

The motion between the views is the object's. A hand's pixels of the second view have a point only where that hand holds
the object as it did in the first view; a hand that took it anew, slipped along it or let go says nothing of its motion.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hoi_ros.config import setting
from hoi_ros.datatypes import LABEL_BACKGROUND, LABEL_LEFT_HAND, LABEL_OBJECT, LABEL_RIGHT_HAND, RgbdFrame
from hoi_ros.geometry import invert_transform, rotation_angle, transform_points
from hoi_ros.simulation import Simulator, SimulatorConfig, object_names
from hoi_ros.simulation.objects import load_object
from hoi_ros.simulation.scene_grasp import GraspScene
from hoi_ros.tracking.pointmap_crop import CropCamera, hide_background, look_at_box
from hoi_ros.training.pointmap_appearance import PairLook, backdrop, photographed
from hoi_ros.training.pointmap_shapes import write_random_object

OBJECT_CLASS, HAND_CLASS = 1, 2
HAND_LABELS = {"left": LABEL_LEFT_HAND, "right": LABEL_RIGHT_HAND}


@dataclass(frozen=True)
class PairConfig:
    """What the training pairs look like."""

    seed: int = setting(0, "same seed, same pairs", low=0)
    picture_width: int = setting(320, "width of the simulated pictures", low=96, high=1280)
    frames_per_sequence: int = setting(24, "pictures made of each held thing", low=2)
    pairs_per_sequence: int = setting(96, "pairs drawn before a thing is replaced", low=1)
    open_sequences: int = setting(8, "things held at a time; consecutive pairs show different ones", low=1)
    built_in_share: float = setting(0.0, "share of built-in objects among the random ones", low=0.0, high=1.0)
    handover_share: float = setting(0.15, "share of sequences with two hands", low=0.0, high=1.0)
    regrasp_share: float = setting(
        0.2, "share of sequences in which a thing is lifted, put down, taken anew and handed over", low=0.0, high=1.0
    )
    grip_slip_m: float = setting(
        0.01, "mean shift of a hand's joints against the thing from which its grip counts as another", low=0.0, high=1.0
    )
    max_turn_deg: float = setting(75.0, "largest rotation of the object between the two views", low=1.0, high=180.0)
    roll_deg: float = setting(40.0, "largest turn of each crop about its axis", low=0.0, high=180.0)
    masked_share: float = setting(0.5, "share of pairs whose background is hidden", low=0.0, high=1.0)
    new_background_share: float = setting(0.6, "share of pictures whose background is replaced", low=0.0, high=1.0)
    harshness: float = setting(0.6, "how hard exposure, blur and noise are, 0 to 1", low=0.0, high=1.0)


@dataclass(frozen=True)
class Pair:
    """Two views of one held thing; index 0 of every array is the view."""

    pictures: np.ndarray
    """(2, S, S, 3) uint8 RGB."""
    points: np.ndarray
    """(2, S, S, 3) float32, first view's frame: about the crop's middle at the thing's depth, in half crop sides."""
    valid_mask: np.ndarray
    """(2, S, S) bool: pixels of hand or object that have a point; the second view's hands in another grip have none."""
    classes: np.ndarray
    """(2, S, S) uint8: 0 background, 1 object, 2 hand."""
    T_first_second: np.ndarray
    """(4, 4) truth: takes the object's points from the second crop's frame to the first's, metres."""
    half_m: float
    """Half a crop side of the first view in metres at its middle: the unit of the points."""
    depth_m: float
    """Depth of the middle, the points' origin, metres along the first crop's axis."""


class PairStream:
    """Pair i, for any i at least 0; nearby numbers are cheap."""

    def __init__(self, size_px: int, config: PairConfig | None = None) -> None:
        """Pairs of crops with `size_px` pixels a side."""
        self.config = config or PairConfig()
        self._size = size_px
        self._sequences: dict[int, list[RgbdFrame]] = {}

    def pair(self, number: int) -> Pair:
        """Make pair `number`."""
        config = self.config
        slot, turn = number % config.open_sequences, number // config.open_sequences
        # Slots change their thing one after another, so that the work is spread evenly.
        shift = slot * config.pairs_per_sequence // config.open_sequences
        sequence = (turn + shift) // config.pairs_per_sequence * config.open_sequences + slot
        rng = np.random.default_rng([config.seed, 41, number])
        frames = self._frames(slot, sequence)
        while True:
            pair = make_pair(frames, self._size, rng, config)
            if pair is not None:
                return pair

    def _frames(self, slot: int, sequence: int) -> list[RgbdFrame]:
        if sequence not in self._sequences:
            self._sequences = {k: v for k, v in self._sequences.items() if k % self.config.open_sequences != slot}
            self._sequences[sequence] = make_sequence(sequence, self.config)
        return self._sequences[sequence]


def make_sequence(number: int, config: PairConfig) -> list[RgbdFrame]:
    """Pictures of a new thing in a new hand, over the whole course of the scene; only those that show the thing."""
    rng = np.random.default_rng([config.seed, 42, number])
    scene = _scene(float(rng.random()), config)
    settings = SimulatorConfig(
        seed=int(rng.integers(1 << 30)), width=config.picture_width, height=config.picture_width * 3 // 4,
        depth_noise=False, moving_camera=bool(rng.random() < 0.2), light_changes=True,
        hand_shape_seed=int(rng.integers(1 << 30)), sensor_noise=0.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="hoi_pairs_") as folder:
        if rng.random() < config.built_in_share:
            item = str(rng.choice(object_names()))
        else:
            item = str(write_random_object(Path(folder) / f"thing_{number}.ply", int(rng.integers(1 << 30))))
        simulator = Simulator(f"{scene}:{item}", settings)
        load_object.cache_clear()
    moments = _held_moments(simulator)
    step = len(moments) / config.frames_per_sequence
    indices = [int(moments[int((k + rng.random()) * step)]) for k in range(config.frames_per_sequence)]
    frames = [simulator.frame(index) for index in indices]
    return [f for f in frames if f.truth is not None and (f.truth.labels == LABEL_OBJECT).sum() > 40]


def _scene(drawn: float, config: PairConfig) -> str:
    """Name of a sequence's scene by a number drawn evenly from 0 to 1."""
    if drawn < config.handover_share:
        return "handover"
    return "grasp" if drawn < config.handover_share + config.regrasp_share else "rotate"


def _held_moments(simulator: Simulator) -> np.ndarray:
    """Numbers of a loop's frames in which a hand holds the thing."""
    moments = np.arange(simulator.loop_frames)
    if not isinstance(simulator.scene, GraspScene):
        return moments
    times = moments / simulator.loop_frames * simulator.scene.period_s
    return moments[[bool(simulator.scene.held_by(float(time))) for time in times]]


def make_pair(frames: Sequence[RgbdFrame], size_px: int, rng: np.random.Generator, config: PairConfig) -> Pair | None:
    """Draw two pictures and cut them; None when the draw does not suit and another must be tried."""
    if len(frames) < 2:
        raise ValueError("make_pair: the sequence shows its thing in fewer than two pictures")
    first, second, poses = _draw(frames, rng, config)
    crops = [_random_crop(f, size_px, rng, config) for f in (first, second)]
    masked, look = rng.random() < config.masked_share, PairLook.drawn(rng)
    pictures, classes, depths, seen = [], [], [], []
    for frame, crop in zip((first, second), crops):
        assert frame.truth is not None
        labels = crop.cut(frame.truth.labels, nearest=True)
        label = np.where(labels == LABEL_OBJECT, OBJECT_CLASS, np.where(labels > LABEL_OBJECT, HAND_CLASS, 0))
        depths.append(crop.depth_along_crop(crop.cut(frame.truth.depth_m, nearest=True)))
        classes.append(label.astype(np.uint8))
        pictures.append(_picture(frame, crop, label > 0, masked, look, rng, config))
        seen.append(labels)
    valid = np.stack([(c > 0) & (d > 0) for c, d in zip(classes, depths)])
    if min(valid.sum((1, 2))) < 0.02 * size_px**2 or min((c == OBJECT_CLASS).sum() for c in classes) < 12:
        return None
    for hand_label in other_grips(first, second, config.grip_slip_m):
        valid[1] &= seen[1] != hand_label
    return _finished(pictures, classes, depths, valid, crops, poses)


def other_grips(first: RgbdFrame, second: RgbdFrame, slip_m: float) -> list[int]:
    """Labels of hands whose joints lie elsewhere against the object than in the first frame, by `slip_m` on average."""
    before, after = _joints_object(first), _joints_object(second)
    return [
        label
        for label, joints in after.items()
        if label not in before or np.linalg.norm(joints - before[label], axis=1).mean() > slip_m
    ]


def _joints_object(frame: RgbdFrame) -> dict[int, np.ndarray]:
    """Label of each hand to its joints (21, 3), object frame, metres."""
    assert frame.truth is not None
    T_object_camera = invert_transform(next(iter(frame.truth.T_camera_object.values())))
    hands = frame.truth.hands
    return {HAND_LABELS[hand.handedness]: transform_points(T_object_camera, hand.joints_camera) for hand in hands}


def _draw(
    frames: Sequence[RgbdFrame], rng: np.random.Generator, config: PairConfig
) -> tuple[RgbdFrame, RgbdFrame, list[np.ndarray]]:
    """Two pictures whose turn of the object lies as near as can be to an angle drawn evenly; and their poses."""
    poses = np.stack([next(iter(f.truth.T_camera_object.values())) for f in frames if f.truth is not None])
    one = int(rng.integers(len(frames)))
    turned = np.degrees(rotation_angle(poses[:, :3, :3] @ poses[one, :3, :3].T))
    gap = np.abs(turned - rng.uniform(0, config.max_turn_deg))
    gap[one] = np.inf
    other = int(np.argmin(gap))
    return frames[one], frames[other], [poses[one], poses[other]]


def _finished(pictures, classes, depths, valid, crops: list[CropCamera], poses: list[np.ndarray]) -> Pair:
    turns = []
    for crop in crops:
        turn = np.eye(4)
        turn[:3, :3] = crop.R_camera_crop
        turns.append(turn)
    T_first_second = invert_transform(turns[0]) @ poses[0] @ invert_transform(poses[1]) @ turns[1]
    depth = float(np.median(depths[0][valid[0]]))
    half = depth * crops[0].half_tangent
    clouds = [crop.pointmap(d) for crop, d in zip(crops, depths)]
    clouds[1] = clouds[1] @ T_first_second[:3, :3].T + T_first_second[:3, 3]
    points = ((np.stack(clouds) - [0, 0, depth]) / half).astype(np.float32)
    points[~valid] = 0
    return Pair(np.stack(pictures), points, valid, np.stack(classes), T_first_second, half, depth)


def _random_crop(frame: RgbdFrame, size_px: int, rng: np.random.Generator, config: PairConfig) -> CropCamera:
    """A crop around hand and object as a tracker would place it: not quite right."""
    assert frame.truth is not None
    rows, columns = np.nonzero(frame.truth.labels != LABEL_BACKGROUND)
    low, high = np.array([columns.min(), rows.min()], float), np.array([columns.max() + 1, rows.max() + 1], float)
    middle, half = (low + high) / 2, np.full(2, (high - low).max() / 2)
    middle = middle + rng.uniform(-0.12, 0.12, 2) * half
    box = np.concatenate([middle - half, middle + half])
    roll = np.radians(config.roll_deg) * rng.uniform(-1, 1)
    return look_at_box(box, frame.intrinsics, size_px, margin=float(rng.uniform(0.95, 1.35)), roll_rad=float(roll))


def _picture(
    frame: RgbdFrame, crop: CropCamera, front: np.ndarray, masked: bool, look: PairLook, rng, config: PairConfig
):
    """The crop (S, S, 3) uint8 as a camera might have taken it somewhere else."""
    picture = crop.cut(frame.color).astype(np.float32)
    if rng.random() < config.new_background_share:
        soft = cv2.GaussianBlur(front.astype(np.float32), (0, 0), 0.7)[..., None]
        picture = soft * picture + (1 - soft) * backdrop(rng, crop.size_px)
    out = photographed(look.apply(picture), rng, config.harshness)
    if masked:
        reach = int(rng.integers(0, 4))
        wide = cv2.dilate(front.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
        out = hide_background(out, wide)
    return out
