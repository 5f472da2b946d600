"""Figures of a whole sequence, and tables of them. Every report says how many frames were missed; see `summarize`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hoi_ros.evaluation import metrics
from hoi_ros.evaluation.poses import align_first_pose
from hoi_ros.evaluation.summary import (
    WORST_ALIGNED_JOINT_M,
    WORST_JOINT_M,
    WORST_PX_SHARE,
    WORST_ROTATION_DEG,
    WORST_TRANSLATION_M,
    summarize,
    with_missed,
)

STILL_M = 1e-6
"""Extent of a track below which its places say nothing of how it is turned."""


def hand_report(
    joints: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    joints_px: np.ndarray | None = None,
    truth_px: np.ndarray | None = None,
    sides: Sequence[str | None] | None = None,
    truth_sides: Sequence[str] | None = None,
    absolute: bool = True,
) -> dict[str, float | int]:
    """Hand figures in millimetres and pixels, means over all hands; a missed hand counts as the worst value.

    Args:
        joints: (N, 21, 3) metres, NaN rows for missed hands; None where only pixels are known.
        truth: (N, 21, 3) metres.
        joints_px: (M, 21, 2) pixels, with `truth_px` alike.
        truth_px: (M, 21, 2) pixels.
        sides: K of 'left', 'right' or None, with `truth_sides` alike; a missed hand counts as wrong.
        truth_sides: K of 'left' or 'right'.
        absolute: `joints` are in the camera frame; else only figures that do not need it.

    Raises:
        ValueError: no hand, or shapes differ.
    """
    report: dict[str, float | int] = {}
    if joints_px is not None and truth_px is not None:
        pixels = metrics.mpjpe(joints_px, truth_px)
        report = {"hands": len(pixels), "missed": int((~np.isfinite(pixels)).sum())}
    if joints is not None and truth is not None:
        report |= _hand_errors_mm(joints, truth, absolute)
    if joints_px is not None and truth_px is not None:
        box = np.nan_to_num(np.nanmax(truth_px, 1) - np.nanmin(truth_px, 1)).max(1)
        report["error_2d_px"] = summarize(pixels, WORST_PX_SHARE * box).mean
        report["pck_0.1_percent"] = 100 * metrics.pck(joints_px, truth_px, 0.1, np.maximum(box, 1))
    if sides is not None and truth_sides is not None:
        report["handedness_percent"] = 100 * metrics.handedness_accuracy(sides, truth_sides)
    return report


def _hand_errors_mm(joints: np.ndarray, truth: np.ndarray, absolute: bool) -> dict[str, float | int]:
    """Figures in space."""
    aligned = summarize(metrics.pa_mpjpe(joints, truth), WORST_ALIGNED_JOINT_M)
    reflecting = summarize(metrics.pa_mpjpe_reflecting(joints, truth), WORST_ALIGNED_JOINT_M)
    root = summarize(metrics.root_relative_mpjpe(joints, truth), WORST_JOINT_M)
    report: dict[str, float | int] = {"hands": len(truth), "missed": aligned.missed}
    if absolute:
        report["mpjpe_mm"] = summarize(metrics.mpjpe(joints, truth), WORST_JOINT_M).mean * 1e3
        known = np.isfinite(truth[..., 2])
        shift = np.where(known, joints[..., 2] - truth[..., 2], 0).sum(1) / np.maximum(known.sum(1), 1)
        report["distance_median_mm"] = summarize(np.abs(shift), WORST_JOINT_M).median * 1e3
    return report | {
        "root_relative_mm": root.mean * 1e3,
        "pa_mpjpe_mm": aligned.mean * 1e3,
        "pa_mpjpe_median_mm": aligned.median * 1e3,
        "pa_mpjpe_reflecting_mm": reflecting.mean * 1e3,
        "pa_auc_percent": 100 * metrics.pck_auc(metrics.procrustes_align(joints, truth), truth),
    }


def mesh_report(vertices: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Figures of hand meshes after the best similarity without reflection; a missed hand counts as the worst value.

    Args:
        vertices: (N, V, 3) metres, NaN rows for missed hands.
        truth: (N, V, 3) metres, vertex by vertex of the same hand model.

    Raises:
        ValueError: no hand, or shapes differ.
    """
    aligned = metrics.procrustes_align(vertices, truth)
    return {
        "pa_mpvpe_mm": summarize(metrics.mpjpe(aligned, truth), WORST_ALIGNED_JOINT_M).mean * 1e3,
        **{f"pa_f{mm}_percent": 100 * float(metrics.mesh_f_scores(aligned, truth, mm * 1e-3).mean()) for mm in (5, 15)},
    }


def pose_report(poses: np.ndarray, truth: np.ndarray, points_object: np.ndarray) -> dict[str, float | int]:
    """Object pose figures with the first tracked pose brought onto the true one, as BundleSDF does.

    Args:
        poses: (N, 4, 4) T_camera_object in the tracker's own object frame, NaN for frames that are lost.
        truth: (N, 4, 4) T_camera_object of the model.
        points_object: (P, 3) points of the model, metres.

    Raises:
        ValueError: shapes differ.
    """
    aligned = align_first_pose(poses, truth)
    rotation = metrics.rotation_errors_deg(aligned, truth)
    translation = metrics.translation_errors(aligned, truth)
    add, add_s = (f(aligned, truth, points_object) for f in (metrics.add_errors, metrics.add_s_errors))
    turned, moved = summarize(rotation, WORST_ROTATION_DEG), summarize(translation, WORST_TRANSLATION_M)
    return {
        "frames": len(truth),
        "missed": moved.missed,
        "rotation_median_deg": turned.median,
        "rotation_max_deg": turned.maximum_found,
        "rotation_p95_deg": turned.p95,
        "rotation_final_deg": _final(rotation, WORST_ROTATION_DEG),
        "translation_median_mm": moved.median * 1e3,
        "translation_max_mm": moved.maximum_found * 1e3,
        "translation_final_mm": _final(translation, WORST_TRANSLATION_M) * 1e3,
        "ate_mm": _ate_m(aligned, truth) * 1e3,
        "add_auc": metrics.area_under_curve(add),
        "add_s_auc": metrics.area_under_curve(add_s),
    }


def _final(errors: np.ndarray, worst: float) -> float:
    """The last frame's error, the worst value when it is lost."""
    return float(with_missed(errors, worst)[-1])


def _ate_m(aligned: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square of ATE; poses too few, or all at one place, for a motion of their own are taken as they lie."""
    places = aligned[np.isfinite(aligned).all((1, 2)), :3, 3]
    movable = len(places) >= 3 and np.ptp(places, axis=0).max() > STILL_M
    return metrics.absolute_trajectory_errors(aligned, truth, "se3" if movable else "none").rmse


def markdown_table(rows: Sequence[Mapping[str, object]], digits: int = 2) -> str:
    """A Markdown table of mappings; the first row names the columns, numbers are rounded, absent ones show '-'."""
    if not rows:
        return ""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name), digits) for name in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, (float, np.floating)):
        return f"{value:.{digits}f}"
    return str(value).replace("|", "\\|")
