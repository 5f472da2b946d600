"""ONNX Runtime in the memory that torch holds, on a GPU or the CPU: no array goes through the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def run_bound(session: Any, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> None:
    """Run an `onnxruntime.InferenceSession` on tensors, and write its answers into others.

    Args:
        session: with float32 inputs and outputs, on the tensors' device.
        inputs: by name; those that the graph does not use are left out.
        outputs: by name, contiguous, float32, of the shapes that the graph gives; overwritten.
    """
    used = {entry.name for entry in session.get_inputs()}
    read = {name: t.float().contiguous() for name, t in inputs.items() if name in used}
    binding = session.io_binding()
    for name, tensor in read.items():
        binding.bind_input(name, *_place(tensor))
    for name, tensor in outputs.items():
        binding.bind_output(name, *_place(tensor))
    for device in {t.device for t in read.values() if t.is_cuda}:
        torch.cuda.current_stream(device).synchronize()  # the session has a stream of its own
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


def _place(tensor: Tensor) -> tuple[str, int, type[np.float32], tuple[int, ...], int]:
    """Kind and number of the device, type, shape, and address."""
    return tensor.device.type, tensor.device.index or 0, np.float32, tuple(tensor.shape), tensor.data_ptr()
