#!/bin/bash
set -euo pipefail
exec python3 bench/http_front/run.py --smoke
