"""Triton's Python backend: ONNX Runtime over all requests of a batch at once."""
import json

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        folder = json.loads(args["model_config"])["parameters"]["model_dir"]["string_value"]
        how = onnxruntime.SessionOptions()
        how.intra_op_num_threads = how.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(f"{folder}/diabetes.onnx", how, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def execute(self, requests):
        rows = [triton.get_input_tensor_by_name(r, "input").as_numpy() for r in requests]
        every = self.session.run(None, {self.name: np.concatenate(rows)})[0].astype(np.float64).reshape(-1, 1)
        ends = np.cumsum([len(r) for r in rows])
        return [triton.InferenceResponse([triton.Tensor("predict", every[end - len(r):end])]) for r, end in zip(rows, ends)]
