"""Small ONNX models, written without any library: a linear model, one with an imputer, a forest of any size, a network that a
row can end."""

import pathlib
import random
import struct
from typing import List, Optional, Sequence


def _varint(n: int) -> bytes:
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _field(number: int, value) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, str):
        value = value.encode()
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _attribute(name: str, value) -> bytes:
    body = _field(1, name)
    if isinstance(value, float):
        return body + _field(2, value) + _field(20, 1)
    if isinstance(value, int):
        return body + _field(3, value) + _field(20, 2)
    if isinstance(value, str):
        return body + _field(4, value) + _field(20, 3)
    if isinstance(value[0], float):
        return body + _field(7, struct.pack(f"<{len(value)}f", *value)) + _field(20, 6)
    if isinstance(value[0], int):
        return body + _field(8, b"".join(map(_varint, value))) + _field(20, 7)
    return body + b"".join(_field(9, text) for text in value) + _field(20, 8)


def _node(kind: str, source: str, target: str, domain: str = "ai.onnx.ml", **attributes) -> bytes:
    """`source`: one name, or more with blanks between."""
    return (b"".join(_field(1, name) for name in source.split()) + _field(2, target) + _field(4, kind) +
            b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items()) + _field(7, domain))


def _integer(name: str, value: int) -> bytes:
    """A constant of shape [1], int64."""
    return _field(1, 1) + _field(2, 7) + _field(8, name) + _field(9, struct.pack("<q", value))


def _table(name: str, columns: int) -> bytes:
    shape = _field(1, _field(2, "N")) + _field(1, _field(1, columns))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def write(folder: pathlib.Path, nodes: List[bytes], columns: int, constants: Sequence[bytes] = ()):
    """folder/model.onnx, there as a whole or not at all."""
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "g") + b"".join(_field(5, c) for c in constants)
    graph += _field(11, _table("X", columns)) + _field(12, _table("Y", 1))
    model = _field(1, 8) + _field(7, graph)
    model += _field(8, _field(1, "ai.onnx.ml") + _field(2, 3)) + _field(8, _field(1, "") + _field(2, 15))
    written = folder.with_name("." + folder.name + ".tmp")
    written.mkdir(parents=True)
    (written / "model.onnx").write_bytes(model)
    written.rename(folder)


def linear(folder: pathlib.Path, weights: List[float], intercept: float, imputed: Optional[float] = None):
    nodes, source = [], "X"
    if imputed is not None:
        nodes.append(_node("Imputer", "X", "I", imputed_value_floats=[imputed] * len(weights),
                           replaced_value_float=float("nan")))
        source = "I"
    nodes.append(_node("LinearRegressor", source, "Y", coefficients=list(map(float, weights)),
                       intercepts=[float(intercept)], targets=1))
    write(folder, nodes, len(weights))


def forest(folder: pathlib.Path, columns: int, trees: int, depth: int, leaf: float, seed: int = 1):
    """The sum over complete trees whose leaves are all `leaf`: the prediction is trees x leaf for every row."""
    chance = random.Random(seed)
    inner, every = 2**depth - 1, 2**(depth + 1) - 1
    modes = ["BRANCH_LEQ"] * inner + ["LEAF"] * (every - inner)
    yes = [2 * i + 1 if i < inner else 0 for i in range(every)]
    no = [2 * i + 2 if i < inner else 0 for i in range(every)]
    n = trees * every
    write(folder, [_node(
        "TreeEnsembleRegressor", "X", "Y", n_targets=1,
        nodes_treeids=[t for t in range(trees) for _ in range(every)], nodes_nodeids=list(range(every)) * trees,
        nodes_featureids=[chance.randrange(columns) for _ in range(n)],
        nodes_values=[chance.random() for _ in range(n)], nodes_modes=modes * trees,
        nodes_truenodeids=yes * trees, nodes_falsenodeids=no * trees,
        target_treeids=[t for t in range(trees) for _ in range(every - inner)],
        target_nodeids=list(range(inner, every)) * trees, target_ids=[0] * (trees * (every - inner)),
        target_weights=[float(leaf)] * (trees * (every - inner)))], columns)


def dividing(folder: pathlib.Path, deadly: int):
    """-2^63 / (x - deadly - 1) in 64 bits, for rows of one whole number, by operators that leave it to ONNX Runtime. For
    x = deadly the quotient has no room in 64 bits, which x86 processors answer with a signal that ends the process; for
    deadly + 1 it is refused as a division by zero."""
    write(folder, [_node("Cast", "X", "A", "", to=7), _node("Sub", "A base", "B", ""), _node("Div", "least B", "C", ""),
                   _node("Cast", "C", "D", "", to=1), _node("Elu", "D", "Y", "")],
          1, [_integer("base", deadly + 1), _integer("least", -2**63)])
