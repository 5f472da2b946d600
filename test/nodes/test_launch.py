"""Launch files, RViz layout and packaging agree with the code: names, parameters, files, choices.

Run against a stand-in for `launch` (fake_launch.py says what that cannot show).
"""

from __future__ import annotations

import importlib
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import setuptools
import yaml
from fake_launch import DeclareLaunchArgument, Node, load_launch_file, started_nodes

from hoi_ros.config import describe_settings, load_parameters, make_config
from hoi_ros.datatypes import OPTICAL_FRAME
from hoi_ros.nodes.camera_topics import CAMERA_TOPICS, remappings_for
from hoi_ros.nodes.launch_arguments import ARGUMENTS
from hoi_ros.nodes.live import build_parser
from hoi_ros.nodes.live_plan import VIEWER_CONFIGS
from hoi_ros.nodes.node_configs import NODE_CONFIGS, core_config
from hoi_ros.nodes.share import share_file
from hoi_ros.nodes.topics import TOPICS

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
LIVE = ROOT / "launch" / "live.launch.py"
SEPARATE = {"composed": "false", "source": "sim"}


def config_classes(node: str) -> tuple[type, ...]:
    return VIEWER_CONFIGS[node] if node in VIEWER_CONFIGS else (*NODE_CONFIGS[node], core_config(node))


def executables(nodes) -> set[str]:
    return {node.executable for node in nodes}


def test_arguments_are_declared_with_their_choices(monkeypatch):
    declared = {
        one.name: one for one in load_launch_file(LIVE, monkeypatch).entities if isinstance(one, DeclareLaunchArgument)
    }
    assert {"source", "device", "composed", "rviz", "foxglove", "params_file", "estimator", "record"} <= set(declared)
    assert declared["device"].choices == ("auto", "cpu", "cuda")
    assert declared["composed"].choices == ("true", "false")
    for argument in ARGUMENTS:
        assert len(argument.description) > 5
        assert argument.choices is None or argument.default in argument.choices


def test_roles_declare_what_they_read(monkeypatch):
    for path in sorted((ROOT / "launch").glob("*.launch.py")):
        nodes = started_nodes(path, {"source": "sim"} if path.name == "sensors.launch.py" else {}, monkeypatch)
        assert all(isinstance(node, Node) for node in nodes)


def test_composed_is_one_process_whose_options_it_understands(monkeypatch):
    given = {"source": "sim:handover", "device": "cpu", "port": "9001", "record": "/tmp/x", "foxglove": "false"}
    nodes = started_nodes(LIVE, given, monkeypatch)
    assert executables(nodes) == {"live_node"}
    options = build_parser().parse_args(nodes[0].arguments)
    assert (options.source, options.device, options.port, options.record) == ("sim:handover", "cpu", 9001, "/tmp/x")
    assert options.foxglove == "false"
    assert all(path.exists() for path in options.params)


def test_separate_is_one_process_a_node(monkeypatch):
    perception = {"hand_node", "tracker_node", "reconstruction_node"}
    assert executables(started_nodes(LIVE, SEPARATE, monkeypatch)) == perception | {"camera_node", "foxglove_node"}
    topics = started_nodes(LIVE, SEPARATE | {"source": "topics", "foxglove": "false"}, monkeypatch)
    assert executables(topics) == perception
    shown = started_nodes(LIVE, SEPARATE | {"rviz": "true", "record": "/tmp/x"}, monkeypatch)
    assert {"rviz2", "recorder_node"} <= executables(shown)
    assert Path(next(node for node in shown if node.executable == "rviz2").arguments[1]).exists()


def test_parameters_are_those_of_the_nodes(monkeypatch):
    given = SEPARATE | {"record": "/tmp/x", "device": "cuda", "loop": "true", "port": "9002", "estimator": "handos"}
    seen = {}
    for node in started_nodes(LIVE, given, monkeypatch):
        *files, values = node.parameters
        assert all(Path(path).exists() for path in files)
        known = {info.name for one in config_classes(node.executable) for info in describe_settings(one)}
        assert set(values) <= known, node.executable
        for one in config_classes(node.executable):
            names = {info.name for info in describe_settings(one)}
            make_config(one, {key: value for key, value in values.items() if key in names})
        seen[node.executable] = values
    readers = "hand_node tracker_node reconstruction_node recorder_node"
    assert seen["camera_node"] == {"source": "sim", "loop": True, "readers": readers}
    assert seen["hand_node"] == {"device": "cuda", "estimator": "handos"}
    assert seen["foxglove_node"] == {"port": 9002}
    assert seen["recorder_node"]["path"] == "/tmp/x"


def test_defaults_do_not_hide_the_parameter_file(monkeypatch):
    nodes = {node.executable: node for node in started_nodes(LIVE, SEPARATE, monkeypatch)}
    assert nodes["hand_node"].parameters[-1] == {}


def test_photos_are_treated_alone(monkeypatch):
    nodes = started_nodes(LIVE, SEPARATE | {"source": "images:x"}, monkeypatch)
    told = {node.executable for node in nodes if node.parameters[-1].get("independent")}
    assert told == {"hand_node", "tracker_node"}


def test_camera_topics_follow_their_namespace(monkeypatch):
    nodes = started_nodes(LIVE, SEPARATE | {"source": "topics", "camera_namespace": "/camera/camera/"}, monkeypatch)
    expected = [(topic, f"/camera/camera/{topic}") for topic in CAMERA_TOPICS]
    assert all(node.remappings == expected for node in nodes)


def test_a_driver_in_a_namespace_is_found():
    assert remappings_for(["/camera/camera/color/image_raw"])[0] == "color/image_raw:=/camera/camera/color/image_raw"
    assert remappings_for(["/color/image_raw", "/other/color/image_raw"]) == []
    assert remappings_for([]) == []
    with pytest.raises(ValueError, match="several cameras"):
        remappings_for(["/a/color/image_raw", "/b/color/image_raw"])


@pytest.fixture(scope="module")
def metadata():
    """What setup.py tells setuptools."""
    told = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", told.update)
        runpy.run_path(str(ROOT / "setup.py"))
    return told


def test_every_executable_is_installed_and_starts_a_main(metadata, monkeypatch):
    installed = dict(metadata["data_files"])
    wrappers = {Path(path).name: ROOT / path for path in installed["lib/hoi_ros"]}
    wanted = executables(started_nodes(LIVE, SEPARATE | {"record": "/tmp/x"}, monkeypatch))
    assert wanted | executables(started_nodes(LIVE, {}, monkeypatch)) <= set(wrappers)
    for name, path in wrappers.items():
        module = next(line.split()[1] for line in path.read_text().splitlines() if line.startswith("from "))
        assert callable(importlib.import_module(module).main), name
        assert path.stat().st_mode & 0o111, f"{name} is not executable"


def test_console_scripts_exist(metadata):
    for script in metadata["entry_points"]["console_scripts"]:
        name, target = script.split(" = ")
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert name == "hoi" or name.startswith("hoi-"), f"{name} could be another package's"


def test_installed_files_exist(metadata):
    for folder, paths in metadata["data_files"]:
        assert paths, folder
        assert all((ROOT / path).is_file() for path in paths)
    launch_files = {path.name for path in (ROOT / "launch").glob("*.launch.py")}
    assert launch_files == {Path(path).name for path in dict(metadata["data_files"])["share/hoi_ros/launch"]}


def test_package_xml_agrees_with_setup(metadata):
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("name") == metadata["name"]
    assert package.findtext("version") == metadata["version"]
    used = {topic.type.split("/")[0] for topic in TOPICS}
    assert used <= {one.text for one in package.findall("exec_depend")}


def test_data_of_the_package_is_installed(metadata):
    patterns = metadata["package_data"]["hoi_ros"]
    for path in (ROOT / "hoi_ros").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            assert any(path.relative_to(ROOT / "hoi_ros").match(pattern.removeprefix("**/")) for pattern in patterns), (
                path
            )


def test_live_yaml_is_a_parameter_file_of_these_nodes():
    for node, values in load_parameters(share_file("config/live.yaml")).items():
        known = {info.name for one in config_classes(node) for info in describe_settings(one)}
        assert set(values) <= known


DISPLAY_TYPES = {
    "Image": "sensor_msgs/msg/Image",
    "Marker": "visualization_msgs/msg/Marker",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "PointCloud2": "sensor_msgs/msg/PointCloud2",
    "Pose": "geometry_msgs/msg/PoseStamped",
}


def test_rviz_shows_topics_that_exist_with_fitting_qos():
    layout = yaml.safe_load(share_file("rviz/hoi.rviz").read_text(encoding="utf-8"))["Visualization Manager"]
    assert layout["Global Options"]["Fixed Frame"] == OPTICAL_FRAME
    topics = {f"/{topic.name.lstrip('/')}": topic for topic in TOPICS}
    shown = set()
    for display in layout["Displays"]:
        if "Topic" not in display:
            continue
        name, kind = display["Topic"]["Value"], display["Class"].split("/")[1]
        shown.add(name)
        assert topics[name].type == DISPLAY_TYPES[kind], name
        assert display["Topic"]["Reliability Policy"] == "Reliable"
        durability = "Transient Local" if topics[name].latched else "Volatile"
        assert display["Topic"]["Durability Policy"] == durability, name
    assert {"/hands/mesh", "/hands/skeleton", "/hands/overlay", "/object/mesh", "/object/cloud"} <= shown
