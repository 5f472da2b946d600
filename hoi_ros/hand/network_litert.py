"""A network program as a LiteRT (TensorFlow Lite) model built in memory: the CPU's engine.

Measured on 2 cores of an AMD EPYC, ms an inference with 1/2 threads: palm detector LiteRT 5.3/2.9, onnxruntime
11.2/9.2, torch 26/12; landmark network LiteRT 4.9/2.5, onnxruntime 4.9/3.3, torch 12/7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hoi_ros.hand.program import NetworkProgram

ACTIVATIONS = {"none": 0, "relu": 1, "relu6": 3}
SAME, VALID = 0, 1
FLOAT32, INT32 = 0, 2


def litert_model(program: NetworkProgram) -> bytes:
    """Serialise a program as a tflite flatbuffer: input (1, S, S, 3) float32, channels last inside.

    Raises:
        ImportError: ai-edge-litert is not installed.
    """
    return _GraphWriter(program).write()


class _GraphWriter:
    """Collects tensors, constants and operators of one graph."""

    def __init__(self, program: NetworkProgram):
        try:
            import flatbuffers
            from ai_edge_litert import schema_py_generated as schema
        except ImportError as error:
            raise ImportError("the CPU hand networks need LiteRT: pip install ai-edge-litert") from error
        self.program = program
        self.schema: Any = schema
        self.builder = flatbuffers.Builder(1 << 24)
        self.tensors: list[Any] = []
        self.buffers = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.index: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def write(self) -> bytes:
        """Serialise the whole program."""
        size = self.program.input_size
        self._tensor("image", (1, size, size, 3))
        for operation in self.program.operations:
            getattr(self, "_" + operation["op"])(operation)
        schema = self.schema
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.operators, self.program.name
        graph.inputs, graph.outputs = [self.index["image"]], [self.index[n] for n in self.program.outputs]
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        model.operatorCodes = [self._code(code) for code in self.codes]
        self.builder.Finish(model.Pack(self.builder), b"TFL3")
        return bytes(self.builder.Output())

    def _code(self, builtin: int) -> Any:
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        if builtin == self.schema.BuiltinOperator.RESIZE_BILINEAR:
            code.version = 3  # the first with half-pixel centres
        return code

    def _tensor(self, name: str, shape: tuple[int, ...], values: np.ndarray | None = None) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), FLOAT32
        if values is not None:
            tensor.type = INT32 if values.dtype.kind == "i" else FLOAT32
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.index[name], self.shapes[name] = len(self.tensors), shape
        self.tensors.append(tensor)
        return self.index[name]

    def _constant(self, name: str, values: np.ndarray) -> int:
        if name not in self.index:
            self._tensor(name, values.shape, values)
        return self.index[name]

    def _weight(self, name: str, rearrange: Callable[[np.ndarray], np.ndarray] = lambda w: w) -> int:
        return self._constant(name, rearrange(self.program.weights[name].astype(np.float32)))

    def _emit(
        self, kind: str, operation: dict, shape: tuple[int, ...], constants=(), options: str = "", **values
    ) -> None:
        """Append one operator; `values` fill its options table."""
        builtin = getattr(self.schema.BuiltinOperator, kind)
        if builtin not in self.codes:
            self.codes.append(builtin)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self.codes.index(builtin)
        operator.inputs = [self.index[n] for n in operation["inputs"]] + list(constants)
        operator.outputs = [self._tensor(operation["output"], shape)]
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, options + "T")()
            for name, value in values.items():
                setattr(operator.builtinOptions, name, value)
        self.operators.append(operator)

    def _conv(self, operation: dict) -> None:
        _, height, width, _ = self.shapes[operation["inputs"][0]]
        count, _, kernel_h, kernel_w = self.program.weights[operation["weight"]].shape
        stride, depthwise = operation["stride"], operation["groups"] > 1
        same = [*_same_padding(width, kernel_w, stride), *_same_padding(height, kernel_h, stride)]
        if operation["pad"] not in (same, [0, 0, 0, 0]):
            raise ValueError(f"{operation['output']}: padding {operation['pad']} is neither SAME nor VALID")
        padding = SAME if operation["pad"] == same else VALID
        left, right, top, bottom = operation["pad"]
        out_h, out_w = (height + top + bottom - kernel_h) // stride + 1, (width + left + right - kernel_w) // stride + 1
        axes = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        constants = (self._weight(operation["weight"], lambda w: w.transpose(axes)), self._weight(operation["bias"]))
        values: dict[str, Any] = {"padding": padding, "strideH": stride, "strideW": stride, "dilationHFactor": 1}
        values |= {"dilationWFactor": 1, "fusedActivationFunction": ACTIVATIONS[operation["activation"]]}
        if depthwise:
            values["depthMultiplier"] = 1
        kind, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
        self._emit(kind, operation, (1, out_h, out_w, count), constants, options, **values)

    def _linear(self, operation: dict) -> None:
        constants = (self._weight(operation["weight"]), self._weight(operation["bias"]))
        shape = (1, self.shapes[operation["weight"]][0])
        self._emit("FULLY_CONNECTED", operation, shape, constants, "FullyConnectedOptions")

    def _prelu(self, operation: dict) -> None:
        constants = (self._weight(operation["weight"], lambda w: w.reshape(1, 1, -1)),)
        self._emit("PRELU", operation, self.shapes[operation["inputs"][0]], constants)

    def _add(self, operation: dict) -> None:
        shape, activation = self.shapes[operation["inputs"][0]], ACTIVATIONS[operation["activation"]]
        self._emit("ADD", operation, shape, (), "AddOptions", fusedActivationFunction=activation)

    def _max_pool(self, operation: dict) -> None:
        _, height, width, channels = self.shapes[operation["inputs"][0]]
        kernel, stride = operation["kernel"], operation["stride"]
        shape = (1, (height - kernel) // stride + 1, (width - kernel) // stride + 1, channels)
        values = {"padding": VALID, "strideH": stride, "strideW": stride, "filterHeight": kernel, "filterWidth": kernel}
        self._emit("MAX_POOL_2D", operation, shape, (), "Pool2DOptions", **values)

    def _pad_channels(self, operation: dict) -> None:
        *grid, channels = self.shapes[operation["inputs"][0]]
        paddings = np.array([[0, 0], [0, 0], [0, 0], [0, operation["count"]]], np.int32)
        constant = self._constant(f"{operation['output']}_paddings", paddings)
        self._emit("PAD", operation, (*grid, channels + operation["count"]), (constant,), "PadOptions")

    def _resize(self, operation: dict) -> None:
        channels = self.shapes[operation["inputs"][0]][3]
        constant = self._constant(f"{operation['output']}_size", np.array(operation["size"], np.int32))
        shape = (1, *operation["size"], channels)
        self._emit("RESIZE_BILINEAR", operation, shape, (constant,), "ResizeBilinearOptions", halfPixelCenters=True)

    def _rows_of_pixels(self, operation: dict) -> None:
        total = int(np.prod(self.shapes[operation["inputs"][0]]))
        shape = (1, total // operation["columns"], operation["columns"])
        constant = self._constant(f"{operation['output']}_shape", np.array(shape, np.int32))
        self._emit("RESHAPE", operation, shape, (constant,), "ReshapeOptions", newShape=list(shape))

    def _concat_rows(self, operation: dict) -> None:
        shapes = [self.shapes[n] for n in operation["inputs"]]
        shape = (1, sum(s[1] for s in shapes), shapes[0][2])
        self._emit("CONCATENATION", operation, shape, (), "ConcatenationOptions", axis=1)

    def _global_mean(self, operation: dict) -> None:
        constant = self._constant("image_axes", np.array([1, 2], np.int32))
        self._emit("MEAN", operation, (1, self.shapes[operation["inputs"][0]][3]), (constant,), "ReducerOptions")

    def _sigmoid(self, operation: dict) -> None:
        self._emit("LOGISTIC", operation, self.shapes[operation["inputs"][0]])


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after one axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
