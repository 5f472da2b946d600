"""Scores results that were made before (`./hoi run --out`, or another program in its form) against labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hoi_ros.bench.hands import FoundHand, HandScore
from hoi_ros.bench.inputs import NotLabelled, hand_sequences, object_sequences
from hoi_ros.bench.interaction import score_interaction
from hoi_ros.bench.options import BenchOptions
from hoi_ros.bench.results import BenchResult, Row
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets.records import LabelledSequence
from hoi_ros.evaluation.predictions import Predictions, read_predictions
from hoi_ros.evaluation.protocols import bundlesdf_errors, hold_errors
from hoi_ros.evaluation.report import pose_report
from hoi_ros.evaluation.surfaces import sample_surface
from hoi_ros.geometry import invert_transform

NEEDS = {
    "hands": ("hands.npz",),
    "tracking": ("object_poses.txt",),
    "reconstruction": ("object_poses.txt",),
    "interaction": ("hands.npz", "object_poses.txt", "object.ply"),
}
"""Files of results that each target cannot do without; nothing is said of the others."""
USES = {"reconstruction": ("object.ply",)}
"""What it takes besides where it is there: a run without a mesh has an absent one."""


def score_results(options: BenchOptions, folder: Path, units: str) -> BenchResult:
    """Judge a folder of results against the one film in `options.data`.

    A target that the film has no labels for is left out and named; what was to be judged and is not there is an error.

    Raises:
        InputError: no data, more than one film in it, labels for no target, a file of the results is missing or empty,
            or they are of another film or form.
    """
    if options.data is None:
        raise InputError("--results needs --data: the labelled film that the results were made from")
    result = BenchResult()
    films = _films(options, result.skipped)
    wanted = {name for target in films for name in (*NEEDS[target], *USES.get(target, ()))}
    predictions = read_predictions(folder, units, wanted)
    for target in films:
        for name in NEEDS[target]:
            if not (folder / name).exists():
                there = [t for t in films if all((folder / n).exists() for n in NEEDS[t])]
                hint = f"; to judge what is, say './hoi bench {' '.join(there)} ...'" if there else ""
                raise InputError(f"{target}: expected {name} in {folder}, and it is not there{hint}")
    if "hands" in films:
        result.rows.append(_hands(predictions, films["hands"], options.quiet))
    if objects := [t for t in ("tracking", "reconstruction") if t in films]:
        result.rows += _object(predictions, films[objects[0]], objects, options.quiet)
        if "reconstruction" in objects and predictions.mesh is None:
            result.skipped.append(f"reconstruction: no object.ply in {folder}; an absent mesh counts as the worst")
    if "interaction" in films:
        result.rows.append(score_interaction(predictions, films["interaction"], options.quiet))
    return result


def _films(options: BenchOptions, skipped: list[str]) -> dict[str, LabelledSequence]:
    """The film for each target that it has labels for; the other targets are named in `skipped`."""
    films: dict[str, LabelledSequence] = {}
    whole = dataclasses.replace(options, frames=0)
    for target in options.targets:
        try:
            if target == "hands":
                films[target] = _only(hand_sequences(whole), options)
            elif target in NEEDS:
                films[target] = _only(object_sequences(whole), options)
            else:
                skipped.append(f"{target}: nothing of it is in finished results")
        except NotLabelled as error:
            skipped.append(f"{target}: {error}")
    if not films:
        raise InputError(f"--results: nothing to judge; {'; '.join(skipped)}")
    return films


def _only(sequences: Sequence[LabelledSequence], options: BenchOptions) -> LabelledSequence:
    if len(sequences) != 1:
        names = ", ".join(s.name for s in sequences[:5])
        raise InputError(f"--results belong to one film, and {options.data} holds {len(sequences)} ({names}): name one")
    return sequences[0]


def _hands(predictions: Predictions, sequence: LabelledSequence, quiet: bool) -> Row:
    rows = predictions.hands
    assert rows is not None
    if rows.frame.max() >= len(sequence) or rows.frame.min() < 0:
        raise InputError(
            f"{predictions.folder / 'hands.npz'}, field 'frame': {rows.frame.min()} to {rows.frame.max()}, "
            f"but {sequence.name} has {len(sequence)} frames"
        )
    skins = rows.vertices_camera
    score = HandScore(sequence, absolute=True, faces=rows.faces)
    for index, item in enumerate(tqdm(sequence, total=len(sequence), desc="hands", disable=quiet)):
        found = [
            FoundHand(
                str(rows.handedness[i]),
                rows.joints_px[i],
                rows.joints_camera[i],
                int(rows.track_id[i]),
                None if skins is None else skins[i],
            )
            for i in np.flatnonzero(rows.frame == index)
        ]
        score.add(item, found, float("nan"))
    return Row("hands", sequence.name, predictions.folder.name, score.figures())


def _object(predictions: Predictions, sequence: LabelledSequence, targets: Sequence[str], quiet: bool) -> list[Row]:
    """Rows of tracking, reconstruction or both."""
    items = [
        (item.frame.stamp_s, item.T_camera_object)
        for item in tqdm(sequence, total=len(sequence), desc="object", disable=quiet)
        if item.T_camera_object is not None
    ]
    truth, mesh = np.array([pose for _, pose in items]), sequence.object_mesh()
    poses = predictions.poses_at(np.array([stamp for stamp, _ in items]))
    assert mesh is not None
    name, rows = predictions.folder.name, []
    if "tracking" in targets:
        points = sample_surface(mesh.vertices, mesh.faces, 2000)
        rows.append(Row("tracking", sequence.name, name, dict(pose_report(poses, truth, points))))
    if "reconstruction" not in targets:
        return rows
    found = np.flatnonzero(np.isfinite(poses).all((1, 2)))
    first = invert_transform(truth[found[0]]) @ poses[found[0]] if len(found) else np.eye(4)
    hold, whole = hold_errors(predictions.mesh, mesh), bundlesdf_errors(predictions.mesh, mesh, first)
    figures = {
        "hold_cd_cm2": hold.chamfer_cm2, "hold_f5_percent": hold.f5_percent, "hold_f10_percent": hold.f10_percent,
        "whole_cd_cm": whole.chamfer_mm / 10,
    }  # fmt: skip
    return [*rows, Row("reconstruction", sequence.name, name, dict(figures))]
