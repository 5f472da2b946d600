"""Scoring of hands: what counts as found, extra, missed; and a peer that is not installed."""

import dataclasses

import numpy as np
import pytest

from hoi_ros.bench.hands import FoundHand, HandScore
from hoi_ros.bench.inputs import SimulatedFilm
from hoi_ros.bench.peers.environment import PeerMissing, peer_python
from hoi_ros.datatypes import CameraIntrinsics, RgbdFrame
from hoi_ros.evaluation.datasets.records import HandLabel, LabelledFrame, LabelledSequence
from hoi_ros.geometry import project

CAMERA = CameraIntrinsics(640, 480, 600.0, 600.0, 319.5, 239.5)
RANDOM = np.random.default_rng(0)
HAND = np.stack([np.linspace(-0.05, 0.05, 21), RANDOM.uniform(-0.08, 0.08, 21), 0.5 + RANDOM.normal(0, 0.02, 21)], 1)

FACES = np.arange(9).reshape(3, 3)


class Listed(LabelledSequence):
    """Labels from a list."""

    name, fps = "listed", 30.0

    def __init__(self, items: list[LabelledFrame]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> LabelledFrame:
        return self.items[index]


def item(index: int, *hands: HandLabel) -> LabelledFrame:
    """A labelled frame without a picture worth seeing."""
    return LabelledFrame(RgbdFrame(np.zeros((480, 640, 3), np.uint8), CAMERA, index, index), hands, True)


def found(joints: np.ndarray, side: str = "left", track: int = 0) -> FoundHand:
    """A perfect detection of some joints."""
    return FoundHand(side, project(joints, CAMERA), joints, track)


def test_found_missed_and_extra():
    far = HAND + (0.15, 0, 0)
    items = [item(i, HandLabel("left", HAND + (0.01 * i, 0, 0))) for i in range(4)]
    score = HandScore(Listed(items), True)
    score.add(items[0], [found(HAND)], 5.0)
    score.add(items[1], [found(HAND + (0.01, 0, 0)), found(far + (0.05, 0, 0), track=1)], 5.0)
    score.add(items[2], [found(HAND + (0.02, 0, 0), "right")], 5.0)
    score.add(items[3], [], 5.0)
    figures = score.figures()
    assert (figures["hands"], figures["missed"], figures["extra"], figures["flips"]) == (4, 1, 1, 1)
    assert figures["mpjpe_mm"] == pytest.approx(25) and figures["handedness_percent"] == pytest.approx(50)
    speeds = score.curve("x").values["speed m/s"]
    assert np.isnan(speeds[0]) and speeds[1:] == pytest.approx(0.3)


def test_hidden_hands_need_not_be_found_and_are_no_mistake():
    hidden = item(0, HandLabel("left", HAND, visible_fraction=0.1))
    score = HandScore(Listed([hidden]), True)
    score.add(hidden, [found(HAND)], 1.0)
    assert score.extra == 0 and not score.joints


def test_extra_hands_are_counted_where_any_frame_labels_all():
    first = dataclasses.replace(item(0), all_hands_labelled=False)
    second = item(1, HandLabel("left", HAND))
    score = HandScore(Listed([first, second]), True)
    score.add(first, [found(HAND)], 1.0)
    score.add(second, [found(HAND), found(HAND + (0.2, 0, 0))], 1.0)
    assert score.figures()["extra"] == 1


class Meshed(Listed):
    """Labels with hand meshes of three triangles."""

    def hand_faces(self) -> np.ndarray:
        return FACES


def test_vertices_are_judged_where_the_hand_model_is_the_same():
    skin = RANDOM.normal(size=(40, 3)) * 0.05 + (0, 0, 0.5)
    items = [item(i, HandLabel("left", HAND, vertices_camera=skin)) for i in range(2)]
    mine = dataclasses.replace(found(HAND), vertices_m=skin * 1.2 + (0, 0.1, 0))

    def figures(sequence: LabelledSequence, faces: np.ndarray | None):
        score = HandScore(sequence, True, faces)
        score.add(items[0], [mine], 1.0)
        score.add(items[1], [], 1.0)
        return score.figures()

    same = figures(Meshed(items), FACES.copy())
    assert same["pa_mpvpe_mm"] == pytest.approx(25) and same["pa_f5_percent"] == same["pa_f15_percent"] == 50
    for sequence, faces in ((Meshed(items), None), (Meshed(items), FACES[::-1]), (Listed(items), FACES)):
        assert "pa_mpvpe_mm" not in figures(sequence, faces), "as many vertices are not the same model"


def test_a_film_without_labels_is_counted():
    score = HandScore(Listed([item(0)]), True)
    score.add(item(0), [found(HAND), found(HAND)], 2.0)
    assert score.figures()["with_2_hands"] == 1 and score.curve("x") is None


def test_a_peer_that_is_not_installed_says_how(tmp_path):
    with pytest.raises(PeerMissing, match=r"mediapipe==0\.10\.21 is not installed.*--install-peers"):
        peer_python(tmp_path, "mediapipe==0.10.21", ("python3.11",), install=False)
    with pytest.raises(PeerMissing, match=r"needs one of python9\.9"):
        peer_python(tmp_path, "mediapipe==0.10.21", ("python9.9",), install=True)


def test_simulated_labels_agree_with_the_simulator():
    film = SimulatedFilm("rotate:box", 2)
    item_, frame = film[1], film.simulator.frame(1)
    np.testing.assert_array_equal(item_.frame.color, frame.color)
    assert item_.frame.truth is None and len(item_.hands) == len(frame.truth.hands)
    np.testing.assert_array_equal(item_.object_mask, frame.truth.labels == 1)
    assert film.object_mesh() is not None and len(film) == 2
