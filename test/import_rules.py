"""Who may import whom inside the package, read from the source text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOUNDATION = {"", "errors", "datatypes", "geometry", "config", "overlay", "device", "hand_model", "truth_file"}
"""Floor 1; '' is the bare package."""
ROOMS = {"sources", "hand", "tracking", "reconstruction", "simulation", "evaluation"}
"""Floor 2."""
JOINERS = {"pipeline", "training", "nodes"}
"""Floor 3."""
ENTRANCES = {"cli", "__main__", "doctor", "offline", "results", "simulate", "bench"}
"""Floor 4: commands and what they are made of."""
ROS_ROOTS = ("rclpy", "rcl_interfaces", "lifecycle_msgs", "builtin_interfaces", "tf2_ros", "ament_index_python")
ROS_SUFFIXES = ("_msgs", "_srvs")


@dataclass(frozen=True)
class Import:
    """One imported module and where."""

    file: Path
    line: int
    module: str


def imports_of(file: Path, package_root: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions too, relative ones resolved."""
    package = (package_root.name, *file.relative_to(package_root).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*base, *(node.module or "").split(".")))
            for alias in node.names:
                yield Import(file, node.lineno, f"{origin.rstrip('.')}.{alias.name}")
        elif isinstance(node, ast.Call) and _called_name(node) in ("import_module", "__import__"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield Import(file, node.lineno, argument.value)


def violations(package_root: Path) -> list[str]:
    """Every import that breaks a rule, as 'file:line: what'."""
    found = []
    for file in sorted(package_root.rglob("*.py")):
        relative = file.relative_to(package_root)
        room = _room(relative)
        known = FOUNDATION | ROOMS | JOINERS | ENTRANCES
        if room not in known:
            found.append(f"{relative}:1: '{room}' stands on no floor; give it one in import_rules.py")
            continue
        for item in imports_of(file, package_root):
            problem = _problem(relative, room, item.module, package_root)
            if problem:
                found.append(f"{relative}:{item.line}: {problem}")
    return found


def _problem(relative: Path, room: str, module: str, package_root: Path) -> str | None:
    parts = module.split(".")
    if parts[0] != package_root.name:
        is_ros = parts[0] in ROS_ROOTS or parts[0].endswith(ROS_SUFFIXES)
        return f"{module} is ROS; only nodes/ imports it" if is_ros and room != "nodes" else None
    target = parts[1] if len(parts) > 1 else ""
    if target not in FOUNDATION | ROOMS | JOINERS | ENTRANCES:
        target = ""  # a name of the bare package, such as __version__
    return None if _allowed(relative, room, target) else f"'{room or '__init__'}' may not import '{target}' ({module})"


def _allowed(relative: Path, room: str, target: str) -> bool:
    if room == target or target == "":
        return True
    if room in FOUNDATION:
        return target in FOUNDATION and room != ""
    if room in ROOMS:
        return target in FOUNDATION or (relative.as_posix() == "sources/simulator.py" and target == "simulation")
    if room in JOINERS:
        if {room, target} == {"nodes", "training"}:
            return False
        return target in FOUNDATION | ROOMS | JOINERS
    return True


def _room(relative: Path) -> str:
    """Folder or module name; '' for the package's own __init__."""
    name = relative.parts[0]
    return "" if name == "__init__.py" else name.removesuffix(".py")


def _called_name(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))
