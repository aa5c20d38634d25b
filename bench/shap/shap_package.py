#!/usr/bin/env python3
"""Makes the model of the benchmark and measures the shap package on it, one thread.

    .cache/native/bin/python bench/shap/shap_package.py FOLDER     (packages: scripts/native_models.txt)
    build/release/bench/bench_shap --model FOLDER
"""
import pathlib
import sys
import time
import zipfile

import numpy as np
import shap
import skops.io
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
x, y = load_diabetes(return_X_y=True)
model = RandomForestRegressor(100, max_depth=9, random_state=1).fit(x, y)
skops.io.dump(model, folder / "model.skops", compression=zipfile.ZIP_DEFLATED)
explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
rows = np.random.default_rng(1).uniform(-0.1, 0.1, (1024, 10))
for batch in (1, 1024):
    times = []
    for _ in range(5):
        begin = time.thread_time()
        explainer.shap_values(rows[:batch], check_additivity=False)
        times.append((time.thread_time() - begin) / batch)
    print(f"batch {batch:4}: {1e9 * sorted(times)[1]:9.0f} ns a row")
