"""Where the files beside the code lie: config, rviz and launch, in a checkout or an installation of any kind."""

from __future__ import annotations

from pathlib import Path

import hoi_ros


def share_file(name: str) -> Path:
    """Find a file such as 'rviz/hoi.rviz'.

    A checkout (also one installed by `pip install -e` or `colcon build --symlink-install`) has it beside the package;
    pip and colcon put it into `share/hoi_ros` below the same prefix. Needs no ament index.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    package = Path(hoi_ros.__file__).parent
    for start in dict.fromkeys((package, package.resolve())):
        if (start.parent / "setup.py").exists() and (start.parent / name).exists():
            return start.parent / name
        for prefix in start.parents:
            if (prefix / "share" / "hoi_ros" / name).exists():
                return prefix / "share" / "hoi_ros" / name
    raise FileNotFoundError(f"{name} of hoi_ros is not installed: reinstall the package")
