"""Run by run.py with the peers' interpreter: trains the forest, writes it and its rows into FOLDER, says which peers can score it,
then measures one of them for each name that it reads: nanoseconds a row by batch.
"""
import importlib.metadata
import json
import os
import pathlib
import sys
import time
import zipfile

import numpy as np
import skops.io
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor

BATCHES = (1, 64, 1024, 4096)
folder = pathlib.Path(sys.argv[1])
smoke = "--smoke" in sys.argv
answers = os.fdopen(os.dup(1), "w")  # what libraries print goes to standard error
os.dup2(2, 1)

x, y = load_diabetes(return_X_y=True)
forest = RandomForestRegressor(100, max_depth=9, random_state=0, n_jobs=1).fit(x, y)
random = np.random.default_rng(1)
# Each row's values out of two training rows: values of the grid, and more rows than a branch predictor learns.
pick = random.integers(0, len(x), (2, 4096))
rows = np.ascontiguousarray(np.where(random.random((4096, x.shape[1])) < 0.75, x[pick[0]], x[pick[1]]))
floats = np.ascontiguousarray(rows.astype(np.float32))
rounded = floats.astype(np.float64)  # what scikit-learn compares, for those that compare doubles
wanted = forest.predict(rows)
(folder / "1").mkdir()
skops.io.dump(forest, folder / "1" / "model.skops", compression=zipfile.ZIP_DEFLATED)
np.savetxt(folder / "rows.csv", rows, delimiter=",", header=",".join(f"f{i}" for i in range(x.shape[1])), comments="", fmt="%.17g")


def as_lightgbm():
    """The same trees as LightGBM's text, which lleaves and oneDAL read too. Thresholds as the floats that scikit-learn compares."""
    trees = []
    for at, one in enumerate(forest.estimators_):
        t = one.tree_
        inner = [i for i in range(t.node_count) if t.children_left[i] != -1]
        leaves = [i for i in range(t.node_count) if t.children_left[i] == -1]
        name = {n: k for k, n in enumerate(inner)} | {n: -k - 1 for k, n in enumerate(leaves)}
        line = lambda key, values: key + "=" + " ".join(map(str, values))
        lines = [f"Tree={at}", f"num_leaves={len(leaves)}", "num_cat=0", line("split_feature", (t.feature[n] for n in inner)),
                 line("split_gain", [1] * len(inner)), line("threshold", (repr(float(t.threshold[n])) for n in inner)),
                 line("decision_type", [2] * len(inner)), line("left_child", (name[t.children_left[n]] for n in inner)),
                 line("right_child", (name[t.children_right[n]] for n in inner)),
                 line("leaf_value", (repr(float(t.value[n, 0, 0] / len(forest.estimators_))) for n in leaves))]
        for key, count in (("leaf_weight", leaves), ("leaf_count", leaves), ("internal_value", inner), ("internal_weight", inner),
                           ("internal_count", inner)):
            lines.append(line(key, [1] * len(count)))
        trees.append("\n".join(lines + ["is_linear=0", "shrinkage=1", "", ""]))
    width = x.shape[1]
    head = ["tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0", f"max_feature_idx={width - 1}",
            "objective=regression", "feature_names=" + " ".join(f"f{i}" for i in range(width)),
            "feature_infos=" + " ".join(["[-10:10]"] * width), "tree_sizes=" + " ".join(str(len(t) + 1) for t in trees), "", ""]
    return "\n".join(head) + "\n".join(trees) + "\nend of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n"


def lightgbm():
    import lightgbm

    booster = lightgbm.Booster(model_str=as_lightgbm())
    return lambda n: booster.predict(rounded[:n], num_threads=1)


def lleaves():
    import lightgbm
    import lleaves

    file = str(folder / "trees.txt")
    lightgbm.Booster(model_str=as_lightgbm()).save_model(file)
    model = lleaves.Model(model_file=file)
    model.compile()
    return lambda n: model.predict(rounded[:n], n_jobs=1)


def onedal():
    import daal4py
    import lightgbm

    daal4py.daalinit(1)
    model = daal4py.get_gbt_model_from_lightgbm(lightgbm.Booster(model_str=as_lightgbm()))
    return lambda n: daal4py.gbt_regression_prediction().compute(rounded[:n], model).prediction.ravel()


def onnxruntime():
    import onnxruntime
    from skl2onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    made = to_onnx(forest, floats[:1]).SerializeToString()
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda n: session.run(None, {name: floats[:n]})[0].ravel()


def tl2cgen():
    import tl2cgen
    import treelite

    library = str(folder / "trees.so")
    tl2cgen.export_lib(treelite.sklearn.import_model(forest), toolchain="gcc", libpath=library, params={"parallel_comp": 2})
    predictor = tl2cgen.Predictor(library, nthread=1)
    return lambda n: predictor.predict(tl2cgen.DMatrix(floats[:n])).ravel()


KNOWN = {"scikit-learn": (lambda: lambda n: forest.predict(rows[:n]), "scikit-learn"), "ONNX Runtime": (onnxruntime, "onnxruntime"),
         "oneDAL": (onedal, "daal4py"), "lleaves": (lleaves, "lleaves"), "LightGBM": (lightgbm, "lightgbm"), "tl2cgen": (tl2cgen, "tl2cgen")}
ready, about = {}, {"peers": {}, "left_out": {}}
for name, (make, package) in KNOWN.items():
    try:
        ready[name] = make()
        difference = float(np.abs(ready[name](len(rows)) - wanted).max())
        about["peers"][name] = {"version": importlib.metadata.version(package), "difference": difference}
    except Exception as e:  # whatever a library that is missing or does not work here raises
        about["left_out"][name] = f"{type(e).__name__}: {e}"[:200]


def measure(predict, batch):
    times = []
    for _ in range(1 if smoke else 7):
        calls, begin = 0, time.thread_time()
        while True:
            predict(batch)
            calls += 1
            took = time.thread_time() - begin
            if took > (0.001 if smoke else 0.05):
                break
        times.append(took / calls)
    return 1e9 * sorted(times)[len(times) // 4] / batch


print(json.dumps(about), file=answers, flush=True)
for line in sys.stdin:
    print(json.dumps({b: measure(ready[line.strip()], b) for b in BATCHES}), file=answers, flush=True)
