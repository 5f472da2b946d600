"""Settings: names, types, ranges, files that overlay each other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hoi_ros.config import describe_settings, load_parameters, make_config, setting
from hoi_ros.errors import InputError


@dataclass(frozen=True)
class OvenConfig:
    """An oven."""

    heat_deg: float = setting(180.0, "how hot", low=0.0, high=300.0)
    shelves: int = setting(3, "how many", low=1)
    fan: bool = setting(False, "air moves")
    mode: str = setting("bake", "what it does", choices=("bake", "grill"))
    timer_s: float | None = setting(None, "when it stops; None never", low=0.0)
    trays: tuple[int, ...] = setting((2, 2), "loaves on each", low=1, high=9)


def write(path, text):
    path.write_text(text)
    return path


def test_description_holds_what_was_written_once():
    heat, shelves, *_, timer, _ = describe_settings(OvenConfig)
    assert (heat.name, heat.type, heat.default, heat.help, heat.low, heat.high) == (
        "heat_deg", float, 180.0, "how hot", 0.0, 300.0,
    )  # fmt: skip
    assert (shelves.low, shelves.high, timer.type) == (1, None, float)


def test_defaults_and_values():
    assert make_config(OvenConfig) == OvenConfig()
    made = make_config(OvenConfig, {"heat_deg": 200, "fan": True, "mode": "grill", "timer_s": None})
    assert made == OvenConfig(heat_deg=200.0, fan=True, mode="grill")
    assert isinstance(made.heat_deg, float)
    assert make_config(OvenConfig, {"trays": [4, 9, 1]}).trays == (4, 9, 1)


@pytest.mark.parametrize("heat", [0.0, 300.0])
def test_range_includes_its_ends(heat):
    assert make_config(OvenConfig, {"heat_deg": heat}).heat_deg == heat


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"heat_deg": 300.1}, "its range is 0.0 to 300.0"),
        ({"heat_deg": -0.1}, "its range is 0.0 to 300.0"),
        ({"shelves": 0}, "its range is 1 to inf"),
        ({"timer_s": -1.0}, "range"),
        ({"trays": [2, 0]}, "'trays' is 0: its range is 1 to 9"),
        ({"trays": [2, "x"]}, "give a whole number"),
        ({"trays": 2}, "give a list"),
        ({"heat_deg": float("nan")}, "finite"),
        ({"heat_deg": float("inf")}, "finite"),
        ({"heat_deg": "hot"}, "give a number"),
        ({"heat_deg": True}, "give a number"),
        ({"shelves": 2.0}, "give a whole number"),
        ({"shelves": True}, "give a whole number"),
        ({"shelves": None}, "give a whole number"),
        ({"fan": 1}, "give true or false"),
        ({"mode": "fry"}, "choose one of bake, grill"),
        ({"heat_dge": 1.0}, "did you mean 'heat_deg'"),
        ({"quux": 1}, "choose one of: fan, heat_deg"),
    ],
)
def test_bad_values_are_refused_in_one_line(values, words):
    with pytest.raises(InputError) as caught:
        make_config(OvenConfig, values, where="kitchen.yaml")
    message = str(caught.value)
    assert words in message and message.startswith("kitchen.yaml: ") and "\n" not in message
    assert next(iter(values)) in message


def test_later_file_overlays_the_earlier(tmp_path):
    first = write(
        tmp_path / "a.yaml",
        "/oven: {ros__parameters: {heat_deg: 100.0, shelves: 2}}\n/**: {ros__parameters: {fan: true, heat_deg: 1.0}}",
    )
    second = write(tmp_path / "b.yaml", "oven: {ros__parameters: {heat_deg: 250.0}}\npan: {ros__parameters: {}}")
    merged = load_parameters(first, second)
    assert merged == {"oven": {"heat_deg": 250.0, "shelves": 2}, "**": {"fan": True, "heat_deg": 1.0}, "pan": {}}
    assert load_parameters(second, first)["oven"]["heat_deg"] == 100.0


def test_empty_file_and_empty_node(tmp_path):
    assert load_parameters(write(tmp_path / "a.yaml", "")) == {}
    assert load_parameters(write(tmp_path / "b.yaml", "oven: {ros__parameters: }")) == {"oven": {}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oven: [1", "is not YAML"),
        ("oven:\n\tros__parameters: 1", "is not YAML"),
        ("\x00", "is not YAML"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
        ("- oven", "expected 'node: ros__parameters"),
        ("oven: {heat_deg: 1.0}", "'oven' needs the one key"),
        ("oven: 3", "'oven' needs the one key"),
        ("oven: {ros__parameters: [1, 2]}", "'oven'"),
        ("oven: {ros__parameters: text}", "'oven'"),
        ("oven: {ros__parameters: {3: 4}}", "'oven'"),
    ],
)
def test_unusable_files_are_named_in_one_line(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        load_parameters(write(tmp_path / "kitchen.yaml", text))
    message = str(caught.value)
    assert words in message and "kitchen.yaml" in message and "\n" not in message


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: No such file"):
        load_parameters(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        load_parameters(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="is not YAML"):
        load_parameters(tmp_path / "b.yaml")


def test_every_part_declares_settings_within_their_own_range():
    """Defaults pass their own check, and every setting says what it means."""
    from hoi_ros.sources import SourceConfig

    for config_class in (SourceConfig,):
        infos = list(describe_settings(config_class))
        assert make_config(config_class, {info.name: info.default for info in infos}) == config_class()
        assert all(info.help for info in infos)
