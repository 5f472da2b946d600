"""Chance for batches: everything random about a batch comes from one generator on its device, seeded by its number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class Chance:
    """Draws tensors on one device; the same seeds on the same kind of device give the same draws."""

    def __init__(self, device: torch.device | str, *seeds: int):
        self.device = torch.device(device)
        state = np.random.SeedSequence(seeds).generate_state(2, np.uint32)
        seed = int(state[0]) << 31 ^ int(state[1])
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self.host = np.random.default_rng([*seeds, 1])
        """Draws what must be known before anything is computed: how many crops of a batch something happens to."""

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Evenly between two numbers."""
        return torch.rand(*shape, generator=self._generator, device=self.device) * (high - low) + low

    def normal(self, mean: float, deviation: float, *shape: int) -> Tensor:
        """Of a Gaussian."""
        return torch.randn(*shape, generator=self._generator, device=self.device) * deviation + mean

    def happens(self, share: float | Tensor, *shape: int) -> Tensor:
        """Bool, true with a probability."""
        return torch.rand(*shape, generator=self._generator, device=self.device) < share

    def below(self, count: int, *shape: int) -> Tensor:
        """Integers from 0 to count - 1, int64."""
        return torch.randint(count, shape, generator=self._generator, device=self.device)

    def kinds(self, shares: np.ndarray, count: int) -> Tensor:
        """(count,) int64 numbers drawn with unequal shares."""
        edges = torch.as_tensor(np.cumsum(shares)[:-1] / np.sum(shares), dtype=torch.float32).to(self.device)
        return torch.bucketize(self.uniform(0, 1, count), edges)

    def some(self, happens: np.ndarray) -> Tensor:
        """Numbers of the true rows of a host decision (B,), on the device: their count is known without asking it."""
        return torch.from_numpy(np.flatnonzero(happens)).to(self.device, non_blocking=True)
