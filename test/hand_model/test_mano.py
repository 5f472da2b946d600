"""The MANO loader on a look-alike made here; the licensed file itself is the user's."""

import pickle
import sys
import types

import numpy as np
import pytest
from mano_look_alike import look_alike
from scipy.sparse import csc_matrix

from hoi_ros.errors import InputError
from hoi_ros.hand_model import HandModel, load_mano
from hoi_ros.hand_model.anatomy import wrist_frame
from hoi_ros.hand_model.kinematics import forward_kinematics
from hoi_ros.hand_model.mano import BONE_ORDER, TIP_VERTICES


@pytest.fixture(scope="module")
def arrays() -> dict:
    return look_alike(np.random.default_rng(0))


@pytest.fixture
def pickle_path(arrays, tmp_path):
    """Written as the original is: chumpy objects and a sparse regressor, Python 2's protocol."""
    chumpy = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x):
            self.x = x

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    chumpy.Ch = Ch
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = types.ModuleType("chumpy"), chumpy
    try:
        content = {**arrays, "shapedirs": Ch(arrays["shapedirs"]), "J_regressor": csc_matrix(arrays["J_regressor"])}
        path = tmp_path / "MANO_RIGHT.pkl"
        path.write_bytes(pickle.dumps(content, protocol=2))
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
    return path


def test_reads_the_pickle_and_the_archive_alike(arrays, pickle_path, tmp_path):
    np.savez(tmp_path / "mano.npz", **arrays)
    one, two = load_mano(pickle_path), load_mano(tmp_path / "mano.npz")
    np.testing.assert_array_equal(one.template, two.template)
    assert one.vertex_count == 778 and one.faces("right").shape == (1538, 3)


def test_same_face_as_the_free_hand(pickle_path):
    mano, free = load_mano(pickle_path), HandModel.load()
    assert mano.joint_angle_names == free.joint_angle_names
    zero = np.zeros((1, 22)), np.zeros((1, 10))
    ours, theirs = free.pose(*zero, "right").joints[0], mano.pose(*zero, "right").joints[0]
    assert np.linalg.norm(ours - theirs, axis=1).max() < 0.012  # tips are vertices there
    np.testing.assert_allclose(mano.skeleton.hinges.axes, free.skeleton.hinges.axes, atol=0.15)


def test_pose_agrees_with_mano_as_its_paper_writes_it(arrays, pickle_path):
    """Skinning in MANO's own axes and order, bone by bone, against ours in the wrist frame."""
    rng = np.random.default_rng(1)
    mano = load_mano(pickle_path)
    angles, shape = rng.uniform(-0.2, 0.8, (1, 22)), rng.normal(size=(1, 10))
    pose = mano.pose(angles, shape, "right")

    regressor = arrays["J_regressor"]
    rest = (regressor @ arrays["v_template"])[BONE_ORDER]
    tips = arrays["v_template"][list(TIP_VERTICES)]
    fingers = [np.vstack([rest[1 + 3 * f : 4 + 3 * f], tips[f]]) for f in range(5)]
    frame = wrist_frame(np.vstack([rest[:1], *fingers]))
    local = forward_kinematics(mano.skeleton, angles, shape).local_rotations[0]
    own = np.empty((16, 3, 3))
    own[BONE_ORDER] = frame.T @ local @ frame
    shaped = arrays["v_template"] + arrays["shapedirs"] @ shape[0]
    joints = regressor @ shaped
    posed = shaped + arrays["posedirs"] @ (own[1:] - np.eye(3)).ravel()
    parents = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]
    rotation, origin = [np.eye(3)], [joints[0]]
    for bone in range(1, 16):
        parent = parents[bone]
        rotation.append(rotation[parent] @ own[bone])
        origin.append(origin[parent] + rotation[parent] @ (joints[bone] - joints[parent]))
    skin = sum(arrays["weights"][:, b, None] * ((posed - joints[b]) @ rotation[b].T + origin[b]) for b in range(16))
    np.testing.assert_allclose(pose.vertices[0], (skin - joints[0]) @ frame.T, atol=2e-6)


@pytest.mark.parametrize(
    "fault", ["missing key", "wrong shape", "not finite", "no dict", "text", "empty", "absent", "code"]
)
def test_refuses_other_files(arrays, tmp_path, fault):
    path = tmp_path / "file.pkl"
    content: object = dict(arrays)
    if fault == "missing key":
        content = {k: v for k, v in arrays.items() if k != "weights"}
    elif fault == "wrong shape":
        content = {**arrays, "v_template": arrays["v_template"][:700]}
    elif fault == "not finite":
        content = {**arrays, "v_template": arrays["v_template"] * np.nan}
    elif fault == "no dict":
        content = [1, 2]
    elif fault == "code":
        content = {**arrays, "f": types.SimpleNamespace(a=1)}
    if fault in ("text", "empty"):
        path.write_text("not a hand" if fault == "text" else "")
    elif fault != "absent":
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(InputError, match=r"MANO file .*expected MANO_RIGHT\.pkl"):
        load_mano(path)


def test_refuses_a_left_hand(arrays, tmp_path):
    mirrored = {**arrays, "v_template": arrays["v_template"] * [-1, 1, 1], "f": arrays["f"][:, ::-1]}
    np.savez(tmp_path / "left.npz", **mirrored)
    with pytest.raises(InputError, match="left hand"):
        load_mano(tmp_path / "left.npz")
