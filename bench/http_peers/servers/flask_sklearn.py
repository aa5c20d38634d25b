"""A service as many begin: Flask, scikit-learn's own predict for each request."""
import os
import time

import joblib
import numpy as np
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load(os.environ["MODEL_DIR"] + "/diabetes.joblib")


@app.post("/score")
def score():
    began = time.time()
    predictions = model.predict(np.array(request.get_json(force=True)["data"], float))
    return jsonify({"predictions": predictions.tolist(),
                    "metadata": {"model_name": "diabetes", "inference_time_ms": 1000 * (time.time() - began),
                                 "num_predictions": len(predictions)}})
