"""Batched crops: exact labels as those of single crops, the same distribution, repeatable, in parts as in one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from hoi_ros.hand.regions import region_from_landmarks
from hoi_ros.hand_model import HandModel
from hoi_ros.simulation.raycast import TriangleScene
from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_crops import BatchCropSource, CropSettings
from hoi_ros.training.batch_pictures import BatchBackgrounds, cover
from hoi_ros.training.batch_plan import draw_plan
from hoi_ros.training.batch_raster import rasterize
from hoi_ros.training.batch_scene import build_scene
from hoi_ros.training.batch_shading import HAND_HIT, HELD_HIT, Hits, darken_crevices
from hoi_ros.training.batch_stock import BALL, BOX, CYLINDER
from hoi_ros.training.batch_things import solid_distance
from hoi_ros.training.batch_views import regions
from hoi_ros.training.crop_pictures import Harshness
from hoi_ros.training.hand_crops import CROP_SIDE, HAND, OBJECT, HandCropSource

SETTINGS = CropSettings(skins=2, things=3, held_share=0.4, crops_at_once=24)


@pytest.fixture(scope="module")
def source():
    return BatchCropSource(5, SETTINGS)


@pytest.fixture(scope="module")
def crops(source):
    return source.crops(0, np.full(40, 0.3))


def test_joints_project_where_they_are_labelled(crops):
    seen = crops.joints + crops.translation[:, None]
    points = seen[..., :2] / seen[..., 2:] * crops.camera[:, None, :2] + crops.camera[:, None, 2:]
    torch.testing.assert_close(points, crops.joints_2d, atol=1e-4, rtol=0)
    assert crops.joints.mean(1).abs().max() < 1e-6
    # The middle of the hand is near the middle of the crop, and most of it inside.
    assert ((crops.joints_2d > 0) & (crops.joints_2d < 1)).float().mean() > 0.97


def test_the_drawn_hand_lies_under_its_vertices(crops):
    for vertices, translation, camera, segments in zip(crops.vertices, crops.translation, crops.camera, crops.segments):
        seen = (vertices + translation).numpy()
        pixel = (seen[:, :2] / seen[:, 2:] * float(camera[0]) + 0.5) * CROP_SIDE
        inside = ((pixel > 1) & (pixel < CROP_SIDE - 1)).all(1)
        x, y = pixel[inside].astype(int).T
        hand = np.isin(segments.numpy()[y, x], (HAND, OBJECT))
        assert hand.mean() > 0.45


def test_sides_are_those_of_the_meshes(crops):
    corners = crops.vertices[:, torch.from_numpy(HandModel.load().right_faces).long()].double()
    volume = (corners[:, :, 0] * torch.linalg.cross(corners[:, :, 1], corners[:, :, 2])).sum((1, 2))
    assert torch.equal(volume > 0, crops.right)
    assert 0.2 < crops.right.float().mean() < 0.8


def test_a_batch_depends_on_seed_and_number_alone(source, crops):
    source.crops(7, np.full(3, 0.9))
    again = source.crops(0, np.full(40, 0.3))
    for name, values in vars(crops).items():
        assert torch.equal(values, getattr(again, name)), name
    other = source.crops(1, np.full(40, 0.3))
    assert not torch.equal(other.images, crops.images)
    # Parts of a batch differ from each other.
    assert not torch.equal(crops.joints[:16], crops.joints[24:])


def test_what_is_labelled_is_what_rays_meet(source):
    """One scene's segments against rays through all of its triangles."""
    chance = Chance("cpu", 3)
    plan = draw_plan(source._stock, chance.host, np.full(8, 0.5), 0.9)
    scene = build_scene(source._stock, plan, chance)
    raster = rasterize(scene.triangles, scene.focal, CROP_SIDE)
    hits = Hits.of(scene, raster)
    kinds = torch.full((8, CROP_SIDE**2), -1)
    kinds.view(-1)[raster.pixels] = hits.kinds
    x, y = np.meshgrid(np.arange(CROP_SIDE), np.arange(CROP_SIDE))
    flat = (np.stack([x, y], -1).reshape(-1, 2) + 0.5) / CROP_SIDE - 0.5
    held = 0
    for k in range(8):
        mine = torch.nonzero(scene.triangles.crops == k)[:, 0]
        rays = TriangleScene(scene.triangles.vertices.numpy(), scene.triangles.faces[mine].numpy())
        hit = rays.cast(np.zeros(3), np.concatenate([flat / float(scene.focal[k]), np.ones((len(flat), 1))], 1))
        found = np.isfinite(hit["t_hit"])
        face = mine.numpy()[hit["primitive_ids"][found].astype(int)]
        theirs = np.searchsorted(np.array(scene.ends), face, side="right")
        assert (kinds[k].numpy()[found] == theirs).mean() > 0.999
        held += (theirs == HELD_HIT).sum()
        assert (theirs == HAND_HIT).any()
    assert held > 1000


def test_held_things_are_touched(source):
    """Where something is held, skin touches it; contact is near the thing and nowhere else."""
    chance = Chance("cpu", 4)
    plan = draw_plan(source._stock, chance.host, np.full(60, 0.5), 0.9)
    scene = build_scene(source._stock, plan, chance)
    assert len(plan.held) > 20 and len(plan.small) > 2
    holding = np.zeros(60, bool)
    holding[plan.held] = True
    touched = (scene.contact > 0.5).sum(1).numpy()
    assert (touched[holding] > 10).all()
    assert not touched[np.setdiff1d(np.arange(60), np.concatenate([plan.held, plan.small]))].any()
    for crop in plan.held[:5]:
        faces = np.arange(scene.ends[1], scene.ends[2])
        faces = faces[scene.triangles.crops[faces].numpy() == crop]
        thing = TriangleScene(scene.triangles.vertices.numpy(), scene.triangles.faces[faces].numpy())
        distance = thing.signed_distance(scene.vertices[crop].numpy())
        sure = scene.contact[crop].numpy()
        assert np.abs(distance[sure == 1]).max() < 0.02 and distance[sure == 0].min() > 0.005


def test_crevices_are_dark_and_planes_are_not():
    """A groove behind the rest of a plane is darkened as OpenCV's means say; nothing is before an empty wall."""
    depth = torch.full((2, 64, 64), 0.5)
    depth[0, :, 30:34] = 0.512
    depth[1, :32] = torch.inf
    image = torch.full((2, 64, 64, 3), 100.0)
    out = darken_crevices(image, depth, torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5]))
    around = cv2.blur(depth[0].numpy(), (17, 17))
    shade = np.clip((depth[0].numpy() - around - 0.001) / 0.012, 0, 1) * 0.5
    np.testing.assert_allclose(out[0, ..., 0], 100 * (1 - shade), atol=0.02)
    assert out[0, 32, 32, 0] < 70 and torch.equal(out[1], image[1])


def test_plain_solids_know_their_distance():
    import trimesh

    points = np.random.default_rng(0).uniform(-0.06, 0.06, (200, 3)).astype(np.float32)
    sizes = np.array([[0.02, 0.02, 0.04], [0.03, 0.03, 0.03], [0.01, 0.02, 0.04]])
    meshes = [trimesh.creation.cylinder(0.02, 0.08, sections=400), trimesh.creation.icosphere(5, 0.03),
              trimesh.creation.box((0.02, 0.04, 0.08))]  # fmt: skip
    kinds = torch.tensor([CYLINDER, BALL, BOX])[:, None]
    size = torch.tensor(sizes, dtype=torch.float32)
    ours = solid_distance(torch.from_numpy(points).expand(3, -1, -1), size, kinds)
    for mine, mesh in zip(ours, meshes):
        theirs = TriangleScene(np.asarray(mesh.vertices), np.asarray(mesh.faces)).signed_distance(points)
        np.testing.assert_allclose(mine, theirs, atol=2e-4)


def test_regions_are_the_live_estimators():
    points = np.random.default_rng(0).uniform(0, 400, (6, 21, 2))
    center, size, angle = regions(torch.from_numpy(points))
    for k, one in enumerate(map(region_from_landmarks, points)):
        np.testing.assert_allclose(center[k], one.center_px, atol=1e-3)
        assert abs(float(size[k]) - one.size_px) < 1e-3 and abs(float(angle[k]) - one.angle_rad) < 1e-6


def test_crops_are_like_those_drawn_one_by_one():
    """Means and spreads of what is labelled and of the pictures, of 96 crops of each kind."""
    ours = BatchCropSource(1, CropSettings(skins=6, things=3)).crops(0, np.full(96, 0.4))
    single = HandCropSource(1, skins=6)
    theirs = [single.crop(Harshness.even(0.4)) for _ in range(96)]
    pairs = {
        "brightness": (ours.images.float().mean((1, 2, 3)), [c.image.mean() for c in theirs], 25),
        "contrast": (ours.images.float().std((1, 2, 3)), [c.image.std() for c in theirs], 12),
        "hand": ((ours.segments == HAND).float().mean((1, 2)), [(c.segments == HAND).mean() for c in theirs], 0.05),
        "visible": (ours.visible.float().mean(1), [c.visible.mean() for c in theirs], 0.1),
        "distance": (ours.translation[:, 2], [c.translation[2] for c in theirs], 0.09),
        "focal": (ours.camera[:, 0], [c.camera[0] for c in theirs], 0.35),
        "size": (ours.joints.norm(dim=2).mean(1), [np.linalg.norm(c.joints, axis=1).mean() for c in theirs], 0.005),
        "flatness": (ours.joints[..., 2].std(1), [c.joints[:, 2].std() for c in theirs], 0.006),
    }
    for name, (mine, other, tolerance) in pairs.items():
        mine, other = np.asarray(mine), np.array(other)
        assert abs(mine.mean() - other.mean()) < tolerance, (name, mine.mean(), other.mean())
        assert 0.6 < mine.std() / other.std() < 1.6, (name, mine.std(), other.std())


def test_backgrounds_and_covers_are_of_every_kind(tmp_path):
    backgrounds = BatchBackgrounds(0, 64)
    pictures = backgrounds.cut(Chance("cpu", 1), 64)
    assert pictures.shape == (64, 64, 64, 3) and pictures.min() >= 0 and pictures.max() <= 255
    assert pictures.mean((1, 2)).std(0).min() > 20 and (pictures.std((1, 2)).mean(1) > 3).float().mean() > 0.7
    met = backgrounds.meet(Chance("cpu", 3), torch.full((64, 64, 64, 3), 300.0))
    kept = (met == 300).all(3).float().mean((1, 2))
    assert 0.1 < kept.mean() < 0.7 and kept.std() > 0.1
    masks = cover(torch.full((200, 21, 2), 32.0), Chance("cpu", 2), 64)
    share = masks.float().mean((1, 2))
    assert 0.005 < share.mean() < 0.1 and share.max() < 0.5 and (share > 0).float().mean() > 0.8
