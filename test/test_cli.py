"""The command line: settings reach the parts, bad input gets one line and exit code 2."""

import json
from pathlib import Path

import pytest

from hoi_ros import cli
from hoi_ros.errors import InputError


def refused(capsys, *arguments: str) -> str:
    """Run a verb that must be refused; returns its one line."""
    assert cli.main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("hoi: ")
    return lines[0]


def test_assignments_win_over_files(tmp_path: Path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("hand_node: {ros__parameters: {max_hands: 1, smoothing: false}}")
    second.write_text("hand_node: {ros__parameters: {max_hands: 3}}")
    parameters = cli.gather_parameters([first, second], ["hand_node.max_hands=4"])
    configs = cli.build_core_configs(parameters)
    assert configs["hand_node"].max_hands == 4
    assert configs["hand_node"].smoothing is False


@pytest.mark.parametrize("text", ["max_hands=1", "hand_node.max_hands", "hand_node.=2", "=3"])
def test_malformed_assignment_is_refused(text: str):
    with pytest.raises(InputError, match=r"NODE\.NAME=VALUE"):
        cli.gather_parameters([], [text])


def test_unknown_setting_suggests_the_nearest(capsys, tmp_path: Path):
    line = refused(capsys, "run", "sim", "--out", str(tmp_path / "o"), "--set", "hand_node.max_hand=1")
    assert "max_hands" in line
    line = refused(capsys, "run", "sim", "--out", str(tmp_path / "o"), "--set", "hand_nod.max_hands=1")
    assert "hand_node" in line
    assert not (tmp_path / "o").exists()


def test_out_of_range_setting_names_its_range(capsys, tmp_path: Path):
    line = refused(capsys, "run", "sim", "--out", str(tmp_path / "o"), "--set", "hand_node.max_hands=-1")
    assert "range" in line and "max_hands" in line


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("vidoe:x.mp4", "video"),
        ("video:/nowhere.mp4", "/nowhere.mp4"),
        ("sim:rotat", "rotate"),
        ("images:/nowhere", "/nowhere"),
    ],
)
def test_bad_source_leaves_nothing_behind(capsys, tmp_path: Path, source: str, word: str):
    assert word in refused(capsys, "run", source, "--out", str(tmp_path / "o"))
    assert not (tmp_path / "o").exists()


def test_cuda_without_a_gpu_is_refused(capsys, tmp_path: Path, monkeypatch):
    there = Path.exists
    monkeypatch.setattr(
        "hoi_ros.device.Path.exists", lambda self: there(self) and not str(self).startswith(("/dev", "/proc"))
    )
    assert "cuda" in refused(capsys, "run", "sim:empty", "--out", str(tmp_path / "o"), "--device", "cuda")


def test_output_that_is_a_file_is_refused(capsys, tmp_path: Path):
    (tmp_path / "o").write_text("")
    assert "is a file" in refused(capsys, "run", "sim:empty", "--out", str(tmp_path / "o"), "--frames", "1")


def test_missing_parameter_file_is_named(capsys, tmp_path: Path):
    path = tmp_path / "none.yaml"
    assert str(path) in refused(capsys, "run", "sim", "--out", str(tmp_path / "o"), "--params", str(path))


def test_every_setting_is_listed_with_its_meaning(capsys):
    assert cli.main(["settings", "hand_node"]) == 0
    shown = capsys.readouterr().out
    assert "max_hands" in shown and "tracker_node" not in shown
    assert cli.main(["settings"]) == 0
    assert "tracker_node" in (shown := capsys.readouterr().out) and "./hoi settings train.handos" in shown
    for name, setting in (("train.handos", "training.score_steps = 500"), ("train.pointmap", "train.batch = 8")):
        assert cli.main(["settings", name]) == 0
        assert setting in capsys.readouterr().out
    assert "did you mean 'train.handos'" in refused(capsys, "settings", "train.hands")
    for config_class in map(cli.core_config, cli.CORE_CONFIGS):
        for info in cli.describe_settings(config_class):
            assert info.help, f"{config_class.__name__}.{info.name} has no help"


@pytest.mark.parametrize("limit", [["--frames", "-3"], ["--duration", "-1"], ["--duration", "nan"]])
def test_limits_that_no_run_can_keep_are_refused(capsys, tmp_path: Path, limit: list[str]):
    assert cli.main(["run", "sim:empty", "--out", str(tmp_path / "out"), *limit]) == 2
    assert f"{limit[0]} {limit[1]}: give a number above 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("verb", "code"), [(["live"], 0), (["run", "sim:empty", "--out", "out"], 130)])
def test_ctrl_c_while_starting_leaves_no_traceback(monkeypatch, verb: list[str], code: int):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "gather_parameters", interrupted)
    assert cli.main(verb) == code


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--set", "hand_node.max_hands=[1"), "--set hand_node.max_hands=[1"),
        (("--set", "hand_node.max_hands=abc"), "a whole number"),
        (("--box", "1", "2", "3", "nan"), "--box 1 2 3 nan"),
        (("--box", "30", "2", "3", "40"), "X0 < X1"),
        (("--mask", "nowhere.png"), "nowhere.png"),
    ],
)
def test_unusable_options_leave_no_folder(capsys, tmp_path: Path, arguments, named):
    out = tmp_path / "new" / "o"
    assert named in refused(capsys, "run", "sim:empty", "--out", str(out), *arguments)
    assert not out.parent.exists()


def test_an_unknown_choice_is_one_line_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["run", "sim", "--out", "o", "--device", "cudda"])
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.count("\n") == 1 and "did you mean 'cuda'?" in said


def test_an_error_on_the_way_leaves_no_folder(capsys, tmp_path: Path):
    out = tmp_path / "new" / "o"
    refused(capsys, "run", "sim:empty", "--out", str(out), "--box", "900", "900", "950", "950", "--quiet")
    assert not out.parent.exists()


def test_a_run_tells_the_focal_length_that_was_seen(capsys, tmp_path: Path, monkeypatch):
    from hoi_ros.tracking import HeldObjectTracker
    from hoi_ros.tracking.pointmap_intrinsics import FocalEstimate

    seen = FocalEstimate(612.4, 0.08, 554.3, 55.2)
    arguments = ["run", "sim:empty", "--frames", "1", "--no-overlay", "--quiet", "--out"]
    for name, value in (("known", seen), ("unknown", None)):
        monkeypatch.setattr(HeldObjectTracker, "focal", value)
        assert cli.main([*arguments, str(tmp_path / name)]) == 0
        report = json.loads((tmp_path / name / "report.json").read_text())
        assert report["focal_seen"] == (None if value is None else {"px": 612.4, "sigma": 0.08, "message": str(seen)})
        assert ("focal length looks like 612 px +- 8 %" in capsys.readouterr().out) == (value is not None)
        assert (str(seen) in report["warnings"]) == (value is not None)
