"""Every idea of the ablation benchmark turns off something that is still there."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hoi_ros.tracking import TrackerConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from tracking_ideas import IDEAS, without  # noqa: E402


@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_changes_what_it_names_and_gives_it_back(name):
    idea, usual = IDEAS[name], asdict(TrackerConfig())
    before = [getattr(owner, attribute) for owner, attribute, _ in idea.instead]
    assert bool(idea.settings or idea.instead) == (name != "everything on")
    with without(name) as config:
        changed = {key: value for key, value in asdict(config).items() if value != usual[key]}
        assert changed == idea.settings
        for (owner, attribute, instead), original in zip(idea.instead, before):
            assert getattr(owner, attribute) is instead is not original
    assert all(getattr(o, attribute) is original for (o, attribute, _), original in zip(idea.instead, before))


@pytest.mark.parametrize("name", IDEAS)
def test_what_takes_an_idea_s_place_is_called_alike(name):
    for owner, attribute, instead in IDEAS[name].instead:
        original = getattr(owner, attribute)
        assert callable(instead) == callable(original)
        if callable(original):
            every = inspect.signature(original).parameters.values()
            needed = [p.name for p in every if p.default is p.empty]
            inspect.signature(instead).bind(*needed)
            inspect.signature(instead).bind(*(p.name for p in every))


def test_a_wrong_name_is_refused_in_one_line_that_lists_the_names():
    script = [sys.executable, str(BENCHMARKS / "tracking_ablation.py"), "--ideas", "no such idea"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout
    assert len(done.stderr.splitlines()) == 1 and all(name in done.stderr for name in IDEAS)
