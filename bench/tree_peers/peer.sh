#!/bin/bash
# Makes the interpreter that run.py --peer wants, in .cache/tree_peers, and says where it is. With `older`, another one in
# .cache/tree_peers_older, of the releases that lleaves and oneDAL need.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
older=${1:+_older}
folder=$root/.cache/tree_peers$older
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
"$folder/bin/pip" install --quiet -r "$root/bench/tree_peers/requirements${older/_/-}.txt" >&2
echo "$folder/bin/python"
