"""The verb `train`: its options, and the calls behind them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hoi_ros.device import DEVICES
from hoi_ros.errors import InputError
from hoi_ros.training.command_help import HANDOS_HELP, POINTMAP_HELP

TRAINED = ("train.handos", "train.pointmap")
"""What has settings of its own beside the nodes."""

LABELLERS = ("handos", "embedded")
"""Estimators that may label pictures; the first, nearer to real hands, is the usual one."""


def add_train(verbs: Any) -> None:
    """Add the verb, its networks and their options to the command line."""
    parser = verbs.add_parser("train", help="train a network", description="Train a network; a run resumes by itself.")
    networks = parser.add_subparsers(dest="network", metavar="NETWORK", required=True)
    pointmap = networks.add_parser(
        "pointmap", help="pairwise pointmaps of held objects, on the simulator",
        description="Train the pairwise pointmap network; the same folder resumes.",
        epilog=POINTMAP_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    pointmap.add_argument("--out", type=Path, required=True, help="folder of the run")
    pointmap.add_argument("--config", type=Path, help="YAML with the parts network, pairs, loss, train")
    pointmap.add_argument("--set", action="append", default=[], metavar="PART.NAME=VALUE", dest="assignments",
                          help="one setting, e.g. train.batch=16")  # fmt: skip
    pointmap.add_argument("--steps", type=int, help="stop after so many steps in all; a later call goes on")
    pointmap.add_argument("--device", choices=DEVICES, default="auto", help="processor (default: auto)")
    pointmap.add_argument("--quiet", action="store_true", help="no progress bar")
    pointmap.set_defaults(train=train_pointmap_command)
    _add_train_handos(networks)


def _add_train_handos(networks: Any) -> None:
    crops = networks.add_parser(
        "crops", help="make the training data of handos: synthetic hands, seen by the frozen landmark network",
        description="Write shard_*.npz; shards that exist are kept, so a killed call goes on.",
    )  # fmt: skip
    crops.add_argument("--out", type=Path, required=True, help="folder of the shards")
    crops.add_argument("--shards", type=int, default=40, metavar="N", help="shards of 512 crops (default: 40)")
    crops.add_argument("--seed", type=int, default=0)
    crops.add_argument("--processes", type=int, default=2, metavar="P", help="worker processes (default: 2)")
    crops.add_argument(
        "--dataset", type=Path, help="cut the hands of your copy of a data set instead: FreiHAND, HInt, ..."
    )
    crops.add_argument("--unlabelled", metavar="SOURCE", help="cut hands of any source, labelled by an estimator")
    crops.add_argument("--labeller", choices=LABELLERS, default=LABELLERS[0],
                       help=f"with --unlabelled: which estimator (default: {LABELLERS[0]})")  # fmt: skip
    crops.add_argument("--shippable", action="store_true",
                       help="the licence of those pictures or backgrounds lets weights be handed on")  # fmt: skip
    crops.add_argument("--held", type=float, default=0.12, metavar="SHARE",
                       help="share of poses that hold something (default: 0.12)")  # fmt: skip
    crops.add_argument("--detail", action="store_true",
                       help="keep finer feature maps too, which the mask head wants (160 MB a shard)")  # fmt: skip
    crops.add_argument("--hand-model", default="", metavar="FILE",
                       help="your licensed MANO file, whose vertices are learned (default: the free hand)")  # fmt: skip
    crops.add_argument("--backgrounds", type=Path, help="folder of photos to put behind the hands")
    crops.add_argument("--quiet", action="store_true", help="no progress bar")
    crops.set_defaults(train=train_crops_command)
    handos = networks.add_parser(
        "handos", help="the HandOS decoder, on shards of 'hoi train crops'",
        description="Train the HandOS decoder; the same folder resumes.",
        epilog=HANDOS_HELP, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    handos.add_argument("--config", type=Path, help="YAML with the parts training, network, loss, stream")
    handos.add_argument("--data", type=Path,
                        help="folder of shards, with DATA/held_out for scores; with --detector a data set")  # fmt: skip
    handos.add_argument("--stream", action="store_true",
                        help="no shards: crops are made in the training process, on its device")  # fmt: skip
    handos.add_argument("--detector", type=Path, metavar="FOLDER",
                        help="one stage: a full-image detector as transformers' save_pretrained writes it")  # fmt: skip
    handos.add_argument("--held-out", type=Path, metavar="FOLDER",
                        help="with --detector: another data set, for scores")  # fmt: skip
    handos.add_argument("--shippable", action="store_true",
                        help="with --detector, or photos as backgrounds of --stream: their licence lets weights be "
                        "handed on")  # fmt: skip
    handos.add_argument("--out", type=Path, required=True, help="folder of the run")
    handos.add_argument("--device", choices=DEVICES, default="auto", help="processor (default: auto)")
    handos.add_argument("--quiet", action="store_true", help="no progress bar")
    handos.set_defaults(train=train_handos_command)


def training_settings(name: str) -> dict[str, Any]:
    """Parts of one of `TRAINED`'s settings, as configs with their defaults."""
    if name == "train.pointmap":
        from hoi_ros.training import pointmap_trainer

        return pointmap_trainer.PARTS
    from hoi_ros.training import train_handos

    return train_handos.PARTS


def command_train(options: argparse.Namespace) -> int:
    """`hoi train`."""
    return options.train(options)


def train_pointmap_command(options: argparse.Namespace) -> int:
    """`hoi train pointmap`."""
    from hoi_ros.device import resolve_device
    from hoi_ros.training.pointmap_trainer import read_settings, train_pointmap

    settings = read_settings(options.config, options.assignments)
    trainer = train_pointmap(
        options.out, settings, steps=options.steps, device=resolve_device(options.device), quiet=options.quiet
    )
    print(f"{trainer.step} steps taken; weights, curve and pictures in {options.out}")
    return 0


def train_crops_command(options: argparse.Namespace) -> int:
    """`hoi train crops`."""
    from tqdm import tqdm

    from hoi_ros.training.feature_cache import SHARD_CROPS, make_shards

    if options.shards < 1 or options.processes < 1:
        raise InputError("--shards and --processes: give at least 1")
    if options.dataset and options.unlabelled:
        raise InputError("--dataset and --unlabelled: give one of them")
    if options.dataset or options.unlabelled:
        return _cut_labelled_crops(options)
    if not 0 <= options.held <= 1:
        raise InputError(f"--held {options.held}: give a share from 0 to 1")
    made = make_shards(
        options.out,
        options.shards,
        seed=options.seed,
        processes=options.processes,
        backgrounds=options.backgrounds,
        held_share=options.held,
        detail=options.detail,
        shippable=options.shippable,
        hand_model=options.hand_model,
    )
    for _ in tqdm(made, total=options.shards, unit="shard", disable=options.quiet):
        pass
    print(f"{options.shards} shards of {SHARD_CROPS} crops in {options.out}")
    return 0


def _cut_labelled_crops(options: argparse.Namespace) -> int:
    from hoi_ros.hand_model import choose_hand_model
    from hoi_ros.sources.grammar import parse_source
    from hoi_ros.training.labelled_crops import dataset_frames, pseudo_labelled_frames, write_labelled_shards

    if options.dataset:
        frames, name = dataset_frames(options.dataset), options.dataset.resolve().name
    else:
        kind, argument = parse_source(options.unlabelled)
        # The card goes into weights that are handed on: the name of the pictures, not where they lay.
        name = f"pseudo-labels by {options.labeller} of {kind} {Path(argument).name}".strip()
        frames = pseudo_labelled_frames(options.unlabelled, options.labeller)
    count = write_labelled_shards(
        frames, options.out, name=name, shippable=options.shippable, seed=options.seed, most=options.shards,
        model=choose_hand_model(options.hand_model),
    )  # fmt: skip
    print(f"{count} crops in {options.out}")
    return 0


def train_handos_command(options: argparse.Namespace) -> int:
    """`hoi train handos`."""
    from tqdm import tqdm

    from hoi_ros.device import resolve_device
    from hoi_ros.training.train_handos import HandOsTrainer, read_plan

    plan, data, device = read_plan(options.config), options.data, resolve_device(options.device)
    streamed = bool(options.stream or plan.stream)
    if streamed and options.detector:
        raise InputError("--stream makes crops, a --detector wants whole pictures: give one of them")
    if options.held_out and not options.detector:
        raise InputError("--held-out goes with --detector; shards have theirs in DATA/held_out")
    if options.shippable and not (options.detector or streamed):
        raise InputError("--shippable goes with --detector or --stream; shards say it themselves")
    if streamed:
        from hoi_ros.training.batch_stream import open_stream

        plan, data = open_stream(plan, options.data, device, shippable=options.shippable)
    elif data is None:
        raise InputError("training data: give --data FOLDER of shards, or --stream to make crops while training")
    elif options.detector:
        from hoi_ros.training.full_images import open_full_images

        plan, data = open_full_images(
            plan, options.data, options.detector, device, held_out=options.held_out, shippable=options.shippable
        )
    trainer = HandOsTrainer(plan, data, options.out, device)
    with tqdm(total=plan.training.steps, initial=trainer.step, unit="step", disable=options.quiet) as bar:

        def show(step: int, loss: float) -> None:
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{loss:.3f}")

        trainer.train(show)
    print(f"{trainer.step} steps; weights, curves and pictures in {options.out}")
    return 0
