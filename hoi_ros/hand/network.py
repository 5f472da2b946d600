"""One face for a hand network on any device: images in, arrays out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from hoi_ros.hand.program import NetworkProgram, read_program


class Network(Protocol):
    """Callable network."""

    input_size: int

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Map (B, S, S, 3) float32 images in [0, 1] to the outputs, each (B, ...) float32."""
        ...


def load_network(path: Path | str, device: str = "cpu", threads: int = 2) -> Network:
    """Read weights and make them run.

    Args:
        path: network file, see `program.py`.
        device: 'cpu' for LiteRT; any torch device, such as 'cuda:0', for torch; 'torch' for torch on the CPU.
        threads: CPU threads of LiteRT.

    Raises:
        InputError: the file is missing or damaged.
        ImportError: ai-edge-litert is not installed.
    """
    program = read_program(path)
    if device == "cpu":
        return LiteRtNetwork(program, threads)
    return TorchRunner(program, "cpu" if device == "torch" else device)


class LiteRtNetwork:
    """The program on the CPU; one image at a time, as batches gain nothing on two cores."""

    def __init__(self, program: NetworkProgram, threads: int = 2):
        from hoi_ros.hand.network_litert import litert_model

        model = litert_model(program)  # first: it says how to install what is missing
        from ai_edge_litert.interpreter import Interpreter

        self.input_size = program.input_size
        self._interpreter = Interpreter(model_content=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [o["index"] for o in self._interpreter.get_output_details()]

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        rows = [self._run_one(image[None]) for image in images]
        return [np.concatenate(column) for column in zip(*rows)]

    def _run_one(self, image: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


class TorchRunner:
    """The program in torch, on a GPU or the CPU."""

    def __init__(self, program: NetworkProgram, device: str):
        import torch

        from hoi_ros.hand.network_torch import TorchNetwork

        self.input_size = program.input_size
        self.device = torch.device(device)
        self.module = TorchNetwork(program).eval().requires_grad_(False).to(self.device)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).permute(0, 3, 1, 2)
            return [output.cpu().numpy() for output in self.module(batch)]
