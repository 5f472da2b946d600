"""Scores results that were made before (`./hoi run --out`, or another program in its form) against labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hoi_ros.bench.hands import FoundHand, HandScore
from hoi_ros.bench.inputs import hand_sequences, object_sequences
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


def score_results(options: BenchOptions, folder: Path, units: str) -> BenchResult:
    """Judge a folder of results against the one film in `options.data`.

    Raises:
        InputError: no data, more than one film in it, or results of another film or form.
    """
    if options.data is None:
        raise InputError("--results needs --data: the labelled film that the results were made from")
    predictions = read_predictions(folder, units)
    result = BenchResult()
    if predictions.hands is not None and "hands" in options.targets:
        sequence = _only(hand_sequences(options), options)
        result.rows.append(_hands(predictions, sequence, options.quiet))
    if predictions.T_camera_object is not None and {"tracking", "reconstruction"} & set(options.targets):
        result.rows += _object(predictions, _only(object_sequences(options), options), options.quiet)
    if "interaction" in options.targets:
        result.rows.append(score_interaction(predictions, _only(object_sequences(options), options), options.quiet))
    return result


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
    score = HandScore(sequence, absolute=True)
    for index, item in enumerate(tqdm(sequence, total=len(sequence), desc="hands", disable=quiet)):
        found = [
            FoundHand(str(rows.handedness[i]), rows.joints_px[i], rows.joints_camera[i], int(rows.track_id[i]))
            for i in np.flatnonzero(rows.frame == index)
        ]
        score.add(item, found, float("nan"))
    return Row("hands", sequence.name, predictions.folder.name, score.figures())


def _object(predictions: Predictions, sequence: LabelledSequence, quiet: bool) -> list[Row]:
    items = [
        (item.frame.stamp_s, item.T_camera_object)
        for item in tqdm(sequence, total=len(sequence), desc="object", disable=quiet)
        if item.T_camera_object is not None
    ]
    truth, mesh = np.array([pose for _, pose in items]), sequence.object_mesh()
    poses = predictions.poses_at(np.array([stamp for stamp, _ in items]))
    assert mesh is not None
    points = sample_surface(mesh.vertices, mesh.faces, 2000)
    name = predictions.folder.name
    rows = [Row("tracking", sequence.name, name, dict(pose_report(poses, truth, points)))]
    found = np.flatnonzero(np.isfinite(poses).all((1, 2)))
    first = invert_transform(truth[found[0]]) @ poses[found[0]] if len(found) else np.eye(4)
    hold, whole = hold_errors(predictions.mesh, mesh), bundlesdf_errors(predictions.mesh, mesh, first)
    figures = {
        "hold_cd_cm2": hold.chamfer_cm2, "hold_f5_percent": hold.f5_percent, "hold_f10_percent": hold.f10_percent,
        "whole_cd_cm": whole.chamfer_mm / 10,
    }  # fmt: skip
    return [*rows, Row("reconstruction", sequence.name, name, dict(figures))]
