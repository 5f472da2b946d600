"""The floors of the house: rooms do not know each other, ROS stays in nodes/, importing is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from import_rules import violations

import hoi_ros

PACKAGE = Path(hoi_ros.__file__).parent


def test_every_import_keeps_to_its_floor():
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("hand/a.py", "from hoi_ros.tracking import X"),
        ("hand/a.py", "import hoi_ros.sources.video"),
        ("hand/a.py", "from hoi_ros import simulation"),
        ("hand/deep/a.py", "from ...tracking.b import X"),
        ("tracking/a.py", "from ..hand import X"),
        ("tracking/a.py", "def f():\n    from hoi_ros.hand import X"),
        ("tracking/a.py", "import importlib\nimportlib.import_module('hoi_ros.hand')"),
        ("sources/bag.py", "from hoi_ros.simulation import Simulator"),
        ("sources/simulator.py", "from hoi_ros.hand import X"),
        ("evaluation/a.py", "from hoi_ros.pipeline import X"),
        ("hand/a.py", "from hoi_ros.nodes.markers import X"),
        ("hand/a.py", "from hoi_ros import cli"),
        ("geometry.py", "from hoi_ros.hand import X"),
        ("hand_model/a.py", "from hoi_ros.simulation import X"),
        ("__init__.py", "from hoi_ros.geometry import skew"),
        ("nodes/a.py", "from hoi_ros.training import X"),
        ("training/a.py", "from hoi_ros.nodes import X"),
        ("pipeline.py", "from hoi_ros.cli import X"),
        ("nodes/a.py", "import hoi_ros.cli"),
        ("pipeline.py", "def f():\n    import rclpy"),
        ("cli.py", "from sensor_msgs.msg import Image"),
        ("cli.py", "from std_srvs.srv import Trigger"),
        ("attic/a.py", "x = 1"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, file, code):
    assert violations(write_tree(tmp_path, file, code)) != []


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (
            "hand/a.py",
            "from hoi_ros.datatypes import X\nfrom hoi_ros.hand_model import Y\nfrom hoi_ros.hand.b import Z",
        ),
        ("hand/a.py", "from . import b\nfrom hoi_ros import __version__\nimport numpy"),
        ("simulation/a.py", "from hoi_ros.hand_model import HandModel"),
        ("sources/simulator.py", "from hoi_ros.simulation import Simulator"),
        ("pipeline.py", "from hoi_ros.hand import A\nfrom hoi_ros.tracking import B"),
        ("nodes/a.py", "import rclpy\nfrom sensor_msgs.msg import Image\nfrom hoi_ros.pipeline import P"),
        ("cli.py", "from hoi_ros.nodes import X\nfrom hoi_ros.hand import Y"),
        ("hand/a.py", "# from hoi_ros.tracking import X\n'import rclpy'"),
    ],
)
def test_a_right_import_is_not_found(tmp_path, file, code):
    assert violations(write_tree(tmp_path, file, code)) == []


def write_tree(folder: Path, file: str, code: str) -> Path:
    """A package of one file beside an empty __init__."""
    root = folder / "hoi_ros"
    path = root / file
    path.parent.mkdir(parents=True)
    (root / "__init__.py").touch()
    path.write_text(code)
    return root


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after the statement."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=PACKAGE.parent
    )  # fmt: skip
    return set(result.stdout.split())


def test_importing_the_package_is_bare():
    heavy = {"numpy", "torch", "cv2", "scipy", "open3d", "onnxruntime", "yaml", "rclpy", "PIL", "av"}
    assert not modules_after("import hoi_ros") & heavy


@pytest.mark.parametrize("module", ["datatypes", "geometry", "config", "errors"])
def test_the_foundation_needs_numpy_alone(module):
    heavy = {"torch", "cv2", "scipy", "open3d", "onnxruntime", "yaml", "rclpy", "PIL", "av"}
    assert not modules_after(f"import hoi_ros.{module}") & heavy
