"""One call of the HandOS decoder, served by several engines; each is compared with eager torch before it is trusted."""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hoi_ros.errors import InputError, MissingLibraryError, unknown_name
from hoi_ros.hand.embedded_features import EmbeddedDetection
from hoi_ros.hand.flat_decoder import DecodedBatch, FlatDecoder, HalfDecoder, example, flatten
from hoi_ros.hand.handos import Detection, HandOs
from hoi_ros.hand.handos_config import ENGINES
from hoi_ros.hand.handos_numpy import NumpyDecoder
from hoi_ros.hand.onnx_binding import run_bound
from hoi_ros.hand.weights_file import WeightsFile

TOLERANCE_M, TOLERANCE = 5e-4, 2e-3
"""Largest difference from eager in metres of a vertex, and in fractions of the image; half precision needs it."""
TOLERANCE_SHARE = 0.02
"""The same of a pixel's or a vertex's probability."""
_log = logging.getLogger(__name__)


DecoderEngine = Callable[[Detection, Tensor], DecodedBatch]


def to_host(*tensors: Tensor) -> list[np.ndarray]:
    """Tensors (B, K, ...) as float32 arrays, in one copy from the device."""
    flat = torch.cat([t.float().flatten(2) if t.dim() > 2 else t.float()[..., None] for t in tensors], -1)
    parts = np.split(flat.cpu().numpy(), np.cumsum([max(t[0, 0].numel(), 1) for t in tensors])[:-1], -1)
    return [part.reshape(t.shape) for part, t in zip(parts, tensors)]


def shapes(tensors: tuple[Tensor, ...]) -> tuple[tuple[int, ...], ...]:
    """What a recorded graph depends on: numbers of images and hands, and sizes of maps."""
    return tuple(tuple(t.shape) for t in tensors)


def create_engine(
    network: HandOs, name: str = "auto", device: str = "cpu", cache: Path | None = None, *, masks: bool = False
) -> DecoderEngine:
    """Make an engine and compare it with eager; one that fails or differs is replaced by eager, with one warning.

    Args:
        network: in eval mode.
        name: one of `ENGINES`; auto is CUDA graphs on a GPU and a traced graph on the CPU (where
            the estimator itself takes numpy, which needs no torch).
        device: 'cpu' or a CUDA device.
        cache: folder for built engines; None is ~/.cache/hoi_ros.
        masks: also answer with contact and segments; detections bring finer maps then.

    Raises:
        InputError: unknown name, or masks of a network without them.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if masks and not (network.config.contact_head and network.config.mask_channels):
        raise InputError("HandOS masks: the network has no contact head or no mask head")
    device = "cpu" if device == "torch" else device
    network = network.to(device).eval()
    eager = EagerEngine(network, device, masks)
    if name == "auto":
        name = "cuda_graph" if device.startswith("cuda") else "trace"
    if name == "eager":
        eager(*example(network, 1, device, masks=masks))
        return eager
    try:
        engine = _make(name, network, device, cache or Path.home() / ".cache" / "hoi_ros", masks)
        difference = largest_difference(engine, eager, network, device, masks)
        if difference > 1:
            raise InputError(f"its answer differs from eager {difference:.1f} times more than allowed")
    except Exception as error:  # builders raise whatever their own libraries do
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.warning("HandOS engine '%s' cannot be used (%s): eager torch runs instead", name, reason)
        return eager
    return engine


def _make(name: str, network: HandOs, device: str, cache: Path, masks: bool) -> DecoderEngine:
    if name == "numpy":
        return NumpyEngine(network)
    if name == "trace":
        return TracedEngine(network, device, masks)
    if name == "compile":
        return CompiledEngine(network, device, masks=masks)
    if name == "cuda_graph":
        return CudaGraphEngine(network, device, masks)
    if name == "onnx":
        return OnnxEngine(network, device, masks)
    return TensorRtEngine(network, device, cache, masks)


def builds_for_shapes(engine: DecoderEngine) -> bool:
    """Whether an engine records or builds something for every set of shapes, which takes seconds to minutes."""
    return not isinstance(engine, (EagerEngine, NumpyEngine))


def largest_difference(
    engine: DecoderEngine, eager: DecoderEngine, network: HandOs, device: str = "cpu", masks: bool = False
) -> float:
    """Worst difference of two engines on one and two hands, in units of the tolerances; not finite counts as worst."""
    worst = 0.0
    for batch in (1, 2):
        detection, camera = example(network, batch, device, masks=masks)
        ours, theirs = engine(detection, camera), eager(detection, camera)
        pairs = [(ours.joints_2d, theirs.joints_2d, TOLERANCE), (ours.vertices, theirs.vertices, TOLERANCE_M),
                 (ours.joints_3d, theirs.joints_3d, TOLERANCE_M)]  # fmt: skip
        if masks:
            pairs += [(f(ours), f(theirs), TOLERANCE_SHARE) for f in (_shares, _touch)]
        for one, other, unit in pairs:
            difference = (one.float() - other.float()).abs().max().item()
            worst = max(worst, difference / unit if np.isfinite(difference) else float("inf"))
    return worst


def _shares(answer: DecodedBatch) -> Tensor:
    """(B, 3, H, W) probabilities of background, hand, object."""
    assert answer.segments is not None
    return answer.segments.float().softmax(1)


def _touch(answer: DecodedBatch) -> Tensor:
    """(B, K, V) probabilities of contact."""
    assert answer.contact is not None
    return answer.contact.float().sigmoid()


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Torch on one CPU thread: on a busy machine waiting for the others costs more than they bring (p95 of seconds)."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class EagerEngine:
    """Plain torch; half precision on a GPU."""

    def __init__(self, network: HandOs, device: str, masks: bool = False):
        self._flat, self._cuda = FlatDecoder(network, masks), device.startswith("cuda")
        self._device = torch.device(device)

    def __call__(self, detection: Detection, camera: Tensor) -> DecodedBatch:
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=self._cuda):
            return DecodedBatch(*self._flat(*(t.to(self._device) for t in flatten(detection, camera))))


class NumpyEngine:
    """`NumpyDecoder` behind the torch engines' face, to compare it with them; one instance an image."""

    def __init__(self, network: HandOs):
        arrays = {name: p.detach().cpu().numpy() for name, p in network.named_parameters()}
        self._decoder = NumpyDecoder(WeightsFile(Path("in memory"), network.config, network.topology, arrays, {}))

    def __call__(self, detection: Detection, camera: Tensor) -> DecodedBatch:
        first, last, boxes = (
            x[:, 0].numpy() for x in (detection.first_queries, detection.last_queries, detection.boxes)
        )
        assert detection.landmarks is not None and detection.landmarks_3d is not None
        hands = EmbeddedDetection(
            first, last, boxes, detection.landmarks[:, 0].numpy(), detection.landmarks_3d[:, 0].numpy()
        )
        maps, shallow = (tuple(x.numpy() for x in level) for level in (detection.features, detection.shallow))
        details = tuple(x.numpy() for x in detection.details)
        answer = self._decoder.decode(maps, shallow, hands, camera.numpy(), details)
        named = (answer.joints_2d, answer.vertices, answer.joints_3d, answer.translation)
        batch = DecodedBatch(*(torch.from_numpy(x)[:, None] for x in named))
        if answer.contact is None or answer.segments is None:
            return batch
        segments = torch.from_numpy(answer.segments).permute(0, 3, 1, 2)
        return replace(batch, contact=torch.from_numpy(answer.contact)[:, None], segments=segments)


class TracedEngine:
    """Recorded and frozen graphs of torch operations, one for each set of shapes: no Python between operations."""

    def __init__(self, network: HandOs, device: str, masks: bool = False):
        self._flat, self._device = FlatDecoder(network, masks), torch.device(device)
        self._graphs: dict[tuple, Any] = {}

    def __call__(self, detection: Detection, camera: Tensor) -> DecodedBatch:
        tensors = tuple(t.to(self._device) for t in flatten(detection, camera))
        key = shapes(tensors)
        with torch.inference_mode(), one_thread(self._device):
            if key not in self._graphs:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the tracer's, of sizes that are fixed by the key
                    traced = torch.jit.trace(self._flat, tensors, check_trace=False)
                    self._graphs[key] = torch.jit.freeze(traced.eval())
            return DecodedBatch(*self._graphs[key](*tensors))


class CompiledEngine:
    """torch.compile; the first calls are slow."""

    def __init__(self, network: HandOs, device: str, backend: str = "inductor", *, masks: bool = False):
        self._flat = torch.compile(FlatDecoder(network, masks), backend=backend)
        self._cuda, self._device = device.startswith("cuda"), torch.device(device)

    def __call__(self, detection: Detection, camera: Tensor) -> DecodedBatch:
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=self._cuda):
            return DecodedBatch(*self._flat(*(t.to(self._device) for t in flatten(detection, camera))))


class CudaGraphs:
    """A function of tensors as recorded graphs, one for each set of shapes, in half precision where asked.

    Inputs are copied into the recording, and nothing is allocated a call; answers are the recording's own tensors: the
    next call overwrites them.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: torch.device, half: bool = False):
        if not torch.cuda.is_available():
            raise InputError("CUDA graphs need an NVIDIA GPU")
        self._function, self._device, self._half = function, device, half
        self._graphs: dict[tuple, tuple[Any, tuple[Tensor, ...], tuple[Tensor, ...]]] = {}

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The function's answer."""
        key = shapes(tensors)
        if key not in self._graphs:
            self._graphs[key] = self._record(tensors)
        graph, inputs, outputs = self._graphs[key]
        for still, new in zip(inputs, tensors):
            still.copy_(new, non_blocking=True)
        graph.replay()
        return outputs

    def _record(self, tensors: tuple[Tensor, ...]) -> tuple[Any, tuple[Tensor, ...], tuple[Tensor, ...]]:
        inputs = tuple(t.to(self._device).clone() for t in tensors)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=self._half, cache_enabled=False):
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self._function(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = self._function(*inputs)
        return graph, inputs, outputs


class CudaGraphEngine:
    """The decoder as recorded CUDA graphs."""

    def __init__(self, network: HandOs, device: str, masks: bool = False):
        self._graphs = CudaGraphs(FlatDecoder(network, masks), torch.device(device), half=True)

    def __call__(self, detection: Detection, camera: Tensor) -> DecodedBatch:
        return DecodedBatch(*self._graphs(*flatten(detection, camera)))


class OnnxEngine:
    """ONNX Runtime on an exported graph, one session for each set of shapes; it works in torch's own memory."""

    def __init__(self, network: HandOs, device: str, masks: bool = False):
        self._network, self._device, self._masks = network, torch.device(device), masks
        self._vertices = network.topology.regressor.shape[1]
        self._sessions: dict[tuple, Any] = {}

    def __call__(self, detection: Detection, camera: Tensor) -> DecodedBatch:
        tensors = tuple(t.to(self._device) for t in flatten(detection, camera))
        key = shapes(tensors)
        if key not in self._sessions:
            self._sessions[key] = self._session(export_onnx(self._network, tensors, self._masks))
        rows = detection.scores.shape
        named = {"joints_2d": (21, 2), "vertices": (self._vertices, 3), "joints_3d": (21, 3), "translation": (3,)}
        named |= {"contact": (self._vertices,)} if self._masks else {}
        answer = {name: torch.empty(*rows, *shape, device=self._device) for name, shape in named.items()}
        if self._masks:
            answer["segments"] = torch.empty(rows[0], 3, *detection.details[-1].shape[-2:], device=self._device)
        run_bound(self._sessions[key], {f"input_{k}": t for k, t in enumerate(tensors)}, answer)
        return DecodedBatch(**answer)

    def _session(self, graph: bytes) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingLibraryError("ONNX Runtime is not installed: pip install onnxruntime") from error
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._device.type == "cuda":
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": self._device.index or 0}))
        return onnxruntime.InferenceSession(graph, providers=providers)


def export_onnx(network: HandOs, tensors: tuple[Tensor, ...], masks: bool = False) -> bytes:
    """A copy of the decoder as an ONNX file for inputs of these shapes, named input_0, input_1, ...

    Answers have the names of `DecodedBatch`; with `masks` contact and segments are among them.

    Raises:
        MissingLibraryError: the onnx package is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingLibraryError("exporting needs the onnx package: pip install onnx onnxscript") from error
    file: Any = io.BytesIO()
    names = [f"input_{k}" for k in range(len(tensors))]
    # Modules move in place, and other engines use this one where it is.
    decoder = FlatDecoder(copy.deepcopy(network), masks).cpu().eval()
    answers = [field.name for field in fields(DecodedBatch)]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of sizes that are fixed by the inputs
        torch.onnx.export(
            decoder, tuple(t.cpu() for t in tensors), file, input_names=names,
            output_names=answers if masks else answers[:4], opset_version=20, dynamo=False,
        )  # fmt: skip
    return file.getvalue()


class TensorRtEngine:
    """torch-tensorrt in half precision; built engines are kept in a file named by GPU, versions and weights."""

    def __init__(self, network: HandOs, device: str, cache: Path, masks: bool = False):
        try:
            import torch_tensorrt
        except ImportError as error:
            raise MissingLibraryError("TensorRT is not installed: pip install torch-tensorrt") from error
        if not device.startswith("cuda"):
            raise InputError("TensorRT needs an NVIDIA GPU")
        self._library, self._network, self._cache, self._masks = torch_tensorrt, network, cache, masks
        self._device = torch.device(device)
        self._engines: dict[tuple, Any] = {}

    def __call__(self, detection: Detection, camera: Tensor) -> DecodedBatch:
        tensors = tuple(t.to(self._device) for t in flatten(detection, camera))
        key = shapes(tensors)
        if key not in self._engines:
            self._engines[key] = self._load_or_build(tensors, key)
        return DecodedBatch(*self._engines[key](*tensors))

    def _load_or_build(self, tensors: tuple[Tensor, ...], key: tuple) -> Any:
        versions = (
            f"float16 {torch.__version__} {self._library.__version__} {torch.cuda.get_device_name(self._device)} {key} "
            f"masks {self._masks}"
        )
        path = self._cache / f"handos_{fingerprint(self._network, versions)}.ep"
        if path.exists():
            try:
                return torch.export.load(str(path)).module()
            except Exception as error:  # a file of a broken build is built anew
                _log.warning("TensorRT engine %s cannot be read (%s): it is built anew", path, type(error).__name__)
        # It builds with the types that the graph has; its own autocast casts masks and indices too.
        half = HalfDecoder(self._network, self._masks)
        built = self._library.compile(half, ir="dynamo", inputs=list(tensors), min_block_size=3)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._library.save(built, str(path), inputs=list(tensors))
        return built


def fingerprint(network: HandOs, versions: str) -> str:
    """Sixteen hexadecimal digits of a network's size, weights and what it was built with."""
    digest = hashlib.sha256(versions.encode())
    digest.update(repr(network.config).encode())
    for name, parameter in network.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
