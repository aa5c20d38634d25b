#!/bin/bash
set -euo pipefail
"$TROUPE_BUILD_DIRECTORY/bench/bench_rollout" --smoke
exec python3 "$(dirname "$0")/switch.py" --smoke
