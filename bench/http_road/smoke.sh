#!/bin/bash
# The size that the tests run.
exec python3 "$(dirname "$0")/run.py" --smoke
