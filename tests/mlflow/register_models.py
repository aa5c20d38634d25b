#!/usr/bin/env python3
"""Registers the models of the MLflow suite, as a training script would. Runs in MLflow's own environment.

    register_models.py RESULT.json      # with MLFLOW_TRACKING_URI and credentials

RESULT.json: {"rows": [[..]], "answers": {"<name>/<version>": [[..]]}}, rows of raw diabetes and what Python predicts.

diabetes-rf-model   1 pickle of scaler + forest, 2 and 3 ONNX (Production and Staging), MLflow 3: 4 skops
diabetes-linear     1 and 2 ONNX with named columns; alias champion on 1
boosted-xgboost, boosted-lightgbm   1 as their libraries write them
bagged, scaled-xgboost   1 pickles that skops files are not read for
"""

import json
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))

import lightgbm  # noqa: E402
import mlflow  # noqa: E402
import mlflow.lightgbm  # noqa: E402
import mlflow.onnx  # noqa: E402
import mlflow.sklearn  # noqa: E402
import mlflow.xgboost  # noqa: E402
import numpy as np  # noqa: E402
import xgboost  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from sklearn.datasets import load_diabetes  # noqa: E402
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from train_models import convert  # noqa: E402

FRAME, TARGET = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
ROWS = FRAME.to_numpy()
THREE = int(mlflow.__version__.split(".")[0]) >= 3
PLACE = {"name": "model"} if THREE else {"artifact_path": "model"}
answers = {}


def log(library, model, name, predictions, example=ROWS[:3], **more):
    with mlflow.start_run():
        library.log_model(model, **PLACE, registered_model_name=name, input_example=example,
                          signature=infer_signature(example, np.asarray(predictions)[:3]), **more)
    versions = [int(v.version) for v in client.search_model_versions(f"name='{name}'")]
    answers[f"{name}/{max(versions)}"] = np.asarray(predictions, dtype=float).reshape(len(ROWS), -1).tolist()


def forest(seed):
    return make_pipeline(StandardScaler(), RandomForestRegressor(30, max_depth=6, random_state=seed)).fit(ROWS, TARGET)


def linear(factor):
    return make_pipeline(StandardScaler(), LinearRegression()).fit(ROWS, TARGET * factor)


client = mlflow.MlflowClient()
mlflow.set_experiment("suite")
for seed in (1, 2, 3):
    model = forest(seed)
    if seed == 1:
        log(mlflow.sklearn, model, "diabetes-rf-model", model.predict(ROWS), serialization_format="cloudpickle")
    else:
        log(mlflow.onnx, convert(model, 10), "diabetes-rf-model", model.predict(ROWS))
if THREE:
    model = forest(4)
    log(mlflow.sklearn, model, "diabetes-rf-model", model.predict(ROWS), serialization_format="skops",
        skops_trusted_types=["sklearn.tree._tree.Tree"])
for factor in (1, 2):
    model = linear(factor)
    log(mlflow.onnx, convert(model, 10), "diabetes-linear", model.predict(ROWS), example=FRAME[:3])
booster = xgboost.XGBRegressor(n_estimators=20, max_depth=3, random_state=1).fit(ROWS, TARGET)
log(mlflow.xgboost, booster, "boosted-xgboost", booster.predict(ROWS))
booster = lightgbm.LGBMRegressor(n_estimators=20, max_depth=3, random_state=1, verbose=-1).fit(ROWS, TARGET)
log(mlflow.lightgbm, booster.booster_, "boosted-lightgbm", booster.predict(ROWS))
pickle = {"serialization_format": "cloudpickle"}
model = BaggingRegressor(n_estimators=5, random_state=1).fit(ROWS, TARGET)
log(mlflow.sklearn, model, "bagged", model.predict(ROWS), **pickle)
model = make_pipeline(StandardScaler(), xgboost.XGBRegressor(n_estimators=10, max_depth=3)).fit(ROWS, TARGET)
log(mlflow.sklearn, model, "scaled-xgboost", model.predict(ROWS), **pickle)

for version, stage in (("2", "Production"), ("3", "Staging")):
    client.transition_model_version_stage("diabetes-rf-model", version, stage)
client.set_registered_model_alias("diabetes-rf-model", "challenger", "3")
client.set_registered_model_alias("diabetes-linear", "champion", "1")
pathlib.Path(sys.argv[1]).write_text(json.dumps({"rows": ROWS.tolist(), "answers": answers}))
