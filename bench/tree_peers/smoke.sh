#!/bin/bash
# With the peers too where peer.sh has made their interpreter.
set -euo pipefail
python=.cache/tree_peers/bin/python
exec python3 bench/tree_peers/run.py --smoke $([ -x "$python" ] && echo "--peer $python")
