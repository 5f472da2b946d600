"""The card's commands lead from nothing to the shipped weights: parts that exist, in an order that can be run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hoi_ros.hand.weights_file import SHIPPED, read_weights
from hoi_ros.training.command import add_train
from hoi_ros.training.train_handos import read_plan

ROOT = Path(__file__).parents[2]


def commands() -> list[list[str]]:
    """Words of every line in the card's block of commands."""
    block = (SHIPPED.parent / "HANDOS_CARD.md").read_text(encoding="utf-8").split("```")[1]
    return [shlex.split(line) for line in block.strip().splitlines()]


def trainings() -> list[argparse.Namespace]:
    """Options of every `hoi train` of the card, as the command line reads them."""
    parser = argparse.ArgumentParser()
    add_train(parser.add_subparsers())
    return [parser.parse_args(words[1:]) for words in commands() if words[0] == "./hoi"]


def test_every_training_starts_from_what_an_earlier_one_wrote_on_crops_made_before():
    made: set[Path] = set()
    for options in trainings():
        if options.network == "handos":
            assert {options.data, options.data / "held_out"} <= made
            start = read_plan(ROOT / options.config).training.start_from
            assert not start or Path(start).parent in made
        made.add(options.out)
    *_, last = commands()
    assert last[0] == "cp" and Path(last[1]).parent in made and ROOT / last[2] == ROOT / SHIPPED.relative_to(ROOT)


def test_the_last_config_is_what_the_shipped_file_says_of_itself():
    *_, last = trainings()
    plan, content = read_plan(ROOT / last.config), read_weights(SHIPPED)
    assert plan.network == content.config
    for name, value in content.card["training"].items():
        assert name == "start_from" or getattr(plan.training, name) == value, name
    assert content.card["step"] == plan.training.steps


def test_crops_of_another_seed_go_on_counting_in_a_folder():
    """`--shards` is how many there shall be, so a later command of the same folder asks for more."""
    counts: dict[Path, int] = {}
    for options in trainings():
        if options.network == "crops":
            assert options.shards > counts.get(options.out, 0)
            counts[options.out] = options.shards
