"""What fingers hid at first is in the mesh once the thing was taken another way."""

from __future__ import annotations

import numpy as np
import pytest

from hoi_ros.datatypes import LABEL_OBJECT, ObjectObservation
from hoi_ros.evaluation.surfaces import nearest_distances, sample_surface
from hoi_ros.reconstruction.reconstructor import ObjectReconstructor
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.simulation.holds import hand_vertices

UNDER_M, FOUND_M = 0.008, 0.004
"""Nearer to a hand than this, surface is hidden by it; nearer to the mesh, it is there."""


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator("grasp:bottle", SimulatorConfig(seed=3, width=320, height=240, fps=3))


def fuse_while_held(reconstructor: ObjectReconstructor, simulator: Simulator, stay) -> None:
    """Fuse the frames in which one hold is closed, at true poses and masks, with the sensor's depth."""
    for index in range(simulator.loop_frames):
        time = index / simulator.loop_frames * simulator.scene.period_s
        if not stay.closed <= time <= stay.open:
            continue
        frame = simulator.frame(index)
        labels, pose = frame.truth.labels, frame.truth.T_camera_object["bottle"]
        hands = labels > LABEL_OBJECT
        seen = ObjectObservation("tracking", T_camera_object=pose, mask=labels == LABEL_OBJECT, hand_mask=hands)
        reconstructor.integrate(frame, seen)


def test_holes_under_the_fingers_fill_when_the_grasp_changes(simulator):
    bottle, scene = simulator.object_meshes()["bottle"], simulator.scene
    surface = sample_surface(bottle.vertices, bottle.faces, 4000)
    first = scene.stays[0].hold
    hand = hand_vertices(simulator.model, simulator.hand_shape, first, first.angles)
    under = nearest_distances(surface, hand) < UNDER_M
    reconstructor, found = ObjectReconstructor(device="cpu"), []
    for stay in scene.stays[:2]:
        fuse_while_held(reconstructor, simulator, stay)
        mesh = reconstructor.extract_mesh(watertight=False)
        found.append(nearest_distances(surface, mesh.vertices) < FOUND_M)
        # What fills a hole is the bottle, not a hand.
        assert np.percentile(nearest_distances(mesh.vertices, surface), 99) < 2 * FOUND_M
    before, after = found
    assert 0.05 < under.mean() < 0.5
    assert before[under].mean() < 0.75 and after[under].mean() > before[under].mean() + 0.2
    assert after.mean() > before.mean() + 0.12
    assert after[before].mean() > 0.99, "what was there stays"
