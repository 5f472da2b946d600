"""Asks the pairwise network about pairs of kept views; each view is encoded once."""

from __future__ import annotations

import numpy as np
import torch

from hoi_ros.tracking.pointmap_network import PointmapNetwork
from hoi_ros.tracking.pointmap_stream import PairPointmaps, StreamView

_KEPT_TOKENS = 64


class NetworkPairs:
    """Callable that answers for ordered pairs of views, whatever kind of output the network has."""

    def __init__(self, network: PointmapNetwork, device: str = "cpu") -> None:
        """Wrap a network; it is put into evaluation mode on the device."""
        self._network = network.to(device).eval()
        self._device = torch.device(device)
        self._tokens: dict[int, torch.Tensor] = {}

    def __call__(self, first: StreamView, second: StreamView) -> PairPointmaps:
        """Pointmaps of both views in the first's frame, centred.

        A network that counts from the camera knows no scale: its median depth of the first view's object is taken for
        the crop's middle.
        """
        with torch.no_grad(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            tokens = [self._encoded(view) for view in (first, second)]
            size = first.picture.shape[:2]
            found = self._network.decode(tokens[0], tokens[1], (size[0], size[1]))
        points = found.points[0].float().cpu().numpy().astype(np.float64)
        confidence = found.confidence[0].float().cpu().numpy()
        if self._network.config.output == "camera":
            depth = points[0, ..., 2]
            middle = float(np.median(depth[first.object_mask])) if first.object_mask.any() else float(np.median(depth))
            points = (points - [0, 0, middle]) / (max(middle, 1e-9) * first.crop.half_tangent)
        return PairPointmaps(points[0], points[1], confidence[0], confidence[1])

    def forget(self, index: int) -> None:
        """Drop what is kept of a view."""
        self._tokens.pop(index, None)

    def _encoded(self, view: StreamView) -> torch.Tensor:
        if view.index not in self._tokens:
            if len(self._tokens) >= _KEPT_TOKENS:
                self._tokens.pop(next(iter(self._tokens)))
            picture = torch.from_numpy(np.ascontiguousarray(view.picture)).permute(2, 0, 1).float()[None] / 127.5 - 1
            self._tokens[view.index] = self._network.encode(picture.to(self._device))
        return self._tokens[view.index]
