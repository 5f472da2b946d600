"""Readers of data sets on tiny look-alike folders: layout, joint order, units, frames, and what a wrong folder says."""

import pickle
import shutil
from pathlib import Path

import lookalikes
import numpy as np
import pytest
from lookalikes import JOINTS, POSE, SIZE

from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets import DATASETS, LabelledSequence, detect, open_dataset
from hoi_ros.evaluation.datasets.files import read_pickle
from hoi_ros.evaluation.datasets.hot3d import fisheye624, pinhole_picture
from hoi_ros.geometry import project
from hoi_ros.results import save_report
from hoi_ros.simulate import SimulateOptions, simulate
from hoi_ros.simulation import SimulatorConfig

NAMES = sorted(set(DATASETS) - {"simulated"})
IN_SPACE = {"freihand": "right", "ho3d": "right", "dexycb": "left", "hands_real": "left", "hands_mixed": "left"}


def opened(name: str, folder: Path) -> LabelledSequence:
    """The look-alike's first sequence, found by its files alone."""
    getattr(lookalikes, name)(folder)
    assert detect(folder) == name
    return open_dataset(folder)[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_can_be_read(tmp_path, name):
    sequence = opened(name, tmp_path)
    assert len(sequence) >= 1 and sequence.name
    for item in sequence:
        assert item.frame.color.shape == (*SIZE, 3)
        assert item.frame.depth_m is None or item.frame.depth_m.shape == SIZE


@pytest.mark.parametrize(("name", "side"), sorted(IN_SPACE.items()))
def test_hands_lie_where_they_should(tmp_path, name, side):
    (hand,) = opened(name, tmp_path)[0].hands
    assert hand.side == side
    np.testing.assert_allclose(hand.joints_camera, JOINTS, atol=1e-6)


def test_interhand_turns_the_world_into_the_camera_and_leaves_unknown_joints_out(tmp_path):
    (hand,) = opened("interhand", tmp_path)[0].hands
    assert hand.side == "right" and np.isnan(hand.joints_camera[8]).all()
    known = np.arange(21) != 8
    np.testing.assert_allclose(hand.joints_camera[known], JOINTS[known], atol=1e-9)


def test_coco_wholebody_gives_the_valid_hand_with_its_known_joints(tmp_path):
    sequence = opened("coco_wholebody", tmp_path)
    assert len(sequence) == 1, "a photo without hands is left out"
    (hand,) = sequence[0].hands
    assert hand.side == "right" and np.isnan(hand.joints_px[8]).all()
    known = np.arange(21) != 8
    np.testing.assert_allclose(hand.joints_px[known], (JOINTS[:, :2] * 100 + 20)[known])


@pytest.mark.parametrize("name", sorted(lookalikes.TRAINING_PARTS))
def test_training_reads_the_training_part_and_no_other(tmp_path, name):
    lookalikes.training_part(name, tmp_path / "learn")
    sequences = open_dataset(tmp_path / "learn", training=True)
    assert sum(len(sequence) for sequence in sequences) == 1 and sequences[0][0].hands
    if lookalikes.TRAINING_PARTS[name]:
        getattr(lookalikes, name)(tmp_path / "both")
        with pytest.raises(InputError, match="expected"):
            open_dataset(tmp_path / "both", training=True)


def test_every_fifth_recording_of_dexycb_is_not_trained_on(tmp_path):
    lookalikes.dexycb(tmp_path)
    recording = tmp_path / "20200709-subject-01/20200709_141754"
    for second in range(5, 9):
        shutil.copytree(recording, recording.with_name(f"20200709_14180{second}"))
    names = {sequence.name for sequence in open_dataset(tmp_path, training=True)}
    assert len(names) == 4 and not any("141808" in name for name in names)
    assert len(open_dataset(tmp_path)) == 5


@pytest.mark.parametrize("name", ["ho3d", "dexycb", "showme", "ycbineoat", "hot3d", "rgbd_realsense"])
def test_objects_lie_where_they_should(tmp_path, name):
    sequence = opened(name, tmp_path)
    np.testing.assert_allclose(sequence[0].T_camera_object, POSE, atol=1e-6)
    if name != "hot3d":
        assert len(sequence.object_mesh().faces) == 1
    if name == "showme":
        assert sequence.hand_faces().shape == (1, 3) and len(sequence[0].hands[0].vertices_camera) == 3


def test_depth_scales(tmp_path):
    assert opened("ho3d", tmp_path / "a")[0].frame.depth_m[3, 4] == pytest.approx(4800 * 0.000125, rel=1e-3)
    assert opened("dexycb", tmp_path / "b")[0].frame.depth_m[3, 4] == pytest.approx(0.6)
    assert opened("rgbd_realsense", tmp_path / "c")[0].frame.depth_m[3, 4] == pytest.approx(1.2)


def test_masks_and_visibility(tmp_path):
    item = opened("dexycb", tmp_path / "a")[0]
    assert item.hand_mask.sum() == 10 * SIZE[1] and item.object_mask[20:30].all() and not item.object_mask[:20].any()
    assert opened("ycbineoat", tmp_path / "b")[0].object_mask.all()
    (hand,) = opened("hint", tmp_path / "c")[0].hands
    assert hand.side == "left" and hand.visible_fraction == pytest.approx(2 / 3) and hand.joints_camera is None
    clip = opened("hot3d", tmp_path / "d")
    (hand,) = clip[0].hands
    np.testing.assert_allclose(hand.joints_camera[0], JOINTS[0], atol=1e-9)
    assert hand.visible_fraction == 0.75 and clip[1].T_camera_object[0, 3] == pytest.approx(POSE[0, 3] + 0.1)


def test_a_crop_keeps_the_camera(tmp_path):
    item = opened("hands_real", tmp_path)[0]
    whole = JOINTS[:, :2] / JOINTS[:, 2:] * (1000, 1020) + (640, 360)
    expected = (whole - (320, 120) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(project(JOINTS, item.frame.intrinsics), expected)


def test_fisheye_agrees_with_opencv():
    import cv2

    params = np.array([500.0, 320, 240, 0.05, -0.02, 0.01, -0.004, 0, 0, 0, 0, 0, 0, 0, 0])
    directions = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    points = np.concatenate([directions, np.ones((50, 1))], 1)[:, None]
    camera = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(points, np.zeros(3), np.zeros(3), camera, params[3:7])
    np.testing.assert_allclose(fisheye624(directions, params), expected[:, 0], atol=1e-6)
    bent = params.copy()
    bent[9:] = 0.01
    assert np.abs(fisheye624(directions, bent) - fisheye624(directions, params)).max() > 1
    with pytest.raises(InputError, match=r"c\.json, field 'projection_model_type': ODD"):
        pinhole_picture(
            np.zeros((8, 8, 3), np.uint8), {"projection_model_type": "ODD", "projection_params": [1]}, "c.json"
        )


@pytest.mark.parametrize(
    ("name", "remove", "said"),
    [
        ("freihand", "evaluation_K.json", r"FreiHAND.*'K'.*evaluation_K\.json"),
        ("freihand", "evaluation/rgb", r"FreiHAND.*pictures.*rgb"),
        ("ho3d", "train/ABF10/rgb", r"HO3D v3.*colour pictures.*ABF10/rgb"),
        ("dexycb", "calibration/intrinsics", r"DexYCB.*cameras.*intrinsics"),
        ("interhand", "annotations/test/InterHand2.6M_test_camera.json", r"InterHand2\.6M.*'camera'"),
        ("coco_wholebody", "val2017", r"COCO-WholeBody.*pictures val2017"),
        ("hint", "TEST_newdays_img/ND_a_frame1_l.jpg", r"HInt.*pairs"),
        ("showme", "20220705173214/gt_mesh/obj_mesh", r"SHOWMe.*scan.*objmesh\.obj"),
        ("ycbineoat", "mustard0/cam_K.txt", r"YCBInEOAT.*camera.*cam_K\.txt"),
        ("hot3d", "clip-000001/000000.image_214-1.jpg", r"HOT3D.*picture.*000000\.image_214-1\.jpg"),
        ("hands_real", "images", r"hands_real.*pictures.*images"),
        ("rgbd_realsense", "depth/0001.png", r"rgbd_realsense.*depth of 0001\.png"),
    ],
)
def test_a_wrong_folder_says_what_was_expected_where(tmp_path, name, remove, said):
    getattr(lookalikes, name)(tmp_path)
    path = tmp_path / remove
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=said):
        open_dataset(tmp_path, name)[0][0]


def test_folders_that_are_nothing(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no known layout.*freihand: evaluation/rgb"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="unknown data set 'frei': did you mean 'freihand'"):
        open_dataset(tmp_path, "frei")


def test_bad_values_name_file_and_field(tmp_path):
    lookalikes.freihand(tmp_path / "a")
    path = tmp_path / "a/evaluation_xyz.json"
    path.write_text(str((JOINTS[None] * 1000).tolist()))
    with pytest.raises(InputError, match=r"evaluation_xyz\.json, field 'xyz'.*it looks like mm: write metres there"):
        open_dataset(tmp_path / "a")
    path.write_text("[]")
    with pytest.raises(InputError, match=r"evaluation_xyz\.json, field 'xyz' is empty"):
        open_dataset(tmp_path / "a")
    path.write_text("{")
    with pytest.raises(InputError, match=r"evaluation_xyz\.json cannot be read as JSON"):
        open_dataset(tmp_path / "a")
    lookalikes.ycbineoat(tmp_path / "b")
    lookalikes.matrix(tmp_path / "b/mustard0/annotated_poses/001.txt", POSE)
    with pytest.raises(InputError, match=r"mustard0: fields differ in length \('rgb' 1, 'annotated_poses' 2\)"):
        open_dataset(tmp_path / "b")


class Trap:
    """Runs a command when unpickled."""

    def __reduce__(self):
        return print, ("caught",)


def test_a_pickle_may_not_run_code(tmp_path, capsys):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"camMat": np.eye(3), "objName": "mug", "x": np.float64(2)}))
    assert read_pickle(tmp_path / "a.pkl")["objName"] == "mug"
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"b\.pkl cannot be read as labels.*builtins\.print"):
        read_pickle(tmp_path / "b.pkl")
    assert capsys.readouterr().out == ""


def test_a_simulated_film_is_read_back(tmp_path):
    config = SimulatorConfig(width=160, height=120, frames=2)
    simulate(SimulateOptions("rotate:box", tmp_path / "film", config, bag=False, quiet=True))
    (sequence,) = open_dataset(tmp_path / "film")
    assert len(sequence) == 2 and sequence.fps == pytest.approx(30)
    item = sequence[1]
    (hand,) = item.hands
    depth = item.frame.depth_m[item.object_mask]
    assert np.abs(np.median(depth) - item.T_camera_object[2, 3]) < 0.1 and item.hand_mask.any()
    u, v = np.rint(hand.pixels(item.frame.intrinsics)[9]).astype(int)
    assert hand.side in ("left", "right") and 0 <= u < 160 and 0 <= v < 120
    assert np.ptp(sequence.object_mesh().vertices, axis=0).max() < 0.5
    (tmp_path / "film/color/000001.png").unlink()
    with pytest.raises(InputError, match="fields differ in length"):
        open_dataset(tmp_path / "film")
    save_report({}, tmp_path / "film/truth.npz")
    with pytest.raises(InputError, match="truth"):
        open_dataset(tmp_path / "film")
