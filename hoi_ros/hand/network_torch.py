"""A network program as a torch module: for the GPU, for training from its weights, and for its inner features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoi_ros.hand.program import NetworkProgram


class TorchNetwork(nn.Module):
    """Runs a program; weights are parameters, so the module can be fine-tuned."""

    def __init__(self, program: NetworkProgram):
        super().__init__()
        self.program = program
        for name, values in program.weights.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(values.astype(np.float32))))

    def forward(self, image: Tensor, taps: Sequence[str] = ()) -> list[Tensor]:
        """Run the network.

        Args:
            image: (B, 3, S, S) in [0, 1].
            taps: names of inner tensors to return after the outputs.

        Returns:
            The program's outputs in order, then the taps.
        """
        tensors = {"image": image}
        for operation in self.program.operations:
            inputs = [tensors[name] for name in operation["inputs"]]
            tensors[operation["output"]] = getattr(self, "_" + operation["op"])(operation, *inputs)
        return [tensors[name] for name in (*self.program.outputs, *taps)]

    def _weights(self, operation: dict) -> tuple[Tensor, Tensor]:
        return getattr(self, operation["weight"]), getattr(self, operation["bias"])

    def _conv(self, operation: dict, x: Tensor) -> Tensor:
        left, right, top, bottom = operation["pad"]
        padding = (top, left)
        if (left, top) != (right, bottom):
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        x = F.conv2d(x, *self._weights(operation), operation["stride"], padding, 1, operation["groups"])
        return _activate(x, operation["activation"])

    def _linear(self, operation: dict, x: Tensor) -> Tensor:
        return F.linear(x, *self._weights(operation))

    def _prelu(self, operation: dict, x: Tensor) -> Tensor:
        return F.prelu(x, getattr(self, operation["weight"]))

    def _add(self, operation: dict, x: Tensor, y: Tensor) -> Tensor:
        return _activate(x + y, operation["activation"])

    def _max_pool(self, operation: dict, x: Tensor) -> Tensor:
        return F.max_pool2d(x, operation["kernel"], operation["stride"])

    def _pad_channels(self, operation: dict, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, operation["count"]))

    def _resize(self, operation: dict, x: Tensor) -> Tensor:
        return F.interpolate(x, size=operation["size"], mode="bilinear", align_corners=False)

    def _rows_of_pixels(self, operation: dict, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, H W C / columns, columns)."""
        return x.permute(0, 2, 3, 1).reshape(len(x), -1, operation["columns"])

    def _concat_rows(self, operation: dict, *rows: Tensor) -> Tensor:
        return torch.cat(rows, 1)

    def _global_mean(self, operation: dict, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def _sigmoid(self, operation: dict, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


def _activate(x: Tensor, kind: str) -> Tensor:
    if kind == "none":
        return x
    return torch.relu(x) if kind == "relu" else torch.clamp(x, 0, 6)
