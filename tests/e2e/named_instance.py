#!/usr/bin/env python3
"""kafka.instance_id: an instance that was killed has its partitions again when it is back, and the other is not
disturbed (kill_nine.py --named)."""

import os
import pathlib
import sys

here = pathlib.Path(__file__).parent
os.execv(sys.executable, [sys.executable, str(here / "kill_nine.py"), "--named", "--seconds", "15", "--kills", "1"])
