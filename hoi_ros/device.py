"""Which processor the networks run on."""

from __future__ import annotations

from pathlib import Path

from hoi_ros.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str) -> str:
    """Turn 'auto', 'cpu' or 'cuda' into 'cpu' or 'cuda'.

    Without an NVIDIA driver the answer needs no torch, so a CPU start does not pay for importing it.

    Raises:
        InputError: unknown name, or 'cuda' where no CUDA device can be used.
    """
    if name not in DEVICES:
        raise InputError(f"unknown device '{name}': choose one of {', '.join(DEVICES)}")
    if name == "cpu":
        return "cpu"
    driver = Path("/proc/driver/nvidia").exists() or Path("/dev/dxg").exists()
    if driver:
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if name == "auto":
        return "cpu"
    reason = "torch finds no usable GPU" if driver else "there is no NVIDIA driver here"
    raise InputError(f"device 'cuda': {reason}; use --device cpu, or see ./hoi doctor")
