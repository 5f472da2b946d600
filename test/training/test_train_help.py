"""Help of `hoi train`: its examples are commands that exist, with configs that ship."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from hoi_ros import cli

ROOT = Path(__file__).parents[2]


def shown_help(network, capsys):
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(["train", network, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize(("network", "count"), [("handos", 7), ("pointmap", 4)])
def test_every_example_is_a_command_and_its_config_is_there(network, count, capsys):
    shown = shown_help(network, capsys)
    # A remark stands behind three blanks.
    examples = [line.strip().split("   ")[0] for line in shown.splitlines() if line.startswith("  ./hoi ")]
    assert len(examples) == count
    parsed = [cli.build_parser().parse_args(shlex.split(example)[1:]) for example in examples]
    configs = [options.config for options in parsed if getattr(options, "config", None)]
    assert all((ROOT / config).is_file() for config in configs) and bool(configs) == (network == "handos")
    for named in ("resume:", "settings:", f"./hoi settings train.{network}", "written to --out:"):
        assert named in shown


def test_every_config_that_ships_is_a_stage(capsys):
    shown = shown_help("handos", capsys)
    for path in (ROOT / "config").glob("handos_*.yaml"):
        assert f"config/{path.name}" in shown
