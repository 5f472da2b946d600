"""Which films are measured, where they begin, and the table of many of them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from hoi_ros.bench.growth import bench_growth
from hoi_ros.bench.hands import BEFORE_FIT, OURS, bench_hands, estimator_configs
from hoi_ros.bench.inputs import (
    FULL_SCENES,
    NotLabelled,
    SimulatedFilm,
    full_scenes,
    hand_sequences,
    object_sequences,
    spread,
)
from hoi_ros.bench.options import BenchOptions
from hoi_ros.bench.overview import overview
from hoi_ros.bench.results import Row
from hoi_ros.cli import main
from hoi_ros.errors import InputError
from hoi_ros.hand import HandConfig
from hoi_ros.hand.estimator import choose_estimator

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
import lookalikes


def write_captures(folder):
    """A file of three captured grasps, of two objects."""
    folder.mkdir()
    arrays = {}
    for key in ("s__a", "s__b", "s__c"):
        arrays |= {f"{key}/joints21": np.zeros((2, 21, 3)), f"{key}/obj_quat_xyzw": np.zeros((2, 4)),
                   f"{key}/obj_trans": np.zeros((2, 3))}  # fmt: skip
    np.savez(folder / "left.npz", **arrays)
    (folder / "index.csv").write_text("sequence,object\ns/a,003_cracker_box\ns/b,025_mug\ns/c,025_mug\n")
    return folder / "left.npz"


def test_the_full_table_takes_what_the_folders_hold(tmp_path):
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    for name in ("mug.glb", "sugar_box.ply", "spoon.glb"):
        (meshes / name).touch()
    grasps = write_captures(tmp_path / "grasps")
    added = full_scenes(BenchOptions(full=True, meshes=meshes, grasps=grasps))[len(FULL_SCENES) :]
    assert added == (
        f"rotate:{meshes / 'mug.glb'}", f"grasp:{meshes / 'sugar_box.ply'}", f"replay:{grasps}#1", f"replay:{grasps}#0"
    )  # fmt: skip
    films = object_sequences(BenchOptions(full=True))
    assert len(films) == len(FULL_SCENES)


def test_folders_that_add_nothing_are_refused(tmp_path, capsys):
    with pytest.raises(InputError, match=r"expected files such as mug\.glb"):
        full_scenes(BenchOptions(full=True, meshes=tmp_path))
    with pytest.raises(InputError, match="no such file"):
        full_scenes(BenchOptions(full=True, grasps=tmp_path / "left.npz"))
    (tmp_path / "left.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be read"):
        full_scenes(BenchOptions(full=True, grasps=tmp_path / "left.npz"))
    np.savez(tmp_path / "left.npz", **{"a/joints21": np.zeros(1)})
    with pytest.raises(InputError, match=r"index\.csv"):
        full_scenes(BenchOptions(full=True, grasps=tmp_path / "left.npz"))
    assert main(["bench", "tracking", "--meshes", str(tmp_path)]) == 2
    assert "--full" in capsys.readouterr().err


def test_a_film_begins_shortly_before_its_thing_is_held():
    film = SimulatedFilm("grasp:box", 40)
    scene = film.simulator.scene
    assert film.name == "sim:grasp:box" and len(film) == 40
    first, later = film[0].frame.index / film.fps, film[15].frame.index / film.fps
    assert not scene.held_by(first) and scene.held_by(later)
    assert SimulatedFilm("rotate:box", 5)[3].frame.index == 3


def test_both_estimators_are_measured_beside_each_other():
    usual = choose_estimator(HandConfig())
    other = "handos" if usual == "embedded" else "embedded"
    assert (
        list(estimator_configs(BenchOptions())) == [OURS] == list(estimator_configs(BenchOptions(estimators=(usual,))))
    )
    result = bench_hands(
        BenchOptions(peers=False, estimators=(usual, other), quiet=True), [SimulatedFilm("rotate:box", 3)]
    )
    rows = {row.method: row.figures for row in result.rows}
    assert set(rows) == {OURS, OURS + BEFORE_FIT, f"{OURS} {other}", f"{OURS} {other}{BEFORE_FIT}"}
    assert rows[OURS]["pa_mpjpe_mm"] != rows[f"{OURS} {other}"]["pa_mpjpe_mm"]
    assert all(figures["missed"] == 0 for figures in rows.values())
    skins = {name: figures.get("pa_mpvpe_mm") for name, figures in rows.items()}
    assert 0.5 < skins[OURS] < 15 and rows[OURS]["pa_f15_percent"] > 80 and skins[OURS + BEFORE_FIT] is None


def dexycb(root, hands_from: int, frames: int = 3):
    """A film whose first frames show no hand."""
    lookalikes.dexycb(root)
    folder = next(root.glob("*subject*/*/8*"))
    labels = dict(np.load(folder / "labels_000000.npz"))
    for number in range(frames):
        for name in ("color_000000.jpg", "aligned_depth_to_color_000000.png"):
            if number:
                shutil.copy(folder / name, folder / name.replace("000000", f"{number:06d}"))
        hidden = {"joint_3d": np.full_like(labels["joint_3d"], -1)} if number < hands_from else {}
        np.savez(folder / f"labels_{number:06d}.npz", **labels | hidden)
    return root


def test_a_film_is_asked_for_hands_in_all_its_frames(tmp_path, capsys):
    data = dexycb(tmp_path / "late", hands_from=2)
    assert main(["bench", "tracking", "--data", str(data), "--no-peers", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "## tracking" in said and "| hoi_ros | 3 | 3 |" in said, said
    assert len(hand_sequences(BenchOptions(data=data))) == 1
    with pytest.raises(NotLabelled, match=r"in the first 2 frames.*--frames"):
        hand_sequences(BenchOptions(data=data, frames=2))


def test_a_film_without_hands_says_why_our_row_is_missing(tmp_path, capsys):
    data = dexycb(tmp_path / "none", hands_from=3)
    assert main(["bench", "tracking", "--data", str(data), "--no-peers", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "Left out:" in said and "hoi_ros itself; in none of 3 frames a hand is labelled" in said


def test_films_that_are_left_out_are_named(tmp_path, capsys):
    data = dexycb(tmp_path / "data", hands_from=0)
    for old in list(data.glob("*subject*")):
        other = data / "20200709-subject-02"
        shutil.copytree(old, other)
        for path in other.glob("*/8*/labels_*.npz"):
            labels = dict(np.load(path))
            np.savez(path, **labels | {"joint_3d": np.full_like(labels["joint_3d"], -1)})
    skipped: list[str] = []
    assert len(hand_sequences(BenchOptions(data=data), skipped)) == 1
    assert len(skipped) == 1 and "hands: 1 of the films there (DexYCB/" in skipped[0]


def test_a_film_of_one_frame_has_no_motion_to_judge(tmp_path, capsys):
    assert main(["bench", "tracking", "--scene", "rotate:box", "--frames", "1", "--no-peers", "--quiet"]) == 0
    said = capsys.readouterr().out
    header, _, row = (line.split(" | ") for line in said.splitlines()[2:5])
    assert row[header.index("rpe_deg")] == "-" and row[header.index("missed")] == "1", said


def test_frames_are_asked_far_apart_first():
    for count in (0, 1, 2, 7, 100):
        assert sorted(spread(count)) == list(range(count))
    assert list(spread(100))[:3] == [0, 50, 25]


def test_many_films_make_a_small_table():
    def row(film, method, turn, auc):
        figures = {"rotation_median_deg": turn, "rotation_final_deg": 2.0, "add_auc": auc, "add_s_auc": 99.0}
        return Row("tracking", film, method, figures)

    rows = [row(f, m, t, 90.0 + t) for f, t in (("a", 1.0), ("b", 3.0)) for m in ("ours", "peer")]
    assert overview(rows) == ""
    rows += [row("c", "ours", 5.0, 92.0), row("c", "peer", 4.0, 80.0)]
    text = overview(rows)
    assert "| b | 3.00 / 2.00 / 93.0 / 99.0 |" in text and "| mean | 3.00 / 2.00 / 92.0 / 99.0 |" in text
    assert "best rotation_median_deg: ours 2, peer 1" in text and "missed)" not in text
    for r, missed in zip(rows, (0, 0, 3, 0, 4, 0)):
        r.figures["missed"] = missed
    text = overview(rows)
    assert "| b | 3.00 / 2.00 / 93.0 / 99.0 (3 missed) | 3.00 / 2.00 / 93.0 / 99.0 |" in text
    assert "| mean | 3.00 / 2.00 / 92.0 / 99.0 (7 missed) |" in text


def test_growth_of_every_kind(monkeypatch):
    monkeypatch.setattr("hoi_ros.bench.growth.SIZES", ((160, 120), (320, 240)))
    monkeypatch.setattr("hoi_ros.bench.growth.HANDS", ((0, "empty"), (1, "rotate:box")))
    monkeypatch.setattr("hoi_ros.bench.growth.BOX_SIDES_M", (0.04, 0.08))
    monkeypatch.setattr("hoi_ros.bench.growth.FRAMES", 6)
    monkeypatch.setattr("hoi_ros.bench.growth.WARM_UP", 3)
    result = bench_growth(BenchOptions(quiet=True), lengths=(2, 4))
    curves = {curve.sequence: curve.values for curve in result.curves}
    assert list(curves) == ["length", "image size", "hands", "object size"]
    for values in curves.values():
        assert all(len(v) == 2 and np.isfinite(v).all() and (v >= 0).all() for v in values.values())
    assert curves["length"]["memory_mb"].min() > 50
    side = curves["object size"]["thousand surface voxels"]
    assert side[1] == pytest.approx(4 * side[0])
