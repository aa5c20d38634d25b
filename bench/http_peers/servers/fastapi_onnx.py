"""What one writes by hand for speed: FastAPI and ONNX Runtime, V2 JSON, no validation."""
import os

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

how = onnxruntime.SessionOptions()
how.intra_op_num_threads = how.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL_DIR"] + "/diabetes.onnx", how, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
app = FastAPI()


@app.post("/v2/models/diabetes/infer")
async def infer(request: Request):
    (given,) = orjson.loads(await request.body())["inputs"]
    predictions = session.run(None, {name: np.array(given["data"], np.float32).reshape(given["shape"])})[0].ravel()
    output = {"name": "predict", "datatype": "FP32", "shape": [len(predictions), 1], "data": predictions}
    return Response(orjson.dumps({"model_name": "diabetes", "outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY),
                    media_type="application/json")
