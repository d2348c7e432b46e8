"""A builder that logs a line and then crashes, hangs or gives up, as the name of its graph says."""

from __future__ import annotations

import os
import signal
import sys
import time

from hoiclip_engine.backends.tensorrt.builder import EngineBuildRequest, end_with_parent

if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    request = EngineBuildRequest.from_json(sys.stdin.read())
    print("Global timing cache in use\nCompiler backend is used during engine build.", file=sys.stderr, flush=True)
    match request.graph.stem:
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "starves":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            request.graph.with_suffix(".pid").write_text(str(os.getpid()))
            time.sleep(600)
        case "truncates":
            print('{"engine": 100, "layers": {}}\nten bytes.')
        case "gives up":
            sys.exit(3)
