#!/usr/bin/env python3
"""Trains the models that ship in models/ and those of the tests, with the rows and scikit-learn's own answers.

    python3 -m venv .cache/train && .cache/train/bin/pip install -r scripts/train_models.txt
    .cache/train/bin/python scripts/train_models.py [--only NAME]

Everything is made from data sets inside scikit-learn's own package, seeded, and checked before it is written.

Two things differ from a plain conversion:
  - scikit-learn scales in float64, rounds to float32, then compares. The graph does the same: inputs as double,
    Sub and Div in double, Cast, trees. A Scaler in float32 moves rows that sit on a threshold across it.
  - the direction that missing values take in each node is written too, where the forest was fitted with any.
"""
import argparse
import pathlib
import warnings

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.sklapi import CastTransformer
from sklearn import datasets
from sklearn.ensemble import (ExtraTreesClassifier, GradientBoostingClassifier, GradientBoostingRegressor,
                              HistGradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
DATA = ROOT / "tests/runtime/model/data"
OPSETS = {"": 17, "ai.onnx.ml": 3}
FOREST = dict(n_estimators=100)


def with_missing_direction(graph, forest):
    """Adds what the converter leaves out: where a missing value goes in each node."""
    node = next(n for n in graph.graph.node if n.op_type.startswith("TreeEnsemble"))
    attribute = {a.name: a for a in node.attribute}
    flags, modes = attribute["nodes_missing_value_tracks_true"].ints, attribute["nodes_modes"].strings
    trees = [t.tree_ for t in np.ravel(forest.estimators_)]
    for k, (t, n) in enumerate(zip(attribute["nodes_treeids"].ints, attribute["nodes_nodeids"].ints)):
        flags[k] = int(modes[k] != b"LEAF" and trees[t].missing_go_to_left[n])


def convert(model, width, double=True, missing=False):
    """`double`: scaling runs in float64, as scikit-learn does it."""
    steps = [s for _, s in model.steps] if hasattr(model, "steps") else [model]
    last = steps[-1]
    is_forest = hasattr(last, "estimators_")
    if double and is_forest and len(steps) > 1:
        cast = CastTransformer(dtype=np.float32).fit(np.zeros((1, 1)))
        model = make_pipeline(*steps[:-1], cast, last)
    double = double and (len(steps) > 1 or not is_forest)
    options = {id(last): {"zipmap": False}} if hasattr(last, "predict_proba") else None
    kind = DoubleTensorType if double else FloatTensorType
    graph = to_onnx(model, initial_types=[("X", kind([None, width]))], target_opset=OPSETS, options=options)
    del graph.metadata_props[:]
    # What differs from run to run: the same training is the same file.
    graph.graph.name = "model"
    opsets = sorted(((o.domain, o.version) for o in graph.opset_import))
    del graph.opset_import[:]
    graph.opset_import.extend(helper.make_opsetid(*o) for o in opsets)
    if missing:
        with_missing_direction(graph, last)
    return graph


def answers(model, rows):
    wanted = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)
    return np.asarray(wanted, dtype=np.float64).reshape(len(rows), -1)


def check(name, graph, model, rows, tolerance):
    """ONNX Runtime agrees on every row; `tolerance` is relative to 1 + |answer|, None: not asked."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    kind = np.float64 if source.type == "tensor(double)" else np.float32
    out = session.run(None, {source.name: rows.astype(kind)})
    wanted = answers(model, rows)
    got = np.asarray(out[-1] if hasattr(model, "predict_proba") else out[0]).reshape(wanted.shape)
    difference = np.abs(got - wanted) / (1 + np.abs(wanted))
    print(f"{name}: {[n.op_type for n in graph.graph.node]} {len(graph.SerializeToString()):,} bytes, "
          f"{len(rows)} rows, largest difference {difference.max():.2g}")
    if tolerance is not None and not difference.max() <= tolerance:
        raise SystemExit(f"{name}: {int((difference > tolerance).sum())} rows differ from scikit-learn: not written")


def number(value):
    return "" if np.isnan(value) else repr(float(value))


def write_rows(name, features, rows, **columns):
    """`name`.csv: the rows, then the answers; float64 by their shortest text, a missing value is empty."""
    head, parts = list(features), [rows]
    for title, values in columns.items():
        head += [title] if values.shape[1] == 1 else [f"{title}:{k}" for k in range(values.shape[1])]
        parts.append(values)
    table = np.hstack(parts)
    lines = [",".join(head)] + [",".join(number(v) for v in row) for row in table]
    (DATA / f"{name}.csv").write_text("\n".join(lines) + "\n")


def ship(name, version, graph, features, classes=None):
    folder = MODELS / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    text = f"features: [{', '.join(features)}]\n"
    if classes:
        text += f"classes: [{', '.join(classes)}]\n"
    (folder / "model.yaml").write_text(text)


def shipped_diabetes():
    """The two models of diabetes: the data set's own scaled columns, ten features, 442 rows."""
    data = datasets.load_diabetes()
    features, columns = list(data.feature_names), {}
    for version, depth in ((1, 5), (2, 7), (3, 9)):
        forest = RandomForestRegressor(max_depth=depth, random_state=version, **FOREST)
        model = make_pipeline(StandardScaler(), forest).fit(data.data, data.target)
        graph = convert(model, 10)
        check(f"diabetes-rf-model {version}", graph, model, data.data, 1e-5)
        ship("diabetes-rf-model", version, graph, features)
        columns[f"forest_{version}"] = answers(model, data.data)
    (MODELS / "diabetes-rf-model/model.yaml").write_text("production: 3\n")
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(data.data, data.target)
    graph = convert(model, 10)
    check("diabetes-linear 1", graph, model, data.data, 1e-12)
    ship("diabetes-linear", 1, graph, features)
    columns["linear_1"] = answers(model, data.data)
    write_rows("diabetes", features, data.data, **columns)


def shipped_iris():
    data = datasets.load_iris()
    features = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    model = RandomForestClassifier(n_estimators=20, max_depth=4, random_state=1).fit(data.data, data.target)
    graph = convert(model, 4)
    check("iris-classifier 1", graph, model, data.data, 1e-5)
    ship("iris-classifier", 1, graph, features, list(data.target_names))
    write_rows("iris", features, data.data, probability=answers(model, data.data))


def test_model(name, model, rows, tolerance=1e-5, double=True, missing=False, keep=None):
    graph = convert(model, rows.shape[1], double, missing)
    rows = rows if keep is None else rows[:keep]
    check(name, graph, model, rows, tolerance)
    folder = DATA / name
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return rows, answers(model, rows), graph


def simple_test_model(name, model, rows, **how):
    rows, wanted, _ = test_model(name, model, rows, **how)
    write_rows(name, [f"f{k}" for k in range(rows.shape[1])], rows, answer=wanted)


def tests_raw():
    """Raw units: integers and short decimals, which is what thresholds sit on."""
    data = datasets.load_diabetes(scaled=False)
    forest = RandomForestRegressor(n_estimators=40, max_depth=9, random_state=3)
    model = make_pipeline(StandardScaler(), forest).fit(data.data, data.target)
    simple_test_model("raw", model, data.data)
    # The same trees behind a float32 Scaler: the reference is ONNX Runtime's answer, which is not scikit-learn's.
    graph = convert(model, 10, double=False)
    check("float_scaler", graph, model, data.data, None)
    folder = DATA / "float_scaler"
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    out = session.run(None, {"X": data.data.astype(np.float32)})[0].astype(np.float64).reshape(-1, 1)
    write_rows("float_scaler", data.feature_names, data.data, answer=out)


def tests_missing():
    data = datasets.load_diabetes(scaled=False)
    rows = data.data.copy()
    rows[np.random.default_rng(7).random(rows.shape) < 0.05] = np.nan
    forest = RandomForestRegressor(n_estimators=40, max_depth=8, random_state=3).fit(rows, data.target)
    simple_test_model("missing", forest, rows, missing=True)
    boosted = HistGradientBoostingRegressor(max_iter=20, max_depth=4, random_state=1).fit(rows, data.target)
    simple_test_model("boosted_missing", boosted, rows, double=False)
    imputed = make_pipeline(SimpleImputer(strategy="median"),
                            RandomForestRegressor(n_estimators=10, max_depth=6, random_state=1)).fit(rows, data.target)
    simple_test_model("imputer", imputed, rows, double=False)


def tests_shapes():
    cancer, iris, digits, linnerud = (datasets.load_breast_cancer(), datasets.load_iris(), datasets.load_digits(),
                                      datasets.load_linnerud())
    diabetes = datasets.load_diabetes()
    fit = lambda model, data: model.fit(data.data, data.target)
    simple_test_model("binary_forest", fit(RandomForestClassifier(10, max_depth=5, random_state=1), cancer), cancer.data,
                      keep=200)
    simple_test_model("binary_boosted", fit(GradientBoostingClassifier(n_estimators=20, random_state=1), cancer),
                      cancer.data, keep=200)
    simple_test_model("softmax_boosted", fit(GradientBoostingClassifier(n_estimators=10, random_state=1), iris), iris.data)
    simple_test_model("boosted", fit(GradientBoostingRegressor(n_estimators=20, random_state=1), diabetes), diabetes.data)
    simple_test_model("ten_classes", fit(ExtraTreesClassifier(5, max_depth=6, random_state=1), digits), digits.data,
                      keep=200)
    simple_test_model("three_targets", fit(RandomForestRegressor(10, max_depth=4, random_state=1), linnerud),
                      linnerud.data)
    random = np.random.default_rng(5)
    rows = np.round(random.normal(size=(120, 300)), 1)
    wide = RandomForestRegressor(10, max_depth=6, random_state=1).fit(rows, rows[:, 280] * 3 + rows[:, 299] * rows[:, 1])
    simple_test_model("wide", wide, rows)
    simple_test_model("deep", fit(RandomForestRegressor(8, random_state=1), diabetes), diabetes.data, keep=150)
    simple_test_model("logistic", fit(make_pipeline(StandardScaler(), LogisticRegression()), cancer), cancer.data,
                      keep=200, double=False)
    simple_test_model("logistic_three", fit(make_pipeline(MinMaxScaler(), LogisticRegression()), iris), iris.data,
                      double=False)
    simple_test_model("linear_float", fit(make_pipeline(Normalizer(), LinearRegression()), diabetes), diabetes.data,
                      double=False)
    network = make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(8, 6), max_iter=300, random_state=1))
    simple_test_model("network", fit(network, iris), iris.data, double=False)


def tree_attributes(features, thresholds, leaves, mode="BRANCH_LEQ"):
    """One tree of three nodes for each feature: x[feature] mode threshold ? leaves[0] : leaves[1]."""
    count = len(features)
    per_tree = lambda *values: [v for _ in range(count) for v in values]
    return dict(
        nodes_treeids=[t for t in range(count) for _ in range(3)], nodes_nodeids=per_tree(0, 1, 2),
        nodes_featureids=[v for f in features for v in (f, 0, 0)], nodes_modes=per_tree(mode, "LEAF", "LEAF"),
        nodes_values=[v for t in thresholds for v in (float(t), 0.0, 0.0)], nodes_truenodeids=per_tree(1, 0, 0),
        nodes_falsenodeids=per_tree(2, 0, 0), nodes_missing_value_tracks_true=per_tree(1, 0, 0)), dict(
            treeids=[t for t in range(count) for _ in range(2)], nodeids=per_tree(1, 2), ids=per_tree(0, 0),
            weights=[float(v) for pair in leaves for v in pair])


def fuzz_corpus():
    """Small graphs that between them use every operator that is built in, and some that are broken."""
    folder = ROOT / "tests/fuzz/corpus/model_reader"
    folder.mkdir(parents=True, exist_ok=True)
    ml = lambda op, inputs, outputs, **how: helper.make_node(op, inputs, outputs, domain="ai.onnx.ml", **how)
    node = helper.make_node
    floats = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    doubles = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape)
    labels = helper.make_tensor_value_info("label", TensorProto.INT64, [None])

    def write(name, nodes, inputs, outputs, constants=(), metadata=None):
        graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in OPSETS.items()])
        helper.set_model_props(model, metadata or {})
        (folder / name).write_bytes(model.SerializeToString())

    def forest(op, nodes, leaves, **how):
        prefix = "target_" if op.endswith("Regressor") else "class_"
        outputs = ["Y"] if op.endswith("Regressor") else ["label", "Y"]
        return ml(op, ["X"], outputs, **nodes, **{prefix + k: v for k, v in leaves.items()}, **how)

    nodes, leaves = tree_attributes([0, 1], [0.5, -2], [(1, 2), (3, 4)])
    table, answer = floats("X", None, 2), floats("Y", None, 1)
    write("trees", [forest("TreeEnsembleRegressor", nodes, leaves, n_targets=1)], [table], [answer],
          metadata={"feature_names": '["a", "b"]'})
    write("trees_average", [forest("TreeEnsembleRegressor", nodes, leaves, n_targets=1, base_values=[1.0],
                                   aggregate_function="AVERAGE", post_transform="LOGISTIC")], [table], [answer])
    for mode in ("BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"):
        other, _ = tree_attributes([0, 1], [0.5, -2], [(1, 2), (3, 4)], mode)
        write("trees_" + mode[7:].lower(), [forest("TreeEnsembleRegressor", other, leaves, n_targets=1)], [table], [answer])
    write("trees_binary", [forest("TreeEnsembleClassifier", nodes, leaves, classlabels_int64s=[0, 1],
                                  post_transform="LOGISTIC")], [table], [labels, floats("Y", None, 2)])
    three = dict(leaves, ids=[0, 1, 2, 0])
    write("trees_three", [forest("TreeEnsembleClassifier", nodes, three, classlabels_strings=["a", "b", "c"],
                                 post_transform="SOFTMAX"), ml("ZipMap", ["Y"], ["Z"], classlabels_strings=["a", "b", "c"])],
          [table], [labels, helper.make_value_info("Z", helper.make_sequence_type_proto(
              helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))))])
    write("scaled_trees", [node("Sub", ["D", "mean"], ["C"]), node("Div", ["C", "scale"], ["S"]),
                           node("Cast", ["S"], ["X"], to=TensorProto.FLOAT),
                           forest("TreeEnsembleRegressor", nodes, leaves, n_targets=1)], [doubles("D", None, 2)], [answer],
          [("mean", np.array([0.5, 1.0])), ("scale", np.array([2.0, 4.0]))])
    write("linear", [ml("Imputer", ["X"], ["I"], imputed_value_floats=[1.0, 2.0], replaced_value_float=float("nan")),
                     ml("Scaler", ["I"], ["S"], offset=[1.0, 2.0], scale=[0.5, 0.25]),
                     ml("LinearRegressor", ["S"], ["Y"], coefficients=[1.0, 2.0], intercepts=[3.0], targets=1)],
          [table], [answer])
    write("linear_classes", [ml("Normalizer", ["X"], ["N"], norm="L2"),
                             ml("LinearClassifier", ["N"], ["label", "P"], coefficients=[1.0, 2.0, -1.0, 0.5, 0.0, 1.0],
                                intercepts=[0.0, 1.0, 2.0], classlabels_ints=[0, 1, 2], post_transform="LOGISTIC"),
                             ml("Normalizer", ["P"], ["Y"], norm="L1")], [table], [labels, floats("Y", None, 3)])
    write("network", [node("Gemm", ["X", "W", "B"], ["H"], transB=1, alpha=0.5), node("Relu", ["H"], ["R"]),
                      node("MatMul", ["R", "V"], ["M"]), node("Add", ["M", "A"], ["L"]), node("Tanh", ["L"], ["T"]),
                      node("Sigmoid", ["T"], ["G"]), node("Softmax", ["G"], ["Y"])], [table], [floats("Y", None, 2)],
          [("W", np.ones((3, 2), np.float32)), ("B", np.ones(3, np.float32)), ("V", np.ones((3, 2), np.float32)),
           ("A", np.float32(1))])
    write("columns", [ml("ArrayFeatureExtractor", ["X", "which"], ["P"]), node("Gather", ["X", "which"], ["Q"], axis=1),
                      node("Concat", ["P", "Q", "Z"], ["C"], axis=1), node("Mul", ["C", "P"], ["M"]),
                      ml("Binarizer", ["M"], ["B"], threshold=0.5), node("Flatten", ["B"], ["F"]),
                      node("Reshape", ["F", "shape"], ["I"]), node("Identity", ["I"], ["Y"])],
          [table, floats("Z", None, 1)], [floats("Y", None, 3)],
          [("which", np.array([1], np.int64)), ("shape", np.array([-1, 3], np.int64))])
    circle = dict(nodes, nodes_modes=["BRANCH_LEQ"] * 6, nodes_truenodeids=[1, 2, 0] * 2, nodes_falsenodeids=[2, 0, 1] * 2)
    write("broken_circle", [forest("TreeEnsembleRegressor", circle, leaves, n_targets=1)], [table], [answer])
    wide = dict(nodes, nodes_featureids=[7, 0, 0, 1, 0, 0])
    write("broken_feature", [forest("TreeEnsembleRegressor", wide, leaves, n_targets=1)], [table], [answer])
    whole = (folder / "trees_binary").read_bytes()
    (folder / "broken_short").write_bytes(whole[:len(whole) * 2 // 3])
    (folder / "broken_operator").write_bytes(whole.replace(b"TreeEnsembleClassifier", b"TreeEnsembleClassifyer"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = {f.__name__: f for f in (shipped_diabetes, shipped_iris, tests_raw, tests_missing, tests_shapes,
                                   fuzz_corpus)}
    parser.add_argument("--only", choices=jobs, help="one part")
    only = parser.parse_args().only
    warnings.filterwarnings("ignore", category=UserWarning)
    DATA.mkdir(parents=True, exist_ok=True)
    for name, job in jobs.items():
        if only in (None, name):
            job()


if __name__ == "__main__":
    main()
