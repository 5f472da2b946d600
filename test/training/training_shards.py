"""A shard of made-up features over true hand geometry, small enough for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hoi_ros.hand_model import HandModel
from hoi_ros.training.feature_cache import shard_path


def write_made_up_shard(
    folder: Path, number: int, count: int = 16, seed: int = 0, model: HandModel | None = None
) -> Path:
    """Random features, real meshes and landmarks a few millimetres off; returns the file."""
    rng, model = np.random.default_rng([seed, number]), model or HandModel.load()
    low, high = model.joint_limits.T
    angles = np.clip(rng.normal(0.3, 0.3, (count, len(low))), low, high)
    sides = rng.random(count) < 0.5
    posed = [model.pose(a[None], np.zeros((1, 10)), "right" if right else "left") for a, right in zip(angles, sides)]
    facing = np.diag([1.0, -1.0, -1.0])
    joints = np.concatenate([p.joints for p in posed]) @ facing
    middle = joints.mean(1, keepdims=True)
    vertices = np.concatenate([p.vertices for p in posed]) @ facing - middle
    joints = joints - middle
    translation = np.tile([0.0, 0.0, 0.5], (count, 1))
    camera = np.tile([2.0, 2.0, 0.5, 0.5], (count, 1)).astype(np.float32)
    seen = joints + translation[:, None]
    points = seen[..., :2] / seen[..., 2:] * 2 + 0.5
    image = np.concatenate([points * 224, joints[..., 2:] * 900], -1) + rng.normal(0, 2, (count, 21, 3))
    folder.mkdir(parents=True, exist_ok=True)
    path = shard_path(folder, number)
    np.savez(
        path,
        landmarks=image.reshape(count, 63).astype(np.float32),
        world_landmarks=(joints + rng.normal(0, 0.004, joints.shape)).reshape(count, 63).astype(np.float32),
        presence=np.ones((count, 1), np.float32),
        handedness=sides[:, None].astype(np.float32),
        shallow=rng.standard_normal((count, 80, 14, 14)).astype(np.float16),
        fine=rng.standard_normal((count, 112, 14, 14)).astype(np.float16),
        coarse=rng.standard_normal((count, 192, 7, 7)).astype(np.float16),
        pooled=rng.standard_normal((count, 1152)).astype(np.float16),
        camera=camera,
        vertices=vertices.astype(np.float16),
        joints=joints.astype(np.float16),
        translation=translation.astype(np.float32),
        joints_2d=points.astype(np.float32),
        right=sides,
        visible=np.ones((count, 21), bool),
        contact=np.zeros((count, 778), bool),
        segments=np.zeros((count, 14, 14), np.uint8),
        pictures=np.zeros((2, 224, 224, 3), np.uint8),
    )
    return path
