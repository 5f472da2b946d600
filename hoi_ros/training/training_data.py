"""Where a run's batches come from: shards of crops, or whole pictures before a frozen detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from hoi_ros.errors import InputError
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.model import FREE_HAND_NAME
from hoi_ros.training.feature_cache import read_card
from hoi_ros.training.hand_scores import draw_shard, score_shard
from hoi_ros.training.shard_batches import Batch, ShardBatches


class TrainingData(Protocol):
    """Batches by number, and what is known of the data."""

    count: int
    """Shards or pictures; a resumed run needs as many."""
    card: dict[str, Any]
    """What it was made of (`data`), whether weights trained on it may be handed on (`shippable`), whose vertices it has
    (`hand_model`), and more."""

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0; the same whenever it is asked for."""
        ...

    def score(self, network: HandOs, picture: Path) -> dict[str, float]:
        """Scores on held-out data, and a picture of answers; where there is none, a picture of training data alone."""
        ...


def check_hand(card: dict[str, Any], model: HandModel) -> None:
    """Refuse data whose vertices are another hand model's, which may have as many.

    Raises:
        InputError: naming both.
    """
    found = card.get("hand_model", FREE_HAND_NAME)
    if found != model.name:
        raise InputError(
            f"training data '{card.get('data', 'unknown')}': its vertices are those of the hand model '{found}', "
            f"expected '{model.name}': make it with the same --hand-model as training.hand_model"
        )


class ShardData(ShardBatches):
    """Shards of one folder; those of its folder `held_out` are for scores."""

    def __init__(self, folder: Path, batch_size: int, seed: int, count: int = 0):
        super().__init__(folder, batch_size, seed, count)
        self.count, self.card = len(self.paths), read_card(folder)
        self._held_out = next(iter(sorted((folder / "held_out").glob("shard_*.npz"))), None)

    def score(self, network: HandOs, picture: Path) -> dict[str, float]:
        """PA errors and more on the first held-out shard; without one, a picture of the first shard."""
        if self._held_out is not None:
            return score_shard(network, self._held_out, picture)
        draw_shard(network, self.paths[0], picture)
        return {}
