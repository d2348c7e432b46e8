"""Health check of a container: exit code 0 if the live page reports frames, else 1. Needs the standard library only."""

from __future__ import annotations

import os
import sys
import urllib.request

port = os.environ.get("HOICLIP_LIVE", "").rpartition(":")[2]
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{int(port)}/health", timeout=4) as answer:
        print(answer.read(200).decode())
except (OSError, ValueError) as error:  # refused, 503 where frames stall, or no port in HOICLIP_LIVE
    sys.exit(f"not healthy: {error}")
