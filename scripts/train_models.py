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
FOREST = dict(n_estimators=100, n_jobs=2)


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
    forest = RandomForestRegressor(n_estimators=40, max_depth=9, random_state=3, n_jobs=2)
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
    forest = RandomForestRegressor(n_estimators=40, max_depth=8, random_state=3, n_jobs=2).fit(rows, data.target)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = {f.__name__: f for f in (shipped_diabetes, shipped_iris, tests_raw, tests_missing, tests_shapes)}
    parser.add_argument("--only", choices=jobs, help="one part")
    only = parser.parse_args().only
    warnings.filterwarnings("ignore", category=UserWarning)
    DATA.mkdir(parents=True, exist_ok=True)
    for name, job in jobs.items():
        if only in (None, name):
            job()


if __name__ == "__main__":
    main()
