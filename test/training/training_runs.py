"""Training runs of tests."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hoi_ros.training.train_handos import HandOsTrainer, TrainingPlan


def run(plan: TrainingPlan, data: Any, out: Path, until: int | None = None) -> HandOsTrainer:
    """Train; `until` cuts the run off after that step, as a kill does."""

    class Killed(Exception):
        pass

    def on_step(step, loss):
        if step == until:
            raise Killed

    trainer = HandOsTrainer(plan, data, out)
    with suppress(Killed):
        trainer.train(on_step)
    return trainer
