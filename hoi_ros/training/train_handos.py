"""Training of HandOS: steps, curves, checkpoints, pictures; a killed run goes on exactly where it was."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hoi_ros.config import make_config, setting
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.hand.embedded_features import COMPACT
from hoi_ros.hand.handos import HandOs
from hoi_ros.hand.handos_config import HandOsConfig
from hoi_ros.hand.handos_topology import build_topology
from hoi_ros.hand.handos_weights import save_weights
from hoi_ros.hand.losses import HandOsLoss, LossWeights
from hoi_ros.hand.weights_file import read_weights
from hoi_ros.hand_model import HandModel, choose_hand_model
from hoi_ros.hand_model.model import FREE_HAND_NAME
from hoi_ros.training.batch_settings import StreamConfig
from hoi_ros.training.training_data import ShardData, TrainingData, check_hand
from hoi_ros.training.training_pictures import draw_curves

CHECKPOINT, WEIGHTS, CURVES = "checkpoint.pt", "handos.npz", "losses.csv"
FIRST_PICTURE = 50
"""Step of the first picture: early enough to see a wrong set-up."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train."""

    steps: int = setting(4000, "steps in all", low=1)
    batch_size: int = setting(32, "hands a step", low=1)
    learning_rate: float = setting(5e-4, "highest rate; it rises, then falls as a cosine", low=0.0)
    warm_up_steps: int = setting(100, "steps until the highest rate", low=0)
    weight_decay: float = setting(0.02, "of AdamW", low=0.0)
    clip_norm: float = setting(1.0, "longest gradient", low=1e-6)
    seed: int = setting(0, "of everything random", low=0)
    bfloat16: bool = setting(True, "layers in bfloat16: several times faster on newer processors and GPUs")
    checkpoint_steps: int = setting(200, "steps between checkpoints", low=1)
    score_steps: int = setting(500, "steps between pictures, and scores on held-out data", low=1)
    threads: int = setting(2, "CPU threads", low=1)
    image_side: int = setting(640, "with a full-image detector: pixels of a picture's longer side", low=64)
    start_from: str = setting("", "checkpoint (.pt) or weights (.npz) to start from: the second stage, or more heads")
    start_share: float = setting(
        0.0, "share of the weights it started from in those that are written: less of what is new", low=0.0, high=1.0
    )
    hand_model: str = setting("", "path of a licensed MANO file whose vertices are learned; empty for the free hand")
    heads_only: bool = setting(False, "train the contact and mask heads alone, everything else stays as it is")


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that a run depends on."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    network: HandOsConfig = COMPACT
    loss: LossWeights = field(default_factory=LossWeights)
    stream: StreamConfig | None = None
    """Crops made in the training process; None trains on data made before."""


PARTS: dict[str, Any] = {**vars(TrainingPlan()), "stream": StreamConfig()}
"""Parts of a config file with their defaults."""
BASES = {"compact": COMPACT, "paper": HandOsConfig()}
"""Sizes that `network.base` stands for."""


def read_plan(path: Path | None) -> TrainingPlan:
    """A plan from a YAML file with the parts `training`, `network`, `loss` and `stream`.

    What is not there keeps its default; without a part `stream` no crops are made in the training process.

    Raises:
        InputError: unreadable file, unknown part or setting, value out of range.
    """
    import yaml

    if path is None:
        return TrainingPlan()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"training config {path}: {error.strerror}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"training config {path} is not YAML; see config/handos_compact.yaml") from error
    if not isinstance(content, dict) or not set(content) <= set(PARTS):
        raise InputError(f"training config {path}: its parts are training, network, loss and stream")
    made: dict[str, Any] = {}
    for part, values in content.items():
        if not isinstance(values or {}, dict):
            raise InputError(f"training config {path}: '{part}' needs lines 'name: value' below it")
        values = dict(values or {})
        if part == "network":
            base = str(values.pop("base", "compact"))
            if base not in BASES:
                raise InputError(f"training config {path}: {unknown_name('network.base', base, BASES)}")
            values = asdict(BASES[base]) | values
        made[part] = make_config(type(PARTS[part]), values, where=str(path))
    return TrainingPlan(**made)


class HandOsTrainer:
    """One run in one folder."""

    def __init__(
        self,
        plan: TrainingPlan,
        data: Path | TrainingData,
        out: Path,
        device: str = "cpu",
        model: HandModel | None = None,
    ):
        """Take up the run of a folder, or begin one.

        Args:
            plan: settings.
            data: folder of shards, or another source of batches that fit the network.
            out: folder of the run.
            device: of torch.
            model: the hand that is learned; None takes the plan's.

        Raises:
            InputError: settings that do not go together, other settings than the folder's, damaged files, data or first
                weights of another hand model.
        """
        self.plan, self.out, self.device = plan, out, torch.device(device)
        config = plan.training
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.model = model or choose_hand_model(config.hand_model)
        topology = build_topology(self.model, plan.network.coarse_vertices)
        self.network = HandOs(plan.network, topology).to(self.device)
        if config.heads_only:
            self._freeze_but_heads()
        self.loss = HandOsLoss(topology.faces, plan.loss)
        learned = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, lr=0.0, weight_decay=config.weight_decay)
        self.step, self._start_shippable = 0, True
        out.mkdir(parents=True, exist_ok=True)
        count = self._resume()
        if config.start_share and not config.start_from:
            raise InputError("training.start_share: set training.start_from too")
        self._start: dict[str, torch.Tensor] = {}
        if config.start_from and (not self.step or config.start_share):
            self._start = self._read_start(Path(config.start_from))
        if not self.step:
            self.network.load_state_dict(self._start, strict=False)
        if isinstance(data, Path):
            data = ShardData(data, config.batch_size, config.seed, count)
        elif count and data.count != count:
            raise InputError(f"training data: {data.count} pictures, {count} when training began")
        check_hand(data.card, self.model)
        self.batches: TrainingData = data

    def train(self, on_step: Callable[[int, float], None] = lambda step, loss: None) -> None:
        """Run to the last step, then write the weights.

        Args:
            on_step: called after each step with its number and loss.
        """
        config = self.plan.training
        while self.step < config.steps:
            total, terms = self._train_step()
            self.step += 1
            self._log(total, terms)
            on_step(self.step, total)
            if self.step == FIRST_PICTURE or self.step % config.score_steps == 0:
                self._score()
            if self.step % config.checkpoint_steps == 0 or self.step == config.steps:
                self.save()
        draw_curves(self.out / CURVES, self.out / "curves.png")

    def learning_rate(self, step: int) -> float:
        """Rate of a step: a straight rise, then a cosine down to a hundredth."""
        config = self.plan.training
        rise = min(1.0, (step + 1) / max(config.warm_up_steps, 1))
        return config.learning_rate * rise * (0.505 + 0.495 * math.cos(math.pi * step / config.steps))

    def save(self) -> None:
        """Write checkpoint and weights, so that a kill in between leaves whole files."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch_random": torch.get_rng_state(),
            "device_random": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "plan": asdict(self.plan),
            "shards": self.batches.count,
            "shippable": self._shippable,
        }
        unfinished = self.out / (CHECKPOINT + ".part")
        torch.save(state, unfinished)
        os.replace(unfinished, self.out / CHECKPOINT)
        card = {
            **self.batches.card,
            "shippable": self._shippable,
            "shards": self.batches.count,
            "step": self.step,
            # Weights are handed on: files that they come from by name, not by where they lay.
            "training": asdict(self.plan.training)
            | {name: Path(getattr(self.plan.training, name)).name for name in ("start_from", "hand_model")},
        }
        unfinished = self.out / (WEIGHTS + ".part")
        save_weights(unfinished, self.network, card, self._start, self.plan.training.start_share)
        os.replace(unfinished, self.out / WEIGHTS)

    @property
    def _shippable(self) -> bool:
        """Whether the weights may be handed on: licences of data, first weights and hand model allow it."""
        return bool(self.batches.card.get("shippable")) and self._start_shippable and self.model.name == FREE_HAND_NAME

    def _train_step(self) -> tuple[float, dict[str, float]]:
        config = self.plan.training
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step)
        batch = self.batches.batch(self.step)
        batch = batch.to(self.device)
        self.network.train(not config.heads_only)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            outputs = self.network(batch.detection, batch.camera, every_layer=not config.heads_only)
        outputs = outputs[-1:] if config.heads_only else outputs
        total, terms = self.loss(outputs, batch.targets)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        self.optimizer.step()
        return float(total.detach()), {name: float(value) for name, value in terms.items()}

    def _log(self, total: float, terms: dict[str, float]) -> None:
        path = self.out / CURVES
        row = {"step": self.step, "seconds": round(time.time(), 1), "total": total, **terms}
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if fresh:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) and k != "seconds" else v for k, v in row.items()})

    def _score(self) -> None:
        """A picture, and where there is held-out data a line of scores on it."""
        found = self.batches.score(self.network, self.out / f"pictures_{self.step:06d}.png")
        if not found:
            return
        scores = {"step": self.step} | found
        with (self.out / "scores.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(scores) + "\n")

    def _resume(self) -> int:
        """Take up the folder's checkpoint when there is one; the number of shards it was made with, else 0."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return 0
        state = _read_checkpoint(path)
        if _comparable(state["plan"]) != _comparable(asdict(self.plan)):
            raise InputError(
                f"checkpoint {path} was made with other settings: give another --out, or the same settings"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_random"])
        if state.get("device_random") is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["device_random"], self.device)
        self._start_shippable = bool(state.get("shippable", True))
        self.step = int(state["step"])
        self._cut_curves()
        return int(state["shards"])

    def _cut_curves(self) -> None:
        """Drop curve rows of steps after the checkpoint: they are run again."""
        path = self.out / CURVES
        if path.exists():
            head, *rows = path.read_text(encoding="utf-8").splitlines()
            kept = [row for row in rows if row.split(",")[0].isdigit() and int(row.split(",")[0]) <= self.step]
            path.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")

    def _freeze_but_heads(self) -> None:
        heads = [name for name, _ in self.network.named_parameters() if _of_heads(name)]
        if not heads:
            raise InputError("training.heads_only: set network.contact_head or network.mask_channels too")
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in heads)

    def _read_start(self, path: Path) -> dict[str, torch.Tensor]:
        """Tensors by name for a second stage, or more heads: what the file has; whatever else is there stays."""
        if path.suffix == ".npz":
            content = read_weights(path, self.model)
            state = {name: torch.from_numpy(x.astype("float32")) for name, x in content.arrays.items()}
            self._start_shippable = bool(content.card.get("shippable"))
        else:
            checkpoint = _read_checkpoint(path)
            state, self._start_shippable = checkpoint["network"], bool(checkpoint.get("shippable"))
        own = self.network.state_dict()
        if self.plan.training.heads_only:  # heads of another size are learned anew
            state = {n: x for n, x in state.items() if not (_of_heads(n) and n in own and own[n].shape != x.shape)}
        for name, values in state.items():
            if name in own and own[name].shape != values.shape:
                raise InputError(
                    f"checkpoint {path}: tensor '{name}' has the shape {tuple(values.shape)}, "
                    f"expected {tuple(own[name].shape)}"
                )
        return {name: values for name, values in state.items() if name in own}


def _of_heads(name: str) -> bool:
    """Whether a tensor is the mask head's or the contact head's."""
    return name.startswith("segment.") or ".contact." in name


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {path} is missing: check the path") from error
    except Exception as error:  # torch raises many kinds for one damaged file
        raise InputError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): delete it to begin anew"
        ) from error


def _comparable(plan: dict[str, Any]) -> str:
    """A plan as text, without what may change between runs."""
    # Settings that a checkpoint does not know yet had their defaults.
    whole = asdict(TrainingConfig()) | plan["training"]
    training = {k: v for k, v in whole.items() if k not in ("threads", "checkpoint_steps", "score_steps")}
    return json.dumps({"stream": None, **plan, "training": training}, sort_keys=True)
