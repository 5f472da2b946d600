"""Speed of making training crops: `python benchmarks/crop_speed.py [--device auto] [--batch 64] [--seconds 20]`.

Crops one by one in one and two processes (`HandCropSource`, rays on the CPU), then by the batch on a
device, both with and without the frozen landmark network that sees them in training. What is built once (skins,
things with their holds, rooms) is built before the clock starts, and one round is thrown away. Beside each figure the
crops for a second of one core's time, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hoi_ros.device import DEVICES, resolve_device

LEVEL, SINGLE_ROUND, THINGS = 0.6, 32, 12
STAGES = ("pose", "raster", "shade", "photograph", "features")


def single_speed(job: tuple[int, bool, float]) -> tuple[int, float, float]:
    """Crops made one by one in this process, the seconds they took, and the seconds of a core."""
    import cv2

    from hoi_ros.hand.blas_threads import OneBlasThread
    from hoi_ros.hand.embedded_features import LandmarkFeatures
    from hoi_ros.simulation import raycast
    from hoi_ros.training.crop_pictures import Harshness
    from hoi_ros.training.hand_crops import HandCropSource

    seed, seen, seconds = job
    cv2.setNumThreads(1)
    raycast.THREADS = 1
    source, reader = HandCropSource(seed), LandmarkFeatures(threads=1) if seen else None
    rng = np.random.default_rng(seed)

    def make_round() -> None:
        crops = [source.crop(Harshness.even(float(level))) for level in rng.uniform(0, LEVEL, SINGLE_ROUND)]
        if reader is not None:
            reader.read(np.stack([crop.image for crop in crops]))

    # As the makers of shards do: BLAS threads of several processes wait for each other.
    with OneBlasThread()():
        make_round()
        count, start, worked = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            make_round()
            count += SINGLE_ROUND
    return count, time.perf_counter() - start, time.process_time() - worked


def measure_single(processes: int, seen: bool, seconds: float) -> str:
    """Crops a second over all processes, and for a second of a core."""
    with get_context("spawn").Pool(processes) as pool:
        results = pool.map(single_speed, [(seed, seen, seconds) for seed in range(processes)], chunksize=1)
    made, worked = sum(count for count, _, _ in results), sum(worked for _, _, worked in results)
    return f"{sum(count / spent for count, spent, _ in results):.1f} ({made / worked:.1f})"


def measure_batched(device: str, batch: int, threads: int, seconds: float) -> tuple[dict[str, float], dict[str, str]]:
    """ms a crop of each stage; crops a second with and without the network, and more to print."""
    import torch

    from hoi_ros.training.batch_crops import BatchCropSource
    from hoi_ros.training.batch_features import BatchFeatures
    from hoi_ros.training.batch_settings import CropSettings

    torch.set_num_threads(threads)
    source = BatchCropSource(0, CropSettings(things=THINGS, crops_at_once=batch), device)
    features, rng = BatchFeatures(device), np.random.default_rng(0)

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    spent = dict.fromkeys(STAGES, 0.0)
    last = 0.0

    def stage(name: str) -> None:
        nonlocal last
        spent[name], last = spent[name] + now() - last, now()

    features.read(source.crops(0, rng.uniform(0, LEVEL, batch)).images)
    # Stages one by one, with a wait after each; then all together, without.
    number, until = 1, time.perf_counter() + seconds / 2
    while time.perf_counter() < until or number == 1:
        last = now()
        features.read(source.crops(number, rng.uniform(0, LEVEL, batch), stage).images)
        stage("features")
        number += 1
    stages, result = {name: spent[name] / (number - 1) / batch * 1e3 for name in STAGES}, {}
    for name, seen in (("crops/s", False), ("with features", True)):
        count, start, worked = 0, now(), time.process_time()
        while time.perf_counter() - start < seconds / 4 or not count:
            images = source.crops(number, rng.uniform(0, LEVEL, batch)).images
            if seen:
                features.read(images)
            number, count = number + 1, count + batch
        result[name] = f"{count / (now() - start):.1f}"
        if device == "cpu":
            result[name] += f" ({count / (time.process_time() - worked):.1f})"
    if device == "cuda":
        result["GPU memory, MB"] = f"{torch.cuda.max_memory_allocated() / 1e6:.0f}"
    return stages, result


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=DEVICES, default="auto", help="of the batched crops (default: auto)")
    parser.add_argument("--batch", type=int, default=0, help="crops a batch (default: 64, 512 on a GPU)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the batched crops (default: 2)")
    parser.add_argument("--seconds", type=float, default=20, help="for each measurement (default: 20)")
    parser.add_argument("--only", choices=("single", "batched"), help="one of the two ways")
    options = parser.parse_args()
    print(
        "| crops/s (for a second of a core) | made | made and seen by the landmark network |\n|---|---|---|", flush=True
    )
    for processes in (1, 2) if options.only != "batched" else ():
        made, seen = (measure_single(processes, seen, options.seconds / 2) for seen in (False, True))
        print(f"| one by one, {processes} process{'es' * (processes > 1)} | {made} | {seen} |", flush=True)
    if options.only == "single":
        return
    device = resolve_device(options.device)
    batch = options.batch or (512 if device == "cuda" else 64)
    stages, found = measure_batched(device, batch, options.threads, options.seconds)
    name = f"{options.threads} threads"
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    print(f"| by the batch of {batch}, {device} ({name}) | {found['crops/s']} | {found['with features']} |")
    print("\nms a crop: " + ", ".join(f"{stage} {stages[stage]:.2f}" for stage in STAGES))
    if "GPU memory, MB" in found:
        print(f"GPU memory at most {found['GPU memory, MB']} MB")


if __name__ == "__main__":
    main()
