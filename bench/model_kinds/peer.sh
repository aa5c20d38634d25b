#!/bin/bash
# Makes the interpreter that run.py wants, in .cache/model_kinds, and says where it is.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/.cache/model_kinds
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/pip" install --quiet -r "$root/bench/model_kinds/requirements.txt" >&2
echo "$folder/bin/python"
