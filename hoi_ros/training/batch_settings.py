"""Settings of crops that are made in the training process."""

from __future__ import annotations

from dataclasses import dataclass

from hoi_ros.config import setting
from hoi_ros.training.feature_cache import EASY, HARD, SHARD_CROPS, SHARDS_TO_HARD
from hoi_ros.training.hand_crops import HELD_SHARE, SKINS


@dataclass(frozen=True)
class CropSettings:
    """What crops are made of."""

    skins: int = setting(SKINS, "painted skins", low=1)
    things: int = setting(48, "things that hands hold, with their holds; each takes a second or so to make", low=1)
    held_share: float = setting(HELD_SHARE, "share of poses drawn to hold something", low=0, high=1)
    backgrounds: str = setting("", "folder of photos to put behind the hands; none are rooms, noise and shapes")
    crops_at_once: int = setting(128, "crops made at once, which bounds memory", low=1)


@dataclass(frozen=True)
class StreamConfig(CropSettings):
    """Crops for training, harder as it goes on."""

    easy: float = setting(EASY, "harshness of the hardest crop at first", low=0, high=1)
    hard: float = setting(HARD, "and later", low=0, high=1)
    crops_to_hard: int = setting(SHARDS_TO_HARD * SHARD_CROPS, "crops until then", low=1)
    spare_share: float = setting(
        0.2, "more crops are made than trained on, as the detector sees no hand in some", low=0, high=4
    )
    score_crops: int = setting(256, "held-out crops for scores", low=8)
