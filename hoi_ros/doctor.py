"""`hoi doctor`: what is here, what is missing, and the command that mends it. Standard library only."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent


class Finding(NamedTuple):
    """One line of the report."""

    state: str
    """'ok', 'info' (nothing to mend) or 'missing'."""
    subject: str
    detail: str
    remedy: str = ""


LIBRARIES = (
    ("numpy", "numpy"), ("scipy", "scipy"), ("torch", "torch"), ("cv2", "opencv-python-headless"),
    ("open3d", "open3d"), ("ai_edge_litert", "ai-edge-litert"), ("trimesh", "trimesh"), ("av", "av"),
    ("rosbags", "rosbags"), ("foxglove", "foxglove-sdk"),
)  # fmt: skip


def check_python() -> Iterator[Finding]:
    """Interpreter and libraries."""
    version = platform.python_version()
    good = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        "ok" if good else "missing",
        "python",
        f"{version} at {sys.executable}",
        "" if good else "sudo apt install python3.12",
    )
    for module, package in LIBRARIES:
        try:
            yield Finding("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(
                "missing", package, f"module '{module}' is not installed", "./hoi run --help   (sets everything up)"
            )
    if importlib.util.find_spec("open3d"):
        answer = subprocess.run([sys.executable, "-c", "import open3d"], capture_output=True, text=True, timeout=120)
        if answer.returncode:
            reason = answer.stderr.strip().splitlines()[-1]
            packages = "libusb-1.0-0 libx11-6 libgl1 libegl1 libgomp1"
            yield Finding("missing", "open3d's libraries", reason, f"sudo apt install {packages}")


def check_ros() -> Iterator[Finding]:
    """ROS 2, its middleware profile, TF messages and viewers."""
    if importlib.util.find_spec("rclpy") is None:
        wheels = platform.machine() == "x86_64"
        yield Finding(
            "missing",
            "ROS 2",
            "rclpy is not importable",
            "./hoi live --help" if wheels else "source /opt/ros/DISTRO/setup.bash",
        )
        return
    distro = os.environ.get("ROS_DISTRO")
    yield Finding("ok", "ROS 2", f"sourced installation '{distro}'" if distro else "Kilted wheels in this environment")
    if importlib.util.find_spec("tf2_msgs"):
        yield Finding("ok", "TF", "tf2_msgs found: transforms are broadcast")
    else:
        yield Finding("info", "TF", "tf2_msgs absent (it is on no package index): poses are published, /tf is not",
                      "source a ROS 2 installation to have /tf")  # fmt: skip
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    own = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
    yield Finding(
        "ok", "DDS profile", f"your own: {own[0]}" if own else "hoi's, with a 32 MB shared-memory segment, set at start"
    )
    middleware = os.environ.get("RMW_IMPLEMENTATION", "default (Fast DDS)")
    yield Finding("ok", "middleware", middleware)
    yield Finding(
        "ok" if shutil.which("rviz2") else "info",
        "RViz",
        shutil.which("rviz2") or "not on PATH; Foxglove works without it",
    )


def check_shared_memory() -> Iterator[Finding]:
    """Room in /dev/shm for images between processes."""
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        yield Finding("missing", "shared memory", "/dev/shm is absent", "mount -t tmpfs -o size=512m tmpfs /dev/shm")
        return
    free_mb = usage.free // 2**20
    good = free_mb >= 128
    yield Finding("ok" if good else "missing", "shared memory", f"/dev/shm has {free_mb} MB free",
                  "" if good else "mount -o remount,size=512m /dev/shm   (docker: --shm-size=512m)")  # fmt: skip


def check_gpu() -> Iterator[Finding]:
    """NVIDIA driver and torch's view of it."""
    if not Path("/proc/driver/nvidia").exists() or not shutil.which("nvidia-smi"):
        yield Finding("info", "GPU", "no NVIDIA driver: everything runs on the CPU")
        return
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    names = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    code = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    usable = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120).returncode == 0
    yield Finding(
        "ok" if usable else "missing", "GPU", names, "" if usable else "update the NVIDIA driver for torch 2.13's CUDA"
    )


def check_cameras() -> Iterator[Finding]:
    """Video devices and RealSense cameras."""
    devices = sorted(Path("/dev").glob("video*"))
    readable = [str(device) for device in devices if os.access(device, os.R_OK)]
    if devices and not readable:
        yield Finding(
            "missing", "webcam", f"{devices[0]} cannot be read", "sudo usermod -aG video $USER   (then log in again)"
        )
    else:
        yield Finding("ok" if readable else "info", "webcam", ", ".join(readable) or "no /dev/video*")
    if importlib.util.find_spec("pyrealsense2") is None:
        yield Finding("info", "RealSense", "pyrealsense2 is not installed", ".venv/bin/pip install pyrealsense2")
        return
    code = "import pyrealsense2 as r; print(*[d.get_info(r.camera_info.name) for d in r.context().devices], sep=', ')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    yield Finding("ok" if answer.stdout.strip() else "info", "RealSense", answer.stdout.strip() or "none connected")


def check_weights() -> Iterator[Finding]:
    """Files that ship with the package."""
    wanted = [ROOT / "hand_model" / "free_hand.npz"]
    weights = sorted((ROOT / "hand" / "weights").glob("*.npz")) + sorted((ROOT / "hand" / "weights").glob("*.onnx"))
    for path in wanted + weights:
        if path.exists():
            yield Finding("ok", "weights", f"{path.relative_to(ROOT)} ({path.stat().st_size / 1e6:.1f} MB)")
        else:
            yield Finding("missing", "weights", f"{path} is absent", "git checkout -- hoi_ros")
    if len(weights) < 2:
        yield Finding(
            "missing", "weights", "palm or landmark network is absent", "git checkout -- hoi_ros/hand/weights"
        )


CHECKS = (check_python, check_ros, check_shared_memory, check_gpu, check_cameras, check_weights)


def main() -> int:
    """Print every finding; exit code 1 when something that is needed is missing."""
    missing = 0
    for check in CHECKS:
        for finding in check():
            mark = {"ok": "ok     ", "info": "-      ", "missing": "MISSING"}[finding.state]
            print(f"{mark}  {finding.subject:24} {finding.detail}")
            if finding.remedy:
                print(f"         {'':24} -> {finding.remedy}")
            missing += finding.state == "missing"
    print(
        "All needed parts are here." if not missing else f"{missing} needed part(s) missing; the arrows say what to do."
    )
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
