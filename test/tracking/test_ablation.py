"""Every idea of the ablation benchmark turns off something that is still there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "tracking_ablation.py"


def test_every_idea_names_code_that_exists():
    spec = importlib.util.spec_from_file_location("tracking_ablation", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert len(module.IDEAS) > 15
    for idea in module.IDEAS:
        with module.without(idea) as config:
            assert config is not None
