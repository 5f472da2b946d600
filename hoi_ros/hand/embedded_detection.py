"""The landmark network's answers as HandOS's detection in torch: for training, a GPU, and the torch engines."""

from __future__ import annotations

import torch
from torch import Tensor

from hoi_ros.hand.embedded_features import BOX_MARGIN, CROP_SIDE, DETAIL_TAPS
from hoi_ros.hand.handos import Detection
from hoi_ros.hand.landmarks import IMAGE_Z_SHARE


def detection_from_features(features: dict[str, Tensor]) -> Detection:
    """HandOS's input from `LandmarkFeatures.read` as tensors: N images of one instance each."""
    image = features["landmarks"].float().view(-1, 21, 3) / CROP_SIDE
    world = features["world_landmarks"].float().view(-1, 21, 3)
    points = image[..., :2]
    low, high = points.amin(1), points.amax(1)
    size = ((high - low) * BOX_MARGIN).clamp(min=0.05)
    boxes = torch.cat([(low + high) / 2, size], -1)
    middle = image.mean(1, keepdim=True)
    about = (image - middle) / size.mean(-1)[:, None, None]
    centred = world - world.mean(1, keepdim=True)
    geometry = torch.cat([about.flatten(1), 10 * centred.flatten(1)], -1)
    return Detection(
        (features["fine"].float(), features["coarse"].float()),
        (features["shallow"].float(),) * 2,
        features["pooled"].float()[:, None],
        geometry[:, None],
        boxes[:, None],
        features["presence"].float(),
        points[:, None],
        merge_landmark_heads(image, centred)[:, None],
        tuple(features[name].float() for name in DETAIL_TAPS if name in features),
    )


def merge_landmark_heads(image: Tensor, world: Tensor) -> Tensor:
    """Join both answers of the landmark network as `landmarks.merge_heads` does, for a batch.

    Args:
        image: (N, 21, 3) any unit. world: (N, 21, 3) metres, centred.

    Returns:
        (N, 21, 3) metres, centred.
    """
    image = image - image.mean(1, keepdim=True)
    flat = image[..., :2]
    factor = (flat * world[..., :2]).sum((1, 2)) / flat.square().sum((1, 2)).clamp(min=1e-12)
    image = image * factor[:, None, None]
    z = IMAGE_Z_SHARE * image[..., 2:] + (1 - IMAGE_Z_SHARE) * world[..., 2:]
    return torch.cat([image[..., :2], z], -1)
