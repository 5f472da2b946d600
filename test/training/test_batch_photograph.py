"""The batched camera: resampling, blur and JPEG as OpenCV does them; harsher pictures change more; chance repeats."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from hoi_ros.training.batch_chance import Chance
from hoi_ros.training.batch_photograph import BatchCamera, gaussian, jpeg, line_kernels, resampling, soften

SIDE = 224


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    rough = rng.uniform(0, 255, (4, 14, 14, 3)).astype(np.float32)
    fine = np.stack([cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for x in rough])
    return np.clip(fine + rng.normal(0, 6, fine.shape), 0, 255).astype(np.float32)


def test_resampling_is_opencvs(pictures):
    sizes = [SIDE, 200, 131, 80]
    ours = soften(torch.from_numpy(pictures), resampling(torch.tensor(sizes), SIDE)).permute(0, 2, 3, 1).numpy()
    for size, picture, mine in zip(sizes, pictures, ours):
        small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        theirs = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        assert np.abs(mine - theirs).max() < 0.1, size


def test_blur_is_opencvs_inside(pictures):
    sigmas = [0.0, 0.4, 1.1, 3.0]
    ours = soften(torch.from_numpy(pictures), gaussian(torch.tensor(sigmas), SIDE)).permute(0, 2, 3, 1).numpy()
    for sigma, picture, mine in zip(sigmas, pictures, ours):
        theirs = cv2.GaussianBlur(picture, (0, 0), sigma) if sigma else picture
        assert np.abs(mine - theirs)[16:-16, 16:-16].max() < 0.3, sigma


@pytest.mark.parametrize("quality", [35, 60, 95])
def test_jpeg_is_the_librarys(pictures, quality):
    plain = pictures.astype(np.uint8)
    ours = jpeg(torch.from_numpy(plain).permute(0, 3, 1, 2).float(), np.full(4, quality)).permute(0, 2, 3, 1).numpy()
    for picture, mine in zip(plain, ours):
        data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        theirs = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
        change = np.abs(theirs - picture).mean()
        assert np.abs(mine - theirs).mean() < 0.3 * change + 0.1, (quality, change)


def test_line_kernels_are_lines():
    kernels = line_kernels(torch.tensor([3, 9, 15]), torch.tensor([0.0, np.pi / 2, np.pi / 4]))
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(3))
    assert (kernels[0, 7] > 0).sum() == 3 and kernels[0, 6].abs().max() < 1e-5
    assert (kernels[1, :, 7] > 0.01).sum() == 9
    assert kernels[2].diagonal().sum() > 0.5


def test_photos_repeat_and_harsher_ones_change_more(pictures):
    camera, light = BatchCamera(), torch.from_numpy(np.repeat(pictures, 8, 0))
    changes = []
    for level in (0.0, 1.0):
        harsh = np.full(len(light), level)
        first, again = (camera.photograph(light, Chance("cpu", 1), harsh) for _ in range(2))
        assert first.dtype == torch.uint8 and first.shape == (len(light), 3, SIDE, SIDE)
        assert torch.equal(first, again)
        changes.append(float((first.float() - light.permute(0, 3, 1, 2)).abs().mean()))
    assert 2 < changes[0] < 0.7 * changes[1]
