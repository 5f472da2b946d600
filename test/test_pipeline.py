"""The pipeline's own part: who waits for whom. What the parts compute is tested where they live."""

import threading
import time

import numpy as np
import pytest

from hoi_ros.datatypes import CameraIntrinsics, ObjectObservation, RgbdFrame, TriangleMesh
from hoi_ros.pipeline import HoiPipeline, PipelineConfig

FRAME = RgbdFrame(
    np.zeros((24, 32, 3), np.uint8),
    CameraIntrinsics(32, 24, 30.0, 30.0, 15.5, 11.5),
    0,
    0,
    np.ones((24, 32), np.float32),
)


class Tracker:
    object_id = 0

    def track(self, frame, hands, **rest):
        return ObjectObservation("tracking", self.object_id, np.eye(4))

    def reset(self):
        pass

    def close(self):
        pass


class Reconstructor:
    """Counts frames; a mesh has as many vertices as frames were fused when it was begun, and waits to be let go."""

    def __init__(self):
        self.fused, self.go, self.begun = 0, threading.Event(), 0

    def integrate(self, frame, observation):
        self.fused += 1
        return True

    def changed_enough(self):
        return True

    def extract_mesh(self):
        count = self.fused
        self.begun += 1
        assert self.go.wait(5.0)
        return TriangleMesh(np.zeros((count, 3), np.float32), np.zeros((0, 3), np.int32))

    def settle(self):
        pass

    def reset(self):
        pass

    def close(self):
        pass


@pytest.fixture
def pipeline():
    pipeline = HoiPipeline(PipelineConfig(device="cpu"))
    pipeline.tracker, pipeline.reconstructor = Tracker(), Reconstructor()
    yield pipeline
    pipeline.reconstructor.go.set()
    pipeline.close()


def next_mesh(pipeline):
    """Feed frames until a mesh comes."""
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        mesh = pipeline.process(FRAME).mesh
        if mesh is not None:
            return mesh
    raise AssertionError("no mesh came")


def test_frames_do_not_wait_for_a_mesh(pipeline):
    meshes = [pipeline.process(FRAME).mesh for _ in range(5)]
    assert meshes == [None] * 5 and pipeline.reconstructor.fused == 5
    time.sleep(0.05)
    assert pipeline.reconstructor.begun == 1, "one mesh at a time"
    pipeline.reconstructor.go.set()
    assert 1 <= len(next_mesh(pipeline).vertices) <= 5


def test_the_final_mesh_holds_the_last_frame(pipeline):
    pipeline.reconstructor.go.set()
    for _ in range(4):
        pipeline.process(FRAME)
    assert len(pipeline.final_mesh().vertices) == 4


def test_a_mesh_of_an_object_that_is_gone_is_dropped(pipeline):
    pipeline.process(FRAME)
    pipeline.tracker.object_id = 1
    before = pipeline.reconstructor.fused
    pipeline.reconstructor.go.set()
    assert len(next_mesh(pipeline).vertices) > before


def test_a_failed_mesh_says_why(pipeline, monkeypatch):
    def fail():
        raise MemoryError("no room")

    monkeypatch.setattr(pipeline.reconstructor, "extract_mesh", fail)
    with pytest.raises(MemoryError, match="no room"):
        next_mesh(pipeline)
