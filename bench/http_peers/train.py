"""The model and rows of the comparison: train.py FOLDER."""
import json
import pathlib
import sys

import joblib
import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
rows, target = load_diabetes(return_X_y=True)
pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(n_estimators=100, random_state=0)).fit(rows, target)
joblib.dump(pipeline, folder / "diabetes.joblib")
(folder / "rows.json").write_text(json.dumps(np.round(rows[:64], 6).tolist()))
graph = to_onnx(pipeline, rows[:1].astype(np.float32), target_opset=17)
(folder / "diabetes.onnx").write_bytes(graph.SerializeToString())
