#!/usr/bin/env python3
"""Small graphs that the built-in engines do not take, for the tests of ONNX Runtime; seeded, so always the same.

    pip install onnx numpy
    scripts/make_onnx_fixtures.py [FOLDER]      default: tests/runtime/model/data/onnxruntime
"""

import pathlib
import sys

import numpy as np
from onnx import TensorProto as T, checker, helper as h, numpy_helper as nh

out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                   pathlib.Path(__file__).resolve().parent.parent / "tests/runtime/model/data/onnxruntime")
out.mkdir(parents=True, exist_ok=True)


def save(name, nodes, inputs, outputs, constants=()):
    graph = h.make_graph(nodes, name, inputs, outputs, [nh.from_array(a, n) for n, a in constants])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17), h.make_opsetid("ai.onnx.ml", 3)], ir_version=8)
    checker.check_model(model)
    (out / f"{name}.onnx").write_bytes(model.SerializeToString())


def tensor(name, kind, *shape):
    return h.make_tensor_value_info(name, kind, shape)


def layers(sizes, seed):
    """A perceptron with ELU between its layers, from x to y."""
    random, nodes, constants, last = np.random.default_rng(seed), [], [], "x"
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        constants += [(f"w{i}", (random.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32)),
                      (f"b{i}", random.standard_normal(b).astype(np.float32) / 4)]
        name = "y" if i + 2 == len(sizes) else f"h{i}"
        nodes.append(h.make_node("Gemm", [last, f"w{i}", f"b{i}"], [name]))
        if name != "y":
            nodes.append(h.make_node("Elu", [name], [f"e{i}"]))
            last = f"e{i}"
    return nodes, constants


nodes, constants = layers([10, 64, 64, 1], 1)
save("mlp", nodes, [tensor("x", T.FLOAT, "N", 10)], [tensor("y", T.FLOAT, "N", 1)], constants)

# x -> elu(x): the answers are known without any library.
for name, kind, shape in (("elu", T.FLOAT, ("N", 3)), ("elu_one_row", T.FLOAT, (1, 3)), ("elu_four_rows", T.FLOAT, (4, 3)),
                          ("elu_open_width", T.FLOAT, ("N", "K"))):
    save(name, [h.make_node("Elu", ["x"], ["y"])], [tensor("x", kind, *shape)], [tensor("y", kind, *shape)])

save("doubles", [h.make_node("Abs", ["x"], ["y"])], [tensor("x", T.DOUBLE, "N", 2)], [tensor("y", T.DOUBLE, "N", 2)])

save("integers", [h.make_node("Cast", ["x"], ["f"], to=T.FLOAT), h.make_node("Elu", ["f"], ["y"])],
     [tensor("x", T.INT64, "N", 2)], [tensor("y", T.FLOAT, "N", 2)])

save("columns", [h.make_node("Concat", ["age", "height"], ["c"], axis=1), h.make_node("Elu", ["c"], ["y"])],
     [tensor("age", T.FLOAT, "N", 1), tensor("height", T.FLOAT, "N", 1)], [tensor("y", T.FLOAT, "N", 2)])

save("words", [h.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["a", "b"], values_floats=[1.0, 2.0])],
     [tensor("x", T.STRING, "N", 1)], [tensor("y", T.FLOAT, "N", 1)])

labels = [("w", np.eye(3, dtype=np.float32))]
classifier = [h.make_node("Elu", ["x"], ["e"]), h.make_node("Softmax", ["e"], ["p"], axis=1),
              h.make_node("ArgMax", ["e"], ["label"], axis=1, keepdims=0)]
save("probabilities", classifier, [tensor("x", T.FLOAT, "N", 3)], [tensor("label", T.INT64, "N"), tensor("p", T.FLOAT, "N", 3)])

maps = h.make_value_info("z", h.make_sequence_type_proto(h.make_map_type_proto(T.STRING, h.make_tensor_type_proto(T.FLOAT, []))))
save("maps", classifier + [h.make_node("ZipMap", ["p"], ["z"], domain="ai.onnx.ml", classlabels_strings=["red", "green", "blue"])],
     [tensor("x", T.FLOAT, "N", 3)], [tensor("label", T.INT64, "N"), maps])

# Two inputs with one symbol, any rank, strings out: for the tensor interface.
save("general", [h.make_node("Add", ["a", "b"], ["sum"]), h.make_node("Cast", ["sum"], ["text"], to=T.STRING)],
     [tensor("a", T.FLOAT, "N", 2, "K"), tensor("b", T.FLOAT, "N", 2, "K")],
     [tensor("sum", T.FLOAT, "N", 2, "K"), tensor("text", T.STRING, "N", 2, "K")])

# Fails for a row whose first number is beyond the table.
save("picky", [h.make_node("Cast", ["x"], ["i"], to=T.INT64), h.make_node("Gather", ["table", "i"], ["y"])],
     [tensor("x", T.FLOAT, "N", 1)], [tensor("y", T.FLOAT, "N", 1)], [("table", np.array([1, 2, 4], dtype=np.float32))])

# Takes some microseconds a row and step: a batch that is long enough to be interrupted.
save("slow", [h.make_node("MatMul", ["x", "w"], ["a0"])] +
     [h.make_node("MatMul", [f"a{i}", "m"], [f"a{i + 1}"]) for i in range(40)] +
     [h.make_node("ReduceSum", ["a40", "axes"], ["s"]), h.make_node("Elu", ["s"], ["y"])],
     [tensor("x", T.FLOAT, "N", 3)], [tensor("y", T.FLOAT, "N", 1)],
     [("w", np.ones((3, 64), dtype=np.float32)), ("m", np.eye(64, dtype=np.float32)), ("axes", np.array([1], dtype=np.int64))])

# Tensors: a grid and a name a row, three answers of different shapes.
save("tensors", [h.make_node("ReduceSum", ["grid", "all"], ["sum"], keepdims=0), h.make_node("Neg", ["grid"], ["turned"]),
                 h.make_node("LabelEncoder", ["name"], ["code"], domain="ai.onnx.ml", keys_strings=["a", "b", ""], values_int64s=[1, 2, 9],
                             default_int64=-1)],
     [tensor("grid", T.FLOAT, "N", 2, 3), tensor("name", T.STRING, "N")],
     [tensor("sum", T.FLOAT, "N"), tensor("turned", T.FLOAT, "N", 2, 3), tensor("code", T.INT64, "N")],
     [("all", np.array([1, 2], dtype=np.int64))])
save("tokens", [h.make_node("Cast", ["ids"], ["f"], to=T.FLOAT), h.make_node("ReduceSum", ["f", "one"], ["y"], keepdims=1)],
     [tensor("ids", T.INT64, "N", "L")], [tensor("y", T.FLOAT, "N", 1)], [("one", np.array([1], dtype=np.int64))])
save("bytes", [h.make_node("Identity", ["x"], ["y"])], [tensor("x", T.UINT8, "N", 6)], [tensor("y", T.UINT8, "N", 6)])
save("halves", [h.make_node("Neg", ["x"], ["y"])], [tensor("x", T.FLOAT16, "N", 2)], [tensor("y", T.FLOAT16, "N", 2)])
save("picture", [h.make_node("Flatten", ["x"], ["y"])], [tensor("x", T.FLOAT, "N", 3, 4, 6)], [tensor("y", T.FLOAT, "N", 72)])

# Goes round as often as the largest number of its rows says: as long as one likes.
body = h.make_graph([h.make_node("Abs", ["v"], ["w"]), h.make_node("Identity", ["go"], ["on"])], "body",
                    [tensor("i", T.INT64), tensor("go", T.BOOL), tensor("v", T.FLOAT, None, None)],
                    [tensor("on", T.BOOL), tensor("w", T.FLOAT, None, None)])
save("rounds", [h.make_node("ReduceMax", ["x"], ["most"], keepdims=0), h.make_node("Cast", ["most"], ["trips"], to=T.INT64),
                h.make_node("Loop", ["trips", "go", "x"], ["end"], body=body), h.make_node("Sub", ["end", "end"], ["zero"]),
                h.make_node("Add", ["zero", "x"], ["y"])],
     [tensor("x", T.FLOAT, "N", 1)], [tensor("y", T.FLOAT, "N", 1)], [("go", np.array(True))])
