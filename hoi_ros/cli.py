"""The verbs of `hoi`. Bad input prints one line and leaves with exit code 2."""

from __future__ import annotations

import argparse
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from hoi_ros.bench.command import add_bench, command_bench
from hoi_ros.config import describe_settings, load_parameters, make_config, parse_value
from hoi_ros.device import DEVICES
from hoi_ros.errors import InputError, unknown_name
from hoi_ros.nodes.node_configs import CORE_CONFIGS, NODE_CONFIGS, core_config, node_parameter_names
from hoi_ros.training.command import TRAINED, add_train, command_train, training_settings

SOURCES_HELP = """sources:
  sim[:SCENE[:OBJECT]]  simulator; scenes rotate, handover, grasp, replay, bare, empty; OBJECT a name or a mesh file
  video:FILE            a film
  webcam[:N]            /dev/videoN
  images:DIR            a folder of photos, each treated alone (camera.json in it gives the intrinsics)
  rgbd:DIR              color/*.png, depth/*.png (16 bit, mm), cam.json
  bag:PATH              rosbag2 (sqlite3 or MCAP) with realsense2_camera topics
  realsense[:SERIAL]    Intel RealSense, colour and aligned depth
  topics                a camera driver that publishes already (live only)
"""
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended before its work was done, as shells have it."""
VIEWER_NODES = ("foxglove_node", "recorder_node")
ESTIMATORS = ("auto", "embedded", "handos")
NOISES = ("none", "sensor", "harsh")


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        name = re.fullmatch(r"argument (.*): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if name is not None:
            message = str(unknown_name(name[1], name[2], name[3].replace("'", "").split(", ")))
        self.exit(2, f"hoi: {message}; see '{self.prog} --help'\n")


def build_parser() -> argparse.ArgumentParser:
    """The command line of all verbs."""
    parser = _Parser(
        prog="hoi", description="Live hand meshes, object pose and object mesh from a camera.",
        epilog="also: hoi test [pytest options], hoi doctor, hoi python ...; 'hoi VERB --help' explains a verb",
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_live(verbs, "live", "run the whole system on ROS 2 topics, seen in Foxglove or RViz")
    _add_live(verbs, "record", "the same, and record camera and results to a bag")
    _add_run(verbs)
    _add_simulate(verbs)
    add_bench(verbs)
    add_train(verbs)
    settings = verbs.add_parser("settings", help="list every setting with default, range and meaning")
    settings.add_argument("node", nargs="?", help=f"only this node's; or {' or '.join(TRAINED)}")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--estimator", choices=ESTIMATORS, default=None, help="hand estimator (default: auto)")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="processor of the networks (default: auto)")
    parser.add_argument("--duration", type=float, default=0.0, metavar="S", help="stop after S seconds")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="stop after N frames")
    parser.add_argument("--params", type=Path, action="append", default=[], metavar="YAML",
                        help="ROS parameter file; a later one overlays an earlier one")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="NODE.NAME=VALUE", dest="assignments",
                        help="one setting, e.g. hand_node.max_hands=1 ('hoi settings' lists them)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress bar or status line")


def _add_run(verbs: Any) -> None:
    parser = verbs.add_parser(
        "run", help="process a source without ROS into a folder of files", epilog=SOURCES_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write hands.npz, object_poses.txt (TUM), object.ply, overlay.mp4 and report.json.",
    )  # fmt: skip
    parser.add_argument("source", help="where frames come from, see below")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--box", type=float, nargs=4, metavar=("X0", "Y0", "X1", "Y1"),
                        help="object in the first frame, pixels: track it though no hand holds it")  # fmt: skip
    parser.add_argument("--mask", type=Path, help="the same as a picture, object white")
    parser.add_argument("--no-object", action="store_true", help="hands only")
    parser.add_argument("--no-overlay", action="store_true", help="no overlay.mp4")
    _add_common(parser)


def _add_simulate(verbs: Any) -> None:
    parser = verbs.add_parser(
        "simulate", help="write a simulated scene with exact truth",
        description="Write color/, depth/ and cam.json (read by rgbd:DIR), masks/, meshes/, truth.npz and bag/.",
    )  # fmt: skip
    parser.add_argument("scene", help="rotate, handover, grasp (each with :OBJECT), replay:FILE[#N], bare or empty")
    parser.add_argument("--out", type=Path, required=True, help="new folder to write to")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="default: the scene once through")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same film")
    parser.add_argument("--objects", nargs="+", default=[], metavar="OBJECT",
                        help="names or mesh files: the first is held, the others stand on the table")  # fmt: skip
    parser.add_argument("--camera", choices=("static", "moving"), default="static", help="default: static")
    parser.add_argument("--noise", choices=NOISES, default="sensor",
                        help="sensor: depth and colour noise (default); harsh: motion blur, light too")  # fmt: skip
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second (default: 30)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
                        help="one setting of the simulator, e.g. skin_tone=0.8")  # fmt: skip
    parser.add_argument("--no-bag", action="store_true", help="no MCAP recording")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_live(verbs: Any, name: str, text: str) -> None:
    parser = verbs.add_parser(
        name, help=text, description=text, epilog=SOURCES_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="", help="see below; default: the first of RealSense, webcam, simulator")
    parser.add_argument("--composed", choices=("true", "false"), default="true",
                        help="one process (default), or one process a node")  # fmt: skip
    parser.add_argument("--foxglove", choices=("true", "false"), default="true", help="serve Foxglove (default: true)")
    parser.add_argument("--port", type=int, default=8765, help="Foxglove WebSocket port (default: 8765)")
    parser.add_argument("--rviz", action="store_true", help="start rviz2 with the project's layout")
    parser.add_argument("--loop", action="store_true", help="start a file source again when it ends")
    parser.add_argument("--out", type=Path, help="folder to save the object mesh in at exit")
    parser.add_argument("--record" if name == "live" else "--to", dest="record", type=Path, metavar="BAG",
                        required=name == "record", help="record camera and results to this new bag folder")  # fmt: skip
    _add_common(parser)


def check_limits(options: argparse.Namespace) -> None:
    """Refuse limits that no run can keep.

    Raises:
        InputError: a negative or unfinite number of frames or seconds, a box without inside.
    """
    for name in ("frames", "duration"):
        value = getattr(options, name, 0)
        if not 0 <= value < float("inf"):
            raise InputError(f"--{name} {value:g}: give a number above 0, or leave it out for no limit")
    box = getattr(options, "box", None)
    if box and not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"--box {' '.join(map('{:g}'.format, box))}: give pixels X0 Y0 X1 Y1 with X0 < X1 and Y0 < Y1")


def gather_parameters(files: list[Path], assignments: list[str]) -> dict[str, dict[str, Any]]:
    """Join parameter files and NODE.NAME=VALUE assignments; the latter win.

    Raises:
        InputError: unreadable file, or an assignment of another form.
    """
    parameters = load_parameters(*files)
    for text in assignments:
        target, equals, value = text.partition("=")
        node, dot, name = target.partition(".")
        if not (equals and dot and node and name):
            raise InputError(f"--set {text}: write NODE.NAME=VALUE, e.g. hand_node.max_hands=1")
        parameters.setdefault(node, {})[name] = parse_value(value, f"--set {text}")
    return parameters


def build_core_configs(parameters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Node name to the config of the part behind it; unknown nodes and names are refused.

    Parameters that concern a ROS node alone are left out: a file made for `live` also serves `run`.
    """
    nodes = (*CORE_CONFIGS, *VIEWER_NODES)
    for node in parameters:
        if node not in (*nodes, "**"):
            raise unknown_name("node", node, nodes)
    known = {node: node_parameter_names(node) for node in CORE_CONFIGS}
    everywhere = set().union(*known.values())
    for name in parameters.get("**", {}):
        if name not in everywhere:
            raise unknown_name("parameter", name, everywhere)
    configs: dict[str, Any] = {}
    for node in CORE_CONFIGS:
        config_class = core_config(node)
        core_names = {info.name for info in describe_settings(config_class)}
        values = {k: v for k, v in parameters.get("**", {}).items() if k in core_names}
        values |= {k: v for k, v in parameters.get(node, {}).items() if k in core_names or k not in known[node]}
        configs[node] = make_config(config_class, values, where=node)
    return configs


def command_run(options: argparse.Namespace) -> int:
    """`hoi run`."""
    from hoi_ros.offline import RunOptions, run_offline
    from hoi_ros.pipeline import PipelineConfig

    parameters = gather_parameters(options.params, options.assignments)
    if options.estimator:
        parameters.setdefault("hand_node", {})["estimator"] = options.estimator
    configs = build_core_configs(parameters)
    report = run_offline(
        RunOptions(
            source=options.source,
            out=options.out,
            pipeline=PipelineConfig(
                hand=configs["hand_node"],
                tracker=configs["tracker_node"],
                reconstruction=configs["reconstruction_node"],
                device=options.device,
                with_object=not options.no_object,
            ),
            source_config=configs["camera_node"],
            frames=options.frames,
            duration_s=options.duration,
            box=tuple(options.box) if options.box else None,
            mask=options.mask,
            overlay=not options.no_overlay,
            quiet=options.quiet,
        )
    )
    print(
        f"{report['frames']} frames, hands in {report['frames_with_hands']}, object tracked in "
        f"{report['object_tracked_frames']}, {report['fps']} frames/s; results in {options.out}"
    )
    if report["focal_seen"]:
        print(report["focal_seen"]["message"])
    if report["frames_with_depth"] == 0 and not (options.no_object or report["frames_treated_alone"]):
        print("no depth in this source: the object is tracked from colour alone, roughly; its scale is the hand's")
    return 0


def command_live(options: argparse.Namespace) -> int:
    """`hoi live` and `hoi record`."""
    from hoi_ros.nodes.stopping import stop_signals

    with stop_signals() as stop:  # around the imports, too
        return _run_live(options, stop)
    return 0


def _run_live(options: argparse.Namespace, stop: Any) -> int:
    from hoi_ros.nodes.live import LiveOptions, run_live

    parameters = gather_parameters(options.params, options.assignments)
    build_core_configs(parameters)
    return run_live(
        LiveOptions(
            source=options.source,
            device=options.device,
            estimator=options.estimator or "auto",
            composed=options.composed == "true",
            foxglove=options.foxglove == "true",
            foxglove_port=options.port,
            rviz=options.rviz,
            loop=options.loop,
            record=options.record,
            out=options.out,
            duration_s=options.duration,
            frames=options.frames,
            parameters=parameters,
            quiet=options.quiet,
        ),
        stop,
    )


def command_simulate(options: argparse.Namespace) -> int:
    """`hoi simulate`."""
    from hoi_ros.simulate import DISTURBANCES, SimulateOptions, simulate
    from hoi_ros.simulation import SimulatorConfig

    values: dict[str, Any] = {
        "seed": options.seed, "fps": options.fps, "moving_camera": options.camera == "moving",
        **DISTURBANCES[options.noise],
    }  # fmt: skip
    if options.frames < 0:
        raise InputError(f"--frames {options.frames}: give 1 or more, or leave it out for the whole scene")
    holds = options.scene.removeprefix("sim:").partition(":")[0] not in ("bare", "empty")
    held = options.objects[:1] if holds else []
    values |= {"object": "".join(held), "standing": ",".join(options.objects[len(held) :])}
    for text in options.assignments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError(f"--set {text}: write NAME=VALUE, e.g. skin_tone=0.8")
        values[name] = parse_value(value, f"--set {text}")
    config = make_config(SimulatorConfig, values, where="simulate")
    report = simulate(
        SimulateOptions(options.scene, options.out, config, options.frames, not options.no_bag, options.quiet)
    )
    print(f"{report['frames']} frames of {report['scene']} in {options.out}; './hoi run rgbd:{options.out}' takes them")
    return 0


def command_settings(options: argparse.Namespace) -> int:
    """`hoi settings`."""
    if options.node and options.node not in (*CORE_CONFIGS, *TRAINED):
        raise unknown_name("node", options.node, (*CORE_CONFIGS, *TRAINED))
    if options.node in TRAINED:
        print(f"{options.node}:")
        for part, defaults in training_settings(options.node).items():
            _print_settings(defaults, f"{part}.")
        return 0
    for node in [options.node] if options.node else CORE_CONFIGS:
        print(f"{node}:")
        for config_class in (core_config(node), *NODE_CONFIGS[node]):
            _print_settings(config_class())
    if not options.node:
        print(f"of training: {', '.join(f'./hoi settings {name}' for name in TRAINED)}")
    return 0


def _print_settings(defaults: Any, prefix: str = "") -> None:
    for info in describe_settings(type(defaults)):
        limits = "" if info.low is None and info.high is None else f" [{info.low} .. {info.high}]"
        print(f"  {prefix}{info.name} = {getattr(defaults, info.name)!r}{limits}  {info.help}")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="hoi: %(message)s")
    options = build_parser().parse_args(arguments)
    commands = {
        "run": command_run,
        "live": command_live,
        "record": command_live,
        "simulate": command_simulate,
        "bench": command_bench,
        "train": command_train,
        "settings": command_settings,
    }
    try:
        check_limits(options)
        return commands[options.verb](options)
    except KeyboardInterrupt:
        # Before anything runs; a running system takes the signal itself and closes what is open.
        return 0 if options.verb in ("live", "record") else INTERRUPTED
    except InputError as error:
        print(f"hoi: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"hoi: {error}; './hoi doctor' tells what is missing", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
