"""Training of the pairwise pointmap network: resumable to the bit, with early pictures of what it predicts."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoi_ros.config import make_config, parse_value, setting
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.tracking.pointmap_checkpoint import save_pointmap_network
from hoi_ros.tracking.pointmap_network import CrossAttention, PointmapNetwork, PointmapNetworkConfig
from hoi_ros.training.pointmap_loss import PointmapLoss, PointmapLossConfig, pointmap_loss
from hoi_ros.training.pointmap_pairs import Pair, PairConfig, PairStream
from hoi_ros.training.pointmap_pictures import prediction_sheet

CHECKPOINT, WEIGHTS, CURVE = "checkpoint.pt", "pointmap_network.pt", "curve.jsonl"


@dataclass(frozen=True)
class PointmapTrainConfig:
    """How the network is trained."""

    steps: int = setting(20000, "optimizer steps", low=1)
    batch: int = setting(8, "pairs a step", low=1, high=1024)
    learning_rate: float = setting(5e-4, "peak rate of AdamW", low=0.0)
    warmup_steps: int = setting(200, "steps until the peak", low=0)
    weight_decay: float = setting(0.02, "decay of weights", low=0.0)
    clip_norm: float = setting(1.0, "largest norm of a gradient", low=0.0)
    seed: int = setting(0, "seed of the first weights", low=0)
    workers: int = setting(1, "processes that make pairs; 0 makes them in this one", low=0, high=64)
    save_steps: int = setting(200, "steps between checkpoints", low=1)
    picture_steps: int = setting(200, "steps between pictures", low=1)
    autocast: bool = setting(True, "compute in bfloat16 where the processor gains by it")


PARTS: dict[str, Any] = {
    "network": PointmapNetworkConfig(),
    "pairs": PairConfig(),
    "loss": PointmapLossConfig(),
    "train": PointmapTrainConfig(),
}
"""Parts of the settings with their defaults."""


class PairDataset(torch.utils.data.Dataset):
    """Pairs as tensors, by number."""

    def __init__(self, size_px: int, config: PairConfig, start: int, stop: int) -> None:
        self._stream, self._start, self._stop = PairStream(size_px, config), start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return pair_tensors(self._stream.pair(self._start + index))


def pair_tensors(pair: Pair) -> dict[str, Tensor]:
    """A pair as the network takes it: pictures (2, 3, S, S) in -1 to 1, the rest as in `Pair`."""
    pictures = torch.from_numpy(pair.pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return {
        "pictures": pictures,
        "points": torch.from_numpy(pair.points),
        "valid_mask": torch.from_numpy(pair.valid_mask),
        "classes": torch.from_numpy(pair.classes).long(),
    }


class PointmapTrainer:
    """One run in one folder; made again on the same folder it goes on where it stopped."""

    def __init__(
        self, out: Path, network: PointmapNetworkConfig, pairs: PairConfig, loss: PointmapLossConfig,
        train: PointmapTrainConfig, device: str = "cpu",
    ) -> None:  # fmt: skip
        """Begin or resume.

        Args:
            out: folder for checkpoint, weights, curve and pictures; made if absent.
            network: sizes.
            pairs: what the data looks like.
            loss: weights of the loss.
            train: steps and rates.
            device: torch device.

        Raises:
            InputError: the folder cannot be written, or holds a run with other settings, or a broken checkpoint.
        """
        self.out, self.train_config, self.loss_config, self.pair_config = out, train, loss, pairs
        self.device = torch.device(device)
        self.settings = {
            "network": asdict(network),
            "pairs": asdict(pairs),
            "loss": asdict(loss),
            "train": asdict(train),
        }
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"training folder {out}: {error.strerror}; choose another --out") from error
        torch.manual_seed(train.seed)
        self.network = PointmapNetwork(network).to(self.device)
        _start_small(self.network)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay, betas=(0.9, 0.95)
        )
        self.step = 0
        if (out / CHECKPOINT).exists():
            self._resume()

    def run(self, until: int | None = None, *, quiet: bool = False) -> float:
        """Train up to step `until` (all steps when None); returns the mean loss of the last 20 steps."""
        from tqdm import tqdm

        config = self.train_config
        until = config.steps if until is None else min(until, config.steps)
        recent: list[float] = []
        data = PairDataset(
            self.network.config.image_px, self.pair_config, self.step * config.batch, until * config.batch
        )
        loader: Any = torch.utils.data.DataLoader(
            data, config.batch, num_workers=config.workers, prefetch_factor=3 if config.workers else None
        )
        self.network.train()
        bar = tqdm(total=until, initial=self.step, disable=quiet, unit="step", smoothing=0.05)
        for batch in loader:
            begin = time.perf_counter()
            loss = self.take_step(batch)
            recent = [*recent[-19:], float(loss.total.detach())]
            self._note(loss, time.perf_counter() - begin)
            bar.update()
            bar.set_postfix(loss=f"{np.mean(recent):.3f}", first=f"{float(loss.first_error):.3f}",
                            second=f"{float(loss.second_error):.3f}", refresh=False)  # fmt: skip
            if self.step % config.picture_steps == 0 or self.step in (1, 20):
                self._picture(batch)
            if self.step % config.save_steps == 0:
                self.save()
        bar.close()
        self.save()
        return float(np.mean(recent)) if recent else float("nan")

    def take_step(self, batch: dict[str, Tensor]) -> PointmapLoss:
        """One step of the optimizer on a batch of tensors."""
        batch = {name: value.to(self.device) for name, value in batch.items()}
        rate = self.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.train_config.autocast):
            prediction = self.network(batch["pictures"][:, 0], batch["pictures"][:, 1])
        loss = pointmap_loss(
            prediction, batch["points"], batch["valid_mask"], batch["classes"], self.loss_config,
            free_scale=self.network.config.output == "camera",
        )  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.train_config.clip_norm)
        self.optimizer.step()
        self.step += 1
        return loss

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear up, cosine down to a hundredth."""
        config = self.train_config
        if step < config.warmup_steps:
            return config.learning_rate * (step + 1) / config.warmup_steps
        share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))

    def save(self) -> None:
        """Write checkpoint and weights; a kill while writing leaves the old ones whole."""
        partial = self.out / (CHECKPOINT + ".part")
        content = {"step": self.step, "settings": self.settings, "network": self.network.state_dict(),
                   "optimizer": self.optimizer.state_dict()}  # fmt: skip
        torch.save(content, partial)
        partial.replace(self.out / CHECKPOINT)
        save_pointmap_network(self.network, self.out / WEIGHTS)

    def _resume(self) -> None:
        path = self.out / CHECKPOINT
        try:
            content = torch.load(path, map_location=self.device, weights_only=True)
            before = content["settings"]
            self.step = int(content["step"])
        except Exception as error:
            raise InputError(f"training checkpoint {path} cannot be read ({error}); remove it to begin anew") from error
        for part, values in self.settings.items():
            for name, value in values.items():
                if name not in ("workers", "save_steps", "picture_steps") and before[part].get(name) != value:
                    raise InputError(
                        f"training folder {self.out} was begun with {part}.{name} = {before[part].get(name)}, "
                        f"now {value}: keep the setting, or choose another --out"
                    )
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self._cut_curve()

    def _cut_curve(self) -> None:
        """Forget what the curve says of steps after the checkpoint: they will be taken again."""
        path = self.out / CURVE
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            path.write_text("".join(line + "\n" for line in lines))

    def _note(self, loss: PointmapLoss, seconds: float) -> None:
        row = {"step": self.step, "loss": float(loss.total.detach()), "first": float(loss.first_error),
               "second": float(loss.second_error), "mask": float(loss.mask_error), "s": round(seconds, 3)}  # fmt: skip
        with (self.out / CURVE).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _picture(self, batch: dict[str, Tensor]) -> None:
        import cv2

        self.network.eval()
        with torch.no_grad():
            pictures = batch["pictures"][:4].to(self.device)
            prediction = self.network(pictures[:, 0], pictures[:, 1])
        self.network.train()
        sheet = prediction_sheet(batch, prediction)
        cv2.imwrite(str(self.out / f"predictions_{self.step:06d}.png"), sheet[..., ::-1])


def _start_small(network: PointmapNetwork) -> None:
    """Small first weights, so that the first answers are near zero and confidence is near 2."""
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.xavier_uniform_(parameter)
        elif name.endswith(".bias") and "norm" not in name:
            torch.nn.init.zeros_(parameter)
    for layer in network.decoders.modules():
        if isinstance(layer, CrossAttention):
            # Likeness from the start: a token first looks where the other view shows the same.
            layer.key.load_state_dict(layer.query.state_dict())
    for head in (*network.heads, network.mask_head):
        for name, parameter in head.named_parameters():
            if name in ("project.weight", "out.weight"):
                torch.nn.init.trunc_normal_(parameter, std=0.01)


def read_settings(path: Path | None, assignments: list[str]) -> dict[str, dict[str, Any]]:
    """Settings by part from a YAML file, overlaid by PART.NAME=VALUE.

    Raises:
        InputError: unreadable file, or an assignment of another form.
    """
    import yaml

    settings: dict[str, dict[str, Any]] = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"training settings {path} cannot be read ({str(error).splitlines()[0]})") from error
        if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
            raise InputError(f"training settings {path}: write parts with 'name: value' lines below them")
        settings = {str(part): dict(values) for part, values in content.items()}
    for text in assignments:
        target, equals, value = text.partition("=")
        part, dot, name = target.partition(".")
        if not (equals and dot and part and name):
            raise InputError(f"--set {text}: write PART.NAME=VALUE, e.g. train.batch=16")
        settings.setdefault(part, {})[name] = parse_value(value, f"--set {text}")
    return settings


def train_pointmap(
    out: Path,
    settings: dict[str, dict[str, Any]],
    *,
    steps: int | None = None,
    device: str = "cpu",
    quiet: bool = False,
) -> PointmapTrainer:
    """`hoi train pointmap`: train in a folder, resuming what is there.

    Args:
        out: the run's folder.
        settings: values by part: `network`, `pairs`, `loss`, `train`.
        steps: stop after so many steps in all, the schedule unchanged; None runs all.
        device: 'cpu' or 'cuda'.
        quiet: no progress bar.

    Raises:
        InputError: unknown part or setting, or what `PointmapTrainer` refuses.
    """
    for part in settings:
        if part not in PARTS:
            raise unknown_name("part of the training settings", part, PARTS)
    made: dict[str, Any] = {
        part: make_config(type(default), settings.get(part), where=part) for part, default in PARTS.items()
    }
    trainer = PointmapTrainer(out, made["network"], made["pairs"], made["loss"], made["train"], device)
    trainer.run(steps, quiet=quiet)
    return trainer
