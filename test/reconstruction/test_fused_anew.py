"""Fusion with corrected poses beside the stream: nobody waits for it live, offline it comes at a fixed frame."""

import dataclasses
import threading

import numpy as np
import pytest
from jobs import LateExecutor, PromptExecutor, held_back
from test_fusion import BALL, mean_gap_mm, observe, poses, revised

from hoi_ros.geometry import make_transform
from hoi_ros.reconstruction import reconstructor as reconstructor_module
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor, ReconstructionConfig

CONFIG = ReconstructionConfig(refuse_frames=1, keep_period=1)
VIEWS = 16


@pytest.fixture(scope="module")
def stream():
    """Frames at drifting poses, one with the poses' correction, and frames at right poses."""
    shift = np.linspace(0, 0.012, VIEWS)[:, None] * [1, 0, 0]
    right = observe(BALL, poses(VIEWS))
    wrong = [seen.T_camera_object @ make_transform(np.eye(3), s) for (_, seen), s in zip(right, shift)]
    drifting, (frame, last) = revised(right, wrong)
    after = [
        (dataclasses.replace(frame, stamp_ns=100 + i), seen)
        for i, (frame, seen) in enumerate(observe(BALL, poses(9)[1:]))
    ]
    return drifting, (dataclasses.replace(frame, stamp_ns=99), last), after


def begun(stream, **settings):
    """A reconstructor that has just heard of the correction."""
    reconstructor = ObjectReconstructor(CONFIG, "cpu", **settings)
    drifting, correction, _ = stream
    for frame, seen in [*drifting, correction]:
        assert reconstructor.integrate(frame, seen)
    return reconstructor


@pytest.fixture
def held(stream, monkeypatch):
    """A live reconstructor whose fusion anew is held back, and the event that lets it go."""
    go = threading.Event()
    fused = held_back(reconstructor_module._fused, go)
    monkeypatch.setattr(reconstructor_module, "_fused", fused)
    reconstructor = begun(stream, live=True)
    assert fused.begun.wait(20.0)
    yield reconstructor, go
    go.set()
    reconstructor.close()


def test_live_frames_never_wait_and_those_that_came_meanwhile_are_in(stream, held):
    (reconstructor, go), (_, _, after) = held, stream
    for frame, seen in after[:2]:
        assert reconstructor.integrate(frame, seen) and reconstructor.times_fused_anew == 0
    assert mean_gap_mm(reconstructor.extract_mesh()) > 2, "as it was, still growing"
    go.set()
    reconstructor._now.anew.result()
    taken_over = []
    for frame, seen in after[2:5]:
        assert reconstructor.integrate(frame, seen)
        taken_over.append(reconstructor.times_fused_anew)
    assert taken_over == [0, 0, 1], "of three frames to catch up with and one more a frame, two a frame"
    kept = reconstructor._now.kept.frames
    assert [k.stamp_ns for k in kept[-6:]] == [99, 100, 101, 102, 103, 104]
    of_all = reconstructor_module._fused(kept, CONFIG, reconstructor.device).field()
    field = reconstructor._now.fusion.field()
    np.testing.assert_array_equal(field.tsdf, of_all.tsdf)
    np.testing.assert_array_equal(field.weight, of_all.weight)
    assert mean_gap_mm(reconstructor.extract_mesh()) < 0.8 and reconstructor.frames_fused == VIEWS + 6


def test_a_live_fusion_that_is_done_in_time_is_taken_over_when_due(stream):
    reconstructor = ObjectReconstructor(CONFIG, "cpu", live=True)
    reconstructor._beside = PromptExecutor()
    drifting, correction, _ = stream
    for frame, seen in [*drifting, correction]:
        reconstructor.integrate(frame, seen)
    assert reconstructor.times_fused_anew == 1


def test_frames_go_on_while_settling_waits(stream, held, monkeypatch):
    (reconstructor, go), (_, _, after) = held, stream
    waiting, wait = threading.Event(), reconstructor_module.wait

    def watched_wait(jobs):
        waiting.set()
        return wait(jobs)

    monkeypatch.setattr(reconstructor_module, "wait", watched_wait)
    settling = threading.Thread(target=reconstructor.settle)
    settling.start()
    assert waiting.wait(20.0)
    for frame, seen in after[:2]:
        assert reconstructor.integrate(frame, seen) and reconstructor.times_fused_anew == 0
    go.set()
    settling.join(20.0)
    assert reconstructor.times_fused_anew == 1 and mean_gap_mm(reconstructor.extract_mesh()) < 0.8


def test_a_later_correction_does_not_wait_behind_those_it_outdates(stream, held):
    (reconstructor, go), (_, (_, last), after) = held, stream
    shift, jobs = make_transform(np.eye(3), np.array([0.01, 0, 0])), [reconstructor._now.anew]
    for number, (frame, seen) in enumerate(after[:3], 2):
        poses_now = last.revision.T_camera_object @ (shift if number % 2 == 0 else np.eye(4))
        revision = dataclasses.replace(last.revision, T_camera_object=poses_now, number=number)
        assert reconstructor.integrate(frame, dataclasses.replace(seen, revision=revision))
        jobs.append(reconstructor._now.anew)
    assert [job.cancelled() for job in jobs] == [False, True, True, False], "the first had begun"
    go.set()
    reconstructor.settle()
    assert reconstructor.times_fused_anew == 1


def test_offline_the_machine_s_speed_changes_nothing(stream):
    fields, taken_over = [], []
    for executor in (LateExecutor(), PromptExecutor()):
        reconstructor = ObjectReconstructor(dataclasses.replace(CONFIG, refuse_frames=4), "cpu")
        reconstructor._beside = executor
        counts = []
        for frame, seen in [*stream[0], stream[1], *stream[2]]:
            reconstructor.integrate(frame, seen)
            counts.append(reconstructor.times_fused_anew)
        taken_over.append(counts.index(1))
        field = reconstructor._now.fusion.field()
        fields.append(field.tsdf.tobytes() + field.weight.tobytes())
    assert taken_over == [VIEWS + 3] * 2 and fields[0] == fields[1]
