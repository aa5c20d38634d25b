#!/usr/bin/env python3
"""Registers PyTorch modules for the MLflow suite. Runs in an environment with torch, onnx, onnxscript and mlflow.

    register_torch.py RESULT.json      # with MLFLOW_TRACKING_URI and credentials

RESULT.json: {"<name>": {"rows": [[..]], "answers": [[..]]}}, rows of numbers and what torch says to each alone; null
answers: the import has to refuse it.

torch-module     a module, as this MLflow stores one by itself (3: pt2, 2: a pickle)
torch-pickle     the same as a pickle
torch-script     TorchScript with a loop and an early branch on a constant
torch-picture    a convolution over [1, 8, 8]
torch-batch      answers with the whole batch's mean: no batching server can serve it
"""

import json
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")

import mlflow  # noqa: E402
import mlflow.pytorch  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

THREE = int(mlflow.__version__.split(".")[0]) >= 3
PLACE = {"name": "model"} if THREE else {"artifact_path": "model"}
PICKLE = {"serialization_format": "pickle"} if THREE else {}
torch.manual_seed(1)
chance = np.random.default_rng(1)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.arange(10, dtype=torch.float32))
        self.body = nn.Sequential(nn.Linear(10, 16), nn.GELU(), nn.LayerNorm(16), nn.Dropout(0.5), nn.Linear(16, 1))

    def forward(self, x):
        return self.body((x - self.mean) / 3)


class Script(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep = True
        self.into, self.out = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, x):
        hidden = torch.relu(self.into(x))
        if self.deep:
            for _ in range(2):
                hidden = hidden + torch.tanh(hidden)
        return torch.softmax(self.out(hidden), dim=1)


class Picture(nn.Module):
    def __init__(self):
        super().__init__()
        self.look, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x):
        return self.out(torch.flatten(torch.relu(self.look(x)), 1))


class Batch(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(10, 1)

    def forward(self, x):
        return self.out(x) - x.mean()


made = {}


def log(name, module, shape, refused=False, **more):
    module.eval()
    rows = chance.normal(size=(20, *shape)).astype(np.float32)
    with mlflow.start_run():
        mlflow.pytorch.log_model(module, **PLACE, registered_model_name=name, input_example=rows[:3], **more)
    with torch.no_grad():
        answers = np.vstack([module(torch.from_numpy(row[None])).numpy() for row in rows]).astype(float).tolist()
    made[name] = {"rows": rows.reshape(len(rows), -1).astype(float).tolist(), "answers": None if refused else answers}


mlflow.set_experiment("torch")
log("torch-module", Module(), (10,))
log("torch-pickle", Module(), (10,), **PICKLE)
log("torch-script", torch.jit.script(Script()), (10,), **PICKLE)
log("torch-picture", Picture(), (1, 8, 8))
log("torch-batch", Batch(), (10,), refused=True)
pathlib.Path(sys.argv[1]).write_text(json.dumps(made))
