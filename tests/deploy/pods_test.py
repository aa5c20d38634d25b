"""What pods are told to do, done by the real program: it runs by the rendered configuration, its probes answer what they are
there for, and KServe's container finds the models in either form of folder."""

import json
import shutil
import signal
import socket

import deploy
import small_registry
import troupe_test as t

deploy.need("helm")

MODEL = deploy.ROOT / "models/iris-classifier"


def status(port, path):
    return t.http("GET", f"http://127.0.0.1:{port}{path}")[0]


# --- three probes, three meanings
documents = deploy.render({}, ("minimal",))
container = deploy.one(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]
startup, readiness, liveness = (container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
assert len({startup, readiness, liveness}) == 3, (startup, readiness, liveness)
config = deploy.configuration(documents)
config["models"]["directory"] = str(deploy.ROOT / "models")
for section in ("http", "grpc", "metrics"):
    del config[section]["port"]
with t.Stage() as stage:
    node = stage.troupe({**config, "log": {"format": "json"}})
    node.wait_ready()
    assert [status(node.port, path) for path in (startup, readiness, liveness)] == [200, 200, 200]
    # A request that is under way holds up the drain: the pod is not ready, and alive.
    with socket.create_connection(("127.0.0.1", node.http_port)) as slow:
        slow.sendall(b"POST /score HTTP/1.1\r\nHost: t\r\nContent-Length: 40\r\n\r\n{")
        node.signal(signal.SIGTERM)
        seen = set()
        while node.running:
            try:
                seen.add((status(node.port, readiness), status(node.port, liveness)))
            except OSError:
                break
        assert (503, 200) in seen and seen <= {(200, 200), (503, 200)}, seen
    assert node.wait() == 0, node.stderr()

    # A broker that is away is a reason to restart nothing.
    alone = stage.troupe({"kafka": {"brokers": f"127.0.0.1:{t.free_ports(1)[0]}"}, "models": config["models"], "log": {"format": "json"}})
    t.wait_until(lambda: status(alone.port, liveness) == 200, "it is alive")
    t.wait_until(lambda: status(alone.port, startup) == 200, "its models are loaded")
    assert status(alone.port, readiness) == 503
    alone.kill()

# --- models of a registry, and of nowhere else
with t.Stage() as stage:
    registry = small_registry.SmallRegistry(stage)
    config = deploy.configuration(deploy.render({
        "models": {"source": "mlflow"},
        "config": {"kafka": {"enabled": False}, "mlflow": {"uri": registry.settings["uri"], "models": [registry.settings["models"]]}}}))
    folder = stage.path("var-lib-troupe")
    folder.mkdir()
    config = json.loads(json.dumps(config).replace("/var/lib/troupe", str(folder)))
    for section in ("http", "grpc", "metrics"):
        del config[section]["port"]
    node = stage.troupe({**config, "log": {"format": "json"}})
    node.wait_ready()
    index = json.loads(t.http("POST", f"http://127.0.0.1:{node.http_port}/v2/repository/index", "{}")[1])
    assert [model["name"] for model in index] == ["m"], index
    assert (folder / "registry").is_dir()
    assert node.stop() == 0, node.stderr()

# --- KServe's storage initializer puts a folder at /mnt/models
runtime = deploy.one(deploy.render({"workload": "none", "kserve": {"servingRuntime": {"enabled": True}}}), "ServingRuntime")
container = runtime["spec"]["containers"][0]
script, name = container["args"]
assert name == "{{.Name}}" and container["command"] == ["/bin/sh", "-euc"], container


def serve(stage, folder, name):
    """-> the models of the V2 repository."""
    temporary = stage.path(f"tmp-{name}")
    temporary.mkdir()
    http, grpc, metrics = t.free_ports(3)
    words = script.replace("/mnt/models", str(folder)).replace("/tmp/models", f"{temporary}/models").replace("/usr/bin/troupe", deploy.TROUPE)
    environment = {"TROUPE_HTTP_PORT": str(http), "TROUPE_GRPC_PORT": str(grpc), "TROUPE_METRICS_PORT": str(metrics)}
    environment.update({v["name"]: v["value"] for v in container["env"]})
    process = stage.start([*container["command"], words, name], f"kserve-{name}", environment)

    def ready():
        assert process.running, process.stderr()
        try:
            return status(metrics, "/ready") == 200
        except OSError:
            return False
    t.wait_until(ready, "the runtime is ready")
    answer = t.http("POST", f"http://127.0.0.1:{http}/v2/models/{name}/infer", {
        "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
    assert answer[0] == 200, answer
    assert process.stop() == 0, process.stderr()


with t.Stage() as stage:
    repository = stage.path("repository")
    shutil.copytree(MODEL / "1", repository / "iris-classifier/1")
    serve(stage, MODEL / "1", "iris")               # a version alone has the InferenceService's name
    serve(stage, repository, "iris-classifier")     # folders NAME/VERSION have their own
