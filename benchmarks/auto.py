"""Backends beside each other as `hoiclip build --backend all` times them, and what `auto` then takes.

python -m benchmarks.auto                      fp32 of every backend that runs here, of the bundled model
python -m benchmarks.auto --precision auto     and every precision that it accelerates

Both replace the builds and speeds of that model in the cache: set HOICLIP_CACHE to another one.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from benchmarks.harness import append, provenance
from hoiclip.core.model_file import load_model_file
from hoiclip_engine.backends.registry import select_backend
from hoiclip_engine.cli.build import BuildRequest, build
from hoiclip_engine.models import find_model
from hoiclip_engine.quantization.builds import find_speeds, select
from hoiclip_engine.quantization.calibration import CalibrationConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="drawn")
    parser.add_argument("--precision", default="fp32")
    args = parser.parse_args()
    model = load_model_file(find_model(args.model))
    build(model, BuildRequest(backend="all", precision=args.precision, calibration=CalibrationConfig()))
    ranked, taken = select_backend("auto"), select(model)
    others = find_speeds(model, ranked) or ()
    append(
        "auto",
        {
            "benchmark": "auto",
            "model": model.name,
            "by_rank": ranked,
            "others": {
                speeds.backend: {precision: asdict(speed) for precision, speed in speeds.of_precision.items()}
                for speeds in others
            },
            "taken": {"backend": taken.backend, "precision": taken.build.precision},
            **provenance("numpy", *(name for name in (ranked, *(speeds.backend for speeds in others)))),
        },
    )


if __name__ == "__main__":
    main()
