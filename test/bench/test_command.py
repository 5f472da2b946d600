"""The verb: what it refuses, what it writes, and results judged against their film."""

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hoi_ros.bench.failures import TILE_PX, BestAndWorst
from hoi_ros.bench.growth import bench_growth  # noqa: F401  must import without data
from hoi_ros.bench.plots import draw_plots
from hoi_ros.bench.results import BenchResult, Curve, Row
from hoi_ros.cli import main
from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.evaluation import protocols
from hoi_ros.results import tum_line
from hoi_ros.simulate import SimulateOptions, simulate
from hoi_ros.simulation import SimulatorConfig
from hoi_ros.truth_file import read_truth

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
import lookalikes

CAMERA = CameraIntrinsics.from_fov(80, 60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hand"], "unknown bench target 'hand': did you mean 'hands'"),
        (["hands", "--data", "/nowhere"], "/nowhere: no such folder"),
        (["hands", "--frames", "-1"], "--frames -1"),
        (["--compare", "--baseline", "/nowhere/b.json"], "record-baseline"),
        (["--record-baseline", "1"], "needs 2 runs"),
        (["hands", "--json", "/nowhere/a.json"], "no folder /nowhere"),
        (["hands", "--json", "/proc"], "cannot be written"),
        (["--results", "/nowhere"], "--results needs --data"),
        (["tracking", "--scene", "rotat:mug"], "unknown scene 'rotat'"),
        (["tracking", "--peer", "RGBD odometry"], "'Open3D RGB-D odometry, frame to frame'"),
    ],
)
def test_bad_input_is_a_line_and_code_2(arguments, said, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_small_run_writes_tables_and_pictures(tmp_path, capsys, monkeypatch):
    for name, value in (("SAMPLES", 4000), ("ALIGN_SAMPLES", 500), ("STARTS", 4)):
        monkeypatch.setattr(protocols, name, value)
    out = tmp_path / "out"
    arguments = ["--scene", "rotate:box", "--frames", "6", "--no-peers", "--out", str(out), "--quiet"]
    assert main(["bench", *arguments]) == 0
    assert "| sim:rotate:box | hoi_ros |" in capsys.readouterr().out
    record = json.loads((out / "results.json").read_text())
    assert {row["target"] for row in record["rows"]} == {"hands", "tracking", "reconstruction"}
    shapes = {row["method"]: row for row in record["rows"] if row["target"] == "reconstruction"}
    held = shapes["hoi_ros, own poses"]  # the front of a box and a hand that is found well
    assert held["joint_hand_f5_percent"] > 50 and 0 < held["joint_object_f5_percent"] < held["joint_hand_f5_percent"]
    assert "joint_f5_percent" not in shapes["hoi_ros, true poses"], "where poses are given no hand is found"
    assert record["machine"]["cores"] >= 1 and "pa_mpjpe_mm" in (out / "results.md").read_text()
    assert (out / "hands_sim_rotate_box.jpg").exists()
    assert cv2.imread(str(out / "extremes_hands_sim_rotate_box.jpg")).shape == (4 * TILE_PX + 6, 5 * TILE_PX, 3)


def test_the_best_and_the_worst_hands_are_kept_and_missed_ones_come_first(tmp_path):
    frame, hand = (
        RgbdFrame(np.full((60, 80, 3), 200, np.uint8), CAMERA, 0),
        np.random.default_rng(0).random((21, 2)) * 40,
    )
    sheet = BestAndWorst()
    sheet.save(tmp_path / "none.jpg")
    for error in np.random.default_rng(1).permutation(30):
        sheet.offer(float(error), "mm", frame, hand, hand + error)
    sheet.offer(float("nan"), "px", frame, hand, None)
    assert [one.error for one in sheet._best] == list(range(10))
    assert [one.error for one in sheet._worst] == [np.inf, *range(29, 20, -1)]
    sheet.save(tmp_path / "some.jpg")
    assert (tmp_path / "some.jpg").exists() and not (tmp_path / "none.jpg").exists()


def test_plots_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    random, frames = np.random.default_rng(0), np.arange(40.0)
    curve = Curve(
        "tracking", "a", "ours", {"frame": frames, "ADD mm": random.random(40), "distance m": random.random(40)}
    )
    lost = Curve(
        "tracking", "a", "peer", {"frame": frames, "ADD mm": np.full(40, np.inf), "distance m": random.random(40)}
    )
    growth = Curve("growth", "image size", "ours", {"megapixels": np.arange(3.0), "hand_ms": np.arange(3.0)})
    rows = [Row("tracking", "a", "ours", {"ms_p50": 5.0, "add_auc": 90.0}),
            Row("latency", "one hand", "composed", {"ms_p50": 5.0, "ms_p95": 6.0, "ms_p99": 7.0})]  # fmt: skip
    times = {"tracking: ours": [5.0, 6.0], "latency: one hand, composed": [5.0, 6.0, 9.0]}
    result = BenchResult(rows, times, [curve, lost, growth])
    names = {path.name for path in draw_plots(result, tmp_path)}
    assert names == {"tracking_over_time.png", "tracking_against.png", "accuracy_against_time.png",
                     "growth_image_size.png", "times.png", "latency.png"}  # fmt: skip


def test_plots_show_what_was_missed(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figures = {}
    monkeypatch.setattr(
        "hoi_ros.bench.plots._save", lambda figure, path: figures.setdefault(path.name, figure) and path
    )
    frames = np.repeat(np.arange(40.0), 2)
    errors = np.full(80, 5.0)
    errors[40:60:2] = np.inf  # ten frames with one hand missed
    errors[60:] = np.inf  # ten frames with both
    curve = Curve("hands", "a", "ours", {"frame": frames, "PA-MPJPE mm": errors, "distance m": frames})
    figures_of = ({"ms_p50": 1.0, "seen_accuracy_mm": value} for value in (2.0, np.inf))
    rows = [Row("reconstruction", f, "ours", values) for f, values in zip("ab", figures_of)]
    draw_plots(BenchResult(rows, curves=[curve]), tmp_path)
    (axis,) = figures["hands_over_time.png"].axes
    line, crosses = axis.get_lines()
    assert line.get_label() == "ours (30 missed)"
    np.testing.assert_array_equal(crosses.get_xdata(), np.arange(20, 40))
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), np.arange(40) >= 30)
    (axis,) = figures["hands_against.png"].axes
    (line,) = axis.get_lines()
    assert line.get_label() == "ours (30 missed)"
    assert line.get_ydata()[0] == 5 and line.get_ydata()[-1] == 50, "a missed hand is 50 mm off"
    (axis,) = figures["accuracy_against_time.png"].axes
    assert axis.get_legend_handles_labels()[1] == ["ours (1 without result)"]
    pyplot.close("all")


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A short simulated film."""
    folder = tmp_path_factory.mktemp("film") / "film"
    config = SimulatorConfig(width=160, height=120, frames=6)
    simulate(SimulateOptions("rotate:box", folder, config, bag=False, quiet=True))
    return folder


def write_results(folder, film, **changes) -> None:
    """The truth itself, as `hoi run` would write it."""
    truth = read_truth(film)
    folder.mkdir(parents=True)
    arrays = {
        "frame": truth.hand_row, "handedness": truth.handedness, "track_id": np.zeros(len(truth.hand_row), int),
        "joints_camera_m": truth.joints_camera_m, "joints_px": truth.joints_camera_m[..., :2],
    }  # fmt: skip
    focal, center = truth.intrinsics[:2], truth.intrinsics[2:]
    arrays["joints_px"] = truth.joints_camera_m[..., :2] / truth.joints_camera_m[..., 2:] * focal + center
    np.savez(folder / "hands.npz", **arrays | changes)


def write_object(folder, film, poses=True, mesh=True) -> None:
    """The true poses and mesh, as `hoi run` would write them."""
    truth = read_truth(film)
    lines = [tum_line(ns * 1e-9, T[0]) for ns, T in zip(truth.stamp_ns, truth.T_camera_object)]
    if poses:
        (folder / "object_poses.txt").write_text("\n".join(lines))
    if mesh:
        shutil.copy(film / "meshes" / "box.ply", folder / "object.ply")


def score(film, folder, capsys, *more, targets=("hands",)) -> tuple[int, str]:
    """Exit code and all that was printed."""
    code = main(["bench", *targets, "--data", str(film), "--results", str(folder), "--quiet", *more])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_truth_scores_perfectly(film, tmp_path, capsys):
    write_results(tmp_path / "mine", film)
    json_path = tmp_path / "a.json"
    assert score(film, tmp_path / "mine", capsys, "--json", str(json_path))[0] == 0
    (row,) = json.loads(json_path.read_text())["rows"]
    assert row["missed"] == 0 and row["mpjpe_mm"] < 1e-3 and row["handedness_percent"] == 100
    assert "pa_mpvpe_mm" not in row
    truth = read_truth(film)
    write_results(tmp_path / "b", film, vertices_camera_m=truth.vertices_camera_m, faces=truth.faces)
    assert score(film, tmp_path / "b", capsys, "--json", str(json_path))[0] == 0
    (row,) = json.loads(json_path.read_text())["rows"]
    assert row["pa_mpvpe_mm"] < 1e-3 and row["pa_f5_percent"] == 100


def test_units_lengths_and_emptiness_name_file_and_field(film, tmp_path, capsys):
    joints = read_truth(film).joints_camera_m
    write_results(tmp_path / "a", film, joints_camera_m=joints * 1000)
    code, said = score(film, tmp_path / "a", capsys)
    assert code == 2 and "hands.npz, field 'joints_camera_m'" in said and "--units mm" in said
    assert score(film, tmp_path / "a", capsys, "--units", "mm")[0] == 0
    assert "unknown unit 'inch'" in score(film, tmp_path / "a", capsys, "--units", "inch")[1]
    write_results(tmp_path / "b", film, joints_camera_m=joints[1:])
    code, said = score(film, tmp_path / "b", capsys)
    assert code == 2 and "hands.npz: fields differ in length" in said and "'joints_camera_m' 5" in said
    write_results(tmp_path / "c", film, frame=np.zeros(0, int))
    code, said = score(film, tmp_path / "c", capsys)
    assert code == 2 and "hands.npz, field 'frame' is empty" in said
    write_results(tmp_path / "d", film, frame=read_truth(film).hand_row + 100)
    code, said = score(film, tmp_path / "d", capsys)
    assert code == 2 and "field 'frame'" in said and "6 frames" in said
    (tmp_path / "e").mkdir()
    assert "expected hands.npz or object_poses.txt" in score(film, tmp_path / "e", capsys)[1]
    (tmp_path / "e/object_poses.txt").write_text("1 2 3\n")
    assert "expected 8 numbers a line" in score(film, tmp_path / "e", capsys, targets=["tracking"])[1]
    (tmp_path / "e/object_poses.txt").write_text("900.0 0 0 1 0 0 0 1\n")
    assert "field 'stamp'" in score(film, tmp_path / "e", capsys, targets=["tracking"])[1]


@pytest.mark.parametrize("targets", [(), ("tracking",), ("reconstruction",)])
def test_missing_poses_are_said(film, tmp_path, capsys, targets):
    write_results(tmp_path / "a", film)
    write_object(tmp_path / "a", film, poses=False)
    code, said = score(film, tmp_path / "a", capsys, targets=targets)
    assert code == 2 and f"expected object_poses.txt in {tmp_path / 'a'}" in said and said.count("\n") == 1


@pytest.mark.parametrize("targets", [(), ("hands",), ("interaction",)])
def test_missing_hands_are_said(film, tmp_path, capsys, targets):
    write_results(tmp_path / "a", film)
    write_object(tmp_path / "a", film)
    (tmp_path / "a/hands.npz").unlink()
    code, said = score(film, tmp_path / "a", capsys, targets=targets)
    assert code == 2 and f"expected hands.npz in {tmp_path / 'a'}" in said and said.count("\n") == 1


def test_only_the_files_of_the_wanted_targets_matter(film, tmp_path, capsys):
    write_results(tmp_path / "a", film, frame=np.zeros(0, int), handedness=np.zeros(0, "U5"), track_id=np.zeros(0, int),
                  joints_camera_m=np.zeros((0, 21, 3)), joints_px=np.zeros((0, 21, 2)))  # fmt: skip
    write_object(tmp_path / "a", film)
    code, said = score(film, tmp_path / "a", capsys, targets=["tracking"])
    assert code == 0 and "## tracking" in said and "## reconstruction" not in said
    assert "| 100.00 | 100.00 |" in said, said
    code, said = score(film, tmp_path / "a", capsys, targets=["hands"])
    assert code == 2 and "hands.npz, field 'frame' is empty" in said
    write_results(tmp_path / "b", film)
    (tmp_path / "b/object_poses.txt").write_text("# nothing was tracked\n")
    assert score(film, tmp_path / "b", capsys, targets=["hands"])[0] == 0
    code, said = score(film, tmp_path / "b", capsys, targets=["tracking"])
    assert code == 2 and "object_poses.txt, field 'pose lines' is empty" in said


def test_an_absent_mesh_is_the_worst_and_is_said(film, tmp_path, capsys, monkeypatch):
    write_results(tmp_path / "a", film)
    write_object(tmp_path / "a", film, mesh=False)
    code, said = score(film, tmp_path / "a", capsys, targets=["reconstruction"])
    assert code == 0 and "| inf | 0.00 | 0.00 |" in said and "no object.ply" in said


def test_what_a_film_has_no_labels_for_is_left_out_and_named(film, tmp_path, capsys):
    root = tmp_path / "photos"
    lookalikes.hands_real(root)
    write_results(tmp_path / "a", film, frame=np.zeros(len(read_truth(film).hand_row), int))
    code, said = score(root, tmp_path / "a", capsys, targets=())
    assert code == 0 and "## hands" in said and "- tracking: data folder" in said and "- reconstruction: " in said
    code, said = score(root, tmp_path / "a", capsys, targets=["tracking"])
    assert code == 2 and "nothing to judge" in said
    assert "nothing of it is in finished results" in score(film, tmp_path / "a", capsys, targets=["growth"])[1]
