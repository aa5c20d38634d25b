"""tritonserver as the nvidia-pytriton wheel ships it: triton_start.py VENV MODEL_DIR WORK HTTP GRPC METRICS."""
import os
import pathlib
import shutil
import sys

venv, model, work, http, grpc, metrics = sys.argv[1:]
packages = next(pathlib.Path(venv).glob("lib/python3.11/site-packages"))
shipped = packages / "pytriton/tritonserver"
backend = pathlib.Path(work) / "backends/python"
shutil.copytree(shipped / "backends/python", backend)
shutil.copy(shipped / "python_backend_stubs/3.11/triton_python_backend_stub", backend)
repository = pathlib.Path(work) / "repository/diabetes"
(repository / "1").mkdir(parents=True)
shutil.copy(pathlib.Path(__file__).with_name("triton_model.py"), repository / "1/model.py")
(repository / "config.pbtxt").write_text(f"""
name: "diabetes"
backend: "python"
max_batch_size: 1024
input [ {{ name: "input" data_type: TYPE_FP32 dims: [ 10 ] }} ]
output [ {{ name: "predict" data_type: TYPE_FP64 dims: [ 1 ] }} ]
dynamic_batching {{ }}
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters: {{ key: "model_dir" value: {{ string_value: "{model}" }} }}
""")
os.environ["LD_LIBRARY_PATH"] = str(packages / "nvidia_pytriton.libs")
os.environ["PATH"] = f"{venv}/bin:" + os.environ["PATH"]  # the backend's Python is the first one there
program = str(shipped / "bin/tritonserver")
os.execv(program, [program, f"--model-repository={work}/repository", f"--backend-directory={work}/backends", "--http-address=127.0.0.1",
                   "--grpc-address=127.0.0.1", f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}", "--log-info=false",
                   "--allow-gpu-metrics=false", "--disable-auto-complete-config", "--backend-config=python,shm-default-byte-size=8388608"])
