#!/bin/bash
# Makes the interpreter that run.py --peer wants, in .cache/tree_peers, and says where it is.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/.cache/tree_peers
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/pip" install --quiet -r "$root/bench/tree_peers/requirements.txt" >&2
echo "$folder/bin/python"
