"""Run the live system for minutes and watch its memory and processor time.

    ./hoi python benchmarks/soak.py --minutes 10

Prints one line a sample and the growth of the resident memory from the end of the warm-up to the end of the run.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One look at a process."""

    moment_s: float
    resident_mb: float
    cpu_s: float
    threads: int


def look(pid: int, begin: float) -> Sample:
    """Read /proc of a process."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    resident_mb = int(status["VmRSS"].split()[0]) / 1024
    cpu_s = (int(stat[11]) + int(stat[12])) / TICKS_PER_S
    return Sample(time.monotonic() - begin, resident_mb, cpu_s, int(status["Threads"]))


def watch(process: subprocess.Popen, seconds: float, period_s: float) -> list[Sample]:
    """Sample a running process until the time is over or it ended."""
    begin, samples = time.monotonic(), []
    while time.monotonic() - begin < seconds and process.poll() is None:
        time.sleep(period_s)
        if process.poll() is not None:
            break
        samples.append(look(process.pid, begin))
        before = samples[-2] if len(samples) > 1 else Sample(0.0, 0.0, 0.0, 0)
        last = samples[-1]
        load = (last.cpu_s - before.cpu_s) / (last.moment_s - before.moment_s)
        print(
            f"{last.moment_s:7.1f} s  {last.resident_mb:7.1f} MB  {100 * load:5.0f} % of a core  {last.threads} threads"
        )
    return samples


def report(samples: list[Sample], warm_up_s: float) -> None:
    """Growth between the medians of the first and the last tenth after the warm-up."""
    steady = [sample for sample in samples if sample.moment_s >= warm_up_s]
    if len(steady) < 4:
        print("too short a run to tell growth: give more --minutes")
        return
    part = max(1, len(steady) // 10)
    first = statistics.median(sample.resident_mb for sample in steady[:part])
    last = statistics.median(sample.resident_mb for sample in steady[-part:])
    load = (steady[-1].cpu_s - steady[0].cpu_s) / (steady[-1].moment_s - steady[0].moment_s)
    print(f"after the warm-up {first:.1f} MB, at the end {last:.1f} MB: growth {100 * (last / first - 1):+.2f} %")
    print(f"peak {max(sample.resident_mb for sample in samples):.1f} MB, {100 * load:.0f} % of a core on average")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--source", default="sim:rotate")
    parser.add_argument("--period", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds that do not count")
    options = parser.parse_args()
    command = [sys.executable, "-m", "hoi_ros.nodes.live", "--source", options.source, "--loop", "true", "--port", "0"]
    process = subprocess.Popen(command)
    try:
        samples = watch(process, 60 * options.minutes, options.period)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    report(samples, options.warm_up)
    print(f"exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
