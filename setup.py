"""Metadata of hoi_ros, for pip and colcon alike."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "hoi_ros"
NODES = (
    "camera_node",
    "hand_node",
    "tracker_node",
    "reconstruction_node",
    "foxglove_node",
    "recorder_node",
)
HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / NAME / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)


def files(pattern: str) -> list[str]:
    """List files below this folder, relative as setuptools wants them."""
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob(pattern) if path.is_file())


def console_name(node: str) -> str:
    return "hoi-" + node.replace("_", "-")


setup(
    name=NAME,
    version=VERSION,
    description="Live hand-object perception: hand meshes, object pose and object mesh from a camera, as ROS 2 topics",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="hoi_ros maintainers",
    maintainer_email="maintainers@hoi-ros.invalid",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    # Everything inside the package that is not Python: weights, the hand model, notices, the DDS profile.
    package_data={
        NAME: [
            f"**/{pattern}"
            for pattern in (
                "*.npz",
                "*.onnx",
                "*.pt",
                "*.json",
                "*.yaml",
                "*.xml",
                "*.md",
                "*.txt",
                "*.glb",
                "*.png",
                "*.jpg",
                "LICENSE*",
                "NOTICE*",
                "py.typed",
            )
        ]
    },
    zip_safe=False,
    install_requires=[
        "numpy>=1.26",
        "scipy>=1.11",
        "threadpoolctl>=3.1",
        "torch>=2.6",
        "opencv-python-headless>=4.8",
        "ai-edge-litert>=2.0",
        "open3d>=0.19",
        "trimesh>=4.4",
        "manifold3d>=3.0",
        "av>=12.0",
        "rosbags>=0.11",
        "foxglove-sdk>=0.20",
        "pillow>=10.0",
        "pyyaml>=6.0",
        "tqdm>=4.60",
    ],
    extras_require={
        # ROS 2 Kilted from wheels, pinned as a set; a sourced ROS 2 needs none of these.
        "ros": [
            "ros-rclpy[fastrtps]==9.1.2; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "ros-common-interfaces==5.5.1; sys_platform == 'linux' and platform_machine == 'x86_64'",
        ],
        "realsense": ["pyrealsense2>=2.54"],
        # Full-image detectors for HandOS, and its ONNX engine.
        "detectors": ["transformers>=5.0"],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.20"],
        # Plots of `hoi bench` and one of the peers it measures beside this project.
        "bench": ["matplotlib>=3.8", "small_gicp>=1.0"],
        "test": ["pytest>=8.0", "websockets>=13.0", "ruff>=0.8", "mypy>=1.13"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", files("launch/*.launch.py")),
        (f"share/{NAME}/config", files("config/*")),
        (f"share/{NAME}/rviz", files("rviz/*.rviz")),
        # What `ros2 run` and `ros2 launch` look up; console scripts alone land in bin/.
        (f"lib/{NAME}", files("resource/executables/*")),
    ],
    entry_points={
        "console_scripts": [
            "hoi = hoi_ros.cli:main",
            "hoi-live-node = hoi_ros.nodes.live:main",
            *(f"{console_name(node)} = hoi_ros.nodes.{node}:main" for node in NODES),
        ]
    },
)
