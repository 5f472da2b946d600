"""A file like MANO's, made here; the licensed one is the user's."""

from __future__ import annotations

import numpy as np

from hoi_ros.geometry import so3_exp
from hoi_ros.hand_model import HandModel
from hoi_ros.hand_model.mano import BONE_ORDER, TIP_VERTICES


def look_alike(rng: np.random.Generator) -> dict:
    """Arrays of MANO's names and shapes: the free hand turned, its vertices and bones in MANO's order."""
    free = HandModel.load()
    turn = so3_exp(np.array([0.3, -1.0, 0.7]))
    tips = free.skeleton.keypoints[[4, 8, 12, 16, 20]]
    order = rng.permutation(778)
    for target, tip in zip(TIP_VERTICES, tips):
        vertex = int(np.linalg.norm(free.template - tip, axis=1).argmin())
        at = int(np.flatnonzero(order == vertex)[0])
        order[[target, at]] = order[[at, target]]
    template = free.template[order]
    bone_keypoints = [0, *(1 + 4 * f + k for f in range(5) for k in range(3))]
    joints = free.skeleton.keypoints[bone_keypoints]
    regressor = np.zeros((16, 778))
    inverse = np.argsort(BONE_ORDER)
    for bone in range(16):
        near = np.argsort(np.linalg.norm(template - joints[bone], axis=1))[:80]
        system = np.vstack([template[near].T, np.ones(80)])
        blend = np.linalg.lstsq(system, np.append(joints[bone], 1), rcond=None)[0]
        regressor[BONE_ORDER[bone], near] = blend
    return {
        "v_template": template @ turn.T + [0.09, 0.01, 0.0],
        "shapedirs": rng.normal(0, 1e-3, (778, 3, 10)),
        "posedirs": rng.normal(0, 1e-4, (778, 3, 135)),
        "J_regressor": regressor,
        "weights": free.weights[order][:, inverse],
        "f": np.argsort(order)[free.right_faces[:1538]].astype(np.uint32),
        "kintree_table": np.zeros((2, 16), np.int64),
    }
