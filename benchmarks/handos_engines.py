"""Engines of HandOS: time for 1, 2 and 10 hands, memory, difference from eager, accuracy in half precision.

    python benchmarks/handos_engines.py speed [--size compact|paper] [--engine eager onnx ...] [--threads 2]
    python benchmarks/handos_engines.py precision DATA/hands_real

`speed` runs every engine in a process of its own. Decoder: features in, hands out, with random weights. End to end, for
the compact size: crops in, hands out, the landmark network too, with the weights that ship; the paper's size has no
detector here. Medians of milliseconds; memory is what the process holds at most beyond what it held before. `precision`
decodes the photos' hands in single and half precision; the networks' own joints, no fit.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

HANDS = (1, 2, 10)


@dataclass(frozen=True)
class Row:
    """One engine's figures."""

    decoder_ms: tuple[float, ...]
    whole_ms: tuple[float, ...]
    """Empty where there is nothing to run end to end."""
    memory_mb: float
    difference: float
    """Largest from eager, in units of what is allowed; NaN of an engine that gave way to eager."""


def median_ms(call: Callable[[], object], repeat: int) -> float:
    """Median time of a call after three unmeasured ones, and fewer repeats of slow ones."""
    times: list[float] = []
    for number in range(repeat + 3):
        start = time.perf_counter()
        call()
        spent = time.perf_counter() - start
        if number >= 3 or spent > 2:
            times.append(spent)
        if sum(times) > 20:
            break
    return float(np.median(times)) * 1e3


def held_mb(device: str) -> float:
    """Most memory held so far: of the process on the CPU, of tensors on a GPU."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def measure(name: str, size: str, threads: int, repeat: int) -> Row | None:
    """One engine; None where it gave way to eager."""
    import torch

    from hoi_ros.hand.blas_threads import OneBlasThread
    from hoi_ros.hand.embedded_features import COMPACT
    from hoi_ros.hand.engine import EagerEngine, create_engine, example, largest_difference
    from hoi_ros.hand.handos import HandOs
    from hoi_ros.hand.handos_config import HandOsConfig
    from hoi_ros.hand.handos_topology import build_topology
    from hoi_ros.hand_model import HandModel

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = COMPACT if size == "compact" else HandOsConfig()
    network = HandOs(config, build_topology(HandModel.load(), config.coarse_vertices)).eval()
    before = held_mb(device)
    engine = create_engine(network, name, device)
    if name != "eager" and isinstance(engine, EagerEngine):
        return None

    # As the estimator runs numpy.
    one_blas_thread = OneBlasThread() if name == "numpy" else nullcontext

    def decode(hands: int) -> Callable[[], object]:
        inputs = example(network, hands, device) if config.from_landmarks else example(network, 1, device, hands)
        return lambda: finished(engine(*inputs), device)

    with one_blas_thread():
        decoder = tuple(median_ms(decode(hands), repeat) for hands in HANDS)
    difference = largest_difference(engine, EagerEngine(network, device), network, device)
    memory = held_mb(device) - before
    whole: tuple[float, ...] = ()
    if size == "compact":
        reader = crop_reader(name, threads, device)
        crops = np.random.default_rng(0).integers(0, 255, (max(HANDS), 224, 224, 3), np.uint8)
        with one_blas_thread():
            whole = tuple(median_ms(lambda: reader(crops[:hands]), repeat) for hands in HANDS)  # noqa: B023
    return Row(decoder, whole, memory, difference)


def finished(answer: object, device: str) -> object:
    """The answer once the device has made it."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return answer


def crop_reader(engine: str, threads: int, device: str):
    """What reads crops with the weights that ship."""
    from hoi_ros.hand.config import HandConfig
    from hoi_ros.hand.handos_estimator import create_crop_reader
    from hoi_ros.hand.weights_file import SHIPPED, read_weights

    return create_crop_reader(read_weights(SHIPPED), HandConfig(handos_engine=engine, threads=threads), device)


def run_speed(options: argparse.Namespace) -> None:
    """A line for each engine."""
    from hoi_ros.hand.handos_config import ENGINES

    print(f"{options.size}, {options.threads} threads; ms for {', '.join(map(str, HANDS))} hands")
    print("engine      decoder               end to end            memory MB  difference from eager (1 is allowed)")
    for name in options.engine or [n for n in ENGINES if n != "auto"]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            row = pool.submit(measure, name, options.size, options.threads, options.repeat).result()
        if row is None:
            print(f"{name:11s} not to be had here", flush=True)
            continue
        decoder, whole = (" / ".join(f"{value:.1f}" for value in values) for values in (row.decoder_ms, row.whole_ms))
        print(f"{name:11s} {decoder:21s} {whole or '-':21s} {row.memory_mb:9.0f}  {row.difference:.3f}", flush=True)


def run_precision(options: argparse.Namespace) -> None:
    """PA-MPJPE of the decoder's own joints on the photos in three precisions, and how far their meshes lie apart."""
    import torch

    from hoi_ros.evaluation.datasets import open_dataset
    from hoi_ros.evaluation.joints import pa_mpjpe
    from hoi_ros.hand.embedded_detection import detection_from_features
    from hoi_ros.hand.embedded_features import TYPICAL_CAMERA, LandmarkFeatures
    from hoi_ros.hand.handos_weights import load_weights
    from hoi_ros.hand.regions import region_from_landmarks
    from hoi_ros.hand.weights_file import SHIPPED

    network, _ = load_weights(SHIPPED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, features, crops, truth = network.to(device), LandmarkFeatures("cpu"), [], []
    for labelled in open_dataset(options.folder, "hands_real")[0]:
        hand = labelled.hands[0]
        region = region_from_landmarks(np.asarray(hand.pixels(labelled.frame.intrinsics), np.float64))
        crops.append(region.crop(labelled.frame.color, 224))
        truth.append(np.asarray(hand.joints_camera, np.float64) * 1e3)
    tensors = {
        n: torch.from_numpy(np.ascontiguousarray(v)).to(device) for n, v in features.read(np.stack(crops)).items()
    }
    cameras = torch.tensor([TYPICAL_CAMERA] * len(crops), device=device)
    exact = None
    print("precision  PA-MPJPE mm  vertices from single precision, mean / most mm  2D, most of a crop")
    for name, kind in (("float32", None), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        with torch.inference_mode(), torch.autocast(device, kind or torch.bfloat16, enabled=kind is not None):
            answer = network(detection_from_features(tensors), cameras, every_layer=False)[-1]
        exact = exact or answer
        joints = answer.joints_3d[:, 0].double().cpu().numpy() * 1e3
        apart = (answer.vertices - exact.vertices).norm(dim=-1) * 1e3
        flat = (answer.joints_2d - exact.joints_2d).abs().max()
        error = pa_mpjpe(joints, np.stack(truth)).mean()
        print(f"{name:10s} {error:11.3f}  {apart.mean():.3f} / {apart.max():.3f}  {flat:.5f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    speed = parts.add_parser("speed")
    speed.add_argument("--size", choices=("compact", "paper"), default="compact")
    speed.add_argument("--threads", type=int, default=2)
    speed.add_argument("--repeat", type=int, default=20)
    speed.add_argument("--engine", nargs="+", help="only these")
    speed.set_defaults(run=run_speed)
    precision = parts.add_parser("precision")
    precision.add_argument("folder", type=Path)
    precision.set_defaults(run=run_precision)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
