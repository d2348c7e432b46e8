"""A client of a Triton Inference Server in a process and an environment of its own: tritonclient, nothing of ours.

python triton_client.py PORT MODEL FOLDER AT_ONCE: sends every FOLDER/*.npz as a request, and writes the answer
beside it, name.found.npz or name.error.txt.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def infer(port: str, model: str, path: Path) -> None:
    inputs = []
    with np.load(path) as request:
        for name, value in request.items():
            tensor = triton.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
            tensor.set_data_from_numpy(value)
            inputs.append(tensor)
    with triton.InferenceServerClient(f"127.0.0.1:{port}", network_timeout=300, connection_timeout=300) as client:
        try:
            found = client.infer(model, inputs)
        except InferenceServerException as error:
            path.with_suffix(".error.txt").write_text(error.message(), encoding="utf-8")
            return
    arrays = {output["name"]: found.as_numpy(output["name"]) for output in found.get_response()["outputs"]}
    texts = {name: value.astype(str) for name, value in arrays.items() if value.dtype == object}
    np.savez(path.with_suffix(".found.npz"), **(arrays | texts))


def main() -> None:
    port, model, folder, at_once = sys.argv[1:]
    requests = sorted(path for path in Path(folder).glob("*.npz") if ".found" not in path.name)
    with ThreadPoolExecutor(int(at_once)) as threads:
        list(threads.map(lambda path: infer(port, model, path), requests))


if __name__ == "__main__":
    main()
