#!/usr/bin/env python3
"""Makes tests/runtime/model/native: small models in the formats of their own libraries, and beside each what the
library answers and, where it can be said, what the shap package explains.

    python3 -m venv .cache/native && .cache/native/bin/pip install -r scripts/native_models.txt
    .cache/native/bin/python scripts/native_models.py

A case is a folder with the model file and expected.json:
    rows           the rows asked, null for a missing value, a text for a category
    predictions    predict_proba() of classifiers, predict() of regressors, a list a row
    base, contributions   of shap's TreeExplainer (path dependent) on the raw score: [output], [row][output][feature]
"""

import json
import pathlib
import shutil
import zipfile

import lightgbm
import numpy as np
import pandas as pd
import shap
import skops.io
import xgboost
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (ExtraTreesClassifier, ExtraTreesRegressor, GradientBoostingClassifier, GradientBoostingRegressor,
                              HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier,
                              RandomForestRegressor)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (MaxAbsScaler, MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder, RobustScaler,
                                   StandardScaler)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "runtime" / "model" / "native"
X, Y = load_diabetes(return_X_y=True, as_frame=True)
X = X[["age", "sex", "bmi", "bp", "s5"]]
Y = Y / 100
IRIS, KIND = load_iris(return_X_y=True)
RNG = np.random.default_rng(7)
HOLES = X.mask(RNG.random(X.shape) < 0.15)
IRIS_HOLES = np.where(RNG.random(IRIS.shape) < 0.15, np.nan, IRIS)


def numbers(a):
    return [x if isinstance(x, str) else None if x != x else float(x) for x in a]


def case(name, rows, predictions, save, explained=None, base=None, contributions=None):
    folder = OUT / name
    folder.mkdir(parents=True)
    save(folder)
    expected = {"rows": [numbers(r) for r in np.asarray(rows, dtype=object)],
                "predictions": np.asarray(predictions, dtype=float).reshape(len(rows), -1).tolist()}
    if base is not None:
        expected["base"], expected["contributions"] = base, contributions
    (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


def shap_of(model, rows):
    two = is_classifier(model) and len(model.classes_) == 2
    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    values = np.asarray(explainer.shap_values(np.asarray(rows, dtype=float), check_additivity=False))
    base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=float))
    if values.ndim == 2:
        values = values[:, :, None]
    values = values.transpose(0, 2, 1)
    if two and base.size == 2:  # two classes have one score here
        base, values = base[1:], values[:, 1:]
    return base.tolist(), values.tolist()


def sklearn_case(name, model, x, y, explain=None, stored=False, count=8):
    model.fit(x, y)
    pick = x.iloc if hasattr(x, "iloc") else x
    rows = pick[:: max(1, len(x) // count)][:count]
    answers = model.predict_proba(rows) if is_classifier(model) else model.predict(rows)
    packing = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED

    def save(folder):
        skops.io.dump(model, folder / "model.skops", compression=packing, compresslevel=None if stored else 9)

    extra = {}
    if explain == "model":
        extra = dict(zip(("base", "contributions"), shap_of(model, rows)))
    elif explain == "last":
        extra = dict(zip(("base", "contributions"), shap_of(model[-1], model[:-1].transform(rows))))
    case(name, rows, answers, save, **extra)


def sklearn_cases():
    two = KIND == 1
    names = np.array(["setosa", "versicolor", "virginica"])[KIND]
    small = dict(n_estimators=3, max_depth=3, random_state=1)
    sklearn_case("forest", make_pipeline(StandardScaler(), RandomForestRegressor(**small)), X, Y, "last", stored=False)
    sklearn_case("forest_missing", RandomForestRegressor(**small), HOLES, Y, "model")
    sklearn_case("forest_targets", RandomForestRegressor(n_estimators=2, max_depth=3, random_state=1), X, np.c_[Y, -Y * X["bmi"]], "model")
    sklearn_case("forest_classes", RandomForestClassifier(**small), IRIS, names, "model")
    sklearn_case("forest_two", RandomForestClassifier(**small), IRIS_HOLES, two, "model")
    sklearn_case("tree", DecisionTreeRegressor(max_depth=4, random_state=1), HOLES, Y, "model", stored=True)
    sklearn_case("tree_classes", DecisionTreeClassifier(max_depth=3, random_state=1), IRIS, KIND, "model")
    sklearn_case("extra_trees", ExtraTreesRegressor(**small), X, Y, "model")
    sklearn_case("extra_trees_classes", ExtraTreesClassifier(**small), IRIS, KIND, "model")
    sklearn_case("boosted", GradientBoostingRegressor(n_estimators=3, max_depth=3, random_state=1), X, Y, "model")
    sklearn_case("boosted_two", GradientBoostingClassifier(n_estimators=3, max_depth=2, random_state=1), IRIS, two, "model")
    sklearn_case("boosted_exponential", GradientBoostingClassifier(loss="exponential", n_estimators=2, max_depth=2, random_state=1), IRIS, two)
    sklearn_case("boosted_classes", GradientBoostingClassifier(n_estimators=2, max_depth=2, random_state=1), IRIS, names)
    histogram = dict(max_iter=4, max_leaf_nodes=8, min_samples_leaf=5, random_state=1, max_bins=16)
    sklearn_case("histogram", HistGradientBoostingRegressor(**histogram), HOLES, Y, "model")
    sklearn_case("histogram_poisson", HistGradientBoostingRegressor(loss="poisson", **histogram), X, Y)
    sklearn_case("histogram_two", HistGradientBoostingClassifier(**histogram), IRIS_HOLES, two, "model")
    sklearn_case("histogram_classes", HistGradientBoostingClassifier(**histogram), IRIS, KIND, "model")
    sklearn_case("linear", LinearRegression(), X, np.c_[Y, 2 * Y - X["bp"]])
    sklearn_case("ridge", make_pipeline(SimpleImputer(strategy="median"), RobustScaler(), Ridge()), HOLES, Y)
    sklearn_case("lasso", make_pipeline(MinMaxScaler(clip=True), Lasso(alpha=0.01)), X, Y)
    sklearn_case("elastic_net", make_pipeline(Normalizer("l1"), MaxAbsScaler(), ElasticNet(alpha=0.01)), X, Y)
    sklearn_case("logistic", make_pipeline(StandardScaler(), LogisticRegression()), IRIS, names)
    sklearn_case("logistic_two", LogisticRegression(), IRIS, two)
    frame = pd.DataFrame({"size": HOLES["bmi"], "shop": np.arange(len(X)) % 3, "grade": (np.arange(len(X)) // 7) % 4 * 10.0,
                          "spare": X["s5"], "unused": X["bp"]})
    columns = ColumnTransformer(
        [("number", make_pipeline(SimpleImputer(), StandardScaler()), ["size"]), ("shop", OneHotEncoder(drop="first"), ["shop"]),
         ("grade", OrdinalEncoder(), ["grade"]), ("unused", "drop", ["unused"])], remainder="passthrough")
    sklearn_case("columns", make_pipeline(columns, LogisticRegression()), frame, Y > 1.4)
    encoder = ColumnTransformer([("shop", OneHotEncoder(handle_unknown="ignore"), [1]), ("rest", "passthrough", [0, 2, 3])])
    sklearn_case("columns_forest", make_pipeline(encoder, RandomForestRegressor(**small)), frame.to_numpy(), Y)
    text_cases(small)


def text_cases(small):
    """Encoders of texts: an array of objects from a frame, and one of unicode."""
    frame = pd.DataFrame({"size": X["bmi"], "colour": np.array(["red", "green", "bl\u00fc", ""])[np.arange(len(X)) % 4],
                          "grade": np.array(["low", "high"])[(np.arange(len(X)) // 9) % 2]})
    columns = ColumnTransformer([("colour", OneHotEncoder(handle_unknown="ignore"), ["colour"]), ("size", StandardScaler(), ["size"]),
                                 ("grade", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["grade"])])
    model = make_pipeline(columns, LogisticRegression()).fit(frame, Y > 1.4)
    rows = frame.iloc[[0, 1, 2, 3, 10, 20, 30]].copy()
    rows.iloc[4, 1] = "unheard of"
    rows.iloc[5, 2] = "middling"
    case("texts", rows, model.predict_proba(rows), lambda folder: skops.io.dump(model, folder / "model.skops", compression=zipfile.ZIP_DEFLATED))
    words = frame[["colour", "grade"]].to_numpy().astype(str)
    trees = make_pipeline(OneHotEncoder(drop="first"), RandomForestRegressor(**small)).fit(words, Y)
    case("texts_forest", words[:8], trees.predict(words[:8]),
         lambda folder: skops.io.dump(trees, folder / "model.skops", compression=zipfile.ZIP_DEFLATED))


def histogram_categories():
    x, y, rows = coded()
    small = dict(max_iter=4, max_leaf_nodes=8, min_samples_leaf=5, random_state=1, max_bins=64)
    codes = HistGradientBoostingRegressor(categorical_features=[0, 2], **small).fit(x, y)
    case("histogram_categories", rows, codes.predict(rows),
         lambda folder: skops.io.dump(codes, folder / "model.skops", compression=zipfile.ZIP_DEFLATED))
    kinds = np.array(["red", "green", "bl\u00fc", "grey", "pink"])[np.nan_to_num(x[:, 2]).astype(int)]
    frame = pd.DataFrame({"size": x[:, 1], "kind": pd.Categorical(kinds), "more": y + x[:, 0] % 3})
    texts = HistGradientBoostingClassifier(categorical_features="from_dtype", **small).fit(frame, y > 1)
    asked = frame.iloc[:9].astype({"kind": object})
    asked.iloc[7, 1] = "unheard of"
    asked.iloc[8, 1] = np.nan
    case("histogram_texts", asked, texts.predict_proba(asked),
         lambda folder: skops.io.dump(texts, folder / "model.skops", compression=zipfile.ZIP_DEFLATED))


def booster_case(name, booster, file, rows, answers, explain=True):
    data = xgboost.DMatrix(rows) if file.startswith("model.j") or file.endswith("ubj") else rows
    extra = {}
    if explain:
        if isinstance(data, xgboost.DMatrix):
            values = booster.predict(data, pred_contribs=True)
        else:
            values = booster.predict(data, pred_contrib=True).reshape(len(rows), -1, rows.shape[1] + 1)
        values = np.asarray(values, dtype=float).reshape(len(rows), -1, rows.shape[1] + 1)
        if getattr(booster, "params", {}).get("boosting") == "rf":
            values /= booster.num_trees()  # LightGBM explains the sum, and predicts the mean
        extra = {"base": values[0, :, -1].tolist(), "contributions": values[:, :, :-1].tolist()}
    case(name, rows, answers, lambda folder: booster.save_model(folder / file), **extra)


def coded():
    """Two columns of codes, one of more than 32 categories, and rows with codes that training had not, and none."""
    random = np.random.default_rng(3)
    shop = random.integers(0, 45, 900).astype(float)
    size = random.normal(size=900)
    kind = random.integers(0, 5, 900).astype(float)
    y = random.normal(size=45)[shop.astype(int)] + size * (kind % 2) + random.normal(size=900) / 10
    x = np.c_[shop, np.where(random.random(900) < 0.1, np.nan, size), np.where(random.random(900) < 0.1, np.nan, kind)]
    rows = np.r_[x[:9], [[3.75, 0.1, 1.5], [44, 0.1, 4], [45, 0.1, 5], [64, 0.1, 31], [1000, -0.5, 32], [np.nan, 0.5, np.nan],
                     [-0.5, -1.5, 0], [-1, -1.5, -3], [2.999999999, -1.5, 0], [1e12, 1, 2.0**31]]]
    return x, y, rows


def xgboost_cases():
    x = HOLES.to_numpy()[:220]
    y = Y.to_numpy()[:220]
    names = list(HOLES.columns)

    def train(params, x, y, rounds=3, **more):
        settings = {"max_depth": 3, "nthread": 1, "seed": 1, **params}
        return xgboost.train(settings, xgboost.DMatrix(x, label=y, **more), rounds)

    rows = x[::28]
    b = train({}, x, y, feature_names=names)
    data = xgboost.DMatrix(rows, feature_names=names)
    values = np.asarray(b.predict(data, pred_contribs=True), dtype=float)[:, None, :]
    for name, file in (("xgboost", "model.json"), ("xgboost_ubj", "model.ubj")):
        case(name, rows, b.predict(data), lambda folder, file=file: b.save_model(folder / file), base=values[0, :, -1].tolist(),
             contributions=values[:, :, :-1].tolist())
    rows = IRIS_HOLES[::21]
    b = train({"objective": "binary:logistic", "base_score": 0.3}, IRIS_HOLES, KIND == 1)
    p = b.predict(xgboost.DMatrix(rows))
    booster_case("xgboost_two", b, "model.json", rows, np.c_[1 - p, p])
    b = train({"objective": "multi:softprob", "num_class": 3}, IRIS_HOLES, KIND, rounds=2)
    booster_case("xgboost_classes", b, "model.json", rows, b.predict(xgboost.DMatrix(rows)))
    b = train({"objective": "count:poisson", "booster": "dart", "rate_drop": 0.5}, IRIS_HOLES, KIND)
    booster_case("xgboost_dart", b, "model.json", rows, b.predict(xgboost.DMatrix(rows)), explain=False)
    b = train({"tree_method": "exact", "gamma": 0.5}, IRIS_HOLES, np.c_[KIND, -KIND], rounds=2)
    booster_case("xgboost_targets", b, "model.json", rows, b.predict(xgboost.DMatrix(rows)))
    x, y, rows = coded()
    for name, file, one_hot in (("xgboost_categories", "model.json", 1), ("xgboost_categories_one", "model.ubj", 100)):
        more = {"feature_types": ["c", "q", "c"], "enable_categorical": True}
        b = train({"tree_method": "hist", "max_cat_to_onehot": one_hot, "max_depth": 4}, x, y, **more)
        data = xgboost.DMatrix(rows, **more)
        values = np.asarray(b.predict(data, pred_contribs=True), dtype=float)[:, None, :]
        case(name, rows, b.predict(data), lambda folder, b=b, file=file: b.save_model(folder / file), base=values[0, :, -1].tolist(),
             contributions=values[:, :, :-1].tolist())


def lightgbm_cases():
    settings = {"num_leaves": 6, "min_data_in_leaf": 5, "num_threads": 1, "seed": 1, "verbose": -1, "deterministic": True, "max_bin": 31}

    def train(params, x, y, rounds=4):
        return lightgbm.train({**settings, **params}, lightgbm.Dataset(x, label=y, free_raw_data=False), rounds)

    x = HOLES.to_numpy()
    rows = x[::55]
    booster_case("lightgbm", b := train({}, x, Y), "model.txt", rows, b.predict(rows))
    rows = X.to_numpy()[::55].copy()
    rows[0, 2] = np.nan  # where training had no missing value
    booster_case("lightgbm_none", b := train({"objective": "tweedie"}, X.to_numpy(), Y), "model.txt", rows, b.predict(rows))
    rows = IRIS_HOLES[::21]
    b = train({"objective": "binary"}, IRIS_HOLES, KIND == 1)
    p = b.predict(rows)
    booster_case("lightgbm_two", b, "model.txt", rows, np.c_[1 - p, p])
    b = train({"objective": "multiclass", "num_class": 3}, IRIS_HOLES, KIND, rounds=2)
    booster_case("lightgbm_classes", b, "model.txt", rows, b.predict(rows))
    b = train({"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1}, IRIS_HOLES, KIND)
    booster_case("lightgbm_average", b, "model.txt", rows, b.predict(rows))
    x, y, rows = coded()
    some = {**settings, "min_data_per_group": 3, "cat_smooth": 1, "cat_l2": 1, "num_leaves": 8, "max_bin": 63}
    for name, params in (("lightgbm_categories", {}), ("lightgbm_categories_one", {"max_cat_to_onehot": 100, "objective": "binary"})):
        target = y > 1 if params else y
        b = lightgbm.train({**some, **params}, lightgbm.Dataset(x, label=target, categorical_feature=[0, 2], free_raw_data=False), 4)
        p = b.predict(rows)
        booster_case(name, b, "model.txt", rows, np.c_[1 - p, p] if params else p)


shutil.rmtree(OUT, ignore_errors=True)
sklearn_cases()
xgboost_cases()
lightgbm_cases()
histogram_categories()
