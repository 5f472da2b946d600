"""Tiny folders laid out as published data sets are; one known hand and object in each."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from hoi_ros.geometry import make_transform

K = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
JOINTS = np.array([[0.002 * i, 0.004 * i - 0.05, 0.6 + 0.001 * i] for i in range(21)])
"""A 'hand' whose every joint differs; wrist to the middle finger's first joint 9 cm."""
JOINTS[1:] += (0, 0.05, 0)
POSE = make_transform(Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix(), np.array([0.05, -0.02, 0.7]))
SIZE = (48, 64)
FROM_OPTICAL = np.diag([1.0, -1.0, -1.0])
MANO_ORDER = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
"""MANO's joints by this project's numbers: index, middle, little, ring, thumb, then the tips."""


def picture(path: Path, value: int = 128) -> None:
    """A small colour picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*SIZE, 3), value, np.uint8))


def depth(path: Path, millimetres: int = 600) -> None:
    """A flat 16-bit depth picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(SIZE, millimetres, np.uint16))


def mesh(path: Path) -> None:
    """A triangle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("v 0 0 0\nv 0.1 0 0\nv 0 0.1 0\nf 1 2 3\n")


def text(path: Path, content: str) -> None:
    """A text file with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def matrix(path: Path, values: np.ndarray) -> None:
    """Numbers as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values)


def freihand(root: Path) -> None:
    picture(root / "evaluation/rgb/00000000.jpg")
    text(root / "evaluation_K.json", json.dumps([K.tolist()]))
    text(root / "evaluation_xyz.json", json.dumps([JOINTS.tolist()]))


def ho3d(root: Path) -> None:
    sequence = root / "train/ABF10"
    picture(sequence / "rgb/0000.jpg")
    coded = np.zeros((*SIZE, 3), np.uint8)
    coded[..., 1], coded[..., 2] = 4800 >> 8, 4800 & 255
    (sequence / "depth").mkdir()
    cv2.imwrite(str(sequence / "depth/0000.png"), coded)
    meta = {
        "camMat": K, "objName": "021_bleach_cleanser", "handJoints3D": JOINTS[MANO_ORDER] @ FROM_OPTICAL,
        "objRot": Rotation.from_matrix(FROM_OPTICAL @ POSE[:3, :3]).as_rotvec()[:, None],
        "objTrans": FROM_OPTICAL @ POSE[:3, 3],
    }  # fmt: skip
    (sequence / "meta").mkdir()
    (sequence / "meta/0000.pkl").write_bytes(pickle.dumps(meta, protocol=2))
    mesh(root / "models/021_bleach_cleanser/textured_simple.obj")


def dexycb(root: Path) -> None:
    camera = root / "20200709-subject-01/20200709_141754/836212060125"
    picture(camera / "color_000000.jpg")
    depth(camera / "aligned_depth_to_color_000000.png")
    seg = np.zeros(SIZE, np.uint8)
    seg[:10], seg[20:30] = 255, 5
    poses = np.stack([np.zeros((3, 4)), POSE[:3]])
    np.savez(camera / "labels_000000.npz", seg=seg, pose_y=poses, joint_3d=JOINTS[None], joint_2d=JOINTS[None, :, :2])
    meta = {"mano_sides": ["left"], "ycb_ids": [2, 5], "ycb_grasp_ind": 1}
    text(camera.parent / "meta.yml", yaml.safe_dump(meta))
    color = {"fx": 500.0, "fy": 510.0, "ppx": 320.0, "ppy": 240.0}
    text(root / "calibration/intrinsics/836212060125_640x480.yml", yaml.safe_dump({"color": color}))
    mesh(root / "models/005_tomato_soup_can/textured_simple.obj")


def interhand(root: Path) -> None:
    picture(root / "images/test/Capture0/seq/cam400001/image7.jpg")
    rotation, position = Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix(), np.array([100.0, 50, -30])
    own_order = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]
    world = JOINTS[own_order] * 1000 @ rotation + position
    both = np.concatenate([world, np.ones((21, 3))])
    valid = np.r_[np.ones(21), np.zeros(21)][:, None]
    valid[4] = 0
    prefix = root / "annotations/test/InterHand2.6M_test"
    image = {
        "id": 3,
        "file_name": "Capture0/seq/cam400001/image7.jpg",
        "capture": 0,
        "camera": "400001",
        "frame_idx": 7,
    }
    text(Path(f"{prefix}_data.json"), json.dumps({"images": [image], "annotations": [{"image_id": 3}]}))
    camera = {
        "campos": {"400001": position.tolist()}, "camrot": {"400001": rotation.tolist()},
        "focal": {"400001": [500, 510]}, "princpt": {"400001": [320, 240]},
    }  # fmt: skip
    text(Path(f"{prefix}_camera.json"), json.dumps({"0": camera}))
    label = {"world_coord": both.tolist(), "joint_valid": valid.tolist(), "hand_type": "right"}
    text(Path(f"{prefix}_joint_3d.json"), json.dumps({"0": {"7": label}}))


def hint(root: Path) -> None:
    folder = root / "TEST_newdays_img"
    picture(folder / "ND_a_frame1_l.jpg")
    hidden = [1.0] * 7 + [0.0] * 14
    record = {"bbox": [[0, 0, 9, 9]], "keypoints": (JOINTS[:, :2] * 100 + 20).tolist(), "occlusion": hidden}
    text(folder / "ND_a_frame1_l.json", json.dumps([record]))
    text(folder / "without_picture_r.json", json.dumps([record]))


def coco_wholebody(root: Path) -> None:
    picture(root / "val2017/000000000785.jpg")
    points = np.concatenate([JOINTS[:, :2] * 100 + 20, np.ones((21, 1))], 1)
    points[8, 2] = 0
    person = {
        "image_id": 785, "lefthand_kpts": [0.0] * 63, "lefthand_valid": False, "righthand_valid": True,
        "righthand_kpts": points.ravel().tolist(),
    }  # fmt: skip
    images = [{"id": 785, "file_name": "000000000785.jpg"}, {"id": 786, "file_name": "without_hands.jpg"}]
    labels = {"images": images, "annotations": [person]}
    text(root / "annotations/coco_wholebody_val_v1.0.json", json.dumps(labels))


TRAINING_PARTS = {
    "freihand": [("evaluation", "training"), ("evaluation_K.json", "training_K.json"),
                 ("evaluation_xyz.json", "training_xyz.json")],
    "hint": [("TEST_newdays_img", "TRAIN_newdays_img")],
    "coco_wholebody": [("val2017", "train2017"),
                       ("annotations/coco_wholebody_val_v1.0.json", "annotations/coco_wholebody_train_v1.0.json")],
    "dexycb": [],
    "ho3d": [],
}  # fmt: skip
"""What to rename to turn a look-alike's test part into its training part."""


def training_part(name: str, root: Path) -> None:
    """A look-alike of the part for training alone."""
    globals()[name](root)
    for test, training in TRAINING_PARTS[name]:
        (root / test).rename(root / training)


def showme(root: Path) -> None:
    sequence = root / "20220705173214"
    picture(sequence / "rgb/0000000000.png")
    matrix(sequence / "icp_res/0000000000/f_trans.txt", np.linalg.inv(POSE))
    mesh(sequence / "gt_mesh/obj_mesh/objmesh.obj")
    mesh(sequence / "gt_mesh/mano_mesh/mano.obj")


def ycbineoat(root: Path) -> None:
    sequence = root / "mustard0"
    picture(sequence / "rgb/000.png")
    depth(sequence / "depth/000.png")
    picture(sequence / "gt_mask/000.png", 255)
    matrix(sequence / "annotated_poses/000.txt", POSE)
    matrix(sequence / "cam_K.txt", K)
    mesh(root / "models/006_mustard_bottle/textured_simple.obj")


def quaternion_record(pose: np.ndarray) -> dict:
    """HOT3D's form of a rigid motion."""
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return {"translation_xyz": pose[:3, 3].tolist(), "quaternion_wxyz": [w, x, y, z]}


def hot3d(root: Path) -> None:
    clip = root / "clip-000001"
    camera = make_transform(Rotation.from_rotvec([0, 0.4, 0]).as_matrix(), np.array([1.0, 0, 0.2]))
    params = [500.0, 31.5, 23.5] + [0.0] * 12
    for number in range(2):
        picture(clip / f"{number:06d}.image_214-1.jpg")
        calibration = {"projection_model_type": "CameraModelType.FISHEYE624", "projection_params": params}
        cameras = {"214-1": {"calibration": calibration, "T_world_from_camera": quaternion_record(camera)}}
        text(clip / f"{number:06d}.cameras.json", json.dumps(cameras))
        moved = POSE.copy()
        moved[0, 3] += 0.1 * number
        still = {"T_world_from_object": quaternion_record(np.eye(4))}
        held = {"T_world_from_object": quaternion_record(camera @ moved)}
        text(clip / f"{number:06d}.objects.json", json.dumps({"1": [still], "7": [held]}))
        wrist = camera @ make_transform(np.eye(3), JOINTS[0])
        hands = {"right": {"umetrack_pose": {"wrist_xform": wrist.tolist()}, "visibilities_modeled": {"214-1": 0.75}}}
        text(clip / f"{number:06d}.hands.json", json.dumps(hands))
    mesh(root / "object_models_eval/obj_000007.obj")


def hands_real(root: Path) -> None:
    picture(root / "images/00004.jpg")
    np.savez(
        root / "gt_dev_every4th.npz", index=np.array([4]), joints_cm=JOINTS[None] * 100,
        fx_fy_u0_v0=np.array([[1000.0, 1020, 640, 360]]), bbox_xywh=np.array([[320, 120, 2 * SIZE[1], 2 * SIZE[0]]]),
    )  # fmt: skip


def hands_mixed(root: Path) -> None:
    picture(root / "rhd/00111.png")
    points = np.concatenate([JOINTS[:, :2] * 100 + 20, np.ones((21, 1))], 1)
    from_tips = [0, *(4 * f + j for f in range(5) for j in (4, 3, 2, 1))]
    label = {
        "image_id": 1, "keypoints": points[from_tips].tolist(), "joint_cam": (JOINTS[from_tips] * 1000).tolist(),
        "hand_type": "left",
    }  # fmt: skip
    image = {"id": 1, "file_name": "00111.png", "cam_param": {"focal": [500, 510], "princpt": [320, 240]}}
    text(root / "rhd/test_rhd.json", json.dumps({"images": [image], "annotations": [label]}))


def rgbd_realsense(root: Path) -> None:
    for number in range(2):
        picture(root / f"color/{number:04d}.png")
        depth(root / f"depth/{number:04d}.png")
    camera = {"w": SIZE[1], "h": SIZE[0], "px": 50, "py": 51, "u0": 32, "v0": 24, "depthScale": 0.002}
    text(root / "cam.json", json.dumps(camera))
    moved = make_transform(Rotation.from_rotvec([0, 0.1, 0]).as_matrix(), np.array([0.1, 0, 0]))
    text(root / "camera_poses.json", json.dumps({"camera_from_taggrid": [np.eye(4).tolist(), moved.tolist()]}))
    for item in ("cube", "dragon"):
        mesh(root / f"models/{item}/{item}.obj")
        text(root / f"init/{item}.json", json.dumps(POSE.tolist()))
