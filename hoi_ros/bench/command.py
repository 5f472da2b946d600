"""The verb `bench`: its options, and how its results are shown."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from hoi_ros.device import DEVICES
from hoi_ros.errors import InputError, unknown_name

ESTIMATORS = ("embedded", "handos")
HELP = """what is measured:
  hands           found, MPJPE, PA-MPJPE (no reflection), PA-MPVPE and F@5, F@15 of the mesh, 2D, handedness, jitter,
                  ms; beside the mediapipe package
  tracking        ADD, ADD-S, rotation, translation, ATE, drift, ms; beside Open3D's RGB-D odometry and coloured ICP
                  and small_gicp, which get the object's masked pixels
  reconstruction  Chamfer distance and F-scores by HOLD's and BundleSDF's protocols; beside Open3D VoxelBlockGrid
  interaction     hand and object of finished results: CD_h, volume of intersection, depth, contact recall
  latency         camera stamp to mesh in another process, of the running ROS 2 system; CPU and memory
  growth          cost against image size, hands, object size and length of the film
  all             everything above (default: hands, tracking, reconstruction)

examples:
  ./hoi bench                                   the simulator, about 10 minutes on 2 cores
  ./hoi bench hands --data DIR --install-peers  your photos or films, beside mediapipe in an environment of its own
  ./hoi bench tracking reconstruction --scene rotate:drill --frames 300 --out out/bench
  ./hoi bench hands --estimator embedded --estimator handos     both of ours side by side
  ./hoi bench tracking reconstruction --full --meshes DIR --grasps FILE --frames 100    the whole object table
  ./hoi bench reconstruction --data FOLDER_OF_MESHES
  ./hoi simulate rotate:mug --out film; ./hoi run rgbd:film --out mine; ./hoi bench --data film --results mine
  ./hoi bench interaction --data film --results mine    needs a closed mesh (reconstruction_node.watertight=true)
  ./hoi bench --compare                         the fixed set against benchmarks/baseline.json; exit code 1 when worse
  ./hoi bench --compare --accuracy-only         the same for continuous integration: no times, no peers

data folders are known by their files: %s,
or films (*.mp4) and meshes (*.glb, *.ply), one file or a folder; --dataset says which where it is not plain.
docs/evaluation.md explains every figure. A missed frame counts as the worst value.
"""


def add_bench(verbs: Any) -> None:
    """Add the verb and its options to the command line."""
    from hoi_ros.bench.options import TARGETS, BenchOptions

    parser = verbs.add_parser(
        "bench", help="measure how good every part is, beside what else one would pick",
        description="Measure hands, tracking, reconstruction and speed, beside peers on the same frames.",
        epilog=HELP % "simulated, hands_real, freihand, ho3d, dexycb, ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("targets", nargs="*", metavar="WHAT", help=f"{', '.join(TARGETS)} or all")
    parser.add_argument("--data", type=Path, metavar="DIR", help="your data; without it the simulator")
    parser.add_argument("--dataset", default="", metavar="NAME", help="layout of --data, where its files do not tell")
    parser.add_argument("--scene", action="append", default=[], metavar="SCENE",
                        help="simulator scene, e.g. rotate:mug; may be said more than once")  # fmt: skip
    parser.add_argument("--full", action="store_true",
                        help="tracking and reconstruction: many more scenes, see --meshes, --grasps")  # fmt: skip
    parser.add_argument("--meshes", type=Path, metavar="DIR", help="with --full: mug.glb, power_drill.glb, ... in hand")
    parser.add_argument("--grasps", type=Path, metavar="FILE", help="with --full: captured grasps (docs/simulator.md)")
    parser.add_argument("--estimator", action="append", default=[], choices=ESTIMATORS,
                        help="hands: which of ours; said twice, both side by side")  # fmt: skip
    parser.add_argument("--frames", type=int, default=BenchOptions.frames, metavar="N",
                        help="frames of each film, photos of each set, 0 for all (default: %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulator (default: 0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write tables, JSON, plots, sheets and meshes there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--results", type=Path, metavar="DIR",
                        help="judge what './hoi run --out DIR' wrote from the film in --data")  # fmt: skip
    parser.add_argument("--units", default="m", help="of the lengths in --results: m, cm or mm (default: m)")
    parser.add_argument("--no-peers", action="store_true", help="measure this project alone")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME",
                        help="tracking: beside this peer alone; may be said again (default: all five)")  # fmt: skip
    parser.add_argument("--peers", type=Path, default=BenchOptions.peers_folder, metavar="DIR",
                        help="where peers have environments of their own (default: %(default)s)")  # fmt: skip
    parser.add_argument("--install-peers", action="store_true", help="install what is missing there (1 GB, once)")
    parser.add_argument("--guessed-camera", action="store_true", help="hands: give no intrinsics")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="processor of the networks (default: auto)")
    parser.add_argument("--compare", action="store_true", help="run the fixed set and compare it with the baseline")
    parser.add_argument("--accuracy-only", action="store_true", help="with --compare: no times and no peers")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="instead of benchmarks/baseline.json")
    parser.add_argument("--record-baseline", type=int, default=0, metavar="RUNS",
                        help="write the baseline from so many runs of the fixed set")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def command_bench(options: argparse.Namespace) -> int:
    """`hoi bench`; 1 when --compare finds something worse.

    Raises:
        InputError: unknown target, bad data, or an output folder that cannot be written.
    """
    from hoi_ros.bench.options import BenchOptions
    from hoi_ros.bench.overview import overview
    from hoi_ros.results import prepare_folder

    if (options.meshes or options.grasps) and not (options.full or options.scene):
        raise InputError("--meshes and --grasps belong to --full or to a --scene that uses them: say one of those too")
    _check_peers(options.peer)
    if options.frames < 0:
        raise InputError(f"--frames {options.frames}: give 0 for all, or a number of frames")
    bench = BenchOptions(
        targets=_targets(options.targets),
        data=options.data,
        dataset=options.dataset,
        scenes=tuple(scene.removeprefix("sim:") for scene in options.scene),
        frames=options.frames,
        full=options.full,
        meshes=options.meshes,
        grasps=options.grasps,
        estimators=tuple(options.estimator),
        seed=options.seed,
        peers=not options.no_peers,
        peers_folder=options.peers,
        install_peers=options.install_peers,
        tracking_peers=tuple(options.peer),
        device=options.device,
        guessed_camera=options.guessed_camera,
        out=prepare_folder(options.out) if options.out else None,
        json=options.json,
        quiet=options.quiet or not sys.stderr.isatty(),
    )
    if bench.json is not None:
        _check_writable(bench.json)
    command = shlex.join(["./hoi", "bench", *sys.argv[2:]])
    if options.compare or options.record_baseline:
        return _guard(bench, options, command)
    result = run_bench(bench, command) if options.results is None else _score(bench, options)
    print(result.markdown())
    print(overview(result.rows))
    _write(result, bench, command)
    return 0


def _check_writable(path: Path) -> None:
    """Before minutes are spent on what cannot be written."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(f"--json {path}: no folder {path.parent}; make it first")
    if path.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"--json {path}: cannot be written; give another file")


def run_bench(bench: Any, command: str = "") -> Any:
    """Everything that was asked for, in one result; tables so far are written after every film of an object.

    Raises:
        InputError: bad data.
    """
    from hoi_ros.bench.growth import bench_growth
    from hoi_ros.bench.hands import bench_hands
    from hoi_ros.bench.inputs import hand_sequences, object_sequences
    from hoi_ros.bench.latency import bench_latency
    from hoi_ros.bench.objects import bench_objects
    from hoi_ros.bench.results import BenchResult

    result = BenchResult()
    objects = tuple(t for t in bench.targets if t in ("tracking", "reconstruction"))
    if "hands" in bench.targets:
        result.add(bench_hands(bench, hand_sequences(bench, result.skipped)))
    if objects:
        films = object_sequences(bench, result.skipped)
        result.add(bench_objects(bench, films, objects, lambda part: part.save(bench.out, None, f"{command} (part)")))
    if "interaction" in bench.targets:
        result.skipped.append("interaction: judged of finished results alone; give --data FILM --results DIR")
    if "latency" in bench.targets:
        result.add(bench_latency(bench))
    if "growth" in bench.targets:
        result.add(bench_growth(bench))
    return result


def _score(bench: Any, options: argparse.Namespace) -> Any:
    from hoi_ros.bench.scoring import score_results

    return score_results(bench, options.results, options.units)


def _check_peers(names: list[str]) -> None:
    from hoi_ros.bench.peers.registration import registration_peers

    known = [tracker.name for tracker in registration_peers()[0]] if names else []
    for name in names:
        if name not in known:
            raise unknown_name("--peer", name, known)


def _targets(words: list[str]) -> tuple[str, ...]:
    from hoi_ros.bench.options import TARGETS, BenchOptions
    from hoi_ros.errors import unknown_name

    for word in words:
        if word not in (*TARGETS, "all"):
            raise unknown_name("bench target", word, (*TARGETS, "all"))
    if "all" in words:
        return TARGETS
    return tuple(dict.fromkeys(words)) or BenchOptions.targets


def _guard(bench: Any, options: argparse.Namespace, command: str) -> int:
    import dataclasses

    from hoi_ros.bench.guard import BASELINE, compare, comparison_table, read_baseline, record_baseline, run_fixed_set

    path = options.baseline or BASELINE
    if options.record_baseline:
        record = record_baseline(bench, options.record_baseline, path)
        print(f"{len(record['figures'])} figures written to {path}")
        return 0
    baseline = read_baseline(path)
    if options.accuracy_only:
        bench = dataclasses.replace(bench, peers=False)
    result = run_fixed_set(bench)
    verdicts = compare(result, baseline, times=not options.accuracy_only)
    print(result.markdown())
    print(comparison_table(verdicts))
    _write(result, bench, command)
    return int(any(verdict.word == "worse" for verdict in verdicts))


def _write(result: Any, bench: Any, command: str) -> None:
    """Files that were asked for."""
    from hoi_ros.bench.overview import overview

    result.save(bench.out, bench.json, command, overview(result.rows))
    if bench.out is None:
        return
    from hoi_ros.bench.plots import draw_plots

    try:
        written = draw_plots(result, bench.out)
    except ImportError as error:
        print(f"hoi: {error}", file=sys.stderr)
        written = []
    print(f"results.md, results.json and {len(written)} plots in {bench.out}")
