#!/bin/bash
# Runs the benchmark with ONNX Runtime beside it. The library is the one in ORT_LIBRARY, or comes out of the Python
# package of that name, into .cache/onnxruntime.
#   bench/forest/run.sh [options of bench_forest]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
program=${BENCH_FOREST:-}
if [ -z "$program" ]; then
  program=$(find "$root/build/release" -type f -name bench_forest -perm -u+x -print -quit 2>/dev/null || true)
fi
if [ -z "$program" ]; then
  echo "run.sh: bench_forest is not built; run scripts/build, or name the program in BENCH_FOREST" >&2
  exit 2
fi
if [ -z "${ORT_LIBRARY:-}" ]; then
  folder=$root/.cache/onnxruntime
  find_library() { find "$folder" -name 'libonnxruntime.so.*' -print -quit; }
  mkdir -p "$folder"
  ORT_LIBRARY=$(find_library)
  if [ -z "$ORT_LIBRARY" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --no-deps onnxruntime==1.31.1 --target "$folder/package"
    ORT_LIBRARY=$(find_library)
  fi
fi
export ORT_LIBRARY
exec "$program" "$@"
