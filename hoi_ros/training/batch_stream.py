"""Training data that is made as it is needed, on the training device: crops, seen by the frozen landmark network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hoi_ros.errors import InputError
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand_model import HandModel, choose_hand_model
from hoi_ros.training.batch_crops import BatchCropSource, CropBatch
from hoi_ros.training.batch_features import BatchFeatures
from hoi_ros.training.batch_settings import StreamConfig
from hoi_ros.training.feature_cache import LABELS, PICTURES, SMALL_SEGMENTS, synthetic_card
from hoi_ros.training.hand_crops import UNKNOWN
from hoi_ros.training.hand_scores import draw_instances, score_batches, score_shard
from hoi_ros.training.shard_batches import Batch, batch_of
from hoi_ros.training.training_data import TrainingData

if TYPE_CHECKING:
    from hoi_ros.training.train_handos import TrainingPlan

HELD_OUT = 1 << 40
"""Numbers of held-out batches begin here, where no training arrives."""
LEAST_PRESENCE, SCORED_AT_ONCE = 0.5, 64


class StreamBatches:
    """Batches by step: seed and step decide everything, so a run that was killed goes on with the same crops."""

    count = 0
    """Of shards: there are none."""

    def __init__(
        self,
        config: StreamConfig,
        batch_size: int,
        seed: int,
        device: str = "cpu",
        *,
        detail: bool = False,
        held_out: Path | None = None,
        shippable: bool = False,
        model: HandModel | None = None,
    ):
        """Build and upload what crops are made of.

        Args:
            config: what they look like.
            batch_size: crops a step.
            seed: of everything random.
            device: of torch.
            detail: keep finer feature maps too.
            held_out: a shard for scores.
            shippable: whether weights trained on the photos of `config.backgrounds` may be handed on.
            model: the hand in the crops; the free hand when None.

        Raises:
            InputError: a hand model that is not made in batches.
        """
        self.config, self.batch_size, self.seed = config, batch_size, seed
        self.card: dict[str, Any] = {
            **synthetic_card(bool(config.backgrounds), shippable),
            "stream": asdict(config),
        }
        self._source = BatchCropSource(seed, config, device, model)
        self._features = BatchFeatures(device, detail)
        self._shard = held_out
        self._held_out: tuple[list[Batch], np.ndarray] | None = None

    def batch(self, step: int, stage: Callable[[str], None] = lambda name: None) -> Batch:
        """The batch of a step, counted from 0."""
        config, drawn = self.config, math.ceil(self.batch_size * (1 + self.config.spare_share))
        progress = min(step * self.batch_size / config.crops_to_hard, 1.0)
        top = config.easy + (config.hard - config.easy) * progress
        levels = np.random.default_rng([self.seed, 23, step]).uniform(0, top, drawn)
        crops = self._source.crops(step, levels, stage)
        batch = batch_of(chosen(self._seen(crops), self.batch_size))
        stage("features")
        return batch

    def score(self, network: HandOs, picture: Path) -> dict[str, float]:
        """PA errors and more on held-out crops, as hard as they get; they are made once."""
        if self._shard is not None:
            return score_shard(network, self._shard, picture)
        if self._held_out is None:
            self._held_out = self._make_held_out()
        batches, images = self._held_out
        scores, first = score_batches(network, batches)
        if first is not None:
            draw_instances(images, first, [[0]] * len(images), picture)
        return scores

    def _make_held_out(self) -> tuple[list[Batch], np.ndarray]:
        """Batches, and the first pictures (P, S, S, 3) of the first one."""
        batches, images = [], np.zeros(0)
        for part, low in enumerate(range(0, self.config.score_crops, SCORED_AT_ONCE)):
            count = min(SCORED_AT_ONCE, self.config.score_crops - low)
            levels = np.random.default_rng([self.seed, 24, part]).uniform(0, self.config.hard, count)
            crops = self._source.crops(HELD_OUT + part, levels)
            images = images if part else crops.images[:PICTURES].permute(0, 2, 3, 1).cpu().numpy()
            batches.append(batch_of(chosen(self._seen(crops), count, reorder=False)))
        return batches, images

    def _seen(self, crops: CropBatch) -> dict[str, Tensor]:
        """Features and labels by the names of a shard's arrays."""
        tensors = self._features.read(crops.images)
        tensors |= {name: getattr(crops, name) for name in LABELS}
        step = crops.segments.shape[1] // SMALL_SEGMENTS
        return tensors | {"segments": crops.segments[:, step // 2 :: step, step // 2 :: step]}


def chosen(tensors: dict[str, Tensor], count: int, *, reorder: bool = True) -> dict[str, Tensor]:
    """The first `count` rows in which the landmark network saw a hand, without asking the device which they are.

    Where they are too few, others fill up, and say that nothing is known of them.
    """
    seen = tensors["presence"][:, 0] > LEAST_PRESENCE
    if reorder:
        rows = torch.argsort(seen.int(), descending=True, stable=True)[:count]
        tensors, seen = {name: values[rows] for name, values in tensors.items()}, seen[rows]
    return tensors | {
        "joint_weights": tensors["joint_weights"] * seen[:, None],
        "has_3d": tensors["has_3d"] & seen,
        "segments": torch.where(seen[:, None, None], tensors["segments"], UNKNOWN),
    }


def open_stream(
    plan: TrainingPlan, data: Path | None, device: str, *, shippable: bool = False
) -> tuple[TrainingPlan, TrainingData]:
    """The plan with the stream's settings, and the stream.

    Args:
        plan: of the run; without settings of a stream it gets the usual ones.
        data: folder with shards in `held_out`, for scores; None makes crops for that too.
        device: of torch.
        shippable: whether weights trained on the photos of `stream.backgrounds` may be handed on.

    Raises:
        InputError: no held-out shard there, unreadable photos for backgrounds, or a hand model that is not free.
    """
    config, training = plan.stream or StreamConfig(), plan.training
    shard = None
    if data is not None:
        shard = next(iter(sorted((data / "held_out").glob("shard_*.npz"))), None)
        if shard is None:
            raise InputError(f"training data {data}: with --stream it is for scores, and has no held_out/shard_*.npz")
    torch.set_num_threads(training.threads)
    detail = bool(plan.network.detail_channels)
    stream = StreamBatches(
        config, training.batch_size, training.seed, device, detail=detail, held_out=shard, shippable=shippable,
        model=choose_hand_model(training.hand_model),
    )  # fmt: skip
    return replace(plan, stream=config), stream
