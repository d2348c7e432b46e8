"""What a crash of the builder looks like to whoever asked for an engine: said something, then gone."""

from __future__ import annotations

import os
import signal
import sys
import time

from hoiclip_engine.tensorrt_build import BuildRequest, _end_with

if __name__ == "__main__":
    _end_with(int(sys.argv[1]))
    request = BuildRequest.from_json(sys.stdin.read())
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
