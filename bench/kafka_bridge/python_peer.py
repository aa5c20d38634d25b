#!/usr/bin/env python3
"""The service a good practitioner writes by hand in Python: confluent-kafka, micro-batches of up to 256 records, one call
of ONNX Runtime a batch, offsets committed after the results are flushed (at least once).

    python_peer.py BROKERS IN OUT GROUP MODEL.onnx      needs: confluent-kafka onnxruntime orjson numpy
"""

import signal
import sys

import numpy
import onnxruntime
import orjson
from confluent_kafka import Consumer, Producer


def main(brokers, source, result, group, model):
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    dtype = {"tensor(double)": numpy.float64, "tensor(float)": numpy.float32}[wanted.type]
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "fetch.wait.max.ms": 5})
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 1, "enable.idempotence": True})
    consumer.subscribe([source])
    while running:
        records = [m for m in consumer.consume(256, 0.002) or consumer.consume(1, 0.2) if not m.error()]
        if not records:
            continue
        requests = [orjson.loads(m.value()) for m in records]
        rows = numpy.array([r["features"] for r in requests], dtype)
        for record, request, answer in zip(records, requests, session.run(None, {wanted.name: rows})[0].ravel().tolist()):
            producer.produce(result, orjson.dumps({
                "request_id": request["request_id"], "prediction": answer, "model_name": "diabetes-rf-model",
                "model_version": "3", "timestamp": record.timestamp()[1]}), key=record.key())
        producer.flush()
        consumer.commit(asynchronous=True)
    consumer.close()


main(*sys.argv[1:])
