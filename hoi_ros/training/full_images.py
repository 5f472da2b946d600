"""Whole labelled pictures as batches for the one-stage network.

The frozen detector looks at each picture, and SimOTA gives its instances to the true hands. Pictures are mirrored half
of the time, so that left and right are learned together; hands known in 2D alone supervise weakly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets import LabelledFrame, LabelledSequence, open_dataset
from hoi_ros.hand.full_image_detectors import FullImageDetector, load_detector
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.losses import HandTargets
from hoi_ros.hand.one_stage import ChosenInstances, Picture, batch_pictures, choose_instances, scaled_picture
from hoi_ros.hand_model import HandModel, choose_hand_model
from hoi_ros.hand_model.model import MIRROR
from hoi_ros.training.hand_scores import draw_instances, score_batches
from hoi_ros.training.shard_batches import Batch
from hoi_ros.training.solid_truth import SolidTruth
from hoi_ros.training.train_handos import TrainingPlan

BOX_MARGIN = 1.2
"""A hand's box over that of its joints."""
LEAST_KNOWN = 5
SMALLER, GAIN = 0.75, 0.2
"""Smallest random scale of a picture, and how much brighter or darker it may become."""
SHOWN, SCORED = 4, 16
"""Pictures that are drawn, and batches of held-out ones that are scored."""


@dataclass(frozen=True)
class TrueHands:
    """What is known of G hands of one picture."""

    points_px: np.ndarray
    """(G, 21, 2) pixels; the hand's middle where a joint is unknown."""
    weights: np.ndarray
    """(G, 21) 1 where known."""
    solid: np.ndarray
    """(G,) bool: joints and vertices are known."""
    joints: np.ndarray
    """(G, 21, 3) metres about their mean."""
    vertices: np.ndarray
    """(G, V, 3) metres about the joints' mean."""
    middles: np.ndarray
    """(G, 3) metres, that mean in the camera."""

    def mirrored(self, width: int) -> TrueHands:
        """Of the picture seen in a mirror, so many pixels wide."""
        points = self.points_px * [-1.0, 1.0] + [width - 1.0, 0.0]
        solid = {name: getattr(self, name) * MIRROR for name in ("joints", "vertices", "middles")}
        return replace(self, points_px=points, **solid)

    def scaled(self, factor: np.ndarray) -> TrueHands:
        """Of the picture resized by a factor (2,) along x and y, which whole pixels make differ."""
        return replace(self, points_px=(self.points_px + 0.5) * factor - 0.5)

    @property
    def boxes_px(self) -> np.ndarray:
        """(G, 4) centre and size around the known joints."""
        known = self.weights[..., None] > 0
        low = np.where(known, self.points_px, np.inf).min(1)
        high = np.where(known, self.points_px, -np.inf).max(1)
        return np.concatenate([(low + high) / 2, np.maximum((high - low) * BOX_MARGIN, 2.0)], 1)


class FullImageBatches:
    """Batches of a data set's pictures; the same seed and step always give the same batch."""

    def __init__(
        self,
        folder: Path,
        detector: FullImageDetector,
        batch_size: int,
        *,
        seed: int = 0,
        image_side: int = 640,
        device: torch.device | str = "cpu",
        model: HandModel | None = None,
        held_out: Path | None = None,
        shippable: bool = False,
    ):
        """Open the data sets.

        Args:
            folder: a data set's own layout; its training part is taken.
            detector: looks at the pictures; stays as it is.
            batch_size: pictures a step.
            seed: of order, mirroring, scale and light.
            image_side: pixels of a picture's longer side.
            device: where the detector runs.
            model: whose vertices are learned; the free hand when None.
            held_out: another such folder, for scores.
            shippable: whether weights trained on these pictures may be handed on.

        Raises:
            InputError: no known layout, or no pictures.
        """
        self._detector = detector.to(device)
        self._items = _pictures_of(folder)
        self._held_out = [] if held_out is None else _pictures_of(held_out)
        self.batch_size, self._seed, self._side = batch_size, seed, image_side
        self._device, self._truth = torch.device(device), SolidTruth(model or HandModel.load())
        self.count = len(self._items)
        self.card: dict[str, Any] = {
            "data": folder.resolve().name, "shippable": shippable, "detector": detector.family,
            "image_side": image_side, "hand_model": self._truth.model.name,
        }  # fmt: skip

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0: pictures in another order each epoch."""
        steps = max(self.count // self.batch_size, 1)
        epoch, at = divmod(step, steps)
        order = np.random.default_rng([self._seed, epoch, 5]).permutation(self.count)
        rows = order[at * self.batch_size : (at + 1) * self.batch_size]
        rng = np.random.default_rng([self._seed, step, 6])
        views = [self._view(self._items[row], rng) for row in rows]
        return self._batch([picture for picture, _ in views], [hands for _, hands in views])[0]

    def score(self, network: HandOs, picture: Path) -> dict[str, float]:
        """Scores on held-out pictures, as they are, and a picture of answers; else a picture of training's."""
        items = self._held_out[: SCORED * self.batch_size] or self._items[:: -(-self.count // SHOWN)]
        made: list[tuple[Batch, ChosenInstances, Tensor]] = []

        def batches() -> Iterator[Batch]:
            for start in range(0, len(items), self.batch_size):
                views = [self._view(item, None) for item in items[start : start + self.batch_size]]
                batch, chosen, images = self._batch([p for p, _ in views], [h for _, h in views])
                if not made:
                    made.append((batch, chosen, images))
                yield batch

        scores, first = score_batches(network, batches())
        if first is not None:
            _, chosen, images = made[0]
            shown = (images[:SHOWN].permute(0, 2, 3, 1).cpu().numpy() * 255).astype(np.uint8)
            draw_instances(shown, first, [row.nonzero()[:, 0].tolist() for row in chosen.valid[:SHOWN].cpu()], picture)
        return scores if self._held_out else {}

    def _view(self, item: tuple[LabelledSequence, int], rng: np.random.Generator | None) -> tuple[Picture, TrueHands]:
        """One picture and its hands, changed at random where there is a generator."""
        sequence, number = item
        labelled = sequence[number]
        color, camera = labelled.frame.color, labelled.frame.intrinsics
        hands = self._true_hands(labelled, sequence.hand_faces())
        side = self._side
        if rng is not None:
            if rng.random() < 0.5:
                color = np.ascontiguousarray(color[:, ::-1])
                camera = replace(camera, cx=camera.width - 1 - camera.cx)
                hands = hands.mirrored(camera.width)
            side = round(side * rng.uniform(SMALLER, 1.0))
            gain = rng.uniform(1 - GAIN, 1 + GAIN) * (1 + 0.05 * rng.standard_normal(3))
            color = np.clip(color * gain, 0, 255).astype(np.uint8)
        picture = scaled_picture(color, camera, side)
        return picture, hands.scaled(np.array(picture.image.shape[1::-1]) / [camera.width, camera.height])

    def _true_hands(self, labelled: LabelledFrame, faces: np.ndarray | None) -> TrueHands:
        rows, vertex_count = [], self._truth.model.vertex_count
        for hand in labelled.hands:
            pixels = np.asarray(hand.pixels(labelled.frame.intrinsics), np.float64)
            known = np.asarray(np.isfinite(pixels).all(1))
            if known.sum() < LEAST_KNOWN:
                continue
            filled = np.where(known[:, None], pixels, np.nanmean(pixels, 0))
            solid = self._truth.of(labelled.frame, hand, filled, faces)
            joints, vertices = solid or (np.zeros((21, 3)), np.zeros((vertex_count, 3)))
            middle = joints.mean(0)
            rows.append((filled, known.astype(float), solid is not None, joints - middle, vertices - middle, middle))
        if not rows:
            empty = [np.zeros((0, *shape)) for shape in ((21, 2), (21,), (), (21, 3), (vertex_count, 3), (3,))]
            return TrueHands(empty[0], empty[1], empty[2].astype(bool), *empty[3:])
        return TrueHands(*(np.stack(column) for column in zip(*rows)))

    def _batch(self, pictures: list[Picture], hands: list[TrueHands]) -> tuple[Batch, ChosenInstances, Tensor]:
        images, cameras = batch_pictures(pictures, self._device)
        size = np.array(images.shape[:1:-1], np.float64)
        boxes = [_fractions(h.boxes_px, size) for h in hands]
        chosen = choose_instances(self._detector(images), [b.to(self._device) for b in boxes])
        return Batch(chosen.detection, cameras, _targets(chosen, hands, boxes, size)), chosen, images


def open_full_images(
    plan: TrainingPlan,
    data: Path,
    detector: Path,
    device: str,
    *,
    held_out: Path | None = None,
    shippable: bool = False,
) -> tuple[TrainingPlan, FullImageBatches]:
    """Batches of a data set before a detector, and the plan with the network sized for that detector.

    Raises:
        InputError: unknown detector or data folder, unreadable hand model, or a network that starts from landmarks.
    """
    if plan.network.from_landmarks:
        raise InputError("--detector: it knows no landmarks to start from; set network.base: paper in the config")
    eyes = load_detector(detector)
    batches = FullImageBatches(
        data, eyes, plan.training.batch_size, seed=plan.training.seed, image_side=plan.training.image_side,
        device=device, held_out=held_out, shippable=shippable, model=choose_hand_model(plan.training.hand_model),
    )  # fmt: skip
    channels: dict[str, Any] = dict(eyes.channels())
    return replace(plan, network=replace(plan.network, **channels)), batches


def _pictures_of(folder: Path) -> list[tuple[LabelledSequence, int]]:
    sequences = open_dataset(folder, training=True)
    items = [(sequence, k) for sequence in sequences for k in range(len(sequence))]
    if not items:
        raise InputError(f"training data {folder}: it holds no pictures; check the path")
    return items


def _fractions(boxes_px: np.ndarray, size: np.ndarray) -> Tensor:
    """Boxes (G, 4) of pixels, centre and size, as fractions of an image of `size` (width, height)."""
    flat = np.concatenate([(boxes_px[:, :2] + 0.5) / size, boxes_px[:, 2:] / size], 1)
    return torch.from_numpy(flat.astype(np.float32))


def _targets(chosen: ChosenInstances, hands: list[TrueHands], boxes: list[Tensor], size: np.ndarray) -> HandTargets:
    """Truth of each chosen instance; of padding, and of pictures without hands, nothing is known."""
    device, vertex_count = chosen.hands.device, hands[0].vertices.shape[1]
    shapes = {"points": (21, 2), "weights": (21,), "boxes": (4,), "solid": (), "joints": (21, 3),
              "vertices": (vertex_count, 3), "middles": (3,)}  # fmt: skip
    columns: dict[str, list[Tensor]] = {name: [] for name in shapes}
    for owner, true, box in zip(chosen.hands.cpu(), hands, boxes):
        values = {
            "points": (true.points_px + 0.5) / size, "weights": true.weights, "boxes": box.numpy(),
            "solid": true.solid, "joints": true.joints, "vertices": true.vertices, "middles": true.middles,
        }  # fmt: skip
        for name, shape in shapes.items():
            value = torch.from_numpy(np.asarray(values[name], np.float32))
            columns[name].append(value[owner] if len(value) else torch.zeros(len(owner), *shape))
    stacked = {name: torch.stack(parts).to(device) for name, parts in columns.items()}
    valid = chosen.valid.float()
    return HandTargets(
        stacked["points"],
        stacked["weights"] * valid[..., None],
        stacked["boxes"],
        (stacked["solid"] * valid) > 0,
        stacked["vertices"],
        stacked["joints"],
        stacked["middles"],
    )
