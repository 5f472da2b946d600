"""Readers of data sets on tiny look-alike folders: layout, joint order, units, frames, and what a wrong folder says."""

import json
import pickle
import shutil
from pathlib import Path

import lookalikes
import numpy as np
import pytest
from lookalikes import JOINTS, POSE, SIZE

from hoi_ros.bench.hands import FoundHand, HandScore
from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets import DATASETS, LabelledSequence, detect, open_dataset
from hoi_ros.evaluation.datasets.files import read_mesh, read_npz, read_pickle
from hoi_ros.evaluation.datasets.hot3d import fisheye624, pinhole_picture
from hoi_ros.geometry import project
from hoi_ros.reconstruction.mesh_io import save_mesh
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


@pytest.mark.parametrize("name", ["ho3d", "dexycb", "showme", "ycbineoat", "hot3d", "rgbd_realsense"])
def test_objects_lie_where_they_should(tmp_path, name):
    sequence = opened(name, tmp_path)
    np.testing.assert_allclose(sequence[0].T_camera_object, POSE, atol=1e-6)
    if name != "hot3d":
        assert len(sequence.object_mesh().faces) == 1


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


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("joints_camera_m", r"'joints_camera_m'.*it looks like mm: write metres there"),
        ("vertices_camera_m", r"'vertices_camera_m': row 0.*one unit"),
        ("T_camera_object", r"'T_camera_object'.*it looks like mm: write metres there"),
    ],
)
def test_a_simulated_film_in_millimetres_is_refused(tmp_path, field, said):
    config = SimulatorConfig(width=160, height=120, frames=2)
    simulate(SimulateOptions("rotate:box", tmp_path, config, bag=False, quiet=True))
    arrays = dict(np.load(tmp_path / "truth.npz"))
    scaled = arrays[field].copy()
    (scaled[..., :3, 3] if field.startswith("T_") else scaled)[...] *= 1000
    np.savez(tmp_path / "truth.npz", **arrays | {field: scaled})
    with pytest.raises(InputError, match=rf"truth\.npz, field {said}"):
        open_dataset(tmp_path)


def test_an_object_in_millimetres_is_refused(tmp_path):
    config = SimulatorConfig(width=160, height=120, frames=2)
    simulate(SimulateOptions("rotate:box", tmp_path, config, bag=False, quiet=True))
    mesh = read_mesh(tmp_path / "meshes/box.ply")
    save_mesh(TriangleMesh(mesh.vertices * 1000, mesh.faces), tmp_path / "meshes/box.ply")
    with pytest.raises(InputError, match=r"box\.ply, field 'vertices'.*it looks like mm: write metres there"):
        open_dataset(tmp_path)[0].object_mesh()


def test_a_damaged_npz_is_named(tmp_path):
    good = tmp_path / "good.npz"
    np.savez_compressed(good, a=np.arange(5000))
    content = good.read_bytes()
    assert read_npz(good)["a"][-1] == 4999
    np.save(tmp_path / "array.npy", np.arange(3))
    middle = len(content) // 2
    damaged = {
        "empty": b"", "cut": content[:middle], "garbage": b"no archive", "array": (tmp_path / "array.npy").read_bytes(),
        "changed": content[:middle] + bytes(200) + content[middle + 200 :],
    }  # fmt: skip
    for name, data in damaged.items():
        (tmp_path / f"{name}.npz").write_bytes(data)
        with pytest.raises(InputError, match=rf"{name}\.npz cannot be read as NPZ: .+; write or copy it again"):
            read_npz(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("kind", ["obj", "ply", "glb", "stl"])
def test_a_mesh_without_triangles_is_named(tmp_path, kind):
    path = tmp_path / f"thing.{kind}"
    for content in (b"", b"no mesh at all\n" * 9, bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"mesh .*thing\.{kind}.*; write or copy it again") as caught:
            read_mesh(path)
        assert "\n" not in str(caught.value)


def test_a_mesh_of_bad_numbers_is_named(tmp_path):
    lookalikes.text(tmp_path / "nan.obj", "v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(InputError, match=r"nan\.obj, field 'vertices': row 1 is not finite"):
        read_mesh(tmp_path / "nan.obj")
    lookalikes.text(tmp_path / "faces.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n")
    with pytest.raises(InputError, match=r"faces\.obj"):
        read_mesh(tmp_path / "faces.obj")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\xff\x00", "cannot be read as YAML"),
        (b"a: [1\nb: 2", "cannot be read as YAML"),
        (b"", "expected fields with values"),
        (b"- 1\n", "expected fields with values"),
    ],
)
def test_damaged_descriptions_of_dexycb_are_named(tmp_path, content, said):
    for name in ("20200709-subject-01/20200709_141754/meta.yml", "calibration/intrinsics/836212060125_640x480.yml"):
        lookalikes.dexycb(tmp_path)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}.*{said}") as caught:
            open_dataset(tmp_path)
        assert "\n" not in str(caught.value)


def test_bad_values_of_dexycb_are_named(tmp_path):
    lookalikes.dexycb(tmp_path)
    meta = tmp_path / "20200709-subject-01/20200709_141754/meta.yml"
    for bad in ("mano_sides: [left]\nycb_ids: [2]\nycb_grasp_ind: 7", "mano_sides: []\nycb_ids: [2]\nycb_grasp_ind: 0"):
        meta.write_text(bad)
        with pytest.raises(InputError, match=r"meta\.yml: expected mano_sides a list"):
            open_dataset(tmp_path)
    meta.write_text("mano_sides: [L]\nycb_ids: [2]\nycb_grasp_ind: 0")
    with pytest.raises(InputError, match=r"meta\.yml, field 'mano_sides': row 0 is 'L'"):
        open_dataset(tmp_path)
    meta.write_text("mano_sides: [left]\nycb_ids: [2, 5]\nycb_grasp_ind: 1")
    labels = meta.parent / "836212060125/labels_000000.npz"
    good = dict(np.load(labels))
    for field, value in (("joint_3d", JOINTS[None, :5]), ("pose_y", np.zeros((1, 3, 4))), ("pose_y", np.zeros((2, 4)))):
        np.savez(labels, **good | {field: value})
        with pytest.raises(InputError, match=rf"labels_000000\.npz, field '{field}'"):
            open_dataset(tmp_path)[0][0]
    camera = tmp_path / "calibration/intrinsics/836212060125_640x480.yml"
    for bad in ("color: {fx: a, fy: 1, ppx: 1, ppy: 1}", "color: null"):
        camera.write_text(bad)
        with pytest.raises(InputError, match=r"640x480\.yml.*field '(color|fx)'"):
            open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("xyz", JOINTS[None, :5].tolist(), "1x5x3 numbers, expected Nx21x3"),
        ("xyz", {"0": JOINTS.tolist()}, "expected a list of Nx21x3 numbers"),
        ("xyz", [JOINTS.tolist(), JOINTS[:5].tolist()], "expected a list of Nx21x3 numbers"),
        ("K", [[1.0, 2.0]], "1x2 numbers, expected Nx3x3"),
        ("K", {}, "expected a list of Nx3x3 numbers"),
        ("verts", [[[0.0, 0.0]]], "1x1x2 numbers, expected NxNx3"),
        ("verts", (np.repeat(JOINTS, 3, axis=0)[None] * 1000).tolist(), "row 0 .* one unit"),
    ],
)
def test_labels_of_freihand_of_another_form_are_named(tmp_path, kind, value, said):
    lookalikes.freihand(tmp_path)
    (tmp_path / f"evaluation_{kind}.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=rf"evaluation_{kind}\.json, field '{kind}': {said}"):
        open_dataset(tmp_path)


def test_labels_of_hands_real_of_another_form_are_named(tmp_path):
    lookalikes.hands_real(tmp_path)
    good = dict(np.load(tmp_path / "gt_dev_every4th.npz"))
    for field, value in (("joints_cm", good["joints_cm"][:, :5]), ("bbox_xywh", np.zeros((1, 3))),
                         ("joints_cm", good["joints_cm"] * 10)):  # fmt: skip
        np.savez(tmp_path / "gt_dev_every4th.npz", **good | {field: value})
        with pytest.raises(InputError, match=rf"gt_dev_every4th\.npz, field '{field}'"):
            open_dataset(tmp_path)


def test_a_pose_belongs_to_the_picture_of_its_number(tmp_path):
    lookalikes.rgbd_realsense(tmp_path)
    whole = open_dataset(tmp_path)[0]
    expected = whole[1].T_camera_object
    assert np.abs(expected - whole[0].T_camera_object).max() > 0.05
    (tmp_path / "color/0000.png").unlink()
    cut = open_dataset(tmp_path)[0]
    assert len(cut) == 1 and cut[0].frame.name == "0001.png"
    np.testing.assert_allclose(cut[0].T_camera_object, expected)
    for name, said in (
        ("0007.png", r"camera_poses\.json.*2 poses, and none for 0007\.png"),
        ("x.png", "x.png has no number"),
    ):
        lookalikes.picture(tmp_path / "color" / name)
        lookalikes.depth(tmp_path / "depth" / name)
        with pytest.raises(InputError, match=said):
            open_dataset(tmp_path)
        (tmp_path / "color" / name).unlink()


def change_ho3d(root, number, **changes):
    """Another frame of the film with some labels changed."""
    sequence = root / "train/ABF10"
    meta = pickle.loads((sequence / "meta/0000.pkl").read_bytes()) | changes
    (sequence / f"meta/{number:04d}.pkl").write_bytes(pickle.dumps(meta))
    for kind in ("rgb", "depth"):
        suffix = "jpg" if kind == "rgb" else "png"
        shutil.copy(sequence / f"{kind}/0000.{suffix}", sequence / f"{kind}/{number:04d}.{suffix}")


def test_a_hand_without_label_in_ho3d_is_none_too_many(tmp_path):
    lookalikes.ho3d(tmp_path)
    change_ho3d(tmp_path, 1, handJoints3D=None)
    change_ho3d(tmp_path, 2, handJoints3D=np.zeros(3))
    sequence = open_dataset(tmp_path)[0]
    assert [item.all_hands_labelled for item in sequence] == [True, False, False]
    found = [FoundHand("right", sequence[0].hands[0].pixels(sequence[0].frame.intrinsics), JOINTS)]
    score = HandScore(sequence, absolute=True)
    for item in sequence:
        score.add(item, found, 1.0)
    assert score.figures()["extra"] == 0 and score.figures()["missed"] == 0


def test_a_frame_of_ho3d_without_camera_has_the_films(tmp_path):
    lookalikes.ho3d(tmp_path)
    meta = tmp_path / "train/ABF10/meta"
    change_ho3d(tmp_path, 1, camMat=None, handJoints3D=None, objRot=None, objTrans=None)
    expected = open_dataset(tmp_path)[0][0].frame.intrinsics
    bare = open_dataset(tmp_path)[0][1]
    assert bare.frame.intrinsics == expected and bare.hands == () and bare.T_camera_object is None
    (meta / "0000.pkl").write_bytes((meta / "0001.pkl").read_bytes())
    with pytest.raises(InputError, match=r"0000\.pkl, field 'camMat' is empty.*every frame"):
        open_dataset(tmp_path)[0][0]


def test_labels_of_ho3d_of_another_form_are_named(tmp_path):
    lookalikes.ho3d(tmp_path)
    for number, (field, value) in enumerate((("handJoints3D", np.zeros((5, 3))), ("camMat", np.zeros(4))), 1):
        change_ho3d(tmp_path, number, **{field: value})
        with pytest.raises(InputError, match=rf"000{number}\.pkl, field '{field}'"):
            open_dataset(tmp_path)[0][number]
    for content in (b"", b"\x80\x02}q\x00(X", pickle.dumps([1, 2])):
        (tmp_path / "train/ABF10/meta/0001.pkl").write_bytes(content)
        with pytest.raises(InputError, match=r"0001\.pkl"):
            open_dataset(tmp_path)[0][1]


def test_a_hand_of_interhand_that_is_hardly_known_is_none_too_many(tmp_path):
    lookalikes.interhand(tmp_path)
    path = tmp_path / "annotations/test/InterHand2.6M_test_joint_3d.json"
    labels = json.loads(path.read_text())
    assert open_dataset(tmp_path)[0][0].all_hands_labelled
    labels["0"]["7"]["hand_type"] = "interacting"
    path.write_text(json.dumps(labels))
    item = open_dataset(tmp_path)[0][0]
    assert len(item.hands) == 1 and not item.all_hands_labelled


def test_hands_of_hot3d_are_none_too_many(tmp_path):
    assert not opened("hot3d", tmp_path)[0].all_hands_labelled
