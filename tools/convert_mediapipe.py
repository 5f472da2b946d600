"""Convert the two hand networks inside the mediapipe 0.10.21 wheel into the weights that hoi_ros ships.

    pip install tflite numpy
    python tools/convert_mediapipe.py [--wheel mediapipe-0.10.21-...whl] [--out hoi_ros/hand/weights] [--check]

Without --wheel the wheel is downloaded with pip (36 MB). Each network becomes one npz: `program` (JSON list of
operations in channels-first layout) and float16 weights, which the wheel holds in float16 too, so nothing is lost.
--check runs the result beside LiteRT (`pip install ai-edge-litert torch`) and prints the largest difference.

The networks are Google's, Apache-2.0: https://ai.google.dev/edge/mediapipe/solutions/vision/hand_landmarker
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

WHEEL = "mediapipe==0.10.21"
NETWORKS = {
    "palm_detection": "mediapipe/modules/palm_detection/palm_detection_full.tflite",
    "hand_landmarks": "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
}
OUTPUT_NAMES = {
    "palm_detection": ("boxes", "scores"),
    "hand_landmarks": ("landmarks", "presence", "handedness", "world_landmarks"),
}
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}
ACTIVATIONS = {0: "none", 1: "relu", 3: "relu6"}


class GraphReader:
    """Walks one tflite graph and collects operations and weights."""

    def __init__(self, content: bytes, output_names: tuple[str, ...]):
        import tflite
        from tflite.BuiltinOperator import BuiltinOperator

        self.tflite = tflite
        self.operator_names = {v: k for k, v in vars(BuiltinOperator).items() if not k.startswith("_")}
        self.model = tflite.Model.GetRootAsModel(content, 0)
        self.graph = self.model.Subgraphs(0)
        tensors = [self.graph.Tensors(i) for i in range(self.graph.TensorsLength())]
        self.shapes = [t.ShapeAsNumpy().tolist() if t.ShapeLength() else [] for t in tensors]
        self.constants: dict[int, np.ndarray] = {}
        for i, tensor in enumerate(tensors):
            buffer = self.model.Buffers(tensor.Buffer())
            if buffer.DataLength():
                values = np.frombuffer(buffer.DataAsNumpy().tobytes(), DTYPES[tensor.Type()])
                self.constants[i] = values.reshape(self.shapes[i])
        self.names = {int(self.graph.Inputs(0)): "image"}
        self.names.update(zip(map(int, self.graph.OutputsAsNumpy()), output_names))
        self.weights: dict[str, np.ndarray] = {}
        self.operations: list[dict] = []

    def read(self) -> tuple[list[dict], dict[str, np.ndarray]]:
        """Return the operations in order and the weights by name."""
        for k in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(k)
            code = self.model.OperatorCodes(operator.OpcodeIndex())
            kind = self.operator_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs, output = [int(i) for i in operator.InputsAsNumpy()], int(operator.Outputs(0))
            if kind == "DEQUANTIZE" and inputs[0] in self.constants:
                self.constants[output] = self.constants[inputs[0]]
                continue
            method = getattr(self, f"_{kind.lower()}", None)
            if method is None:
                raise NotImplementedError(f"operator {kind}")
            self._index = len(self.operations)
            self.names.setdefault(output, f"t{self._index}")
            operation = method(inputs, output, operator)
            operation["inputs"] = [self.names[i] for i in inputs if i not in self.constants]
            operation["output"] = self.names[output]
            self.operations.append(operation)
        return self.operations, self.weights

    def _options(self, operator, name: str):
        options = getattr(self.tflite, name)()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        return options

    def _weight(self, prefix: str, values: np.ndarray) -> str:
        name = f"{prefix}{self._index}"
        self.weights[name] = np.ascontiguousarray(values).astype(np.float16)
        return name

    def _padding(self, options, image: int, kernel: tuple[int, int], stride: int) -> list[int]:
        """TensorFlow's SAME (0) or VALID (1) padding as left, right, top, bottom."""
        if options.Padding() == 1:
            return [0, 0, 0, 0]
        sides = []
        for size, k in zip(self.shapes[image][2:0:-1], kernel[::-1]):
            total = max((-(-size // stride) - 1) * stride + k - size, 0)
            sides += [total // 2, total - total // 2]
        return sides

    def _convolution(self, inputs, operator, options_name: str, weights: np.ndarray, groups: int) -> dict:
        options = self._options(operator, options_name)
        stride = options.StrideH()
        assert stride == options.StrideW() and options.DilationHFactor() == options.DilationWFactor() == 1
        return {
            "op": "conv",
            "weight": self._weight("w", weights),
            "bias": self._weight("b", self.constants[inputs[2]]),
            "stride": stride,
            "groups": groups,
            "pad": self._padding(options, inputs[0], weights.shape[2:], stride),
            "activation": ACTIVATIONS[options.FusedActivationFunction()],
        }

    def _conv_2d(self, inputs, output, operator) -> dict:
        return self._convolution(
            inputs, operator, "Conv2DOptions", self.constants[inputs[1]].transpose(0, 3, 1, 2), groups=1
        )

    def _depthwise_conv_2d(self, inputs, output, operator) -> dict:
        weights = self.constants[inputs[1]].transpose(3, 0, 1, 2)
        return self._convolution(inputs, operator, "DepthwiseConv2DOptions", weights, groups=len(weights))

    def _prelu(self, inputs, output, operator) -> dict:
        return {"op": "prelu", "weight": self._weight("a", self.constants[inputs[1]].reshape(-1))}

    def _add(self, inputs, output, operator) -> dict:
        return {
            "op": "add",
            "activation": ACTIVATIONS[self._options(operator, "AddOptions").FusedActivationFunction()],
        }

    def _max_pool_2d(self, inputs, output, operator) -> dict:
        options = self._options(operator, "Pool2DOptions")
        kernel = (options.FilterHeight(), options.FilterWidth())
        assert kernel[0] == kernel[1] and self._padding(options, inputs[0], kernel, options.StrideH()) == [0] * 4
        return {"op": "max_pool", "kernel": kernel[0], "stride": options.StrideH()}

    def _pad(self, inputs, output, operator) -> dict:
        padding = self.constants[inputs[1]].tolist()
        assert padding[:3] == [[0, 0]] * 3 and padding[3][0] == 0, "only channels are padded"
        return {"op": "pad_channels", "count": padding[3][1]}

    def _resize_bilinear(self, inputs, output, operator) -> dict:
        options = self._options(operator, "ResizeBilinearOptions")
        assert options.HalfPixelCenters() and not options.AlignCorners()
        return {"op": "resize", "size": self.constants[inputs[1]].tolist()}

    def _reshape(self, inputs, output, operator) -> dict:
        assert len(self.shapes[inputs[0]]) == 4 and len(self.shapes[output]) == 3
        return {"op": "rows_of_pixels", "columns": self.shapes[output][2]}

    def _concatenation(self, inputs, output, operator) -> dict:
        assert self._options(operator, "ConcatenationOptions").Axis() == 1 and len(self.shapes[output]) == 3
        return {"op": "concat_rows"}

    def _mean(self, inputs, output, operator) -> dict:
        assert self.constants[inputs[1]].tolist() == [1, 2]
        return {"op": "global_mean"}

    def _fully_connected(self, inputs, output, operator) -> dict:
        return {
            "op": "linear",
            "weight": self._weight("w", self.constants[inputs[1]]),
            "bias": self._weight("b", self.constants[inputs[2]]),
        }

    def _logistic(self, inputs, output, operator) -> dict:
        return {"op": "sigmoid"}


def convert(content: bytes, name: str, path: Path) -> None:
    """Write one network's npz."""
    reader = GraphReader(content, OUTPUT_NAMES[name])
    operations, weights = reader.read()
    size = reader.shapes[int(reader.graph.Inputs(0))][1]
    program = {"name": name, "input_size": size, "outputs": OUTPUT_NAMES[name], "operations": operations}
    np.savez(path, program=np.array(json.dumps(program)), **weights)
    print(f"{path}: {len(operations)} operations, {sum(w.size for w in weights.values())} weights, ", end="")
    print(f"{path.stat().st_size / 1e6:.1f} MB")


def check(content: bytes, name: str, path: Path) -> None:
    """Print the largest difference between LiteRT on the original and our torch and onnxruntime on the result."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from ai_edge_litert.interpreter import Interpreter

    from hoi_ros.hand.network import load_network

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    size = interpreter.get_input_details()[0]["shape"][1]
    image = np.random.default_rng(0).random((1, size, size, 3), np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    outputs = interpreter.get_output_details()
    # LiteRT lists outputs in the graph's own order.
    expected = [interpreter.get_tensor(o["index"]) for o in outputs]
    for device, label in (("cpu", "cpu runtime"), ("torch", "torch")):
        got = load_network(path, device)(image)
        scale = [max(float(np.abs(e).max()), 1.0) for e in expected]
        differences = [float(np.abs(g - e).max()) for g, e in zip(got, expected)]
        text = ", ".join(f"{n} {d:.1e} of {s:.0f}" for n, d, s in zip(OUTPUT_NAMES[name], differences, scale))
        print(f"{name}: {label} against LiteRT, largest difference: {text}")


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="mediapipe 0.10.21 wheel; downloaded with pip when absent")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "hoi_ros/hand/weights")
    parser.add_argument("--check", action="store_true", help="compare the result with LiteRT")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel
        if wheel is None:
            command = [
                "download",
                "--no-deps",
                "--only-binary=:all:",
                "--python-version",
                "3.11",
                "--dest",
                folder,
                WHEEL,
            ]
            subprocess.run([sys.executable, "-m", "pip", *command], check=True)
            wheel = next(Path(folder).glob("mediapipe-*.whl"))
        arguments.out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            licence = next(n for n in archive.namelist() if n.endswith("dist-info/LICENSE"))
            (arguments.out / "LICENSE.mediapipe").write_bytes(archive.read(licence))
            for name, member in NETWORKS.items():
                path = arguments.out / f"{name}.npz"
                convert(archive.read(member), name, path)
                if arguments.check:
                    check(archive.read(member), name, path)


if __name__ == "__main__":
    main()
