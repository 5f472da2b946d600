"""What a bench run gives: rows of figures, curves over frames, and what was left out and why."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import hoi_ros
from hoi_ros.evaluation.report import markdown_table

Figure = float | int | str | None


@dataclass(frozen=True)
class Row:
    """Figures of one method on one sequence."""

    target: str
    sequence: str
    method: str
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Curve:
    """Values of one method on one sequence, one a frame or hand."""

    target: str
    sequence: str
    method: str
    values: dict[str, np.ndarray]
    """Name with unit to (N,); `inf` where it was missed."""


@dataclass
class BenchResult:
    """Everything of one run."""

    rows: list[Row] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    """'target: method' to milliseconds of every frame."""
    curves: list[Curve] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Sentences: what was left out and why."""

    def add(self, other: BenchResult) -> None:
        """Append another run's results."""
        self.rows += other.rows
        for name, values in other.times.items():
            self.times.setdefault(name, []).extend(values)
        self.curves += other.curves
        self.skipped += [text for text in other.skipped if text not in self.skipped]

    def markdown(self) -> str:
        """One table a target, methods of one sequence below each other."""
        parts = []
        for target in dict.fromkeys(row.target for row in self.rows):
            rows = [row for row in self.rows if row.target == target]
            names = dict.fromkeys(name for row in rows for name in row.figures)
            table = [{"sequence": r.sequence, "method": r.method, **{n: r.figures.get(n) for n in names}} for r in rows]
            parts.append(f"## {target}\n\n{markdown_table(table)}")
        if self.skipped:
            parts.append("Left out:\n" + "".join(f"- {text}\n" for text in self.skipped))
        return "\n".join(parts)

    def record(self, command: str) -> dict[str, Any]:
        """Plain values for JSON; figures that are not finite become None."""
        return {
            "command": command,
            "machine": machine(),
            "rows": [
                {"target": r.target, "sequence": r.sequence, "method": r.method,
                 **{name: _plain(value) for name, value in r.figures.items()}}
                for r in self.rows
            ],
            "curves": [
                {"target": c.target, "sequence": c.sequence, "method": c.method,
                 "values": {name: [_plain(v) for v in values] for name, values in c.values.items()}}
                for c in self.curves
            ],
            "times_ms": {name: [_plain(value) for value in values] for name, values in self.times.items()},
            "skipped": self.skipped,
        }  # fmt: skip

    def save(self, out: Path | None, json_path: Path | None, command: str, overview: str = "") -> None:
        """Write results.md (ending with `overview`) and results.json into `out`, and JSON to `json_path`."""
        text = json.dumps(self.record(command), indent=1) + "\n"
        if out is not None:
            (out / "results.md").write_text(
                f"`{command}`\n\n{describe(machine())}\n\n{self.markdown()}\n{overview}", "utf-8"
            )
            (out / "results.json").write_text(text, "utf-8")
        if json_path is not None:
            json_path.write_text(text, "utf-8")


def milliseconds(times: Sequence[float]) -> dict[str, Figure]:
    """Median and 95th percentile under the names that every table uses."""
    times = [value for value in times if np.isfinite(value)]
    if not times:
        return {"ms_p50": None, "ms_p95": None}
    return {"ms_p50": float(np.percentile(times, 50)), "ms_p95": float(np.percentile(times, 95))}


def machine() -> dict[str, Any]:
    """Processor, load, versions and commit, so that figures say where they come from."""
    import torch

    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "hoi_ros": hoi_ros.__version__,
        "commit": _commit(),
    }


def describe(record: dict[str, Any]) -> str:
    """The machine in a line."""
    gpu = record["gpu"] or "no GPU"
    return (
        f"{record['cores']} cores of {record['cpu']}, {gpu}, load {record['load']}, torch {record['torch']}, "
        f"hoi_ros {record['hoi_ros']} at {record['commit'] or 'an unknown commit'}"
    )


def _commit() -> str:
    command = ["git", "-C", str(Path(hoi_ros.__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
