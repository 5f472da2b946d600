"""Crops on a pretended GPU: no tensor is left on the host, the device is asked for sizes alone, calls do not grow."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hoi_ros.training import batch_chance, batch_stream
from hoi_ros.training.batch_crops import BatchCropSource
from hoi_ros.training.batch_features import BatchFeatures
from hoi_ros.training.batch_settings import CropSettings, StreamConfig

DEVICE = "lazy:0"
"""A kind of device that torch knows of without any driver; it stands for a GPU."""
ASKING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
WAITS = 6
"""Rows, covered pixels and hits of the raster; hits on hands, forearms and things."""


class PretendedGpu(FakeTensorMode):
    """Shapes and devices without values: what asks for a value gets some number, and is counted."""

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self.asked = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in ASKING:
            self.asked += 1
            if func is torch.ops.aten.nonzero.default:
                with self:
                    return torch.zeros(300, args[0].ndim, dtype=torch.int64, device=args[0].device)
            return 5000
        return super().__torch_dispatch__(func, types, args, kwargs)


class Calls(TorchDispatchMode):
    """Counts what is called on the device."""

    def __init__(self):
        super().__init__()
        self.count = self.asked = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        self.asked += func in ASKING
        return func(*args, **(kwargs or {}))


class NoGenerator:
    """Stands in for a generator of a device that is not there."""

    def __init__(self, device):
        pass

    def manual_seed(self, seed):
        return None


@pytest.fixture(scope="module")
def source():
    return BatchCropSource(5, CropSettings(skins=1, things=2, held_share=0.5))


def test_calls_and_waits_do_not_grow_with_the_batch(source):
    counts = []
    for count in (24, 96):
        with Calls() as calls:
            source.crops(1, np.full(count, 0.6))
        assert calls.asked == WAITS
        counts.append(calls.count)
    assert abs(counts[1] - counts[0]) < 60, counts  # a kind of thing may be absent from the smaller batch


def test_nothing_stays_behind_on_the_host(monkeypatch):
    """Mixed devices raise in the pretended GPU; what crops are made of is built as on a real one."""
    monkeypatch.setattr(batch_chance.torch, "Generator", NoGenerator)
    shapes = {
        name: values.shape[1:] for name, values in BatchFeatures(detail=True).read(torch.zeros(1, 3, 224, 224)).items()
    }
    monkeypatch.setattr(batch_stream, "BatchFeatures", lambda device, detail: None)
    config = StreamConfig(skins=1, things=2, held_share=0.5)
    with PretendedGpu() as gpu:
        stream = batch_stream.StreamBatches(config, 20, 5, DEVICE)
        maps = {name: torch.zeros(24, *shape, device=DEVICE) for name, shape in shapes.items()}
        stream._features = SimpleNamespace(read=lambda images: maps)
        gpu.asked = 0
        batch = stream.batch(3)
        assert gpu.asked == WAITS
    tensors = [*vars(batch.targets).values(), batch.camera, *batch.detection.features, batch.detection.landmarks_3d]
    assert {str(values.device) for values in tensors} == {DEVICE}
    assert batch.targets.vertices.shape == (20, 1, 778, 3) and batch.targets.segments.shape == (20, 56, 56)
