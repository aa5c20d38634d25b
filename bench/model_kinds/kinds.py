"""The models that run.py writes as their owners would: what each answers itself, its files, its rows."""
import sys
import zipfile

import lightgbm
import numpy as np
import onnx
import onnxmltools
import pandas
import skops.io
import xgboost
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from skl2onnx.common.data_types import FloatTensorType as SklFloat
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import (ExtraTreesClassifier, ExtraTreesRegressor, GradientBoostingClassifier, GradientBoostingRegressor,
                              HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier,
                              RandomForestRegressor)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

OPSET = {"": 17, "ai.onnx.ml": 3}
DATA = {"regressor": load_diabetes(return_X_y=True, scaled=False), "2 classes": load_breast_cancer(return_X_y=True),
        "3 classes": load_wine(return_X_y=True)}

make_attribute = helper.make_attribute


def attribute_of_integers(key, value, *others, **more):
    """skl2onnx hands booleans over for integers (the missing values' directions), which newer releases of protobuf refuse."""
    if isinstance(value, (list, np.ndarray)) and any(isinstance(v, (bool, np.bool_)) for v in value):
        value = [int(v) for v in value]
    return make_attribute(key, value, *others, **more)


helper.make_attribute = attribute_of_integers


class kind:
    """`table`: the rows as the library takes them; `cells`: as a request has them; `feeds(part)`: as ONNX Runtime takes them."""

    def __init__(self, name, library, model, table, files, graph=None, trees=False, predict=None, feeds=None, cells=None, yaml=None):
        self.name, self.library, self.trees, self.yaml = name, library, trees, yaml
        self.table, self.files, self.graph = table, files, graph
        self.predict = predict or (lambda part: (model.predict_proba if hasattr(model, "predict_proba") else model.predict)(part))
        self.feeds = feeds or (lambda part: {"X": part.astype(np.float32)})
        self.cells = cells or [[None if np.isnan(v) else float(v) for v in row] for row in table]


def thresholds(model, width):
    """By feature, what its trees compare with."""
    found = [[] for _ in range(width)]
    if isinstance(model, xgboost.XGBModel):
        for _, t in model.get_booster().trees_to_dataframe().iterrows():
            if t["Feature"] != "Leaf":
                found[int(t["Feature"][1:])].append(t["Split"])
    elif isinstance(model, lightgbm.LGBMModel):
        for _, t in model.booster_.trees_to_dataframe().iterrows():
            if isinstance(t["split_feature"], str):
                found[int(t["split_feature"].split("_")[1])].append(t["threshold"])
    elif hasattr(model, "_predictors"):
        for tree in (t for stage in model._predictors for t in stage):
            for node in tree.nodes:
                if not node["is_leaf"]:
                    found[node["feature_idx"]].append(node["num_threshold"])
    elif hasattr(model, "estimators_"):
        for tree in np.ravel(model.estimators_):
            for f, t in zip(tree.tree_.feature, tree.tree_.threshold):
                if f >= 0:
                    found[f].append(t)
    return found


def rows_like(x, model, count, missing):
    """Each row's values out of two training rows; of trees, a fifth of the values stands on a threshold or right beside one."""
    random = np.random.default_rng(1)
    pick = random.integers(0, len(x), (2, count))
    rows = np.where(random.random((count, x.shape[1])) < 0.75, x[pick[0]], x[pick[1]])
    for f, values in enumerate(thresholds(model, x.shape[1])):
        values = [v for v in values if np.isfinite(v)]
        if values:
            on = random.choice(values, count)
            beside = np.nextafter(on.astype(np.float32), random.choice([-np.inf, np.inf], count).astype(np.float32)).astype(float)
            rows[:, f] = np.where(random.random(count) < 0.2, np.where(random.random(count) < 0.5, on, beside), rows[:, f])
    if missing:
        rows[random.random(rows.shape) < 0.05] = np.nan
    return np.ascontiguousarray(rows)


def graph_of(model, width):
    if isinstance(model, xgboost.XGBModel):
        return onnxmltools.convert_xgboost(model, initial_types=[("X", FloatTensorType([None, width]))], target_opset=15)
    if isinstance(model, lightgbm.LGBMModel):
        return onnxmltools.convert_lightgbm(model, initial_types=[("X", FloatTensorType([None, width]))], target_opset=15, zipmap=False)
    last = model[-1] if hasattr(model, "steps") else model
    options = {id(last): {"zipmap": False}} if hasattr(last, "predict_proba") else None
    return to_onnx(model, initial_types=[("X", SklFloat([None, width]))], target_opset=OPSET, options=options)


def writers(model, graph):
    files = {}
    if isinstance(model, xgboost.XGBModel):
        files = {f"model.{e}": lambda path: model.save_model(path) for e in ("json", "ubj")}
    elif isinstance(model, lightgbm.LGBMModel):
        files = {"model.txt": lambda path: model.booster_.save_model(path)}
    else:
        files = {"model.skops": lambda path: skops.io.dump(model, path, compression=zipfile.ZIP_DEFLATED)}
    if graph is not None:
        files["model.onnx"] = lambda path: onnx.save(graph, path)
    return files


def of_table(name, library, model, data, count, trees=False, missing=False):
    x, y = DATA[data]
    random = np.random.default_rng(0)
    train = np.where(random.random(x.shape) < 0.05, np.nan, x) if missing else x
    model.fit(train, y)
    table = rows_like(x, model, count, missing)
    name = f"{name}, {data}" if data != "regressor" else name
    try:
        graph = graph_of(model, x.shape[1])
    except Exception as e:  # whatever a converter raises
        print(f"{name} does not become ONNX: {type(e).__name__}: {' '.join(str(e).split())[:160]} ... {str(e)[-160:]}", file=sys.stderr)
        graph = None
    return kind(name, library, model, table, writers(model, graph), graph, trees)


def one_hot(count, texts):
    """Two columns of categories, numbers or texts, beside numbers."""
    x, y = DATA["3 classes"]
    codes = np.stack([np.digitize(x[:, 0], [12, 13, 14]), np.digitize(x[:, 9], [3, 5, 8])], axis=1)
    names = ["red", "rosé", "white", "none"]
    random = np.random.default_rng(1)
    pick = random.integers(0, len(x), count)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    if not texts:
        wide = np.hstack([codes.astype(float), x[:, 1:9]])
        model = make_pipeline(ColumnTransformer([("kind", encoder, [0, 1]), ("number", StandardScaler(), list(range(2, 10)))]),
                              LogisticRegression(max_iter=500)).fit(wide, y)
        graph = graph_of(model, 10)
        return kind("ColumnTransformer (OneHotEncoder of numbers, StandardScaler) + LogisticRegression, 3 classes", "scikit-learn",
                    model, np.ascontiguousarray(wide[pick]), writers(model, graph), graph)
    frame = pandas.DataFrame({"colour": np.array(names, dtype=object)[codes[:, 0]], "shade": np.array(names, dtype=object)[codes[:, 1]],
                              **{f"n{i}": x[:, i] for i in range(1, 9)}})
    numbers = list(frame.columns[2:])
    model = make_pipeline(ColumnTransformer([("kind", encoder, ["colour", "shade"]), ("number", StandardScaler(), numbers)]),
                          RandomForestClassifier(100, max_depth=9, random_state=0)).fit(frame, y)
    types = [("colour", StringTensorType([None, 1])), ("shade", StringTensorType([None, 1]))] + [(n, SklFloat([None, 1])) for n in numbers]
    graph = to_onnx(model, initial_types=types, target_opset=OPSET, options={id(model[-1]): {"zipmap": False}})
    table = frame.iloc[pick].reset_index(drop=True)
    feeds = lambda part: {c: part[[c]].to_numpy() if c in ("colour", "shade") else part[[c]].to_numpy(np.float32) for c in part}
    return kind("ColumnTransformer (OneHotEncoder of texts, StandardScaler) + RandomForestClassifier, 3 classes", "scikit-learn", model,
                table, writers(model, graph), graph, feeds=feeds, cells=table.to_numpy(object).tolist())


def cnn(count):
    random = np.random.default_rng(0)
    weight = lambda name, *shape: numpy_helper.from_array((random.standard_normal(shape) * 0.3).astype(np.float32), name)
    nodes = [helper.make_node("Conv", ["X", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["r"]),
             helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), helper.make_node("Flatten", ["p"], ["f"]),
             helper.make_node("Gemm", ["f", "w2", "b2"], ["g"]), helper.make_node("Softmax", ["g"], ["probabilities"], axis=-1)]
    graph = helper.make_model(
        helper.make_graph(nodes, "cnn", [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", 1, 8, 8])],
                          [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
                          [weight("w1", 8, 1, 3, 3), weight("b1", 8), weight("w2", 128, 10), weight("b2", 10)]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    evaluate = ReferenceEvaluator(graph)
    table = (load_digits().data[:count] / 16).reshape(-1, 1, 8, 8)
    return kind("Convolutional network [N, 1, 8, 8], 10 classes", "onnx (reference)", None, table,
                {"model.onnx": lambda path: onnx.save(graph, path)}, graph, cells=table.reshape(len(table), -1).tolist(),
                predict=lambda part: evaluate.run(None, {"X": part.astype(np.float32)})[0],
                yaml="classes: [" + ", ".join(f'"{i}"' for i in range(10)) + "]\n")


def categorical(count, which):
    """A column whose splits are sets of categories."""
    x, y = DATA["regressor"]
    frame = pandas.DataFrame({f"f{i}": x[:, i] for i in range(x.shape[1])})
    group = np.digitize(x[:, 2], np.quantile(x[:, 2], np.linspace(0.1, 0.9, 9)))
    shuffled = np.random.default_rng(2).permutation(10)[group]
    pick = np.random.default_rng(1).integers(0, len(x), count)
    frame["f2"] = pandas.Categorical(shuffled)
    if which == "XGBoost":
        model = xgboost.XGBRegressor(n_jobs=1, enable_categorical=True, max_cat_to_onehot=1).fit(frame, y)
    elif which == "LightGBM":
        model = lightgbm.LGBMRegressor(n_jobs=1, verbose=-1).fit(frame, y, categorical_feature=["f2"])
    else:
        model = HistGradientBoostingRegressor(categorical_features=["f2"]).fit(frame, y)
    table = frame.iloc[pick].reset_index(drop=True)
    return kind(type(model).__name__ + " with a categorical column", which, model, table, writers(model, None), None, trees=True,
                cells=table.astype(float).to_numpy().tolist())


def all_kinds(smoke):
    """One after the other: name, and what makes it."""
    n, many = (256, 10) if smoke else (2048, 100)
    made = []
    for data in DATA:
        regressor = data == "regressor"
        pick = lambda r, c: r if regressor else c
        sk = "scikit-learn"
        for make in (pick(RandomForestRegressor, RandomForestClassifier), pick(ExtraTreesRegressor, ExtraTreesClassifier),
                     pick(GradientBoostingRegressor, GradientBoostingClassifier)):
            made.append((make.__name__, lambda name, make=make, data=data: of_table(
                name, sk, make(n_estimators=many, random_state=0), data, n, trees=True)))
        make = pick(HistGradientBoostingRegressor, HistGradientBoostingClassifier)
        made.append((make.__name__, lambda name, make=make, data=data: of_table(
            name, sk, make(max_iter=many, random_state=0), data, n, trees=True, missing=True)))
        make = pick(xgboost.XGBRegressor, xgboost.XGBClassifier)
        made.append((make.__name__, lambda name, make=make, data=data: of_table(
            name, "XGBoost", make(n_estimators=many, n_jobs=1), data, n, trees=True, missing=True)))
        make = pick(lightgbm.LGBMRegressor, lightgbm.LGBMClassifier)
        made.append((make.__name__, lambda name, make=make, data=data: of_table(
            name, "LightGBM", make(n_estimators=many, n_jobs=1, verbose=-1), data, n, trees=True, missing=True)))
    head = lambda: [SimpleImputer(strategy="median"), StandardScaler()]
    simple = [
        ("LinearRegression", LinearRegression, "regressor", False, False),
        ("Ridge", Ridge, "regressor", False, False),
        ("LogisticRegression", lambda: LogisticRegression(max_iter=5000), "2 classes", False, False),
        ("LogisticRegression", lambda: LogisticRegression(max_iter=5000), "3 classes", False, False),
        ("SimpleImputer + StandardScaler + Ridge", lambda: make_pipeline(*head(), Ridge()), "regressor", True, False),
        ("SimpleImputer + StandardScaler + LogisticRegression", lambda: make_pipeline(*head(), LogisticRegression()), "2 classes", True, False),
        ("SimpleImputer + StandardScaler + RandomForestRegressor",
         lambda: make_pipeline(*head(), RandomForestRegressor(many, max_depth=9, random_state=0)), "regressor", True, True),
        ("SimpleImputer + StandardScaler + GradientBoostingClassifier",
         lambda: make_pipeline(*head(), GradientBoostingClassifier(n_estimators=many, random_state=0)), "2 classes", True, True),
        ("StandardScaler + MLPClassifier",
         lambda: make_pipeline(StandardScaler(), MLPClassifier((64, 64), max_iter=30, random_state=0)), "3 classes", False, False),
    ]
    for name, make, data, missing, trees in simple:
        made.append((name, lambda name, make=make, data=data, missing=missing, trees=trees: of_table(
            name, "scikit-learn", make(), data, n, trees, missing)))
    made.append(("OneHotEncoder of numbers", lambda name: one_hot(n, False)))
    made.append(("OneHotEncoder of texts", lambda name: one_hot(n, True)))
    made.append(("CNN", lambda name: cnn(256)))
    for which in ("scikit-learn", "XGBoost", "LightGBM"):
        made.append((which + " with a categorical column", lambda name, which=which: categorical(n, which)))
    return made
