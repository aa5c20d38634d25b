"""Ray Serve around the pipeline, batches of up to 64 within 2 ms: ray_batched.py PORT."""
import os
import sys
import time

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Diabetes:
    def __init__(self):
        self.pipeline = joblib.load(os.environ["MODEL_DIR"] + "/diabetes.joblib")

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def predict(self, rows):
        return list(self.pipeline.predict(np.concatenate(rows)))

    async def __call__(self, request: Request):
        (given,) = (await request.json())["inputs"]
        prediction = await self.predict(np.array(given["data"], np.float32).reshape(1, 10))
        return {"model_name": "diabetes",
                "outputs": [{"name": "predict", "datatype": "FP64", "shape": [1, 1], "data": [float(prediction)]}]}


ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=200_000_000, logging_level="ERROR")
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False})
serve.run(Diabetes.bind(), name="diabetes", route_prefix="/v2/models/diabetes/infer")
while True:
    time.sleep(1)
