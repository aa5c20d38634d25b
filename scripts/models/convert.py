#!/usr/bin/env python3
"""Turns a Python model of an MLflow registry into a file that Troupe reads without Python, and checks it first.

    troupe models import models:/churn/1 --register       # runs this with the registry's address and credentials
    convert.py models:/churn/1 --output DIRECTORY         # by hand: MLFLOW_TRACKING_URI, TROUPE_PROGRAM

What comes out, the first that scores every row as the Python model does:
    scikit-learn        model.skops (its own numbers, nothing is lost), else model.onnx
    XGBoost, LightGBM   model.ubj, model.txt, as their own save_model writes them; within a Pipeline model.onnx
    PyTorch             model.onnx, traced with the input example

Loading a pickle runs its code: do this for models that you trust, where you trained them. A node never does it.

Two things differ from a plain conversion by skl2onnx. Scalers in front of trees run in double and are rounded to
float only then, as scikit-learn does it: in float, rows that sit exactly on a threshold fall to its other side. And
the direction that missing values take in each node is written, where the forest was fitted with any.
"""

import argparse
import contextlib
import csv
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import warnings

OPSETS = {"": 17, "ai.onnx.ml": 3}
PACKAGES = {"mlflow": "mlflow", "numpy": "numpy", "pandas": "pandas", "sklearn": "scikit-learn", "skops": "skops",
            "skl2onnx": "skl2onnx", "onnx": "onnx", "onnxmltools": "onnxmltools", "xgboost": "xgboost",
            "lightgbm": "lightgbm", "torch": "torch", "cloudpickle": "cloudpickle"}


class Refused(Exception):
    """One line for the user."""


def need(*modules):
    """Imports them; says in one line how to install what is missing."""
    found, missing = [], []
    for name in modules:
        try:
            found.append(__import__(name))
        except ImportError:
            missing.append(PACKAGES.get(name, name))
    if missing:
        raise Refused(f"{sys.executable} lacks {', '.join(missing)}: pip install {' '.join(missing)}")
    return found[0] if len(found) == 1 else found


# --- the model and rows for it


class Model:
    """What was registered: the estimator, its rows, and how it answers them."""

    def __init__(self, reference):
        mlflow = need("mlflow", "numpy", "pandas")[0]
        self.folder = pathlib.Path(mlflow.artifacts.download_artifacts(artifact_uri=reference))
        self.info = mlflow.models.Model.load(str(self.folder))
        self.flavours = self.info.flavors
        self.kind = next((f for f in ("sklearn", "xgboost", "lightgbm", "pytorch") if f in self.flavours), None)
        if self.kind is None:
            raise Refused(f"{reference} has the flavours {', '.join(self.flavours) or 'none'}; sklearn, xgboost, "
                          "lightgbm and pytorch are converted")
        need({"pytorch": "torch"}.get(self.kind, self.kind))
        __import__(f"mlflow.{self.kind}")
        try:
            self.estimator = getattr(mlflow, self.kind).load_model(str(self.folder))
        except ImportError as error:
            name = (error.name or "").split(".")[0]
            raise Refused(f"the model needs {name or error}: pip install {PACKAGES.get(name, name)}") from None
        self.steps = [step for _, step in self.estimator.steps] if hasattr(self.estimator, "steps") else [self.estimator]
        self.last = self.steps[-1]
        self.names = self._names()
        self.width = len(self.names) if self.names else self._width()

    def _names(self):
        for owner in (self.estimator, self.steps[0]):
            names = getattr(owner, "feature_names_in_", None)
            if names is not None:
                return [str(n) for n in names]
        return None

    def _width(self):
        for owner in (self.estimator, self.steps[0]):
            for attribute in ("n_features_in_", "num_feature"):
                width = getattr(owner, attribute, None)
                if callable(width):
                    width = width()
                if width:
                    return int(width)
        if hasattr(self.estimator, "num_features"):  # a booster of XGBoost
            return int(self.estimator.num_features())
        example = self.example()
        if example is not None:
            return example.shape[1]
        raise Refused("how many features it takes is not known: log it with an input example, or give --rows")

    def example(self):
        """The version's own input example, a matrix; None: it has none of numbers."""
        import numpy as np
        said = self.info.saved_input_example_info or {}
        file = self.folder / said.get("artifact_path", "")
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text())
            for key in ("data", "inputs"):
                content = content[key] if isinstance(content, dict) and key in content else content
            rows = np.asarray(content, dtype=float)
        except (ValueError, TypeError):
            return None
        return rows.reshape(1, -1) if rows.ndim == 1 else rows if rows.ndim == 2 else None

    def frame(self, rows):
        import pandas as pd
        return pd.DataFrame(rows, columns=self.names) if self.names else rows

    def answer(self, rows):
        """As Troupe answers: probabilities of a classifier, values of a regressor."""
        import numpy as np
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = self.estimator
            if self.kind == "xgboost" and type(estimator).__name__ == "Booster":
                import xgboost
                wanted = estimator.predict(xgboost.DMatrix(rows, feature_names=estimator.feature_names))
            elif self.kind == "pytorch":
                import torch
                with torch.no_grad():
                    wanted = estimator.eval()(torch.tensor(rows, dtype=torch.float32)).numpy()
            elif hasattr(estimator, "predict_proba"):
                wanted = estimator.predict_proba(self.frame(rows))
            else:
                wanted = estimator.predict(self.frame(rows))
        wanted = np.asarray(wanted, dtype=float)
        return wanted.reshape(len(rows), -1)

    def thresholds(self):
        """Values that the trees compare each feature with, as the model's own input has them."""
        import numpy as np
        found = [[] for _ in range(self.width)]
        trees = [t.tree_ for t in np.ravel(getattr(self.last, "estimators_", [self.last])) if hasattr(t, "tree_")]
        for tree in trees[:50]:
            for feature, value in zip(tree.feature, tree.threshold):
                if 0 <= feature < self.width:
                    found[feature].append(float(value))
        values = [sorted(set(f)) or [-1.0, 0.0, 1.0] for f in found]
        for step in reversed(self.steps[:-1]):
            if not hasattr(step, "inverse_transform") or getattr(step, "n_features_in_", 0) != self.width:
                return None
            longest = max(map(len, values))
            table = np.array([np.resize(v, longest) for v in values]).T
            try:
                values = [sorted(set(column)) for column in step.inverse_transform(table).T]
            except Exception:  # the step can't go back
                return None
        return values

    def made_rows(self, count=400):
        """Rows like those of training: on the scale that the model itself knows, many exactly on a threshold."""
        import numpy as np
        chance = np.random.default_rng(1)
        rows = chance.normal(size=(count, self.width))
        scaler = next((s for s in self.steps if getattr(s, "mean_", None) is not None and getattr(s, "scale_", None) is not None), None)
        if scaler is not None and len(scaler.mean_) == self.width:
            rows = rows * scaler.scale_ + scaler.mean_
            rows = np.round(rows, 2)
        values = self.thresholds()
        if values:
            for column, known in enumerate(values):
                pick = chance.random(count) < 0.5
                rows[pick, column] = chance.choice(known, pick.sum())
        return rows


def rows_of_csv(path, width):
    import numpy as np
    with open(path, newline="") as file:
        lines = [line for line in csv.reader(file) if line]

    def numbers(line):
        return [float(cell) if cell.strip() else float("nan") for cell in line]

    try:
        numbers(lines[0])
    except ValueError:
        lines = lines[1:]
    except IndexError:
        pass
    try:
        rows = np.array([numbers(line) for line in lines], dtype=float)
    except ValueError as error:
        raise Refused(f"{path}: expected numbers in all rows but the first ({error})") from None
    if rows.ndim != 2 or rows.shape[1] != width:
        raise Refused(f"{path}: expected rows of {width} numbers")
    return rows


def probe(model, path):
    """-> the rows that are compared, and rows with missing values, or None. Made ones count only where the Python
    model takes them."""
    import numpy as np
    parts = []
    if path:
        parts.append(rows_of_csv(path, model.width))
    else:
        example = model.example()
        if example is not None and example.shape[1] == model.width:
            parts.append(example)
    if model.kind != "pytorch" or not parts:
        made = model.made_rows()
        if takes(model, made):
            parts.append(made)
    if not parts:
        raise Refused("there are no rows to compare on: give training rows as --rows FILE.csv")
    rows = np.vstack(parts)
    holes = np.where(np.random.default_rng(2).random(rows.shape) < 0.05, np.nan, rows)
    return rows, holes if takes(model, holes) else None


def takes(model, rows):
    """Whether the Python model gives numbers for them: encoders know some values only, others none missing."""
    import numpy as np
    try:
        return bool(np.isfinite(model.answer(rows)).all())
    except Exception:
        return False


# --- conversions: each writes one file into a folder


def to_skops(model, folder):
    skops_io = need("skops", "skops.io") and sys.modules["skops.io"]
    skops_io.dump(model.estimator, folder / "model.skops")


def with_missing_direction(graph, forest):
    """Writes where a missing value goes in each node; skl2onnx leaves it out."""
    import numpy as np
    trees = [t.tree_ for t in np.ravel(getattr(forest, "estimators_", [forest])) if hasattr(t, "tree_")]
    for node in graph.graph.node:
        if not node.op_type.startswith("TreeEnsemble"):
            continue
        attributes = {a.name: a for a in node.attribute}
        if "nodes_missing_value_tracks_true" not in attributes:
            continue
        flags, modes = attributes["nodes_missing_value_tracks_true"].ints, attributes["nodes_modes"].strings
        for k, (tree, at) in enumerate(zip(attributes["nodes_treeids"].ints, attributes["nodes_nodeids"].ints)):
            left = getattr(trees[tree], "missing_go_to_left", None)
            flags[k] = int(left is not None and modes[k] != b"LEAF" and left[at])


def teach_boosters(last):
    """skl2onnx learns to convert a booster at the end of a Pipeline."""
    library = type(last).__module__.split(".")[0]
    if library not in ("xgboost", "lightgbm"):
        return
    need("onnxmltools")
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes
    classifies = hasattr(last, "predict_proba")
    if library == "xgboost":
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as convert
    else:
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as convert
    update_registered_converter(
        type(last), library.capitalize() + type(last).__name__,
        shapes.calculate_linear_classifier_output_shapes if classifies else shapes.calculate_linear_regressor_output_shapes,
        convert, options={"nocl": [True, False], "zipmap": [True, False, "columns"]} if classifies else None)


def to_onnx(model, folder):
    need("skl2onnx", "onnx", "numpy")
    import numpy as np
    from skl2onnx import to_onnx as convert
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.sklapi import CastTransformer
    from sklearn.pipeline import make_pipeline
    teach_boosters(model.last)
    library = type(model.last).__module__.split(".")[0]
    trees = hasattr(model.last, "tree_") or hasattr(model.last, "estimators_") or library in ("xgboost", "lightgbm")
    estimator, steps = model.estimator, model.steps
    if trees and len(steps) > 1:
        estimator = make_pipeline(*steps[:-1], CastTransformer(dtype=np.float32).fit(np.zeros((1, 1))), steps[-1])
    kind = FloatTensorType if trees and len(steps) == 1 else DoubleTensorType
    options = {id(model.last): {"zipmap": False}} if hasattr(model.last, "predict_proba") else None
    graph = convert(estimator, initial_types=[("X", kind([None, model.width]))], target_opset=OPSETS, options=options)
    if type(model.last).__module__.startswith(("sklearn.ensemble._forest", "sklearn.tree")):
        with_missing_direction(graph, model.last)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    if model.names:
        (folder / "model.yaml").write_text(json.dumps({"features": model.names}) + "\n")


def to_xgboost(model, folder):
    model.estimator.save_model(str(folder / "model.ubj"))


def to_lightgbm(model, folder):
    booster = getattr(model.estimator, "booster_", model.estimator)
    booster.save_model(str(folder / "model.txt"))


def to_torch(model, folder):
    torch = need("torch", "onnx")[0]
    example = torch.zeros((2, model.width), dtype=torch.float32)
    torch.onnx.export(model.estimator.eval().cpu(), (example,), str(folder / "model.onnx"), input_names=["X"],
                      output_names=["Y"], dynamic_axes={"X": {0: "rows"}, "Y": {0: "rows"}}, opset_version=17,
                      **({"dynamo": False} if int(torch.__version__.split(".")[0]) >= 2 else {}))


CONVERSIONS = {"sklearn": (to_skops, to_onnx), "xgboost": (to_xgboost,), "lightgbm": (to_lightgbm,), "pytorch": (to_torch,)}


# --- agreement


def scored(folder, rows):
    """What Troupe itself answers with that file."""
    program = os.environ.get("TROUPE_PROGRAM") or shutil.which("troupe")
    if not program:
        raise Refused("TROUPE_PROGRAM does not name the troupe program, which checks the result")
    lines = "".join(json.dumps([None if v != v else v for v in map(float, row)]) + "\n" for row in rows)
    done = subprocess.run([program, "models", "score", str(folder), "-", "--json", "--set", "models.engine=auto"],
                          input=lines, text=True, capture_output=True, check=False)
    if done.returncode:
        raise Refused((done.stderr.strip().splitlines() or ["troupe models score failed"])[-1].removeprefix("troupe: "))
    return json.loads(done.stdout)


def compare(model, folder, rows, tolerance):
    """-> engine and largest difference, relative to 1 + |answer|."""
    import numpy as np
    wanted = model.answer(rows)
    answered = scored(folder, rows)
    got = np.array([[np.nan if v is None else v for v in row] for row in answered["rows"]], dtype=float)
    if got.shape[1] == 2 * wanted.shape[1] == 2:  # two classes, of which Python says the second
        got = got[:, 1:]
    if got.shape != wanted.shape:
        raise Refused(f"it answers {got.shape[1]} numbers a row, the Python model {wanted.shape[1]}")
    difference = np.abs(got - wanted) / (1 + np.abs(wanted))
    difference = np.where(np.isnan(difference), np.inf, difference)
    off = int((difference > tolerance).any(axis=1).sum())
    if off:
        raise Refused(f"{off} of {len(rows)} rows differ from the Python model, by up to {difference.max():.2g}")
    return answered["engine"], float(difference.max())


def convert(model, rows, holes, tolerance, into):
    """Tries one conversion after the other -> file, engine, difference, whether values may be missing."""
    reasons = []
    for conversion in CONVERSIONS[model.kind]:
        folder = into / conversion.__name__
        folder.mkdir()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                conversion(model, folder)
            engine, difference = compare(model, folder, rows, tolerance)
            missing = holes is not None
            if missing:
                try:
                    difference = max(difference, compare(model, folder, holes, tolerance)[1])
                except Refused as why:
                    # Refusing a request with a missing value is no wrong answer; another answer would be one.
                    if "is missing, and the model says nothing" not in str(why):
                        raise
                    missing = False
            return folder, engine, difference, missing
        except Refused as why:
            reasons.append(f"{conversion.__name__[3:]}: {why}")
        except Exception as error:  # a converter's own words
            reasons.append(f"{conversion.__name__[3:]}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    raise Refused("not converted; " + "; ".join(reasons))


# --- the registry


def write_mlmodel(model, folder):
    """An MLmodel that names the file; signature and input example go along."""
    import yaml
    file = next(p.name for p in sorted(folder.iterdir()) if p.name.startswith("model.") and p.suffix != ".yaml")
    flavours = {
        "model.skops": {"sklearn": {"pickled_model": file, "serialization_format": "skops"}},
        "model.ubj": {"xgboost": {"data": file, "model_format": "ubj"}},
        "model.txt": {"lightgbm": {"data": file}},
        "model.onnx": {"onnx": {"data": file}},
    }[file]
    said = {"flavors": flavours}
    original = yaml.safe_load((model.folder / "MLmodel").read_text())
    for key in ("signature", "saved_input_example_info", "mlflow_version"):
        if original.get(key):
            said[key] = original[key]
    example = (original.get("saved_input_example_info") or {}).get("artifact_path")
    if example and (model.folder / example).is_file():
        shutil.copyfile(model.folder / example, folder / example)
    (folder / "MLmodel").write_text(yaml.safe_dump(said, sort_keys=False))


def register(model, reference, folder):
    """A new version of the same name -> its number."""
    import mlflow
    client = mlflow.MlflowClient()
    name, _, version = reference[len("models:/"):].partition("/")
    original = client.get_model_version(name, version)
    experiment = client.get_run(original.run_id).info.experiment_id if original.run_id else "0"
    run = client.create_run(experiment, run_name=f"convert {name} {version}")
    client.log_artifacts(run.info.run_id, str(folder), "model")
    client.set_terminated(run.info.run_id)
    made = client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id,
                                       tags={"converted_from": version},
                                       description=f"Version {version}, converted to be served without Python")
    return made.version


def resolved(reference):
    """models:/name@alias, models:/name/Stage or models:/name/latest -> models:/name/3."""
    mlflow = need("mlflow")
    client = mlflow.MlflowClient()
    if not reference.startswith("models:/"):
        raise Refused(f"'{reference}' is no reference; write models:/NAME/1")
    rest = reference[len("models:/"):]
    name, at, alias = rest.partition("@")
    if at:
        return f"models:/{name}/{client.get_model_version_by_alias(name, alias).version}"
    name, _, version = rest.partition("/")
    if version.isdigit():
        client.get_model_version(name, version)
        return reference
    found = client.search_model_versions(f"name='{name}'")
    if version != "latest":
        found = [v for v in found if v.current_stage == version]
    if not found:
        raise Refused(f"{reference}: the registry has no such version")
    return f"models:/{name}/{max(int(v.version) for v in found)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("--register", action="store_true", help="add the result as a new version")
    parser.add_argument("--output", help="folder to write the model file to")
    parser.add_argument("--rows", help="CSV of rows to compare on, such as training rows")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest difference relative to 1 + |answer|")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    random.seed(1)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # MLflow prints where a run is seen
            reference = resolved(options.reference)
            model = Model(reference)
            with tempfile.TemporaryDirectory() as scratch:
                rows, holes = probe(model, options.rows)
                folder, engine, difference, missing = convert(model, rows, holes, options.tolerance, pathlib.Path(scratch))
                file = next(p.name for p in sorted(folder.iterdir()) if p.name.startswith("model.") and p.suffix != ".yaml")
                done = {"reference": reference, "file": file, "engine": engine, "rows_compared": len(rows) + (len(holes) if missing else 0),
                        "largest_difference": difference, "missing_values": missing}
                if options.output:
                    shutil.copytree(folder, options.output, dirs_exist_ok=True)
                    done["output"] = options.output
                if options.register:
                    write_mlmodel(model, folder)
                    done["version"] = register(model, reference, folder)
    except Refused as why:
        sys.exit(f"convert.py: {why}")
    except Exception as error:
        if type(error).__module__.startswith(("mlflow", "requests")):
            sys.exit(f"convert.py: MLflow: {' '.join(str(error).split())[:400]}")
        raise
    if options.json:
        print(json.dumps(done))
    else:
        print(f"{reference}: {file}, engine {engine}, {done['rows_compared']} rows agree to {difference:.2g}")
        if holes is not None and not missing:
            print("requests with a missing value are refused, unlike by the Python model")
        if "version" in done:
            print(f"registered as version {done['version']}")
        if "output" in done:
            print(f"written to {done['output']}")


if __name__ == "__main__":
    main()
