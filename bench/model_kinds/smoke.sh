#!/bin/bash
# The program on the models that ship; the kinds too where peer.sh has made their interpreter.
set -euo pipefail
program=$TROUPE_BUILD_DIRECTORY/bench/bench_model_kinds
"$program" --smoke
"$program" models/diabetes-linear/1 --smoke
python=.cache/model_kinds/bin/python
if [ ! -x "$python" ]; then
  echo "the kinds are skipped: bench/model_kinds/peer.sh makes the interpreter that trains them"
  exit 0
fi
exec "$python" bench/model_kinds/run.py --smoke
