"""MLServer with its scikit-learn runtime: mlserver_start.py MLSERVER MODEL_DIR WORK HTTP GRPC METRICS MAX_BATCH."""
import json
import os
import pathlib
import sys

mlserver, model, work, http, grpc, metrics, batch = sys.argv[1:]
folder = pathlib.Path(work) / "diabetes"
folder.mkdir(parents=True)
(pathlib.Path(work) / "settings.json").write_text(json.dumps({
    "debug": False, "host": "127.0.0.1", "http_port": int(http), "grpc_port": int(grpc), "metrics_port": int(metrics),
    "parallel_workers": 0, "use_structured_logging": False}))
(folder / "model-settings.json").write_text(json.dumps({
    "name": "diabetes", "implementation": "mlserver_sklearn.SKLearnModel", "max_batch_size": int(batch),
    "max_batch_time": 0.002 if int(batch) else 0, "parameters": {"uri": f"{model}/diabetes.joblib", "version": "1"},
    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 10]}],
    "outputs": [{"name": "predict", "datatype": "FP64", "shape": [-1, 1]}]}))
os.execv(mlserver, [mlserver, "start", work])
