"""Makes `bridge/gate/silero_8k.onnx` from the `silero_vad.onnx` that Silero publishes (6.2.3, MIT).

    python -m tests.gate.derive_silero silero_vad.onnx bridge/gate/silero_8k.onnx

Nothing is trained and no weight changes. The published file holds the 16 kHz and the 8 kHz network behind an `If`, and
its convolutions run over four time steps per window, where onnxruntime cannot fill a vector unit. Here the 8 kHz branch
stands alone and every layer is one matrix product over the whole batch: the same probabilities to 1e-4 (tested), a
third of the time. Several frames of each leg may be given at once, as when something is heard again: all but the
recurrent layer sees them as one batch, once each, in whatever order they are heard and however often. Needs the `onnx`
package, which the service itself does not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BRANCH = "If_0_else_branch__Inline_0__"  # the 8 kHz network in the published graph
HIDDEN = 128


def read_weights(path: Path) -> dict[str, Any]:
    """The 8 kHz branch's constants by their short names."""
    model = onnx.load(str(path))
    branch = next(a.g for n in model.graph.node if n.op_type == "If" for a in n.attribute if a.name == "else_branch")
    return {
        node.output[0].removeprefix(BRANCH): numpy_helper.to_array(node.attribute[0].t)
        for node in branch.node
        if node.op_type == "Constant"
    }


class Graph:
    """Collects nodes and constants; each method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def split(self, name: str, source: str, *, parts: int, size: int, axis: int) -> list[str]:
        names = [f"{name}{n}" for n in range(parts)]
        sizes = self.constant(f"{name}_sizes", np.full(parts, size, np.int64))
        self.nodes.append(helper.make_node("Split", [source, sizes], names, name=name, axis=axis))
        return names

    def shape(self, name: str, source: str, *dims: int) -> str:
        return self.add("Reshape", name, source, self.constant(f"{name}_dims", np.array(dims, np.int64)))

    def dense(self, name: str, source: str, weight: Any, bias: Any) -> str:
        """relu(source @ weight + bias)"""
        w, b = self.constant(f"{name}_w", weight), self.constant(f"{name}_b", bias)
        return self.add("Relu", f"{name}_relu", self.add("Gemm", name, source, w, b))

    def window(self, name: str, source: str, start: int, stop: int) -> str:
        bounds = [self.constant(f"{name}_{part}", np.array([v], np.int64))
                  for part, v in (("start", start), ("stop", stop), ("axis", 1))]  # fmt: skip
        return self.add("Slice", name, source, *bounds)


def taps(weight: Any, *which: int) -> Any:
    """Convolution weights [out, in, 3] as a matrix [len(which) * in, out] for inputs laid side by side in time."""
    return np.concatenate([weight[:, :, tap].T for tap in which], axis=0)


def build(weights: dict[str, Any]) -> Any:
    """Input `audio` [F, 320], frames: 32 samples of the last window, 256 new ones, 32 mirrored; -1..1. `order` [T, B]:
    which of them each of B hearers hears at each of T steps. `state` [2, B, 128]: h and c before the first step; as
    output, after the last. Output `p` [T * B, 1]: all hearers' first steps before their second ones.

    h and c come together also because onnxruntime keeps a plan of its memory by the exclusive or of all inputs' sizes:
    were B there an even number of times, one plan would be taken for all batches (and thrown away: 7 us a run)."""
    g = Graph()
    re, im = stft(g, weights["stft.forward_basis_buffer"][:, 0, :].T)
    power = g.add("Add", "power", g.add("Mul", "re2", re, re), g.add("Mul", "im2", im, im))
    magnitude = g.shape("magnitude4", g.add("Sqrt", "magnitude", power), -1, 4 * 65)
    # conv 0: kernel 3, stride 1, padding 1 over 4 steps. The zero padding is left out of the products, not multiplied.
    w, b = (weights[f"encoder.0.reparam_conv.{part}"] for part in ("weight", "bias"))
    first = g.dense("conv0a", g.window("step01", magnitude, 0, 130), taps(w, 1, 2), b)
    inner = [g.dense(f"conv0{n}", g.window(f"step{n}", magnitude, 65 * n, 65 * n + 195), taps(w, 0, 1, 2), b)
             for n in (0, 1)]  # fmt: skip
    last = g.dense("conv0d", g.window("step23", magnitude, 130, 260), taps(w, 0, 1), b)
    # conv 1: stride 2, so two steps: (padding, 0, 1) and (1, 2, 3)
    w, b = (weights[f"encoder.1.reparam_conv.{part}"] for part in ("weight", "bias"))
    early = g.dense("conv1a", g.add("Concat", "steps_early", first, inner[0], axis=1), taps(w, 1, 2), b)
    late = g.dense("conv1b", g.add("Concat", "steps_late", inner[0], inner[1], last, axis=1), taps(w, 0, 1, 2), b)
    # conv 2: stride 2, one step: (padding, 0, 1); conv 3: (padding, 0, padding)
    w, b = (weights[f"encoder.2.reparam_conv.{part}"] for part in ("weight", "bias"))
    code = g.dense("conv2", g.add("Concat", "steps_both", early, late, axis=1), taps(w, 1, 2), b)
    w, b = (weights[f"encoder.3.reparam_conv.{part}"] for part in ("weight", "bias"))
    code = g.dense("conv3", code, taps(w, 1), b)
    lstm(g, code, weights)
    real, whole = TensorProto.FLOAT, TensorProto.INT64
    inputs = [["audio", real, ["F", 320]], ["order", whole, ["T", "B"]], ["state", real, [2, "B", HIDDEN]]]
    outputs = [["p", real, ["TB", 1]], ["state_next", real, [2, "B", HIDDEN]]]
    infos = [[helper.make_tensor_value_info(*info) for info in side] for side in (inputs, outputs)]
    graph = helper.make_graph(g.nodes, "silero_vad_6.2.3_8khz", *infos, g.constants)
    opset = helper.make_opsetid("", 16)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="callbridge", ir_version=8)
    model.doc_string = "Silero VAD 6.2.3, 8 kHz branch. Copyright (c) 2020-present Silero Team, MIT licence."
    onnx.checker.check_model(model, full_check=True)
    return model


def stft(g: Graph, basis: Any) -> tuple[str, str]:
    """Four windows of 128, 64 apart, by `basis` [128, 130]: a symmetric window times cosines and sines. Sample j and
    its mirror 128 - j are added for the even half and subtracted for the odd one: half the products; sample 0 is 0."""
    assert not basis[0].any()
    assert not basis[64, 65:].any()
    assert (basis[1:64, :65] == basis[127:64:-1, :65]).all()
    assert (basis[1:64, 65:] == -basis[127:64:-1, 65:]).all()
    bounds = [g.constant(f"mirror_{part}", np.array([v], np.int64))
              for part, v in (("start", -1), ("stop", -400), ("axis", 1), ("step", -1))]  # fmt: skip
    mirror = g.add("Slice", "mirror", "audio", *bounds)
    ahead = [g.window(f"ahead{n}", "audio", 64 * n + 1, 64 * n + 65) for n in range(4)]
    back = [g.window(f"back{n}", mirror, 192 - 64 * n, 256 - 64 * n) for n in range(4)]
    a = g.shape("a", g.add("Concat", "all_ahead", *ahead, axis=1), -1, 64)
    b = g.shape("b", g.add("Concat", "all_back", *back, axis=1), -1, 64)
    even = basis[1:65, :65].copy()
    even[-1] /= 2  # sample 64 is its own mirror
    re = g.add("MatMul", "re", g.add("Add", "even", a, b), g.constant("even_w", even))
    im = g.add("MatMul", "im", g.add("Sub", "odd", a, b), g.constant("odd_w", basis[1:65, 65:]))
    return re, im


def lstm(g: Graph, code: str, weights: dict[str, Any]) -> None:
    """torch's LSTMCell as ONNX has it, then relu, a 1x1 convolution and a sigmoid."""
    w, r, b = (onnx_gates([weights[f"decoder.rnn.{part}_{side}"] for side in sides])
               for part, sides in (("weight", ["ih"]), ("weight", ["hh"]), ("bias", ["ih", "hh"])))  # fmt: skip
    h, c = g.split("before", "state", parts=2, size=1, axis=0)
    steps = g.add("Gather", "steps", code, "order")
    names = [g.constant("lstm_w", w), g.constant("lstm_r", r), g.constant("lstm_b", b)]
    g.nodes.append(helper.make_node("LSTM", [steps, *names, "", h, c], ["all_h", "last_h", "last_c"], name="lstm",
                                    hidden_size=HIDDEN))  # fmt: skip
    g.add("Concat", "state_next", "last_h", "last_c", axis=0)
    weight = weights["decoder.decoder.2.weight"][:, :, 0].T
    head = g.constant("head_w", weight), g.constant("head_b", weights["decoder.decoder.2.bias"])
    g.add("Sigmoid", "p", g.add("Gemm", "logit", g.add("Relu", "h_relu", g.shape("h_all", "all_h", -1, HIDDEN)), *head))


def onnx_gates(parts: list[Any]) -> Any:
    """torch orders the gates i, f, g, o; ONNX i, o, f, g, with a leading dimension for the direction."""
    ordered = [np.concatenate([np.split(part, 4)[n] for n in (0, 3, 1, 2)]) for part in parts]
    return np.concatenate(ordered)[None]


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:3])
    onnx.save(build(read_weights(source)), str(target))


if __name__ == "__main__":
    main()
