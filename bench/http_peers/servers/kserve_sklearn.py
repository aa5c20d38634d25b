"""KServe's model server around the pipeline: kserve_sklearn.py HTTP_PORT GRPC_PORT."""
import os
import sys

import joblib
import numpy as np
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Diabetes(Model):
    def __init__(self):
        super().__init__("diabetes")
        self.pipeline = joblib.load(os.environ["MODEL_DIR"] + "/diabetes.joblib")
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        rows = np.asarray(get_predict_input(payload)).reshape(-1, 10)
        return get_predict_response(payload, self.pipeline.predict(rows), self.name)


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1).start([Diabetes()])
