"""The guard: a small fixed set against `benchmarks/baseline.json`; says what became worse by more than its noise.

Accuracy is compared as it is. Times are compared as ratios to a peer measured in the same run, since machines differ.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hoi_ros
from hoi_ros.bench.hands import OURS, bench_hands
from hoi_ros.bench.inputs import SimulatedFilm
from hoi_ros.bench.objects import FUSION, PIPELINE, bench_objects
from hoi_ros.bench.options import BenchOptions
from hoi_ros.bench.results import BenchResult, Row, machine
from hoi_ros.datatypes import RgbdFrame, TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets.records import LabelledFrame, LabelledSequence
from hoi_ros.evaluation.report import markdown_table

BASELINE = Path(hoi_ros.__file__).parents[1] / "benchmarks" / "baseline.json"
HAND_SET = (("bare", 60), ("handover", 60))
OBJECT_SET = (("rotate:box", 75), ("rotate:mug", 75))
LOWER, HIGHER = "lower", "higher"
FIGURES: dict[tuple[str, str], dict[str, tuple[str, float]]] = {
    ("hands", OURS): {
        "missed": (LOWER, 1.0),
        "mpjpe_mm": (LOWER, 0.3),
        "pa_mpjpe_mm": (LOWER, 0.15),
        "error_2d_px": (LOWER, 0.2),
        "handedness_percent": (HIGHER, 1.0),
        "jitter_m_s2": (LOWER, 0.3),
    },
    ("tracking", OURS): {
        "missed": (LOWER, 1.0),
        "rotation_median_deg": (LOWER, 0.1),
        "translation_median_mm": (LOWER, 0.1),
        "rpe_deg": (LOWER, 0.05),
        "add_auc": (HIGHER, 0.3),
        "add_s_auc": (HIGHER, 0.3),
    },
    ("reconstruction", FUSION): {"seen_accuracy_mm": (LOWER, 0.03), "seen_f5_percent": (HIGHER, 0.5)},
    ("reconstruction", PIPELINE): {"seen_accuracy_mm": (LOWER, 0.05), "seen_completeness_mm": (LOWER, 0.05)},
}
"""Figures that are guarded: which way is better, and the smallest change that is ever called one."""
TIME_RATIOS = (
    ("hands", OURS, "mediapipe"),
    ("tracking", OURS, "Open3D coloured ICP, frame to model"),
    ("reconstruction", FUSION, "Open3D VoxelBlockGrid"),
)
"""Median milliseconds of the second over those of the third."""
FIRST = ("worse", "better", "same")
"""Words that the comparison's first line always counts."""
TIME_STEP = 0.25
"""Smallest change of a ratio of times that is ever called one, as a share of the ratio."""
NOISE_TIMES = 3.0
"""A change is one when it exceeds so many standard deviations of the baseline's own runs."""


@dataclass(frozen=True)
class Guarded:
    """One figure of the baseline."""

    value: float
    noise: float
    """Standard deviation over the runs behind the baseline."""
    better: str
    least: float
    """Smallest change that counts."""
    time: bool = False

    @property
    def margin(self) -> float:
        """Change beyond which it became better or worse."""
        return max(NOISE_TIMES * self.noise, self.least)


@dataclass(frozen=True)
class Verdict:
    """A figure now and in the baseline."""

    name: str
    before: Guarded
    now: float

    @property
    def change(self) -> float:
        """Positive when worse; `inf` when the figure could not be had any more."""
        if not np.isfinite(self.now):
            return float("inf")
        step = self.now - self.before.value
        return step if self.before.better == LOWER else -step

    @property
    def word(self) -> str:
        """'worse', 'better' or 'same'; 'not compared' for a time whose peer did not run."""
        if self.before.time and not np.isfinite(self.now):
            return "not compared"
        if self.change > self.before.margin:
            return "worse"
        return "better" if self.change < -self.before.margin else "same"


class CachedFilm(LabelledSequence):
    """A film whose frames are rendered once; `disturbed` copies share them."""

    def __init__(self, film: LabelledSequence) -> None:
        self.name, self.fps = film.name, film.fps
        self._film, self._frames = film, dict[int, LabelledFrame]()
        self.disturbance = 0

    def __len__(self) -> int:
        return len(self._film)

    def __getitem__(self, index: int) -> LabelledFrame:
        if index not in self._frames:
            self._frames[index] = self._film[index]
        item = self._frames[index]
        return (
            item if not self.disturbance else dataclasses.replace(item, frame=disturbed(item.frame, self.disturbance))
        )

    def hand_faces(self) -> np.ndarray | None:
        return self._film.hand_faces()

    def object_mesh(self) -> TriangleMesh | None:
        return self._film.object_mesh()


def disturbed(frame: RgbdFrame, seed: int) -> RgbdFrame:
    """The frame with one grey level of colour noise and half a millimetre of depth noise on top.

    No user would see a difference, so what it changes in a figure is that figure's noise.
    """
    random = np.random.default_rng([seed, frame.index])
    noise = random.standard_normal(frame.color.shape, dtype=np.float32)
    color = np.clip(np.rint(frame.color + noise), 0, 255).astype(np.uint8)
    depth = frame.depth_m
    if depth is not None:
        shift = random.standard_normal(depth.shape, dtype=np.float32) * np.float32(0.0005)
        depth = np.where(depth > 0, depth + shift, 0).astype(np.float32)
    return dataclasses.replace(frame, color=color, depth_m=depth)


def run_fixed_set(options: BenchOptions, films: FixedSet | None = None) -> BenchResult:
    """Run hands, tracking and reconstruction on the fixed set."""
    films = films or FixedSet()
    peers = tuple(peer for target, _, peer in TIME_RATIOS if target == "tracking")
    options = dataclasses.replace(options, frames=0, data=None, tracking_peers=peers)
    result = bench_hands(options, films.hands)
    result.add(bench_objects(options, films.objects, ("tracking", "reconstruction")))
    return result


class FixedSet:
    """The films of the guard; frames are kept, about 700 MB."""

    def __init__(self, hands: Sequence[tuple[str, int]] = HAND_SET, objects: Sequence[tuple[str, int]] = OBJECT_SET):
        self.hands: list[LabelledSequence] = [CachedFilm(SimulatedFilm(scene, n, seed=3)) for scene, n in hands]
        self.objects: list[LabelledSequence] = [CachedFilm(SimulatedFilm(scene, n, seed=0)) for scene, n in objects]

    def disturb(self, seed: int) -> None:
        """Let later reads carry noise of this seed; 0 takes it away."""
        for film in (*self.hands, *self.objects):
            assert isinstance(film, CachedFilm)
            film.disturbance = seed


def guarded_figures(rows: Sequence[Row]) -> Iterator[tuple[str, float, str, float, bool]]:
    """Name, value, direction, least change and whether it is a time, of every guarded figure in the rows."""
    for row in rows:
        for name, (better, least) in FIGURES.get((row.target, row.method), {}).items():
            value = row.figures.get(name)
            if isinstance(value, (int, float)):
                yield f"{row.target} | {row.sequence} | {row.method} | {name}", float(value), better, least, False
    for target, ours, peer in TIME_RATIOS:
        times = {
            method: [float(r.figures["ms_p50"]) for r in rows  # type: ignore[arg-type]
                     if r.target == target and r.method.startswith(method) and r.figures.get("ms_p50") is not None
                     and (r.method == ours or method == peer)]
            for method in (ours, peer)
        }  # fmt: skip
        if times[ours] and times[peer]:
            ratio = sum(times[ours]) / sum(times[peer])
            yield f"{target} | ms of {ours} / {peer}", ratio, LOWER, _round(TIME_STEP * ratio), True


def record_baseline(options: BenchOptions, runs: int, path: Path) -> dict[str, Any]:
    """Run the fixed set `runs` times, all but the first with disturbed frames, and write values and noise.

    Raises:
        InputError: fewer than 2 runs, or the file cannot be written.
    """
    if runs < 2:
        raise InputError(f"--record-baseline {runs}: noise needs 2 runs or more")
    films = FixedSet()
    values: dict[str, list[float]] = {}
    kinds: dict[str, tuple[str, float, bool]] = {}
    for run in range(runs):
        films.disturb(run)
        for name, value, better, least, time in guarded_figures(run_fixed_set(options, films).rows):
            values.setdefault(name, []).append(value)
            kinds[name] = (better, least, time)
    record = {
        "how": f"mean and standard deviation of {runs} runs of './hoi bench --record-baseline {runs}': the first as it "
        "is, the others with 1 grey level and 0.5 mm of noise added to every frame",
        "machine": machine(),
        "figures": {
            name: {"value": _round(np.mean(v)), "noise": _round(np.std(v, ddof=1)), "better": kinds[name][0],
                   "least": kinds[name][1], "time": kinds[name][2]}
            for name, v in values.items()
        },
    }  # fmt: skip
    try:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"baseline {path} cannot be written: {error.strerror}") from error
    return record


def read_baseline(path: Path) -> dict[str, Guarded]:
    """The guarded figures of a baseline file.

    Raises:
        InputError: missing, unreadable or of another form.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Guarded(float(f["value"]), float(f["noise"]), f["better"], float(f["least"]), bool(f["time"]))
            for name, f in record["figures"].items()
        }
    except OSError as error:
        raise InputError(f"baseline {path}: {error.strerror}; './hoi bench --record-baseline 5' makes one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"baseline {path}: no guarded figures ({error!r}); make it anew with --record-baseline"
        ) from error


def compare(result: BenchResult, baseline: Mapping[str, Guarded], *, times: bool) -> list[Verdict]:
    """Every figure of the baseline against this run; one that is gone counts as worse, unless it is a time."""
    now = {name: value for name, value, *_ in guarded_figures(result.rows)}
    return [
        Verdict(name, before, now.get(name, float("nan")))
        for name, before in baseline.items()
        if times or not before.time
    ]


def comparison_table(verdicts: Sequence[Verdict]) -> str:
    """Markdown of what changed, worst first; a line where nothing did."""
    counts = {word: sum(v.word == word for v in verdicts) for word in ("worse", "better", "same", "not compared")}
    changed = sorted((v for v in verdicts if v.word in ("worse", "better")), key=lambda v: -v.change / v.before.margin)
    head = f"{len(verdicts)} figures: " + ", ".join(f"{n} {w}" for w, n in counts.items() if n or w in FIRST) + "\n"
    if not any(v.before.time for v in verdicts):
        head += "No times were compared.\n"
    head += "".join(f"Not compared, its peer did not run: {v.name}\n" for v in verdicts if v.word == "not compared")
    rows = [
        {"figure": v.name, "baseline": v.before.value, "now": v.now, "margin": v.before.margin, "": v.word}
        for v in changed
    ]
    return head + ("\n" + markdown_table(rows, digits=3) if rows else "")


def _round(value: Any) -> float:
    return float(f"{float(value):.4g}")
