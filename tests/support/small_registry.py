"""A registry with MLflow's answers for one model `m` of one version, served from this process."""

import http.server
import json
import threading
import urllib.parse

import onnx_files


class SmallRegistry(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, stage):
        folder = stage.path("registered")
        onnx_files.linear(folder, [50.0, -20.0, 30.0, 5.0], 1.0)
        self.files = {"MLmodel": b"flavors:\n  onnx:\n    data: model.onnx\n", "model.onnx": (folder / "model.onnx").read_bytes()}
        super().__init__(("127.0.0.1", 0), Answers)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        stage.closing.callback(self.close)
        self.settings = {"uri": f"http://127.0.0.1:{self.server_address[1]}", "models": "models:/m/Production", "poll_interval": "500ms",
                         "timeout": "2s", "cache_directory": str(stage.path("registry-cache"))}

    def handle_error(self, *_):
        pass

    def close(self):
        self.shutdown()
        self.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        files = self.server.files
        url = urllib.parse.urlsplit(self.path)
        if url.path.endswith("get-latest-versions"):
            self.json({"model_versions": [{"name": "m", "version": "1", "creation_timestamp": 17, "current_stage": "Production", "status": "READY"}]})
        elif url.path.endswith("get-download-uri"):
            self.json({"artifact_uri": "mlflow-artifacts:/1/1/artifacts"})
        elif url.path.endswith("mlflow-artifacts/artifacts"):
            self.json({"files": [{"path": name, "is_dir": False, "file_size": len(data)} for name, data in files.items()]})
        else:
            self.give(files[url.path.rsplit("/", 1)[1]], "application/octet-stream")

    def json(self, said):
        self.give(json.dumps(said).encode(), "application/json")

    def give(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
