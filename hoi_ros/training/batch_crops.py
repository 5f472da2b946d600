"""Synthetic crops by the batch on any torch device: what `HandCropSource` draws one by one, with the same labels.

Python is called as often for one crop as for a thousand. The device is asked for sizes only: of the lists of picture
rows, covered pixels and hits (`batch_raster`), and of hits on hands, forearms and things, six waits a part of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hoi_ros.hand_model import HandModel
from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_photograph import BatchCamera
from hoi_ros.training.batch_pictures import FLAT_COVER_SHARE, BatchBackgrounds, cover
from hoi_ros.training.batch_plan import draw_plan
from hoi_ros.training.batch_raster import Raster, rasterize
from hoi_ros.training.batch_scene import BatchScene, build_scene
from hoi_ros.training.batch_settings import CropSettings
from hoi_ros.training.batch_shading import HAND_HIT, HELD_HIT, Hits, darken_crevices, shade
from hoi_ros.training.batch_stock import BatchStock
from hoi_ros.training.hand_crops import BACKGROUND, CROP_SIDE, HAND, OBJECT

VISIBLE_M = 0.022


@dataclass(frozen=True)
class CropBatch:
    """B labelled crops, fields as those of `HandCrop` with a batch before them."""

    images: Tensor
    """(B, 3, S, S) uint8 RGB, channels first."""
    camera: Tensor
    """(B, 4) fx / S, fy / S, cx / S, cy / S."""
    vertices: Tensor
    """(B, V, 3) about the joints' mean."""
    joints: Tensor
    """(B, 21, 3) about their mean."""
    translation: Tensor
    """(B, 3) where that mean is."""
    joints_2d: Tensor
    """(B, 21, 2) fractions of the crop."""
    right: Tensor
    """(B,) bool."""
    visible: Tensor
    """(B, 21) bool."""
    segments: Tensor
    """(B, S, S) uint8."""
    contact: Tensor
    """(B, V) 0 to 1."""
    joint_weights: Tensor
    """(B, 21) ones."""
    has_3d: Tensor
    """(B,) bool, true."""


Stage = Callable[[str], None]


class BatchCropSource:
    """Labelled crops by number: the same seed and number give the same batch on the same kind of device."""

    def __init__(
        self,
        seed: int,
        settings: CropSettings | None = None,
        device: torch.device | str = "cpu",
        model: HandModel | None = None,
    ):
        self.settings, self.seed, self.device = settings or CropSettings(), seed, torch.device(device)
        self._stock = BatchStock(
            model or HandModel.load(), seed, self.settings.skins, self.settings.things, self.device
        )
        folder = Path(self.settings.backgrounds) if self.settings.backgrounds else None
        self._backgrounds = BatchBackgrounds(seed, CROP_SIDE, folder, self.device)
        self._camera = BatchCamera(self.device)

    @torch.no_grad()
    def crops(self, number: int, levels: np.ndarray, stage: Stage = lambda name: None) -> CropBatch:
        """Make batch `number`.

        Args:
            number: of the batch; with the seed it decides everything.
            levels: (B,) harshness of each crop, 0 to 1.
            stage: called with the name of each stage when it is done.
        """
        parts, step = [], self.settings.crops_at_once
        for part, low in enumerate(range(0, len(levels), step)):
            chance = Chance(self.device, self.seed, number, part)
            parts.append(self._part(chance, np.asarray(levels[low : low + step], np.float32), stage))
        return CropBatch(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(CropBatch)))

    def _part(self, chance: Chance, levels: np.ndarray, stage: Stage) -> CropBatch:
        plan = draw_plan(self._stock, chance.host, levels, self.settings.held_share)
        scene = build_scene(self._stock, plan, chance)
        stage("pose")
        raster = rasterize(scene.triangles, scene.focal, CROP_SIDE)
        stage("raster")
        light, segments = self._picture(scene, raster, chance, levels, plan.cluttered)
        stage("shade")
        joints_2d = scene.joints[..., :2] / scene.joints[..., 2:] * scene.focal[:, None, None] + 0.5
        if plan.covered.any():
            light, segments = self._cover(light, segments, joints_2d, plan.covered, chance)
        images = self._camera.photograph(light, chance, levels)
        stage("photograph")
        return _labelled(scene, raster, images, segments, joints_2d)

    def _picture(
        self, scene: BatchScene, raster: Raster, chance: Chance, levels: np.ndarray, cluttered: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Light (B, S, S, 3) and segments (B, S, S) of a scene before a background."""
        count, harsh = len(levels), torch.from_numpy(levels).to(self.device, non_blocking=True)
        image = self._backgrounds.cut(chance, count)
        if cluttered.any():
            chosen = chance.some(cluttered)
            image = image.index_copy(0, chosen, self._backgrounds.meet(chance, image[chosen]))
        hits = Hits.of(scene, raster)
        color = shade(self._stock, scene, hits, image, chance, harsh)
        image = image.view(-1, 3).index_copy(0, raster.pixels, color).view(image.shape)
        image = darken_crevices(image, raster.depth, scene.joints[..., 2].mean(1), chance.uniform(0.2, 0.7, count))
        kinds = torch.full((count * CROP_SIDE**2,), BACKGROUND, dtype=torch.uint8, device=self.device)
        seen = torch.where(hits.kinds == HAND_HIT, HAND, torch.where(hits.kinds == HELD_HIT, OBJECT, BACKGROUND))
        return image, kinds.index_copy(0, raster.pixels, seen.to(torch.uint8)).view(raster.depth.shape)

    def _cover(
        self, light: Tensor, segments: Tensor, joints_2d: Tensor, covered: np.ndarray, chance: Chance
    ) -> tuple[Tensor, Tensor]:
        """Flat things before some of the crops, of one colour or with a picture."""
        chosen = chance.some(covered)
        mask = cover(joints_2d[chosen] * CROP_SIDE, chance, CROP_SIDE)
        flat = chance.happens(FLAT_COVER_SHARE, len(mask), 1, 1, 1)
        filler = torch.where(flat, chance.uniform(0, 255, len(mask), 1, 1, 3), self._backgrounds.cut(chance, len(mask)))
        light = light.index_copy(0, chosen, torch.where(mask[..., None], filler, light[chosen]))
        return light, segments.index_copy(0, chosen, torch.where(mask, BACKGROUND, segments[chosen]))


def _labelled(scene: BatchScene, raster: Raster, images: Tensor, segments: Tensor, joints_2d: Tensor) -> CropBatch:
    count, middle = len(images), scene.joints.mean(1)
    half = torch.full_like(scene.focal, 0.5)
    return CropBatch(
        images,
        torch.stack([scene.focal, scene.focal, half, half], 1),
        scene.vertices - middle[:, None],
        scene.joints - middle[:, None],
        middle,
        joints_2d,
        scene.right,
        _visible(scene.joints, joints_2d, raster.depth, segments),
        segments,
        scene.contact,
        torch.ones(count, 21, device=images.device),
        torch.ones(count, dtype=torch.bool, device=images.device),
    )


def _visible(joints: Tensor, joints_2d: Tensor, depth: Tensor, segments: Tensor) -> Tensor:
    """(B, 21) bool: at the joint's pixel the hand is seen, not much nearer than the joint."""
    side = depth.shape[1]
    at = (joints_2d * side).floor().long()
    inside = ((at >= 0) & (at < side)).all(2)
    x, y = at.clamp(0, side - 1).unbind(2)
    place = y * side + x
    seen, near = segments.flatten(1).gather(1, place) == HAND, depth.flatten(1).gather(1, place)
    return inside & seen & (near > joints[..., 2] - VISIBLE_M)
