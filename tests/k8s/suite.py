#!/usr/bin/env python3
"""The image, and the chart on a real Kubernetes of one node; scripts/test-k8s starts it in namespaces of its own.

    suite.py --programs DIR --keda DIR --storage DIR --image NAME --helm PROGRAM --chart DIR --cgroup NAME [STEP...]
"""

import argparse
import contextlib
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "support")]

import admission_steps
import autoscaling_steps
import cluster
import image_steps
import keda_steps
import metrics_steps
import report
import service_steps
import troupe_test as t

STEPS = ("image", "admission", "pods", "metrics", "autoscaling", "keda")

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--programs", type=pathlib.Path, required=True, help="Kubernetes' own programs")
parser.add_argument("--keda", type=pathlib.Path, help="KEDA's programs and config; the step keda needs them")
parser.add_argument("--storage", type=pathlib.Path, required=True, help="where podman's images are")
parser.add_argument("--image", required=True)
parser.add_argument("--revision", default="", help="the commit that the image must be of")
parser.add_argument("--helm", required=True)
parser.add_argument("--chart", type=pathlib.Path, required=True)
parser.add_argument("--cgroup", required=True, help="under which all containers are")
parser.add_argument("steps", nargs="*", choices=[*STEPS, []], metavar="STEP", help=f"of {', '.join(STEPS)}; all of them by default")
options = parser.parse_args()
steps = options.steps or STEPS

os.environ["KAFKA_HOST"] = cluster.NODE
cluster.make_network()
with t.Stage() as stage, contextlib.ExitStack() as closing:
    podman = image_steps.Podman(options.storage, stage, options.cgroup)
    archive = stage.path("image.tar")
    if "image" in steps:
        image_steps.run(stage, podman, options.image, archive, options.revision)
    if set(steps) & {"admission", "pods", "metrics", "autoscaling", "keda"}:
        with report.step("cluster: a node is ready") as n:
            c = closing.enter_context(cluster.Cluster(stage, options.programs, stage.path("cluster"), f"/{options.cgroup}"))
            n["seconds"] = round(c.seconds_to_ready, 1)
            n["kubernetes"] = c.get("nodes")["items"][0]["status"]["nodeInfo"]["kubeletVersion"]
    if "admission" in steps:
        admission_steps.run(stage, c, options.helm, options.chart)
    if set(steps) & {"pods", "metrics", "autoscaling", "keda"}:
        if not archive.exists():
            podman("push", options.image, f"docker-archive:{archive}:{options.image}", deadline=300)
        c.import_image(archive)
        root = pathlib.Path(podman("image", "mount", options.image).stdout.strip())
        service = service_steps.Service(stage, c, options.helm, options.chart, options.image, root)
        service_steps.run(service, full="pods" in steps)
        if "metrics" in steps:
            metrics_steps.run(stage, service)
        if set(steps) & {"autoscaling", "keda"}:
            apis = autoscaling_steps.MetricsApis(stage, c)
        if "autoscaling" in steps:
            autoscaling_steps.run(service, apis)
        if "keda" in steps:
            keda_steps.run(stage, service, options.keda)
report.finish()
