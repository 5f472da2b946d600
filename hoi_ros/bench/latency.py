"""Camera stamp to mesh received in another process, of the running ROS 2 system; one and two hands, both layouts.

The measuring program is `benchmarks/ros_latency.py` of the source checkout; here its processes are watched too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import hoi_ros
from hoi_ros.bench.options import BenchOptions
from hoi_ros.bench.results import BenchResult, Figure, Row

PROGRAM = Path(hoi_ros.__file__).parents[1] / "benchmarks" / "ros_latency.py"
CASES = (("one hand", "sim:rotate"), ("two hands", "sim:handover"))
LAYOUTS = ("composed", "apart")
_TICKS = os.sysconf("SC_CLK_TCK")


def bench_latency(options: BenchOptions, seconds: float = 20.0) -> BenchResult:
    """Run every case and layout."""
    result = BenchResult()
    if not PROGRAM.exists():
        result.skipped.append(f"latency: {PROGRAM} is absent; run it from a source checkout")
        return result
    if importlib.util.find_spec("rclpy") is None:
        result.skipped.append("latency: ROS 2 is not installed; './hoi doctor' tells how")
        return result
    cases = [(name, source, layout) for name, source in CASES for layout in LAYOUTS]
    with tempfile.TemporaryDirectory() as scratch:
        for name, source, layout in tqdm(cases, desc="latency", unit="case", disable=options.quiet):
            figures, ages = _case(source, layout, seconds, options.device, scratch)
            if isinstance(figures, str):
                result.skipped.append(f"latency, {name}, {layout}: {figures}")
            else:
                result.rows.append(Row("latency", name, layout, figures))
                result.times[f"latency: {name}, {layout}"] = ages
    return result


def _case(
    source: str, layout: str, seconds: float, device: str, scratch: str
) -> tuple[dict[str, Figure] | str, list[float]]:
    """One row, or why there is none; and the ages of all meshes, milliseconds."""
    ages_file = Path(scratch) / "ages.json"
    ages_file.unlink(missing_ok=True)
    command = [
        sys.executable, str(PROGRAM), "--seconds", f"{seconds:g}", "--source", source, "--layout", layout,
        "--device", "cpu" if device == "auto" else device, "--ages", str(ages_file),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    watch = ProcessWatch(process.pid)
    output, _ = process.communicate()
    watch.stop()
    rows = [line for line in output.splitlines() if line.startswith(f"| {source} |")]
    if not rows:
        why = "no mesh came" if process.returncode == 0 else f"it ended with code {process.returncode}"
        return why, []
    figures = figures_of(rows[-1])
    if isinstance(figures, str):
        return figures, []
    ages = [float(age) for age in json.loads(ages_file.read_text(encoding="utf-8"))]
    return figures | {"cpu_percent_of_a_core": watch.cpu_percent(), "memory_mb": watch.memory_mb()}, ages


def figures_of(row: str) -> dict[str, Figure] | str:
    """Figures of a line of the program's table: source, layout, meshes, p50, p95, p99, 'missing of pictures'; or what
    the line says instead."""
    cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
    try:
        missing, _, pictures = cells[6].partition(" of ")
        return {
            "meshes": int(cells[2]), "ms_p50": float(cells[3]), "ms_p95": float(cells[4]), "ms_p99": float(cells[5]),
            "dropped": int(missing), "pictures": int(pictures),
        }  # fmt: skip
    except (ValueError, IndexError):
        return cells[2] if len(cells) > 2 else row


class ProcessWatch:
    """Processor time and memory of the descendants of a process, sampled twice a second."""

    def __init__(self, root: int, period_s: float = 0.5) -> None:
        self._root, self._period_s = root, period_s
        self._samples: list[tuple[float, float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End sampling."""
        self._over.set()
        self._thread.join()

    def cpu_percent(self) -> float:
        """Median share of one core, percent, while the children ran."""
        shares = [
            100 * (after[1] - before[1]) / (after[0] - before[0])
            for before, after in zip(self._samples, self._samples[1:])
            if after[1] > before[1]
        ]
        return float(np.median(shares)) if shares else float("nan")

    def memory_mb(self) -> float:
        """Largest resident memory of the children together, MB; shared pages count once a process."""
        return max((sample[2] for sample in self._samples), default=float("nan"))

    def _run(self) -> None:
        while not self._over.wait(self._period_s):
            ticks, pages = 0, 0
            for pid in descendants(self._root):
                try:
                    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
                except OSError:
                    continue
                ticks += int(stat[11]) + int(stat[12])
                pages += int(stat[21])
            self._samples.append((time.monotonic(), ticks / _TICKS, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))


def descendants(root: int) -> list[int]:
    """Processes started by `root`, theirs included, without itself."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    found, edge = [], {root}
    while edge:
        edge = {pid for pid, parent in parents.items() if parent in edge}
        found += sorted(edge)
    return found
