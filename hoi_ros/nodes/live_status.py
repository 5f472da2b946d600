"""How the running system is doing: one line from /diagnostics, and the moment of the first mesh."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from visualization_msgs.msg import MarkerArray

from hoi_ros.nodes.qos import RESULT

PLAIN_PERIOD_S = 5.0
TTY_PERIOD_S = 0.5
SMALLEST_MESH_BYTES = 4096
"""A message without a hand is far below, one with a hand far above."""


def process_age_s() -> float:
    """Seconds since this process began, imports and set-up included (0 where the kernel does not tell)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        import os

        ticks = float(Path("/proc/self/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return uptime - ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


class Deadline:
    """A moment to stop at; none for 0 s."""

    def __init__(self, duration_s: float) -> None:
        self._end = time.monotonic() + duration_s if duration_s > 0 else float("inf")

    @property
    def reached(self) -> bool:
        """True from then on."""
        return time.monotonic() >= self._end


class LiveStatus:
    """Gathers diagnostics through a small node of its own and prints them."""

    def __init__(self, node: Node, *, quiet: bool, stream: TextIO | None = None) -> None:
        """Subscribe.

        Args:
            node: spun by whoever runs the system.
            quiet: print nothing but the first mesh.
            stream: where to print; None is stdout.
        """
        self._node, self._quiet = node, quiet
        self._stream = stream or sys.stdout
        self._tty = self._stream.isatty()
        self._begin = time.monotonic()
        self._due = self._begin + (TTY_PERIOD_S if self._tty else PLAIN_PERIOD_S)
        self._line_open = False
        self.nodes: dict[str, dict[str, str]] = {}
        """Node to the values it last reported."""
        self.first_mesh_s: float | None = None
        """Age of the process when the first hand mesh arrived."""
        self._frames_after_end: dict[str, list[str]] = {}
        """Node to the frame counts it reported since the camera finished."""
        self._diagnostics = node.create_subscription(DiagnosticArray, "/diagnostics", self.take, RESULT)
        self._mesh: Any = node.create_subscription(MarkerArray, "hands/mesh", self._on_mesh, RESULT, raw=True)

    def take(self, message: DiagnosticArray) -> None:
        """Remember what nodes report."""
        for status in message.status:
            values = self.nodes[status.name] = {value.key: value.value for value in status.values}
            if self.camera_finished:
                self._frames_after_end.setdefault(status.name, []).append(values.get("frames", ""))

    def say(self, text: str) -> None:
        """Print a line of its own."""
        if self._line_open:
            self._stream.write("\r\x1b[K")
            self._line_open = False
        print(text, file=self._stream, flush=True)

    def tick(self) -> None:
        """Print the status line when it is due; call it often."""
        if self.first_mesh_s is not None and self._mesh is not None:
            # Reading on would make the hand node build markers for nobody.
            self._node.destroy_subscription(self._mesh)
            self._mesh = None
            self.say(f"first hand mesh {self.first_mesh_s:.1f} s after the start")
        now = time.monotonic()
        if self._quiet or now < self._due:
            return
        self._due = now + (TTY_PERIOD_S if self._tty else PLAIN_PERIOD_S)
        if self._tty:
            self._stream.write("\r\x1b[K" + self.line())
            self._stream.flush()
            self._line_open = True
        else:
            self.say(self.line())

    def line(self) -> str:
        """The system in one line."""
        hand, camera = self.nodes.get("hand_node", {}), self.nodes.get("camera_node", {})
        parts = [f"{time.monotonic() - self._begin:6.1f} s"]
        if camera and camera.get("state") != "streaming":
            parts.append(f"camera: {camera.get('state')}")
        parts += [hand.get("state", "hands: starting"), f"{hand.get('rate_hz', '0.0')} fps"]
        if "latency_ms_p50" in hand:
            parts.append(f"latency {hand['latency_ms_p50']} ms (p95 {hand.get('latency_ms_p95', '?')})")
        if hand.get("dropped", "0") != "0":
            parts.append(f"dropped {hand['dropped']}")
        parts.append(f"object: {self.nodes.get('tracker_node', {}).get('state', 'starting')}")
        parts.append(f"mesh: {self.nodes.get('reconstruction_node', {}).get('state', 'starting')}")
        return " | ".join(parts)

    @property
    def camera_failure(self) -> str:
        """Why a file could not be played to its end; empty while all is well."""
        return self.nodes.get("camera_node", {}).get("failure", "")

    @property
    def camera_finished(self) -> bool:
        """True when a file was played out, or broke off."""
        return self.nodes.get("camera_node", {}).get("state") in ("finished", "source failed")

    def drained(self, nodes: Iterable[str]) -> bool:
        """True when the camera finished and each node has since reported the same frame count twice running."""
        reports = [self._frames_after_end.get(node, []) for node in nodes]
        return self.camera_finished and all(len(counts) > 1 and counts[-1] == counts[-2] for counts in reports)

    def summary(self) -> str:
        """What was done in all."""
        counts = [
            f"{self.nodes[node]['frames']} {words}"
            for node, words in (
                ("camera_node", "frames from the camera"),
                ("hand_node", "looked at for hands"),
                ("tracker_node", "for the object"),
            )
            if "frames" in self.nodes.get(node, {})
        ]
        return ", ".join(counts) or "no frames"

    def _on_mesh(self, data: bytes) -> None:
        if self.first_mesh_s is None and len(data) >= SMALLEST_MESH_BYTES:
            self.first_mesh_s = process_age_s()
