"""The `mediapipe` package's own hand tracking, in a process of its own: it needs numpy below 2."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from hoi_ros.bench.peers.environment import PeerMissing, peer_python

REQUIREMENT = "mediapipe==0.10.21"
"""The last version whose wheel carries the networks; later ones fetch them at run time."""
PYTHONS = ("python3.11", "python3.12", "python3.10", "python3.9")
_FILM, _PHOTO, _RESET = 0, 1, 2


class MediaPipeHands:
    """Asks a worker process; frames go one by one, so that both sides are timed on the same ones."""

    name = "mediapipe"

    def __init__(self, folder: Path, *, install: bool = False) -> None:
        """Start the worker.

        Raises:
            PeerMissing: not installed, or it does not start.
        """
        python = peer_python(folder, REQUIREMENT, PYTHONS, install=install)
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("mediapipe_worker.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.version = self._answer()["version"]

    def find(self, color: np.ndarray, *, independent: bool, border: float = 0.0) -> tuple[list[dict[str, Any]], float]:
        """Hands in a picture (H, W, 3), and the milliseconds it took.

        Each hand has joints_px (21, 2), joints_m (21, 3) about its own middle, side and score. `border` is a share of
        the picture that is added around it first: its palm detector misses hands that fill the picture.

        Raises:
            PeerMissing: the worker died.
        """
        height, width = color.shape[:2]
        edge = round(border * max(height, width))
        if edge:
            color = np.pad(color, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
        self._send(color, _PHOTO if independent else _FILM)
        answer = self._answer()
        for hand in answer["hands"]:
            hand["joints_px"] = np.array(hand["joints_px"]) - edge
            hand["joints_m"] = np.array(hand["joints_m"])
        return answer["hands"], float(answer["ms"])

    def reset(self) -> None:
        """Forget the film so far."""
        self._send(np.zeros((0, 0, 3), np.uint8), _RESET)

    def close(self) -> None:
        """End the worker."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _send(self, color: np.ndarray, mode: int) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("<III", *color.shape[:2], mode) + color.tobytes())
            self._process.stdin.flush()
        except OSError as error:
            raise PeerMissing(f"{REQUIREMENT}: its process ended ({error})") from error

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerMissing(f"{REQUIREMENT}: its process ended with code {self._process.wait()}")
        return json.loads(line)
