#!/usr/bin/env python3
"""Turns a Python model of an MLflow registry into a file that Troupe reads without Python, and checks it first.

    troupe models import models:/churn/1 --register       # runs this with the registry's address and credentials
    convert.py models:/churn/1 --output DIRECTORY         # by hand: MLFLOW_TRACKING_URI, TROUPE_PROGRAM

What comes out, the first that scores every row as the Python model does:
    scikit-learn        model.skops (its own numbers, nothing is lost), else model.onnx
    XGBoost, LightGBM   model.ubj, model.txt, as their own save_model writes them; within a Pipeline model.onnx
    PyTorch             model.onnx: modules as MLflow 3 exports them (pt2), pickled ones, TorchScript; of one input

Loading a pickle runs its code: do this for models that you trust, where you trained them. A node never does it.

Two things differ from a plain conversion by skl2onnx. Scalers in front of trees run in double and are rounded to
float only then, as scikit-learn does it: in float, rows that sit exactly on a threshold fall to its other side. And
the direction that missing values take in each node is written, where the forest was fitted with any.
"""

import argparse
import contextlib
import csv
import inspect
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
            "lightgbm": "lightgbm", "torch": "torch", "onnxscript": "onnxscript", "cloudpickle": "cloudpickle"}
MOST_CELLS = 1_000_000  # of the rows that are compared: a picture has many


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

    def __init__(self, reference, rows=None):
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
            place = {"map_location": "cpu"} if self.kind == "pytorch" else {}
            self.estimator = getattr(mlflow, self.kind).load_model(str(self.folder), **place)
        except ImportError as error:
            name = (error.name or "").split(".")[0]
            raise Refused(f"the model needs {name or error}: pip install {PACKAGES.get(name, name)}") from None
        self.steps = [step for _, step in self.estimator.steps] if hasattr(self.estimator, "steps") else [self.estimator]
        self.last = self.steps[-1]
        self.names = self._names()
        if self.kind == "pytorch":
            self._tensor(rows)
        else:
            self.width = len(self.names) if self.names else self._width(rows)

    def _names(self):
        for owner in (self.estimator, self.steps[0]):
            names = getattr(owner, "feature_names_in_", None)
            if names is not None:
                return [str(n) for n in names]
        return None

    def _tensor(self, rows):
        """A PyTorch module's input: `shape` of a row and `type`; a row here is all its cells, one after the other."""
        import numpy as np
        signature = self.info.signature
        inputs = signature.inputs if signature else None
        specs = list(inputs) if inputs is not None and inputs.is_tensor_spec() else []
        example = self.example()
        if len(specs) > 1:
            raise Refused(f"it has {len(specs)} inputs; modules of one are converted")
        self.type, shape = np.dtype(np.float32), ()
        if specs:
            self.type, shape = np.dtype(specs[0].type), tuple(specs[0].shape)[1:]
        if -1 in shape or not shape:  # the example knows
            content = self.example(flat=False)
            if content is not None and content.ndim > 1:
                shape = content.shape[1:]
        if -1 in shape:
            raise Refused("how long its input is, is left open: log it with an input example")
        self.shape = tuple(map(int, shape)) or (self._width(rows),)
        self.width = int(np.prod(self.shape))
        with contextlib.suppress(NotImplementedError):  # an exported module is as it is
            self.estimator.eval()
        self.estimator.cpu()
        self.fixed = False  # it takes one row at a time, because it was exported so
        probe = self.example() if example is not None else np.zeros((1, self.width))
        if not takes(self, np.vstack([probe, probe])):
            self.fixed = True
            try:
                self.answer(probe[:1])
            except Exception as error:
                raise Refused(f"the module does not take one input of {' x '.join(map(str, self.shape))}, "
                              f"{self.type}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None

    def tensor(self, rows):
        import numpy as np
        import torch
        return torch.from_numpy(np.ascontiguousarray(rows).astype(self.type).reshape(-1, *self.shape))

    def _answer_of_torch(self, rows):
        import numpy as np
        import torch

        def flat(said):
            if isinstance(said, dict):
                said = list(said.values())
            if isinstance(said, (list, tuple)):
                return np.hstack([flat(one) for one in said])
            said = said.detach().to(torch.float64).numpy()
            return said.reshape(said.shape[0] if said.ndim else 1, -1)

        with torch.no_grad():
            if self.fixed:
                return np.vstack([flat(self.estimator(self.tensor(row))) for row in rows])
            return flat(self.estimator(self.tensor(rows)))

    def _width(self, rows):
        for owner in (self.estimator, self.steps[0]):
            for attribute in ("n_features_in_", "num_feature"):
                width = getattr(owner, attribute, None)
                if callable(width):
                    width = width()
                if width:
                    return int(width)
        if self.kind == "xgboost" and hasattr(self.estimator, "num_features"):
            return int(self.estimator.num_features())
        example = self.example()
        if example is not None:
            return example.shape[1]
        if rows:
            with open(rows, newline="") as file:
                width = len(next(csv.reader(file), []))
            if width:
                return width
        raise Refused("how many features it takes is not known: log it with an input example, or give --rows")

    def example(self, flat=True):
        """The version's own input example, a matrix; None: it has none of numbers. Not flat: in its own shape."""
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
        if rows.ndim == 1:
            rows = rows.reshape(1, -1)
        if rows.ndim < 2 or not rows.size:
            return None
        if rows.ndim > 2 and flat:
            return rows.reshape(len(rows), -1) if self.kind == "pytorch" else None
        return rows

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
                wanted = self._answer_of_torch(rows)
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
        if self.kind == "pytorch":
            return self._made_for_torch(chance, max(4, min(count, MOST_CELLS // self.width)))
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


    def _made_for_torch(self, chance, count):
        """Within what the example holds: whole numbers may be places in a table, which ends somewhere."""
        import numpy as np
        example = self.example()
        if example is None:
            return chance.normal(size=(count, self.width))
        if not np.issubdtype(self.type, np.floating):
            return chance.integers(int(example.min()), int(example.max()) + 1, size=(count, self.width)).astype(float)
        middle, spread = example.mean(axis=0), max(float(example.std()), 1e-3)
        return middle + spread * chance.normal(size=(count, self.width))


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
    made = model.made_rows()
    if takes(model, made):
        parts.append(made)
    if not parts:
        raise Refused("there are no rows to compare on: give training rows as --rows FILE.csv")
    rows = np.vstack(parts)
    if model.kind == "pytorch":
        rows = rows.astype(model.type).astype(float)  # rounded once, not differently by each side
        together, alone = model.answer(rows[:64]), np.vstack([model.answer(row[None]) for row in rows[:64]])
        if together.shape != alone.shape or not np.allclose(together, alone, rtol=1e-4, atol=1e-4):
            raise Refused("it answers a row differently among other rows; a node batches rows as they come")
        if not np.issubdtype(model.type, np.floating):
            return rows, None
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
    """By both of PyTorch's exporters: the one knows TorchScript, the other what torch.export has traced before."""
    torch = need("torch", "onnx")[0]
    from torch.onnx import export
    known = inspect.signature(export).parameters
    example = (model.tensor(model.made_rows()[: 1 if model.fixed else 2]),)
    named = {"input_names": ["X"]}
    traced = {**named, "opset_version": 17}
    exported = {**named, "opset_version": 18, "external_data": False, "dynamo": True}
    if not model.fixed:
        traced["dynamic_axes"] = {"X": {0: "rows"}}
    if "dynamo" in known:
        traced["dynamo"] = False
    if "verbose" in known:
        traced["verbose"] = exported["verbose"] = False
    ways = [traced]
    if "dynamo" in known and "external_data" in known:
        shapes = ({0: torch.export.Dim("rows")},)
        ways.append(exported if model.fixed else {**exported, "dynamic_shapes": shapes})
        if isinstance(model.estimator, torch.fx.GraphModule):
            ways.reverse()
    reasons = []
    for way in ways:
        try:
            if way.get("dynamo"):
                need("onnxscript")
            export(model.estimator, example, str(folder / "model.onnx"), **way)
            break
        except Refused as why:
            reasons.append(str(why))
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    else:
        raise Refused("; ".join(reasons))


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
            model = Model(reference, options.rows)
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
