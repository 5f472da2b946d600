"""Copies of data sets with missing, damaged or odd files: what is refused, by file and field, and what is borne."""

import json
import pickle
import re
import shutil
from pathlib import Path

import lookalikes
import numpy as np
import pytest
from lookalikes import JOINTS

from hoi_ros.bench.hands import FoundHand, HandScore
from hoi_ros.cli import main
from hoi_ros.datatypes import TriangleMesh
from hoi_ros.errors import InputError
from hoi_ros.evaluation.datasets import LabelledSequence, open_dataset
from hoi_ros.evaluation.datasets.files import read_mesh, read_npz
from hoi_ros.reconstruction.mesh_io import save_mesh
from hoi_ros.simulate import SimulateOptions, simulate
from hoi_ros.simulation import SimulatorConfig


def opened(name: str, folder: Path) -> LabelledSequence:
    """The look-alike's first sequence."""
    getattr(lookalikes, name)(folder)
    return open_dataset(folder)[0]


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
    for kind in ("rgb", "depth") if number else ():
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


@pytest.mark.parametrize(
    ("name", "models", "said"),
    [
        ("ycbineoat", "models", r"YCBInEOAT: expected the object's mesh at .*006_mustard_bottle/textured_simple\.obj"),
        ("ho3d", "models", r"HO3D v3: expected the object's mesh at .*models/021_bleach_cleanser/textured_simple\.obj"),
        ("dexycb", "models", r"DexYCB: expected the object's mesh at .*models/005_\*/textured_simple\.obj"),
        ("hot3d", "object_models_eval", r"HOT3D: expected the object's mesh at .*object_models/obj_000007\.glb"),
    ],
)  # fmt: skip
def test_an_absent_model_is_named(tmp_path, capsys, name, models, said):
    sequence = opened(name, tmp_path)
    shutil.rmtree(tmp_path / models)
    with pytest.raises(InputError, match=said):
        sequence.object_mesh()
    if name != "hot3d":
        assert main(["bench", "tracking", "--no-peers", "--quiet", "--data", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert re.search(said, error) and error.count("\n") == 1


def test_an_absent_name_of_the_object_is_said(tmp_path):
    lookalikes.ycbineoat(tmp_path / "a")
    (tmp_path / "a/mustard0").rename(tmp_path / "a/film0")
    with pytest.raises(InputError, match=r"YCBInEOAT/film0: .* begin the folder's name with one of bleach"):
        open_dataset(tmp_path / "a")[0].object_mesh()
    lookalikes.ho3d(tmp_path / "b")
    change_ho3d(tmp_path / "b", 0, objName=None)
    with pytest.raises(InputError, match=r"0000\.pkl, field 'objName' is empty"):
        open_dataset(tmp_path / "b")[0].object_mesh()


@pytest.mark.parametrize(
    ("name", "depth", "said"),
    [
        ("hands_real", "", "hands_real: photos, not a film"),
        ("ho3d", "train/ABF10/depth", r"no depth, expected at .*train/ABF10/depth/NNNN\.png"),
        ("showme", "", r"no depth, expected at .*SHOWMe_depth/20220705173214/depth/NNNNNNNNNN\.xyz\.npz"),
        ("hot3d", "", "HOT3D/clip-000001: no depth; mend that"),
    ],
)
def test_what_a_film_lacks_for_tracking_is_named(tmp_path, capsys, name, depth, said):
    getattr(lookalikes, name)(tmp_path)
    if depth:
        shutil.rmtree(tmp_path / depth)
    assert main(["bench", "tracking", "--no-peers", "--quiet", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1


def test_an_object_of_a_data_set_in_millimetres_is_refused(tmp_path):
    sequence = opened("ycbineoat", tmp_path)
    path = tmp_path / "models/006_mustard_bottle/textured_simple.obj"
    path.write_text("v 0 0 0\nv 100 0 0\nv 0 100 0\nf 1 2 3\n")
    with pytest.raises(InputError, match=r"textured_simple\.obj, field 'vertices'.*it looks like mm"):
        sequence.object_mesh()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("interhand", "annotations/test/InterHand2.6M_test_camera.json"),
        ("interhand", "annotations/test/InterHand2.6M_test_joint_3d.json"),
        ("hot3d", "clip-000001/000000.objects.json"),
        ("hot3d", "clip-000001/000000.hands.json"),
        ("hot3d", "clip-000001/000000.cameras.json"),
    ],
)
def test_records_of_another_form_are_named(tmp_path, name, file):
    getattr(lookalikes, name)(tmp_path)
    (tmp_path / file).write_text("[]")
    with pytest.raises(InputError, match=f"{file}: expected fields .*found list"):
        open_dataset(tmp_path)[0][0]
