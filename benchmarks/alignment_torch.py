"""The tracker's inner loop, residuals and normal equations at several poses, in numpy beside the same in torch.

    ./hoi python benchmarks/alignment_torch.py [--device cuda] [--compile]

On frames of a simulated film the surface of one is linearised on the next, as the tracker does it: three starts at the
coarse level with few points, one pose at the finest with all of them. Torch's normal equations must agree with numpy's
to a thousandth. On a GPU the frame's upload is counted by itself, the normal equations' way back to the host each time,
since the next step needs them. Printed are the medians of milliseconds a call, and numpy's share of torch's best.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoi_ros.datatypes import LABEL_LEFT_HAND, LABEL_OBJECT, LABEL_RIGHT_HAND, RgbdFrame
from hoi_ros.geometry import se3_exp
from hoi_ros.simulation import Simulator, SimulatorConfig
from hoi_ros.tracking import linearisation as numpy_way
from hoi_ros.tracking.config import TrackerConfig
from hoi_ros.tracking.features import feature_images
from hoi_ros.tracking.keyframes import view_cloud
from hoi_ros.tracking.linearisation import PAIRS, LevelCloud, level_cloud, linearise
from hoi_ros.tracking.patch import Patch, clean_depth, cut_patch
from hoi_ros.tracking.reference import ReferenceCloud
from hoi_ros.tracking.target import BACKGROUND, BLOCKED, FREE, UNKNOWN, AlignmentTarget, alignment_target

CONFIG = TrackerConfig()
WAYS = (("coarse, 3 starts", 0, 3, CONFIG.align_points // 4), ("finest, 1 pose", 2, 1, CONFIG.align_points))


class TorchTarget:
    """A frame on the device."""

    def __init__(self, target: AlignmentTarget, level: int, device: str) -> None:
        self.k, (self.height, self.width) = target.intrinsics, target.status.shape
        self.surface = torch.as_tensor(target.surface, device=device)
        self.status = torch.as_tensor(target.status.reshape(-1), device=device)
        self.outside = torch.as_tensor(target.outside, device=device)
        self.x0, self.y0 = target.features.x0, target.features.y0
        self.features = [torch.as_tensor(image, device=device) for image in target.features.levels[level]]


class TorchCloud:
    """A reference surface on the device."""

    def __init__(self, cloud: LevelCloud, device: str) -> None:
        self.level = cloud.level
        for name in ("points", "normals", "features", "known", "color_variance", "shape_weight"):
            setattr(self, name, torch.as_tensor(getattr(cloud, name), device=device))


def sampled(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """(..., C) of an image (h, w, C) between pixels, 0 beyond its border."""
    height, width = image.shape[:2]
    flat, low_u, low_v = image.reshape(height * width, -1), torch.floor(u), torch.floor(v)
    out: Any = 0.0
    for du in (0, 1):
        for dv in (0, 1):
            column, row = (low_u + du).long(), (low_v + dv).long()
            inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
            share = (1 - (u - low_u - du).abs()) * (1 - (v - low_v - dv).abs()) * inside
            out = out + share[..., None] * flat[torch.where(inside, row * width + column, 0)]
    return out


def torch_linearise(cloud: TorchCloud, target: TorchTarget, poses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moments (B, 10, 9) for `normal_equations`, middle (B, 3) and cost (B,): see `linearise`."""
    level, k, way = cloud.level, target.k, numpy_way
    rotation = poses[:, :3, :3].float()
    p = rotation @ cloud.points + poses[:, :3, 3:].float()
    n = rotation @ cloud.normals
    x, y, z = p.unbind(1)
    deep = z.clamp(min=0.05)
    inverse = 1 / deep
    sx, sy = x * inverse, y * inverse
    u, v = k.fx * sx + k.cx, k.fy * sy + k.cy
    inside = (z > 0.05) & (u >= 1) & (v >= 1) & (u < target.width - 2) & (v < target.height - 2)
    flat = torch.where(inside, (v + 0.5).int() * target.width + (u + 0.5).int(), 0).long()
    status = torch.where(inside, target.status[flat], UNKNOWN)
    q = target.surface[:, flat]
    gap = q[:3].transpose(0, 1) - p
    sigma = 0.001 + 0.002 * deep * deep
    gate = way.GATES_M[level] + 3 * sigma
    facing = (n * p).sum(1) < 0
    matched = (status == FREE) & facing & ((gap * gap).sum(1) < gate * gate)
    matched &= (n * q[3:].transpose(0, 1)).sum(1) > way.TURNED[level]
    gz = gap[:, 2]
    hidden = (status == UNKNOWN) | (status == BLOCKED) | (gz < -gate) | ~facing | ((status == BACKGROUND) & (gz < gate))

    r_depth = (n * gap).sum(1)
    s_depth = sigma * (3, 2, 1)[level] + 0.001
    e_depth = (r_depth / s_depth) ** 2
    huber = (e_depth.sqrt() / way.HUBER_SIGMAS).clamp(min=1)
    w = way.POINT_WEIGHT * cloud.shape_weight / (s_depth**2 * huber) * matched
    space = torch.stack([w * n[:, i] * n[:, j] for i, j in PAIRS], 1)
    pull = -(w * r_depth)[:, None] * n
    aa, ab, bb, pa, pb = (torch.zeros_like(z) for _ in range(5))
    e_color = torch.zeros_like(z)
    for channel, image in enumerate(target.features):
        value, du, dv, trust = sampled(image, u - target.x0, v - target.y0).unbind(-1)
        colored = matched & (trust > 0.99) & cloud.known[channel]
        r = torch.where(colored, value - cloud.features[channel], 0.0)
        e = r * r / cloud.color_variance
        e_color = e_color + e
        weight = way.CHANNEL_WEIGHT[channel][level] * CONFIG.color_weight
        excess = ((du * du + dv * dv) / way.STEEP[channel][level] ** 2 - 1).clamp(0, 1) * colored
        w = weight * way.POINT_WEIGHT * excess / (cloud.color_variance * (1 + e / way.CAUCHY_SIGMAS**2))
        a, b = du * (k.fx * inverse), dv * (k.fy * inverse)
        aa, ab, bb, pa, pb = aa + w * a * a, ab + w * a * b, bb + w * b * b, pa + w * a * r, pb + w * b * r
    pixels, du, dv = sampled(target.outside, u, v).unbind(-1)
    meters = pixels * deep / k.fx
    off = facing & ~matched & (cloud.shape_weight > 0) & (pixels > 0.5) & (meters < way.SILHOUETTE_REACH_M)
    huber = (meters / (way.HUBER_SIGMAS * way.SILHOUETTE_SIGMA_M)).clamp(min=1)
    w, b = way.POINT_WEIGHT / (way.SILHOUETTE_SIGMA_M**2 * huber) * off, dv * (k.fy / k.fx)
    aa, ab, bb = aa + w * du * du, ab + w * du * b, bb + w * b * b
    pa, pb = pa + w * du * meters, pb + w * b * meters

    robust = e_depth.clamp(max=5) + (CONFIG.color_weight * e_color).clamp(max=4)
    cost = torch.where(matched, robust, torch.where(hidden, way.MISSING_COST / 2, way.MISSING_COST))
    middle = (p * matched[:, None]).sum(2) / matched.sum(1, keepdim=True).clamp(min=1)
    az, bz = aa * sx + ab * sy, ab * sx + bb * sy
    slopes = space + torch.stack([aa, ab, -az, bb, -bz, az * sx + bz * sy], 1)
    pull = pull + torch.stack([pa, pb, -(pa * sx + pb * sy)], 1)
    arms = (p - middle[:, :, None]).double()
    products = torch.stack([arms[:, i] * arms[:, j] for i, j in PAIRS], 1)
    moments = torch.cat([torch.ones_like(arms[:, :1]), arms, products], 1)
    return moments @ torch.cat([slopes, pull], 1).double().transpose(1, 2), middle, cost.mean(1)


def normal_equations(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hessian (B, 6, 6) and gradient (B, 6) of moments (B, 10, 9)."""
    to_hessian, to_gradient = numpy_way._twist_of_moments()
    hessian = (sums[:, :, :6].reshape(-1, 60) @ to_hessian).reshape(-1, 6, 6)
    return hessian, sums[:, :4, 6:].reshape(-1, 12) @ to_gradient


def seen(frame: RgbdFrame) -> tuple[Patch, np.ndarray, np.ndarray, np.ndarray]:
    """Crop around the object, its mask and that of hands, and its pose."""
    assert frame.truth is not None
    pose, labels = next(iter(frame.truth.T_camera_object.values())), frame.truth.labels
    rows, columns = np.nonzero(labels == LABEL_OBJECT)
    box = np.array([columns.min() - 40, rows.min() - 40, columns.max() + 40, rows.max() + 40], float)
    patch = cut_patch(frame, clean_depth(frame), box, CONFIG.max_crop_px)
    assert patch is not None
    cut = patch.cut(labels)
    return patch, cut == LABEL_OBJECT, (cut == LABEL_LEFT_HAND) | (cut == LABEL_RIGHT_HAND), pose


def problems(scene: str, frames: int) -> list[tuple[ReferenceCloud, AlignmentTarget, np.ndarray]]:
    """Surface of each frame, the next frame, and three starts (3, 4, 4) there."""
    simulator, out = Simulator(scene, SimulatorConfig(seed=0)), []
    views = [seen(simulator.frame(index)) for index in range(30, 30 + frames)]
    for (patch, mask, _, pose), (target_patch, free, hands, true) in pairwise(views):
        depth_m = float(pose[2, 3])
        cloud = view_cloud(patch, mask, feature_images(patch, mask, depth_m), pose, 2 * CONFIG.align_points)
        target = alignment_target(target_patch, free, hands, depth_m)
        off = se3_exp(np.array([0.003, -0.002, 0.004, 0.03, 0.02, -0.03])) @ true
        if cloud is not None:
            out.append((cloud, target, np.stack([pose, off, true])))
    return out


def median_ms(act: Callable[[], Any], synchronise: Callable[[], None]) -> float:
    """Of twenty calls after two."""
    times = []
    for _ in range(22):
        begin = time.perf_counter()
        act()
        synchronise()
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times[2:]))


def compare(
    problem: tuple[ReferenceCloud, AlignmentTarget, np.ndarray], level: int, starts: int, points: int,
    ways: Mapping[str, Callable[..., tuple[Tensor, Tensor, Tensor]]], device: str,
) -> tuple[list[float], float]:  # fmt: skip
    """Milliseconds of numpy, of each of torch's ways and of the upload; and the largest difference from numpy."""
    cloud, target, poses = problem
    few, some = level_cloud(cloud.thinned(points), level, CONFIG), poses[-starts:]
    true, there, surface = (
        linearise(few, target, some, CONFIG),
        TorchTarget(target, level, device),
        TorchCloud(few, device),
    )
    synchronise = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def call(act: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> list[np.ndarray]:
        return [part.cpu().numpy() for part in act(surface, there, torch.as_tensor(some, device=device))]

    times, worst = [median_ms(lambda: linearise(few, target, some, CONFIG), synchronise)], 0.0
    for act in ways.values():
        sums, _, cost = call(act)
        hessian, gradient = normal_equations(sums)
        for ours, theirs in ((true.hessian, hessian), (true.gradient, gradient), (true.cost, cost)):
            worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(ours).max()))
        times.append(median_ms(partial(call, act), synchronise))
    times.append(median_ms(lambda: TorchTarget(target, level, device), synchronise))
    return times, worst


def main() -> int:
    """Print the table; 1 when the two disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="rotate:box")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU; numpy's loop has one")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well; needs a C++ compiler")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor]]] = {"torch": torch_linearise}
    if options.compile:
        ways["torch, compiled"] = torch.compile(torch_linearise)
    rows: dict[str, list[list[float]]] = {name: [] for name, *_ in WAYS}
    worst = 0.0
    for problem in problems(options.scene, options.frames):
        for name, level, starts, points in WAYS:
            times, difference = compare(problem, level, starts, points, ways, options.device)
            rows[name].append(times)
            worst = max(worst, difference)
    print(f"| ms a call | numpy | {' | '.join(ways)} | upload of a frame | numpy's share of torch's |")
    print("|---|---|" + "---|" * len(ways) + "---|---|")
    for name, *_ in WAYS:
        ms = np.median(rows[name], axis=0)
        best = min(ms[1:-1])
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in ms) + f" | {ms[0] / best:.2f} |")
    print(f"largest difference from numpy: {worst:.1e} of the largest entry")
    return int(worst > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
