"""Environments of their own for packages that cannot live beside this project's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

DEFAULT_FOLDER = Path("~/.cache/hoi_ros/peers").expanduser()


class PeerMissing(Exception):
    """Why a peer does not take part."""


def peer_python(folder: Path, requirement: str, pythons: tuple[str, ...], *, install: bool) -> Path:
    """Python of the environment that holds `requirement`, made by venv and pip when `install` is said.

    Raises:
        PeerMissing: it is not installed, with the command that installs it; or installing failed, with the reason.
    """
    home = folder.expanduser() / requirement.replace("==", "-")
    python, done = home / "bin" / "python", home / ".complete"
    if done.exists() and python.exists():
        return python
    if not install:
        raise PeerMissing(f"{requirement} is not installed in {home}: add --install-peers (needs the network, once)")
    base = next((found for name in pythons if (found := _usable(name))), None)
    if base is None:
        raise PeerMissing(f"{requirement} needs one of {', '.join(pythons)}, and none is installed")
    shutil.rmtree(home, ignore_errors=True)
    try:
        _run([base, "-m", "venv", str(home)])
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement])
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(home, ignore_errors=True)
        output = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise PeerMissing(f"{requirement} cannot be installed: {output[-1] if output else error}") from error
    done.touch()
    return python


def _usable(name: str) -> str | None:
    """Path of an interpreter by name; this one where it is of that version."""
    if name == f"python{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    return shutil.which(name)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
